//! Small files that the daemon pushes into the page cache ahead of a reader: the bytes are right, and the requests are gone.
//!
//! Without FUSE each test says aloud that it is skipped; with VAULTFS_REQUIRE_FUSE=1 it fails instead.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use common::mounted::Mount;
use common::{Random, can_mount, files, have, program};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// Sizes around the borders of pages, and around the largest that is pushed.
const SIZES: [usize; 14] = [
    0, 1, 2, 511, 4095, 4096, 4097, 8191, 8192, 8193, 20000, 65535, 65536, 65537,
];
const TREE: &str = "disks/data/latest/volumes/disk/d";
const DIRECTORIES: usize = 10;
const FILES: usize = 70;

struct Live {
    // Dropped in this order: the mount before the directory it is in.
    mount: Mount,
    dir: TempDir,
}

impl Live {
    /// A mounted vault with one backup of an ext4 volume that holds the tree `source`; `None` where it cannot be.
    fn new(test: &str) -> Option<Self> {
        if !can_mount(test) || !have(test, "mke2fs") {
            return None;
        }
        let dir = TempDir::new().unwrap();
        let (source, image) = (dir.path().join("source"), dir.path().join("image"));
        make_tree(&source);
        fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
        let mut mke2fs = Command::new("mke2fs");
        mke2fs
            .args(["-q", "-t", "ext4", "-b", "4096", "-d"])
            .args([&source, &image]);
        program::succeed(mke2fs);
        let vault = program::init(dir.path());
        let words = ["backup".as_ref(), vault.as_os_str(), "disk".as_ref(), "data".as_ref()];
        program::succeed(program::vaultfs(words.into_iter().chain([image.as_os_str()])));
        let mount = Mount::chatty(dir.path(), &vault, "");
        Some(Self { mount, dir })
    }

    fn source(&self) -> PathBuf {
        self.dir.path().join("source")
    }

    fn tree(&self) -> PathBuf {
        self.mount.path(TREE)
    }

    /// Requests for bytes so far, and files pushed.
    fn asked_and_pushed(&self) -> (usize, usize) {
        let log = self.mount.log();
        let asked = log.lines().filter(|line| line.contains(" READ fh ")).count();
        let pushed = log.lines().filter_map(|line| {
            let (_, count) = line.split_once(": pushed ")?;
            count.split_once(' ')?.0.parse::<usize>().ok()
        });
        (asked, pushed.sum())
    }
}

fn make_tree(source: &Path) {
    let mut random = Random::new(0x0005_4e11);
    for directory in 0..DIRECTORIES {
        let path = source.join(format!("d/{directory}"));
        fs::create_dir_all(&path).unwrap();
        for number in 0..FILES {
            let bytes = random.bytes(SIZES[number % SIZES.len()]);
            fs::write(path.join(format!("{number:03}")), bytes).unwrap();
        }
    }
}

/// Compares two trees byte by byte.
#[track_caller]
fn assert_equal(ours: &Path, theirs: &Path) {
    let relative = |root: &Path| -> Vec<PathBuf> {
        let strip = |path: PathBuf| path.strip_prefix(root).unwrap().to_owned();
        files(root).into_iter().map(strip).collect()
    };
    let names = relative(theirs);
    assert_eq!(relative(ours), names);
    assert_eq!(names.len(), DIRECTORIES * FILES);
    for name in names {
        let (ours, theirs) = (
            fs::read(ours.join(&name)).unwrap(),
            fs::read(theirs.join(&name)).unwrap(),
        );
        assert!(ours == theirs, "{} differs ({} bytes)", name.display(), theirs.len());
    }
}

#[test]
fn a_copied_tree_equals_its_source_and_most_files_need_no_request() {
    let Some(live) = Live::new("a_copied_tree_equals_its_source_and_most_files_need_no_request") else {
        return;
    };
    let copy = live.dir.path().join("copy");
    let mut cp = Command::new("cp");
    cp.arg("-a").args([live.tree(), copy.clone()]);
    program::succeed(cp);
    assert_equal(&copy, &live.source().join("d"));
    let (asked, pushed) = live.asked_and_pushed();
    assert!(pushed > DIRECTORIES * FILES / 3, "{pushed} files were pushed");
    assert!(asked < DIRECTORIES * FILES * 2 / 3, "{asked} reads were asked for");
    // Once more, out of what the page cache holds, the pushed last pages with it.
    assert_equal(&live.tree(), &live.source().join("d"));
    assert_eq!(live.mount.complaints(), [""; 0]);
    live.mount.end();
}

#[test]
fn walking_through_a_tree_pushes_nothing() {
    let Some(live) = Live::new("walking_through_a_tree_pushes_nothing") else {
        return;
    };
    for words in [["-R", "-l"], ["-R", "-a"], ["-R", "-l"]] {
        let mut ls = Command::new("ls");
        ls.args(words).arg(live.tree());
        program::succeed(ls);
    }
    assert_eq!(live.asked_and_pushed(), (0, 0));
    live.mount.end();
}

#[test]
fn copies_at_the_same_time_and_an_end_in_their_midst_do_no_harm() {
    let Some(live) = Live::new("copies_at_the_same_time_and_an_end_in_their_midst_do_no_harm") else {
        return;
    };
    let source = live.source().join("d");
    let copy = |from: PathBuf, name: &str| {
        let target = live.dir.path().join(name);
        let cp = Command::new("cp").arg("-a").args([from, target.clone()]).spawn();
        (cp.unwrap(), target)
    };
    let (mut killed, _) = copy(live.tree(), "killed");
    std::thread::sleep(Duration::from_millis(50));
    killed.kill().unwrap();
    killed.wait().unwrap();
    live.mount.end();
    let mount = Mount::chatty(live.dir.path(), &live.dir.path().join("vault"), "");
    let copies = ["a", "b", "c"].map(|name| copy(mount.path(TREE), name));
    for (mut cp, target) in copies {
        assert!(cp.wait().unwrap().success());
        assert_equal(&target, &source);
    }
    mount.end();
}
