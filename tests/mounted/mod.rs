//! Vaults made and mounted by the real binary.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

use std::ffi::OsStr;
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_vaultfs");
pub const CHUNK: u64 = 64 << 10;
/// Size of `vda`: ends within a chunk, and with a hole before the last byte.
pub const VDA: u64 = (40 << 20) + 4097;
/// Runs of data in `vda`, offset and length, apart by more than a chunk.
pub const RUNS: [(u64, u64); 4] = [(0, 512), (CHUNK * 3 - 1, 2 << 20), (20 << 20, 8 << 20), (VDA - 1, 1)];

/// A vault with the server `web` and the disk `db`, and a directory to mount it at; both go with it.
pub struct Rig {
    pub directory: tempfile::TempDir,
}

/// Says aloud that a test cannot run; with VAULTFS_REQUIRE_FUSE=1 that is a failure.
pub fn skip(why: &str) -> bool {
    assert!(std::env::var("VAULTFS_REQUIRE_FUSE").as_deref() != Ok("1"), "{why}");
    eprintln!("SKIPPED: {why}");
    true
}

impl Rig {
    /// A vault with one backup of each resource; `None`, said aloud, where FUSE is not to be had.
    pub fn new() -> Option<Self> {
        if fs::OpenOptions::new().read(true).write(true).open("/dev/fuse").is_err() {
            skip("this test needs /dev/fuse");
            return None;
        }
        let rig = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        fs::create_dir(rig.mount_point()).unwrap();
        write_disk(&rig.path("vda.raw"), 1);
        fs::write(rig.path("vdb.raw"), noise(100_001, 7)).unwrap();
        let vault = rig.vault();
        run([
            "init".as_ref(),
            vault.as_os_str(),
            "--chunk-size".as_ref(),
            "64KiB".as_ref(),
        ]);
        rig.back_up("2026-11-20T03:00:00Z");
        let vdb = rig.path("vdb.raw");
        run([
            "backup".as_ref(),
            vault.as_os_str(),
            "disk".as_ref(),
            "db".as_ref(),
            vdb.as_os_str(),
        ]);
        Some(rig)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        fs::canonicalize(self.directory.path()).unwrap().join(name)
    }

    pub fn vault(&self) -> PathBuf {
        self.path("vault")
    }

    pub fn mount_point(&self) -> PathBuf {
        self.path("mnt")
    }

    /// A path in the mount.
    pub fn inside(&self, path: &str) -> PathBuf {
        self.mount_point().join(path)
    }

    /// Backs up the server `web` as of `time`.
    pub fn back_up(&self, time: &str) {
        let disk = |name: &str| format!("{name}={}", self.path(&format!("{name}.raw")).display());
        let vault = self.vault();
        let words = ["backup", vault.to_str().unwrap(), "server", "web", "--disk"];
        run(words
            .into_iter()
            .chain([disk("vda").as_str(), "--disk", &disk("vdb"), "--at", time]));
    }

    /// Mounts in the background.
    pub fn mount(&self, options: &str) {
        let output = self.try_mount(&self.mount_point(), options);
        assert!(output.status.success(), "{}", stderr(&output));
    }

    pub fn try_mount(&self, at: &Path, options: &str) -> Output {
        output([
            "mount".as_ref(),
            self.vault().as_os_str(),
            at.as_os_str(),
            "-o".as_ref(),
            options.as_ref(),
        ])
    }

    pub fn umount(&self, words: &[&str]) -> Output {
        let mount_point = self.mount_point();
        let words = words.iter().map(OsStr::new);
        output([OsStr::new("umount"), mount_point.as_os_str()].into_iter().chain(words))
    }

    /// The line of our mount in the mount table.
    pub fn table_line(&self) -> Option<String> {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let path = format!(" {} ", self.mount_point().display());
        table.lines().find(|line| line.contains(&path)).map(str::to_owned)
    }

    /// Number of the process that serves the mount.
    pub fn daemon(&self) -> u32 {
        let mut value = [0; 64];
        let len = rustix::fs::getxattr(self.mount_point(), "user.vaultfs.daemon", &mut value).unwrap();
        let text = std::str::from_utf8(&value[..len]).unwrap();
        text.split_once(' ').unwrap().0.parse().unwrap()
    }

    pub fn signal(&self, signal: &str) -> u32 {
        let daemon = self.daemon();
        kill(daemon, signal);
        daemon
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if self.table_line().is_some() {
            self.umount(&["--lazy"]);
        }
    }
}

pub fn kill(pid: u32, signal: &str) {
    let status = Command::new("kill").args([signal, &pid.to_string()]).status().unwrap();
    assert!(status.success());
}

/// Waits until `done`, at most 15 seconds.
#[track_caller]
pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(15);
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub fn is_running(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

pub fn output<W: AsRef<OsStr>>(words: impl IntoIterator<Item = W>) -> Output {
    Command::new(PROGRAM)
        .args(words)
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[track_caller]
pub fn run<W: AsRef<OsStr>>(words: impl IntoIterator<Item = W>) {
    let output = output(words);
    assert!(output.status.success(), "{}", stderr(&output));
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Writes a sparse disk: noise in [`RUNS`], holes between.
pub fn write_disk(path: &Path, seed: u64) {
    let mut file = fs::File::create(path).unwrap();
    file.set_len(VDA).unwrap();
    for (offset, len) in RUNS {
        file.seek(SeekFrom::Start(offset)).unwrap();
        file.write_all(&noise(usize::try_from(len).unwrap(), seed ^ offset))
            .unwrap();
    }
}

/// The same bytes for the same seed; none of them zero.
pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes()[7] | 1
    };
    (0..len).map(|_| next()).collect()
}
