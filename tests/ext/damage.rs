//! Damaged images: thousands of random changes to metadata, each followed by a walk of everything that can be reached.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::print_stderr,
    unreachable_pub
)]

use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, XattrFlags};
use vaultfs::fs::ext::Ext;
use vaultfs::fs::{FileSystem, FileType, Place};
use vaultfs::image::ReadAt;

use crate::common::Random;
use crate::files::{LoopMount, can_loop_mount};
use crate::hostile::{Patched, walk};
use crate::images::Image;

/// A little of everything, so that a walk takes a millisecond.
fn fill(root: &Path, is_fast: bool) {
    let mut random = Random::quiet(4);
    for (dir, count) in [("large", 120), ("small", 3)] {
        fs::create_dir(root.join(dir)).unwrap();
        for index in 0..count {
            File::create(root.join(dir).join(format!("{index} with a name of some length"))).unwrap();
        }
    }
    for size in [10, 100, 3000] {
        fs::write(root.join(format!("file {size}")), random.bytes(size)).unwrap();
    }
    let many = File::create(root.join("many")).unwrap();
    for index in 0..400 {
        many.write_all_at(&[1], index * 3000).unwrap();
    }
    let some = File::create(root.join("some")).unwrap();
    for index in 0..100 {
        some.write_all_at(&[1], index * 3000).unwrap();
    }
    let hole = File::create(root.join("hole")).unwrap();
    hole.write_all_at(b"x", 1 << 30).unwrap();
    let space = File::create(root.join("space")).unwrap();
    let _ = rustix::fs::fallocate(&space, FallocateFlags::empty(), 0, 60_000);
    for len in [5, 59, 60, 200] {
        symlink("t".repeat(len), root.join(format!("link {len}"))).unwrap();
    }
    let set = |name: &str, value: &[u8]| {
        let _ = rustix::fs::lsetxattr(root.join("file 100"), name, value, XattrFlags::empty());
    };
    set("user.small", b"value");
    set("user.large", &[9; 500]);
    set("user.larger", &[9; 5000]);
    let _ = std::process::Command::new("setfacl")
        .args(["-m", "u:5:rw"])
        .arg(root.join("file 100"))
        .output();
    rustix::fs::syncfs(File::open(root).unwrap()).unwrap();
    // Where the kernel commits fast, this is in the area for that.
    let late = File::create(root.join("late")).unwrap();
    late.write_all_at(&[1; 3000], 9000).unwrap();
    late.sync_all().unwrap();
    for index in 0..20 {
        let _ = fs::remove_file(root.join(format!("large/{index} with a name of some length")));
    }
    if !is_fast {
        rustix::fs::syncfs(File::open(root).unwrap()).unwrap();
    }
}

/// Bytes of a small image, which may have been copied before it was unmounted.
pub fn image(options: &str, is_dirty: bool) -> Vec<u8> {
    let image = Image::new(6 << 20, options);
    let mount = LoopMount::new(&image.path, "noatime");
    fill(mount.path(), options.contains("fast_commit"));
    let dirty = fs::read(&image.path).unwrap();
    mount.unmount();
    if is_dirty {
        dirty
    } else {
        fs::read(&image.path).unwrap()
    }
}

/// Ranges of an image that are used and hold no content of files.
fn metadata(bytes: &[u8]) -> Vec<Range<usize>> {
    const BLOCK: usize = 1024;
    let volume: Arc<dyn ReadAt> = Patched::new(bytes.to_vec());
    let fs: Arc<dyn FileSystem> = Arc::new(Ext::open(volume).unwrap());
    let mut is_content = vec![false; bytes.len() / BLOCK];
    let mut waiting = vec![fs.root()];
    while let Some(inode) = waiting.pop() {
        let attr = fs.attr(inode).unwrap();
        match attr.file_type {
            FileType::Directory => fs
                .read_dir(inode, 0, &mut |entry| {
                    waiting.push(entry.inode);
                    true
                })
                .unwrap(),
            FileType::File => {
                let mut at = 0;
                while at < attr.size {
                    for extent in fs.extents(inode, at..attr.size).unwrap() {
                        if let Place::Volume(start) = extent.place {
                            let first = usize::try_from(start).unwrap() / BLOCK;
                            let count = usize::try_from(extent.len).unwrap().div_ceil(BLOCK);
                            is_content[first..first + count].fill(true);
                        }
                        at = extent.start + extent.len;
                    }
                }
            }
            _ => {}
        }
    }
    let is_used = |block: &usize| bytes[block * BLOCK..(block + 1) * BLOCK].iter().any(|byte| *byte != 0);
    let blocks = (0..is_content.len())
        .filter(|block| !is_content[*block])
        .filter(is_used);
    let mut ranges: Vec<_> = blocks.map(|block| block * BLOCK..(block + 1) * BLOCK).collect();
    // The fields that everything hangs from are met more often than by their size.
    for _ in 0..ranges.len() / 20 {
        ranges.push(1024..1024 + 0x180);
    }
    ranges
}

