//! Prunes that are killed: what is kept reads whole, the next backup starts at once, and the next prunes come to the end that an
//! undisturbed one comes to.

use crate::common::disks::{CHUNK, length};
use crate::common::kills::{self, Place, is_below};
use crate::common::program::{self, stderr, succeed, vaultfs};
use crate::common::{Random, copy_files, have, scratch, temporary_files};
use crate::scene::{Contents, Counts, back_up, contents, every_stage, objects};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use tempfile::TempDir;

const GONE: &str = "2026-01-01T00-00-00Z";
const KEPT: &str = "2026-01-02T00-00-00Z";
const NEXT: &str = "2026-02-01T00-00-00Z";

/// Prunes after which all is done, whatever the killed one has done: one that does its work, one that marks what it has made needless,
/// and one that removes that.
const ROUNDS: usize = 3;

/// Names of calls of which every one on the vault is a place, and those of which some are: many of them lie between two changes.
const EVERY: [&str; 7] = [
    "write",
    "fsync",
    "fallocate",
    "renameat2",
    "unlink",
    "unlinkat",
    "mkdir",
];
const SOME: [&str; 3] = ["openat", "close", "getdents64"];
const MOST: usize = 16;

/// A vault of which the next prune does what is to be disturbed.
struct Scene {
    dir: TempDir,
    kept: Contents,
    /// The disk of the next backup: a half is like what is kept, the other one like what is not.
    next: Vec<u8>,
}

/// A run of chunks that no other seed makes.
fn chunks(seed: u64, count: u64) -> Vec<u8> {
    Random::quiet(seed).bytes(length(count * CHUNK))
}

fn prune(vault: &Path, more: &[&str]) -> Command {
    let mut command = vaultfs(["prune".as_ref(), vault.as_os_str()]);
    command
        .args(["--grace", "0", "--keep-deleted", "0", "--json"])
        .args(more);
    command
}

impl Scene {
    /// A backup that was deleted and that the next prune marks, and one that stays.
    fn marking() -> Self {
        let gone = [chunks(1, 2), chunks(2, 2)].concat();
        let kept = [chunks(3, 2), chunks(4, 2)].concat();
        Self::new(&gone, &kept, [chunks(3, 2), chunks(2, 2)].concat())
    }

    /// The same, and it was marked.
    fn removing() -> Self {
        let scene = Self::marking();
        succeed(prune(&scene.vault(), &[]));
        scene
    }

    /// The deleted backup was removed, and of its pack a fifth is needed.
    fn repacking() -> Self {
        let gone = chunks(1, 10);
        let (needed, rest) = gone.split_at(length(2 * CHUNK));
        let next = [needed, &rest[..length(3 * CHUNK)]].concat();
        let scene = Self::new(&gone, &[needed, &chunks(4, 8)].concat(), next);
        for _ in 0..2 {
            succeed(prune(&scene.vault(), &["--repack-below", "0"]));
        }
        scene
    }

    fn new(gone: &[u8], kept: &[u8], next: Vec<u8>) -> Self {
        let dir = scratch();
        let vault = program::init(dir.path());
        back_up(&vault, "web", GONE, gone);
        back_up(&vault, "web", KEPT, kept);
        let mut delete = vaultfs(["delete".as_ref(), vault.as_os_str()]);
        delete.arg(format!("servers/web/{GONE}"));
        succeed(delete);
        let kept = contents(&vault);
        assert_eq!(kept.len(), 1);
        Self { dir, kept, next }
    }

    fn vault(&self) -> PathBuf {
        self.dir.path().join("vault")
    }

    /// A copy of the vault to work on.
    fn copy(&self) -> (TempDir, PathBuf) {
        let dir = scratch();
        let vault = dir.path().join("vault");
        copy_files(&self.vault(), &vault);
        (dir, vault)
    }

