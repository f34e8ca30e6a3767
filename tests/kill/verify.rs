//! Verifications that are killed: the vault stays as it is, and the next one finds what an undisturbed one finds.

use crate::common::disks::{CHUNK, length};
use crate::common::kills::{self, KILLED, Place, is_below, under_strace};
use crate::common::packs::damage;
use crate::common::program::{self, stderr, vaultfs};
use crate::common::trace::{self, Call};
use crate::common::{Random, copy_files, files, have, scratch};
use crate::scene::{back_up, every_stage, objects};
use serde_json::Value;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;
use tempfile::TempDir;

/// Calls of which every one on the vault or on what was kept of an earlier run is a place, and those of which some are.
const EVERY: [&str; 7] = ["write", "fsync", "renameat2", "rename", "mkdir", "unlink", "link"];
const SOME: [&str; 5] = ["openat", "close", "pread64", "statx", "getdents64"];
const MOST: usize = 10;

/// What a report tells of the run itself, which differs where another run went before.
const OF_THE_RUN: [&str; 6] = [
    "objects",
    "objects_checked_before",
    "stored_bytes",
    "chunks_decoded",
    "chunk_bytes",
    "quarantined",
];

/// A vault, and beside it the directory where a verification keeps how far it came.
struct Desk {
    dir: TempDir,
}

/// What a kill left.
struct Left {
    /// Whether the next run goes on from where an earlier one came.
    goes_on: bool,
    /// Whether what is damaged is in quarantine.
    quarantined: bool,
    /// What was begun under a temporary name where that is kept.
    temporary: usize,
}

impl Desk {
    /// Two backups that share a half.
    fn new() -> Self {
        let desk = Self { dir: scratch() };
        let vault = program::init(desk.dir.path());
        let shared = Random::quiet(1).bytes(length(2 * CHUNK));
        for number in 2..4 {
            let own = Random::quiet(number).bytes(length(2 * CHUNK));
            let point = format!("2026-01-{number:02}T00-00-00Z");
            back_up(&vault, "web", &point, &[shared.as_slice(), &own].concat());
        }
        desk
    }

    fn vault(&self) -> PathBuf {
        self.dir.path().join("vault")
    }

    fn cache(&self) -> PathBuf {
        self.dir.path().join("cache")
    }

    fn copy(&self) -> Self {
        let copy = Self { dir: scratch() };
        copy_files(&self.vault(), &copy.vault());
        if self.cache().exists() {
            copy_files(&self.cache(), &copy.cache());
        }
        copy
    }

    fn verify(&self) -> Command {
        let mut command = vaultfs(["verify".as_ref(), self.vault().as_os_str()]);
        command.args(["--data", "--jobs", "1", "--json"]);
        command.env("VAULTFS_CACHE_DIR", self.cache());
        command
    }

    /// A verification that is interrupted when it waits after the first object, and that is killed while it keeps how far it came if a
    /// place is given.
    fn interrupted(&self, log: &Path, place: Option<&Place>) -> Output {
        let mut command = self.verify();
        command.args(["--limit-rate", "1KiB"]);
        let kill = place.map(|(name, number)| format!("inject={name}:signal=KILL:when={number}"));
        let mut options = vec!["-e", "inject=clock_nanosleep:signal=INT:when=1"];
        options.extend(kill.iter().flat_map(|kill| ["-e", kill.as_str()]));
        under_strace(&command, log, &options).output().unwrap()
    }

