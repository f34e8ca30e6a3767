//! The real binary, alone and under strace.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A command line of the program under test, with nothing inherited that changes what it says.
pub fn vaultfs<W: AsRef<OsStr>>(words: impl IntoIterator<Item = W>) -> Command {
    clean(Command::new(env!("CARGO_BIN_EXE_vaultfs")), words)
}

/// The same under strace with these options, the trace in `log`.
pub fn traced<W: AsRef<OsStr>>(log: &Path, options: &[&str], words: impl IntoIterator<Item = W>) -> Command {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-y", "-o"]).arg(log).args(options);
    strace.arg(env!("CARGO_BIN_EXE_vaultfs"));
    clean(strace, words)
}

fn clean<W: AsRef<OsStr>>(mut command: Command, words: impl IntoIterator<Item = W>) -> Command {
    command.args(words).env_remove("RUST_LOG").stdin(Stdio::null());
    // The cache of whoever runs the tests is not for them.
    command.env("VAULTFS_CACHE_DIR", "none");
    command
}

/// What the program said on standard error.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs a command that must succeed and returns its standard output.
#[track_caller]
pub fn succeed(mut command: Command) -> Vec<u8> {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", stderr(&output));
    output.stdout
}

/// Makes a vault with chunks of 64 KiB in `dir/vault`.
pub fn init(dir: &Path) -> PathBuf {
    let vault = dir.join("vault");
    let options = [OsStr::new("--chunk-size"), OsStr::new("64KiB")];
    succeed(vaultfs(
        [OsStr::new("init"), vault.as_os_str()].into_iter().chain(options),
    ));
    vault
}

/// The words of a backup of one server disk by one thread.
pub fn backup_words<'a>(vault: &'a Path, server: &'a str, disk: &'a str) -> Vec<&'a OsStr> {
    let words = [server, "--disk", disk, "--jobs", "1"].map(OsStr::new);
    let mut all = vec![OsStr::new("backup"), vault.as_os_str(), OsStr::new("server")];
    all.extend(words);
    all
}
