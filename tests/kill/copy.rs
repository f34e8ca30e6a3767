//! Copies that are killed: the target shows nothing half-made, the source stays as it is, and the next copy sends little again.

use crate::common::disks::{CHUNK, length};
use crate::common::kills::{self, Place, is_below};
use crate::common::program::{self, stderr, succeed, vaultfs};
use crate::common::trace::Call;
use crate::common::{Random, copy_files, have, scratch};
use crate::scene::{Contents, back_up, contents, every_stage, objects};
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use tempfile::TempDir;

/// What writes the target, and what lies between.
const NAMES: [&str; 8] = [
    "write",
    "fsync",
    "renameat2",
    "openat",
    "close",
    "statx",
    "mkdir",
    "unlink",
];

/// Two vaults: one with backups, and one that has the first of them.
struct Scene {
    dir: TempDir,
    all: Contents,
}

/// What a kill left in the target.
struct Left {
    packs: usize,
    backups: usize,
    leases: usize,
}

fn copy(from: &Path, to: &Path) -> Command {
    let words = ["copy", "--json", "--jobs", "2", "--all"].map(OsStr::new);
    vaultfs(words.into_iter().chain([from.as_os_str(), to.as_os_str()]))
}

/// All objects of a vault but leases, byte for byte.
fn without_leases(vault: &Path) -> BTreeMap<String, BTreeMap<PathBuf, Vec<u8>>> {
    let mut all = objects(vault);
    all.remove("leases");
    all
}

/// How many packs a vault has.
fn packs(vault: &Path) -> usize {
    objects(vault).get("packs").map_or(0, BTreeMap::len)
}

impl Scene {
    fn new() -> Self {
        let dir = scratch();
        let from = program::init(dir.path());
        let to_dir = dir.path().join("other");
        std::fs::create_dir(&to_dir).unwrap();
        let to = program::init(&to_dir);
        let shared = Random::quiet(1).bytes(length(2 * CHUNK));
        for (number, server) in (1u64..).zip(["web", "web", "db", "web"]) {
            let own = Random::quiet(1 + number).bytes(length(2 * CHUNK));
            let point = format!("2026-01-{number:02}T00-00-00Z");
            back_up(&from, server, &point, &[shared.as_slice(), &own].concat());
            if number == 1 {
                succeed(copy(&from, &to));
            }
        }
        let all = contents(&from);
        assert_eq!((all.len(), contents(&to).len()), (4, 1));
        Self { dir, all }
    }

    fn vaults(dir: &Path) -> [PathBuf; 2] {
        ["vault", "other/vault"].map(|name| dir.join(name))
    }

    /// Copies of both vaults to work on.
    fn copies(&self) -> (TempDir, [PathBuf; 2]) {
        let dir = scratch();
        let copies = Self::vaults(dir.path());
        for (from, to) in Self::vaults(self.dir.path()).iter().zip(&copies) {
            copy_files(from, to);
        }
        (dir, copies)
    }

    /// The calls of an undisturbed copy on the target, and how many packs there are then.
    fn undisturbed(&self) -> (Vec<Place>, usize) {
        let (_dir, [from, to]) = self.copies();
        let calls = kills::calls(&copy(&from, &to), 0);
        let is_one = |call: &Call| NAMES.contains(&call.name.as_str()) && is_below(call, &to);
        assert!(contents(&to) == self.all);
        (kills::places(&calls, is_one), packs(&to))
    }