    /// Verifies undisturbed; what it reports.
    #[track_caller]
    fn report(&self, code: i32) -> Value {
        let output = self.verify().output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn left(&self) -> Left {
        let kept = if self.cache().exists() {
            files(&self.cache())
        } else {
            Vec::new()
        };
        let is_partial = |file: &&PathBuf| file.extension().is_some_and(|extension| extension == "partial");
        let temporary = kept.iter().filter(is_partial).count();
        Left {
            goes_on: kept.len() > temporary,
            quarantined: objects(&self.vault()).contains_key("quarantine"),
            temporary,
        }
    }

    /// Says whether a call is on the vault, or where how far a run came is kept, or tells the user.
    fn concerns(&self, call: &Call) -> bool {
        is_below(call, self.dir.path()) || call.name == "write"
    }

    fn places(&self, code: i32) -> Vec<Place> {
        let desk = self.copy();
        let calls = kills::calls(&desk.verify(), code);
        let of = |names: &[&str]| {
            kills::places(&calls, |call| {
                names.contains(&call.name.as_str()) && desk.concerns(call)
            })
        };
        [of(&EVERY), kills::spread(&of(&SOME), MOST)].concat()
    }

    /// Kills a verification at each place; returns what was left each time. `expected` is what an undisturbed one reports.
    fn kill_at_each(&self, code: i32, expected: &Value) -> Vec<Left> {
        let left = Mutex::new(Vec::new());
        kills::for_each(&self.places(code), |place| {
            let desk = self.copy();
            let killed = kills::kill(&desk.verify(), place, code);
            let found = desk.check(self, code, expected, &format!("{place:?}"));
            if killed {
                left.lock().unwrap().push(found);
            }
        });
        left.into_inner().unwrap()
    }

    /// Checks what was left of the vault of `scene`, and that the next verification tells what is expected.
    fn check(&self, scene: &Self, code: i32, expected: &Value, what: &str) -> Left {
        let left = self.left();
        let mut after = objects(&self.vault());
        after.remove("quarantine");
        assert!(after == objects(&scene.vault()), "{what}: the vault changed");
        let report = self.report(code);
        assert_eq!(findings(&report), findings(expected), "{what}");
        assert_eq!(
            report["objects_checked_before"].as_u64() > Some(0),
            left.goes_on,
            "{what}: {report}"
        );
        left
    }
}

/// A report without what it tells of the run itself.
fn findings(report: &Value) -> Value {
    let mut report = report.clone();
    for field in OF_THE_RUN {
        assert!(report.as_object_mut().unwrap().remove(field).is_some(), "{field}");
    }
    report
}

/// The objects that a run has looked at, and those that one before it has.
fn looked_at(report: &Value) -> u64 {
    ["objects", "objects_checked_before"]
        .iter()
        .filter_map(|field| report[field].as_u64())
        .sum()
}

#[test]
fn a_verification_killed_at_any_call_changes_nothing_and_the_next_one_finds_the_same() {
    let test = "a_verification_killed_at_any_call_changes_nothing_and_the_next_one_finds_the_same";
    if !have(test, "strace") {
        return;
    }
    let sound = Desk::new();
    let expected = sound.copy().report(0);
    let output = sound.interrupted(Path::new("/dev/null"), None);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let resumed = sound.copy().report(0);
    assert!(resumed["objects_checked_before"].as_u64() > Some(0), "{resumed}");
    assert_eq!(looked_at(&resumed), looked_at(&expected));
    let going_on = sound.kill_at_each(0, &expected);
    every_stage(
        "a verification that goes on",
        &going_on,
        &[
            ("on the way", &|left: &Left| left.goes_on),
            ("at its end", &|left| !left.goes_on),
        ],
    );

    let damaged = Desk::new();
    damage(&damaged.vault(), &Random::quiet(1).bytes(length(CHUNK)));
    let expected = damaged.copy().report(3);
    let finding = damaged.kill_at_each(3, &expected);
    every_stage(
        "a verification that finds damage",
        &finding,
        &[
            ("not yet in quarantine", &|left: &Left| !left.quarantined),
            ("in quarantine", &|left| left.quarantined),
        ],
    );
    let kills = going_on.len() + finding.len();
    assert!(kills >= 90, "only {kills} kills");
}

#[test]
fn a_verification_killed_while_it_keeps_how_far_it_came_goes_on_or_begins_anew() {
    let test = "a_verification_killed_while_it_keeps_how_far_it_came_goes_on_or_begins_anew";
    if !have(test, "strace") {
        return;
    }
    let scene = Desk::new();
    let expected = scene.copy().report(0);
    let places = {
        let desk = scene.copy();
        let log = desk.dir.path().join("strace.log");
        let output = desk.interrupted(&log, None);
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        let calls = trace::parse(&std::fs::read_to_string(log).unwrap());
        kills::places(&calls, |call| is_below(call, &desk.cache()) || call.name == "write")
    };
    let left = Mutex::new(Vec::new());
    kills::for_each(&places, |place| {
        let desk = scene.copy();
        let output = desk.interrupted(Path::new("/dev/null"), Some(place));
        let killed = output.status.signal() == KILLED;
        assert!(
            killed || output.status.code() == Some(1),
            "{place:?}: {}",
            stderr(&output)
        );
        let found = desk.check(&scene, 0, &expected, &format!("{place:?}"));
        if killed {
            left.lock().unwrap().push(found);
        }
    });
    every_stage(
        "a verification that is interrupted",
        &left.into_inner().unwrap(),
        &[
            ("nothing kept", &|left: &Left| !left.goes_on && left.temporary == 0),
            ("half kept", &|left| !left.goes_on && left.temporary > 0),
            ("kept", &|left| left.goes_on),
        ],
    );
}
