//! The program itself: what it says, killed at any call, and on a disk that is full to the last byte.

use crate::common::mounted;
use crate::common::program::{self, stderr, succeed, traced, vaultfs};
use crate::common::{Random, files, have, skip, temporary_files, trace};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use tempfile::TempDir;

const GONE: &str = "servers/gone/2026-01-01T00-00-00Z";
const KEPT: &str = "servers/kept/2026-01-02T00-00-00Z";

/// In memory where the system has such a directory.
pub(crate) fn scratch() -> TempDir {
    let shared = Path::new("/dev/shm");
    let in_memory = tempfile::Builder::new().prefix("vaultfs-test-").tempdir_in(shared);
    in_memory.unwrap_or_else(|_| TempDir::new().unwrap())
}

fn back_up(dir: &Path, vault: &Path, server: &str, seed: u64, more: &[&str]) -> Output {
    let path = dir.join(format!("{server}.img"));
    // Half of each disk is the same, but for the one that is deleted.
    let mut bytes = Random::quiet(if server == "gone" { 9 } else { 1 }).bytes(300_000);
    bytes.extend(Random::quiet(seed).bytes(300_000));
    std::fs::write(&path, bytes).unwrap();
    let disk = format!("vda={}", path.display());
    let mut command = vaultfs(program::backup_words(vault, server, &disk));
    command.args(more).output().unwrap()
}

