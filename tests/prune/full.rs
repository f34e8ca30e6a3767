//! A vault on a disk that is full: to the last byte, and at any other byte at which a writer may find that it is.

use crate::common::program::{self, stderr, succeed, vaultfs};
use crate::common::{Random, files, have, scratch};
use crate::files::{LoopMount, can_loop_mount, run};
use crate::model;
use crate::program::{GONE, KEPT, back_up, bytes_of, cat, good, prune, two_backups, words};
use parking_lot::Mutex;
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tempfile::TempDir;
use vaultfs::store::Store;
use vaultfs::store::local::LocalStore;
use vaultfs::vault::Vault;

/// A file system of 40 MiB in a file, with a vault on it that can be made again.
struct Small {
    mount: LoopMount,
    /// Where its image lies, and images of disks may.
    dir: TempDir,
    /// What the vault is at first.
    first: PathBuf,
}

impl Small {
    /// Mounts a new one with a copy of this vault.
    fn mount(first: &Path) -> Self {
        let dir = scratch();
        let image = dir.path().join("image");
        File::create(&image).unwrap().set_len(40 << 20).unwrap();
        run(&["mkfs.ext4", "-q", "-b", "1024", "-m", "0", image.to_str().unwrap()]);
        let small = Self {
            mount: LoopMount::new(&image, "rw"),
            dir,
            first: first.to_owned(),
        };
        small.reset();
        small
    }

    fn vault(&self) -> PathBuf {
        self.mount.path().join("vault")
    }

    fn filler(&self) -> PathBuf {
        self.mount.path().join("filler")
    }

    /// Makes the vault what it was at first, with its reserve, on a disk that is empty but for it.
    fn reset(&self) {
        let _ = std::fs::remove_file(self.filler());
        let vault = self.vault();
        if vault.exists() {
            std::fs::remove_dir_all(&vault).unwrap();
        }
        // What is removed is free when that is durable.
        rustix::fs::syncfs(File::open(self.mount.path()).unwrap()).unwrap();
        for file in files(&self.first) {
            let to = vault.join(file.strip_prefix(&self.first).unwrap());
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::copy(file, to).unwrap();
        }
        LocalStore::open(&vault).unwrap().keep_reserve().unwrap();
        rustix::fs::syncfs(File::open(&vault).unwrap()).unwrap();
    }

    /// Bytes that files can still take.
    fn free(&self) -> u64 {
        let found = statvfs(self.mount.path()).unwrap();
        found.f_bavail * found.f_frsize
    }

    /// Fills the disk until no file can take another byte, then gives `free` bytes back; returns what is free in the end.
    fn leave(&self, free: u64) -> u64 {
        let _ = std::fs::remove_file(self.filler());
        let mut file = OpenOptions::new()
            .create_new(true)
            .append(true)
            .open(self.filler())
            .unwrap();
        rustix::fs::syncfs(&file).unwrap();
        // Most of it without writing anything.
        let most = self.free().saturating_sub(1 << 20);
        fallocate(&file, FallocateFlags::empty(), 0, most.max(1)).unwrap();
        let mut len = 1 << 20;
        while len > 0 {
            if file.write_all(&vec![7; len]).is_err() {
                len /= 2;
            }
        }
        file.sync_all().unwrap();
        // Not always at once: the map of the filler takes and gives back blocks, too.
        for _ in 0..8 {
            let (len, now) = (file.metadata().unwrap().len(), self.free());
            if now < free {
                file.set_len(len - (free - now)).unwrap();
            } else if now > free {
                let _ = fallocate(&file, FallocateFlags::empty(), len, now - free);
            }
            file.sync_all().unwrap();
        }
        self.free()
    }

    /// The objects that the vault has more than at first, by what their keys begin with.
    fn left(&self) -> BTreeMap<String, usize> {
        let mut left = BTreeMap::new();
        for file in files(&self.vault()) {
            let key = file.strip_prefix(self.vault()).unwrap();
            if !self.first.join(key).exists() {
                let kind = key.iter().next().unwrap().to_string_lossy().into_owned();
                *left.entry(kind).or_default() += 1;
            }
        }
        left
    }

