//! The life of a backup, alone and with somebody else acting between any two operations on the store.

use super::*;
use crate::store::memory::MemoryStore;
use crate::store::{Exclusion, Store};
use crate::vault::AddressSpec;
use crate::vault::manifest::tests::sample;
use crate::vault::tests::vault;
use parking_lot::Mutex;
use std::sync::Arc;

const NOW: Seconds = 1_800_000_000;

fn tombstone() -> Tombstone {
    Tombstone {
        at: NOW,
        by: "ann@desk".to_owned(),
    }
}

fn pin(until: Option<Seconds>) -> Pin {
    Pin {
        at: NOW,
        by: "ann@desk".to_owned(),
        reason: "audit".to_owned(),
        until,
    }
}

fn lock() -> Lock {
    Lock {
        at: NOW,
        by: "ann@desk".to_owned(),
    }
}

fn point(seconds: Seconds) -> Point {
    Point::from_seconds(seconds).unwrap()
}

fn with_backup() -> (Vault, Address) {
    let vault = vault();
    vault.commit(&sample()).unwrap();
    (vault, sample().address().unwrap())
}

#[test]
fn a_deleted_backup_is_hidden_and_comes_back_as_it_was() {
    let (vault, address) = with_backup();
    assert_eq!(vault.delete(&address, &tombstone()).unwrap(), Change::Done);
    assert!(vault.catalogue().unwrap().is_empty());
    assert!(vault.points(&address.resource).unwrap().is_empty());
    assert_eq!(vault.tombstone(&address).unwrap(), Some(tombstone()));
    let exact = vault.resolve(&AddressSpec::Exact(address.clone()));
    assert!(matches!(exact, Err(Error::Deleted { .. })));
    let latest = vault.resolve(&AddressSpec::Latest(address.resource.clone()));
    assert!(matches!(latest, Err(Error::NoBackup { .. })));

    assert_eq!(vault.delete(&address, &tombstone()).unwrap(), Change::Already);
    assert_eq!(vault.undelete(&address, &tombstone()).unwrap(), Change::Done);
    assert_eq!(vault.undelete(&address, &tombstone()).unwrap(), Change::Already);
    assert_eq!(vault.tombstone(&address).unwrap(), None);
    assert_eq!(
        vault.catalogue().unwrap().get(&address.resource),
        Some(&vec![address.point])
    );
    assert_eq!(vault.load(&address).unwrap(), sample());
}

#[test]
fn what_is_not_there_is_neither_deleted_nor_pinned_nor_locked() {
    let (vault, mut address) = with_backup();
    address.point = point(NOW);
    let absent = |result: Result<Change>| assert!(matches!(result, Err(Error::NoBackup { .. })));
    absent(vault.delete(&address, &tombstone()));
    absent(vault.undelete(&address, &tombstone()));
    absent(vault.pin(&address, &pin(None)));
    absent(vault.lock(&address, point(NOW + 9), &lock()));
    let keys = vault.store().list("").unwrap();
    assert_eq!(keys.len(), 2, "the vault and one manifest: {keys:?}");
}

#[test]
fn a_pin_holds_until_it_is_taken_away_or_ends() {
    let (vault, address) = with_backup();
    assert_eq!(vault.pin(&address, &pin(None)).unwrap(), Change::Done);
    assert_eq!(vault.pin(&address, &pin(None)).unwrap(), Change::Already);
    assert!(matches!(
        vault.pin(&address, &pin(Some(NOW + 9))),
        Err(Error::Held { .. })
    ));
    let refused = vault.delete(&address, &tombstone()).unwrap_err().to_string();
    assert!(
        refused.contains("audit") && refused.contains("vaultfs unpin"),
        "{refused}"
    );
    assert!(vault.deleted().unwrap().is_empty());
    assert_eq!(vault.unpin(&address).unwrap(), Change::Done);
    assert_eq!(vault.unpin(&address).unwrap(), Change::Already);

    vault.pin(&address, &pin(Some(NOW + 9))).unwrap();
    let later = |at| Tombstone { at, ..tombstone() };
    assert!(vault.delete(&address, &later(NOW + 8)).is_err());
    assert_eq!(vault.delete(&address, &later(NOW + 9)).unwrap(), Change::Done);
}

