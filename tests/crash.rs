//! The power fails at any moment: what was acknowledged is there, whole, and what was not is there whole or not at all.
//!
//! The real program works on a real directory under strace. From the log a disk is built that loses, tears and reorders what was not
//! synced; the library opens every state of it that is drawn. To show that this would find a sync that is missing, each is left out in
//! turn.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod common;
#[path = "crash/disk.rs"]
mod disk;
#[path = "crash/record.rs"]
mod record;

use common::{Random, have};
use disk::Disk;
use record::Op;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;
use vaultfs::checksum::Digest;
use vaultfs::chunk::Reader;
use vaultfs::image::ReadAt;
use vaultfs::image::disk::DiskImage;
use vaultfs::store::memory::MemoryStore;
use vaultfs::store::{Key, Store};
use vaultfs::vault::{self, Content, Vault};

const POINTS: [&str; 3] = ["2026-11-20T03-00-00Z", "2026-11-20T04-00-00Z", "2026-11-20T05-00-00Z"];
const SIZE: usize = 200_000;
/// States that are opened.
const STATES: usize = 20_000;

/// What a command is to do to the backups that there are.
enum Effect {
    Nothing,
    Makes(String, Vec<u8>),
    Hides(String),
}

/// What the program did, and what it then claims.
struct Log {
    base: PathBuf,
    root: PathBuf,
    ops: Vec<Op>,
    /// The content of each backup by its address.
    disks: BTreeMap<String, Vec<u8>>,
    /// For each command: the backups that are there when it has ended.
    claims: Vec<BTreeSet<String>>,
    /// For each command: the backups that may be there or not while it runs.
    open: Vec<BTreeSet<String>>,
}

impl Log {
    /// A new vault.
    fn begin(base: &Path) -> Self {
        let base = base.canonicalize().unwrap();
        let mut log = Self {
            root: base.join("vault"),
            base,
            ops: Vec::new(),
            disks: BTreeMap::new(),
            claims: Vec::new(),
            open: Vec::new(),
        };
        log.run("init", &["--chunk-size", "64KiB"], Effect::Nothing);
        log
    }

    /// Two backups of a disk, and one of another.
    fn of_backups(base: &Path) -> Self {
        let mut log = Self::begin(base);
        let mut bytes = Random::quiet(1).bytes(SIZE);
        for (number, point) in POINTS.iter().enumerate() {
            bytes[..70_000].copy_from_slice(&Random::quiet(10 + u64::try_from(number).unwrap()).bytes(70_000));
            let name = if number == 2 { "other" } else { "db" };
            log.back_up(name, point, &bytes);
        }
        log
    }

    /// A backup is deleted and removed, another one's pack repacked, and all that is marked removed.
    fn of_prunes(base: &Path) -> Self {
        let mut log = Self::begin(base);
        let mut bytes = Random::quiet(2).bytes(6 * SIZE);
        log.back_up("db", POINTS[0], &bytes);
        let kept = bytes.len() / 5;
        let changed = Random::quiet(3).bytes(bytes.len() - kept);
        bytes[kept..].copy_from_slice(&changed);
        log.back_up("db", POINTS[1], &bytes);
        let gone = format!("disks/db/{}", POINTS[0]);
        log.run("delete", &[&gone], Effect::Hides(gone.clone()));
        for _ in 0..5 {
            // What was marked in this second is not yet old.
            std::thread::sleep(std::time::Duration::from_millis(1100));
            log.run("prune", &["--grace", "0", "--keep-deleted", "0"], Effect::Nothing);
        }
        log.back_up("db", POINTS[2], &bytes);
        let removed = |op: &Op| matches!(op, Op::Unlink(path) if path.starts_with(log.root.join("packs")));
        assert!(
            log.ops.iter().filter(|op| removed(op)).count() >= 1,
            "nothing was removed"
        );
        let repacked = |op: &Op| matches!(op, Op::Rename(_, path) if path.starts_with(log.root.join("moved")));
        assert!(log.ops.iter().any(repacked), "nothing was repacked");
        log
    }

    fn back_up(&mut self, name: &str, point: &str, bytes: &[u8]) {
        let source = self.base.join(format!("{name}-{point}"));
        std::fs::write(&source, bytes).unwrap();
        let words = ["disk", name, source.to_str().unwrap(), "--at", point];
        self.run(
            "backup",
            &words,
            Effect::Makes(format!("disks/{name}/{point}"), bytes.to_vec()),
        );
    }

