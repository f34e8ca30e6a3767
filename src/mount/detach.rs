//! Ends mounts: waits for users to leave or detaches lazily, names them, and waits for the daemon's end.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use super::holders::{self, Holder};
use super::mountinfo;
use super::pulse::{self, Pulse};
use super::sys::{self, Detach};
use super::{Error, attach, daemon, fusermount};

/// What to do with a mount that stays in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Wait a moment for its users, then leave it mounted and name them.
    Wait,
    /// Take it out of the tree at once; its users keep their open files.
    Lazy,
}

/// How an unmount ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing is left of the mount.
    Ended,
    /// The mount point is free; the daemon goes on until these let go.
    Lingering(Vec<Holder>),
}

/// How long users may take to leave: long enough for a file indexer that has just jumped in.
const IDLE_WAIT: Duration = Duration::from_secs(3);
/// How long a daemon may take to end after its mount is gone.
const END_WAIT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

/// Unmounts the vault at `directory`; a dead mount is cleared at once.
///
/// # Errors
/// `NotMounted` if no vault is mounted there; `Busy` with its users; `Fuse` or `System` as the system refuses.
pub fn run(directory: &Path, mode: Mode) -> Result<Outcome, Error> {
    let path = attach::resolve(directory)?;
    let mounts = attach::load_mounts()?;
    let mount = mountinfo::at(&mounts, &path)
        .filter(|mount| mount.is_vaultfs())
        .ok_or_else(|| Error::NotMounted { path: path.clone() })?;
    let daemon = match pulse::feel(&path)? {
        Pulse::Dead => {
            unmount(&path, Detach::Lazily)?;
            return Ok(Outcome::Ended);
        }
        Pulse::Alive(daemon) => daemon,
        Pulse::Silent => return end_silent(&path, mode),
    };
    let refused = match unmount_when_idle(&path, mode) {
        Ok(()) => return wait_for_end(daemon.as_ref(), &path),
        Err(error) => error,
    };
    let Error::Busy { .. } = refused else {
        return Err(refused);
    };
    let found = holders::find(mount, &mounts);
    match mode {
        Mode::Wait => Err(Error::busy(&path, &found)),
        Mode::Lazy => {
            unmount(&path, Detach::Lazily)?;
            Ok(Outcome::Lingering(found))
        }
    }
}

/// Ends a mount whose daemon hangs: our own question to it now waits in the mount, so that only a lazy end is possible.
fn end_silent(path: &Path, mode: Mode) -> Result<Outcome, Error> {
    let holder = Holder {
        who: "its daemon".into(),
        what: "does not answer".into(),
    };
    match mode {
        Mode::Wait => Err(Error::busy(path, &[holder])),
        Mode::Lazy => {
            unmount(path, Detach::Lazily)?;
            Ok(Outcome::Lingering(vec![holder]))
        }
    }
}

/// Unmounts `path` with the rights that this process has.
///
/// # Errors
/// `Busy` without holders while in use; `Fuse` or `System` otherwise.
pub fn unmount(path: &Path, how: Detach) -> Result<(), Error> {
    if sys::user_and_group().0 == 0 {
        return sys::unmount(path, how).map_err(|error| match error.kind() {
            io::ErrorKind::ResourceBusy => Error::busy(path, &[]),
            _ => Error::system(format!("unmounting {}", path.display()), error),
        });
    }
    fusermount::unmount(path, how).map_err(|failure| match failure {
        fusermount::Failure::Refused(words) if words.contains("busy") => Error::busy(path, &[]),
        other => Error::fuse(format!("unmounting {} failed: {other}", path.display())),
    })
}

fn unmount_when_idle(path: &Path, mode: Mode) -> Result<(), Error> {
    let deadline = match mode {
        Mode::Wait => Instant::now() + IDLE_WAIT,
        Mode::Lazy => Instant::now(),
    };
    loop {
        match unmount(path, Detach::IfIdle) {
            Err(Error::Busy { .. }) if Instant::now() < deadline => std::thread::sleep(POLL * 5),
            other => return other,
        }
    }
}

fn wait_for_end(daemon: Option<&daemon::Identity>, path: &Path) -> Result<Outcome, Error> {
    let Some(daemon) = daemon else {
        log::debug!(
            "{}: the daemon is not known, so its end is not waited for",
            path.display()
        );
        return Ok(Outcome::Ended);
    };
    let deadline = Instant::now() + END_WAIT;
    while daemon.is_running() {
        if Instant::now() >= deadline {
            let holder = Holder {
                who: format!("daemon {}", daemon.pid),
                what: "has not ended yet; the vault may be mounted elsewhere too".into(),
            };
            return Ok(Outcome::Lingering(vec![holder]));
        }
        std::thread::sleep(POLL);
    }
    Ok(Outcome::Ended)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mounts_of_vaults_are_unmounted() {
        let directory = tempfile::tempdir().unwrap();
        let error = run(directory.path(), Mode::Lazy).unwrap_err();
        assert!(matches!(error, Error::NotMounted { .. }), "{error}");
        assert!(matches!(run(Path::new("/"), Mode::Lazy), Err(Error::NotMounted { .. })));
    }
}
