//! `ls`, `cat` and `cp -r` without a mount against the kernel's own mount of the same image.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::as_conversions
)]

mod files;

use std::ffi::OsStr;
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use files::{LoopMount, Tree, assert_same, can_loop_mount, run, tree_of_directory};
use rustix::fs::{CWD, FileType, Mode, XattrFlags, lsetxattr, makedev, mknodat};
use serde_json::Value;

/// Where the file system is in the vault.
const FILES: &str = "disks/data/latest/volumes/disk";

/// A vault with the backup of an ext4 image, and the image mounted by the kernel.
struct Scene {
    dir: tempfile::TempDir,
    kernel: LoopMount,
}

impl Scene {
    fn new() -> Option<Self> {
        if !can_loop_mount() {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let image = file_system(&dir.path().join("data.img"));
        let mounted = LoopMount::new(&image, "rw");
        fill(mounted.path());
        mounted.unmount();
        let vault = dir.path().join("vault");
        succeed([OsStr::new("init"), vault.as_os_str()]);
        let words = [
            "backup".as_ref(),
            vault.as_os_str(),
            "disk".as_ref(),
            "data".as_ref(),
            image.as_os_str(),
        ];
        succeed(words);
        let kernel = LoopMount::new(&image, "ro,noload,noatime");
        Some(Self { dir, kernel })
    }

    /// Runs a command on the vault: `COMMAND VAULT WORDS...`.
    fn run<W: AsRef<OsStr>>(&self, command: &str, words: impl IntoIterator<Item = W>) -> Output {
        let vault = self.dir.path().join("vault");
        let mut program = Command::new(env!("CARGO_BIN_EXE_vaultfs"));
        program.arg(command).arg(vault).args(words).env_remove("RUST_LOG");
        program.stdin(Stdio::null()).output().unwrap()
    }

    #[track_caller]
    fn succeed<W: AsRef<OsStr>>(&self, command: &str, words: impl IntoIterator<Item = W>) -> Vec<u8> {
        let output = self.run(command, words);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && stderr.is_empty(), "{command}: {stderr}");
        output.stdout
    }

    #[track_caller]
    fn json(&self, command: &str, words: &[&str]) -> Value {
        let words = words.iter().copied().chain(["--json"]);
        serde_json::from_slice(&self.succeed(command, words)).unwrap()
    }

    /// What the kernel shows, without what no copy can keep.
    fn kernels(&self) -> Tree {
        comparable(tree_of_directory(self.kernel.path()))
    }
}

