//! `verify` and `repair` as they are typed, with the real program, file systems and mounts.

use crate::common::mounted::Mount;
use crate::common::packs::damage;
use crate::common::program::{init, stderr, succeed, vaultfs};
use crate::common::{Random, can_mount, files, have, open};
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

/// Runs a command and gives its exit code and what it printed as JSON.
fn json<W: AsRef<OsStr>>(words: impl IntoIterator<Item = W>) -> (Option<i32>, Value) {
    let output = vaultfs(words).arg("--json").output().unwrap();
    let value = serde_json::from_slice(&output.stdout);
    (
        output.status.code(),
        value.unwrap_or_else(|_| panic!("{}", stderr(&output))),
    )
}

struct Rig {
    dir: TempDir,
    vault: PathBuf,
    tree: PathBuf,
    /// Content of `tree/docs/letter`.
    letter: Vec<u8>,
}

impl Rig {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let vault = init(dir.path());
        let tree = dir.path().join("tree");
        fs::create_dir_all(tree.join("docs")).unwrap();
        let letter = Random::quiet(3).bytes(40_000);
        fs::write(tree.join("docs/letter"), &letter).unwrap();
        fs::write(tree.join("other"), Random::quiet(4).bytes(9_000)).unwrap();
        Self {
            dir,
            vault,
            tree,
            letter,
        }
    }

    fn back_up(&self, at: &str) {
        let words = [
            "backup".as_ref(),
            self.vault.as_os_str(),
            "filesystem".as_ref(),
            "home".as_ref(),
            self.tree.as_os_str(),
        ];
        let mut command = vaultfs(words);
        command.args(["--at", at]);
        succeed(command);
    }

    fn words<'a>(&'a self, command: &'a str) -> Vec<&'a OsStr> {
        vec![command.as_ref(), self.vault.as_os_str()]
    }
}

#[test]
fn a_flipped_byte_is_named_healed_by_the_next_backup_and_the_old_backup_reads_whole_in_the_mount() {
    if !can_mount("a_flipped_byte_is_named_healed_by_the_next_backup_and_the_old_backup_reads_whole_in_the_mount") {
        return;
    }
    let rig = Rig::new();
    rig.back_up("2026-11-20T03-00-00Z");
    let old = "filesystems/home/2026-11-20T03-00-00Z/tree/docs/letter";
    damage(&rig.vault, &rig.letter);
    {
        let mount = Mount::new(rig.dir.path(), &rig.vault, "cache=8M");
        assert!(fs::read(mount.path(old)).is_err(), "damage is never delivered");
        mount.end();
    }
    let (code, report) = json(rig.words("verify").into_iter().chain(["--data".as_ref()]));
    assert_eq!(code, Some(3));
    assert_eq!(report["damaged"], true);
    assert_eq!(report["quarantined"], 1);
    let hurt = &report["backups"][0];
    assert_eq!(hurt["address"], "filesystems/home/2026-11-20T03-00-00Z");
    assert_eq!(hurt["files"][0]["path"], "tree/docs/letter");
    let text = vaultfs(rig.words("verify")).output().unwrap();
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains(old), "{text}");
    rig.back_up("2026-11-21T03-00-00Z");
    {
        let mount = Mount::new(rig.dir.path(), &rig.vault, "cache=8M");
        assert_eq!(fs::read(mount.path(old)).unwrap(), rig.letter);
        let new = "filesystems/home/2026-11-21T03-00-00Z/tree/docs/letter";
        assert_eq!(fs::read(mount.path(new)).unwrap(), rig.letter);
        mount.end();
    }
    let (code, report) = json(rig.words("verify").into_iter().chain(["--data".as_ref()]));
    assert_eq!(code, Some(0), "{report}");
    assert_eq!(report["damage"][0]["state"], "healed");
}