    /// Lets one call fail; says whether it was one on the target that matters.
    fn fail(&self, fault: &str, number: u32) -> bool {
        let (_dir, [from, to]) = self.copies();
        let before = without_leases(&from);
        let faulted = kills::fail(&copy(&from, &to), fault, &number.to_string());
        let (output, what) = (&faulted.output, format!("{fault} {number}"));
        let hits = faulted.hits(&to);
        let matters = hits.iter().any(|call| !is_below(call, &to.join("leases")));
        let listed = contents(&to);
        for (address, bytes) in &listed {
            assert!(self.all.get(address) == Some(bytes), "{what}: {address}");
        }
        let succeeded = output.status.success();
        assert!(!(succeeded && matters), "{what}: {hits:?}");
        assert!(!succeeded || listed == self.all, "{what}: it says that it is done");
        let mute = faulted.injected.len() > hits.len();
        assert!(
            succeeded || mute || !stderr(output).is_empty(),
            "{what}: it failed without a word"
        );
        succeed(copy(&from, &to));
        assert!(contents(&to) == self.all, "{what}");
        assert!(without_leases(&from) == before, "{what}: the source changed");
        matters
    }

    /// Kills a copy at one place; says what it left if it was killed. `most` packs an undisturbed one leaves.
    fn kill(&self, place: &Place, most: usize) -> Option<Left> {
        let (_dir, [from, to]) = self.copies();
        let before = without_leases(&from);
        let killed = kills::kill(&copy(&from, &to), place, 0);
        let listed = contents(&to);
        for (address, bytes) in &listed {
            assert!(self.all.get(address) == Some(bytes), "{place:?}: {address}");
        }
        let left = Left {
            packs: packs(&to),
            backups: listed.len(),
            leases: objects(&to).get("leases").map_or(0, BTreeMap::len),
        };
        assert!(without_leases(&from) == before, "{place:?}: the source changed");
        let report: Value = serde_json::from_slice(&succeed(copy(&from, &to))).unwrap();
        let there = u64::try_from(left.backups).unwrap();
        assert_eq!(
            (&report["there"], &report["copied"]),
            (&there.into(), &(4 - there).into())
        );
        assert!(contents(&to) == self.all, "{place:?}");
        // A pack that no index lists yet is sent again, and no other.
        assert!(packs(&to) <= most + 1, "{place:?}: {} packs", packs(&to));
        assert!(without_leases(&from) == before, "{place:?}: the source changed");
        killed.then_some(left)
    }
}

#[test]
fn a_copy_killed_at_any_call_shows_nothing_half_made_and_is_completed_by_the_next() {
    let test = "a_copy_killed_at_any_call_shows_nothing_half_made_and_is_completed_by_the_next";
    if !have(test, "strace") {
        return;
    }
    let scene = Scene::new();
    let (places, most) = scene.undisturbed();
    let left = Mutex::new(Vec::new());
    kills::for_each(&places, |place| {
        let found = scene.kill(place, most);
        left.lock().unwrap().extend(found);
    });
    let left = left.into_inner().unwrap();
    every_stage(
        "copy",
        &left,
        &[
            ("nothing done", &|left| left.leases == 0 && left.packs == 1),
            ("a lease", &|left| left.leases == 1 && left.packs == 1),
            ("a pack of no backup", &|left| left.packs > left.backups),
            ("some backups", &|left| (2..4).contains(&left.backups)),
            ("all backups", &|left| left.backups == 4),
        ],
    );
    assert!(left.len() >= 180, "only {} kills", left.len());
}

#[test]
fn a_copy_whose_calls_fail_says_so_and_is_completed_by_the_next() {
    let test = "a_copy_whose_calls_fail_says_so_and_is_completed_by_the_next";
    if !have(test, "strace") {
        return;
    }
    let scene = Scene::new();
    let (places, _) = scene.undisturbed();
    for fault in [
        "fsync:error=EIO",
        "write:error=EIO",
        "write:error=ENOSPC",
        "renameat2:error=EIO",
    ] {
        let (name, _) = fault.split_once(':').unwrap();
        let places: Vec<Place> = places.iter().filter(|(of, _)| of == name).cloned().collect();
        let hits = AtomicUsize::new(0);
        kills::for_each(&kills::spread(&places, 6), |(_, number)| {
            hits.fetch_add(usize::from(scene.fail(fault, *number)), Ordering::Relaxed);
        });
        println!("{fault}: hit the target {} times", hits.load(Ordering::Relaxed));
        assert!(hits.into_inner() > 1, "{fault} hardly hit the target");
    }
}
