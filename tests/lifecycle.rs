//! What becomes of backups, with the real binary: deleted and brought back, pinned, locked, retained by rules, and what they take.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

#[path = "lifecycle/million.rs"]
mod million;
mod mounted;

use mounted::{Rig, noise, output, stderr, wait_until};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Output;

const CHUNK: usize = 64 << 10;
/// A disk of eight chunks, all different.
const DISK: usize = 8 * CHUNK;

/// A vault that is not mounted, and a disk to back up.
struct Desk {
    directory: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        let desk = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        desk.done(&["init", "VAULT", "--chunk-size", "64KiB"]);
        desk.write(&noise(DISK, 1));
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, disk: &[u8]) {
        fs::write(self.path("disk"), disk).unwrap();
    }

    /// Runs the program; VAULT, OTHER and DISK stand for what is in the directory.
    fn run(&self, words: &[&str]) -> Output {
        let word = |word: &&str| match *word {
            "VAULT" => self.path("vault").display().to_string(),
            "OTHER" => self.path("other").display().to_string(),
            "DISK" => self.path("disk").display().to_string(),
            other => other.to_owned(),
        };
        output(words.iter().map(word))
    }

    #[track_caller]
    fn done(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{words:?}: {}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    #[track_caller]
    fn json(&self, words: &[&str]) -> Value {
        let text = self.done(&[words, &["--json"]].concat());
        serde_json::from_str(&text).unwrap()
    }

    /// Runs what is to fail; gives what it says.
    #[track_caller]
    fn refused(&self, code: i32, words: &[&str]) -> String {
        let output = self.run(words);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {said}");
        said
    }

    /// Backs up the disk as of `time`; gives the address.
    fn back_up(&self, time: &str, options: &[&str]) -> String {
        let words = ["backup", "VAULT", "disk", "db", "DISK", "--at", time];
        self.done(&[&words, options].concat());
        format!("disks/db/{time}")
    }

    fn listed(&self, words: &[&str]) -> Vec<String> {
        addresses(&self.json(&[&["list", "VAULT"], words].concat())["backups"])
    }
}

fn addresses(list: &Value) -> Vec<String> {
    let address = |entry: &Value| entry["address"].as_str().unwrap().to_owned();
    list.as_array().unwrap().iter().map(address).collect()
}

/// Midnight of a day in November.
fn day(number: u32) -> String {
    format!("2026-11-{number:02}T00-00-00Z")
}

#[test]
fn a_deleted_backup_goes_from_a_running_mount_and_comes_back() {
    let Some(rig) = Rig::new() else { return };
    rig.back_up("2026-11-21T03:00:00Z");
    let (old, new) = ("2026-11-20T03-00-00Z", "2026-11-21T03-00-00Z");
    let address = format!("servers/web/{new}");
    let vault = rig.vault();
    let vault = vault.to_str().unwrap();
    rig.mount("cache=8M");
    let latest = || fs::read_link(rig.inside("servers/web/latest")).unwrap();
    assert_eq!(latest(), Path::new(new));
    let image = fs::File::open(rig.inside(&format!("{address}/disks/vda.img"))).unwrap();

    assert!(output(["delete", vault, &address]).status.success());
    wait_until("the mount has forgotten it", || !rig.inside(&address).exists());
    wait_until("latest is the other one", || latest() == Path::new(old));
    let mut block = [0; 512];
    image.read_exact_at(&mut block, 0).unwrap();
    assert!(block.iter().all(|byte| *byte != 0), "who has it open goes on reading");
    drop(image);

    for words in [
        vec!["show", vault, &address],
        vec!["restore", vault, &address, "--disk", "vda", "--to", "/x"],
    ] {
        let refused = output(&words);
        assert_eq!(refused.status.code(), Some(1), "{words:?}");
        assert!(stderr(&refused).contains("vaultfs undelete"), "{}", stderr(&refused));
    }
    let listed = output(["list", vault, "--deleted"]);
    let text = String::from_utf8(listed.stdout).unwrap();
    assert!(text.contains(&address) && text.contains('@'), "{text}");

    assert!(output(["undelete", vault, &address]).status.success());
    wait_until("it is back", || latest() == Path::new(new));
    let read = fs::read(rig.inside(&format!("{address}/disks/vda.img"))).unwrap();
    assert!(read == fs::read(rig.path("vda.raw")).unwrap(), "it differs");
}

