//! Mounts and unmounts as an ordinary user, through the set-user-id program fusermount3.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use super::sys::{self, Detach};

const PROGRAM: &str = "fusermount3";

/// Why fusermount3 did not do it.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The program is not there.
    #[error("fusermount3 is not installed; install the package fuse3")]
    Absent,
    /// It refused, in its own words.
    #[error("{0}")]
    Refused(String),
    /// The system failed us.
    #[error("running fusermount3 failed")]
    System(#[from] std::io::Error),
}

/// Mounts at `path` and returns the connection to the kernel.
///
/// The socket over which it comes is the program's standard input, so that no descriptor has to be inherited by number.
///
/// # Errors
/// `Refused` with the program's own words.
pub fn mount(path: &Path, options: &str) -> Result<OwnedFd, Failure> {
    let (ours, theirs) = UnixStream::pair()?;
    let child = Command::new(PROGRAM)
        .arg("-o")
        .arg(options)
        .arg("--")
        .arg(path)
        .env("_FUSE_COMMFD", "0")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(absent)?;
    let fd = sys::receive_fd(&ours);
    let words = finish(child)?;
    fd?.ok_or(Failure::Refused(words))
}

/// Unmounts `path`.
///
/// # Errors
/// `Refused` with the program's own words, also while the mount is in use.
pub fn unmount(path: &Path, how: Detach) -> Result<(), Failure> {
    let flags = match how {
        Detach::IfIdle => "-u",
        Detach::Lazily => "-uz",
    };
    let mut child = Command::new(PROGRAM)
        .arg(flags)
        .arg("--")
        .arg(path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(absent)?;
    let words = read_words(&mut child);
    if child.wait()?.success() {
        Ok(())
    } else {
        Err(Failure::Refused(words))
    }
}

fn absent(error: std::io::Error) -> Failure {
    match error.kind() {
        std::io::ErrorKind::NotFound => Failure::Absent,
        _ => Failure::System(error),
    }
}

fn finish(mut child: std::process::Child) -> Result<String, Failure> {
    let words = read_words(&mut child);
    let status = child.wait()?;
    if words.is_empty() {
        Ok(format!("fusermount3 ended with {status} and no word"))
    } else {
        Ok(words)
    }
}

fn read_words(child: &mut std::process::Child) -> String {
    let mut text = Vec::new();
    if let Some(stderr) = child.stderr.as_mut()
        && let Err(error) = stderr.take(4096).read_to_end(&mut text)
    {
        log::debug!("reading the words of fusermount3 failed: {error}");
    }
    String::from_utf8_lossy(&text).trim().replace('\n', "; ")
}

/// Writes the option list of fusermount3, in which `\` protects commas and itself.
#[must_use]
pub fn option_list(source: &str, flags: &[&str]) -> String {
    let escaped = source.replace('\\', r"\\").replace(',', r"\,");
    format!("{},subtype=vaultfs,fsname={escaped}", flags.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_and_backslashes_in_the_source_are_protected() {
        assert_eq!(
            option_list(r"/a,b\c", &["ro", "nodev"]),
            r"ro,nodev,subtype=vaultfs,fsname=/a\,b\\c"
        );
    }
}
