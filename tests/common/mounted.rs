//! A live mount of a vault, taken down when it is dropped.

use super::program::{stderr, succeed, vaultfs};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A vault mounted in the background.
pub struct Mount {
    dir: PathBuf,
    log: PathBuf,
}

impl Mount {
    /// Mounts `vault` at `dir/mnt` with these options; the daemon's log is `dir/mount.log`.
    #[track_caller]
    pub fn new(dir: &Path, vault: &Path, options: &str) -> Self {
        Self::with(dir, vault, options, |_| {})
    }

    /// The same, with a log that tells of every request.
    #[track_caller]
    pub fn chatty(dir: &Path, vault: &Path, options: &str) -> Self {
        Self::with(dir, vault, options, |command| {
            command.env("RUST_LOG", "debug");
        })
    }

    /// The same, by a command that was changed before it ran.
    #[track_caller]
    pub fn with(dir: &Path, vault: &Path, options: &str, change: impl FnOnce(&mut Command)) -> Self {
        let dir = dir.canonicalize().unwrap();
        let (at, log) = (dir.join("mnt"), dir.join("mount.log"));
        std::fs::create_dir_all(&at).unwrap();
        let options = format!("log={},{options}", log.display());
        let words = [OsStr::new("mount"), vault.as_os_str(), at.as_os_str()];
        let mut command = vaultfs(words.into_iter().chain(["-o".as_ref(), options.as_ref()]));
        change(&mut command);
        succeed(command);
        Self { dir: at, log }
    }

    /// A path in the mount.
    pub fn path(&self, inside: &str) -> PathBuf {
        self.dir.join(inside)
    }

    /// The daemon's log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The warnings and errors of the daemon's log, line by line.
    pub fn complaints(&self) -> Vec<String> {
        let text = self.log();
        let is_complaint = |line: &&str| !line.contains(" INFO ") && !line.contains(" DEBUG ");
        text.lines().filter(is_complaint).map(str::to_owned).collect()
    }

    /// Number of the process that serves the mount.
    pub fn daemon(&self) -> u32 {
        let mut value = [0; 64];
        let len = rustix::fs::getxattr(&self.dir, "user.vaultfs.daemon", &mut value).unwrap();
        let text = std::str::from_utf8(&value[..len]).unwrap();
        text.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// The most memory the daemon ever had, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.daemon())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Unmounts; the mount must not be busy.
    #[track_caller]
    pub fn end(self) {
        let output = vaultfs(["umount".as_ref(), self.dir.as_os_str()]).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        std::mem::forget(self);
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let words = ["umount".as_ref(), self.dir.as_os_str(), "--lazy".as_ref()];
        // A failing test must still take its mount down; whether that works is not its subject.
        let _ = vaultfs(words).output();
    }
}
