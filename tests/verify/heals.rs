//! What is in quarantine is stored again by the next backup, and heals every backup that used it; what the next backup does not have comes
//! back from other copies.

use crate::common::disks;
use crate::common::packs::{records, stored};
use crate::scene::{Scene, everything, verify_vault};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use vaultfs::repair::Copy;
use vaultfs::store::memory::MemoryStore;
use vaultfs::store::{Key, Result, Store};
use vaultfs::vault::object::ObjectType;
use vaultfs::vault::pack::Builder;
use vaultfs::vault::pack_key;
use vaultfs::verify::{Depth, Fate};

/// Flips the first chunk of the first pack below `prefix`.
fn damage(scene: &Scene, prefix: &str) -> Key {
    let key = scene.keys(prefix).remove(0);
    let first = records(&scene.vault, &key, &scene.object(&key))[0];
    scene.flip(&key, stored(&first).start + 5);
    key
}

#[test]
fn the_next_backup_heals_a_damaged_chunk_for_the_old_one_too() {
    let scene = Scene::empty(5);
    let old = scene.back_up_disk().address;
    damage(&scene, "packs/");
    assert!(!scene.reads_whole(&old));
    let report = scene.verify(Depth::Data);
    assert!(report.is_damaged());
    assert_eq!((report.quarantined, report.hurt.len()), (1, 1));
    let new = scene.back_up_disk();
    assert_eq!(
        new.manifest.sizes().new,
        disks::CHUNK,
        "only what was damaged is stored again"
    );
    assert!(scene.reads_whole(&old) && scene.reads_whole(&new.address));
    let report = scene.verify(Depth::Data);
    assert!(!report.is_damaged(), "{report:?}");
    assert!(report.findings.iter().all(|finding| finding.fate == Fate::Healed) && !report.findings.is_empty());
    assert_eq!(scene.keys("moved/").len(), 1);
    // And the one after that stores nothing.
    assert_eq!(scene.back_up_disk().manifest.sizes().new, 0);
}

#[test]
fn a_backup_that_meets_damage_when_it_is_read_back_stores_the_chunk_again() {
    let mut scene = Scene::empty(5);
    // One chunk, so that it is the one that is read back.
    scene.disk = disks::Sparse::new(9 * disks::CHUNK, vec![(disks::CHUNK, vec![7; 3000])]);
    let old = scene.back_up_disk().address;
    for (prefix, new) in [("packs/", disks::CHUNK), ("meta/", 0)] {
        let sound = scene.objects();
        damage(&scene, prefix);
        assert!(!scene.reads_whole(&old));
        // Nobody has verified, and the footer says that the chunk is there.
        let report = scene.back_up_disk();
        assert_eq!(report.manifest.sizes().new, new, "{prefix}");
        assert!(scene.reads_whole(&old) && scene.reads_whole(&report.address));
        scene.put_back(&sound);
    }
}

#[test]
fn the_next_backup_heals_a_damaged_page() {
    let scene = Scene::empty(5);
    let old = scene.back_up_disk().address;
    damage(&scene, "meta/");
    assert!(!scene.reads_whole(&old));
    let report = scene.verify(Depth::Stored);
    assert_eq!(report.hurt[0].address, old);
    let new = scene.back_up_disk();
    assert_eq!(new.manifest.sizes().new, 0, "the chunks are all there");
    assert!(scene.reads_whole(&old) && scene.reads_whole(&new.address));
    assert!(!scene.verify(Depth::Data).is_damaged());
}

#[test]
fn the_next_backup_heals_a_pack_that_is_gone() {
    for prefix in ["packs/", "meta/"] {
        let scene = Scene::empty(5);
        let old = scene.back_up_disk().address;
        scene.store.delete(&scene.keys(prefix)[0]).unwrap();
        assert!(scene.verify(Depth::Stored).is_damaged());
        scene.back_up_disk();
        assert!(scene.reads_whole(&old), "{prefix}");
        assert!(!scene.verify(Depth::Data).is_damaged(), "{prefix}");
    }
}

