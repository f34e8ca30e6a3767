//! Images that the kernel does not mount here: version 4 and directories that ignore case, filled by mkfs.xfs from a list.

use std::ffi::OsString;
use std::fmt::Write;
use std::fs::{self, Permissions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use vaultfs::fs::{FileType, Timestamp};

use crate::common::Random;
use crate::files::{Tree, assert_same, can_loop_mount, tree_of_directory};
use crate::fill;
use crate::images::{Image, open, ours, scratch};

/// What is to be in the image, as a directory of this host. Names have no spaces: the list could not say them.
fn stage(dir: &Path, longest_link: usize) {
    let mut random = Random::quiet(3);
    fs::create_dir(dir).unwrap();
    fs::set_permissions(dir, Permissions::from_mode(0o755)).unwrap();
    for len in [0_usize, 1, 512, 5000, 300_000] {
        let path = dir.join(format!("file-of-{len}"));
        fs::write(&path, random.bytes(len)).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o4640)).unwrap();
    }
    for count in [1, 10, 300, 3000] {
        let names = dir.join(format!("names-{count}"));
        fs::create_dir(&names).unwrap();
        for index in 0..count {
            fs::write(names.join(fill::name(index)), "").unwrap();
        }
    }
    let lengths = [1, 60, 155, 156, 157, 336, 400, 511, 512, 513, 1022, 1023];
    for len in lengths.into_iter().filter(|len| *len <= longest_link) {
        let target = "target/".repeat(147);
        symlink(&target[..len], dir.join(format!("link-{len}"))).unwrap();
    }
    let mut deep = dir.to_owned();
    for level in 0..30 {
        deep.push(format!("level-{level}"));
        fs::create_dir(&deep).unwrap();
    }
    for (name, kind, device) in [
        ("null", rustix::fs::FileType::CharacterDevice, (1, 3)),
        ("large", rustix::fs::FileType::BlockDevice, (300, 200_000)),
        ("pipe", rustix::fs::FileType::Fifo, (0, 0)),
    ] {
        let mode = rustix::fs::Mode::from_bits_truncate(0o600);
        let device = rustix::fs::makedev(device.0, device.1);
        rustix::fs::mknodat(rustix::fs::CWD, dir.join(name), kind, mode, device).unwrap();
    }
}

/// The list from which mkfs.xfs fills an image.
fn list(dir: &Path) -> String {
    let mut text = "none\n0 0\nd--755 0 0\n".to_owned();
    list_directory(dir, &mut text);
    text
}

fn list_directory(dir: &Path, text: &mut String) {
    let mut names: Vec<OsString> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    for name in names {
        let path = dir.join(&name);
        let metadata = fs::symlink_metadata(&path).unwrap();
        let kind = metadata.file_type();
        let device = format!(
            "{} {}",
            rustix::fs::major(metadata.rdev()),
            rustix::fs::minor(metadata.rdev())
        );
        let (letter, content) = match () {
            () if kind.is_dir() => ('d', String::new()),
            () if kind.is_symlink() => ('l', fs::read_link(&path).unwrap().display().to_string()),
            () if kind.is_char_device() => ('c', device),
            () if kind.is_block_device() => ('b', device),
            () if kind.is_fifo() => ('p', String::new()),
            () => ('-', path.display().to_string()),
        };
        let set_uid = if metadata.mode() & 0o4000 == 0 { '-' } else { 'u' };
        let mode = metadata.mode() & 0o777;
        let (uid, gid) = (metadata.uid(), metadata.gid());
        let name = name.display();
        writeln!(text, "{name} {letter}{set_uid}-{mode:03o} {uid} {gid} {content}").unwrap();
        if kind.is_dir() {
            list_directory(&path, text);
        }
    }
    text.push_str("$\n");
}

/// Takes out what mkfs.xfs does not take over from the list.
fn comparable(mut tree: Tree) -> Tree {
    for facts in tree.values_mut() {
        facts.blocks = None;
        facts.xattrs.clear();
        for time in [&mut facts.accessed, &mut facts.modified, &mut facts.changed] {
            *time = Timestamp::default();
        }
    }
    tree
}

/// An image of 20 MiB made with options and filled with little.
pub fn small(options: &str) -> Image {
    let dir = scratch();
    let stage = dir.path().join("stage");
    fs::create_dir(&stage).unwrap();
    for count in [2, 10, 50, 300] {
        let names = stage.join(format!("names-{count}"));
        fs::create_dir(&names).unwrap();
        for index in 0..count {
            fs::write(names.join(fill::name(index)), "").unwrap();
        }
    }
    fs::write(stage.join("plain"), vec![1; 5000]).unwrap();
    symlink("short", stage.join("short-link")).unwrap();
    symlink("long/".repeat(200), stage.join("long-link")).unwrap();
    let list_at = dir.path().join("list");
    fs::write(&list_at, list(&stage)).unwrap();
    let image = Image::new(20, &format!("{options} -p {}", list_at.display()));
    let set: Vec<String> = (0..60).map(|index| format!("attr_set -v 90 name-{index}")).collect();
    let mut commands = vec!["path /plain", "attr_set -v 5000 large"];
    commands.extend(set.iter().map(String::as_str));
    image.db(&commands);
    image
}