    /// Reads a disk of a backup as a mount does.
    fn read(&self, address: &str) -> Vec<u8> {
        let vault = Vault::open(Arc::new(LocalStore::open(&self.vault()).unwrap())).unwrap();
        model::read(&vault, &address.parse().unwrap()).unwrap_or_else(|error| panic!("{address}: {error}"))
    }

    fn backups(&self) -> BTreeSet<String> {
        let vault = Vault::open(Arc::new(LocalStore::open(&self.vault()).unwrap())).unwrap();
        let addresses = model::addresses(&vault);
        addresses.iter().map(ToString::to_string).collect()
    }

    #[track_caller]
    fn verify(&self) {
        let verified = words("verify", &self.vault(), &["--data"]).output().unwrap();
        assert!(verified.status.success(), "{}", stderr(&verified));
    }
}

/// Asserts that a command failed because the vault has no space, and said so of the object that it could not write; returns which kind
/// of object that was.
#[track_caller]
fn met_its_end_at(output: &Output) -> &'static str {
    let text = stderr(output);
    // 5: of two backups one was copied.
    assert!(matches!(output.status.code(), Some(1 | 5)), "{text}");
    assert!(text.contains("No space left") && !text.contains(".img"), "{text}");
    let kinds = ["leases", "packs", "meta", "index", "backups"];
    let said = |kind: &&&str| text.contains(&format!("{kind}/"));
    kinds.iter().find(said).unwrap_or_else(|| panic!("of what? {text}"))
}

/// Says whether small disks can be made and mounted here.
fn can_be_small(test: &str) -> bool {
    have(test, "mkfs.ext4") && can_loop_mount()
}

/// A vault with two backups, beside the images that they were made of.
fn first_vault(dir: &Path) -> PathBuf {
    let vault = program::init(dir);
    two_backups(dir, &vault);
    vault
}

#[test]
fn a_disk_that_is_full_to_the_last_byte_is_pruned() {
    if !can_be_small("a_disk_that_is_full_to_the_last_byte_is_pruned") {
        return;
    }
    let dir = scratch();
    let first = first_vault(dir.path());
    let small = Small::mount(&first);
    let vault = small.vault();
    assert_eq!(small.leave(0), 0);
    assert_eq!(met_its_end_at(&back_up(dir.path(), &vault, "more", 4, &[])), "leases");
    // Deleting and pruning work all the same, each on a disk with nothing left.
    succeed(words("delete", &vault, &[GONE]));
    // What the deletion did not need of the reserve stays kept, whoever fills the disk before the prune.
    let reserve = vault.join(".reserve").metadata().unwrap().len();
    assert!((8 << 20..=16 << 20).contains(&reserve), "{reserve}");
    assert_eq!(small.leave(0), 0);
    good(&prune(&vault));
    let last = good(&prune(&vault));
    assert_eq!(last["removed_backups"], serde_json::json!([GONE]), "{last}");
    assert!(last["removed"]["bytes"].as_u64().unwrap() > 300_000);
    assert!(cat(&vault, KEPT) == bytes_of(dir.path(), "kept"));
    good(&back_up(dir.path(), &vault, "more", 4, &[]));
    assert!(cat(&vault, "servers/more/latest") == bytes_of(dir.path(), "more"));
}

/// Fifty amounts of free space: one block after the other where the small objects before and after the pack are written, and some within
/// the pack; `need` is what all of them take.
fn amounts(need: u64) -> Vec<u64> {
    let block = 1024;
    let ends = (0..14).chain(need / block - 16..need / block + 8);
    let mut all: Vec<u64> = ends.map(|blocks| blocks * block).collect();
    all.extend((1..=12).map(|part| need / 13 * part));
    all
}

const MORE: &str = "servers/more/2026-01-03T00-00-00Z";

