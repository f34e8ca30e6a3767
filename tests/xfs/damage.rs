//! Damage: images in memory whose metadata is changed, mostly with checksums that fit, so that it is met as deep as can be.

use std::collections::HashMap;
use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use rustix::fs::{FallocateFlags, XattrFlags};
use vaultfs::fs::FileSystem;
use vaultfs::fs::xfs::Xfs;
use vaultfs::image::ReadAt;

use crate::common::Random;
use crate::files::{self, can_loop_mount};
use crate::fill;
use crate::hostile::{Patched, walk};
use crate::images::{Image, seal};
use crate::version4;

/// Bytes of a block in these images: small, so that little content makes deep trees.
pub const BLOCK: usize = 1024;
/// Bytes of an inode.
pub const INODE: usize = 512;

/// Kinds of metadata, as their magics tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Superblock,
    Inode,
    DirectoryBlock,
    DirectoryData,
    DirectoryLeaf,
    Node,
    AttributeLeaf,
    ExtentTree,
    Remote,
}

/// A structure of metadata in an image.
#[derive(Debug, Clone)]
pub struct Structure {
    pub kind: Kind,
    pub range: Range<usize>,
    pub crc_at: Option<usize>,
}

/// Changes a structure, and makes its checksum fit; gives the bytes that were there.
pub fn change_sealed(memory: &Patched, structure: &Structure, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut bytes = memory.get(structure.range.clone());
    change(&mut bytes);
    if let Some(crc_at) = structure.crc_at {
        seal(&mut bytes, crc_at);
    }
    memory.write(structure.range.start, &bytes)
}

/// Finds metadata by its magics.
pub fn structures(memory: &Patched, version_5: bool) -> Vec<Structure> {
    memory.look(|bytes| structures_in(bytes, version_5))
}

fn structures_in(bytes: &[u8], version_5: bool) -> Vec<Structure> {
    let mut found = vec![Structure {
        kind: Kind::Superblock,
        range: 0..512,
        crc_at: version_5.then_some(224),
    }];
    for at in (0..bytes.len()).step_by(INODE) {
        let inode = &bytes[at..at + INODE];
        if inode.starts_with(b"IN") && inode[2..4] != [0, 0] && inode[4] == if version_5 { 3 } else { 2 } {
            found.push(Structure {
                kind: Kind::Inode,
                range: at..at + INODE,
                crc_at: version_5.then_some(100),
            });
        }
    }
    for at in (BLOCK..bytes.len()).step_by(BLOCK) {
        let block = &bytes[at..at + BLOCK];
        let kind = match (&block[..4], &block[8..10]) {
            (b"XD2B" | b"XDB3", _) => (Kind::DirectoryBlock, 4),
            (b"XD2D" | b"XDD3", _) => (Kind::DirectoryData, 4),
            (b"BMAP" | b"BMA3", _) => (Kind::ExtentTree, 64),
            (b"XARM" | b"XSLM", _) => (Kind::Remote, 12),
            (_, [0xd2 | 0x3d, 0xf1 | 0xff]) => (Kind::DirectoryLeaf, 12),
            (_, [0xfe | 0x3e, 0xbe]) => (Kind::Node, 12),
            (_, [0xfb | 0x3b, 0xee]) => (Kind::AttributeLeaf, 12),
            _ => continue,
        };
        // A target may fill two blocks, and its checksum is that of both.
        let len = if block.starts_with(b"XSLM") && block[10..12] > [3, 0xc8][..] {
            2 * BLOCK
        } else {
            BLOCK
        };
        found.push(Structure {
            kind: kind.0,
            range: at..at + len,
            crc_at: version_5.then_some(kind.1),
        });
    }
    found
}

/// Little of everything, in as few inodes as can be, so that a walk through all of it is short.
pub fn little_of_everything(root: &Path) {
    for count in [2, 20, 100, 700] {
        fill::names(&root.join(format!("{count} names")), count);
    }
    let block = BLOCK as u64;
    let file = File::create(root.join("many extents")).unwrap();
    for index in 0..400 {
        file.write_all_at(b"x", index * 2 * block).unwrap();
    }
    let file = File::create(root.join("reserved")).unwrap();
    rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, 20 * block).unwrap();
    file.write_all_at(b"x", 5 * block).unwrap();
    File::create(root.join("sparse")).unwrap().set_len(1 << 50).unwrap();
    fs::write(root.join("plain"), vec![1; 5000]).unwrap();
    symlink("short", root.join("short link")).unwrap();
    symlink("long/".repeat(200), root.join("long link")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.join("null"),
        rustix::fs::FileType::CharacterDevice,
        rustix::fs::Mode::RUSR,
        rustix::fs::makedev(1, 3),
    )
    .unwrap();
    for (file, count, len) in [("one", 1, 10), ("few", 8, 60), ("many", 60, 100), ("large", 2, 5000)] {
        File::create(root.join(file)).unwrap();
        for index in 0..count {
            let name = format!("user.attribute {index}");
            rustix::fs::setxattr(root.join(file), name, &vec![b'v'; len], XattrFlags::empty()).unwrap();
        }
    }
}