#[track_caller]
fn good(output: &Output) -> serde_json::Value {
    assert!(output.status.success(), "{}", stderr(output));
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

/// A vault with a backup that stays and one that is deleted.
fn vault_in(dir: &Path) -> PathBuf {
    let vault = program::init(dir);
    fill(dir, &vault);
    vault
}

fn fill(dir: &Path, vault: &Path) {
    good(&back_up(dir, vault, "gone", 2, &["--at", "2026-01-01T00-00-00Z"]));
    good(&back_up(dir, vault, "kept", 3, &["--at", "2026-01-02T00-00-00Z"]));
    succeed(words("delete", vault, &[GONE]));
}

fn words(command: &str, vault: &Path, more: &[&str]) -> Command {
    let first = [OsStr::new(command), vault.as_os_str()];
    vaultfs(first.into_iter().chain(more.iter().map(OsStr::new)))
}

const AT_ONCE: [&str; 5] = ["--grace", "0", "--keep-deleted", "0", "--json"];

fn prune(vault: &Path) -> Output {
    words("prune", vault, &AT_ONCE).output().unwrap()
}

fn cat(vault: &Path, address: &str) -> Vec<u8> {
    succeed(words("cat", vault, &[&format!("{address}/disks/vda.img")]))
}

fn bytes_of(dir: &Path, server: &str) -> Vec<u8> {
    std::fs::read(dir.join(format!("{server}.img"))).unwrap()
}

#[test]
fn a_deleted_backup_is_marked_then_removed_and_the_bytes_told_are_those_that_go() {
    let dir = scratch();
    let vault = vault_in(dir.path());
    let size = || {
        let packs = ["packs", "meta"].map(|name| files(&vault.join(name)));
        let len = |path: &PathBuf| path.metadata().unwrap().len();
        packs.iter().flatten().map(len).sum::<u64>()
    };
    let text = String::from_utf8(succeed(words("prune", &vault, &["--dry-run"]))).unwrap();
    assert!(text.contains("backups that stay") && !text.contains(GONE), "{text}");
    let first = good(&prune(&vault));
    assert_eq!(first["marked_backups"], serde_json::json!([GONE]));
    assert_eq!((&first["removed"]["packs"], &first["kept"]), (&0.into(), &1.into()));
    // Until it is removed it can be brought back.
    succeed(words("undelete", &vault, &[GONE]));
    assert!(cat(&vault, GONE) == bytes_of(dir.path(), "gone"));
    succeed(words("delete", &vault, &[GONE]));
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let again = good(&prune(&vault));
    let before = size();
    let last = if again["removed_backups"] == serde_json::json!([GONE]) {
        again
    } else {
        good(&prune(&vault))
    };
    assert_eq!(last["removed_backups"], serde_json::json!([GONE]), "{last}");
    if last["removed"]["bytes"].as_u64().unwrap() != before - size() {
        // It went with the first of the two, before the size was taken.
        assert_eq!(before, size());
    }
    assert!(words("undelete", &vault, &[GONE]).output().unwrap().status.code() != Some(0));
    assert!(cat(&vault, KEPT) == bytes_of(dir.path(), "kept"));
    let patient = succeed(words("prune", &vault, &[]));
    assert!(String::from_utf8(patient).unwrap().contains("removed"));
    assert!(files(&vault.join("leases")).is_empty() && files(&vault.join("sweeps")).is_empty());
    assert!(vault.join(".reserve").metadata().unwrap().len() >= 16 << 20);
}

#[test]
fn who_is_there_is_told_and_who_was_killed_is_gone() {
    let dir = scratch();
    let vault = vault_in(dir.path());
    let nobody = succeed(words("prune", &vault, &["--who"]));
    assert!(String::from_utf8(nobody).unwrap().starts_with("nobody"));
    let disk = format!("vda={}", dir.path().join("kept.img").display());
    let mut command = vaultfs(program::backup_words(&vault, "slow", &disk));
    // Its last hook, before the commit, reads from a pipe that nobody writes.
    let pipe = dir.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    command.args(["--after", &format!("cat {}", pipe.display())]);
    let mut child = command.spawn().unwrap();
    let who = || -> serde_json::Value {
        serde_json::from_slice(&succeed(words("prune", &vault, &["--who", "--json"]))).unwrap()
    };
    let mut found = who();
    while found["leases"].as_array().unwrap().is_empty() {
        std::thread::sleep(std::time::Duration::from_millis(20));
        found = who();
    }
    assert_eq!(found["leases"][0]["kind"], "backup");
    assert_eq!(
        (&found["leases"][0]["pid"], &found["leases"][0]["state"]),
        (&child.id().into(), &"alive".into())
    );
    // A mark that it has not seen waits for it.
    good(&prune(&vault));
    let waits = good(&prune(&vault));
    assert!(
        waits["waiting"][0]["for"].as_str().unwrap().contains("backup on"),
        "{waits}"
    );
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(who()["leases"][0]["state"], "gone");
    let after = good(&prune(&vault));
    assert_eq!(after["removed_backups"], serde_json::json!([GONE]), "{after}");
    assert!(who()["leases"].as_array().unwrap().is_empty());
}

/// Copies a vault, without what is no object.
fn copy_of(vault: &Path) -> (TempDir, PathBuf) {
    let dir = scratch();
    let to = dir.path().join("vault");
    for file in files(vault) {
        let to = to.join(file.strip_prefix(vault).unwrap());
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(file, to).unwrap();
    }
    (dir, to)
}

#[test]
fn a_prune_killed_at_any_call_loses_nothing_and_is_finished_by_the_next() {
    let test = "a_prune_killed_at_any_call_loses_nothing_and_is_finished_by_the_next";
    if !have(test, "strace") {
        return;
    }
    let dir = scratch();
    let vault = vault_in(dir.path());
    good(&prune(&vault));
    // What changes the vault, and one that does not; the operations in memory are stopped at every one.
    let names = ["write", "fsync", "renameat2", "unlink", "getdents64"];
    let places = {
        let (copy, vault) = copy_of(&vault);
        let log = copy.path().join("strace.log");
        let mut command = words("prune", &vault, &AT_ONCE);
        let program: Vec<_> = command.get_args().map(OsStr::to_owned).collect();
        command = traced(&log, &[], program);
        good(&command.output().unwrap());
        let mut counts: BTreeMap<(String, u32), u32> = BTreeMap::new();
        for call in trace::parse(&std::fs::read_to_string(log).unwrap()) {
            *counts.entry((call.name, call.thread)).or_default() += 1;
        }
        let mut places = BTreeSet::new();
        for ((name, _), count) in counts {
            if names.contains(&name.as_str()) {
                places.extend((1..=count).map(|number| (name.clone(), number)));
            }
        }
        Vec::from_iter(places)
    };
    let (next, kills) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((name, number)) = places.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (copy, vault) = copy_of(&vault);
                    let inject = format!("inject={name}:signal=KILL:when={number}");
                    let filter = format!("trace={name}");
                    let options = ["-e", filter.as_str(), "-e", inject.as_str()];
                    let command = words("prune", &vault, &AT_ONCE);
                    let program: Vec<_> = command.get_args().map(OsStr::to_owned).collect();
                    let output = traced(Path::new("/dev/null"), &options, program).output().unwrap();
                    kills.fetch_add(usize::from(output.status.signal() == Some(9)), Ordering::Relaxed);
                    good(&back_up(copy.path(), &vault, "next", 2, &[]));
                    for _ in 0..2 {
                        good(&prune(&vault));
                    }
                    assert!(cat(&vault, KEPT) == bytes_of(dir.path(), "kept"), "{inject}");
                    assert!(
                        cat(&vault, "servers/next/latest") == bytes_of(copy.path(), "next"),
                        "{inject}"
                    );
                    for name in ["leases", "sweeps", "deleted"] {
                        let left = files(&vault.join(name)).len() - temporary_files(&vault.join(name)).len();
                        assert_eq!(left, 0, "{inject}: {name}");
                    }
                    assert!(temporary_files(&vault).len() <= 1, "{inject}");
                }
            });
        }
    });
    let kills = kills.into_inner();
    println!("{} places, {kills} kills", places.len());
    assert!(kills >= 30, "only {kills} kills");
}

