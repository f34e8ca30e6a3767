//! Signatures against what blkid says of the same volume.

use std::collections::BTreeMap;
use std::path::Path;

use vaultfs::volume::Holds;

use crate::common::skip;
use crate::disks::*;
use crate::files::run;

/// What `blkid -p` says, by its names.
fn told_by_blkid(path: &Path) -> BTreeMap<String, String> {
    let lines = run(&["blkid", "-p", "-o", "export", text(path)]);
    let pairs = lines.lines().filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn can_run(program: &str) -> bool {
    let found = std::process::Command::new("sh")
        .args(["-c", &format!("command -v {program}")])
        .output();
    found.is_ok_and(|found| found.status.success())
}

/// Commands that make what a volume can hold; FILE is the volume.
const MAKERS: [(&str, u64, Holds); 18] = [
    ("mkfs.ext4 -q -L data FILE", 16 * MIB, Holds::Ext),
    ("mkfs.ext2 -q -b 1024 -I 128 FILE", 4 * MIB, Holds::Ext),
    (
        "mkfs.ext4 -q -b 4096 -O bigalloc,64bit,metadata_csum_seed FILE",
        64 * MIB,
        Holds::Ext,
    ),
    ("mkfs.xfs -q -L archive FILE", 320 * MIB, Holds::Xfs),
    ("mkfs.xfs -q -m crc=0 FILE", 320 * MIB, Holds::Xfs),
    ("mkfs.btrfs -q -L pool FILE", 128 * MIB, Holds::Btrfs),
    ("mkfs.vfat -F 12 -n FLOPPY FILE", 2 * MIB, Holds::Fat),
    ("mkfs.vfat -F 16 -n SIXTEEN FILE", 16 * MIB, Holds::Fat),
    ("mkfs.vfat -F 32 -s 1 -n EFI FILE", 40 * MIB, Holds::Fat),
    ("mkfs.vfat -F 32 -s 1 -S 4096 FILE", 300 * MIB, Holds::Fat),
    ("mkfs.exfat FILE", 16 * MIB, Holds::Exfat),
    ("mkswap -L swap FILE", 4 * MIB, Holds::Swap),
    ("mkswap -p 65536 FILE", 4 * MIB, Holds::Swap),
    (
        "cryptsetup -q luksFormat --type luks1 --pbkdf-force-iterations 1000 FILE -",
        16 * MIB,
        Holds::Luks,
    ),
    (
        "cryptsetup -q luksFormat --label vault --pbkdf pbkdf2 --pbkdf-force-iterations 1000 FILE -",
        32 * MIB,
        Holds::Luks,
    ),
    ("mkfs.ntfs -q -F FILE", 16 * MIB, Holds::Ntfs),
    ("mke2fs -q -O journal_dev FILE", 16 * MIB, Holds::Other("jbd")),
    (
        "mksquashfs /etc/hostname FILE -quiet -noappend",
        MIB,
        Holds::Other("squashfs"),
    ),
];

#[test]
fn what_tools_make_is_told_as_blkid_tells_it() {
    for (number, (maker, size, holds)) in MAKERS.into_iter().enumerate() {
        let program = maker.split(' ').next().unwrap();
        if !can_run(program) {
            // Not all of them are among the tools that the tests need.
            eprintln!("SKIPPED {maker}: no {program}");
            continue;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = blank(dir.path(), &format!("{number}.img"), size);
        run(&[
            "sh",
            "-c",
            &format!("echo key | {} >&2", maker.replace("FILE", text(&path))),
        ]);
        let told = told_by_blkid(&path);
        let found = found_on(&[&path]);
        let volume = named(&found, "vda");
        assert_eq!(volume.signature.holds, holds, "{maker}: {told:?}");
        let is_ext = holds == Holds::Ext && told["TYPE"].starts_with("ext");
        assert!(is_ext || holds.word() == told["TYPE"], "{maker}: {told:?}");
        assert_eq!(volume.signature.uuid.as_ref(), told.get("UUID"), "{maker}");
        let label = volume
            .signature
            .label
            .as_ref()
            .map(|label| String::from_utf8(label.clone()).unwrap());
        assert_eq!(label.as_ref(), told.get("LABEL"), "{maker}");
        assert_eq!(found.problems, [""; 0], "{maker}");
    }
    if !can_run("mkfs.ext4") || !can_run("mkfs.vfat") {
        skip("what_tools_make_is_told_as_blkid_tells_it", "no mkfs");
    }
}

#[test]
fn a_file_system_on_the_whole_disk_is_not_taken_for_a_table() {
    let dir = tempfile::tempdir().unwrap();
    for (maker, size) in [("mkfs.vfat", 16 * MIB), ("mkfs.ext4", 16 * MIB)] {
        let path = blank(dir.path(), maker, size);
        run(&[maker, text(&path)]);
        assert_eq!(names(&found_on(&[&path])), ["vda"], "{maker}");
    }
}

#[test]
fn a_table_on_a_disk_that_held_a_file_system_wins() {
    let dir = tempfile::tempdir().unwrap();
    for maker in ["mkfs.ext4", "mkfs.vfat"] {
        let path = blank(dir.path(), maker, 16 * MIB);
        run(&[maker, text(&path)]);
        run_with_input(
            &["sfdisk", "--quiet", "--wipe", "never", text(&path)],
            "label: dos\\n,4MiB\\n,\\n",
        );
        assert_eq!(names(&found_on(&[&path])), ["vda1", "vda2"], "{maker}");
    }
}

#[test]
fn a_disk_that_cannot_be_read_hides_no_other() {
    struct Broken;
    impl vaultfs::image::ReadAt for Broken {
        fn len(&self) -> u64 {
            MIB
        }
        fn read_at(&self, at: u64, _: &mut [u8]) -> vaultfs::image::Result<()> {
            let what = "the disk".to_owned();
            Err(vaultfs::image::Error::Corrupt { what, at })
        }
        fn next_data(&self, at: u64) -> vaultfs::image::Result<Option<u64>> {
            Ok(Some(at))
        }
        fn next_hole(&self, _: u64) -> vaultfs::image::Result<u64> {
            Ok(MIB)
        }
    }
    let zeros = crate::hostile::Patched::new(vec![0; 4096]);
    let found = found_in(vec![std::sync::Arc::new(Broken), zeros]);
    assert_eq!(names(&found), ["vda", "vdb"]);
    assert!(named(&found, "vda").problem.is_some());
    assert_problem(
        &found,
        "vda: its signature cannot be read: the disk is corrupt at byte 0",
    );
}
