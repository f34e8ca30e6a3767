//! Features that change what is on the volume after mkfs.xfs, sizes that need trees, and fields that stat(2) does not give.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::UNIX_EPOCH;

use rustix::fs::XattrFlags;
use vaultfs::fs::{Error, Inode};

use crate::common::Random;
use crate::files::{self, LoopMount, assert_same, can_loop_mount};
use crate::fill;
use crate::images::{Image, kernels, open, ours, seal};

/// Sets a bit of `sb_features_incompat` in a file system that is still empty.
fn set_incompat(image: &Image, bit: u32) {
    let file = File::options().read(true).write(true).open(image.path()).unwrap();
    let mut sector = [0; 512];
    file.read_exact_at(&mut sector, 0).unwrap();
    let old = u32::from_be_bytes(sector[216..220].try_into().unwrap());
    sector[216..220].copy_from_slice(&(old | 1 << bit).to_be_bytes());
    seal(&mut sector, 224);
    file.write_all_at(&sector, 0).unwrap();
}

#[test]
fn parent_pointers_are_hidden() {
    if !can_loop_mount() {
        return;
    }
    let image = Image::new(320, "");
    set_incompat(&image, 6);
    set_incompat(&image, 7);
    image.fill(|root| fill::everything(root, 4096));
    assert_same(&ours(&image.path()), &kernels(&image.path()), "parent pointers");
}

#[test]
fn a_changed_uuid_leaves_metadata_valid() {
    if !can_loop_mount() {
        return;
    }
    let image = Image::new(320, "");
    image.fill(|root| fill::everything(root, 4096));
    files::run(&["xfs_admin", "-U", "generate", image.path().to_str().unwrap()]);
    assert_same(&ours(&image.path()), &kernels(&image.path()), "uuid");
}

#[test]
fn an_unknown_incompatible_feature_is_refused_by_name() {
    for (bit, name) in [(9, "zoned"), (30, "bit 30")] {
        let image = Image::new(64, "");
        set_incompat(&image, bit);
        match vaultfs::fs::xfs::Xfs::open(files::volume(&image.path())) {
            Err(Error::Unsupported { feature }) => assert!(feature.contains(name), "{feature}"),
            other => panic!("{:?}", other.err()),
        }
    }
}

#[test]
fn a_mark_of_needed_repair_is_told() {
    let image = Image::new(64, "");
    set_incompat(&image, 4);
    let (fs, _) = open(&image.path());
    assert!(fs.summary().notes[0].contains("repair"), "{:?}", fs.summary());
}

#[test]
fn directories_of_thousands_read_as_the_kernel_reads_them() {
    if !can_loop_mount() {
        return;
    }
    for (options, count) in [("", 20_000), ("-b size=1024", 5000), ("-n size=65536", 5000)] {
        let image = Image::new(320, options);
        image.fill(|root| fragmented_directory(root, count));
        let format = image.db(&["path /names", "print core.format"]);
        assert!(
            format.contains("3 (btree)") || options.contains("65536"),
            "{options}: {format}"
        );
        assert_same(&ours(&image.path()), &kernels(&image.path()), options);
    }
}

/// Between its names files are written, so that the directory lies in many pieces.
fn fragmented_directory(root: &std::path::Path, count: u64) {
    let dir = root.join("names");
    fs::create_dir(&dir).unwrap();
    let mut random = Random::quiet(5);
    File::create(dir.join("first")).unwrap();
    for index in 0..count {
        let path = dir.join(fill::name(index));
        if index % 200 == 0 {
            fs::write(root.join(format!("between {index}")), random.bytes(5000)).unwrap();
            File::create(&path).unwrap();
        } else {
            fs::hard_link(dir.join("first"), &path).unwrap();
        }
    }
    let shrunk = root.join("shrunk");
    fill::names(&shrunk, count / 2);
    for index in (0..count / 2).filter(|index| !(1000..1100).contains(index)) {
        fs::remove_file(shrunk.join(fill::name(index))).unwrap();
    }
}

