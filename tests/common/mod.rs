//! What the tests share: random numbers from printed seeds, disks and vaults in memory, the real binary, and saying aloud
//! what could not be tested.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

pub mod clock;
pub mod disks;
pub mod kills;
pub mod mounted;
pub mod packs;
pub mod program;
pub mod reads;
pub mod slow;
pub mod stored;
pub mod trace;

use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;
use vaultfs::store::local::LocalStore;
use vaultfs::vault::Vault;

/// A small random number generator (xorshift64*): the same numbers from the same seed, for ever.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Starts from `seed` and prints it.
    pub fn new(seed: u64) -> Self {
        eprintln!("SEED={seed}");
        Self::quiet(seed)
    }

    /// Starts from `seed`; for sequences derived from one that was printed.
    pub fn quiet(seed: u64) -> Self {
        let mut random = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        random.next();
        random
    }

    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// One of `choices`.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[usize::try_from(self.below(u64::try_from(choices.len()).unwrap())).unwrap()]
    }

    /// `len` bytes that do not compress.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }
}

/// Says that a test is left out and why; where `VAULTFS_REQUIRE_FUSE=1` forbids that, fails instead.
#[track_caller]
pub fn skip(test: &str, why: &str) {
    let required = std::env::var_os("VAULTFS_REQUIRE_FUSE").is_some_and(|value| value == "1");
    assert!(!required, "{test} cannot run and must: {why}");
    eprintln!("SKIPPED {test}: {why}");
}

/// Says whether this process may mount through FUSE; if not, [`skip`]s.
pub fn can_mount(test: &str) -> bool {
    let open = std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse");
    match open {
        Ok(_) if is_root() => true,
        Ok(_) => {
            skip(test, "mounting without fusermount3 needs root");
            false
        }
        Err(error) => {
            skip(test, &format!("/dev/fuse cannot be opened: {error}"));
            false
        }
    }
}

/// Says whether a program can be started; if not, [`skip`]s.
pub fn have(test: &str, program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|dir| dir.join(program).is_file());
    if !found {
        skip(test, &format!("{program} is not installed"));
    }
    found
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// All paths of regular files below `dir`, sorted, but for the space that a vault keeps back.
pub fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let (mut found, mut waiting) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(dir) = waiting.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                waiting.push(entry.path());
            } else if entry.file_name() != ".reserve" {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    found
}

/// The temporary files below `dir`.
pub fn temporary_files(dir: &Path) -> Vec<std::path::PathBuf> {
    let is_temporary = |path: &std::path::PathBuf| path.file_name().unwrap().to_string_lossy().starts_with(".tmp-");
    files(dir).into_iter().filter(is_temporary).collect()
}

/// A directory in memory where the system has such: for tests of much else than a disk.
pub fn scratch() -> TempDir {
    let shared = Path::new("/dev/shm");
    let in_memory = tempfile::Builder::new().prefix("vaultfs-test-").tempdir_in(shared);
    in_memory.unwrap_or_else(|_| TempDir::new().unwrap())
}

/// Copies a vault to a directory that is made, without what is no object.
pub fn copy_files(from: &Path, to: &Path) {
    for file in files(from) {
        let to = to.join(file.strip_prefix(from).unwrap());
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(file, to).unwrap();
    }
}

/// Opens a vault in a directory.
pub fn open(vault: &Path) -> Vault {
    Vault::open(Arc::new(LocalStore::open(vault).unwrap())).unwrap()
}
