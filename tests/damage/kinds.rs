//! Every type of object that the format has: each bit of each of them flipped, cut, lost and exchanged.

use crate::common::packs::regions;
use crate::sample::{Reading, on_all_cores};
use crate::whole::Whole;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use vaultfs::prune::Error;
use vaultfs::store::memory::MemoryStore;
use vaultfs::store::{Key, Store};
use vaultfs::vault::Vault;

/// What the keys of objects of one kind begin with: `vault`, `packs`, `deleted`.
fn kind(key: &Key) -> &str {
    key.as_str().split('/').next().unwrap()
}

/// What the format's table of keys says that there is.
fn kinds_of_the_format() -> BTreeSet<String> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/format.md");
    let text = std::fs::read_to_string(path).unwrap();
    let store = text.split("\n## ").find(|section| section.starts_with("1. ")).unwrap();
    let rows = store.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| row.split(['/', '`']).next().unwrap().to_owned())
        .collect()
}

#[test]
fn the_vault_that_is_damaged_holds_every_kind_of_object() {
    let whole = Whole::new();
    let kinds: BTreeSet<String> = whole.objects.keys().map(|key| kind(key).to_owned()).collect();
    assert_eq!(kinds, kinds_of_the_format());
    assert_eq!(kinds.len(), 13);
    let report = whole.verify(&whole.store()).unwrap();
    assert!(!report.is_damaged() && report.is_complete(), "{report:?}");
    assert_eq!((report.findings.len(), report.foreign.len()), (0, 0), "{report:?}");
    let sizes = whole.objects.values().map(Vec::len);
    println!("{} objects, {} bytes", whole.objects.len(), sizes.sum::<usize>());
}

/// What is done to one object.
#[derive(Debug, Clone)]
enum Harm {
    /// A byte, and what it is combined with by exclusive or.
    Flip(usize, u8),
    Cut(usize),
    Added(Vec<u8>),
    Replaced(Key),
}

impl Harm {
    fn apply(&self, whole: &Whole, key: &Key) -> Vec<u8> {
        let mut bytes = whole.objects[key].clone();
        match self {
            Self::Flip(at, mask) => bytes[*at] ^= mask,
            Self::Cut(len) => bytes.truncate(*len),
            Self::Added(more) => bytes.extend_from_slice(more),
            Self::Replaced(other) => bytes.clone_from(&whole.objects[other]),
        }
        bytes
    }
}

/// Does every harm by itself; returns what `judge` makes of the vault, and names the harm if that panics.
fn each<T: Send>(whole: &Whole, harms: &[(Key, Harm)], judge: impl Fn(&Arc<MemoryStore>, &Key) -> T + Sync) -> Vec<T> {
    let one = |store: &mut Arc<MemoryStore>, (key, harm): &(Key, Harm)| {
        store.overwrite(key, harm.apply(whole, key));
        let judged = catch_unwind(AssertUnwindSafe(|| judge(store, key)));
        store.overwrite(key, whole.objects[key].clone());
        judged.unwrap_or_else(|_| panic!("{harm:?} of {key}"))
    };
    on_all_cores(harms, || whole.store(), one)
}

/// What became of a damaged vault.
#[derive(Debug, PartialEq)]
struct Found {
    /// `verify` names the object.
    by_verify: bool,
    /// A reader fails somewhere, and delivers nothing that is wrong.
    by_reader: bool,
}

/// Of each kind of object, how many harms were done and how many of them a reader met.
type Met = BTreeMap<String, (usize, usize)>;

/// Reads and verifies every mutant; returns how many a reader met, and those that `verify` did not name.
fn find(whole: &Whole, harms: &[(Key, Harm)]) -> (Met, Vec<(Key, Harm)>) {
    let found = each(whole, harms, |store, key| {
        let names =
            |report: vaultfs::verify::Report| report.findings.iter().any(|finding| finding.object == key.as_str());
        Found {
            by_verify: whole.verify(store).is_none_or(names),
            by_reader: whole.read(store).found(),
        }
    });
    let (mut met, mut missed) = (Met::new(), Vec::new());
    for (harm, found) in harms.iter().zip(&found) {
        let kind = if whole.is_gone(&harm.0) {
            "deleted backups"
        } else {
            kind(&harm.0)
        };
        let counts = met.entry(kind.to_owned()).or_default();
        *counts = (counts.0 + 1, counts.1 + usize::from(found.by_reader));
        if !found.by_verify {
            missed.push(harm.clone());
        }
    }
    (met, missed)
}

/// Asserts who meets damage of which kind: what a backup consists of fails its readers, and what is beside it does not.
fn assert_met(met: &Met) {
    println!("harms and those that a reader met: {met:?}");
    for (kind, (harms, met)) in met {
        match kind.as_str() {
            "vault" | "backups" => assert_eq!(harms, met, "{kind}"),
            // Some of it was stored again, or is of the backup that is deleted.
            "packs" | "meta" => assert!(met * 3 > *harms, "{kind}: {met} of {harms}"),
            _ => assert_eq!(*met, 0, "{kind}"),
        }
    }
}

