//! The FAT reader against what was put into images and against what mtools gets out of them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::as_conversions,
    unreachable_pub
)]

mod common;
#[path = "fat/damage.rs"]
mod damage;
mod files;
mod hostile;
#[path = "fat/images.rs"]
mod images;
#[path = "fat/kept.rs"]
mod kept;
#[path = "fat/raw.rs"]
mod raw;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::Random;
use images::{Disk, TIMES, mtools, ordinary};
use raw::{Raw, slots};
use vaultfs::fs::FileSystem;
use vaultfs::fs::content::Content;
use vaultfs::fs::fat::Fat;
use vaultfs::image::{ReadAt, Result};

/// Says whether the tools are here; `true` if the test can run.
fn have_tools(test: &str) -> bool {
    ["mkfs.fat", "mcopy", "fsck.fat"]
        .iter()
        .all(|tool| common::have(test, tool))
}

#[test]
fn every_kind_of_fat_shows_what_was_put_in() {
    if !have_tools("every_kind_of_fat_shows_what_was_put_in") {
        return;
    }
    let mut random = Random::new(1);
    // Sizes are in KiB; a cluster's size is what -S times -s gives.
    let kinds = [
        (720, "-F 12 -S 512 -s 1", 512),
        (4096, "-F 12 -S 512 -s 8", 4096),
        (8192, "-F 12 -S 4096 -s 1 -f 1", 4096),
        (2048, "-F 12 -S 1024 -s 2 -r 224 -M 0xf0", 2048),
        (8192, "-F 16 -S 512 -s 2", 1024),
        (16384, "-F 16 -S 512 -s 4 -f 1 -r 1024", 2048),
        (32768, "-F 16 -S 2048 -s 2 -r 128", 4096),
        (65536, "-F 16 -S 4096 -s 1 -a", 4096),
        (40960, "-F 32 -S 512 -s 1", 512),
        (300_000, "-F 32 -S 4096 -s 1", 4096),
        (300_000, "-F 32 -S 512 -s 8 -f 1 -R 64", 4096),
        (600_000, "-F 32 -S 1024 -s 8 -h 2048", 8192),
    ];
    for (kib, mkfs, cluster) in kinds {
        let disk = Disk::new(kib, mkfs);
        ordinary(&disk, &mut random, cluster);
        disk.fill();
        let paths = disk.check();
        assert!(paths > 30, "{paths}");
    }
}

#[test]
fn a_fat32_with_few_clusters_is_read_as_linux_does() {
    if !have_tools("a_fat32_with_few_clusters_is_read_as_linux_does") {
        return;
    }
    let disk = Disk::new(36864, "-F 32 -S 512 -s 1");
    ordinary(&disk, &mut Random::new(3), 512);
    disk.fill();
    disk.shrink(4096);
    assert!(disk.check_without_mtools() > 30);
}

#[test]
fn a_large_directory_with_holes_of_deleted_files_is_read() {
    if !have_tools("a_large_directory_with_holes_of_deleted_files_is_read") {
        return;
    }
    for (kib, mkfs, width) in [(65536, "-F 16 -S 512 -s 4", 16), (65536, "-F 32 -S 512 -s 1", 32)] {
        let disk = Disk::new(kib, mkfs);
        std::fs::create_dir(disk.source().join("MANY")).unwrap();
        disk.fill();
        // mtools takes minutes for what is written here: its time grows with the square of the number.
        let mut raw = Raw::new(disk.bytes(), width);
        let mut content = Vec::new();
        for number in 0..5000 {
            let name = format!("file number {number:04}.text");
            let units: Vec<u16> = name.encode_utf16().collect();
            let start = content.len();
            content.extend(slots(
                format!("FILE{number:04}TXT").as_bytes().try_into().unwrap(),
                &units,
            ));
            if number % 97 == 0 {
                content[start..].chunks_exact_mut(32).for_each(|slot| slot[0] = 0xe5);
            } else {
                disk.file(&format!("MANY/{name}"), b"", TIMES[2]);
            }
        }
        let (size, mut cluster) = (raw.cluster_size(), raw.first_cluster(raw.entry(b"MANY       ")));
        let at = raw.cluster(cluster) + 64;
        let (first, rest) = content.split_at(size - 64);
        raw.bytes[at..at + first.len()].copy_from_slice(first);
        for (piece, next) in rest.chunks(size).zip((1000..).step_by(2)) {
            raw.link(cluster, next);
            cluster = next;
            let at = raw.cluster(cluster);
            raw.bytes[at..at + piece.len()].copy_from_slice(piece);
        }
        raw.link(cluster, 0x0fff_ffff);
        // FSInfo now has another number of free clusters: that it is not known is allowed.
        if width == 32 {
            raw.bytes[512 + 488..512 + 492].fill(0xff);
        }
        disk.set_bytes(&raw.bytes);
        assert_eq!(disk.check(), 2 + 5000 - 52);
    }
}