/// Damages an image many times; walks it each time.
fn survive(options: &str, is_dirty: bool, rounds: u64, seed: u64) {
    let bytes = image(options, is_dirty);
    let ranges = metadata(&bytes);
    let patched = Patched::new(bytes);
    let volume: Arc<dyn ReadAt> = Arc::<Patched>::clone(&patched);
    let (mut opened, mut errors, mut longest) = (0, 0, Duration::ZERO);
    let began = Instant::now();
    for round in 0..rounds {
        let mut random = Random::quiet(seed + round);
        let undo = patched.mutate(&mut random, &ranges);
        let start = Instant::now();
        if let Ok(fs) = Ext::open(Arc::clone(&volume)) {
            let fs: Arc<dyn FileSystem> = Arc::new(fs);
            opened += 1;
            errors += walk(&fs, &volume);
        }
        longest = longest.max(start.elapsed());
        patched.undo(undo);
    }
    eprintln!(
        "{options}, dirty {is_dirty}: seeds {seed}..+{rounds}, {opened} opened, {errors} errors, longest {longest:?}, {:.0} a second",
        f64::from(u32::try_from(rounds).unwrap()) / began.elapsed().as_secs_f64()
    );
    assert!(opened > rounds / 10, "hardly any image was looked into");
    assert!(errors > 0);
}

/// Options for mke2fs, and whether the image is dirty. Half are without checksums, so that damage gets deep.
const KINDS: [(&str, bool); 10] = [
    ("-t ext4 -b 1024 -O ^metadata_csum,^has_journal,^resize_inode", false),
    ("-t ext4 -b 1024 -O metadata_csum,^resize_inode -J size=1", true),
    ("-t ext4 -b 1024 -O ^metadata_csum,^64bit,^resize_inode -J size=1", true),
    (
        "-t ext4 -b 1024 -O metadata_csum,inline_data,^has_journal,^resize_inode",
        false,
    ),
    (
        "-t ext4 -b 1024 -O ^metadata_csum,inline_data,ea_inode,^has_journal,^resize_inode -I 256",
        false,
    ),
    ("-t ext2 -b 1024", false),
    (
        "-t ext4 -b 1024 -O metadata_csum,ea_inode,large_dir,meta_bg,^has_journal,^resize_inode -g 1024",
        false,
    ),
    ("-t ext3 -b 1024 -J size=1", true),
    (
        "-t ext4 -b 1024 -O fast_commit,^metadata_csum,^resize_inode -J size=2",
        true,
    ),
    (
        "-t ext4 -b 1024 -O fast_commit,metadata_csum,^resize_inode -J size=2",
        true,
    ),
];

/// Changes of each kind of image.
const ROUNDS: u64 = 2500;

fn survive_kinds(rest: usize) {
    if !can_loop_mount() {
        return;
    }
    for (index, (options, is_dirty)) in (0_u64..).zip(KINDS).skip(rest).step_by(2) {
        survive(options, is_dirty, ROUNDS, 1_000_000 * (index + 1));
    }
}

#[test]
fn every_damaged_ext_image_is_survived() {
    survive_kinds(0);
}

#[test]
fn every_damaged_ext_image_is_survived_2() {
    survive_kinds(1);
}

#[test]
#[ignore = "soak: 250,000 damaged images"]
fn soak_many_damaged_ext_images_are_survived() {
    if !can_loop_mount() {
        return;
    }
    for (index, (options, is_dirty)) in (0_u64..).zip(KINDS) {
        survive(options, is_dirty, 25_000, 1_000_000_000 + 1_000_000 * index);
    }
}
