//! Looks that a prune takes again although it has looked before, each where it is the only one that tells.

use crate::common::clock::Fake;
use crate::model::{AT_ONCE, DAY, HOUR, World};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use vaultfs::clock::{Clock, Point, Seconds};
use vaultfs::lease::{Kind, Lease};
use vaultfs::monitor::Silent;
use vaultfs::prune::{self, Environment, Error, Mode, Report, Settings, Wait};
use vaultfs::store::memory::MemoryStore;
use vaultfs::store::{Key, Result, Store};
use vaultfs::vault::object::ObjectId;
use vaultfs::vault::{Address, Lock, Vault};

const DELETED: [u8; 2] = [1, 2];

/// A backup that stays, and one that was deleted and is marked.
fn marked() -> (World, Address) {
    let (world, deleted) = unmarked();
    world.hand().prune(AT_ONCE).unwrap();
    world.clock.pass(DAY);
    (world, deleted)
}

fn unmarked() -> (World, Address) {
    let world = World::new();
    let hand = world.hand();
    let deleted = hand.back_up("gone", &DELETED).unwrap();
    hand.back_up("kept", &[3, 4]).unwrap();
    hand.delete(&deleted).unwrap();
    world.clock.pass(HOUR);
    (world, deleted)
}

/// A store that tells of its listings what `tell` makes of them.
struct Told<F> {
    inner: Arc<MemoryStore>,
    tell: F,
}

impl<F: Fn(&str, Vec<Key>) -> Vec<Key> + Send + Sync> Store for Told<F> {
    fn get(&self, key: &Key, limit: u64) -> Result<Vec<u8>> {
        self.inner.get(key, limit)
    }
    fn read_range(&self, key: &Key, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.inner.read_range(key, offset, buf)
    }
    fn head(&self, key: &Key) -> Result<u64> {
        self.inner.head(key)
    }
    fn put_new(&self, key: &Key, data: &[u8]) -> Result<()> {
        self.inner.put_new(key, data)
    }
    fn delete(&self, key: &Key) -> Result<()> {
        self.inner.delete(key)
    }
    fn describe(&self) -> String {
        "a store of which others tell".to_owned()
    }
    fn list(&self, prefix: &str) -> Result<Vec<Key>> {
        Ok((self.tell)(prefix, self.inner.list(prefix)?))
    }
}

/// Prunes a world of which `tell` tells the listings.
fn prune_told(
    world: &World,
    tell: impl Fn(&str, Vec<Key>) -> Vec<Key> + Send + Sync + 'static,
) -> prune::Result<Report> {
    let inner = Arc::clone(&world.store);
    let vault = Vault::open(Arc::new(Told { inner, tell })).unwrap();
    prune_by(&vault, &*world.clock)
}

fn prune_by(vault: &Vault, clock: &dyn Clock) -> prune::Result<Report> {
    let environment = Environment {
        monitor: &Silent,
        clock,
        cancel: &AtomicBool::new(false),
    };
    prune::run(vault, AT_ONCE, Mode::Run, environment)
}

/// The names of what holds data and of what says who needs it.
fn content(world: &World) -> BTreeSet<Key> {
    let keys = ["backups/", "deleted/", "marks/", "meta/", "packs/"].map(|prefix| world.store.list(prefix).unwrap());
    keys.into_iter().flatten().collect()
}

#[test]
fn a_prune_that_meets_another_changes_nothing() {
    let (world, _) = marked();
    let before = content(&world);
    let other = Lease::take(&world.vault(), Kind::Prune, &*world.clock).unwrap();
    let error = world.hand().prune(AT_ONCE).unwrap_err();
    assert!(matches!(error, Error::Busy(_)), "{error}");
    assert_eq!(content(&world), before);
    drop(other);
    assert!(world.hand().prune(AT_ONCE).unwrap().packs.objects > 0);
}

#[test]
fn a_prune_whose_lease_was_taken_away_removes_nothing_more() {
    let (world, _) = marked();
    let before = content(&world);
    let (store, listings) = (Arc::clone(&world.store), AtomicUsize::new(0));
    // After the last look at the lease before anything is removed.
    let tell = move |prefix: &str, keys: Vec<Key>| {
        if prefix.is_empty() && listings.fetch_add(1, Ordering::Relaxed) == 1 {
            let leases = store.list("leases/").unwrap();
            assert_eq!(leases.len(), 1);
            leases.iter().for_each(|key| store.delete(key).unwrap());
        }
        keys
    };
    let error = prune_told(&world, tell).unwrap_err();
    assert!(matches!(error, Error::Lost), "{error}");
    assert_eq!(content(&world), before);
    world.settle(&|| "after it".to_owned());
}