#[test]
fn fragmented_files_are_read_in_full_and_at_any_place() {
    if !have_tools("fragmented_files_are_read_in_full_and_at_any_place") {
        return;
    }
    let mut random = Random::new(2);
    for (kib, mkfs) in [
        (1440, "-F 12 -S 512 -s 1"),
        (8192, "-F 16 -S 512 -s 1"),
        (36864, "-F 32 -S 512 -s 1"),
    ] {
        let disk = Disk::new(kib, mkfs);
        for number in 0..500 {
            disk.file(
                &format!("all/d{number:03}/f"),
                &random.bytes(512 * usize::from(number % 3 == 0)),
                TIMES[2],
            );
            disk.file(&format!("all/d{number:03}/g"), &random.bytes(700), TIMES[2]);
        }
        disk.fill();
        let fill = disk.open().summary().free - (100 << 10);
        disk.file("filler", &random.bytes(usize::try_from(fill).unwrap()), TIMES[2]);
        mtools(
            &disk.image(),
            &["mcopy", "-m", "-n"],
            &[&disk.source().join("filler"), Path::new("::/")],
        );
        for number in 0..500 {
            disk.delete(&format!("all/d{number:03}/g"));
        }
        let content = random.bytes(400 << 10);
        disk.file("fragmented", &content, TIMES[2]);
        mtools(
            &disk.image(),
            &["mcopy", "-m", "-n"],
            &[&disk.source().join("fragmented"), Path::new("::/")],
        );
        disk.check();
        let (fs, volume) = (disk.open(), disk.volume());
        let inode = disk.find(&fs, "fragmented");
        let extents = fs.extents(inode, 0..u64::MAX).unwrap();
        assert!(extents.len() > 200, "{} has only {} extents", disk.name, extents.len());
        // From a fresh reader for each, so that nothing is known of the chain, and from one that knows more and more.
        let known = Content::open(fs, Arc::clone(&volume), inode).unwrap();
        for _ in 0..300 {
            let at = usize::try_from(random.below(400 << 10)).unwrap();
            let len = (content.len() - at).min(3000);
            for content_of in [&known, &Content::open(disk.open(), Arc::clone(&volume), inode).unwrap()] {
                let mut buf = vec![0; len];
                content_of.read(at as u64, &mut buf).unwrap();
                assert!(buf == content[at..at + len], "{} at {at}", disk.name);
            }
        }
    }
}

/// Counts the bytes that are read through it.
struct Counting(Arc<dyn ReadAt>, AtomicU64);

impl ReadAt for Counting {
    fn len(&self) -> u64 {
        self.0.len()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.1.fetch_add(buf.len() as u64, Ordering::Relaxed);
        self.0.read_at(offset, buf)
    }
    fn next_data(&self, offset: u64) -> Result<Option<u64>> {
        self.0.next_data(offset)
    }
    fn next_hole(&self, offset: u64) -> Result<u64> {
        self.0.next_hole(offset)
    }
}

#[test]
fn a_large_file_is_read_with_one_walk_along_its_chain() {
    if !have_tools("a_large_file_is_read_with_one_walk_along_its_chain") {
        return;
    }
    let disk = Disk::new(40960, "-F 32 -S 512 -s 1");
    let size: u64 = 30 << 20;
    disk.file("large", &Random::new(4).bytes(size as usize), TIMES[2]);
    disk.fill();
    let counting = Arc::new(Counting(disk.volume(), AtomicU64::new(0)));
    let fs: Arc<dyn FileSystem> = Arc::new(Fat::open(counting.clone()).unwrap());
    let inode = disk.find(&fs, "large");
    let step = 128 << 10;
    for at in (0..size).step_by(step).chain((0..size).rev().step_by(step)) {
        let extents = fs.extents(inode, at..at + step as u64).unwrap();
        assert!(extents[0].start <= at);
    }
    // Four bytes for each cluster, read once, and the file's entry for each request.
    let read = counting.1.load(Ordering::Relaxed);
    let (table, requests) = (size / 512 * 4, 2 * size / step as u64);
    assert!(read < table + (64 << 10) + requests * 64, "{read} bytes of metadata");
    assert_eq!(fs.extents(inode, 0..size).unwrap().len(), 1);
}