    fn places(&self) -> Vec<Place> {
        let (_dir, vault) = self.copy();
        let calls = kills::calls(&prune(&vault, &[]), 0);
        let of = |names: &'static [&str]| {
            kills::places(&calls, |call| {
                names.contains(&call.name.as_str()) && is_below(call, &vault)
            })
        };
        let mut places = of(&EVERY);
        // When it has done all, it says so.
        places.extend(kills::places(&calls, |call| {
            call.name == "write" && !is_below(call, &vault)
        }));
        places.extend(kills::spread(&of(&SOME), MOST));
        places
    }

    /// What there is when a prune has ended undisturbed, and when all have that follow it.
    fn undisturbed(&self) -> [Lengths; 2] {
        let (_dir, vault) = self.copy();
        succeed(prune(&vault, &[]));
        [lengths(&vault), finish(&vault)]
    }

    /// Kills the prune at one place; says what it left if it was killed.
    fn kill(&self, place: &Place, end: &Lengths) -> Option<Counts> {
        let (dir, vault) = self.copy();
        let killed = kills::kill(&prune(&vault, &[]), place, 0);
        let left = Counts::of(&vault);
        assert!(contents(&vault) == self.kept, "{place:?}");
        let twin = dir.path().join("twin");
        copy_files(&vault, &twin);
        assert_eq!(finish(&twin), *end, "{place:?}");
        assert!(contents(&twin) == self.kept, "{place:?}");
        // Nothing has to be unlocked, and what half is gone is not relied on.
        back_up(&vault, "web", NEXT, &self.next);
        finish(&vault);
        let mut all = self.kept.clone();
        all.insert(format!("servers/web/{NEXT}").parse().unwrap(), self.next.clone());
        assert!(contents(&vault) == all, "{place:?}");
        let verified = vaultfs(["verify".as_ref(), vault.as_os_str()]).output().unwrap();
        assert!(verified.status.success(), "{place:?}: {}", stderr(&verified));
        killed.then_some(left)
    }

    /// Lets one call fail; says whether it was one that matters. `done` is there after an undisturbed prune, `end` after all that follow.
    fn fail(&self, fault: &str, number: u32, [done, end]: &[Lengths; 2]) -> bool {
        let (_dir, vault) = self.copy();
        let faulted = kills::fail(&prune(&vault, &[]), fault, &number.to_string());
        let (output, what) = (&faulted.output, format!("{fault} {number}"));
        let hits = faulted.hits(&vault);
        let unimportant = ["leases", ".reserve"].map(|name| vault.join(name));
        let matters = hits
            .iter()
            .any(|call| !unimportant.iter().any(|path| is_below(call, path)));
        let (succeeded, said) = (output.status.success(), stderr(output));
        if succeeded && said.contains("no space to repack") {
            assert!(fault.contains("ENOSPC"), "{what}: {said}");
        } else {
            assert!(!(succeeded && matters), "{what}: {hits:?}");
            assert!(
                !succeeded || lengths(&vault) == *done,
                "{what}: it says that it is done"
            );
        }
        // The call may have been the one that tells the user.
        let mute = faulted.injected.len() > hits.len();
        assert!(
            succeeded || mute || !said.is_empty(),
            "{what}: it failed without a word"
        );
        assert!(contents(&vault) == self.kept, "{what}");
        assert_eq!(finish(&vault), *end, "{what}");
        matters
    }

    /// Kills prunes at all places; returns what was left each time.
    fn kill_at_each(&self) -> Vec<Counts> {
        let ([_, end], left) = (self.undisturbed(), Mutex::new(Vec::new()));
        kills::for_each(&self.places(), |place| {
            let found = self.kill(place, &end);
            left.lock().unwrap().extend(found);
        });
        left.into_inner().unwrap()
    }
}

/// The lengths of objects by the first part of their keys.
type Lengths = BTreeMap<String, Vec<usize>>;

/// The lengths of all objects but leases, of which one that stays harms nobody.
fn lengths(vault: &Path) -> Lengths {
    let of = |objects: BTreeMap<PathBuf, Vec<u8>>| {
        let mut lengths: Vec<usize> = objects.values().map(Vec::len).collect();
        lengths.sort_unstable();
        lengths
    };
    let mut all = objects(vault);
    all.remove("leases");
    all.into_iter().map(|(kind, objects)| (kind, of(objects))).collect()
}