/// A file system of 48 MiB in a file.
struct Small {
    dir: TempDir,
}

impl Small {
    fn mount() -> Option<Self> {
        let dir = TempDir::new().unwrap();
        let image = dir.path().join("image");
        std::fs::File::create(&image).unwrap().set_len(48 << 20).unwrap();
        let made = Command::new("mkfs.ext4")
            .args(["-q", "-m", "0"])
            .arg(&image)
            .status()
            .unwrap();
        assert!(made.success());
        let point = dir.path().join("mnt");
        std::fs::create_dir(&point).unwrap();
        let mounted = Command::new("mount")
            .args(["-o", "loop"])
            .arg(&image)
            .arg(&point)
            .output()
            .unwrap();
        mounted.status.success().then_some(Self { dir })
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("mnt")
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        Command::new("umount").arg(self.path()).status().unwrap();
    }
}

#[test]
fn a_disk_that_is_full_to_the_last_byte_is_pruned() {
    let test = "a_disk_that_is_full_to_the_last_byte_is_pruned";
    if !have(test, "mkfs.ext4") {
        return;
    }
    let Some(small) = Small::mount() else {
        skip(test, "loop devices cannot be mounted here");
        return;
    };
    let dir = scratch();
    let vault = program::init(&small.path());
    good(&back_up(
        dir.path(),
        &vault,
        "gone",
        2,
        &["--at", "2026-01-01T00-00-00Z"],
    ));
    good(&back_up(
        dir.path(),
        &vault,
        "kept",
        3,
        &["--at", "2026-01-02T00-00-00Z"],
    ));
    let filler = small.path().join("filler");
    let fill = || {
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&filler)
            .unwrap();
        let mut len = 1 << 20;
        while len > 0 {
            if std::io::Write::write_all(&mut file, &vec![7; len]).is_err() {
                len /= 2;
            }
        }
    };
    fill();
    let refused = back_up(dir.path(), &vault, "more", 4, &[]);
    assert!(
        !refused.status.success() && stderr(&refused).contains("No space left"),
        "{}",
        stderr(&refused)
    );
    // Deleting and pruning work all the same, each on a disk with nothing left.
    succeed(words("delete", &vault, &[GONE]));
    good(&prune(&vault));
    let last = good(&prune(&vault));
    assert_eq!(last["removed_backups"], serde_json::json!([GONE]), "{last}");
    assert!(last["removed"]["bytes"].as_u64().unwrap() > 300_000);
    assert!(cat(&vault, KEPT) == bytes_of(dir.path(), "kept"));
    good(&back_up(dir.path(), &vault, "more", 4, &[]));
    assert!(cat(&vault, "servers/more/latest") == bytes_of(dir.path(), "more"));
}

