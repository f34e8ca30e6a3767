//! A store that fails, lies for a moment or is stopped in the middle: never taken for damage, and a run goes on where it was.

use crate::common::disks::Ticking;
use crate::scene::{Scene, everything, verify_vault};
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use vaultfs::monitor::Monitor;
use vaultfs::store::Store;
use vaultfs::store::fault::{Fault, FaultStore, When};
use vaultfs::store::memory::MemoryStore;
use vaultfs::vault::Vault;
use vaultfs::verify::{self, Depth, Environment, Error, Request};

fn faulty(scene: &Scene) -> (Arc<FaultStore<Arc<MemoryStore>>>, Vault) {
    let store = Arc::new(FaultStore::new(Arc::clone(&scene.store)));
    let vault = Vault::open(Arc::clone(&store) as Arc<dyn Store>).unwrap();
    (store, vault)
}

/// The number of operations of an undisturbed run.
fn operations(scene: &Scene) -> u64 {
    let (store, vault) = faulty(scene);
    store.plan(When::From(u64::MAX), Fault::FlipBit);
    verify_vault(&vault, &everything(Depth::Data)).unwrap();
    store.operations()
}

fn request() -> Request {
    Request {
        jobs: 1,
        ..everything(Depth::Data)
    }
}

#[test]
fn a_store_that_fails_at_any_operation_is_unreachable_and_never_damaged() {
    let scene = Scene::new();
    let sound = scene.objects();
    let (mut hits, mut incomplete, mut refused) = (0, 0, 0);
    for number in 0..operations(&scene) {
        for when in [When::Once(number), When::From(number)] {
            let (store, vault) = faulty(&scene);
            store.plan(when, Fault::Error(ErrorKind::TimedOut));
            match verify_vault(&vault, &request()) {
                Ok(report) => {
                    assert!(!report.is_damaged(), "{when:?}: {report:?}");
                    incomplete += u64::from(!report.is_complete());
                    // A run in which an operation failed says so.
                    assert_eq!(store.hits() > 0, !report.is_complete(), "{when:?}: {report:?}");
                }
                Err(Error::Vault(_)) => refused += 1,
                Err(error) => panic!("{when:?}: {error}"),
            }
            hits += u64::from(store.hits() > 0);
        }
    }
    println!("{hits} faults, {incomplete} incomplete reports, {refused} refusals");
    assert!(hits > 20 && incomplete > 10 && refused > 1);
    assert_eq!(scene.objects(), sound, "nothing was quarantined");
}

#[test]
fn bytes_that_come_damaged_once_are_no_damage() {
    let scene = Scene::new();
    let sound = scene.objects();
    let mut hits = 0;
    for number in 0..operations(&scene) {
        let (store, vault) = faulty(&scene);
        store.plan(When::Once(number), Fault::FlipBit);
        match verify_vault(&vault, &request()) {
            Ok(report) => assert!(!report.is_damaged(), "operation {number}: {report:?}"),
            Err(error) => panic!("{number}: {error}"),
        }
        hits += store.hits();
    }
    assert!(hits > 10);
    assert_eq!(scene.objects(), sound, "nothing was quarantined");
}

/// Stops a run after some objects.
struct Stopper {
    left: AtomicU64,
    cancel: AtomicBool,
}

impl Monitor for Stopper {
    fn begin(&self, _phase: &str, _total: u64) {}
    fn advance(&self, _bytes: u64) {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.cancel.store(true, Ordering::Relaxed);
        }
    }
    fn end(&self) {}
    fn warn(&self, message: &str) {
        panic!("{message}");
    }
}

#[test]
fn a_run_that_is_interrupted_is_gone_on_with() {
    let scene = Scene::new();
    let all = scene.verify(Depth::Data).objects;
    let state = scene.dir.path().join("state");
    let request = Request {
        state: Some(state.clone()),
        ..request()
    };
    let stopper = Stopper {
        left: AtomicU64::new(3),
        cancel: AtomicBool::new(false),
    };
    let environment = Environment {
        monitor: &stopper,
        clock: &Ticking::default(),
        cancel: &stopper.cancel,
    };
    let stopped = verify::run(&scene.vault, &request, environment);
    assert!(
        matches!(stopped, Err(Error::Interrupted { objects: 3, .. })),
        "{stopped:?}"
    );
    assert_eq!(std::fs::read_dir(&state).unwrap().count(), 1);
    // A run of another kind begins anew.
    let other = Request {
        depth: Depth::Stored,
        ..request.clone()
    };
    assert_eq!(verify_vault(&scene.vault, &other).unwrap().resumed, 0);
    let report = verify_vault(&scene.vault, &request).unwrap();
    assert_eq!((report.resumed, report.objects), (3, all - 3));
    assert_eq!(
        std::fs::read_dir(&state).unwrap().count(),
        0,
        "a run that ended leaves nothing"
    );
    assert_eq!(verify_vault(&scene.vault, &request).unwrap().resumed, 0);
}

#[test]
fn damage_is_found_again_by_the_run_that_goes_on() {
    let scene = Scene::new();
    let state = Some(scene.dir.path().join("state"));
    let request = Request { state, ..request() };
    // The first object of the plan: a manifest.
    scene.flip(&scene.keys("backups/")[0], 70);
    let stopper = Stopper {
        left: AtomicU64::new(6),
        cancel: AtomicBool::new(false),
    };
    let environment = Environment {
        monitor: &stopper,
        clock: &Ticking::default(),
        cancel: &stopper.cancel,
    };
    assert!(verify::run(&scene.vault, &request, environment).is_err());
    let report = verify_vault(&scene.vault, &request).unwrap();
    assert!(report.resumed > 0 && report.is_damaged());
}

#[test]
fn a_vault_that_cannot_be_written_to_is_verified_all_the_same() {
    let scene = Scene::new();
    scene.flip(&scene.keys("packs/")[0], 100);
    let request = Request { by: None, ..request() };
    let before = scene.objects();
    let report = verify_vault(&scene.vault, &request).unwrap();
    assert!(report.is_damaged() && report.quarantined == 0);
    assert_eq!(scene.objects(), before);
}