#[test]
#[ignore = "long: a directory of 200,000 names"]
fn directories_of_200_000_names_read_as_the_kernel_reads_them() {
    if !can_loop_mount() {
        return;
    }
    let image = Image::new(1024, "");
    image.fill(|root| fragmented_directory(root, 200_000));
    assert_same(&ours(&image.path()), &kernels(&image.path()), "200,000 names");
}

#[test]
fn files_of_many_thousand_extents_read_as_the_kernel_reads_them() {
    if !can_loop_mount() {
        return;
    }
    let image = Image::new(320, "-b size=1024 -m reflink=0");
    image.fill(|root| {
        let mut random = Random::quiet(9);
        let files = ["a", "b"].map(|name| File::create(root.join(name)).unwrap());
        // 20,000 records of 16 bytes make a tree of three levels with these blocks.
        for index in 0..20_000 {
            files[0].write_all_at(&random.bytes(8), index * 2048).unwrap();
        }
        for index in 0..3000 {
            files[1]
                .write_all_at(&random.bytes(1000), (index * 7919 % 3000) * 3072)
                .unwrap();
            if index % 50 == 0 {
                files[1].sync_data().unwrap();
            }
        }
    });
    assert_same(&ours(&image.path()), &kernels(&image.path()), "many extents");
}

#[test]
fn numbers_and_times_of_birth_are_the_kernels() {
    if !can_loop_mount() {
        return;
    }
    let image = Image::new(320, "");
    image.fill(|root| fill::names(&root.join("names"), 500));
    let mount = LoopMount::new(&image.path(), "ro,norecovery,nouuid,noatime");
    let (fs, _) = open(&image.path());
    let dir = fs.lookup(fs.root(), b"names").unwrap().unwrap();
    for (name, inode) in files::names_of(&fs, dir) {
        let name = String::from_utf8(name).unwrap();
        let metadata = fs::metadata(mount.path().join("names").join(name)).unwrap();
        assert_eq!(inode, Inode(metadata.ino()));
        let born = metadata.created().unwrap().duration_since(UNIX_EPOCH).unwrap();
        let created = fs.attr(inode).unwrap().created.unwrap();
        assert_eq!(created.seconds, i64::try_from(born.as_secs()).unwrap());
        assert_eq!(created.nanos, born.subsec_nanos());
    }
    let attr = fs.attr(dir).unwrap();
    assert_eq!(attr.size, fs::metadata(mount.path().join("names")).unwrap().len());
}

#[test]
fn sizes_in_the_summary_are_those_of_statfs() {
    if !can_loop_mount() {
        return;
    }
    let image = Image::new(320, "");
    image.fill(|root| fs::write(root.join("file"), vec![1; 10 << 20]).unwrap());
    let (fs, _) = open(&image.path());
    let summary = fs.summary();
    assert_eq!(summary.size, 320 << 20);
    assert!(
        summary.free < summary.size - (10 << 20) && summary.free > summary.size / 2,
        "{summary:?}"
    );
    assert!((2..10).contains(&summary.files), "{summary:?}");
    assert_eq!(summary.notes, Vec::<String>::new());
}

#[test]
fn attributes_that_fill_a_tree_read_as_the_kernel_reads_them() {
    if !can_loop_mount() {
        return;
    }
    let image = Image::new(320, "-b size=1024");
    image.fill(|root| {
        let file = root.join("file");
        File::create(&file).unwrap();
        // The kernel lists 64 KiB of names at most: short ones, and values that make many leaves and nodes.
        for index in 0..4000 {
            let value = vec![b'x'; 150 + index % 300];
            rustix::fs::setxattr(&file, format!("user.{index}"), &value, XattrFlags::empty()).unwrap();
        }
    });
    assert_same(&ours(&image.path()), &kernels(&image.path()), "attributes");
}