/// An image made with options and filled from the stage, after it was compared.
fn compared(options: &str) -> Image {
    let stage_at = scratch();
    let stage_dir = stage_at.path().join("stage");
    // mkfs.xfs writes targets outside the inode without the header that version 5 asks for; the kernel refuses them too.
    stage(&stage_dir, if options.contains("crc=0") { 1023 } else { 156 });
    let list_at = stage_at.path().join("list");
    fs::write(&list_at, list(&stage_dir)).unwrap();
    let image = Image::new(512, &format!("{options} -p {}", list_at.display()));
    assert_same(
        &comparable(ours(&image.path())),
        &comparable(tree_of_directory(&stage_dir)),
        options,
    );
    let (fs, _) = open(&image.path());
    assert_eq!(
        fs.summary().notes,
        Vec::<String>::new(),
        "a new file system is in order"
    );
    image
}

macro_rules! images {
    ($($name:ident: $options:expr;)*) => {$(
        #[test]
        fn $name() {
            if can_loop_mount() {
                compared($options);
            }
        }
    )*};
}

images! {
    version_4_reads_as_it_was_filled: "-m crc=0";
    version_4_without_types_reads_as_it_was_filled: "-m crc=0 -n ftype=0";
    version_4_with_blocks_of_512_reads_as_it_was_filled: "-m crc=0 -b size=512";
    version_4_with_large_directories_reads_as_it_was_filled: "-m crc=0 -b size=1024 -n size=16384";
    version_4_with_blocks_of_65536_reads_as_it_was_filled: "-m crc=0 -b size=65536";
    version_4_with_inodes_of_2048_reads_as_it_was_filled: "-m crc=0 -i size=2048";
    version_4_as_old_as_can_be_reads_as_it_was_filled: "-m crc=0 -i attr=1,projid32bit=0,size=256 -l version=1,lazy-count=0";
    version_5_from_a_list_reads_as_it_was_filled: "-b size=1024";
}

#[test]
fn directories_that_ignore_case_find_names_in_any_case() {
    if !can_loop_mount() {
        return;
    }
    for options in [
        "-m crc=0 -n version=ci",
        "-n version=ci",
        "-m crc=0 -n version=ci -b size=512",
    ] {
        let image = compared(options);
        let (fs, _) = open(&image.path());
        for count in [1, 10, 300, 3000] {
            let dir = fs
                .lookup(fs.root(), format!("NAMES-{count}").as_bytes())
                .unwrap()
                .unwrap();
            for index in (0..count).step_by(7) {
                let name = fill::name(index);
                let found = fs.lookup(dir, name.to_uppercase().as_bytes()).unwrap();
                assert!(found.is_some(), "{options}: {name}");
                assert_eq!(found, fs.lookup(dir, name.as_bytes()).unwrap(), "{options}: {name}");
            }
            assert_eq!(fs.lookup(dir, b"NO SUCH NAME").unwrap(), None);
        }
    }
}

#[test]
fn attributes_of_version_4_read_as_they_were_set() {
    if !can_loop_mount() {
        return;
    }
    for options in ["-m crc=0", "-m crc=0 -b size=512", "-m crc=0 -i size=2048"] {
        let image = compared(options);
        let mut expected = Vec::new();
        let mut commands = vec!["path /file-of-1".to_owned()];
        let lengths = (0..60).map(|index| 1 + index * 7).chain([3000, 20_000, 60_000]);
        for (len, number) in lengths.zip(0..) {
            let (flag, prefix) = [("-r", "trusted"), ("-s", "security"), ("-u", "user")][number % 3];
            commands.push(format!("attr_set {flag} -v {len} name-{number}"));
            expected.push((format!("{prefix}.name-{number}").into_bytes(), vec![b'v'; len]));
            if [1, 4, 62].contains(&number) {
                let words: Vec<&str> = commands.iter().map(String::as_str).collect();
                image.db(&words);
                commands.truncate(1);
                let (fs, _) = open(&image.path());
                let file = fs.lookup(fs.root(), b"file-of-1").unwrap().unwrap();
                let mut expected = expected.clone();
                expected.sort();
                assert!(
                    fs.xattrs(file).unwrap() == expected,
                    "{options}: {} attributes",
                    number + 1
                );
                assert_eq!(fs.attr(file).unwrap().file_type, FileType::File);
            }
        }
    }
}
