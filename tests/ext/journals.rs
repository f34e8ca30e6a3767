//! Dirty journals: images copied while the kernel wrote to them, against what the kernel shows after its own recovery.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::print_stderr,
    unreachable_pub
)]

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use vaultfs::fs::FileType;

use crate::common::Random;
use crate::content;
use crate::files::{self, LoopMount, assert_same, can_loop_mount, tree_of, tree_of_directory};
use crate::images::{Image, open};

/// Syncs the file system that `path` is on.
fn sync(path: &Path) {
    rustix::fs::syncfs(File::open(path).unwrap()).unwrap();
}

/// Makes an image, lets `write` change it, and copies it before it is unmounted.
fn crashed(size: u64, mkfs: &str, mount: &str, write: impl FnOnce(&Path)) -> (Image, PathBuf) {
    let image = Image::new(size, mkfs);
    let mounted = LoopMount::new(&image.path, &format!("noatime,{mount}"));
    write(mounted.path());
    let copy = image.dir.path().join("crashed");
    fs::copy(&image.path, &copy).unwrap();
    mounted.unmount();
    (image, copy)
}

/// Compares what the reader shows of a crashed image with what the kernel shows once it has recovered a copy.
fn compare_recovered(image: &Image, crashed: &Path, name: &str) {
    let fs = open(crashed);
    let notes = fs.summary().notes;
    assert!(
        notes.iter().any(|note| note.contains("replayed in memory")),
        "{name}: {notes:?}"
    );
    assert_eq!(notes.len(), 1, "{name}: {notes:?}");
    let ours = tree_of(&fs, &files::volume(crashed));
    let recovered = image.dir.path().join("recovered");
    fs::copy(crashed, &recovered).unwrap();
    LoopMount::new(&recovered, "noatime").unmount();
    let mount = LoopMount::new(&recovered, "ro,noatime");
    assert_same(&ours, &tree_of_directory(mount.path()), name);
    eprintln!("{name}: {notes:?}");
}

/// Makes many files and removes some, in several transactions.
fn churn(root: &Path) {
    content::fill(root);
    sync(root);
    let mut random = Random::quiet(3);
    for round in 0..6 {
        let dir = root.join(format!("round {round}"));
        fs::create_dir(&dir).unwrap();
        for index in 0..60 {
            let len = usize::try_from(random.below(20_000)).unwrap();
            fs::write(dir.join(format!("file {index}")), random.bytes(len)).unwrap();
        }
        sync(root);
        if round % 2 == 0 {
            fs::remove_dir_all(&dir).unwrap();
            sync(root);
        }
    }
    fs::set_permissions(root.join("hard"), fs::Permissions::from_mode(0o600)).unwrap();
    File::options()
        .write(true)
        .open(root.join("sizes/1048576"))
        .unwrap()
        .set_len(70_000)
        .unwrap();
    sync(root);
    // Not synced: gone, for the kernel as for the reader.
    fs::write(root.join("too late"), "lost").unwrap();
}

/// Blocks that begin with the journal's magic number, which the journal must keep in another way.
fn escaped(root: &Path) {
    churn(root);
    let mut block = vec![0x5a; 4096];
    block[..4].copy_from_slice(&[0xc0, 0x3b, 0x39, 0x98]);
    let file = File::create(root.join("escaped")).unwrap();
    for index in 0..40 {
        file.write_all_at(&block, index * 4096).unwrap();
        file.write_all_at(&[1; 100], (1 << 20) + index * 8192).unwrap();
    }
    fs::write(root.join("short"), &block[..50]).unwrap();
    sync(root);
}

/// Directories that were removed, their blocks taken by files: the old copies in the journal are revoked.
fn reused(root: &Path) {
    content::fill(root);
    sync(root);
    for round in 0..3 {
        for index in 0..6 {
            let dir = root.join(format!("dir {index}"));
            fs::create_dir(&dir).unwrap();
            for file in 0..100 {
                File::create(dir.join(format!("{round} a name that takes some space {file}"))).unwrap();
            }
        }
        sync(root);
        for index in 0..6 {
            fs::remove_dir_all(root.join(format!("dir {index}"))).unwrap();
        }
        sync(root);
        let free = rustix::fs::statvfs(root).unwrap();
        let len = usize::try_from(free.f_bavail * free.f_frsize / 2).unwrap();
        fs::write(root.join(format!("all {round}")), vec![0x77; len]).unwrap();
        sync(root);
    }
}

