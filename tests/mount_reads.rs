//! A hundred thousand random reads through a live mount equal the source: plain, past the page cache, and mapped.
//!
//! Without FUSE each test says aloud that it is skipped; with VAULTFS_REQUIRE_FUSE=1 it fails instead.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use common::Random;
use common::disks::{CHUNK, Sparse};
use common::mounted::Mount;
use common::reads::{self, Ranges};
use common::{can_mount, have, program};
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use tempfile::TempDir;
use vaultfs::image::ReadAt;

const IMAGE: &str = "servers/web/latest/disks/vda.img";

struct Live {
    // Dropped in this order: the mount before the directory it is in.
    mount: Mount,
    dir: TempDir,
    model: Sparse,
    bytes: Vec<u8>,
}

impl Live {
    /// A mounted vault with one backup of the disk; `None` where it cannot be.
    fn new(test: &str, options: &str) -> Option<Self> {
        if !can_mount(test) {
            return None;
        }
        let dir = TempDir::new().unwrap();
        let model = reads::disk(&mut Random::new(0x0de1_0011));
        let source = dir.path().join("vda.raw");
        model.write_to(&source);
        let vault = program::init(dir.path());
        let disk = format!("vda={}", source.display());
        program::succeed(program::vaultfs(program::backup_words(&vault, "web", &disk)));
        let mount = Mount::new(dir.path(), &vault, options);
        let bytes = model.bytes(0..model.len());
        Some(Self {
            mount,
            dir,
            model,
            bytes,
        })
    }

    fn image(&self) -> PathBuf {
        self.mount.path(IMAGE)
    }

    /// Reads random ranges of `file` and compares them.
    fn read(&self, file: &File, seed: u64, count: usize) {
        let mut ranges = Ranges::of(&self.model, Random::quiet(seed));
        let mut buffer = vec![0; 2 << 20];
        for _ in 0..count {
            let (start, len) = ranges.next_range();
            let read = read_up_to(file, &mut buffer[..len], start);
            reads::compare(&buffer[..read], &self.bytes, start, len);
        }
    }
}

/// One `pread`: the kernel delivers all of it, up to the end of the file, or an error.
fn read_up_to(file: &File, buffer: &mut [u8], start: u64) -> usize {
    buffer.fill(0xee);
    file.read_at(buffer, start)
        .unwrap_or_else(|error| panic!("{} bytes at {start}: {error}", buffer.len()))
}

#[test]
fn random_reads_through_the_page_cache_equal_the_source() {
    let Some(live) = Live::new("random_reads_through_the_page_cache_equal_the_source", "cache=8M") else {
        return;
    };
    let file = File::open(live.image()).unwrap();
    std::thread::scope(|scope| {
        for seed in [0x0de1_0012, 0x0de1_0013] {
            let (live, file) = (&live, &file);
            scope.spawn(move || live.read(file, seed, 45_000));
        }
    });
    drop(file);
    assert_eq!(live.mount.complaints(), Vec::<String>::new());
    live.mount.end();
}

#[test]
fn random_reads_past_the_page_cache_equal_the_source() {
    let Some(live) = Live::new("random_reads_past_the_page_cache_equal_the_source", "cache=8M") else {
        return;
    };
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECT)
        .open(live.image())
        .unwrap();
    std::thread::scope(|scope| {
        for seed in [0x0de1_0014, 0x0de1_0015] {
            let (live, file) = (&live, &file);
            scope.spawn(move || live.read(file, seed, 5_000));
        }
    });
}

/// Compares random ranges of two mapped files; the ranges come on standard input.
const MAPPED: &str = "
import mmap, sys
files = [open(name, 'rb') for name in sys.argv[1:3]]
image, source = (mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) for file in files)
assert len(image) == len(source), (len(image), len(source))
count = 0
for line in sys.stdin:
    start, end = map(int, line.split())
    assert image[start:end] == source[start:end], (start, end)
    count += 1
print(count)
";

#[test]
fn random_reads_of_a_mapped_image_equal_the_source() {
    let test = "random_reads_of_a_mapped_image_equal_the_source";
    if !have(test, "python3") {
        return;
    }
    let Some(live) = Live::new(test, "cache=8M") else {
        return;
    };
    let mut ranges = Ranges::of(&live.model, Random::new(0x0de1_0016));
    let end = live.model.len();
    let lines = (0..3000).map(|_| ranges.next_range()).map(|(start, len)| {
        let start = start.min(end - 1);
        format!("{start} {}\n", (start + u64::try_from(len).unwrap()).min(end))
    });
    let list = live.dir.path().join("ranges");
    std::fs::write(&list, lines.collect::<String>()).unwrap();
    let mut python = std::process::Command::new("python3");
    python
        .arg("-c")
        .arg(MAPPED)
        .arg(live.image())
        .arg(live.dir.path().join("vda.raw"));
    python.stdin(File::open(list).unwrap());
    assert_eq!(program::succeed(python), b"3000\n");
}

#[test]
fn seek_finds_data_and_holes_where_the_model_has_them() {
    let Some(live) = Live::new("seek_finds_data_and_holes_where_the_model_has_them", "cache=8M") else {
        return;
    };
    let file = File::open(live.image()).unwrap();
    let (data, end) = (live.model.data_chunks(CHUNK), live.model.len());
    let mut ranges = Ranges::of(&live.model, Random::new(0x0de1_0017));
    for _ in 0..10_000 {
        let at = ranges.offset();
        let next_data = data
            .iter()
            .find(|range| range.end > at)
            .map(|range| range.start.max(at));
        let inside = data.iter().find(|range| range.contains(&at));
        let next_hole = (at < end).then(|| inside.map_or(at, |range| range.end));
        let seek = |to| match rustix::fs::seek(&file, to) {
            Ok(found) => Some(found),
            Err(Errno::NXIO) => None,
            Err(error) => panic!("{error} at {at}"),
        };
        assert_eq!(seek(SeekFrom::Data(at)), next_data, "data at or after {at}");
        assert_eq!(seek(SeekFrom::Hole(at)), next_hole, "hole at or after {at}");
    }
}