/// A backup with so much space, and the way out when it was not enough.
fn back_up_with(
    small: &Small,
    images: &Path,
    free: u64,
    is_verified: bool,
) -> Result<(), (&'static str, BTreeMap<String, usize>)> {
    let (vault, place) = (small.vault(), small.dir.path());
    small.reset();
    let begun = small.leave(free);
    assert!(free.abs_diff(begun) <= 1024, "{begun} bytes are free, not {free}");
    let made = back_up(place, &vault, "more", 4, &["--at", "2026-01-03T00-00-00Z"]);
    let mut expected = BTreeSet::from([GONE, KEPT].map(str::to_owned));
    let ended = if made.status.success() {
        expected.insert(MORE.to_owned());
        assert!(small.read(MORE) == bytes_of(place, "more"), "{free}");
        Ok(())
    } else {
        let left = small.left();
        for nothing in ["leases", "backups"] {
            assert_eq!(left.get(nothing), None, "{free}: {left:?}");
        }
        Err((met_its_end_at(&made), left))
    };
    let whole =
        |address: &str, server: &str| assert!(small.read(address) == bytes_of(images, server), "{free}: {address}");
    assert_eq!(small.backups(), expected, "{free}");
    whole(GONE, "gone");
    whole(KEPT, "kept");
    small.leave(0);
    if is_verified {
        small.verify();
    }
    succeed(words("delete", &vault, &[GONE]));
    good(&prune(&vault));
    let last = good(&prune(&vault));
    assert_eq!(last["removed_backups"], serde_json::json!([GONE]), "{free}: {last}");
    good(&back_up(place, &vault, "more", 4, &[]));
    assert!(cat(&vault, "servers/more/latest") == bytes_of(place, "more"), "{free}");
    whole(KEPT, "kept");
    assert!(!small.left().contains_key("deleted") && files(&vault.join("leases")).is_empty());
    ended
}

#[test]
fn a_backup_that_does_not_fit_leaves_every_other_whole_wherever_it_ends() {
    if !can_be_small("a_backup_that_does_not_fit_leaves_every_other_whole_wherever_it_ends") {
        return;
    }
    let dir = scratch();
    let first = first_vault(dir.path());
    let measured = Small::mount(&first);
    let before = measured.free();
    good(&back_up(measured.dir.path(), &measured.vault(), "more", 4, &[]));
    let amounts = amounts(before - measured.free());
    drop(measured);
    let next = AtomicUsize::new(0);
    let (fit, kinds, left) = (
        AtomicUsize::new(0),
        Mutex::new(BTreeMap::new()),
        Mutex::new(BTreeMap::new()),
    );
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let small = Small::mount(&first);
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(free) = amounts.get(number) else { break };
                    match back_up_with(&small, dir.path(), *free, number.is_multiple_of(5)) {
                        Ok(()) => drop(fit.fetch_add(1, Ordering::Relaxed)),
                        Err((kind, objects)) => {
                            *kinds.lock().entry(kind).or_insert(0) += 1;
                            *left.lock().entry(objects).or_insert(0) += 1;
                        }
                    }
                }
            });
        }
    });
    let (fit, kinds, left) = (fit.into_inner(), kinds.into_inner(), left.into_inner());
    println!(
        "{} amounts, {fit} fit; the others ended at {kinds:?} and left {left:?}",
        amounts.len()
    );
    assert!(amounts.len() >= 50 && fit >= 4 && kinds.values().sum::<usize>() >= 30);
    assert!(
        kinds.len() >= 4
            && ["leases", "packs", "backups"]
                .iter()
                .all(|kind| kinds.contains_key(kind))
    );
    assert!(left.len() >= 3, "{left:?}");
}

#[test]
fn a_copy_into_a_full_vault_leaves_its_backups_whole_and_arrives_when_there_is_space() {
    if !can_be_small("a_copy_into_a_full_vault_leaves_its_backups_whole_and_arrives_when_there_is_space") {
        return;
    }
    let dir = scratch();
    let first = first_vault(dir.path());
    let from = {
        let dir = dir.path().join("elsewhere");
        std::fs::create_dir(&dir).unwrap();
        program::init(&dir)
    };
    good(&back_up(
        dir.path(),
        &from,
        "more",
        4,
        &["--at", "2026-01-03T00-00-00Z"],
    ));
    good(&back_up(
        dir.path(),
        &from,
        "again",
        5,
        &["--at", "2026-01-03T00-00-00Z"],
    ));
    let small = Small::mount(&first);
    let vault = small.vault();
    let copy = || {
        let mut command = words("copy", &from, &["--all", "--quiet"]);
        command.arg(&vault).output().unwrap()
    };
    let (mut failed, mut arrived) = (BTreeSet::new(), 0);
    for free in [0, 1, 2, 8, 100, 400, 640, 1000].map(|blocks| blocks * 1024) {
        small.reset();
        small.leave(free);
        let copied = copy();
        if copied.status.success() {
            arrived += 1;
        } else {
            let there = small.backups().len();
            assert_eq!(copied.status.code(), Some(if there > 2 { 5 } else { 1 }));
            failed.insert((met_its_end_at(&copied), there));
        }
        for (address, server) in [(GONE, "gone"), (KEPT, "kept")] {
            assert!(small.read(address) == bytes_of(dir.path(), server), "{free}: {address}");
        }
        small.leave(0);
        small.verify();
        succeed(words("delete", &vault, &[GONE]));
        good(&prune(&vault));
        good(&prune(&vault));
        std::fs::remove_file(small.filler()).unwrap();
        assert!(copy().status.success(), "{free}");
        for server in ["more", "again"] {
            let address = format!("servers/{server}/2026-01-03T00-00-00Z");
            assert!(
                small.read(&address) == bytes_of(dir.path(), server),
                "{free}: {address}"
            );
        }
        assert!(small.read(KEPT) == bytes_of(dir.path(), "kept"));
    }
    println!("{arrived} copies arrived, the others ended at {failed:?}");
    assert!(arrived >= 1 && failed.len() >= 3, "{arrived} {failed:?}");
}

