//! What a user sees: the real binary, its texts, its JSON and its exit codes.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

#[path = "cli/backup.rs"]
mod backup;
#[path = "cli/files.rs"]
mod files_command;
#[path = "cli/house.rs"]
mod house;
#[path = "cli/mount.rs"]
mod mount;
#[path = "cli/usage.rs"]
mod usage;
#[path = "cli/vault.rs"]
mod vault;

use assert_cmd::Command;
use serde_json::Value;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A directory of its own for a test, with a vault in it.
struct Desk {
    dir: TempDir,
}

/// How a run ended.
struct Ended {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Ended {
    /// Standard output as JSON.
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }

    /// Asserts the exit code and that standard error holds `part`.
    #[track_caller]
    fn fails(&self, code: i32, part: &str) {
        assert_eq!((self.code, self.stdout.as_str()), (code, ""), "{}", self.stderr);
        assert!(self.stderr.contains(part), "{:?} is not in {:?}", part, self.stderr);
    }

    /// Asserts success without a word on standard error.
    #[track_caller]
    fn succeeds(self) -> Self {
        assert_eq!((self.code, self.stderr.as_str()), (0, ""), "{}", self.stdout);
        self
    }
}

/// Runs the program with these words.
fn vaultfs<W: AsRef<OsStr>>(words: impl IntoIterator<Item = W>) -> Ended {
    let output = Command::new(env!("CARGO_BIN_EXE_vaultfs"))
        .args(words)
        .env_remove("RUST_LOG")
        .output()
        .unwrap();
    Ended {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Desk {
    /// A directory with an empty vault `vault` in it.
    fn new() -> Self {
        let desk = Self {
            dir: TempDir::new().unwrap(),
        };
        vaultfs([OsStr::new("init"), desk.vault().as_os_str()]).succeeds();
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn vault(&self) -> PathBuf {
        self.path("vault")
    }

    /// Writes a file and gives its path as text.
    fn file(&self, name: &str, data: impl AsRef<[u8]>) -> String {
        std::fs::write(self.path(name), data).unwrap();
        self.text(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Runs a command on the vault: `COMMAND VAULT WORDS...`.
    fn run(&self, command: &str, words: &[&str]) -> Ended {
        let vault = self.vault();
        vaultfs(
            [OsStr::new(command), vault.as_os_str()]
                .into_iter()
                .chain(words.iter().map(OsStr::new)),
        )
    }
}

/// Bytes that do not compress and differ by `seed`.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    })
    .take(len)
    .collect()
}

/// All regular files below `dir`.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![dir.to_owned()];
    while let Some(dir) = waiting.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path)
            } else {
                found.push(path)
            }
        }
    }
    found.sort();
    found
}