fn every_bit(_: &Whole, _: &Key, object: &[u8]) -> Vec<(usize, u8)> {
    let bits = |at| (0..8).map(move |bit| (at, 1 << bit));
    (0..object.len()).flat_map(bits).collect()
}

/// Every bit, but two patterns for each byte of chunks: one bit, which one depending on the place, and all of them.
fn two_patterns_in_chunks(whole: &Whole, key: &Key, object: &[u8]) -> Vec<(usize, u8)> {
    if !matches!(kind(key), "packs" | "meta") {
        return every_bit(whole, key, object);
    }
    let vault = Vault::open(whole.store()).unwrap();
    let flips = regions(&vault, key, object).into_iter().flat_map(|(what, range)| {
        range.flat_map(move |at| {
            let masks = if what == "chunk" {
                vec![1 << (at % 8), 0xff]
            } else {
                (0..8).map(|bit| 1 << bit).collect()
            };
            masks.into_iter().map(move |mask| (at, mask))
        })
    });
    flips.collect()
}

/// Which flips of an object are tried.
type Choose = fn(&Whole, &Key, &[u8]) -> Vec<(usize, u8)>;

fn flips(whole: &Whole, choose: Choose, is_wanted: impl Fn(&Key) -> bool) -> Vec<(Key, Harm)> {
    let wanted = whole.objects.iter().filter(|(key, _)| is_wanted(key));
    let of_one = |(key, object): (&Key, &Vec<u8>)| {
        let flips = choose(whole, key, object).into_iter();
        let key = key.clone();
        flips.map(move |(at, mask)| (key.clone(), Harm::Flip(at, mask)))
    };
    wanted.flat_map(of_one).collect()
}

/// Flips bits of every object: `verify` names each object whatever bit it was, and a reader gets the bytes that were stored or an error.
fn flip_everything(choose: Choose) {
    let whole = Whole::new();
    let (met, missed) = find(&whole, &flips(&whole, choose, |_| true));
    // The hash of an object covers every byte that is stored, and nothing is padding.
    assert!(missed.is_empty(), "{} flips, first {:?}", missed.len(), missed[0]);
    assert_eq!(met.len(), 13 + 1);
    assert_met(&met);
}

#[test]
fn every_flip_in_every_kind_of_object_is_found_by_verify_and_harms_no_reader() {
    flip_everything(two_patterns_in_chunks);
}

#[test]
#[ignore = "soak: eight flips of each byte"]
fn soak_every_flipped_bit_of_every_kind_of_object_is_found_by_verify_and_harms_no_reader() {
    flip_everything(every_bit);
}

#[test]
fn every_cut_and_every_added_byte_of_every_kind_of_object_is_found_by_verify() {
    let whole = Whole::new();
    let mut harms = Vec::new();
    for (key, object) in &whole.objects {
        harms.extend((0..object.len()).map(|len| (key.clone(), Harm::Cut(len))));
        let added = [vec![0], vec![0xff], vec![b'\n'], vec![0; 32], object.clone()];
        harms.extend(added.map(|more| (key.clone(), Harm::Added(more))));
    }
    let (met, missed) = find(&whole, &harms);
    // Only a newline at the end of the vault object carries nothing.
    let harmless = |(key, harm): &(Key, Harm)| {
        let len = whole.objects[key].len() - 1;
        key.as_str() == "vault" && matches!(harm, Harm::Added(more) if more == b"\n")
            || matches!(harm, Harm::Cut(cut) if key.as_str() == "vault" && *cut == len)
    };
    assert!(missed.iter().all(harmless) && missed.len() <= 2, "{missed:?}");
    println!("{met:?}, harmless: {missed:?}");
}

#[test]
fn objects_of_a_kind_in_each_others_place_are_found_by_verify() {
    let whole = Whole::new();
    let mut pairs = BTreeMap::<&str, usize>::new();
    let mut harms = Vec::new();
    for one in whole.objects.keys() {
        for other in whole
            .objects
            .keys()
            .filter(|other| *other != one && kind(other) == kind(one))
        {
            harms.push((one.clone(), Harm::Replaced(other.clone())));
            if one < other {
                let store = whole.store();
                store.overwrite(one, whole.objects[other].clone());
                store.overwrite(other, whole.objects[one].clone());
                let report = whole.verify(&store).unwrap();
                for key in [one, other] {
                    let is_named = report.findings.iter().any(|finding| finding.object == key.as_str());
                    assert!(is_named, "{one} and {other} exchanged: {report:?}");
                }
                // Panics if anything wrong is read.
                whole.read(&store);
                *pairs.entry(kind(one)).or_default() += 1;
            }
        }
    }
    let (met, missed) = find(&whole, &harms);
    assert!(missed.is_empty(), "{missed:?}");
    println!("{pairs:?} exchanged, {met:?} replaced");
    for kind in ["packs", "meta", "index", "backups", "leases"] {
        assert!(pairs[kind] >= 1, "{kind}");
    }
}

