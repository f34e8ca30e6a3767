//! What a program leaves behind that was killed or failed: every earlier backup, nothing half-visible, and a vault that takes
//! the next backup at once. Here are backups; prunes, copies, verifications and repairs have files of their own.
//!
//! strace kills the real program, or fails one of its calls, before the n-th call of each kind, one after the other.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod common;
#[path = "kill/copy.rs"]
mod copy;
#[path = "kill/prune.rs"]
mod prune;
#[path = "kill/repair.rs"]
mod repair;
#[path = "kill/scene.rs"]
mod scene;
#[path = "kill/verify.rs"]
mod verify;

use common::kills::{self, KILLED, Place, is_below};
use common::program::{self, stderr};
use common::{Random, have, temporary_files};
use scene::{Left, Scene};
use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The places of an undisturbed backup.
fn places(scene: &Scene, names: &[&str]) -> Vec<Place> {
    let calls = kills::calls(&scene.desk().backup(), 0);
    kills::places(&calls, |call| names.contains(&call.name.as_str()))
}

/// Kills a backup at each of these places; returns what each kill left.
fn kill_at_each(scene: &Scene, places: &[Place]) -> Vec<Left> {
    let left = Mutex::new(Vec::new());
    kills::for_each(places, |place| {
        let (desk, what) = (scene.desk(), format!("{place:?}"));
        let killed = kills::kill(&desk.backup(), place, 0);
        let after = desk.check(&what);
        assert!(
            killed || after.manifest,
            "{what}: a backup that ended well is not there"
        );
        if killed {
            left.lock().unwrap().push(after);
        }
        desk.next_backup_succeeds(&what);
    });
    left.into_inner().unwrap()
}

#[test]
fn a_backup_killed_at_any_call_loses_nothing_and_leaves_nothing_half_visible() {
    let test = "a_backup_killed_at_any_call_loses_nothing_and_leaves_nothing_half_visible";
    if have(test, "strace") {
        kill_backups(16, 250);
    }
}

#[test]
#[ignore = "soak: at every single call"]
fn soak_a_backup_killed_at_every_call_loses_nothing_and_leaves_nothing_half_visible() {
    let test = "soak_a_backup_killed_at_every_call_loses_nothing_and_leaves_nothing_half_visible";
    if have(test, "strace") {
        kill_backups(usize::MAX, 400);
    }
}

/// Kills backups at so many calls of each name at most, and at least at so many in all.
fn kill_backups(most: usize, least: usize) {
    let names = [
        "openat",
        "close",
        "read",
        "pread64",
        "write",
        "fsync",
        "renameat2",
        "mkdir",
        "unlink",
        "statx",
        "newfstatat",
        "lseek",
        "getrandom",
        "getdents64",
        "futex",
        "clone3",
        "madvise",
        "fcntl",
        "mmap",
    ];
    // The second scene stores no chunk, so that the only thread that writes is the one that commits.
    let scenes = [
        ("changed", Scene::changed()),
        ("unchanged", Scene::unchanged()),
        ("merging", Scene::merging()),
    ];
    let mut kills = 0;
    for (which, scene) in &scenes {
        let own = ["openat", "write", "fsync", "renameat2", "mkdir", "unlink", "close"];
        let names = if *which == "changed" { &names[..] } else { &own[..] };
        let places = kills::spread(&places(scene, names), most);
        let left = kill_at_each(scene, &places);
        let with = |what: fn(&Left) -> bool| left.iter().filter(|left| what(left)).count();
        let (packs, index, manifest) = (
            with(|left| left.packs > 0),
            with(|left| left.indexes > 0),
            with(|left| left.manifest),
        );
        let litter = with(|left| left.temporary > 0);
        println!(
            "{which}: {} places, {} kills; left: {packs} packs, {index} an index, {manifest} the backup, {litter} a temporary file",
            places.len(),
            left.len()
        );
        // Kills fell into every stage: before anything, and after each kind of object.
        assert!(
            with(|left| left.packs == 0) > 0 && manifest > 0 && litter > 0,
            "{which}"
        );
        assert!(*which == "unchanged" || (packs > index && index > manifest), "{which}");
        kills += left.len();
    }
    assert!(kills >= least, "only {kills} kills");
}