#[test]
fn a_lease_that_the_first_listing_lacks_holds_a_mark_up() {
    let (world, _) = unmarked();
    let lease = Lease::take(&world.vault(), Kind::Backup, &*world.clock).unwrap();
    world.hand().prune(AT_ONCE).unwrap();
    let before = content(&world);
    let (name, listings) = (lease.name().first().key().unwrap(), AtomicUsize::new(0));
    let tell = move |prefix: &str, mut keys: Vec<Key>| {
        if prefix == "leases/" && listings.fetch_add(1, Ordering::Relaxed) == 0 {
            let all = keys.len();
            keys.retain(|key| *key != name);
            assert_eq!(keys.len() + 1, all);
        }
        keys
    };
    let report = prune_told(&world, tell).unwrap();
    assert!(
        matches!(report.waiting[..], [ref one] if matches!(one.wait, Wait::Writer(_))),
        "{report:?}"
    );
    assert_eq!(content(&world), before);
    drop(lease);
    world.settle(&|| "after it".to_owned());
}

#[test]
fn a_backup_that_was_brought_back_and_that_the_second_listing_lacks_stops_a_prune() {
    let (world, deleted) = marked();
    // It came after the mark, which lists the packs that it needs.
    world.hand().undelete(&deleted, &DELETED).unwrap();
    let (name, listings) = (format!("backups/{deleted}"), AtomicUsize::new(0));
    let tell = move |prefix: &str, mut keys: Vec<Key>| {
        if prefix.is_empty() && listings.fetch_add(1, Ordering::Relaxed) == 1 {
            keys.retain(|key| key.as_str() != name);
        }
        keys
    };
    let error = prune_told(&world, tell).unwrap_err();
    assert!(
        matches!(&error, Error::Untrue { key, .. } if key.contains("servers/gone")),
        "{error}"
    );
    world.check(&|| "after the prune".to_owned());
    world.settle(&|| "after it".to_owned());
}

/// A clock on which somebody renews a lease whenever the time is slept away.
struct Renewing<'a> {
    clock: &'a Fake,
    lease: &'a Lease,
}

impl Clock for Renewing<'_> {
    fn now(&self) -> Seconds {
        self.clock.now()
    }
    fn uptime(&self) -> Duration {
        self.clock.uptime()
    }
    fn sleep(&self, time: Duration) {
        self.lease.renew().unwrap();
        self.clock.sleep(time);
    }
}

#[test]
fn a_lease_that_is_renewed_while_it_is_watched_is_left_alone() {
    let (world, _) = unmarked();
    let lease = Lease::take(&world.vault(), Kind::Backup, &*world.clock).unwrap();
    world.hand().prune(AT_ONCE).unwrap();
    let before = content(&world);
    world.clock.pass(2 * HOUR);
    let (clock, vault) = (&*world.clock, world.vault());
    let report = prune_by(&vault, &Renewing { clock, lease: &lease }).unwrap();
    assert_eq!(report.waiting.len(), 1, "{report:?}");
    assert!(lease.is_whole().unwrap());
    assert_eq!(content(&world), before);
    // Nobody renews it while this one watches.
    let report = prune_by(&vault, clock).unwrap();
    assert!(report.waiting.is_empty() && report.packs.objects > 0, "{report:?}");
    assert!(!lease.is_whole().unwrap());
    drop(lease);
    world.settle(&|| "after it".to_owned());
}

#[test]
fn a_deleted_backup_keeps_what_it_needs_until_its_time_has_come() {
    let (world, deleted) = unmarked();
    // Nothing but the time that deleted backups are kept stands between it and its removal.
    let settings = Settings {
        keep_deleted: 7 * DAY,
        ..AT_ONCE
    };
    for _ in 0..3 {
        world.clock.pass(DAY);
        world.hand().prune(settings).unwrap();
    }
    world.hand().undelete(&deleted, &DELETED).unwrap();
    world.check(&|| "brought back".to_owned());
    world.hand().delete(&deleted).unwrap();
    world.clock.pass(8 * DAY);
    let purged: usize = (0..2).map(|_| world.hand().prune(settings).unwrap().purged.len()).sum();
    assert_eq!(purged, 1);
}

