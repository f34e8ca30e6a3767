//! Feels the pulse of a mount: whether its daemon answers, is dead, or hangs.
//!
//! The question is put by a process of its own. A request that a hanging daemon has taken cannot be given up, not even by
//! SIGKILL: a thread that waits for it would keep this process, and whoever waits for it, from ending.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{Error, daemon, sys};

/// What a mount's daemon does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pulse {
    /// It is gone: everything in the mount fails with ENOTCONN.
    Dead,
    /// It answers; who it is, if it told this user.
    Alive(Option<daemon::Identity>),
    /// It neither answers nor is gone.
    Silent,
}

/// The command line word by which the program is told to put the question; not for users.
pub const QUESTION: &str = "__pulse";
const DEAD: &str = "dead";
const ALIVE: &str = "alive";

/// How long a daemon may take to answer the simplest question.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks the mount at `path`.
///
/// # Errors
/// `System` if the question cannot be put.
pub fn feel(path: &Path) -> Result<Pulse, Error> {
    let failed = |error| Error::system("asking the mount's daemon".into(), error);
    let mut child = Command::new("/proc/self/exe")
        .arg(QUESTION)
        .arg(path)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let (answer, inbox) = crossbeam_channel::bounded(1);
    let output = child.stdout.take();
    let reader = std::thread::Builder::new().name("pulse".into()).spawn(move || {
        let line = output.and_then(|output| BufReader::new(output).lines().next()?.ok());
        // Nobody waits any more if it took too long.
        answer.send(line.unwrap_or_default()).ok()
    });
    reader.map_err(failed)?;
    let Ok(line) = inbox.recv_timeout(PATIENCE) else {
        return Ok(Pulse::Silent);
    };
    reap(child);
    Ok(parse(&line))
}

/// Puts the question and prints the answer; what the process does that [`feel`] starts.
///
/// # Errors
/// As writing to standard output.
pub fn answer(path: &OsStr) -> std::io::Result<()> {
    let path = Path::new(path);
    let mut out = std::io::stdout().lock();
    if sys::is_dead(path) {
        return writeln!(out, "{DEAD}");
    }
    match daemon::Identity::of_mount(path) {
        Some(identity) => writeln!(out, "{ALIVE} {identity}"),
        None => writeln!(out, "{ALIVE}"),
    }
}

fn parse(line: &str) -> Pulse {
    match line.split_once(' ').unwrap_or((line, "")) {
        (DEAD, _) => Pulse::Dead,
        (ALIVE, identity) => Pulse::Alive(daemon::Identity::parse(identity)),
        _ => Pulse::Silent,
    }
}

fn reap(mut child: Child) {
    if let Err(error) = child.wait() {
        log::debug!("the question's process was not reaped: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_understood_and_none_means_silence() {
        let identity = daemon::Identity {
            pid: 7,
            start_ticks: 42,
        };
        assert_eq!(parse("dead"), Pulse::Dead);
        assert_eq!(parse(&format!("alive {identity}")), Pulse::Alive(Some(identity)));
        assert_eq!(parse("alive"), Pulse::Alive(None));
        assert_eq!(parse(""), Pulse::Silent);
    }
}
