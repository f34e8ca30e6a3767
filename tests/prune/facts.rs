//! Listings that lie, clocks that jump, stores that fail: a prune that does not know everything removes nothing.

use crate::common::Random;
use crate::model::{AT_ONCE, DAY, HOUR, World};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use vaultfs::monitor::Silent;
use vaultfs::prune::{self, Environment, Error, Mode, Settings};
use vaultfs::store::fault::{Fault, FaultStore, When};
use vaultfs::store::memory::MemoryStore;
use vaultfs::store::{Key, Result, Store};
use vaultfs::vault::{Address, Vault};

/// Two backups that stay; one that was deleted and is marked; and one that came after the mark and needs what is marked.
struct Scene {
    world: World,
    deleted: Address,
}

impl Scene {
    fn new() -> Self {
        let world = World::new();
        let hand = world.hand();
        let deleted = hand.back_up("gone", &[1, 2]).unwrap();
        hand.back_up("one", &[3, 4]).unwrap();
        hand.back_up("two", &[4, 5]).unwrap();
        hand.delete(&deleted).unwrap();
        world.clock.pass(HOUR);
        hand.prune(AT_ONCE).unwrap();
        world.clock.pass(DAY);
        Self { world, deleted }
    }

    fn prune_on(&self, store: Arc<dyn Store>) -> std::result::Result<prune::Report, Error> {
        let vault = Vault::open(store).unwrap();
        let environment = Environment {
            monitor: &Silent,
            clock: &*self.world.clock,
            cancel: &AtomicBool::new(false),
        };
        prune::run(&vault, AT_ONCE, Mode::Run, environment)
    }
}

/// How a listing lies.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Lie {
    Empty,
    /// It ends after so many keys.
    Cut(usize),
    /// A run of keys is left out, in one listing of the whole vault or in all.
    Gap {
        at: usize,
        len: usize,
        once: bool,
    },
    /// A run of keys comes twice.
    Repeated(usize),
    /// As it was before the prune began.
    Stale,
    Failed(ErrorKind),
}

struct Liar {
    inner: Arc<MemoryStore>,
    lie: Lie,
    before: Vec<Key>,
    told: AtomicBool,
    deleted: Mutex<Vec<Key>>,
}

impl Store for Liar {
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
        self.deleted.lock().push(key.clone());
        self.inner.delete(key)
    }
    fn describe(&self) -> String {
        "a store that lies".to_owned()
    }
    fn list(&self, prefix: &str) -> Result<Vec<Key>> {
        let mut keys = self.inner.list(prefix)?;
        if !prefix.is_empty() {
            return Ok(keys);
        }
        let told = self.told.swap(true, Ordering::Relaxed);
        match self.lie {
            Lie::Empty => keys.clear(),
            Lie::Cut(len) => keys.truncate(len),
            Lie::Gap { once, .. } if once && told => {}
            Lie::Gap { at, len, .. } => drop(keys.drain(at.min(keys.len())..(at + len).min(keys.len()))),
            Lie::Repeated(at) => {
                let page: Vec<Key> = keys.iter().skip(at).take(3).cloned().collect();
                keys.splice(at..at, page);
            }
            Lie::Stale => return Ok(self.before.clone()),
            Lie::Failed(kind) => {
                return Err(vaultfs::store::Error::Io {
                    operation: "list",
                    key: String::new(),
                    source: kind.into(),
                });
            }
        }
        Ok(keys)
    }
}