#[test]
fn crashed_images_are_as_after_recovery() {
    if !can_loop_mount() {
        return;
    }
    for (mkfs, mount) in [
        ("-t ext4 -b 4096", "data=ordered"),
        ("-t ext4 -b 4096 -O ^64bit", "data=writeback"),
        ("-t ext4 -O ^metadata_csum", "data=ordered"),
        ("-t ext4 -O ^metadata_csum,^64bit -b 1024", "data=ordered"),
        ("-t ext3 -b 4096", "data=ordered"),
        ("-t ext3 -b 1024", "data=journal"),
        ("-t ext4 -O inline_data,ea_inode", "data=ordered"),
        ("-t ext4 -O orphan_file", "data=ordered"),
        ("-t ext4 -O bigalloc,meta_bg,^resize_inode", "data=ordered"),
    ] {
        let (image, copy) = crashed(96 << 20, mkfs, mount, churn);
        compare_recovered(&image, &copy, &format!("{mkfs}, {mount}"));
    }
}

#[test]
fn commits_with_checksums_of_whole_transactions_are_replayed() {
    if !can_loop_mount() {
        return;
    }
    for (mkfs, mount) in [
        ("-t ext4 -O ^metadata_csum", "journal_checksum"),
        (
            "-t ext4 -O ^metadata_csum,^64bit",
            "journal_async_commit,data=writeback",
        ),
        ("-t ext4", "journal_async_commit,data=writeback"),
    ] {
        let (image, copy) = crashed(96 << 20, mkfs, mount, churn);
        compare_recovered(&image, &copy, &format!("{mkfs}, {mount}"));
    }
}

#[test]
fn content_in_the_journal_is_read_there() {
    if !can_loop_mount() {
        return;
    }
    for mkfs in [
        "-t ext4 -b 4096",
        "-t ext4 -b 1024 -O ^metadata_csum,^64bit",
        "-t ext3 -b 2048",
    ] {
        let (image, copy) = crashed(96 << 20, mkfs, "data=journal", escaped);
        compare_recovered(&image, &copy, mkfs);
    }
}

#[test]
fn revoked_blocks_keep_what_came_after() {
    if !can_loop_mount() {
        return;
    }
    for mkfs in [
        "-t ext4 -J size=8",
        "-t ext4 -b 1024 -O ^64bit,^metadata_csum -J size=4",
    ] {
        for mode in ["data=ordered", "data=journal"] {
            let (image, copy) = crashed(48 << 20, mkfs, mode, reused);
            compare_recovered(&image, &copy, &format!("{mkfs}, {mode}"));
        }
    }
}

#[test]
fn a_journal_that_went_round_is_replayed_from_its_oldest_transaction() {
    if !can_loop_mount() {
        return;
    }
    for rounds in [5, 11, 17] {
        let (image, copy) = crashed(64 << 20, "-t ext4 -b 1024 -J size=1", "data=journal", |root| {
            content::fill(root);
            for round in 0..rounds {
                fs::write(
                    root.join(format!("{round}")),
                    vec![u8::try_from(round).unwrap(); 90_000],
                )
                .unwrap();
                sync(root);
            }
        });
        compare_recovered(&image, &copy, &format!("{rounds} rounds"));
    }
}

