//! File-system backups as a whole: a tree made to be nasty is the same in every attribute through the mount, `restore` and `cp`.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod common;
mod files;
#[path = "trees/large.rs"]
mod large;
#[path = "trees/model.rs"]
mod model;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::program;
use files::{LoopMount, assert_same, can_loop_mount, restorable, run, tree_of_directory};
use rustix::fs::{CWD, FileType, Mode, XattrFlags, lsetxattr, makedev, mknodat};

const TREE: &str = "filesystems/home/latest/tree";

/// A file system of the kernel with a tree, room for copies of it, and a vault with its backup.
struct Scene {
    dir: tempfile::TempDir,
    kernel: LoopMount,
}

impl Scene {
    /// With a nasty tree in its first backup.
    fn new() -> Option<Self> {
        let scene = Self::empty()?;
        fill(&scene.source());
        scene.back_up("home", &scene.source());
        Some(scene)
    }

    /// With nothing but an empty vault.
    fn empty() -> Option<Self> {
        if !can_loop_mount() {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("xfs.img");
        fs::File::create(&image).unwrap().set_len(2 << 30).unwrap();
        run(&["mkfs.xfs", "-q", image.to_str().unwrap()]);
        // Space taken ahead of a writer is given back at some moment: it would be another number of blocks in the backup.
        let kernel = LoopMount::new(&image, "rw,noatime,allocsize=4k");
        let scene = Self { dir, kernel };
        scene.succeed(["init", scene.vault().to_str().unwrap()]);
        Some(scene)
    }

    fn source(&self) -> PathBuf {
        self.kernel.path().join("source")
    }

    fn vault(&self) -> PathBuf {
        self.dir.path().join("vault")
    }

    fn back_up(&self, name: &str, source: &Path) {
        // What is not written out yet has no place, and may need more blocks for it than it says.
        rustix::fs::syncfs(fs::File::open(source).unwrap()).unwrap();
        let vault = self.vault();
        let words = ["backup", vault.to_str().unwrap(), "filesystem", name];
        self.succeed(words.into_iter().chain([source.to_str().unwrap()]));
    }

    /// Mounts the vault until the value goes.
    fn mount(&self) -> Mounted {
        let at = Mounted(tempfile::tempdir().unwrap());
        self.succeed(["mount", self.vault().to_str().unwrap(), at.0.path().to_str().unwrap()]);
        at
    }

    #[track_caller]
    fn succeed<'w>(&self, words: impl IntoIterator<Item = &'w str>) -> String {
        String::from_utf8(program::succeed(program::vaultfs(words))).unwrap()
    }

    #[track_caller]
    fn restore(&self, to: &Path, options: &[&str]) -> serde_json::Value {
        self.restore_point("filesystems/home/latest", to, options)
    }

    #[track_caller]
    fn restore_point(&self, address: &str, to: &Path, options: &[&str]) -> serde_json::Value {
        let vault = self.vault();
        let words = ["restore", vault.to_str().unwrap(), address, "--json", "--to"];
        let words = words.into_iter().chain([to.to_str().unwrap()]);
        serde_json::from_str(&self.succeed(words.chain(options.iter().copied()))).unwrap()
    }
}