#[test]
fn backups_are_deleted_by_their_points_several_at_once_and_twice_is_no_error() {
    let desk = Desk::new();
    let [one, two, three] = [1, 2, 3].map(|number| desk.back_up(&day(number), &[]));
    let said = desk.refused(2, &["delete", "VAULT", &one, "disks/db/latest"]);
    assert!(said.contains("point"), "{said}");
    assert_eq!(desk.listed(&[]).len(), 3, "a usage error does nothing");

    let planned = desk.done(&["delete", "VAULT", &one, &two, "--dry-run"]);
    assert!(planned.contains("would be deleted"), "{planned}");
    assert_eq!(desk.listed(&[]).len(), 3);

    let missing = format!("disks/db/{}", day(9));
    let said = desk.refused(5, &["delete", "VAULT", &one, &missing, &two]);
    assert!(said.contains(&missing), "{said}");
    assert_eq!(desk.listed(&[]), [three.as_str()]);
    desk.refused(1, &["delete", "VAULT", &missing]);

    let again = desk.json(&["delete", "VAULT", &one, &three]);
    assert_eq!(again["backups"][0]["result"], "already");
    assert_eq!(again["backups"][1]["result"], "done");
    assert!(desk.listed(&[]).is_empty());
    let deleted = desk.json(&["list", "VAULT", "--deleted"]);
    assert_eq!(addresses(&deleted["deleted"]), [one.clone(), two.clone(), three]);
    assert!(deleted["deleted"][0]["deleted_at"].as_str().unwrap().ends_with('Z'));

    let said = desk.refused(1, &["backup", "VAULT", "disk", "db", "DISK", "--at", &day(1)]);
    assert!(said.contains("vaultfs undelete"), "{said}");
    desk.done(&["undelete", "VAULT", &one, &two]);
    assert_eq!(desk.listed(&[]), [one.clone(), two]);
    assert_eq!(
        desk.json(&["undelete", "VAULT", &one])["backups"][0]["result"],
        "already"
    );
}

#[test]
fn pinned_and_locked_backups_are_deleted_neither_by_hand_nor_by_rules() {
    let desk = Desk::new();
    let made: Vec<String> = (1..=5)
        .map(|number| desk.back_up(&day(number), &["--schedule", "nightly"]))
        .collect();
    desk.done(&["pin", "VAULT", &made[0], "--reason", "before the upgrade"]);
    desk.done(&["lock", "VAULT", &made[1], "--until", "2099-01-01T00:00:00Z"]);
    let said = desk.refused(1, &["delete", "VAULT", &made[0]]);
    assert!(
        said.contains("before the upgrade") && said.contains("vaultfs unpin"),
        "{said}"
    );
    let said = desk.refused(1, &["delete", "VAULT", &made[1]]);
    assert!(said.contains("2099-01-01T00:00:00Z"), "{said}");
    desk.refused(1, &["delete", "VAULT", &made[1], "--dry-run"]);

    let list = desk.json(&["list", "VAULT"]);
    assert_eq!(list["backups"][0]["pin"]["reason"], "before the upgrade");
    assert_eq!(list["backups"][1]["locked_until"], "2099-01-01T00:00:00Z");
    assert!(list["backups"][2]["pin"].is_null());
    let text = desk.done(&["list", "VAULT"]);
    assert!(text.contains("HELD") && text.contains("pinned"), "{text}");
    assert!(desk.done(&["show", "VAULT", &made[0]]).contains("before the upgrade"));

    desk.done(&["retain", "VAULT", "--number", "1"]);
    assert_eq!(desk.listed(&[]), [made[0].clone(), made[1].clone(), made[4].clone()]);

    let shorter = desk.json(&["lock", "VAULT", &made[1], "--until", "2098-01-01T00:00:00Z"]);
    assert_eq!(shorter["backups"][0]["result"], "already");
    desk.refused(2, &["lock", "VAULT", &made[4], "--until", "2020-01-01T00:00:00Z"]);
    desk.refused(
        2,
        &[
            "pin",
            "VAULT",
            &made[4],
            "--reason",
            "x",
            "--until",
            "2020-01-01T00:00:00Z",
        ],
    );
    desk.refused(1, &["pin", "VAULT", &made[2], "--reason", "too late"]);

    desk.done(&["unpin", "VAULT", &made[0]]);
    desk.done(&["delete", "VAULT", &made[0]]);
    desk.refused(1, &["delete", "VAULT", &made[1]]);
}