#[test]
fn listings_that_lie_cost_no_object_that_is_needed() {
    let count = Scene::new().world.store.list("").unwrap().len();
    let mut lies = vec![
        Lie::Empty,
        Lie::Stale,
        Lie::Failed(ErrorKind::TimedOut),
        Lie::Failed(ErrorKind::Other),
    ];
    lies.extend((0..count).map(Lie::Cut));
    lies.extend((0..count).map(Lie::Repeated));
    for at in 0..count + 2 {
        for len in [1, 2, 5] {
            lies.extend([true, false].map(|once| Lie::Gap { at, len, once }));
        }
    }
    let mut noticed = 0;
    for lie in &lies {
        let scene = Scene::new();
        let liar = Arc::new(Liar {
            inner: Arc::clone(&scene.world.store),
            lie: *lie,
            before: scene.world.store.list("").unwrap(),
            told: AtomicBool::new(false),
            deleted: Mutex::default(),
        });
        let ended = scene.prune_on(Arc::<Liar>::clone(&liar));
        scene.world.check(&|| format!("{lie:?}"));
        let harmless = |key: &Key| {
            ["leases/", "sweeps/"]
                .iter()
                .any(|prefix| key.as_str().starts_with(prefix))
        };
        if ended.is_err() {
            noticed += 1;
            let removed: Vec<Key> = liar
                .deleted
                .lock()
                .iter()
                .filter(|key| !harmless(key))
                .cloned()
                .collect();
            assert_eq!(removed, Vec::<Key>::new(), "{lie:?}: it fails and removes");
        } else {
            // What it did not notice is what does not matter: that garbage is left out, or an index, or what is gone anyway.
            assert!(matches!(lie, Lie::Gap { .. }), "{lie:?}");
        }
        scene.world.settle(&|| format!("{lie:?}"));
    }
    println!("{} lies, {noticed} noticed", lies.len());
    assert!(noticed * 2 > lies.len());
}

#[test]
fn a_backup_that_is_not_listed_any_more_stops_a_prune_if_it_is_there() {
    let scene = Scene::new();
    // The listing lacks the whole resource: its manifest, and the packs that only it needs look like garbage.
    let keys = scene.world.store.list("").unwrap();
    let at = keys
        .iter()
        .position(|key| key.as_str().starts_with("backups/servers/one/"))
        .unwrap();
    let liar = Liar {
        inner: Arc::clone(&scene.world.store),
        lie: Lie::Gap {
            at,
            len: 1,
            once: false,
        },
        before: Vec::new(),
        told: AtomicBool::new(false),
        deleted: Mutex::default(),
    };
    let error = scene.prune_on(Arc::new(liar)).unwrap_err();
    assert!(
        matches!(&error, Error::Untrue { key, .. } if key.contains("servers/one")),
        "{error}"
    );
}

#[test]
fn every_operation_of_a_prune_may_fail_once_or_for_ever() {
    let measure = Scene::new();
    let copy = Arc::new(FaultStore::new(MemoryStore::new()));
    for key in measure.world.store.list("").unwrap() {
        let data = measure.world.store.get(&key, u64::MAX).unwrap();
        copy.put_new(&key, &data).unwrap();
    }
    let mut hits = 0;
    let mut number = 0;
    loop {
        let mut hit = false;
        for when in [When::Once(number), When::From(number)] {
            for fault in [
                Fault::Error(ErrorKind::Other),
                Fault::Error(ErrorKind::StorageFull),
                Fault::LostAnswer,
                Fault::FlipBit,
            ] {
                let scene = Scene::new();
                let store = MemoryStore::new();
                for key in scene.world.store.list("").unwrap() {
                    store
                        .put_new(&key, &scene.world.store.get(&key, u64::MAX).unwrap())
                        .unwrap();
                }
                let faulty = Arc::new(FaultStore::new(store));
                let vault = Vault::open(Arc::<FaultStore<MemoryStore>>::clone(&faulty)).unwrap();
                faulty.plan(when, fault);
                let environment = Environment {
                    monitor: &Silent,
                    clock: &*scene.world.clock,
                    cancel: &AtomicBool::new(false),
                };
                let _ = prune::run(&vault, AT_ONCE, Mode::Run, environment);
                hit |= faulty.hits() > 0;
                hits += u32::from(faulty.hits() > 0);
                faulty.heal();
                let story = || format!("{fault:?} {when:?}");
                let after = scene.world.over(faulty.as_ref());
                after.check(&story);
                after.settle(&story);
            }
        }
        if !hit {
            break;
        }
        number += 1;
    }
    println!("{number} operations, {hits} faults hit");
    assert!(number > 30 && hits > 200);
}