#[test]
fn a_backup_that_was_brought_back_and_deleted_again_has_its_time_from_the_beginning() {
    let (world, deleted) = marked();
    let hand = world.hand();
    hand.undelete(&deleted, &DELETED).unwrap();
    world.clock.pass(HOUR);
    hand.delete(&deleted).unwrap();
    let settings = Settings {
        keep_deleted: 7 * DAY,
        ..AT_ONCE
    };
    for _ in 0..3 {
        world.clock.pass(DAY);
        assert!(hand.prune(settings).unwrap().purged.is_empty());
    }
    hand.undelete(&deleted, &DELETED).unwrap();
    world.check(&|| "brought back again".to_owned());
}

#[test]
fn a_pack_that_a_backup_needs_and_that_is_gone_stops_a_prune() {
    let (world, _) = unmarked();
    let kept = &world.store.list("packs/").unwrap();
    world.hand().back_up("lost", &[8]).unwrap();
    let lost = world.store.list("packs/").unwrap();
    let lost = lost.iter().find(|key| !kept.contains(key)).unwrap();
    world.store.delete(lost).unwrap();
    let before = content(&world);
    let error = world.hand().prune(AT_ONCE).unwrap_err();
    assert!(
        matches!(&error, Error::Missing { key } if key == lost.as_str()),
        "{error}"
    );
    assert_eq!(content(&world), before);
}

/// Locks a backup that is deleted, as two programs do that do not see each other.
fn lock_deleted(store: &MemoryStore, vault: &Vault, deleted: &Address) {
    let until = Point::from_seconds(deleted.point.seconds() + 400 * 86_400).unwrap();
    let lock = Lock {
        at: deleted.point.seconds(),
        by: "test".to_owned(),
    };
    let key = vaultfs::vault::lifecycle::deleted_key(deleted).unwrap();
    let tombstone = store.get(&key, u64::MAX).unwrap();
    store.delete(&key).unwrap();
    vault.lock(deleted, until, &lock).unwrap();
    store.put_new(&key, &tombstone).unwrap();
}

#[test]
fn a_deleted_backup_that_is_locked_stays_also_if_it_is_marked() {
    for (world, deleted) in [unmarked(), marked()] {
        lock_deleted(&world.store, &world.vault(), &deleted);
        for _ in 0..3 {
            world.clock.pass(DAY);
            assert!(world.hand().prune(AT_ONCE).unwrap().purged.is_empty());
        }
        world.hand().undelete(&deleted, &DELETED).unwrap();
        world.check(&|| "brought back".to_owned());
    }
}

#[test]
fn a_backup_that_is_locked_after_all_was_decided_stays() {
    let (world, deleted) = marked();
    let (store, vault, address) = (Arc::clone(&world.store), world.vault(), deleted.clone());
    let (looked, looks) = (AtomicBool::new(false), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&looks);
    // Only the last look before the removal is about one resource.
    let tell = move |prefix: &str, keys: Vec<Key>| {
        if prefix == format!("pins/{}/", address.resource) && !looked.swap(true, Ordering::Relaxed) {
            lock_deleted(&store, &vault, &address);
            count.fetch_add(1, Ordering::Relaxed);
        }
        keys
    };
    let error = prune_told(&world, tell).unwrap_err();
    assert!(
        matches!(&error, Error::Changed { address } if *address == deleted),
        "{error}"
    );
    assert_eq!(looks.load(Ordering::Relaxed), 1);
    assert!(world.vault().load(&deleted).is_ok());
}

#[test]
fn no_index_names_a_pack_that_a_prune_has_removed() {
    let (world, _) = marked();
    let named = || -> BTreeSet<ObjectId> {
        let keys = world.store.list("index/").unwrap();
        let index = |key: &Key| vaultfs::vault::index::Index::open(&*world.store, key).unwrap().unwrap();
        keys.iter().flat_map(|key| index(key).packs().to_vec()).collect()
    };
    let packs = || -> BTreeSet<ObjectId> {
        let keys = world.store.list("packs/").unwrap();
        keys.iter()
            .map(|key| vaultfs::bytes::unhex(&key.as_str()[9..]).unwrap())
            .collect()
    };
    let before = named();
    assert_eq!(before, packs());
    let report = world.hand().prune(AT_ONCE).unwrap();
    assert!(report.indexes > 0 && packs().len() < before.len(), "{report:?}");
    assert_eq!(named(), packs());
}