/// Prunes until nothing is left to do; returns what is there.
#[track_caller]
fn finish(vault: &Path) -> Lengths {
    for _ in 0..ROUNDS {
        succeed(prune(vault, &[]));
    }
    for kind in ["leases", "sweeps", "marks", "deleted"] {
        let objects = objects(vault);
        assert!(
            !objects.contains_key(kind),
            "{kind} are left: {:?}",
            objects[kind].keys()
        );
    }
    assert!(temporary_files(vault).len() <= 1);
    assert_eq!(vault.join(".reserve").metadata().unwrap().len(), 16 << 20);
    lengths(vault)
}

#[test]
fn a_prune_killed_at_any_call_loses_nothing_and_is_finished_by_the_next() {
    let test = "a_prune_killed_at_any_call_loses_nothing_and_is_finished_by_the_next";
    if !have(test, "strace") {
        return;
    }
    let marking = Scene::marking().kill_at_each();
    every_stage(
        "marking",
        &marking,
        &[
            ("nothing done", &|left| {
                left.number("leases") == 0 && left.number("marks") == 0
            }),
            ("a lease", &|left| {
                left.number("leases") == 1 && left.number("marks") == 0
            }),
            ("the mark", &|left| {
                left.number("leases") == 1 && left.number("marks") == 1
            }),
            ("all done", &|left| {
                left.number("leases") == 0 && left.number("marks") == 1
            }),
        ],
    );
    let removing = Scene::removing().kill_at_each();
    every_stage(
        "removing",
        &removing,
        &[
            ("no intent", &|left| {
                left.number("sweeps") == 0 && left.number("backups") == 2
            }),
            ("an intent", &|left| {
                left.number("sweeps") == 1 && left.number("backups") == 2
            }),
            ("no backup", &|left| {
                left.number("backups") == 1 && left.number("packs") == 2
            }),
            ("no packs", &|left| {
                left.number("packs") == 1 && left.number("index") == 2
            }),
            ("no tombstone", &|left| {
                left.number("deleted") == 0 && left.number("marks") == 1
            }),
            ("no mark", &|left| {
                left.number("marks") == 0 && left.number("sweeps") == 1
            }),
            ("all done", &|left| {
                left.number("marks") == 0 && left.number("sweeps") == 0
            }),
        ],
    );
    let repacking = Scene::repacking().kill_at_each();
    every_stage(
        "repacking",
        &repacking,
        &[
            ("nothing stored", &|left| left.number("packs") == 2),
            ("the new pack", &|left| {
                left.number("packs") == 3 && left.number("index") == 2
            }),
            ("its index", &|left| {
                left.number("index") == 3 && left.number("moved") == 0
            }),
            ("the way there", &|left| {
                left.number("moved") == 1 && left.number("leases") > 0
            }),
            ("all done", &|left| {
                left.number("moved") == 1 && left.number("leases") == 0
            }),
        ],
    );
    let kills = marking.len() + removing.len() + repacking.len();
    assert!(kills >= 200, "only {kills} kills");
}

#[test]
fn a_prune_whose_calls_fail_says_so_and_is_finished_by_the_next() {
    let test = "a_prune_whose_calls_fail_says_so_and_is_finished_by_the_next";
    if !have(test, "strace") {
        return;
    }
    let scenes = [Scene::marking(), Scene::removing(), Scene::repacking()];
    let undisturbed = scenes.each_ref().map(Scene::undisturbed);
    let places = scenes.each_ref().map(Scene::places);
    for fault in [
        "fsync:error=EIO",
        "write:error=EIO",
        "write:error=ENOSPC",
        "renameat2:error=EIO",
        "unlink:error=EIO",
    ] {
        let (name, _) = fault.split_once(':').unwrap();
        let hits = AtomicUsize::new(0);
        for ((scene, undisturbed), places) in scenes.iter().zip(&undisturbed).zip(&places) {
            let places: Vec<Place> = places.iter().filter(|(of, _)| of == name).cloned().collect();
            kills::for_each(&kills::spread(&places, 4), |(_, number)| {
                let hit = scene.fail(fault, *number, undisturbed);
                hits.fetch_add(usize::from(hit), Ordering::Relaxed);
            });
        }
        println!("{fault}: hit the vault {} times", hits.load(Ordering::Relaxed));
        assert!(hits.into_inner() > 1, "{fault} hardly hit the vault");
    }
}