/// Everything that a backup can get wrong, in numbers that do not take long.
fn fill(root: &Path) {
    let at = |name: &str| root.join(name);
    fs::create_dir_all(at("empty")).unwrap();
    fs::create_dir(at("many")).unwrap();
    for number in 0..3000 {
        fs::write(at(&format!("many/{number}")), noise(number % 7)).unwrap();
    }
    for size in [
        0, 1, 255, 256, 257, 131_071, 131_072, 131_073, 2_097_151, 2_097_152, 2_097_153, 7_000_001,
    ] {
        fs::write(at(&format!("size {size}")), noise(size)).unwrap();
    }
    fs::write(at("zeros"), vec![0; 300_000]).unwrap();
    let sparse = fs::File::create(at("sparse")).unwrap();
    for (offset, len) in [(0, 1), (5_000_000_000, 100_000), (900_000_000_000, 4096)] {
        sparse.write_all_at(&noise(len), offset).unwrap();
    }
    sparse.set_len(1 << 40).unwrap();
    fs::write(at("linked"), noise(1000)).unwrap();
    fs::create_dir(at("links")).unwrap();
    for number in 0..2000 {
        fs::hard_link(at("linked"), at(&format!("links/{number}"))).unwrap();
    }
    for name in [
        &b"a b"[..],
        b"new\nline",
        b"\xff\xfe",
        b"-rf",
        b"\x1b[2J",
        &[b'n'; 255],
        &[0xff; 255],
    ] {
        fs::write(root.join(OsStr::from_bytes(name)), name).unwrap();
    }
    let mut deep = at("deep");
    for _ in 0..1000 {
        fs::create_dir(&deep).unwrap();
        deep.push("d");
    }
    symlink("/etc/../raw text", at("link")).unwrap();
    symlink("l".repeat(1000), at("long link")).unwrap();
    fs::hard_link(at("link"), at("link too")).unwrap();
    for (name, kind, device) in [
        ("null", FileType::CharacterDevice, makedev(1, 3)),
        ("disk", FileType::BlockDevice, makedev(259, 300)),
        ("pipe", FileType::Fifo, 0),
        ("socket", FileType::Socket, 0),
    ] {
        mknodat(CWD, at(name), kind, Mode::from_raw_mode(0o640), device).unwrap();
    }
    std::os::unix::fs::chown(at("size 257"), Some(1234), Some(4321)).unwrap();
    std::os::unix::fs::lchown(at("link"), Some(5), Some(6)).unwrap();
    for (name, mode) in [("size 256", 0o6755), ("many", 0o1777), ("links", 0o2500), ("size 1", 0)] {
        fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    let set = |name: &str, key: &str, value: &[u8]| lsetxattr(at(name), key, value, XattrFlags::empty()).unwrap();
    set("size 257", "user.large", &noise(60 << 10));
    set("size 257", "user.empty", b"");
    set("link", "trusted.link", b"on a link");
    set("many", "user.directory", &[0, 0xff]);
    run(&["setfacl", "-m", "u:1234:rw,g:55:r", at("size 255").to_str().unwrap()]);
    run(&["setfacl", "-d", "-m", "u:1234:rwx", at("empty").to_str().unwrap()]);
    for (name, seconds) in [
        ("size 0", -1_500_000_000),
        ("size 255", 5_000_000_000),
        ("empty", 3),
        ("link", 7),
    ] {
        let time = rustix::fs::Timespec {
            tv_sec: seconds,
            tv_nsec: 123_456_789,
        };
        let times = rustix::fs::Timestamps {
            last_access: time,
            last_modification: time,
        };
        rustix::fs::utimensat(CWD, at(name), &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ u64::try_from(len).unwrap();
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3] | 1
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// A mount of the vault, unmounted with the value.
struct Mounted(tempfile::TempDir);

impl Drop for Mounted {
    fn drop(&mut self) {
        let mut umount = Command::new(env!("CARGO_BIN_EXE_vaultfs"));
        let _ = umount.arg("umount").arg("--lazy").arg(self.0.path()).output();
    }
}

#[test]
fn a_nasty_tree_is_the_same_through_the_mount_restore_and_cp() {
    let Some(scene) = Scene::new() else { return };
    let source = tree_of_directory(&scene.source());
    let vault = scene.vault();
    let mounted = scene.mount();
    assert_same(&tree_of_directory(&mounted.0.path().join(TREE)), &source, "the mount");
    drop(mounted);
    let source = restorable(source);
    let restored = scene.kernel.path().join("restored");
    let report = scene.restore(&restored, &[]);
    assert_eq!(report["not_kept"], serde_json::json!({}));
    assert_same(&restorable(tree_of_directory(&restored)), &source, "restore");
    let copied = scene.kernel.path().join("copied");
    scene.succeed(["cp", "-r", vault.to_str().unwrap(), TREE, copied.to_str().unwrap()]);
    assert_same(&restorable(tree_of_directory(&copied)), &source, "cp");
}

#[test]
fn restored_again_nothing_is_written_and_then_only_what_was_changed() {
    let Some(scene) = Scene::new() else { return };
    let source = restorable(tree_of_directory(&scene.source()));
    let to = scene.kernel.path().join("restored");
    scene.restore(&to, &[]);
    let force = ["--force", "--delete"];
    let again = scene.restore(&to, &force);
    for figure in [
        "files",
        "bytes",
        "hard_links",
        "specials",
        "symlinks",
        "mended",
        "removed",
    ] {
        assert_eq!(again[figure], 0, "{figure}");
    }
    fs::write(to.join("size 257"), "changed").unwrap();
    fs::remove_file(to.join("links/17")).unwrap();
    fs::remove_dir_all(to.join("deep/d/d")).unwrap();
    fs::create_dir_all(to.join("extra/tree")).unwrap();
    symlink("/", to.join("extra/root")).unwrap();
    let plan = scene.restore(&to, &["--force", "--delete", "--dry-run"]);
    let report = scene.restore(&to, &force);
    for figure in ["files", "hard_links", "directories", "removed", "unchanged", "mended"] {
        assert_eq!(report[figure], plan[figure], "{figure}");
    }
    assert_eq!((&report["files"], &report["hard_links"]), (&1.into(), &1.into()));
    assert_eq!((&report["directories"], &report["removed"]), (&998.into(), &3.into()));
    assert_same(&restorable(tree_of_directory(&to)), &source, "restore --force --delete");
}

#[test]
fn what_cannot_be_meant_is_refused_with_the_reason() {
    let Some(scene) = Scene::new() else { return };
    let vault = scene.vault();
    let vault = vault.to_str().unwrap();
    let to = scene.dir.path().join("to");
    let inside = format!("{vault}/to");
    let base = scene.dir.path().to_str().unwrap();
    for (to, more, code, part) in [
        (to.to_str().unwrap(), &["--disk", "vda"][..], 2, "leave out --disk"),
        (to.to_str().unwrap(), &["--format", "raw"], 2, "leave out --format"),
        (to.to_str().unwrap(), &["--delete"], 2, "--force"),
        (
            to.to_str().unwrap(),
            &["--include", "no such"],
            1,
            "there is no no such",
        ),
        (inside.as_str(), &[], 1, "it lies in the vault"),
        (base, &[], 1, "it is not empty"),
        (base, &["--force", "--delete"], 1, "the vault lies in it"),
    ] {
        let words = ["restore", vault, "filesystems/home/latest", "--to", to];
        let words = words.into_iter().chain(more.iter().copied());
        let output = program::vaultfs(words).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{more:?}: {stderr}");
        assert!(stderr.contains(part), "{more:?}: {stderr}");
    }
    assert!(!to.exists());
    // Its parent holds the vault, it does not: there is nothing to be removed.
    scene.restore(&to, &["--force", "--delete", "--include", "link"]);
    assert!(to.join("link").is_symlink());
}