    fn run(&mut self, command: &str, more: &[&str], effect: Effect) {
        let mut words = vec![OsString::from(command), self.root.clone().into()];
        words.extend(more.iter().map(OsString::from));
        let ops = record::run(&self.root, &self.base.join("strace.log"), &words);
        assert!(!ops.is_empty());
        self.ops.extend(ops);
        self.ops.push(Op::Done(self.claims.len()));
        let mut claimed = self.claims.last().cloned().unwrap_or_default();
        let open = match effect {
            Effect::Nothing => None,
            Effect::Makes(address, bytes) => {
                claimed.insert(address.clone());
                self.disks.insert(address.clone(), bytes);
                Some(address)
            }
            Effect::Hides(address) => {
                claimed.remove(&address);
                Some(address)
            }
        };
        self.claims.push(claimed);
        self.open.push(open.into_iter().collect());
    }

    /// Says what is wrong with a state in which `done` commands had ended.
    fn judge(&self, state: &BTreeMap<String, Vec<u8>>, done: usize) -> Result<(), String> {
        let store = Arc::new(MemoryStore::new());
        for (name, data) in state {
            // What is no key is no object, here as in a directory.
            if let Ok(key) = Key::new(name.as_str()) {
                store.put_new(&key, data).unwrap();
            }
        }
        let claimed = done.checked_sub(1).map(|last| &self.claims[last]);
        let vault = match Vault::open(store) {
            Ok(vault) => vault,
            Err(vault::Error::NoVault { .. }) if claimed.is_none() => return Ok(()),
            Err(error) => return Err(format!("the vault does not open: {error}")),
        };
        let catalogue = vault.catalogue().map_err(|error| error.to_string())?;
        let mut found = BTreeSet::new();
        for (resource, points) in &catalogue {
            for point in points {
                let address = resource.at(*point);
                self.check(&vault, &address)
                    .map_err(|error| format!("{address}: {error}"))?;
                found.insert(address.to_string());
            }
        }
        let none = BTreeSet::new();
        let (claimed, open) = (claimed.unwrap_or(&none), self.open.get(done).unwrap_or(&none));
        if let Some(lost) = claimed.difference(&found).find(|address| !open.contains(*address)) {
            return Err(format!("{lost} was acknowledged, and is not there"));
        }
        match found.difference(claimed).find(|address| !open.contains(*address)) {
            Some(strange) => Err(format!("{strange} should not be there")),
            None => Ok(()),
        }
    }

    /// Reads a backup as a whole.
    fn check(&self, vault: &Vault, address: &vault::Address) -> Result<(), String> {
        let manifest = vault.load(address).map_err(|error| error.to_string())?;
        let Content::Disks(disks) = &manifest.content else {
            return Err("not of disks".to_owned());
        };
        let image = DiskImage::open(&Reader::new(vault.clone(), 8 << 20), address, &disks[0]);
        let expected = self.disks.get(&address.to_string()).ok_or("nobody made it")?;
        let mut bytes = vec![0; usize::try_from(image.len()).unwrap()];
        image.read_at(0, &mut bytes).map_err(|error| error.to_string())?;
        if bytes == *expected {
            Ok(())
        } else {
            Err("it has other bytes".to_owned())
        }
    }

    /// Draws states after each operation, `rounds` times, until one is wrong or there were `most`; returns what was wrong, and how many
    /// states there were and how many of them different ones.
    fn search(&self, ops: &[Op], random: &mut Random, most: usize) -> (Result<(), String>, usize, usize) {
        let (mut drawn, mut seen) = (0, HashSet::new());
        while drawn < most {
            let (mut disk, mut done) = (Disk::default(), 0);
            for (number, op) in ops.iter().enumerate() {
                disk.apply(op);
                if let Op::Done(command) = op {
                    done = command + 1;
                }
                let state = disk.crash(&self.root, random);
                drawn += 1;
                if seen.insert((hash(&state), done))
                    && let Err(wrong) = self.judge(&state, done)
                {
                    return (
                        Err(format!("after operation {number}, {op:.80?}: {wrong}")),
                        drawn,
                        seen.len(),
                    );
                }
                if drawn >= most {
                    break;
                }
            }
        }
        (Ok(()), drawn, seen.len())
    }
}

fn hash(state: &BTreeMap<String, Vec<u8>>) -> Digest {
    let mut all = Vec::new();
    for (name, data) in state {
        all.extend_from_slice(name.as_bytes());
        all.extend_from_slice(&Digest::of(data).0);
    }
    Digest::of(&all)
}