#[test]
fn an_object_that_is_gone_takes_nothing_with_it_but_what_it_held() {
    let whole = Whole::new();
    let mut hit = 0;
    for key in whole.objects.keys() {
        let store = whole.store();
        store.delete(key).unwrap();
        let reading = whole.read(&store);
        let report = whole.verify(&store);
        let is_damaged = report.as_ref().is_none_or(vaultfs::verify::Report::is_damaged);
        let hurt = report.map(|report| report.hurt).unwrap_or_default();
        let hurt: Vec<String> = hurt.iter().map(|backup| backup.address.to_string()).collect();
        let failed = match &reading {
            Reading::Identical => Vec::new(),
            Reading::Failed(what) => what.clone(),
        };
        let lost = failed.len();
        match kind(key) {
            "vault" => assert!(is_damaged && lost == 1, "{key}: {reading:?}"),
            // Nobody can tell any more that there was one.
            "backups" => assert!(!is_damaged && lost <= 1, "{key}: {reading:?}"),
            // `verify` names the backups that lose by it, also the one that is deleted, and no other.
            "packs" | "meta" => {
                assert!(lost <= 6, "{key}: {reading:?}");
                let is_told = |what: &String| hurt.iter().any(|address| what.contains(address));
                let is_met = |address: &String| failed.iter().any(|what| what.contains(address));
                let is_gone = |address: &String| whole.is_gone(&Key::new(format!("backups/{address}")).unwrap());
                assert!(failed.iter().all(is_told), "{key}: {reading:?} {hurt:?}");
                assert!(
                    hurt.iter().all(|address| is_met(address) || is_gone(address)),
                    "{key}: {hurt:?}"
                );
                hit += lost.min(1);
            }
            // The backup is not deleted any more, and whole.
            "deleted" => assert!(!is_damaged && lost == 1, "{key}: {reading:?}"),
            _ => assert!(!is_damaged && lost == 0, "{key}: {reading:?}"),
        }
    }
    assert!(hit >= 6, "{hit} lost packs were met by readers");
}

/// How a prune of a damaged vault ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Ended {
    Refused,
    RemovedNothing,
    Removed,
}

/// Prunes a damaged vault, puts the object back, and reads everything.
fn prune_and_look(whole: &Whole, store: &Arc<MemoryStore>, key: &Key) -> Ended {
    let store = {
        // What it removes is not missed by the next.
        let copy = MemoryStore::new();
        for key in store.list("").unwrap() {
            copy.overwrite(&key, store.get(&key, 1 << 20).unwrap());
        }
        Arc::new(copy)
    };
    let ended = whole.prune(&store);
    if kind(key) == "backups" {
        store.overwrite(key, whole.objects[key].clone());
    }
    assert_eq!(whole.read(&store), Reading::Identical, "{ended:?}");
    match ended {
        Ok(report) if report.packs.objects > 0 || !report.purged.is_empty() => Ended::Removed,
        Ok(_) => Ended::RemovedNothing,
        Err(Error::Untrue { .. }) => panic!("nothing is untrue here"),
        Err(_) => Ended::Refused,
    }
}

fn is_beside_backups(key: &Key) -> bool {
    !matches!(kind(key), "vault" | "packs" | "meta" | "index" | "backups")
}

#[test]
fn a_prune_beside_a_damaged_record_mark_or_lease_removes_nothing_that_is_needed() {
    let whole = Whole::new();
    let store = whole.store();
    let some = whole.objects.keys().next().unwrap();
    assert_eq!(prune_and_look(&whole, &store, some), Ended::Removed, "of a sound vault");
    let mut harms = flips(&whole, every_bit, is_beside_backups);
    for (key, object) in whole.objects.iter().filter(|(key, _)| is_beside_backups(key)) {
        harms.extend([0, 64, object.len() - 1].map(|len| (key.clone(), Harm::Cut(len))));
        harms.push((key.clone(), Harm::Added(vec![0])));
        let others = whole
            .objects
            .keys()
            .filter(|other| *other != key && is_beside_backups(other));
        harms.extend(others.map(|other| (key.clone(), Harm::Replaced(other.clone()))));
    }
    let ended = each(&whole, &harms, |store, key| prune_and_look(&whole, store, key));
    let mut counts = BTreeMap::<(&str, Ended), usize>::new();
    for ((key, _), ended) in harms.iter().zip(&ended) {
        *counts.entry((kind(key), *ended)).or_default() += 1;
    }
    println!("{} harms: {counts:?}", harms.len());
    // A pin that cannot be read may protect anything; by a mark that cannot be read nothing is removed, and neither is a deleted backup
    // whose time nobody knows.
    for (kind, ended) in counts.keys() {
        match *kind {
            "pins" => assert_eq!(*ended, Ended::Refused),
            "marks" => assert_eq!(*ended, Ended::RemovedNothing),
            _ => {}
        }
    }
    let ends: BTreeSet<Ended> = counts.keys().map(|(_, ended)| *ended).collect();
    assert_eq!(ends.len(), 3, "{counts:?}");
}
