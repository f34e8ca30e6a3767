//! Puts a mount into the background without fork: the command runs itself again and waits until that run is ready.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Stdio};

use super::{Error, sys};

/// Tells the second run what it is; holds the process number of the first, so that a leaked variable means nothing.
const VARIABLE: &str = "VAULTFS_BACKGROUND_FOR";
const READY: &str = "ready";
/// Under this name the root of a mount tells who serves it.
pub const XATTR: &str = "user.vaultfs.daemon";

/// Which run of a background mount this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// The one that the user started.
    First,
    /// The one that the first started to serve the mount.
    Second,
}

/// Says which run this is.
#[must_use]
pub fn this_run() -> Run {
    let parent = std::os::unix::process::parent_id().to_string();
    match std::env::var(VARIABLE) {
        Ok(first) if first == parent => Run::Second,
        _ => Run::First,
    }
}

/// Runs this command again in the background and returns when it is ready.
///
/// Until then the second run writes its errors to our standard error.
///
/// # Errors
/// `Reported` with the second run's exit code, after it has said why it ended.
pub fn launch() -> Result<(), Error> {
    let failed = |error| Error::system("starting the background process".into(), error);
    let mut args = std::env::args_os();
    let mut command = Command::new("/proc/self/exe");
    if let Some(name) = args.next() {
        command.arg0(name);
    }
    let mut child = command
        .args(args)
        .env(VARIABLE, std::process::id().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let output = child.stdout.take().map(BufReader::new);
    if output
        .into_iter()
        .flat_map(BufRead::lines)
        .map_while(Result::ok)
        .any(|line| line == READY)
    {
        return Ok(());
    }
    let status = child.wait().map_err(failed)?;
    match status.code() {
        Some(code) => Err(Error::Reported {
            code: u8::try_from(code).unwrap_or(1),
        }),
        None => {
            let signal = status.signal().unwrap_or_default();
            let error = std::io::Error::other(format!("it was killed by signal {signal}"));
            Err(Error::system("waiting for the background process".into(), error))
        }
    }
}

/// In the second run: leaves the terminal, tells the first run that the mount is ready, and goes silent.
///
/// # Errors
/// `System`; also when nobody waits for the mount any more.
pub fn announce() -> Result<(), Error> {
    let failed = |error| Error::system("going to the background".into(), error);
    sys::new_session().map_err(failed)?;
    std::env::set_current_dir("/").map_err(failed)?;
    let null = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")
        .map_err(failed)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{READY}").and_then(|()| out.flush()).map_err(failed)?;
    sys::redirect_output(&null).map_err(failed)
}

/// A process, told apart from later ones with the same number by its start time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Process number.
    pub pid: u32,
    /// Clock ticks between boot and its start.
    pub start_ticks: u64,
}

impl Identity {
    /// This process.
    #[must_use]
    pub fn own() -> Option<Self> {
        let pid = std::process::id();
        let (_, start_ticks) = parse_stat(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
        Some(Self { pid, start_ticks })
    }

    /// The process that serves the mount at `path`, as its root tells; `None` if this user may not ask.
    #[must_use]
    pub fn of_mount(path: &Path) -> Option<Self> {
        Self::parse(&String::from_utf8(sys::short_xattr(path, XATTR)?).ok()?)
    }

    /// Reads what [`Display`](std::fmt::Display) writes.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (pid, start_ticks) = text.split_once(' ')?;
        Some(Self {
            pid: pid.parse().ok()?,
            start_ticks: start_ticks.parse().ok()?,
        })
    }

    /// Says whether the process still runs; one that waits for its parent to notice its end does not.
    #[must_use]
    pub fn is_running(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid));
        match stat.ok().as_deref().and_then(parse_stat) {
            Some((state, start_ticks)) => start_ticks == self.start_ticks && !matches!(state, 'Z' | 'X'),
            None => false,
        }
    }
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.pid, self.start_ticks)
    }
}

/// Reads state and start time from `/proc/PID/stat`; the command in it may hold spaces and parentheses.
///
/// # Source
/// proc(5): fields 3 and 22.
fn parse_stat(text: &str) -> Option<(char, u64)> {
    let (_, rest) = text.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?.chars().next()?;
    let start_ticks = fields.nth(18)?.parse().ok()?;
    Some((state, start_ticks))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_number_and_start() {
        let own = Identity::own().unwrap();
        assert!(own.is_running());
        let earlier = Identity {
            start_ticks: own.start_ticks - 1,
            ..own
        };
        assert!(!earlier.is_running());
    }

    #[test]
    fn a_zombie_has_ended() {
        let mut child = Command::new("true").stdin(Stdio::null()).spawn().unwrap();
        let pid = child.id();
        let text = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        while parse_stat(&text()).unwrap().0 != 'Z' {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        let start_ticks = parse_stat(&text()).unwrap().1;
        assert!(!Identity { pid, start_ticks }.is_running());
        child.wait().unwrap();
    }

    #[test]
    fn commands_with_parentheses_do_not_confuse() {
        let text = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20";
        assert_eq!(parse_stat(text), Some(('S', 4242)));
    }
}
