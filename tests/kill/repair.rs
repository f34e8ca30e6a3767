//! Repairs that are killed: nothing becomes unreadable, and the next repair brings all of it back.

use crate::common::disks::{CHUNK, length};
use crate::common::kills::{self, Place, is_below};
use crate::common::packs::damage;
use crate::common::program::{self, succeed, vaultfs};
use crate::common::{Random, copy_files, files, have, open, scratch};
use crate::scene::{Contents, Counts, back_up, contents, every_stage};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use tempfile::TempDir;
use vaultfs::chunk::Reader;
use vaultfs::image::ReadAt;
use vaultfs::image::disk::DiskImage;
use vaultfs::vault::Address;

/// Calls of which every one on the damaged vault is a place, and those of which some are.
const EVERY: [&str; 6] = ["write", "fsync", "renameat2", "mkdir", "unlink", "link"];
const SOME: [&str; 5] = ["openat", "close", "pread64", "statx", "getdents64"];
const MOST: usize = 8;

/// A vault with damage that was found, and another one that has copies.
struct Scene {
    dir: TempDir,
    /// What every backup holds.
    whole: Contents,
}

fn vaults(dir: &Path) -> [PathBuf; 2] {
    ["vault", "other/vault"].map(|name| dir.join(name))
}

fn repair(dir: &Path) -> Command {
    let [vault, other] = vaults(dir);
    let words = [
        "repair".as_ref(),
        vault.as_os_str(),
        "--from".as_ref(),
        other.as_os_str(),
    ];
    let mut command = vaultfs(words);
    command.args(["--apply", "--jobs", "1", "--json"]);
    command
}

/// Each chunk of each backup that reads, by its number.
fn readable(vault: &Path, backups: &Contents) -> BTreeMap<(Address, u64), Vec<u8>> {
    let vault = open(vault);
    let mut found = BTreeMap::new();
    for address in backups.keys() {
        let manifest = vault.load(address).unwrap();
        let reader = Reader::new(vault.clone(), 0);
        let image = DiskImage::open(&reader, address, &manifest.disks()[0]);
        for number in 0..image.len() / CHUNK {
            let mut bytes = vec![0; length(CHUNK)];
            if image.read_at(number * CHUNK, &mut bytes).is_ok() {
                found.insert((address.clone(), number), bytes);
            }
        }
    }
    found
}

impl Scene {
    /// A chunk of each of two packs and an index are damaged.
    fn new() -> Self {
        let dir = scratch();
        let vault = program::init(dir.path());
        let [_, other] = vaults(dir.path());
        std::fs::create_dir(other.parent().unwrap()).unwrap();
        program::init(other.parent().unwrap());
        let shared = Random::quiet(1).bytes(length(2 * CHUNK));
        for number in 2..4 {
            let own = Random::quiet(number).bytes(length(2 * CHUNK));
            let point = format!("2026-01-{number:02}T00-00-00Z");
            back_up(&vault, "web", &point, &[shared.as_slice(), &own].concat());
        }
        let words = ["copy".as_ref(), "--all".as_ref(), vault.as_os_str(), other.as_os_str()];
        succeed(vaultfs(words));
        let whole = contents(&vault);
        damage(&vault, &shared[..length(CHUNK)]);
        damage(&vault, &Random::quiet(3).bytes(length(CHUNK)));
        let index = files(&vault.join("index")).remove(0);
        let mut bytes = std::fs::read(&index).unwrap();
        bytes[40] ^= 1;
        std::fs::remove_file(&index).unwrap();
        std::fs::write(&index, bytes).unwrap();
        let verified = Self::verify(&vault).output().unwrap();
        assert_eq!(verified.status.code(), Some(3));
        Self { dir, whole }
    }

    fn verify(vault: &Path) -> Command {
        let mut command = vaultfs(["verify".as_ref(), vault.as_os_str()]);
        command.arg("--data");
        command
    }

    fn copy(&self) -> TempDir {
        let dir = scratch();
        for (from, to) in vaults(self.dir.path()).iter().zip(&vaults(dir.path())) {
            copy_files(from, to);
        }
        dir
    }

    fn places(&self) -> Vec<Place> {
        let dir = self.copy();
        let [vault, _] = vaults(dir.path());
        let calls = kills::calls(&repair(dir.path()), 0);
        let of = |names: &[&str]| {
            kills::places(&calls, |call| {
                names.contains(&call.name.as_str()) && (is_below(call, &vault) || call.name == "write")
            })
        };
        [of(&EVERY), kills::spread(&of(&SOME), MOST)].concat()
    }

    /// Kills a repair at one place; says what it left if it was killed.
    fn kill(&self, place: &Place) -> Option<Counts> {
        let dir = self.copy();
        let [vault, _] = vaults(dir.path());
        let before = readable(&vault, &self.whole);
        let killed = kills::kill(&repair(dir.path()), place, 0);
        let left = Counts::of(&vault);
        let after = readable(&vault, &self.whole);
        for (place_in_disk, bytes) in &before {
            assert!(after.get(place_in_disk) == Some(bytes), "{place:?}: {place_in_disk:?}");
        }
        succeed(repair(dir.path()));
        assert!(contents(&vault) == self.whole, "{place:?}");
        succeed(Self::verify(&vault));
        killed.then_some(left)
    }
}

#[test]
fn a_repair_killed_at_any_call_makes_nothing_unreadable_and_is_finished_by_the_next() {
    let test = "a_repair_killed_at_any_call_makes_nothing_unreadable_and_is_finished_by_the_next";
    if !have(test, "strace") {
        return;
    }
    let scene = Scene::new();
    let [vault, _] = vaults(scene.dir.path());
    // The chunk that both backups share, and one of the second.
    assert_eq!(readable(&vault, &scene.whole).len(), 8 - 3);
    let left = Mutex::new(Vec::new());
    kills::for_each(&scene.places(), |place| {
        let found = scene.kill(place);
        left.lock().unwrap().extend(found);
    });
    let left = left.into_inner().unwrap();
    every_stage(
        "repair",
        &left,
        &[
            ("nothing done", &|left| {
                left.number("leases") == 0 && left.number("packs") == 2
            }),
            ("a lease", &|left| {
                left.number("leases") == 1 && left.number("packs") == 2
            }),
            ("the copies", &|left| {
                left.number("packs") == 3 && left.number("moved") == 0
            }),
            ("a way to one", &|left| left.number("moved") == 1),
            ("the ways there", &|left| {
                left.number("moved") == 2 && left.number("leases") == 1
            }),
            ("all done", &|left| {
                left.number("moved") == 2 && left.number("leases") == 0
            }),
        ],
    );
    assert!(left.len() >= 70, "only {} kills", left.len());
}
