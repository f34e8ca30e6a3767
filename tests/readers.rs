//! Sixty-four readers at once on a live mount: no error, every byte right, and memory bounded by the cache's limit.
//!
//! Without FUSE each test says aloud that it is skipped; with VAULTFS_REQUIRE_FUSE=1 it fails instead. `VAULTFS_TEST_QUICK=1` makes
//! the long test short.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod common;

use common::disks::{CHUNK, Sparse, length, size};
use common::mounted::Mount;
use common::reads;
use common::{Random, can_mount, program};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use vaultfs::image::ReadAt;

const READERS: u64 = 64;
const MIB: u64 = 1 << 20;
/// What the daemon may have beside its cache, whatever the number of readers.
const BESIDE: u64 = 64 * MIB;
const IMAGE: &str = "servers/web/latest/disks/vda.img";

struct Rig {
    dir: TempDir,
    model: Sparse,
    bytes: Vec<u8>,
}

impl Rig {
    /// A backup of a disk several times as large as the smallest cache here: 288 MiB, of which 32 are a hole.
    fn new() -> Self {
        let mut random = Random::new(0x4ead_0001);
        let dir = TempDir::new().unwrap();
        let mut piece = |at: u64, len: u64| {
            let mut bytes = random.bytes(length(len));
            bytes.chunks_mut(4096).step_by(2).for_each(|block| block.fill(b'x'));
            (at, bytes)
        };
        let model = Sparse::new(
            288 * MIB + 777,
            vec![piece(0, 128 * MIB), piece(160 * MIB, 128 * MIB + 777)],
        );
        model.write_to(&dir.path().join("vda.raw"));
        let vault = program::init(dir.path());
        let disk = format!("vda={}", dir.path().join("vda.raw").display());
        let mut command = program::vaultfs(program::backup_words(&vault, "web", &disk));
        command.args(["--level", "1"]);
        program::succeed(command);
        let bytes = model.bytes(0..model.len());
        Self { dir, model, bytes }
    }

    /// Lets all readers read for `time` with this cache; checks every read, and the daemon's memory at the end.
    fn run(&self, cache: Option<u64>, time: Duration) {
        let limit = cache.unwrap_or(256 * MIB);
        let options = cache.map_or(String::new(), |cache| format!("cache={cache}"));
        let mount = Mount::new(self.dir.path(), &self.dir.path().join("vault"), &options);
        let total = AtomicU64::new(0);
        let end = Instant::now() + time;
        std::thread::scope(|scope| {
            for reader in 0..READERS {
                let (mount, total) = (&mount, &total);
                scope.spawn(move || total.fetch_add(self.read(mount, reader, end), Ordering::Relaxed));
            }
        });
        let (peak, total) = (mount.peak_memory(), total.into_inner());
        println!(
            "cache {} MiB: {} MiB read in {time:?}, the daemon had at most {} MiB",
            limit / MIB,
            total / MIB,
            peak / MIB
        );
        assert_eq!(mount.complaints(), Vec::<String>::new());
        assert!(
            peak <= limit + BESIDE,
            "{} MiB with a cache of {} MiB",
            peak / MIB,
            limit / MIB
        );
        // The cache was full, or everything was read: a limit that is not met proves nothing.
        assert!(
            peak > limit.min(100 * MIB),
            "{} MiB with a cache of {} MiB",
            peak / MIB,
            limit / MIB
        );
        mount.end();
    }

    /// One reader until `end`: streams, random blocks and random ranges, past the page cache or through it; returns bytes read.
    fn read(&self, mount: &Mount, reader: u64, end: Instant) -> u64 {
        let flags = if reader % 4 == 3 { 0 } else { libc::O_DIRECT };
        let file: File = OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(mount.path(IMAGE))
            .unwrap();
        let mut random = Random::quiet(0x4ead_0100 + reader);
        let mut buffer = vec![0; length(MIB)];
        let (mut at, mut total) = (random.below(self.model.len()), 0);
        while Instant::now() < end {
            let len = match reader % 3 {
                0 => 128 << 10,
                1 => 4096,
                _ => 1 + length(random.below(MIB)),
            };
            let read = file.read_at(&mut buffer[..len], at);
            let read = read.unwrap_or_else(|error| panic!("reader {reader}: {len} bytes at {at}: {error}"));
            reads::compare(&buffer[..read], &self.bytes, at, len);
            total += size(read);
            // Streams go on, and begin anew at the end; the others jump, some of them to the edge of a chunk.
            at = match reader % 3 {
                0 if read == len => at + size(read),
                1 => random.below(self.model.len() / 4096) * 4096,
                _ => (random.below(self.model.len() / CHUNK) * CHUNK).saturating_sub(random.below(3)),
            };
        }
        assert!(total > 0, "reader {reader} never came to read");
        total
    }
}

#[test]
fn sixty_four_readers_get_every_byte_and_memory_stays_bounded() {
    if !can_mount("sixty_four_readers_get_every_byte_and_memory_stays_bounded") {
        return;
    }
    let rig = Rig::new();
    for cache in [Some(16 * MIB), Some(64 * MIB), None] {
        rig.run(cache, Duration::from_secs(5));
    }
}

#[test]
#[ignore = "long: a minute of readers"]
fn sixty_four_readers_for_a_minute_get_every_byte() {
    if !can_mount("sixty_four_readers_for_a_minute_get_every_byte") {
        return;
    }
    let quick = std::env::var_os("VAULTFS_TEST_QUICK").is_some_and(|value| value == "1");
    Rig::new().run(Some(16 * MIB), Duration::from_secs(if quick { 5 } else { 60 }));
}