#[test]
fn clocks_that_jump_remove_nothing_before_its_time() {
    let patient = Settings {
        grace: DAY,
        keep_deleted: 7 * DAY,
        repack_below: 50,
    };
    let world = World::new();
    let hand = world.hand();
    let deleted = hand.back_up("gone", &[1, 2]).unwrap();
    hand.back_up("kept", &[3]).unwrap();
    hand.delete(&deleted).unwrap();
    const YEARS: i64 = 10 * 365 * 86_400;
    // Ten years ahead: the deleted backup is marked before its time, and not removed before the grace time has really passed.
    world.clock.set_ahead(YEARS);
    let report = hand.prune(patient).unwrap();
    assert_eq!(report.expired, std::slice::from_ref(&deleted));
    for _ in 0..3 {
        world.clock.pass(HOUR);
        let report = hand.prune(patient).unwrap();
        assert!(report.purged.is_empty() && report.packs.objects == 0, "{report:?}");
    }
    // The clock is set right: the mark is from the future.
    world.clock.set_ahead(0);
    let error = hand.prune(patient).unwrap_err();
    assert!(
        matches!(&error, Error::Skew { object, .. } if object.starts_with("marks/")),
        "{error}"
    );
    assert!(hand.undelete(&deleted, &[1, 2]).is_ok());
    world.check(&|| "after all jumps".to_owned());
}

#[test]
fn a_backup_from_the_future_stops_a_prune() {
    let world = World::new();
    let hand = world.hand();
    world.clock.set_ahead(3600);
    let ahead = hand.back_up("ahead", &[1]).unwrap();
    world.clock.set_ahead(0);
    let error = hand.prune(AT_ONCE).unwrap_err();
    assert!(
        matches!(&error, Error::Skew { object, .. } if object.contains(&ahead.to_string())),
        "{error}"
    );
    world.clock.pass(HOUR);
    hand.prune(AT_ONCE).unwrap();
}

#[test]
fn a_dry_run_writes_nothing_and_tells_the_bytes_that_a_run_removes() {
    let scene = Scene::new();
    let hand = scene.world.hand();
    let size = || {
        let keys = scene.world.store.list("").unwrap();
        let packs = keys
            .iter()
            .filter(|key| key.as_str().starts_with("packs/") || key.as_str().starts_with("meta/"));
        packs.map(|key| scene.world.store.head(key).unwrap()).sum::<u64>()
    };
    let before: BTreeSet<Key> = scene.world.store.list("").unwrap().into_iter().collect();
    let told = hand.prune_as(AT_ONCE, Mode::DryRun).unwrap();
    let after: BTreeSet<Key> = scene.world.store.list("").unwrap().into_iter().collect();
    assert_eq!(before, after);
    let full = size();
    let done = hand.prune(AT_ONCE).unwrap();
    assert_eq!((told.packs, told.purged.clone()), (done.packs, done.purged));
    assert_eq!(told.purged, std::slice::from_ref(&scene.deleted));
    assert_eq!(full - size(), told.packs.bytes);
    assert!(told.packs.bytes > 0);
}

#[test]
fn a_writer_that_has_not_seen_a_mark_holds_it_up_and_is_told() {
    let scene = Scene::new();
    scene.world.hand().back_up("more", &[6]).unwrap();
    let vault = scene.world.vault();
    let lease = vaultfs::lease::Lease::take(&vault, vaultfs::lease::Kind::Backup, &*scene.world.clock).unwrap();
    let gone = scene.world.hand().back_up("gone-too", &[8]).unwrap();
    scene.world.hand().delete(&gone).unwrap();
    // It has seen the first mark, and not the one that this run makes.
    let first = scene.world.hand().prune(AT_ONCE).unwrap();
    assert!(first.packs.objects > 0 && first.waiting.is_empty());
    let second = scene.world.hand().prune(AT_ONCE).unwrap();
    assert_eq!((second.packs.objects, second.waiting.len()), (0, 1));
    assert!(matches!(
        &second.waiting[0].wait,
        prune::Wait::Writer(lease) if lease.record.is_some()
    ));
    drop(lease);
    assert!(scene.world.hand().prune(AT_ONCE).unwrap().packs.objects > 0);
    scene.world.settle(&|| "at the end".to_owned());
}