#[test]
fn a_pin_that_has_ended_gives_way_to_another() {
    let (vault, address) = with_backup();
    vault.pin(&address, &pin(Some(NOW + 9))).unwrap();
    let next = Pin {
        at: NOW + 9,
        ..pin(None)
    };
    assert_eq!(vault.pin(&address, &next).unwrap(), Change::Done);
    let found = vault.protections().unwrap();
    assert_eq!(found.pin(&address, NOW + 99), Some(&next));
}

#[test]
fn the_latest_lock_counts_and_none_is_shortened() {
    let (vault, address) = with_backup();
    assert_eq!(vault.lock(&address, point(NOW + 50), &lock()).unwrap(), Change::Done);
    assert_eq!(vault.lock(&address, point(NOW + 20), &lock()).unwrap(), Change::Already);
    assert_eq!(vault.lock(&address, point(NOW + 90), &lock()).unwrap(), Change::Done);
    let found = vault.protections_of_resource(&address.resource).unwrap();
    assert_eq!(found.lock(&address, NOW), Some(point(NOW + 90)));
    assert_eq!(found.lock(&address, NOW + 90), None);
    let at = |at| Tombstone { at, ..tombstone() };
    assert!(matches!(vault.delete(&address, &at(NOW + 89)), Err(Error::Held { .. })));
    assert_eq!(vault.delete(&address, &at(NOW + 90)).unwrap(), Change::Done);
}

#[test]
fn what_is_deleted_can_be_neither_pinned_nor_locked() {
    let (vault, address) = with_backup();
    vault.delete(&address, &tombstone()).unwrap();
    assert!(matches!(vault.pin(&address, &pin(None)), Err(Error::Deleted { .. })));
    assert!(matches!(
        vault.lock(&address, point(NOW + 9), &lock()),
        Err(Error::Deleted { .. })
    ));
    assert_eq!(vault.protections().unwrap(), Protections::default());
}

#[test]
fn a_protection_that_cannot_be_understood_protects() {
    for bad in [
        "pins/servers/web-01/2026-11-20T03-00-00Z",
        "locks/servers/web-01/2026-11-20T03-00-00Z/never",
    ] {
        let (vault, address) = with_backup();
        vault.store().put_new(&Key::new(bad).unwrap(), b"?").unwrap();
        let refused = vault.delete(&address, &tombstone());
        assert!(matches!(refused, Err(Error::Corrupt { .. })), "{bad}");
        assert!(vault.protections().is_err(), "{bad}");
        assert!(vault.deleted().unwrap().is_empty(), "{bad}");
    }
}

#[test]
fn a_damaged_pin_can_be_taken_away_and_a_damaged_tombstone_too() {
    let (vault, address) = with_backup();
    vault.store().put_new(&pin_key(&address).unwrap(), b"?").unwrap();
    assert_eq!(vault.unpin(&address).unwrap(), Change::Done);
    vault.store().put_new(&deleted_key(&address).unwrap(), b"?").unwrap();
    assert!(vault.catalogue().unwrap().is_empty(), "its name alone hides");
    assert!(matches!(vault.tombstone(&address), Err(Error::Corrupt { .. })));
    assert_eq!(vault.undelete(&address, &tombstone()).unwrap(), Change::Done);
}

#[test]
fn strange_names_below_deleted_hide_nothing() {
    let (vault, _) = with_backup();
    for strange in ["deleted/x", "deleted/servers/web-01/latest"] {
        vault.store().put_new(&Key::new(strange).unwrap(), b"?").unwrap();
    }
    assert_eq!(vault.catalogue().unwrap().len(), 1);
}

#[test]
fn nothing_is_brought_back_while_a_prune_removes() {
    let (vault, address) = with_backup();
    vault.delete(&address, &tombstone()).unwrap();
    vault.store().put_new(&Key::new("sweeps/1").unwrap(), b"?").unwrap();
    let later = Tombstone {
        at: NOW + 5,
        ..tombstone()
    };
    assert!(matches!(vault.undelete(&address, &later), Err(Error::Held { .. })));
    assert_eq!(
        vault.tombstone(&address).unwrap(),
        Some(tombstone()),
        "as it was before"
    );
}

/// Operations to go, and what is done then.
type Intruder = (usize, Box<dyn FnOnce() + Send>);

/// A store that lets somebody else act right before one of its operations.
struct Between {
    inner: Arc<MemoryStore>,
    intruder: Mutex<Option<Intruder>>,
}