/// The syncs that something hangs on: all of one path by one command, if it made or named something there. What lies below `aids` is
/// lost without harm.
fn syncs(root: &Path, ops: &[Op], aids: &[&str]) -> BTreeSet<(usize, PathBuf)> {
    let is_below = |path: &Path, dirs: &[&str]| dirs.iter().any(|dir| path.starts_with(root.join(dir)));
    let (mut named, mut synced, mut command) = (BTreeSet::new(), BTreeSet::new(), 0);
    for op in ops {
        match op {
            Op::SyncFile(path) | Op::SyncDir(path) => {
                synced.insert((command, path.clone()));
            }
            Op::Create(path) => {
                named.insert((command, path.clone()));
            }
            Op::Mkdir(path) | Op::Rename(_, path) if !is_below(path, aids) => {
                named.insert((command, path.parent().unwrap().to_owned()));
            }
            Op::Done(_) => command += 1,
            Op::Append(..) | Op::Unlink(_) | Op::Mkdir(_) | Op::Rename(..) => {}
        }
    }
    let is_aid = |path: &Path| {
        // Of these the key says all.
        let is_file = path.to_string_lossy().contains(".tmp-");
        is_below(path, aids) || is_file && is_below(path, &["deleted", "moved"])
    };
    synced.retain(|sync| named.contains(sync) && !is_aid(&sync.1) && sync.1.starts_with(root));
    synced
}

/// The same operations without the syncs of that path by that command and later ones.
fn without(ops: &[Op], (left_out, at): &(usize, PathBuf)) -> Vec<Op> {
    let mut command = 0;
    let mut rest = Vec::new();
    for op in ops {
        if *op == Op::Done(command) {
            command += 1;
        }
        let is_it = command >= *left_out && matches!(op, Op::SyncFile(path) | Op::SyncDir(path) if path == at);
        if !is_it {
            rest.push(op.clone());
        }
    }
    rest
}

/// Opens states, and returns how many different ones there were.
fn all_are_good(log: &Log, seed: u64, states: usize) -> usize {
    let mut random = Random::new(seed);
    let (result, drawn, different) = log.search(&log.ops, &mut random, states);
    println!(
        "{} operations, {drawn} states, {different} different ones",
        log.ops.len()
    );
    assert_eq!(result, Ok(()));
    different
}

/// Leaves out each sync in turn; returns how many of files and of directories were missed.
fn each_is_missed(log: &Log, seed: u64, aids: &[&str]) -> (usize, usize) {
    let mut random = Random::new(seed);
    let (mut of_files, mut of_dirs) = (0, 0);
    for left_out in syncs(&log.root, &log.ops, aids) {
        let (command, path) = &left_out;
        let (result, drawn, _) = log.search(&without(&log.ops, &left_out), &mut random, STATES);
        let path = path.display().to_string();
        assert!(
            result.is_err(),
            "without the sync of {path} by command {command} nothing was wrong in {drawn} states"
        );
        if path.contains(".tmp-") {
            of_files += 1;
        } else {
            of_dirs += 1;
        }
    }
    println!("syncs that were left out and missed: {of_files} of files, {of_dirs} of directories");
    (of_files, of_dirs)
}

#[test]
fn no_power_failure_loses_or_tears_what_was_acknowledged() {
    if !have("no_power_failure_loses_or_tears_what_was_acknowledged", "strace") {
        return;
    }
    let dir = TempDir::new().unwrap();
    assert!(all_are_good(&Log::of_backups(dir.path()), 0x0c4a_0001, STATES) >= 200);
}

#[test]
fn no_power_failure_in_a_prune_or_a_repack_harms_a_backup() {
    if !have("no_power_failure_in_a_prune_or_a_repack_harms_a_backup", "strace") {
        return;
    }
    let dir = TempDir::new().unwrap();
    assert!(all_are_good(&Log::of_prunes(dir.path()), 0x0c4a_0003, STATES) >= 200);
}

#[test]
fn each_sync_is_needed_and_leaving_it_out_is_found() {
    if !have("each_sync_is_needed_and_leaving_it_out_is_found", "strace") {
        return;
    }
    let dir = TempDir::new().unwrap();
    // Nothing is lost with an index or the reserve; leases are for those who are there at the same time.
    let missed = each_is_missed(
        &Log::of_backups(dir.path()),
        0x0c4a_0002,
        &["index", "leases", ".reserve"],
    );
    assert!(missed.0 >= 10 && missed.1 >= 10, "{missed:?}");
}

#[test]
fn each_sync_of_a_tombstone_and_of_a_repack_is_needed() {
    if !have("each_sync_of_a_tombstone_and_of_a_repack_is_needed", "strace") {
        return;
    }
    let dir = TempDir::new().unwrap();
    // A mark or an intent that is lost is made again.
    let aids = ["index", "leases", "marks", "sweeps", ".reserve"];
    let missed = each_is_missed(&Log::of_prunes(dir.path()), 0x0c4a_0004, &aids);
    assert!(missed.0 >= 10 && missed.1 >= 10, "{missed:?}");
}