#[test]
fn a_repair_says_first_what_it_would_do_and_brings_it_back_from_another_vault() {
    let rig = Rig::new();
    rig.back_up("2026-11-20T03-00-00Z");
    let other = rig.dir.path().join("other-vault");
    succeed(vaultfs(["init".as_ref(), other.as_os_str()]));
    succeed(vaultfs([
        "copy".as_ref(),
        "--all".as_ref(),
        rig.vault.as_os_str(),
        other.as_os_str(),
    ]));
    damage(&rig.vault, &rig.letter);
    assert_eq!(vaultfs(rig.words("verify")).output().unwrap().status.code(), Some(3));
    let (code, plan) = json(rig.words("repair"));
    assert_eq!((code, plan["without_copy"].as_array().unwrap().len()), (Some(3), 1));
    let from = |more: &[&'static str]| {
        let words = rig
            .words("repair")
            .into_iter()
            .chain(["--from".as_ref(), other.as_os_str()]);
        json(
            words
                .chain(more.iter().map(OsStr::new))
                .map(ToOwned::to_owned)
                .collect::<Vec<_>>(),
        )
    };
    let (code, plan) = from(&[]);
    assert_eq!(
        (code, &plan["applied"], &plan["chunks"][0]["copy"]),
        (Some(0), &Value::from(false), &Value::from("from"))
    );
    assert_eq!(
        vaultfs(rig.words("verify")).output().unwrap().status.code(),
        Some(3),
        "nothing was done"
    );
    assert_eq!(from(&["--apply"]).0, Some(0));
    assert_eq!(vaultfs(rig.words("verify")).output().unwrap().status.code(), Some(0));
    let path = "filesystems/home/latest/tree/docs/letter";
    let words = ["cat".as_ref(), rig.vault.as_os_str(), path.as_ref()];
    assert_eq!(succeed(vaultfs(words)), rig.letter);
    let same = [
        "repair".as_ref(),
        rig.vault.as_os_str(),
        "--from".as_ref(),
        rig.vault.as_os_str(),
    ];
    assert_eq!(vaultfs(same).output().unwrap().status.code(), Some(2));
}

#[test]
fn a_file_inside_a_disk_is_named_by_its_path() {
    if !have("a_file_inside_a_disk_is_named_by_its_path", "mke2fs") {
        return;
    }
    let rig = Rig::new();
    let disk = rig.dir.path().join("vda.img");
    let made = Command::new("mke2fs")
        .args(["-q", "-t", "ext4", "-b", "4096", "-d"])
        .arg(&rig.tree)
        .arg(&disk)
        .arg("16M")
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", stderr(&made));
    let named = format!("vda={}", disk.display());
    let words = [
        "backup".as_ref(),
        rig.vault.as_os_str(),
        "server".as_ref(),
        "web".as_ref(),
        "--disk".as_ref(),
        OsStr::new(&named),
    ];
    succeed(vaultfs(words));
    let image = fs::read(&disk).unwrap();
    let at = image
        .windows(64)
        .position(|window| window == &rig.letter[20_000..20_064])
        .unwrap();
    let start = at / 65536 * 65536;
    damage(&rig.vault, &image[start..start + 65536]);
    let (code, report) = json(rig.words("verify").into_iter().chain(["--data".as_ref()]));
    assert_eq!(code, Some(3));
    let hurt = &report["backups"][0];
    assert_eq!(hurt["disks"][0]["name"], "vda");
    assert_eq!(hurt["disks"][0]["lost"][0][0], start);
    let paths: Vec<&str> = hurt["files"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|file| file["path"].as_str())
        .collect();
    assert!(paths.contains(&"volumes/vda/docs/letter"), "{report}");
}

#[test]
fn wrong_words_are_refused_and_a_backup_that_is_not_there_is_no_damage() {
    let rig = Rig::new();
    rig.back_up("2026-11-20T03-00-00Z");
    for words in [
        vec!["--slice", "0/3"],
        vec!["--slice", "4/3"],
        vec!["--limit-rate", "fast"],
        vec!["x"],
    ] {
        let all = rig.words("verify").into_iter().chain(words.iter().map(OsStr::new));
        assert_eq!(vaultfs(all).output().unwrap().status.code(), Some(2), "{words:?}");
    }
    let missing = rig
        .words("verify")
        .into_iter()
        .chain(["disks/none/2026-11-20T03-00-00Z".as_ref()]);
    assert_eq!(vaultfs(missing).output().unwrap().status.code(), Some(1));
    let slice = rig
        .words("verify")
        .into_iter()
        .chain(["--slice", "1/2", "--data", "--limit-rate", "1GiB"].map(OsStr::new));
    assert_eq!(vaultfs(slice).output().unwrap().status.code(), Some(0));
    let one = rig
        .words("verify")
        .into_iter()
        .chain(["filesystems/home/latest".as_ref()]);
    assert_eq!(vaultfs(one).output().unwrap().status.code(), Some(0));
}

#[test]
fn the_program_keeps_how_far_it_came_where_the_user_says() {
    let rig = Rig::new();
    rig.back_up("2026-11-20T03-00-00Z");
    let cache = rig.dir.path().join("cache");
    let mut command = vaultfs(rig.words("verify"));
    command.env("VAULTFS_CACHE_DIR", &cache);
    succeed(command);
    // It came to its end: nothing is left to go on with.
    assert!(!cache.exists() || files(&cache).is_empty());
    assert_eq!(open(&rig.vault).store().list("quarantine/").unwrap(), []);
}
