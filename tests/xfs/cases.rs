//! The cases of the threat model, each made from a sound image: what is damaged gives an error, and all else stays readable.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vaultfs::fs::xfs::Xfs;
use vaultfs::fs::{Error, FileSystem, Inode};
use vaultfs::image::ReadAt;

use crate::damage::{BLOCK, Kind, Structure, change_sealed, structures, survive, version_5};
use crate::files::{self, assert_same, can_loop_mount};
use crate::hostile::Patched;
use crate::images::{Image, kernels, open, ours, seal};

fn reader(memory: &Arc<Patched>) -> Xfs {
    Xfs::open(Arc::clone(memory) as Arc<dyn ReadAt>).unwrap()
}

fn find(fs: &Xfs, name: &str) -> Inode {
    fs.lookup(fs.root(), name.as_bytes()).unwrap().unwrap()
}

/// The inode of a number, by the number that it has in itself.
fn inode_of(memory: &Patched, inode: Inode) -> Structure {
    let all = structures(memory, true);
    let is_it = |structure: &&Structure| {
        let at = structure.range.start;
        structure.kind == Kind::Inode && memory.get(at + 152..at + 160) == inode.0.to_be_bytes()
    };
    all.iter().find(is_it).unwrap().clone()
}

/// Blocks of a kind that belong to an inode.
fn blocks_of(memory: &Patched, kind: Kind, owner_at: usize, inode: Inode) -> Vec<Structure> {
    let mut all = structures(memory, true);
    all.retain(|structure| {
        let at = structure.range.start + owner_at;
        structure.kind == kind && memory.get(at..at + 8) == inode.0.to_be_bytes()
    });
    all
}

fn is_corrupt<T>(result: Result<T, Error>) -> bool {
    matches!(result, Err(Error::Corrupt { .. }))
}

#[test]
fn impossible_superblocks_are_refused() {
    if !can_loop_mount() {
        return;
    }
    let memory = version_5();
    // Offset of a field, and values that no superblock has.
    let cases: [(usize, &[&[u8]]); 14] = [
        (0, &[b"XFSA"]),
        (4, &[&[0; 4], &[0xff; 4], &1025_u32.to_be_bytes()]),
        (
            8,
            &[&[0; 8], &[0xff; 8], &(1_u64 << 63).to_be_bytes(), &1_u64.to_be_bytes()],
        ),
        (
            84,
            &[&[0; 4], &[0xff; 4], &1_u32.to_be_bytes(), &(1_u32 << 31).to_be_bytes()],
        ),
        (88, &[&[0; 4], &[0xff; 4], &1000_u32.to_be_bytes()]),
        (100, &[&[0, 0], &[0xff, 0xff], &[0xb4, 0xa3], &[0xb4, 0xa6]]),
        (102, &[&[0, 0], &[0xff, 0xff], &[0x80, 0]]),
        (104, &[&[0, 0], &[0xff, 0xff], &[0x40, 0]]),
        (120, &[&[0], &[8], &[17], &[63], &[64], &[0xff]]),
        (121, &[&[0], &[16], &[64], &[0xff]]),
        (122, &[&[0], &[7], &[12], &[0xff]]),
        (123, &[&[0], &[63], &[0xff]]),
        (124, &[&[0], &[31], &[32], &[63], &[64], &[0xff]]),
        (192, &[&[7], &[0xff]]),
    ];
    let superblock = &structures(&memory, true)[0];
    for (at, values) in cases {
        for value in values {
            let old = change_sealed(&memory, superblock, |bytes| {
                bytes[at..at + value.len()].copy_from_slice(value)
            });
            let opened = Xfs::open(Arc::clone(&memory) as Arc<dyn ReadAt>);
            assert!(opened.is_err(), "{value:x?} at {at}");
            memory.write(0, &old);
        }
    }
    assert_eq!(survive(&memory), Some(0));
}

#[test]
fn volumes_that_are_cut_off_are_refused_or_give_errors() {
    if !can_loop_mount() {
        return;
    }
    let image = Image::new(20, "-b size=1024 -l size=4m");
    image.fill(crate::damage::little_of_everything);
    for len in [0, 1, 100, 511, 512, 4096, 70_000, 1 << 20, 10 << 20] {
        File::options()
            .write(true)
            .open(image.path())
            .unwrap()
            .set_len(len)
            .unwrap();
        let volume = files::volume(&image.path());
        if let Ok(fs) = Xfs::open(Arc::clone(&volume)) {
            let fs: Arc<dyn FileSystem> = Arc::new(fs);
            crate::hostile::walk(&fs, &volume);
        }
        File::options()
            .write(true)
            .open(image.path())
            .unwrap()
            .set_len(20 << 20)
            .unwrap();
    }
}

