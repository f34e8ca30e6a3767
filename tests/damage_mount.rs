//! A sample of damage through a live mount: an error on the damaged chunk and nothing else, and one line of the log for it.
//!
//! Without FUSE each test says aloud that it is skipped; with VAULTFS_REQUIRE_FUSE=1 it fails instead.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use common::disks::{self, CHUNK, Sparse, length, size};
use common::mounted::Mount;
use common::{Random, can_mount, packs, program};
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use tempfile::TempDir;
use vaultfs::image::ReadAt;
use vaultfs::store::local::LocalStore;
use vaultfs::store::{Key, Store};
use vaultfs::vault::{ChunkId, Vault};

const IMAGE: &str = "servers/web/2026-11-20T03-00-00Z/disks/vda.img";
/// Chunks of the disk that hold data; it has 40.
const DATA: [u64; 24] = [
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 14, 16, 18, 20, 21, 22, 23, 24, 25, 26, 27, 30, 39,
];

/// A vault with one backup of one disk, whose objects are damaged and mended.
struct Rig {
    dir: TempDir,
    model: Sparse,
    vault: Vault,
}

impl Rig {
    fn new() -> Self {
        let mut random = Random::new(0xda3a_6e10);
        let dir = TempDir::new().unwrap();
        let mut piece = |number: u64| {
            let mut bytes = random.bytes(length(CHUNK));
            // Every other chunk compresses, so that damage meets the decoder too.
            bytes[..length(CHUNK / 2 * (number % 2))].fill(b'x');
            (number * CHUNK, bytes)
        };
        let model = Sparse::new(40 * CHUNK, DATA.iter().map(|number| piece(*number)).collect());
        model.write_to(&dir.path().join("vda.raw"));
        let path = program::init(dir.path());
        let disk = format!("vda={}", dir.path().join("vda.raw").display());
        let mut command = program::vaultfs(program::backup_words(&path, "web", &disk));
        command.args(["--at", "2026-11-20T03-00-00Z"]);
        program::succeed(command);
        let vault = Vault::open(Arc::new(LocalStore::open(&path).unwrap())).unwrap();
        Self { dir, model, vault }
    }

    /// The one object below `prefix`, and its bytes.
    fn object(&self, prefix: &str) -> (Key, PathBuf, Vec<u8>) {
        let key = self.vault.store().list(prefix).unwrap().remove(0);
        let path = self.dir.path().join("vault").join(key.as_str());
        let bytes = std::fs::read(&path).unwrap();
        (key, path, bytes)
    }

    /// A fresh mount: nothing of the vault is in its daemon's memory or behind it in the kernel's.
    fn mount(&self) -> Mount {
        let _ = std::fs::remove_file(self.dir.path().join("mount.log"));
        Mount::new(self.dir.path(), &self.dir.path().join("vault"), "cache=8M")
    }

    /// Asserts that a read that touches chunks of `bad` fails, or ends before the first of them, and that any other is exact.
    fn read(&self, file: &File, bad: &BTreeSet<u64>, start: u64, len: usize) {
        let mut buffer = vec![0xee; len];
        let end = (start + size(len)).min(self.model.len());
        let first_bad = bad
            .iter()
            .find(|number| (*number + 1) * CHUNK > start && *number * CHUNK < end);
        let place = format!("{len} bytes at {start}, damaged: {bad:?}");
        match (file.read_at(&mut buffer, start), first_bad) {
            (Err(error), Some(_)) => assert_eq!(error.raw_os_error(), Some(libc::EIO), "{place}"),
            (Err(error), None) => panic!("{place}: {error}"),
            (Ok(read), None) => {
                assert_eq!(size(read), end - start, "{place}");
                assert!(buffer[..read] == self.model.bytes(start..end), "{place}");
            }
            // The kernel may deliver what lies before the damage; the read that follows then fails. Never a byte of it, and never
            // nothing, which would mean the end of the file.
            (Ok(read), Some(number)) => {
                assert!(
                    read > 0 && start + size(read) <= number * CHUNK,
                    "{place}: {read} bytes"
                );
                assert!(buffer[..read] == self.model.bytes(start..start + size(read)), "{place}");
            }
        }
    }
}

fn open(mount: &Mount, flags: i32) -> File {
    OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(mount.path(IMAGE))
        .unwrap()
}