/// How a prune ended that had something to repack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Repack {
    Refused,
    LeftAsItWas,
    Done,
}

#[test]
fn a_prune_that_has_no_space_to_repack_leaves_packs_as_they_are() {
    if !can_be_small("a_prune_that_has_no_space_to_repack_leaves_packs_as_they_are") {
        return;
    }
    let dir = scratch();
    let first = program::init(dir.path());
    // A fifth of the pack of the backup that is deleted is needed by the other one.
    let old = Random::new(0x5e9a_0003).bytes(1 << 20);
    let mut bytes = old.clone();
    let fifth = bytes.len() / 5;
    let changed = Random::quiet(0x5e9a_0004).bytes(bytes.len() - fifth);
    bytes[fifth..].copy_from_slice(&changed);
    let image = dir.path().join("web.img");
    let disk = format!("vda={}", image.display());
    for (at, bytes) in [("2026-01-01T00-00-00Z", &old), ("2026-01-02T00-00-00Z", &bytes)] {
        std::fs::write(&image, bytes).unwrap();
        let mut command = vaultfs(program::backup_words(&first, "web", &disk));
        good(&command.args(["--at", at]).output().unwrap());
    }
    succeed(words("delete", &first, &["servers/web/2026-01-01T00-00-00Z"]));
    good(&prune(&first));
    let small = Small::mount(&first);
    let vault = small.vault();
    let mut ends = BTreeMap::new();
    for (blocks, has_reserve) in [
        (0, false),
        (1, false),
        (12, false),
        (60, false),
        (150, false),
        (195, false),
        (300, false),
        (500, false),
        (0, true),
        (100, true),
    ] {
        small.reset();
        if !has_reserve {
            std::fs::remove_file(vault.join(".reserve")).unwrap();
        }
        small.leave(blocks * 1024);
        let pruned = prune(&vault);
        let story = format!("{blocks} blocks, reserve {has_reserve}: {}", stderr(&pruned));
        let ended = if !pruned.status.success() {
            assert_eq!(met_its_end_at(&pruned), "leases", "{story}");
            Repack::Refused
        } else if good(&pruned)["repacked"]["packs"] == 1 {
            Repack::Done
        } else {
            assert!(stderr(&pruned).contains("no space to repack"), "{story}");
            Repack::LeftAsItWas
        };
        // What was kept back for this is room for the prune itself.
        assert!(!has_reserve || ended != Repack::Refused, "{story}");
        *ends.entry(ended).or_insert(0) += 1;
        assert!(small.read("servers/web/2026-01-02T00-00-00Z") == bytes, "{story}");
        small.verify();
        // With space again, all is done that was not.
        std::fs::remove_file(small.filler()).unwrap();
        for _ in 0..4 {
            good(&prune(&vault));
        }
        small.verify();
        assert!(small.read("servers/web/2026-01-02T00-00-00Z") == bytes, "{story}");
        assert_eq!(files(&vault.join("packs")).len(), 2, "{story}");
        assert_eq!(files(&vault.join("moved")).len(), 1, "{story}");
    }
    println!("{ends:?}");
    assert!(ends.len() == 3 && ends.values().all(|count| *count >= 2), "{ends:?}");
}