#[test]
fn a_log_that_cannot_be_is_damage_of_the_log_only() {
    if !can_loop_mount() {
        return;
    }
    let memory = version_5();
    let superblock = structures(&memory, true)[0].clone();
    let cases: [(usize, &[u8]); 6] = [
        (96, &[0xff; 4]),
        (96, &[0; 4]),
        (48, &[0xff; 8]),
        (48, &(1_u64 << 40).to_be_bytes()),
        (48, &3_u64.to_be_bytes()),
        (96, &1_u32.to_be_bytes()),
    ];
    for (at, value) in cases {
        let old = change_sealed(&memory, &superblock, |bytes| {
            bytes[at..at + value.len()].copy_from_slice(value)
        });
        let fs = reader(&memory);
        assert_eq!(fs.summary().notes.len(), 1, "{value:x?} at {at}: {:?}", fs.summary());
        assert_eq!(survive(&memory), Some(0));
        memory.write(0, &old);
    }
    let old = change_sealed(&memory, &superblock, |bytes| bytes[48..56].fill(0));
    assert!(reader(&memory).summary().notes[0].contains("another device"));
    memory.write(0, &old);
}

#[test]
fn a_negative_size_is_damage_of_that_inode_only() {
    if !can_loop_mount() {
        return;
    }
    let memory = version_5();
    let fs = reader(&memory);
    for name in ["plain", "100 names", "long link"] {
        let inode = find(&fs, name);
        let structure = inode_of(&memory, inode);
        let old = change_sealed(&memory, &structure, |bytes| {
            bytes[56..64].copy_from_slice(&(1_u64 << 63).to_be_bytes())
        });
        assert!(is_corrupt(fs.attr(inode)), "{name}");
        assert!(survive(&memory).unwrap() >= 1);
        memory.write(structure.range.start, &old);
    }
    assert_eq!(survive(&memory), Some(0));
}

#[test]
fn a_largest_size_costs_nothing() {
    if !can_loop_mount() {
        return;
    }
    let memory = version_5();
    let fs = reader(&memory);
    let inode = find(&fs, "many extents");
    let structure = inode_of(&memory, inode);
    change_sealed(&memory, &structure, |bytes| {
        bytes[56..64].copy_from_slice(&(u64::MAX >> 1).to_be_bytes())
    });
    let began = Instant::now();
    let extents = fs.extents(inode, (1 << 62)..u64::MAX).unwrap();
    let last = extents.last().unwrap();
    assert_eq!(last.start + last.len, u64::MAX >> 1);
    assert!(began.elapsed() < Duration::from_millis(100));
}

#[test]
fn circles_in_extent_trees_are_damage() {
    if !can_loop_mount() {
        return;
    }
    let memory = version_5();
    let fs = reader(&memory);
    let inode = find(&fs, "many extents");
    let blocks = blocks_of(&memory, Kind::ExtentTree, 56, inode);
    let mut leaves: Vec<Structure> = blocks.clone();
    leaves.retain(|block| memory.get(block.range.start + 4..block.range.start + 6) == [0, 0]);
    assert!(leaves.len() > 3, "{}", leaves.len());
    // Each leaf goes on with itself: whoever reads past its end meets its beginning again.
    let mut undo = Vec::new();
    for leaf in &leaves {
        let number = leaf.range.start / BLOCK;
        let ag_blocks = u64::from(u32::from_be_bytes(memory.get(84..88).try_into().unwrap()));
        let ag_log = u64::from(memory.get(124..125)[0]);
        let number = ((number as u64 / ag_blocks) << ag_log) | (number as u64 % ag_blocks);
        let old = change_sealed(&memory, leaf, |bytes| {
            bytes[16..24].copy_from_slice(&number.to_be_bytes())
        });
        undo.push((leaf.range.start, old));
    }
    assert!(is_corrupt(fs.extents(inode, 0..1 << 40)));
    assert!(fs.extents(inode, 0..1).is_ok(), "what comes before is readable");
    for (at, old) in undo {
        memory.write(at, &old);
    }
    // The root has another height than what is below it.
    let structure = inode_of(&memory, inode);
    let height = memory.get(structure.range.start + 176..structure.range.start + 178);
    let height = u16::from_be_bytes(height.try_into().unwrap());
    for level in [height - 1, height + 1, 9, 16, 0, 0xffff] {
        let old = change_sealed(&memory, &structure, |bytes| {
            bytes[176..178].copy_from_slice(&level.to_be_bytes())
        });
        let answer = fs.extents(inode, 0..1);
        assert!(matches!(answer, Err(Error::Corrupt { .. })), "{level}: {answer:?}");
        memory.write(structure.range.start, &old);
    }
}