impl Between {
    fn step(&self) {
        let mut intruder = self.intruder.lock();
        let now = match intruder.as_mut() {
            Some((0, _)) => intruder.take(),
            Some((left, _)) => {
                *left -= 1;
                None
            }
            None => None,
        };
        drop(intruder);
        if let Some((_, act)) = now {
            act();
        }
    }
}

impl Store for Between {
    fn get(&self, key: &Key, limit: u64) -> store::Result<Vec<u8>> {
        self.step();
        self.inner.get(key, limit)
    }
    fn read_range(&self, key: &Key, offset: u64, buf: &mut [u8]) -> store::Result<()> {
        self.inner.read_range(key, offset, buf)
    }
    fn head(&self, key: &Key) -> store::Result<u64> {
        self.inner.head(key)
    }
    fn put_new(&self, key: &Key, data: &[u8]) -> store::Result<()> {
        self.step();
        self.inner.put_new(key, data)
    }
    fn list(&self, prefix: &str) -> store::Result<Vec<Key>> {
        self.step();
        self.inner.list(prefix)
    }
    fn delete(&self, key: &Key) -> store::Result<()> {
        self.step();
        self.inner.delete(key)
    }
    fn describe(&self) -> String {
        "between".to_owned()
    }
    fn probe_exclusion(&self) -> store::Result<Exclusion> {
        Ok(Exclusion::Atomic)
    }
}

type Act = fn(&Vault, &Address) -> Result<Change>;

/// Runs `first` with `second` right before its operation `at`; gives both results, or `None` where `first` has fewer operations.
fn interleaved(at: usize, first: Act, second: Act) -> Option<(Vault, Address, Result<Change>, Result<Change>)> {
    let (plain, address) = with_backup();
    let inner = Arc::new(MemoryStore::new());
    for key in plain.store().list("").unwrap() {
        inner.put_new(&key, &plain.store().get(&key, 1 << 20).unwrap()).unwrap();
    }
    let other = Vault::open(inner.clone()).unwrap();
    let between = Arc::new(Between {
        inner,
        intruder: Mutex::new(None),
    });
    let vault = Vault::open(between.clone()).unwrap();
    let said = Arc::new(Mutex::new(None));
    let act = {
        let (said, other, address) = (Arc::clone(&said), other.clone(), address.clone());
        Box::new(move || *said.lock() = Some(second(&other, &address)))
    };
    *between.intruder.lock() = Some((at, act));
    let of_first = first(&vault, &address);
    let of_second = said.lock().take()?;
    Some((other, address, of_first, of_second))
}

fn each_interleaving(first: Act, second: Act, check: impl Fn(usize, &Vault, &Address, bool, bool)) {
    let mut at = 0;
    while let Some((vault, address, first, second)) = interleaved(at, first, second) {
        check(at, &vault, &address, first.is_ok(), second.is_ok());
        at += 1;
    }
    assert!(at >= 4, "only {at} places were tried");
}

#[test]
fn of_a_delete_and_a_pin_at_most_one_succeeds_whatever_lies_between() {
    let delete: Act = |vault, address| vault.delete(address, &tombstone());
    let pinned: Act = |vault, address| vault.pin(address, &pin(None));
    for (first, second) in [(delete, pinned), (pinned, delete)] {
        each_interleaving(first, second, |at, vault, address, first, second| {
            assert!(!(first && second), "both at {at}");
            let hidden = vault.catalogue().unwrap().is_empty();
            let kept = vault.protections().unwrap().pin(address, NOW).is_some();
            assert!(!(hidden && kept), "hidden and pinned at {at}");
            assert_eq!(hidden || kept, first || second, "at {at}");
        });
    }
}

#[test]
fn of_a_delete_and_a_lock_at_most_one_succeeds_whatever_lies_between() {
    let delete: Act = |vault, address| vault.delete(address, &tombstone());
    let locked: Act = |vault, address| vault.lock(address, point(NOW + 9), &lock());
    for (first, second, lock_is_first) in [(delete, locked, false), (locked, delete, true)] {
        each_interleaving(first, second, |at, vault, address, first, second| {
            assert!(!(first && second), "both at {at}");
            let hidden = vault.catalogue().unwrap().is_empty();
            let kept = vault.protections().unwrap().lock(address, NOW).is_some();
            let lock_succeeded = if lock_is_first { first } else { second };
            // A lock that came too late stays, for none is ever removed; but its command has failed.
            assert!(kept || !lock_succeeded, "at {at}");
            assert!(!(hidden && lock_succeeded), "hidden and locked at {at}");
        });
    }
}