#[test]
fn a_backup_killed_at_random_times_loses_nothing() {
    let mut random = Random::new(0x0411_0001);
    let scene = Scene::large();
    let mut undisturbed = Duration::MAX;
    for _ in 0..2 {
        let desk = scene.desk();
        let start = Instant::now();
        program::succeed(desk.backup());
        undisturbed = undisturbed.min(start.elapsed());
    }
    let (mut kills, mut rounds) = (0, 0);
    while kills < 20 {
        rounds += 1;
        assert!(rounds < 200, "only {kills} kills in {rounds} rounds");
        let desk = scene.desk();
        let mut child = desk.backup().stdout(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(undisturbed * u32::try_from(random.below(1000)).unwrap() / 1000);
        child.kill().unwrap();
        kills += u32::from(child.wait().unwrap().signal() == KILLED);
        desk.check("random time");
        desk.next_backup_succeeds("random time");
    }
    println!("{kills} kills in {rounds} rounds");
}

#[test]
fn a_backup_whose_calls_fail_says_so_and_leaves_nothing_half_visible() {
    let test = "a_backup_whose_calls_fail_says_so_and_leaves_nothing_half_visible";
    if !have(test, "strace") {
        return;
    }
    let scenes = [Scene::changed(), Scene::unchanged()];
    for fault in [
        "fsync:error=EIO",
        "write:error=ENOSPC",
        "write:error=EIO",
        "write:retval=1",
        "renameat2:error=EIO",
        "mkdir:error=ENOSPC",
        "openat:error=EMFILE",
        "pread64:error=EIO",
    ] {
        let (name, _) = fault.split_once(':').unwrap();
        let hits = AtomicUsize::new(0);
        for scene in &scenes {
            kills::for_each(&places(scene, &[name]), |(_, number)| {
                hits.fetch_add(
                    usize::from(fail_at(scene, fault, &number.to_string())),
                    Ordering::Relaxed,
                );
                // And from there on for ever; a write that always reports one byte would only take long.
                if fault.contains("error=") {
                    hits.fetch_add(
                        usize::from(fail_at(scene, fault, &format!("{number}+"))),
                        Ordering::Relaxed,
                    );
                }
            });
        }
        println!("{fault}: hit the vault {} times", hits.load(Ordering::Relaxed));
        assert!(hits.into_inner() > 1, "{fault} hardly hit the vault");
    }
}

/// Lets one call fail; says whether it was one on the vault.
fn fail_at(scene: &Scene, fault: &str, when: &str) -> bool {
    let (desk, inject) = (scene.desk(), format!("{fault}:when={when}"));
    let faulted = kills::fail(&desk.backup(), fault, when);
    let output = &faulted.output;
    let after = desk.check(&inject);
    let vault = desk.vault();
    let hits = faulted.hits(&vault);
    // Reading may fail for an index or a footer: then a chunk is stored again, or the backup fails; both are right.
    let writing = !fault.starts_with("pread64") && !fault.starts_with("openat");
    // A lease that cannot be taken fails a backup; one that stays when it is given back harms nobody.
    let only_leases = hits.iter().all(|call| is_below(call, &vault.join("leases")));
    if !hits.is_empty() && writing {
        let failed = output.status.code().is_some_and(|code| code != 0);
        // A write that reports less than it did leaves a file of another length, which is refused, or is continued.
        assert!(
            failed || (fault == "write:retval=1" || only_leases) && after.manifest,
            "{inject}: {hits:?}"
        );
        // strace counts for each thread, so that the words for the user may be lost as well.
        let mute = faulted.injected.len() > hits.len();
        assert!(
            !failed || mute || !stderr(output).is_empty(),
            "{inject}: it failed without a word"
        );
        assert_eq!(temporary_files(&vault), Vec::<std::path::PathBuf>::new(), "{inject}");
    }
    assert!(
        after.manifest || !output.status.success(),
        "{inject}: it says that it is done and there is nothing"
    );
    desk.next_backup_succeeds(&inject);
    !hits.is_empty()
}

#[test]
fn two_writers_at_once_both_succeed() {
    for round in 0..10 {
        let scene = Scene::changed();
        let desk = scene.desk();
        // The same resource in every other round: then the second commit takes the next second.
        let servers = if round % 2 == 0 { ["web", "web"] } else { ["web", "db"] };
        let writers: Vec<_> = servers
            .iter()
            .enumerate()
            .map(|(number, server)| {
                let disk = desk.write_disk(
                    &format!("writer-{number}"),
                    100 + round * 2 + u64::try_from(number).unwrap(),
                );
                let mut command = program::vaultfs(program::backup_words(&desk.vault(), server, &disk));
                let child = command
                    .arg("--json")
                    .stdout(std::process::Stdio::piped())
                    .spawn()
                    .unwrap();
                (disk, child)
            })
            .collect();
        let mut addresses = BTreeSet::new();
        for (disk, child) in writers {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "round {round}: {servers:?}");
            let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            let address = report["address"].as_str().unwrap().to_owned();
            let (_, path) = disk.split_once('=').unwrap();
            assert!(
                desk.cat(&address) == std::fs::read(path).unwrap(),
                "round {round}: {address}"
            );
            addresses.insert(address);
        }
        assert_eq!(addresses.len(), 2, "round {round}: {addresses:?}");
        desk.check("two writers");
        desk.next_backup_succeeds("two writers");
    }
}