/// A version 5 image of 20 MiB, filled by the kernel.
pub fn version_5() -> Arc<Patched> {
    let image = Image::new(20, "-b size=1024 -l size=4m");
    image.fill(little_of_everything);
    Patched::load(&image.path())
}

/// A version 4 image with the same sizes, filled by mkfs.xfs.
pub fn version_4() -> Arc<Patched> {
    let image = version4::small("-m crc=0 -b size=1024 -i size=512 -l size=4m");
    Patched::load(&image.path())
}

/// Opens and walks; gives the number of errors, or `None` if it did not open.
pub fn survive(memory: &Arc<Patched>) -> Option<usize> {
    let volume: Arc<dyn ReadAt> = Arc::clone(memory) as Arc<dyn ReadAt>;
    let fs: Arc<dyn FileSystem> = Arc::new(Xfs::open(Arc::clone(&volume)).ok()?);
    Some(walk(&fs, &volume))
}

/// Damages `rounds` times, and undoes it each time.
fn damage(memory: &Arc<Patched>, version_5: bool, rounds: u64, seed: u64) {
    // Kinds are equally likely, however many files there are.
    let mut kinds = HashMap::<Kind, Vec<Structure>>::new();
    for structure in structures(memory, version_5) {
        kinds.entry(structure.kind).or_default().push(structure);
    }
    let mut kinds: Vec<(Kind, Vec<Structure>)> = kinds.into_iter().collect();
    kinds.sort_by_key(|(kind, _)| *kind);
    eprintln!(
        "{:?}",
        kinds
            .iter()
            .map(|(kind, of_kind)| (kind, of_kind.len()))
            .collect::<Vec<_>>()
    );
    assert_eq!(survive(memory), Some(0), "the image is sound before");
    let (began, mut random, mut errors, mut unopened) = (Instant::now(), Random::new(seed), 0, 0);
    for round in 0..rounds {
        let mut undo = Vec::new();
        for _ in 0..=random.below(3) {
            let (_, of_kind) = random.pick(&kinds);
            let mut structure = random.pick(of_kind).clone();
            if random.below(4) == 0 {
                structure.crc_at = None;
            }
            let old = change_sealed(memory, &structure, |bytes| {
                for _ in 0..=random.below(6) {
                    change(&mut random, bytes);
                }
            });
            undo.push((structure.range.start, old));
        }
        match survive(memory) {
            Some(met) => errors += usize::from(met > 0),
            None => unopened += 1,
        }
        for (at, old) in undo.into_iter().rev() {
            memory.write(at, &old);
        }
        if round % 1000 == 999 {
            assert_eq!(survive(memory), Some(0), "everything is undone");
        }
    }
    let elapsed = began.elapsed();
    let speed = rounds as f64 / elapsed.as_secs_f64();
    eprintln!(
        "{rounds} damaged images in {elapsed:.1?}, {speed:.0} a second: {errors} with errors, {unopened} not opened"
    );
    assert!(errors > usize::try_from(rounds / 3).unwrap(), "the damage is met");
}

/// Changes one field: mostly near the beginning, where headers are.
fn change(random: &mut Random, bytes: &mut [u8]) {
    let reach = if random.below(2) == 0 { bytes.len() } else { 128 };
    let at = usize::try_from(random.below(reach as u64)).unwrap();
    let other = usize::try_from(random.below(bytes.len() as u64)).unwrap();
    let new = match random.below(8) {
        0 => vec![bytes[at] ^ 1 << random.below(8)],
        1 => vec![0],
        2 => vec![0xff],
        3 => vec![0xff; 4],
        4 => vec![0; 4],
        // A number that belongs elsewhere: more likely to be believed than a random one.
        5 => bytes[other..bytes.len().min(other + 8)].to_vec(),
        6 => vec![bytes[at].wrapping_add(1)],
        _ => random.bytes(3),
    };
    for (at, new) in (at..bytes.len()).zip(new) {
        bytes[at] = new;
    }
}