#[test]
fn circles_in_hash_trees_do_not_hide_names() {
    if !can_loop_mount() {
        return;
    }
    let memory = version_5();
    let fs = reader(&memory);
    let dir = find(&fs, "700 names");
    let name = crate::fill::name(444);
    let found = fs.lookup(dir, name.as_bytes()).unwrap();
    assert!(found.is_some());
    let nodes = blocks_of(&memory, Kind::Node, 48, dir);
    assert_eq!(nodes.len(), 1);
    // Every child of the node is the node itself.
    let old = change_sealed(&memory, &nodes[0], |bytes| {
        let root = ((1_u64 << 35) / BLOCK as u64) as u32;
        bytes[64..]
            .chunks_exact_mut(8)
            .for_each(|entry| entry[4..].copy_from_slice(&root.to_be_bytes()));
    });
    assert_eq!(fs.lookup(dir, name.as_bytes()).unwrap(), found);
    assert_eq!(fs.lookup(dir, b"nothing").unwrap(), None);
    memory.write(nodes[0].range.start, &old);
    // Every leaf goes on with the first, and all hashes are the same.
    let mut undo = Vec::new();
    for leaf in blocks_of(&memory, Kind::DirectoryLeaf, 48, dir) {
        let old = change_sealed(&memory, &leaf, |bytes| {
            let first = ((1_u64 << 35) / BLOCK as u64) as u32 + 1;
            bytes[..4].copy_from_slice(&first.to_be_bytes());
            bytes[64..].chunks_exact_mut(8).for_each(|entry| entry[..4].fill(0xff));
        });
        undo.push((leaf.range.start, old));
    }
    let began = Instant::now();
    assert_eq!(fs.lookup(dir, &[0xff; 200]).unwrap(), None);
    let _ = fs.lookup(dir, name.as_bytes());
    assert!(began.elapsed() < Duration::from_secs(1));
    assert!(survive(&memory).is_some());
    for (at, old) in undo {
        memory.write(at, &old);
    }
    assert_eq!(survive(&memory), Some(0));
}

#[test]
fn circles_of_attribute_leaves_are_damage() {
    if !can_loop_mount() {
        return;
    }
    let memory = version_5();
    let fs = reader(&memory);
    let inode = find(&fs, "many");
    let leaves = blocks_of(&memory, Kind::AttributeLeaf, 48, inode);
    assert!(leaves.len() > 1);
    for same in [false, true] {
        let mut undo = Vec::new();
        for leaf in &leaves {
            let old = change_sealed(&memory, leaf, |bytes| {
                bytes[..4].copy_from_slice(&1_u32.to_be_bytes());
                if same {
                    // No entries: nothing whose order could be wrong.
                    bytes[56..58].fill(0);
                }
            });
            undo.push((leaf.range.start, old));
        }
        let began = Instant::now();
        assert!(is_corrupt(fs.xattrs(inode)));
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        for (at, old) in undo {
            memory.write(at, &old);
        }
    }
    assert_eq!(survive(&memory), Some(0));
}

#[test]
fn a_number_that_is_no_inode_fails() {
    if !can_loop_mount() {
        return;
    }
    let memory = version_5();
    let fs = reader(&memory);
    let root = fs.root().0;
    for number in [
        0,
        1,
        root - 1,
        root + 63,
        root + 100_000,
        1 << 31,
        1 << 32,
        1 << 63,
        u64::MAX,
    ] {
        let inode = Inode(number);
        let attr = fs.attr(inode);
        assert!(
            matches!(attr, Err(Error::Corrupt { .. } | Error::NoInode { .. })),
            "{number}: {attr:?}"
        );
        assert!(fs.xattrs(inode).is_err() && fs.read_link(inode).is_err());
        assert!(fs.lookup(inode, b"name").is_err() && fs.extents(inode, 0..1).is_err());
        assert!(fs.read_dir(inode, 0, &mut |_| true).is_err());
    }
}