#[test]
fn the_next_backup_heals_a_pack_whose_footer_is_damaged() {
    let scene = Scene::empty(5);
    let old = scene.back_up_disk().address;
    let key = scene.keys("packs/").remove(0);
    scene.flip(&key, scene.object(&key).len() - 100);
    assert!(scene.verify(Depth::Stored).is_damaged());
    scene.back_up_disk();
    assert!(scene.reads_whole(&old));
    assert!(!scene.verify(Depth::Data).is_damaged());
}

#[test]
fn the_next_backup_reads_an_unchanged_file_again_if_its_chunk_is_damaged() {
    let scene = Scene::empty(5);
    scene.back_up_tree();
    damage(&scene, "packs/");
    let report = scene.verify(Depth::Data);
    assert_eq!(report.hurt[0].files.len(), 1, "{report:?}");
    let new = scene.back_up_tree().manifest.sizes().new;
    assert!(new > 0 && new < 3 << 20, "one chunk, not the file: {new}");
    let report = scene.verify(Depth::Data);
    assert!(!report.is_damaged(), "{report:?}");
}

/// A vault that has the same backups in packs of its own.
fn other_vault(scene: &Scene) -> vaultfs::vault::Vault {
    let other = disks::new_vault(Arc::new(MemoryStore::new()));
    disks::back_up(&other, &disks::request("copy", &[("vda", &scene.disk)]), &scene.clock).unwrap();
    other
}

#[test]
fn a_damaged_chunk_comes_back_from_another_vault() {
    let scene = Scene::empty(5);
    let old = scene.back_up_disk().address;
    damage(&scene, "packs/");
    scene.verify(Depth::Data);
    let other = other_vault(&scene);
    let before = scene.objects();
    let plan = scene.repair(None, true);
    assert_eq!((plan.steps.len(), plan.hopeless.len(), plan.hurt.len()), (0, 1, 1));
    let plan = scene.repair(Some(&other), false);
    assert_eq!((plan.steps.len(), plan.hopeless.len()), (1, 0));
    assert_eq!(scene.objects(), before, "a plan changes nothing");
    scene.repair(Some(&other), true);
    assert!(scene.reads_whole(&old));
    assert!(!scene.verify(Depth::Data).is_damaged());
    let after = scene.objects();
    assert!(
        before.iter().all(|(key, object)| after.get(key) == Some(object)),
        "nothing was touched"
    );
    assert!(scene.repair(Some(&other), false).is_empty());
}

#[test]
fn a_damaged_chunk_comes_back_from_another_pack() {
    let scene = Scene::empty(5);
    let old = scene.back_up_disk().address;
    let key = scene.keys("packs/").remove(0);
    let object = scene.object(&key);
    let first = records(&scene.vault, &key, &object)[0];
    // Two writers at once, each of which stored the chunk.
    let id = [8; 16];
    let mut builder = Builder::new(scene.vault.frame(ObjectType::Pack, id));
    builder.push(
        first.id,
        first.codec,
        &object[stored(&first)],
        usize::try_from(first.plain_len).unwrap(),
    );
    scene
        .store
        .put_new(&pack_key(ObjectType::Pack, &id).unwrap(), &builder.finish())
        .unwrap();
    damage_at(&scene, &key, stored(&first).start);
    scene.verify(Depth::Data);
    assert!(!scene.reads_whole(&old));
    let plan = scene.repair(None, true);
    assert_eq!(
        plan.steps.iter().map(|step| step.copy).collect::<Vec<_>>(),
        [Copy::Here(id)]
    );
    assert!(scene.reads_whole(&old));
    assert!(!scene.verify(Depth::Data).is_damaged());
}

fn damage_at(scene: &Scene, key: &Key, at: usize) {
    if key.as_str().ends_with(&"08".repeat(16)) {
        panic!("the copy must stay whole");
    }
    scene.flip(key, at);
}

#[test]
fn a_pack_with_a_flipped_header_loses_nothing_and_is_stored_again_by_a_repair() {
    for prefix in ["packs/", "meta/"] {
        let scene = Scene::empty(5);
        let old = scene.back_up_disk().address;
        scene.flip(&scene.keys(prefix)[0], 3);
        let report = scene.verify(Depth::Data);
        assert!(report.is_damaged() && report.hurt.is_empty(), "{prefix}: {report:?}");
        assert!(scene.reads_whole(&old));
        let plan = scene.repair(None, true);
        assert!(plan.steps.iter().all(|step| step.copy == Copy::Same) && !plan.steps.is_empty());
        let report = scene.verify(Depth::Data);
        assert!(!report.is_damaged(), "{prefix}: {report:?}");
        assert!(scene.reads_whole(&old));
    }
}

