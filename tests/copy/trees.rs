//! Copies of file-system backups.

use super::tree::{self, Backup};
use super::{Desk, Ended, addresses, copy, objects_of};
use crate::common::Random;
use crate::common::program::{succeed, vaultfs};
use std::ffi::OsString;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

/// A tree of many small files, a large one, a sparse one, hard links, a symbolic link and attributes.
fn make(dir: &Path, files: u64) {
    let mut random = Random::quiet(files);
    for number in 0..files {
        let sub = dir.join(format!("d{}", number % 37));
        std::fs::create_dir_all(&sub).unwrap();
        let len = usize::try_from(random.below(3000)).unwrap();
        std::fs::write(sub.join(format!("f{number}")), random.bytes(len)).unwrap();
    }
    std::fs::write(dir.join("large"), random.bytes(6 << 20)).unwrap();
    let sparse = std::fs::File::create(dir.join("sparse")).unwrap();
    sparse.set_len(50 << 20).unwrap();
    sparse.write_all_at(&random.bytes(70_000), 20 << 20).unwrap();
    for name in ["hard-1", "d1/hard-2"] {
        std::fs::hard_link(dir.join("large"), dir.join(name)).unwrap();
    }
    symlink("d1/hard-2", dir.join("link")).unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    // Where the file system of the tests has no attributes, there are none to copy.
    if let Err(error) = rustix::fs::setxattr(dir.join("large"), "user.note", b"kept", flags) {
        eprintln!("no extended attributes here: {error}");
    }
}

#[track_caller]
fn back_up(vault: &Path, dir: &Path, at: &str) {
    let mut words: Vec<OsString> = vec!["backup".into(), vault.into(), "filesystem".into(), "home".into()];
    words.push(dir.into());
    words.extend(["--at", at, "--tag", "who=ann"].map(OsString::from));
    succeed(vaultfs(words));
}

/// Everything of a backup as text.
fn text(backup: &Backup) -> String {
    format!("{:?} {:?}", backup.files, backup.users)
}

fn home() -> (Desk, PathBuf, PathBuf, PathBuf) {
    let desk = Desk::new();
    let (from, to) = desk.two();
    let dir = desk.path("home");
    std::fs::create_dir(&dir).unwrap();
    (desk, from, to, dir)
}

#[test]
fn a_tree_arrives_with_every_attribute_hole_and_hard_link() {
    let (desk, from, to, dir) = home();
    make(&dir, 2500);
    back_up(&from, &dir, "2026-01-01T00-00-00Z");
    let ended = copy(&[&from, &"filesystems/home", &to]).succeeds();
    assert_eq!(ended.counts(), (1, 0, 0));
    let address = tree::addresses(&to).pop().unwrap();
    let (ours, theirs) = (tree::read(&from, &address), tree::read(&to, &address));
    theirs.equals(&dir);
    assert!(text(&ours) == text(&theirs));
    assert_eq!(theirs.file("large").number, theirs.file("hard-1").number);
    assert!(ours.tree.height > 0, "a tree of one page shows little");
    let (data, their_data) = (&ours.tree.statistics, &theirs.tree.statistics);
    assert_eq!(
        (data.files, data.data, data.logical),
        (their_data.files, their_data.data, their_data.logical)
    );
    let back = desk.path("back");
    let words = [
        OsString::from("restore"),
        to.clone().into(),
        "filesystems/home/latest".into(),
        "--to".into(),
    ];
    succeed(vaultfs(words.into_iter().chain([back.clone().into()])));
    let of = |path: &str| back.join(path).metadata().unwrap();
    assert_eq!((of("large").ino(), of("large").nlink()), (of("d1/hard-2").ino(), 3));
    assert!(of("sparse").blocks() * 512 < 1 << 20);
    let before = objects_of(&to);
    assert_eq!(copy(&[&"--all", &from, &to]).succeeds().counts(), (0, 1, 0));
    assert_eq!(objects_of(&to), before);
}

#[test]
fn the_next_tree_costs_what_changed_in_one_run_and_in_the_next() {
    let (desk, from, to, dir) = home();
    make(&dir, 2500);
    back_up(&from, &dir, "2026-01-01T00-00-00Z");
    std::fs::write(dir.join("d5/new"), Random::quiet(99).bytes(40_000)).unwrap();
    back_up(&from, &dir, "2026-01-02T00-00-00Z");
    let other = desk.vault("other", "64KiB");
    let words = |vault: &PathBuf, address: &str| -> Ended { copy(&[&from, &address, vault]).succeeds() };
    // In one run the second backup is known by its pages, in two by what is there.
    words(&to, "filesystems/home");
    words(&other, "filesystems/home/2026-01-01T00-00-00Z");
    let second = words(&other, "filesystems/home/2026-01-02T00-00-00Z");
    assert_eq!(
        (second.number("copied_chunks"), second.number("copied_bytes")),
        (1, 40_000)
    );
    for vault in [&to, &other] {
        let address = tree::addresses(vault).pop().unwrap();
        let copied = tree::read(vault, &address);
        copied.equals(&dir);
        assert!(copied.has("d5/new"));
        assert!(text(&copied) == text(&tree::read(&from, &address)));
        assert_eq!(copied.tree.statistics.new, 40_000);
        // A few pages and one chunk, not the tree again.
        assert!(
            copied.tree.statistics.stored < 200_000,
            "{}",
            copied.tree.statistics.stored
        );
    }
    assert_eq!(copy(&[&"--all", &to, &other]).succeeds().counts(), (0, 2, 0));
}

#[test]
fn another_tree_at_the_same_address_is_named() {
    let (_desk, from, to, dir) = home();
    make(&dir, 50);
    back_up(&from, &dir, "2026-01-01T00-00-00Z");
    std::fs::write(dir.join("sparse"), b"now small").unwrap();
    back_up(&to, &dir, "2026-01-01T00-00-00Z");
    let ended = copy(&[&"--all", &from, &to]);
    assert_eq!(ended.code, Some(5), "{}", ended.stderr);
    assert!(ended.stderr.contains("their files differ"), "{}", ended.stderr);
    tree::read(&to, &tree::addresses(&to).pop().unwrap()).equals(&dir);
    assert_eq!(addresses(&to).len(), 1);
}
