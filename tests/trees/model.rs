//! Random changes between backups: every point shows the tree as it was then, and each can be restored over any other.

use super::Scene;
use crate::common::Random;
use crate::files::{assert_same, restorable, tree_of_directory};
use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FileType, Mode, RenameFlags, Timespec, Timestamps, XattrFlags, fallocate,
    lremovexattr, lsetxattr, mknodat, renameat_with, utimensat,
};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

const ROUNDS: usize = 7;
/// Few, so that they are met again: what was a file becomes a directory, and back.
const NAMES: [&[u8]; 10] = [b"a", b"b", b"c", b"d d", b"e\nf", b"\xff", b"-g", b".h", b"i", b"j"];

/// A tree that changes.
struct World {
    root: PathBuf,
    random: Random,
    /// Whether contents change behind the back of sizes and times.
    tampers: bool,
}

impl World {
    fn number(&mut self, bound: usize) -> usize {
        usize::try_from(self.random.below(bound.try_into().unwrap())).unwrap()
    }

    /// All paths of a kind.
    fn paths(&self, is_wanted: impl Fn(&fs::FileType) -> bool) -> Vec<PathBuf> {
        let (mut found, mut waiting) = (Vec::new(), vec![self.root.clone()]);
        while let Some(dir) = waiting.pop() {
            for entry in fs::read_dir(&dir).unwrap().map(Result::unwrap) {
                let kind = entry.file_type().unwrap();
                if kind.is_dir() {
                    waiting.push(entry.path());
                }
                if is_wanted(&kind) {
                    found.push(entry.path());
                }
            }
        }
        found.sort();
        found
    }

    fn any(&mut self, is_wanted: impl Fn(&fs::FileType) -> bool) -> Option<PathBuf> {
        let paths = self.paths(is_wanted);
        (!paths.is_empty()).then(|| self.random.pick(&paths).clone())
    }

    fn a_file(&mut self) -> Option<PathBuf> {
        self.any(fs::FileType::is_file)
    }

    /// A path that may be taken, in a directory that is there.
    fn place(&mut self) -> PathBuf {
        let mut directories = self.paths(fs::FileType::is_dir);
        directories.push(self.root.clone());
        let directory = self.random.pick(&directories).clone();
        directory.join(OsStr::from_bytes(self.random.pick::<&[u8]>(&NAMES)))
    }

    fn content(&mut self) -> Vec<u8> {
        let bound = *self.random.pick(&[1, 10, 257, 5000, 70_000, 70_000, 3_000_000]);
        let len = self.number(bound);
        match self.number(4) {
            0 => vec![0; len],
            1 => b"text and text ".iter().copied().cycle().take(len).collect(),
            _ => self.random.bytes(len),
        }
    }

    /// One change; what cannot be is no change.
    fn change(&mut self) -> Option<()> {
        match self.number(20) {
            0..4 => {
                let (place, content) = (self.place(), self.content());
                // A pipe would wait for a reader.
                let may_be_written = fs::metadata(&place).map_or(true, |there| there.is_file());
                may_be_written.then(|| fs::write(place, content))?.ok()?;
            }
            4..6 => fs::create_dir(self.place()).ok()?,
            6 => {
                let (file, content) = (self.a_file()?, self.content());
                let size = fs::metadata(&file).ok()?.len();
                let offset = self.random.below(size + 200_000);
                let file = fs::File::options().write(true).open(file).ok()?;
                file.write_all_at(&content, offset).ok()?;
            }
            7 => {
                let file = fs::File::options().write(true).open(self.a_file()?).ok()?;
                file.set_len(self.random.below(300_000)).ok()?;
            }
            8 => {
                let file = fs::File::options().write(true).open(self.a_file()?).ok()?;
                let (offset, len) = (self.random.below(100_000), 1 + self.random.below(100_000));
                let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                fallocate(&file, flags, offset, len).ok()?;
            }
            9 => {
                let path = self.any(|_| true)?;
                fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path)).ok()?;
            }
            10..12 => {
                let (from, to) = (self.any(|_| true)?, self.place());
                fs::rename(from, to).ok()?;
            }
            12 => {
                let (one, other) = (self.any(|_| true)?, self.any(|_| true)?);
                renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).ok()?;
            }
            13 => {
                let (from, to) = (self.any(|kind| !kind.is_dir())?, self.place());
                fs::hard_link(from, to).ok()?;
            }
            14 => symlink(self.any(|_| true)?, self.place()).ok()?,
            15 => self.attributes()?,
            16 => {
                let path = self.any(|_| true)?;
                let (uid, gid) = (self.random.below(3), self.random.below(3));
                lchown(path, Some(uid.try_into().unwrap()), Some(gid.try_into().unwrap())).ok()?;
            }
            17 => {
                let kind = *self.random.pick(&[FileType::Fifo, FileType::Socket]);
                mknodat(CWD, self.place(), kind, Mode::from_raw_mode(0o600), 0).ok()?;
            }
            18 => {
                let path = self.any(|_| true)?;
                if self.number(2) == 0 {
                    let value = self.random.bytes(300);
                    lsetxattr(path, "trusted.one", &value, XattrFlags::empty()).ok()?;
                } else {
                    lremovexattr(path, "trusted.one").ok()?;
                }
            }
            _ => self.tamper()?,
        }
        Some(())
    }

    fn attributes(&mut self) -> Option<()> {
        let path = self.any(|kind| !kind.is_symlink())?;
        let mode = u32::try_from(self.random.below(0o10_000)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).ok()?;
        let time = Timespec {
            tv_sec: i64::try_from(self.random.below(4_000_000_000)).unwrap() - 1_000_000_000,
            tv_nsec: i64::try_from(self.random.below(1_000_000_000)).unwrap(),
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).ok()
    }

    /// Other content of the same size with the same time of modification.
    fn tamper(&mut self) -> Option<()> {
        if !self.tampers {
            return None;
        }
        let path = self.a_file()?;
        let before = fs::metadata(&path).ok()?;
        let file = fs::File::options().write(true).open(path).ok()?;
        let at = self.random.below(before.len().max(1));
        if at < before.len() {
            file.write_all_at(&[self.random.next().to_le_bytes()[0]], at).ok()?;
            file.set_modified(before.modified().ok()?).ok()?;
        }
        Some(())
    }
}

