//! Commands a user gives to run before and after the reading of a backup, to freeze or snapshot what is read.

use super::{Error, Result};
use std::process::{Command, Stdio};

/// Commands for the shell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hooks {
    /// Runs before the sources are opened; if it fails, nothing is backed up.
    pub before: Option<String>,
    /// Runs when the sources have been read, also if anything failed.
    pub after: Option<String>,
}

/// Runs a hook by `sh -c`; its standard output goes to our standard error, so that `--json` output stays clean.
///
/// The command finds `VAULTFS_HOOK` (`before` or `after`), `VAULTFS_RESOURCE` and, after, `VAULTFS_STATUS` (`ok` or
/// `failed`) in its environment.
///
/// # Errors
/// `Hook` if it does not exit with 0.
pub(super) fn run(which: &'static str, command: &str, environment: &[(&str, &str)]) -> Result<()> {
    let failed = |why: String| Error::Hook {
        which,
        command: command.to_owned(),
        why,
    };
    let stderr = std::io::stderr();
    let output = rustix::io::dup(&stderr).map_err(|error| failed(error.to_string()))?;
    let status = Command::new("/bin/sh")
        .args(["-c", command])
        .env("VAULTFS_HOOK", which)
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::from(output))
        .status()
        .map_err(|error| failed(error.to_string()))?;
    if status.success() {
        Ok(())
    } else {
        Err(failed(status.to_string()))
    }
}