#[test]
fn rules_say_of_each_backup_why_it_stays_and_delete_the_others() {
    let desk = Desk::new();
    let made: Vec<String> = (1..=8)
        .map(|number| {
            // The third is made by hand.
            let schedule: &[&str] = if number == 3 { &[] } else { &["--schedule", "nightly"] };
            desk.back_up(&day(number), schedule)
        })
        .collect();
    let rules = [
        "retain",
        "VAULT",
        "disks",
        "--number",
        "2",
        "--week",
        "2",
        "--timezone",
        "UTC+01:00",
    ];
    let said = desk.refused(2, &["retain", "VAULT"]);
    assert!(said.contains("--number"), "{said}");
    desk.refused(2, &["retain", "VAULT", &made[0], "--number", "1"]);
    desk.refused(2, &["retain", "VAULT", "--number", "1", "--timezone", "Mars/Olympus"]);

    let planned = desk.json(&[&rules[..], &["--dry-run"]].concat());
    assert_eq!(
        (&planned["dry_run"], &planned["timezone"]),
        (&true.into(), &"UTC+01:00".into())
    );
    let why = |number: usize| planned["backups"][number]["reasons"].clone();
    let stays = |number: usize| planned["backups"][number]["result"] == "stays";
    // The first of November is a Sunday.
    let expected = [true, false, true, false, false, false, true, true];
    assert_eq!([0, 1, 2, 3, 4, 5, 6, 7].map(stays), expected);
    assert_eq!(why(0), Value::from(vec!["week 2026-W44"]));
    assert_eq!(why(2), Value::from(vec!["manual"]));
    assert_eq!(why(6), Value::from(vec!["number 2"]));
    assert_eq!(why(7), Value::from(vec!["newest", "number 1", "week 2026-W45"]));
    assert_eq!(desk.listed(&[]).len(), 8, "a dry run changes nothing");

    let text = desk.done(&rules);
    assert!(text.contains("deleted") && text.contains("week 2026-W45"), "{text}");
    let left: Vec<String> = made
        .iter()
        .zip(expected)
        .filter(|(_, stays)| *stays)
        .map(|(address, _)| address.clone())
        .collect();
    assert_eq!(desk.listed(&[]), left);
    desk.done(&["undelete", "VAULT", &made[1]]);
    assert_eq!(desk.listed(&[]).len(), left.len() + 1);

    let by_age = desk.json(&["retain", "VAULT", "--age", "99999d", "--dry-run"]);
    let stay = |entry: &Value| entry["result"] == "stays";
    assert!(by_age["backups"].as_array().unwrap().iter().all(stay));
    let other = desk.json(&["retain", "VAULT", "--number", "1", "--schedule", "hourly", "--dry-run"]);
    assert_eq!(other["backups"][0]["reasons"][0], "schedule nightly");
    assert!(other["backups"].as_array().unwrap().iter().all(stay));
}

#[test]
fn space_tells_what_is_free_when_a_backup_goes() {
    let desk = Desk::new();
    let one = desk.back_up(&day(1), &[]);
    let space = |address: &str| {
        let list = desk.json(&["list", "VAULT", "--space"]);
        let entries = list["backups"].as_array().unwrap().clone();
        let entry = entries.into_iter().find(|entry| entry["address"] == address).unwrap();
        let number = |name: &str| entry[name].as_u64().unwrap();
        (number("unique_bytes"), number("shared_bytes"), number("stored_bytes"))
    };
    let (unique, shared, stored) = space(&one);
    assert_eq!((unique, shared), (stored, 0), "alone it needs what it has stored");

    let mut disk = noise(DISK, 1);
    disk[..2 * CHUNK].copy_from_slice(&noise(2 * CHUNK, 2));
    desk.write(&disk);
    let two = desk.back_up(&day(2), &[]);
    let (unique_one, shared_one, stored_one) = space(&one);
    let (unique_two, shared_two, stored_two) = space(&two);
    assert_eq!(unique_one + shared_one, stored_one);
    assert_eq!(unique_two, stored_two, "what it added only it needs");
    assert_eq!(shared_one, shared_two);
    assert!(shared_one > 5 * u64::try_from(CHUNK).unwrap());
    assert!(unique_one > 2 * u64::try_from(CHUNK).unwrap() * 8 / 10 && unique_one < 4 * u64::try_from(CHUNK).unwrap());

    let shown = desk.json(&["show", "VAULT", &one, "--space"]);
    assert_eq!(shown["unique_bytes"].as_u64(), Some(unique_one));
    assert_eq!(shown["shared_bytes"].as_u64(), Some(shared_one));
    let filtered = desk.json(&["list", "VAULT", &one, "--space"]);
    assert_eq!(filtered["backups"][0]["unique_bytes"].as_u64(), Some(unique_one));
    let text = desk.done(&["list", "VAULT", "--space"]);
    assert!(text.contains("UNIQUE") && text.contains("SHARED"), "{text}");

    desk.done(&["delete", "VAULT", &one]);
    assert_eq!(
        space(&two),
        (unique_two + shared_two, 0, stored_two),
        "the other one is gone"
    );
}