#[test]
fn a_pack_that_chunks_were_moved_to_stays_as_long_as_the_old_one_is_needed() {
    let world = World::new();
    let hand = world.hand();
    let packs = || {
        let keys = world.store.list("packs/").unwrap();
        let ids = keys
            .iter()
            .map(|key| vaultfs::bytes::unhex(&key.as_str()[9..]).unwrap());
        ids.collect::<BTreeSet<[u8; 16]>>()
    };
    let one = hand.back_up("one", &[3]).unwrap();
    let old = *packs().first().unwrap();
    let gone = hand.back_up("gone", &[1]).unwrap();
    let new = *packs().iter().find(|pack| **pack != old).unwrap();
    world.vault().put_moved(&old, &new).unwrap();
    hand.delete(&gone).unwrap();
    let prune = || {
        for _ in 0..3 {
            world.clock.pass(HOUR);
            hand.prune(AT_ONCE).unwrap();
        }
    };
    prune();
    assert_eq!(packs(), [old, new].into());
    // Also when the old one is gone.
    let key = vaultfs::vault::pack_key(vaultfs::vault::object::ObjectType::Pack, &old).unwrap();
    let bytes = world.store.get(&key, u64::MAX).unwrap();
    world.store.delete(&key).unwrap();
    prune();
    assert_eq!(packs(), [new].into());
    world.store.put_new(&key, &bytes).unwrap();
    hand.delete(&one).unwrap();
    prune();
    assert!(packs().is_empty() && world.store.list("moved/").unwrap().is_empty());
}

#[test]
fn a_run_that_fails_leaves_no_intent_and_deleted_backups_can_be_brought_back() {
    let scene = Scene::new();
    let key = scene.world.store.list("meta/").unwrap();
    // Every page is lost.
    let good: Vec<(Key, Vec<u8>)> = key
        .into_iter()
        .map(|key| (key.clone(), scene.world.store.get(&key, u64::MAX).unwrap()))
        .collect();
    good.iter().for_each(|(key, _)| scene.world.store.delete(key).unwrap());
    let error = scene.world.hand().prune(AT_ONCE).unwrap_err();
    assert!(matches!(error, Error::Unreadable { .. }), "{error}");
    assert!(scene.world.store.list("sweeps/").unwrap().is_empty());
    good.iter()
        .for_each(|(key, data)| scene.world.store.put_new(key, data).unwrap());
    scene.world.hand().undelete(&scene.deleted, &[1, 2]).unwrap();
    scene.world.settle(&|| "brought back".to_owned());
}

#[test]
fn random_damage_to_records_and_leases_stops_or_harms_nothing() {
    let mut random = Random::new(6_100);
    for round in 0..60 {
        let scene = Scene::new();
        let vault = scene.world.vault();
        let lease = vaultfs::lease::Lease::take(&vault, vaultfs::lease::Kind::Backup, &*scene.world.clock).unwrap();
        let keys: Vec<Key> = scene.world.store.list("").unwrap();
        let targets: Vec<&Key> = keys
            .iter()
            .filter(|key| !key.as_str().starts_with("packs/") && key.as_str() != "vault")
            .collect();
        let key = *random.pick(&targets);
        let good = scene.world.store.get(key, u64::MAX).unwrap();
        let mut bad = good.clone();
        let at = usize::try_from(random.below(u64::try_from(bad.len()).unwrap())).unwrap();
        bad[at] ^= 1;
        scene.world.store.overwrite(key, bad);
        let ended = scene.world.hand().prune(AT_ONCE);
        drop(lease);
        // Damage in what a backup needs stops it; damage elsewhere removes nothing that is needed.
        if key.as_str().starts_with("backups/") || key.as_str().starts_with("meta/") {
            scene.world.store.overwrite(key, good);
        }
        scene
            .world
            .check(&|| format!("round {round}: {key} damaged, the prune ended with {ended:?}"));
    }
}