#[track_caller]
fn succeed<W: AsRef<OsStr>>(words: impl IntoIterator<Item = W>) {
    let output = Command::new(env!("CARGO_BIN_EXE_vaultfs"))
        .args(words)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// An empty ext4 file system.
fn file_system(path: &Path) -> PathBuf {
    fs::File::create(path).unwrap().set_len(96 << 20).unwrap();
    run(&[
        "mke2fs",
        "-q",
        "-t",
        "ext4",
        "-b",
        "4096",
        "-I",
        "256",
        path.to_str().unwrap(),
    ]);
    path.to_owned()
}

/// Everything that a copy can get wrong.
fn fill(root: &Path) {
    let at = |name: &str| root.join(name);
    fs::create_dir_all(at("etc/deep/er/still")).unwrap();
    fs::write(at("etc/passwd"), "root:x:0:0::/root:/bin/sh\n").unwrap();
    fs::write(at("etc/empty"), "").unwrap();
    fs::write(at("etc/deep/er/still/large"), noise(3_000_001)).unwrap();
    fs::create_dir(at("many")).unwrap();
    for number in 0..1500 {
        fs::write(at(&format!("many/{number:04}")), noise(number)).unwrap();
    }
    let mut sparse = fs::File::create(at("sparse")).unwrap();
    for (offset, len) in [(0, 1), (7 << 20, 100_000), (40 << 20, 4096)] {
        sparse.seek(SeekFrom::Start(offset)).unwrap();
        sparse.write_all(&noise(len)).unwrap();
    }
    sparse.set_len((1 << 33) + 5).unwrap();
    // Names that a shell, a terminal and UTF-8 do not like.
    for name in [
        &b"a b"[..],
        b"new\nline",
        b"\xff\xfe",
        b"-rf",
        b"it's",
        b"\x1b[2J",
        "gr\u{fc}n".as_bytes(),
        &[b'n'; 255],
    ] {
        fs::write(root.join(OsStr::from_bytes(name)), name).unwrap();
    }
    fs::hard_link(at("etc/passwd"), at("many/passwd")).unwrap();
    fs::hard_link(at("etc/passwd"), at("passwd")).unwrap();
    symlink("/etc/passwd", at("absolute")).unwrap();
    symlink("../../../../../../etc/passwd", at("etc/out")).unwrap();
    symlink("etc", at("directory")).unwrap();
    symlink("nowhere", at("dangling")).unwrap();
    symlink("l".repeat(3000), at("long")).unwrap();
    fs::hard_link(at("dangling"), at("dangling too")).unwrap();
    for (name, kind, device) in [
        ("null", FileType::CharacterDevice, makedev(1, 3)),
        ("disk", FileType::BlockDevice, makedev(259, 300)),
        ("pipe", FileType::Fifo, 0),
        ("socket", FileType::Socket, 0),
    ] {
        mknodat(CWD, at(name), kind, Mode::from_raw_mode(0o640), device).unwrap();
    }
    for (name, mode) in [
        ("etc/passwd", 0o644),
        ("etc/empty", 0o6755),
        ("many", 0o1777),
        ("etc/deep", 0o2500),
        ("pipe", 0o604),
    ] {
        fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    for (name, uid, gid) in [
        ("etc/passwd", 0, 42),
        ("etc/empty", 1000, 1000),
        ("many", 77, 88),
        ("absolute", 5, 6),
    ] {
        std::os::unix::fs::lchown(at(name), Some(uid), Some(gid)).unwrap();
    }
    // Giving a file away takes these bits off.
    fs::set_permissions(at("etc/empty"), fs::Permissions::from_mode(0o6755)).unwrap();
    xattrs(root);
    for (name, seconds, nanos) in [
        ("etc/passwd", 1_000_000_000, 1),
        ("long", 2_000_000_000, 999_999_999),
        ("etc/deep", 3, 4),
    ] {
        let time = rustix::fs::Timespec {
            tv_sec: seconds,
            tv_nsec: nanos,
        };
        let times = rustix::fs::Timestamps {
            last_access: time,
            last_modification: time,
        };
        rustix::fs::utimensat(CWD, at(name), &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

fn xattrs(root: &Path) {
    let set =
        |name: &str, key: &str, value: &[u8]| lsetxattr(root.join(name), key, value, XattrFlags::empty()).unwrap();
    set("sparse", "user.text", b"value");
    set("sparse", "user.bytes", &[0, 0xff, 10]);
    set("sparse", "user.large", &[b'x'; 2000]);
    set("absolute", "trusted.link", b"on a link");
    set("null", "trusted.device", b"on a device");
    set("many", "user.directory", b"");
    // cap_net_raw, effective and permitted.
    let mut capability = vec![1, 0, 0, 2];
    capability.extend([0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    set("etc/deep/er/still/large", "security.capability", &capability);
    run(&[
        "setfacl",
        "-m",
        "u:1234:rw,g:55:r",
        root.join("sparse").to_str().unwrap(),
    ]);
    run(&["setfacl", "-d", "-m", "u:1234:rwx", root.join("etc").to_str().unwrap()]);
}

fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ len as u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3] | 1
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// Without the time of the last change of attributes, which nobody can set, and the space taken.
fn comparable(mut tree: Tree) -> Tree {
    for facts in tree.values_mut() {
        facts.changed = vaultfs::fs::Timestamp::default();
        facts.blocks = None;
    }
    tree
}

/// An empty ext4 file system to copy to.
fn target(scene: &Scene) -> LoopMount {
    LoopMount::new(&file_system(&scene.dir.path().join("target.img")), "rw,noatime")
}

#[test]
fn a_copied_tree_is_that_of_the_kernel_with_all_its_attributes() {
    let Some(scene) = Scene::new() else { return };
    let target = target(&scene);
    let copy = target.path().join("copy");
    let report = scene.json("cp", &["-r", FILES, copy.to_str().unwrap()]);
    let kernels = scene.kernels();
    assert_same(&comparable(tree_of_directory(&copy)), &kernels, "data.img");
    let count = |kind| {
        kernels
            .values()
            .filter(|facts| facts.file_type == kind && facts.same_as.is_none())
            .count()
    };
    assert_eq!(report["files"], count(vaultfs::fs::FileType::File));
    assert_eq!(report["directories"], count(vaultfs::fs::FileType::Directory));
    assert_eq!(
        report["hard_links"],
        kernels.values().filter(|facts| facts.same_as.is_some()).count()
    );
    assert_eq!(report["specials"], 4);
    assert_eq!(
        (&report["not_kept"], &report["errors"]["other"]),
        (&serde_json::json!({}), &serde_json::json!(0))
    );
    let sparse = |root: &Path| fs::metadata(root.join("sparse")).unwrap().blocks();
    assert_eq!(sparse(&copy), sparse(scene.kernel.path()), "as sparse as the source");
}

#[test]
fn a_second_copy_with_force_gives_the_same_tree() {
    let Some(scene) = Scene::new() else { return };
    let target = target(&scene);
    let copy = target.path().join("copy");
    let words = ["-r", FILES, copy.to_str().unwrap(), "--json", "--force"];
    scene.succeed("cp", words);
    // Into itself this time: the directory is there, so the copy goes to its name.
    fs::rename(&copy, target.path().join("disk")).unwrap();
    fs::write(target.path().join("disk/etc/passwd"), "overwritten").unwrap();
    let words = ["-r", FILES, target.path().to_str().unwrap(), "--json", "--force"];
    scene.succeed("cp", words);
    let copied = comparable(tree_of_directory(&target.path().join("disk")));
    assert_same(&copied, &scene.kernels(), "data.img");
    let refused = scene.run("cp", ["-r", FILES, target.path().to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(5));
}

#[test]
fn listings_tell_what_the_kernel_tells() {
    let Some(scene) = Scene::new() else { return };
    let listed = scene.json("ls", &["-Ra", FILES]);
    let mut kernels = tree_of_directory(scene.kernel.path());
    kernels.remove(Path::new(""));
    assert_eq!(listed.as_array().unwrap().len(), kernels.len());
    for entry in listed.as_array().unwrap() {
        let bytes = match entry["path_hex"].as_str() {
            Some(hex) => (0..hex.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
                .collect(),
            None => entry["path"].as_str().unwrap().as_bytes().to_vec(),
        };
        let path = Path::new(OsStr::from_bytes(&bytes)).strip_prefix(FILES).unwrap();
        let facts = &kernels[path];
        assert_eq!(entry["mode"], format!("{:04o}", facts.permissions), "{path:?}");
        assert_eq!(
            (&entry["uid"], &entry["gid"]),
            (&facts.owner.0.into(), &facts.owner.1.into()),
            "{path:?}"
        );
        assert_eq!(entry["links"], facts.links, "{path:?}");
        if let Some(size) = facts.size {
            assert_eq!(entry["size"], size, "{path:?}");
        }
        assert_eq!(entry["blocks_bytes"], facts.blocks.unwrap() * 512, "{path:?}");
        assert_eq!(
            entry["xattrs"].as_array().unwrap().len(),
            facts.xattrs.len(),
            "{path:?}"
        );
        let times = [
            (&entry["mtime"], facts.modified),
            (&entry["atime"], facts.accessed),
            (&entry["ctime"], facts.changed),
        ];
        for (told, time) in times {
            assert_eq!(
                *told,
                vaultfs::clock::rfc3339_nanos(time.seconds, time.nanos),
                "{path:?}"
            );
        }
        let target = facts
            .target
            .as_ref()
            .map(|target| String::from_utf8_lossy(target).into_owned());
        assert_eq!(entry["target"].as_str(), target.as_deref(), "{path:?}");
    }
}

#[test]
fn plain_and_long_listings_are_those_of_ls() {
    let Some(scene) = Scene::new() else { return };
    for (directory, options) in [("", "-A"), ("etc", ""), ("", "")] {
        let path = format!("{FILES}/{directory}");
        let all = Some("-a").filter(|_| !options.is_empty());
        let ours = scene.succeed("ls", [path.as_str()].into_iter().chain(all));
        let mut theirs = Command::new("ls");
        theirs
            .env("LC_ALL", "C")
            .arg("-1")
            .args(Some(options).filter(|options| !options.is_empty()));
        let theirs = theirs.arg(scene.kernel.path().join(directory)).output().unwrap();
        assert_eq!(
            String::from_utf8_lossy(&ours),
            String::from_utf8_lossy(&theirs.stdout),
            "{directory} {options}"
        );
    }
    let words = ["-1nl", "--full-time"];
    let theirs = Command::new("ls")
        .env("LC_ALL", "C")
        .env("TZ", "UTC0")
        .args(words)
        .arg(scene.kernel.path())
        .output();
    let theirs = String::from_utf8_lossy(&theirs.unwrap().stdout).into_owned();
    let ours = scene.succeed("ls", ["-l", FILES]);
    let ours = String::from_utf8_lossy(&ours).into_owned();
    // Columns may be of another width, and there is no line of the total.
    let squeezed = |text: &str| {
        let lines = text
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        lines.filter(|line| !line.starts_with("total ")).collect::<Vec<_>>()
    };
    assert_eq!(squeezed(&ours), squeezed(&theirs));
}

#[test]
fn cat_follows_links_inside_the_backup_only() {
    let Some(scene) = Scene::new() else { return };
    let passwd = fs::read(scene.kernel.path().join("etc/passwd")).unwrap();
    for path in [
        "etc/passwd",
        "absolute",
        "etc/out",
        "directory/passwd",
        "many/passwd",
        "../../../../etc/passwd",
    ] {
        assert_eq!(scene.succeed("cat", [format!("{FILES}/{path}")]), passwd, "{path}");
    }
    let odd = [FILES.as_bytes(), b"/\xff\xfe"].concat();
    assert_eq!(scene.succeed("cat", [OsStr::from_bytes(&odd)]), b"\xff\xfe");
    let large = scene.succeed("cat", [format!("{FILES}/etc/deep/er/still/large")]);
    assert!(large == noise(3_000_001));
    for (path, part) in [
        ("dangling", "there is no nowhere in"),
        ("etc", "is a directory"),
        ("pipe", "is a named pipe"),
    ] {
        let failed = scene.run("cat", [format!("{FILES}/{path}")]);
        let stderr = String::from_utf8_lossy(&failed.stderr);
        assert!(
            failed.status.code() == Some(1) && stderr.contains(part),
            "{path}: {stderr}"
        );
    }
}

#[test]
fn one_file_and_what_a_link_leads_to_are_copied_by_name() {
    let Some(scene) = Scene::new() else { return };
    let target = target(&scene);
    let to = |name: &str| target.path().join(name).to_str().unwrap().to_owned();
    scene.succeed("cp", [&format!("{FILES}/absolute"), &to("kept"), "--quiet"]);
    assert_eq!(fs::read_link(to("kept")).unwrap(), Path::new("/etc/passwd"));
    scene.succeed("cp", ["-L", &format!("{FILES}/absolute"), &to("followed"), "--quiet"]);
    assert!(fs::read(to("followed")).unwrap().starts_with(b"root:x"));
    assert_eq!(fs::metadata(to("followed")).unwrap().gid(), 42);
    scene.succeed(
        "cp",
        ["--no-owner", &format!("{FILES}/etc/passwd"), &to("mine"), "--quiet"],
    );
    assert_eq!(fs::metadata(to("mine")).unwrap().gid(), 0);
}

#[test]
fn show_lists_the_volumes() {
    let Some(scene) = Scene::new() else { return };
    let text = String::from_utf8(scene.succeed("show", ["disks/data/latest"])).unwrap();
    let line = text
        .lines()
        .find(|line| line.ends_with("volumes/disk"))
        .unwrap_or_else(|| panic!("{text}"));
    assert!(line.contains("96.0 MiB") && line.contains("ext"), "{line}");
    let json = scene.json("show", &["disks/data/latest"]);
    assert_eq!(json["volumes"][0]["path"], "volumes/disk");
    let described = scene.succeed("cat", ["disks/data/latest/backup.json"]);
    assert_eq!(serde_json::from_slice::<Value>(&described).unwrap(), json);
}

#[test]
fn damaged_files_are_told_and_left_out() {
    let Some(scene) = Scene::new() else { return };
    let packs = scene.dir.path().join("vault/packs");
    let mut damaged = 0;
    for pack in walk(&packs) {
        // One chunk of each large pack.
        let file = fs::OpenOptions::new().write(true).open(&pack).unwrap();
        if file.metadata().unwrap().len() > 2 << 20 {
            file.write_all_at(&[0xaa; 64], 1 << 20).unwrap();
            damaged += 1;
        }
    }
    assert!(damaged > 0);
    let target = target(&scene);
    let copy = target.path().join("copy");
    let ended = scene.run("cp", ["-r", FILES, copy.to_str().unwrap(), "--json"]);
    let stderr = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(3), "{stderr}");
    let kernels = scene.kernels();
    let mut missing = 0;
    let copied = tree_of_directory(&copy);
    for (path, facts) in &kernels {
        match copied.get(path) {
            Some(copied) => assert_eq!(copied.content, facts.content, "{path:?}"),
            None => missing += 1,
        }
    }
    assert!(missing > 0 && kernels.len() > missing, "{missing} of {}", kernels.len());
    assert!(
        copied.keys().all(|path| kernels.contains_key(path)),
        "nothing half-made is left"
    );
}

fn walk(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] })
        .collect()
}

#[test]
fn a_damaged_entry_is_told_and_the_rest_is_listed() {
    let dir = tempfile::tempdir().unwrap();
    let (image, vault) = (dir.path().join("data.img"), dir.path().join("vault"));
    let source = dir.path().join("source");
    fs::create_dir(&source).unwrap();
    for name in ["a", "b", "c"] {
        fs::write(source.join(name), name).unwrap();
    }
    fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
    let [image_text, source_text] = [&image, &source].map(|path| path.to_str().unwrap());
    let features = "metadata_csum";
    run(&[
        "mke2fs",
        "-q",
        "-t",
        "ext4",
        "-b",
        "4096",
        "-O",
        features,
        "-d",
        source_text,
        image_text,
    ]);
    // "... located at block 37, offset 0x0c00": one byte of it, so that the inode's checksum fails.
    let told = run(&["debugfs", "-R", "imap /b", image_text]);
    let (_, place) = told.split_once("located at block ").unwrap();
    let (block, offset) = place.trim().split_once(", offset 0x").unwrap();
    let at = block.parse::<u64>().unwrap() * 4096 + u64::from_str_radix(offset, 16).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&image).unwrap();
    file.write_all_at(&[0x5a], at + 4).unwrap();
    succeed([OsStr::new("init"), vault.as_os_str()]);
    succeed([
        "backup".as_ref(),
        vault.as_os_str(),
        "disk".as_ref(),
        "data".as_ref(),
        image.as_os_str(),
    ]);
    for option in ["-l", "--json"] {
        let mut program = Command::new(env!("CARGO_BIN_EXE_vaultfs"));
        let listed = program.arg("ls").arg(&vault).args([FILES, option]).output().unwrap();
        let stderr = String::from_utf8_lossy(&listed.stderr);
        assert_eq!(listed.status.code(), Some(3), "{stderr}");
        assert_eq!(
            (
                stderr.lines().count(),
                stderr.starts_with(&format!("error: {FILES}/b: "))
            ),
            (1, true),
            "{stderr}"
        );
        let stdout = String::from_utf8_lossy(&listed.stdout);
        let lines = |end: &str| stdout.lines().filter(|line| line.ends_with(end)).count();
        match option {
            "-l" => assert_eq!((lines(" a"), lines(" b"), lines(" c")), (1, 0, 1), "{stdout}"),
            _ => assert_eq!(
                serde_json::from_str::<Value>(&stdout)
                    .unwrap()
                    .as_array()
                    .unwrap()
                    .len(),
                3,
                "{stdout}"
            ),
        }
    }
}