#[test]
fn a_damaged_journal_is_replayed_up_to_the_damage() {
    if !can_loop_mount() {
        return;
    }
    for mkfs in [
        "-t ext4 -b 1024 -J size=1",
        "-t ext4 -b 1024 -J size=1 -O ^metadata_csum",
    ] {
        let (_image, copy) = crashed(16 << 20, mkfs, "journal_checksum", |root| {
            for round in 0..6 {
                fs::create_dir(root.join(format!("{round}"))).unwrap();
                sync(root);
            }
        });
        let sound = fs::read(&copy).unwrap();
        // The magic number, the type, and the number of a transaction.
        let heads = |kind: u8| {
            (0..sound.len())
                .step_by(1024)
                .filter(move |at| sound[*at..].starts_with(&[0xc0, 0x3b, 0x39, 0x98, 0, 0, 0, kind]))
        };
        let commits: Vec<usize> = heads.clone()(2).collect();
        let descriptors: Vec<usize> = heads(1).collect();
        assert!(commits.len() >= 6 && descriptors.len() >= 6, "{commits:?}");
        let damaged = |at: usize| {
            let file = File::options().read(true).write(true).open(&copy).unwrap();
            let mut byte = [0];
            file.read_exact_at(&mut byte, at as u64).unwrap();
            file.write_all_at(&[byte[0] ^ 0x10], at as u64).unwrap();
            let fs = open(&copy);
            let found = (0..6).map(|round| format!("{round}"));
            let found = found
                .filter(|name| fs.lookup(fs.root(), name.as_bytes()).is_ok_and(|found| found.is_some()))
                .count();
            file.write_all_at(&byte, at as u64).unwrap();
            (found, fs.summary().notes)
        };
        assert_eq!(damaged(0).0, 6, "{mkfs}");
        for (at, what) in [(commits[3] + 16, "a commit's sum"), (descriptors[3] + 20, "a tag")] {
            let (found, notes) = damaged(at);
            assert!((2..6).contains(&found), "{mkfs}, {what}: {found} {notes:?}");
            assert!(
                notes.iter().any(|note| note.contains("damaged")),
                "{mkfs}, {what}: {notes:?}"
            );
        }
        // The content of a block: with sums of single blocks, only that block is left as it was.
        let (found, notes) = damaged(descriptors[3] + 1024 + 7);
        assert!(
            found >= 2 && notes.iter().any(|note| note.contains("damaged")),
            "{mkfs}: {notes:?}"
        );
        // A head that is none ends the log as a crash would.
        let (found, notes) = damaged(commits[3]);
        assert!((2..6).contains(&found) && notes.len() == 1, "{mkfs}: {found} {notes:?}");
        // The journal's superblock.
        let first = (0..)
            .map(|block| block * 1024)
            .find(|at| commits[0] > *at && descriptors[0] == at + 1024)
            .unwrap();
        let (_, notes) = damaged(first + 3);
        assert!(
            notes.iter().any(|note| note.contains("was not replayed")),
            "{mkfs}: {notes:?}"
        );
    }
}

/// Changes that are synced one by one, so that the kernel commits them fast.
fn fast(root: &Path) {
    content::fill(root);
    fs::create_dir(root.join("dir")).unwrap();
    for name in ["unlinked", "renamed", "linked", "grown", "cut", "twice"] {
        fs::write(root.join("dir").join(name), vec![3; 50_000]).unwrap();
    }
    sync(root);
    let synced = |path: &str, write: &dyn Fn(&File)| {
        let file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(root.join(path))
            .unwrap();
        write(&file);
        file.sync_all().unwrap();
    };
    synced("after", &|file| file.write_all_at(b"after", 0).unwrap());
    synced("dir/new", &|file| file.write_all_at(&[7; 30_000], 4096).unwrap());
    synced("dir/grown", &|file| file.write_all_at(&[8; 100_000], 60_000).unwrap());
    synced("dir/cut", &|file| file.set_len(1000).unwrap());
    fs::rename(root.join("dir/renamed"), root.join("dir/other name")).unwrap();
    synced("dir/other name", &|_| {});
    fs::hard_link(root.join("dir/linked"), root.join("link to it")).unwrap();
    synced("dir/linked", &|_| {});
    fs::remove_file(root.join("dir/unlinked")).unwrap();
    synced("dir/new", &|_| {});
    for round in 0..20_u8 {
        synced("dir/twice", &|file| {
            file.write_all_at(&[round; 100], u64::from(round) * 50_000).unwrap()
        });
    }
}

#[test]
fn fast_commits_are_replayed() {
    if !can_loop_mount() {
        return;
    }
    for mkfs in [
        "-t ext4 -O fast_commit -b 4096",
        "-t ext4 -O fast_commit,^metadata_csum -b 1024",
    ] {
        let (image, copy) = crashed(96 << 20, mkfs, "noatime", fast);
        let fs = open(&copy);
        let notes = fs.summary().notes;
        eprintln!("{notes:?}");
        assert!(
            notes.iter().any(|note| note.contains("of fast commits were replayed")),
            "{notes:?}"
        );
        let ours = tree_of(&fs, &files::volume(&copy));
        let recovered = image.dir.path().join("recovered");
        fs::copy(&copy, &recovered).unwrap();
        LoopMount::new(&recovered, "noatime").unmount();
        let mount = LoopMount::new(&recovered, "ro,noatime");
        let mut kernels = tree_of_directory(mount.path());
        for (path, facts) in &mut kernels {
            // The kernel puts names into directories anew, and so at the time of its recovery.
            if facts.file_type == FileType::Directory
                && let Some(ours) = ours.get(path)
            {
                (facts.modified, facts.changed) = (ours.modified, ours.changed);
            }
        }
        assert_same(&ours, &kernels, mkfs);
    }
}
