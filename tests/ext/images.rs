//! Images of many feature sets, filled through the kernel, read by both.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::print_stderr,
    unreachable_pub
)]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;
use vaultfs::fs::FileSystem;
use vaultfs::fs::ext::Ext;

use crate::content;
use crate::files::{self, LoopMount, assert_same, can_loop_mount, run, tree_of, tree_of_directory};

/// An image file in a directory of its own.
pub struct Image {
    pub dir: TempDir,
    pub path: PathBuf,
}

impl Image {
    /// Makes an empty file system with the words of `options` given to mke2fs, and those after a bar to tune2fs.
    pub fn new(size: u64, options: &str) -> Self {
        let dir = fast_dir();
        let path = dir.path().join("image");
        File::create(&path).unwrap().set_len(size).unwrap();
        let mut words = vec!["mke2fs", "-q", "-F"];
        let (make, tune) = options.split_once('|').unwrap_or((options, ""));
        words.extend(make.split_whitespace());
        words.push(path.to_str().unwrap());
        run(&words);
        if !tune.is_empty() {
            let mut words = vec!["tune2fs"];
            words.extend(tune.split_whitespace());
            words.push(path.to_str().unwrap());
            run(&words);
        }
        Self { dir, path }
    }

    /// Makes a file system and what [`content::fill`] makes in it.
    pub fn filled(size: u64, options: &str) -> Self {
        let image = Self::new(size, options);
        let mount = LoopMount::new(&image.path, "noatime");
        content::fill(mount.path());
        mount.unmount();
        image
    }
}

/// A directory for images: in memory where that can be, since every unmount waits for the disk.
pub fn fast_dir() -> TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

/// Opens an image with the reader.
pub fn open(path: &Path) -> Arc<dyn FileSystem> {
    Arc::new(Ext::open(files::volume(path)).unwrap_or_else(|error| panic!("{error:?}")))
}

/// Compares the reader with the kernel on an image that has nothing to recover.
pub fn compare(path: &Path, name: &str) {
    let fs = open(path);
    let ours = tree_of(&fs, &files::volume(path));
    let mount = LoopMount::new(path, "ro,noatime");
    let kernels = tree_of_directory(mount.path());
    assert!(!kernels.is_empty());
    assert_same(&ours, &kernels, name);
    assert_eq!(fs.summary().notes, Vec::<String>::new(), "{name}");
}

/// Feature sets: size in MiB, and words for mke2fs.
const KINDS: &[(u64, &str)] = &[
    (48, "-t ext2 -b 4096"),
    (48, "-t ext2 -b 1024 -O ^dir_index"),
    (48, "-t ext2 -r 0 -O none -b 4096"),
    (64, "-t ext3"),
    (64, "-t ext3 -b 1024 -I 128"),
    (64, "-t ext3 -b 2048 -O ^sparse_super,^resize_inode"),
    (64, "-t ext4 -b 4096"),
    (64, "-t ext4 -b 1024"),
    (64, "-t ext4 -b 2048 -I 512"),
    (64, "-t ext4 -b 4096 -I 1024"),
    (64, "-t ext4 -I 128 -b 4096"),
    (64, "-t ext4 -O ^metadata_csum,uninit_bg"),
    (64, "-t ext4 -O ^metadata_csum,uninit_bg,64bit -b 4096"),
    (64, "-t ext4 -O ^metadata_csum,^uninit_bg,^64bit -b 4096"),
    (64, "-t ext4 -O ^64bit"),
    (
        64,
        "-t ext4 -O metadata_csum_seed -U 01234567-89ab-cdef-0123-456789abcdef",
    ),
    (64, "-t ext4 -b 1024 -g 1024 -O meta_bg,^resize_inode"),
    (
        64,
        "-t ext4 -b 1024 -g 1024 -O meta_bg,^resize_inode,^64bit,^metadata_csum",
    ),
    (64, "-t ext4 -O bigalloc -C 16384 -b 4096"),
    (64, "-t ext4 -b 1024 -O bigalloc -C 8192"),
    (64, "-t ext4 -O inline_data"),
    (64, "-t ext4 -b 1024 -I 512 -O inline_data,^metadata_csum"),
    (64, "-t ext4 -O large_dir -b 1024"),
    (64, "-t ext4 -O ea_inode -b 4096"),
    (64, "-t ext4 -O ea_inode,inline_data -b 1024"),
    (64, "-t ext4 -O ^flex_bg -b 4096"),
    (64, "-t ext4 -O ^extents,^64bit"),
    (64, "-t ext4 -O ^dir_index -b 4096"),
    (64, "-t ext4 -O ^huge_file,^dir_nlink,^extra_isize -b 4096"),
    (64, "-t ext4 -O mmp"),
    (64, "-t ext4 -O sparse_super2,^resize_inode -b 1024 -g 4096"),
    (64, "-t ext4 -O encrypt -b 4096"),
    (64, "-t ext4 -O verity,stable_inodes -b 4096"),
    (64, "-t ext4 -O orphan_file"),
    (64, "-t ext4 -O fast_commit -b 4096"),
    (64, "-t ext4 -O ^has_journal -b 4096"),
    (64, "-t ext4 -O ^filetype"),
    (64, "-t ext4 -E packed_meta_blocks=1 -b 4096"),
    (64, "-t ext4 -b 1024 -E hash_seed=00000000-0000-0000-0000-000000000000"),
    (64, "-t ext4 -b 1024 -O inline_data,extents,metadata_csum"),
    (
        64,
        "-t ext4 -b 4096 -O bigalloc,inline_data,ea_inode,large_dir,metadata_csum_seed,orphan_file -C 65536",
    ),
    (64, "-t ext4 -b 4096 | -E hash_alg=tea"),
    (64, "-t ext4 -b 1024 | -E hash_alg=legacy"),
];

#[test]
fn an_image_with_quotas_is_as_the_kernel_shows_it() {
    if !can_loop_mount() {
        return;
    }
    // Quotas cannot be kept up by every kernel, and are no matter to one that reads only.
    let image = Image::filled(64 << 20, "-t ext4");
    run(&["tune2fs", "-O", "quota,project", image.path.to_str().unwrap()]);
    compare(&image.path, "quota");
}

/// Compares every kind whose place in the list leaves this rest by 4, so that tests run side by side.
fn compare_kinds(rest: usize) {
    if !can_loop_mount() {
        return;
    }
    for (size, options) in KINDS.iter().skip(rest).step_by(4) {
        let began = std::time::Instant::now();
        let image = Image::filled(size << 20, options);
        compare(&image.path, options);
        eprintln!("{options}: {:?}", began.elapsed());
    }
}

#[test]
fn images_of_many_kinds_are_as_the_kernel_shows_them_1() {
    compare_kinds(0);
}

#[test]
fn images_of_many_kinds_are_as_the_kernel_shows_them_2() {
    compare_kinds(1);
}

#[test]
fn images_of_many_kinds_are_as_the_kernel_shows_them_3() {
    compare_kinds(2);
}

#[test]
fn images_of_many_kinds_are_as_the_kernel_shows_them_4() {
    compare_kinds(3);
}