#[test]
fn every_damaged_xfs_image_is_survived() {
    if !can_loop_mount() {
        return;
    }
    let version_5 = version_5();
    damage(&version_5, true, 10_000, 0x5846_5301);
    let version_4 = version_4();
    damage(&version_4, false, 10_000, 0x5846_5302);
}

#[test]
#[ignore = "soak: 200,000 damaged images"]
fn soak_many_damaged_xfs_images_are_survived() {
    if !can_loop_mount() {
        return;
    }
    let seed = Random::new(std::process::id().into()).next();
    damage(&version_5(), true, 100_000, seed);
    damage(&version_4(), false, 100_000, seed);
}

/// The records of a log, each with its headers and body, as far as they do not go over the end of the log.
fn records(bytes: &[u8]) -> Vec<Range<usize>> {
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let mut found = Vec::new();
    for at in (0..bytes.len()).step_by(512) {
        if number(at) == 0xfeed_babe && number(at + 12) > 512 {
            let end = at + headers(&bytes[at..]) * 512 + number(at + 12);
            found.push(at..end.min(bytes.len()));
        }
    }
    found
}

/// Blocks of header of a record.
fn headers(record: &[u8]) -> usize {
    u32::from_be_bytes(record[320..324].try_into().unwrap()).div_ceil(32 << 10) as usize
}

/// Makes the checksum of a record fit.
fn seal_record(record: &mut [u8]) {
    let len = u32::from_be_bytes(record[12..16].try_into().unwrap()) as usize;
    let body = headers(record) * 512;
    record[32..36].fill(0);
    let mut crc = vaultfs::checksum::crc32c(!0, &record[..328]);
    for part in 1..len.div_ceil(32 << 10) {
        crc = vaultfs::checksum::crc32c(crc, &record[part * 512..part * 512 + 260]);
    }
    crc = vaultfs::checksum::crc32c(crc, &record[body..body + len]);
    record[32..36].copy_from_slice(&(!crc).to_le_bytes());
}

/// Changes something in the body of a record where formats are, and what they describe.
fn change_record(random: &mut Random, record: &mut [u8]) {
    let body = headers(record) * 512;
    let item = (body..record.len() - 64).step_by(4).filter(|at| {
        // Kinds of items, inodes and blocks among the words.
        matches!(record[at + 1], 0x12) && (0x36..0x4a).contains(&record[*at]) || record[*at..].starts_with(b"NI")
    });
    let places: Vec<usize> = item.collect();
    for _ in 0..=random.below(4) {
        let at = match random.below(4) {
            0 => body + usize::try_from(random.below((record.len() - body) as u64)).unwrap(),
            _ if places.is_empty() => body,
            _ => random.pick(&places) + usize::try_from(random.below(64)).unwrap(),
        };
        // The first word of each block is the cycle: with another the record is none.
        if at % 512 >= 4 && at < record.len() {
            record[at] = match random.below(4) {
                0 => 0,
                1 => 0xff,
                2 => record[at].wrapping_add(1),
                _ => random.next().to_le_bytes()[0],
            };
        }
    }
}

/// A little of everything on a file system that went down, with much of it in the log only.
pub fn with_log() -> Image {
    let image = Image::new(20, "-b size=1024 -l size=4m");
    image.fill(|root| {
        little_of_everything(root);
        files::run(&["xfs_io", "-x", "-c", "shutdown -f", root.to_str().unwrap()]);
    });
    image
}

#[test]
fn every_damaged_log_is_survived() {
    if !can_loop_mount() {
        return;
    }
    let image = with_log();
    let memory = Patched::load(&image.path());
    let records = memory.look(records);
    assert_eq!(survive(&memory), Some(0), "the image is sound before");
    let (began, mut random, mut replayed, mut errors) = (Instant::now(), Random::new(0x5846_5303), 0, 0);
    for _ in 0..4000 {
        let range = random.pick(&records).clone();
        let old = memory.get(range.clone());
        let mut record = old.clone();
        change_record(&mut random, &mut record);
        seal_record(&mut record);
        memory.write(range.start, &record);
        errors += usize::from(survive(&memory).unwrap() > 0);
        let fs = Xfs::open(Arc::clone(&memory) as Arc<dyn ReadAt>).unwrap();
        replayed += usize::from(fs.summary().notes[0].contains("replayed in memory"));
        memory.write(range.start, &old);
    }
    eprintln!(
        "{} records; 4000 damaged logs in {:.1?}: {replayed} replayed, {errors} with errors",
        records.len(),
        began.elapsed()
    );
    assert!(
        replayed > 500 && replayed < 3800,
        "damage is met, some of it far inside"
    );
}