fn points(tree: &Path) -> Vec<String> {
    let names = fs::read_dir(tree).unwrap().map(|entry| entry.unwrap().file_name());
    let mut points: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    points.retain(|name| name != "latest");
    points.sort();
    points
}

fn live(scene: &Scene, seed: u64) {
    let root = scene.kernel.path().join(format!("source {seed}"));
    fs::create_dir(&root).unwrap();
    let mut world = World {
        root,
        random: Random::new(seed),
        tampers: seed.is_multiple_of(2),
    };
    let name = format!("home-{seed}");
    let mut as_they_were = Vec::new();
    for round in 0..ROUNDS {
        let mut left = if round == 0 { 100 } else { 1 + world.number(40) };
        // What was removed with all that is in it grows again.
        while left > 0 || world.paths(|_| true).len() < 30 {
            if world.change().is_some() {
                left = left.saturating_sub(1);
            }
        }
        // Now and then time passes, and the next backup need not read what was changed just before this one.
        if world.number(2) == 0 {
            std::thread::sleep(Duration::from_millis(3200));
        }
        scene.back_up(&name, &world.root);
        as_they_were.push(tree_of_directory(&world.root));
    }
    assert!(
        as_they_were
            .windows(2)
            .all(|pair| pair[0].len() > 20 && pair[0] != pair[1])
    );
    let mounted = scene.mount();
    let shown = mounted.0.path().join("filesystems").join(&name);
    let points = points(&shown);
    assert_eq!(points.len(), ROUNDS);
    for (point, was) in points.iter().zip(&as_they_were) {
        let tree = tree_of_directory(&shown.join(point).join("tree"));
        assert_same(&tree, was, &format!("seed {seed}, {point}"));
    }
    let to = scene.kernel.path().join(format!("restored {seed}"));
    fs::create_dir(&to).unwrap();
    let mut options = vec!["--force", "--delete"];
    if world.tampers {
        options.push("--checksum");
    }
    for _ in 0..ROUNDS {
        let number = world.number(ROUNDS);
        let address = format!("filesystems/{name}/{}", points[number]);
        scene.restore_point(&address, &to, &options);
        let what = format!("seed {seed}, {address} restored");
        assert_same(
            &restorable(tree_of_directory(&to)),
            &restorable(as_they_were[number].clone()),
            &what,
        );
    }
}

#[test]
fn random_changes_come_back_from_every_point_and_over_every_other() {
    let Some(scene) = Scene::empty() else { return };
    let began: u64 = std::env::var("SEED").map_or(1, |seed| seed.parse().unwrap());
    std::thread::scope(|scope| {
        for seed in began..began + 4 {
            let scene = &scene;
            scope.spawn(move || live(scene, seed));
        }
    });
}