/// Replaces an object's file; the vault's own are read-only and written once.
fn overwrite(path: &Path, bytes: &[u8]) {
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn flipped_bits_are_errors_on_their_own_chunk_and_one_line_each() {
    let test = "flipped_bits_are_errors_on_their_own_chunk_and_one_line_each";
    if !can_mount(test) {
        return;
    }
    let rig = Rig::new();
    let mut random = Random::new(0xda3a_6e11);
    let (key, path, original) = rig.object("packs/");
    let records = packs::records(&rig.vault, &key, &original);
    assert_eq!(records.len(), DATA.len());
    let chunk_of = |id: &ChunkId| {
        let bytes = |number: u64| rig.model.bytes(number * CHUNK..(number + 1) * CHUNK);
        DATA.iter()
            .copied()
            .find(|number| ChunkId::of(&bytes(*number)) == *id)
            .unwrap()
    };
    let mut flips = 0;
    for _ in 0..26 {
        let mut bytes = original.clone();
        let mut bad = BTreeSet::new();
        while bad.len() < 8 {
            let record = random.pick(&records);
            let stored = packs::stored(record);
            // The first bytes of a zstd frame hold a bit without a meaning, which changes nothing.
            let at = stored.start + 8 + length(random.below(size(stored.len() - 8)));
            if bad.insert(chunk_of(&record.id)) {
                bytes[at] ^= 1 << random.below(8);
                flips += 1;
            }
        }
        overwrite(&path, &bytes);
        let mount = rig.mount();
        // Past the page cache first: one request for each chunk, and so one line for each that is damaged.
        let direct = open(&mount, libc::O_DIRECT);
        for number in 0..40 {
            rig.read(&direct, &bad, number * CHUNK, length(CHUNK));
        }
        check_lines(&mount.complaints(), &bad, &key);
        let cached = open(&mount, 0);
        for number in 0..40 {
            rig.read(&cached, &bad, number * CHUNK, length(CHUNK));
        }
        for _ in 0..60 {
            let (start, len) = (random.below(40 * CHUNK), 1 + random.below(4 * CHUNK));
            rig.read(&cached, &bad, start, length(len));
            rig.read(&direct, &bad, start, length(len));
        }
        drop((direct, cached));
        mount.end();
    }
    assert!(flips >= 200, "{flips}");
    overwrite(&path, &original);
}

/// Asserts one line for each damaged chunk, which names object, backup, disk and offset.
fn check_lines(lines: &[String], bad: &BTreeSet<u64>, key: &Key) {
    assert_eq!(lines.len(), bad.len(), "{lines:#?}");
    for number in bad {
        let offset = format!("byte {}", number * CHUNK);
        let names_it = |line: &&String| {
            let parts = [key.as_str(), "servers/web/2026-11-20T03-00-00Z", "vda"];
            let mut words = line.match_indices(offset.as_str());
            let ends = words.any(|(at, _)| !line[at + offset.len()..].starts_with(|c: char| c.is_ascii_digit()));
            parts.iter().all(|part| line.contains(part)) && ends
        };
        assert_eq!(lines.iter().filter(names_it).count(), 1, "{offset}: {lines:#?}");
    }
}

#[test]
fn a_program_that_copies_a_damaged_image_fails() {
    if !can_mount("a_program_that_copies_a_damaged_image_fails") {
        return;
    }
    let rig = Rig::new();
    let (key, path, original) = rig.object("packs/");
    for record in packs::records(&rig.vault, &key, &original).iter().step_by(5) {
        let mut bytes = original.clone();
        bytes[packs::stored(record).end - 1] ^= 0x80;
        overwrite(&path, &bytes);
        let mount = rig.mount();
        for program in ["cp", "cat", "sha256sum"] {
            let mut command = Command::new(program);
            command.arg(mount.path(IMAGE));
            if program == "cp" {
                command.arg(rig.dir.path().join("copy"));
            }
            let output = command.output().unwrap();
            assert!(
                !output.status.success(),
                "{program} took a damaged image for a whole one"
            );
        }
        mount.end();
    }
}

#[test]
fn damage_to_the_map_is_an_error_everywhere_and_never_zeros() {
    if !can_mount("damage_to_the_map_is_an_error_everywhere_and_never_zeros") {
        return;
    }
    let rig = Rig::new();
    let mut random = Random::new(0xda3a_6e12);
    let (key, path, original) = rig.object("meta/");
    let regions = packs::regions(&rig.vault, &key, &original);
    let met: Vec<usize> = regions
        .iter()
        .filter(|(what, _)| matches!(*what, "chunk" | "footer"))
        .flat_map(|(_, range)| range.clone())
        .collect();
    for _ in 0..15 {
        let mut bytes = original.clone();
        // All bits of one byte: no decoder passes over that.
        bytes[*random.pick(&met)] ^= 0xff;
        overwrite(&path, &bytes);
        let mount = rig.mount();
        let direct = open(&mount, libc::O_DIRECT);
        for number in [0, 10, 39] {
            rig.read(&direct, &(0..40).collect(), number * CHUNK, length(CHUNK));
        }
        let lines = mount.complaints();
        assert!(
            lines.iter().all(|line| line.contains(key.as_str())) && !lines.is_empty(),
            "{lines:#?}"
        );
        drop(direct);
        mount.end();
    }
}

#[test]
fn a_lost_pack_is_an_error_on_data_and_holes_are_still_read() {
    if !can_mount("a_lost_pack_is_an_error_on_data_and_holes_are_still_read") {
        return;
    }
    let rig = Rig::new();
    let (key, path, _) = rig.object("packs/");
    std::fs::remove_file(path).unwrap();
    let mount = rig.mount();
    let direct = open(&mount, libc::O_DIRECT);
    for number in 0..40 {
        rig.read(&direct, &DATA.into(), number * CHUNK, length(CHUNK));
    }
    let lines = mount.complaints();
    assert!(
        !lines.is_empty() && lines.iter().all(|line| line.contains(key.as_str())),
        "{lines:#?}"
    );
    assert_eq!(
        disks::size(DATA.len()) * CHUNK,
        rig.model
            .data_chunks(CHUNK)
            .iter()
            .map(|range| range.end - range.start)
            .sum::<u64>()
    );
}