#[test]
fn indexes_are_made_anew_from_the_packs() {
    let scene = Scene::empty(5);
    scene.back_up_disk();
    let key = scene.keys("index/").remove(0);
    scene.flip(&key, 80);
    assert!(scene.verify(Depth::Stored).is_damaged());
    assert_eq!(scene.repair(None, false).bad_indexes, std::slice::from_ref(&key));
    assert_eq!(scene.keys("index/"), std::slice::from_ref(&key));
    let plan = scene.repair(None, true);
    assert_eq!(plan.unlisted.len(), 1);
    let report = scene.verify(Depth::Stored);
    assert!(!report.is_damaged() && report.unlisted_packs == 0, "{report:?}");
    assert!(!scene.keys("index/").contains(&key));
    // The chunks are found by it.
    let again = disks::request("other", &[("vda", &scene.disk)]);
    let report = disks::back_up(&scene.vault, &again, &scene.clock).unwrap();
    assert_eq!(report.manifest.sizes().new, 0);
    for key in scene.keys("index/") {
        scene.store.delete(&key).unwrap();
    }
    assert_eq!(scene.repair(None, true).unlisted.len(), 1);
    assert_eq!(scene.verify(Depth::Stored).unlisted_packs, 0);
}

#[test]
fn a_sound_vault_needs_no_repair_and_gets_none() {
    let scene = Scene::new();
    let before = scene.objects();
    let plan = scene.repair(None, true);
    assert!(plan.is_empty() && plan.hopeless.is_empty() && plan.hurt.is_empty());
    assert_eq!(scene.objects(), before);
    let keys: BTreeSet<Key> = before.into_keys().collect();
    verify_vault(&scene.vault, &everything(Depth::Data)).unwrap();
    assert_eq!(
        scene.keys("").into_iter().collect::<BTreeSet<_>>(),
        keys,
        "and verifying writes nothing"
    );
}

/// A store that damages packs of data as long as it is told to.
struct Lying {
    inner: MemoryStore,
    lies: AtomicBool,
}

impl Store for Lying {
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
        let mut data = data.to_vec();
        if key.as_str().starts_with("packs/") && self.lies.load(Ordering::Relaxed) {
            data[70] ^= 1;
        }
        self.inner.put_new(key, &data)
    }
    fn list(&self, prefix: &str) -> Result<Vec<Key>> {
        self.inner.list(prefix)
    }
    fn delete(&self, key: &Key) -> Result<()> {
        self.inner.delete(key)
    }
    fn describe(&self) -> String {
        "lying".to_owned()
    }
}

#[test]
fn a_backup_that_does_not_come_back_is_not_committed() {
    let store = Arc::new(Lying {
        inner: MemoryStore::new(),
        lies: AtomicBool::new(true),
    });
    let behind: Arc<dyn Store> = store.clone();
    let vault = disks::new_vault(behind);
    // One chunk, so that it is the one that is read back.
    let disk = disks::Sparse::new(9 * disks::CHUNK, vec![(disks::CHUNK, vec![7; 3000])]);
    let clock = disks::Ticking::default();
    let back_up = || disks::back_up(&vault, &disks::request("web", &[("vda", &disk)]), &clock);
    let error = back_up().unwrap_err();
    assert!(
        matches!(&error, vaultfs::backup::Error::ReadBack { whose, .. } if whose == "vda"),
        "{error}"
    );
    assert!(vault.catalogue().unwrap().is_empty());
    assert_eq!(store.list("quarantine/").unwrap().len(), 2, "it was tried again");
    store.lies.store(false, Ordering::Relaxed);
    let report = back_up().unwrap();
    assert_eq!(report.manifest.sizes().new, disks::CHUNK);
    let found = verify_vault(&vault, &everything(Depth::Data)).unwrap();
    assert!(found.hurt.is_empty());
}