#[test]
fn an_operation_for_another_type_is_refused() {
    if !can_loop_mount() {
        return;
    }
    let memory = version_5();
    let fs = reader(&memory);
    let (file, link, device) = (find(&fs, "plain"), find(&fs, "short link"), find(&fs, "null"));
    let wrong = |result: Result<(), Error>| matches!(result, Err(Error::WrongType { .. }));
    for inode in [link, device, fs.root()] {
        assert!(wrong(fs.extents(inode, 0..1).map(drop)));
    }
    for inode in [file, device, fs.root()] {
        assert!(wrong(fs.read_link(inode).map(drop)));
    }
    for inode in [file, device, link] {
        assert!(wrong(fs.lookup(inode, b"name").map(drop)));
        assert!(wrong(fs.read_dir(inode, 0, &mut |_| true)));
    }
}

#[test]
fn every_changed_bit_of_a_checked_structure_is_found() {
    if !can_loop_mount() {
        return;
    }
    let memory = version_5();
    for structure in structures(&memory, true) {
        if structure.kind == Kind::Remote || structure.kind == Kind::Superblock {
            continue;
        }
        let at = structure.range.end - 5;
        let old = memory.get(at..at + 1);
        memory.write(at, &[old[0] ^ 0x10]);
        let errors = survive(&memory).unwrap();
        // The kernel keeps inodes that no name leads to, and blocks that were freed keep their magic.
        let unused = errors == 0;
        let fs = reader(&memory);
        let is_root = structure.range.contains(&(usize::try_from(fs.root().0).unwrap() * 512));
        assert!(!(unused && is_root), "{structure:?}");
        memory.write(at, &old);
    }
}

#[test]
fn a_file_on_the_realtime_device_is_unsupported() {
    if !can_loop_mount() {
        return;
    }
    let memory = version_5();
    let fs = reader(&memory);
    let inode = find(&fs, "plain");
    let structure = inode_of(&memory, inode);
    change_sealed(&memory, &structure, |bytes| bytes[91] |= 1);
    match fs.extents(inode, 0..1) {
        Err(Error::Unsupported { feature }) => assert!(feature.contains("realtime"), "{feature}"),
        other => panic!("{other:?}"),
    }
    assert!(fs.attr(inode).is_ok());
}

#[test]
fn a_directory_with_a_damaged_block_gives_the_names_before_it() {
    if !can_loop_mount() {
        return;
    }
    let memory = version_5();
    let fs = reader(&memory);
    let dir = find(&fs, "700 names");
    let mut blocks = blocks_of(&memory, Kind::DirectoryData, 40, dir);
    blocks.sort_by_key(|block| block.range.start);
    let last = blocks.last().unwrap();
    let mut bytes = memory.get(last.range.clone());
    bytes[64] ^= 1;
    memory.write(last.range.start, &bytes);
    let mut names = BTreeSet::new();
    let listed = fs.read_dir(dir, 0, &mut |entry| names.insert(entry.name.to_vec()));
    assert!(is_corrupt(listed));
    assert!(names.len() > 100 && names.len() < 700, "{}", names.len());
    for name in &names {
        assert!(fs.lookup(dir, name).unwrap().is_some());
    }
    // With a checksum that fits, only an entry is wrong.
    seal(&mut bytes, 4);
    memory.write(last.range.start, &bytes);
    assert!(survive(&memory).is_some());
}

#[test]
fn names_of_one_hash_are_all_found() {
    if !can_loop_mount() {
        return;
    }
    let image = Image::new(320, "");
    image.fill(|root| {
        let dir = root.join("names");
        fs::create_dir(&dir).unwrap();
        let first = dir.join("first");
        File::create(&first).unwrap();
        for index in 0..1200_u32 {
            // The lowest bit of a byte and the highest of the next cancel each other in the hash.
            let mut name = b"aaaaaaaaaaaaaaaaaaaaaaaa".to_vec();
            for bit in (0..11).filter(|bit| index >> bit & 1 != 0) {
                name[2 * bit] ^= 1;
                name[2 * bit + 1] ^= 0x80;
            }
            fs::hard_link(&first, dir.join(OsStr::from_bytes(&name))).unwrap();
        }
    });
    assert_same(&ours(&image.path()), &kernels(&image.path()), "names of one hash");
    let (fs, _) = open(&image.path());
    let dir = fs.lookup(fs.root(), b"names").unwrap().unwrap();
    let began = Instant::now();
    assert_eq!(fs.lookup(dir, b"aaaaaaaaaaaaaaaaaaaaaaac").unwrap(), None);
    assert!(began.elapsed() < Duration::from_millis(200));
}