#[test]
fn packs_of_which_little_is_needed_are_repacked_and_backups_read_on() {
    let dir = scratch();
    let vault = program::init(dir.path());
    let path = dir.path().join("disk");
    let back_up = |bytes: &[u8], at: &str| {
        std::fs::write(&path, bytes).unwrap();
        let disk = format!("vda={}", path.display());
        let mut command = vaultfs(program::backup_words(&vault, "web", &disk));
        good(&command.args(["--at", at]).output().unwrap());
    };
    let mut bytes = Random::new(0x5e9a_0001).bytes(4 << 20);
    back_up(&bytes, "2026-01-01T00-00-00Z");
    // A fifth of the first backup's only pack stays in use.
    let fifth = bytes.len() / 5;
    let changed = Random::quiet(0x5e9a_0002).bytes(bytes.len() - fifth);
    bytes[fifth..].copy_from_slice(&changed);
    back_up(&bytes, "2026-01-02T00-00-00Z");
    let stored = || {
        files(&vault.join("packs"))
            .iter()
            .map(|pack| pack.metadata().unwrap().len())
            .sum::<u64>()
    };
    let full = stored();
    let mount = mounted::Mount::new(dir.path(), &vault, "");
    let open = std::fs::File::open(mount.path("servers/web/2026-01-02T00-00-00Z/disks/vda.img")).unwrap();
    let reads_back = || {
        assert!(cat(&vault, "servers/web/2026-01-02T00-00-00Z") == bytes);
        let verified = words("verify", &vault, &["--data"]).output().unwrap();
        assert!(verified.status.success(), "{}", stderr(&verified));
    };
    succeed(words("delete", &vault, &["servers/web/2026-01-01T00-00-00Z"]));
    let plan = good(&words("prune", &vault, &["--dry-run", "--json"]).output().unwrap());
    assert_eq!(
        plan["repacked"]["packs"], 0,
        "a deleted backup that can be brought back needs its packs: {plan}"
    );
    let mut repacked = 0;
    for _ in 0..6 {
        std::thread::sleep(std::time::Duration::from_millis(1100));
        repacked += good(&prune(&vault))["repacked"]["packs"].as_u64().unwrap();
        reads_back();
    }
    assert_eq!(repacked, 1);
    let expected = full - u64::try_from(bytes.len() - fifth).unwrap();
    assert!(
        stored() < expected + (300 << 10),
        "{} of {full}, expected {expected}",
        stored()
    );
    assert_eq!(files(&vault.join("moved")).len(), 1);
    // Who had the image open reads on, through a pack that is gone.
    let mut read = vec![0; bytes.len()];
    std::os::unix::fs::FileExt::read_exact_at(&open, &mut read, 0).unwrap();
    assert!(read == bytes);
    drop(open);
    mount.end();
    // The next backup finds what was stored again.
    let before = stored();
    back_up(&bytes, "2026-01-03T00-00-00Z");
    assert!(stored() < before + (100 << 10), "{before} {}", stored());
    assert!(cat(&vault, "servers/web/2026-01-03T00-00-00Z") == bytes);
    reads_back();
}