#[test]
fn damage_is_told_by_space_and_its_backup_is_never_deleted_by_rules() {
    let desk = Desk::new();
    let one = desk.back_up(&day(1), &["--schedule", "nightly"]);
    let two = desk.back_up(&day(2), &["--schedule", "nightly"]);
    let manifest = desk.path("vault/backups").join(&one);
    let whole = fs::read(&manifest).unwrap();
    fs::remove_file(&manifest).unwrap();
    fs::write(&manifest, &whole[..whole.len() / 2]).unwrap();
    desk.refused(3, &["list", "VAULT", "--space"]);
    let said = desk.refused(3, &["retain", "VAULT", "--number", "1", "--json"]);
    assert!(said.contains(&one), "{said}");
    let plan = desk.run(&["retain", "VAULT", "--number", "1", "--dry-run", "--json"]);
    let plan: Value = serde_json::from_slice(&plan.stdout).unwrap();
    assert_eq!(addresses(&plan["backups"]), [one.clone(), two]);
    assert_eq!(plan["backups"][0]["reasons"], Value::from(vec!["unreadable"]));
    desk.done(&["delete", "VAULT", &one]);
    desk.done(&["list", "VAULT", "--space"]);
}

#[test]
fn a_copy_leaves_alone_what_was_deleted_from_the_other_vault() {
    let desk = Desk::new();
    let [one, two] = [1, 2].map(|number| desk.back_up(&day(number), &["--schedule", "nightly"]));
    desk.done(&["init", "OTHER"]);
    desk.done(&["copy", "--all", "VAULT", "OTHER"]);
    desk.done(&["delete", "OTHER", &one]);
    let copied = desk.json(&["copy", "--all", "VAULT", "OTHER"]);
    assert_eq!((&copied["deleted"], &copied["there"]), (&1.into(), &1.into()));
    assert_eq!(addresses(&desk.json(&["list", "OTHER"])["backups"]), [two]);
    desk.done(&["undelete", "OTHER", &one]);
    let list = desk.json(&["list", "OTHER"]);
    assert_eq!(list["backups"][0]["tags"]["schedule"], "nightly");
}

#[test]
fn vaults_from_before_there_were_records_take_them() {
    let desk = Desk::new();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1");
    let copied = std::process::Command::new("cp")
        .arg("-r")
        .args([golden, desk.path("other")])
        .status();
    assert!(copied.unwrap().success());
    let config = fs::read_to_string(desk.path("other/vault")).unwrap();
    assert!(!config.contains("\"records\""));
    let new = fs::read_to_string(desk.path("vault/vault")).unwrap();
    assert!(
        new.contains("\"records\""),
        "a program that does not know them is not to write"
    );
    let address = "disks/db/2026-11-20T04-00-00Z";
    desk.done(&["pin", "OTHER", address, "--reason", "golden"]);
    desk.refused(1, &["delete", "OTHER", address]);
    desk.done(&["unpin", "OTHER", address]);
    desk.done(&["delete", "OTHER", address]);
    assert_eq!(addresses(&desk.json(&["list", "OTHER"])["backups"]).len(), 1);
    desk.done(&["undelete", "OTHER", address]);
    assert_eq!(addresses(&desk.json(&["list", "OTHER"])["backups"]).len(), 2);
}
