//! Leases against stores in memory: what is put when, what is found out when one is lost.

use super::*;
use crate::clock::System;
use crate::store::Store;
use crate::store::memory::MemoryStore;
use crate::store::record::{Call, RecordingStore};
use crate::vault::mark::{Mark, MarkId};
use crate::vault::pack::Builder;

fn new_vault() -> (Arc<RecordingStore<MemoryStore>>, Vault) {
    let store = Arc::new(RecordingStore::new(MemoryStore::new()));
    let dynamic: Arc<dyn Store> = Arc::<RecordingStore<MemoryStore>>::clone(&store);
    let vault = Vault::create(dynamic, vault::new_config("test", 1 << 16, &System).unwrap()).unwrap();
    store.take_calls();
    (store, vault)
}

fn put_pack(vault: &Vault, id: ObjectId) {
    let object = Builder::new(vault.frame(ObjectType::Pack, id)).finish();
    let key = pack_key(ObjectType::Pack, &id).unwrap();
    vault.store().put_new(&key, &object).unwrap();
}

fn mark(vault: &Vault, id: MarkId, packs: &[ObjectId]) {
    let packs = packs.to_vec();
    vault
        .put_mark(
            &id,
            &Mark {
                packs,
                ..Mark::default()
            },
        )
        .unwrap();
}

fn manifest() -> Manifest {
    crate::vault::manifest::tests::sample()
}

#[test]
fn the_lease_comes_before_the_look_at_the_marks_and_goes_at_the_end() {
    let (store, vault) = new_vault();
    mark(&vault, [7; 16], &[[1; 16]]);
    store.take_calls();
    let lease = Lease::take(&vault, Kind::Backup, &System).unwrap();
    let first = lease.name().first().key().unwrap().to_string();
    let names: Vec<String> = store
        .take_calls()
        .into_iter()
        .map(|call| match call {
            Call::PutNew(key, _) => format!("put {key}"),
            Call::List(prefix) => format!("list {prefix}"),
            Call::Get(key) => format!("get {key}"),
            other => format!("{other:?}"),
        })
        .collect();
    let second = lease.name().key().unwrap();
    assert_eq!(
        names,
        [
            format!("put {first}"),
            "list marks/".to_owned(),
            format!("get marks/{}", "07".repeat(16)),
            format!("put {second}"),
        ]
    );
    let seen = all(&vault).unwrap();
    assert_eq!(seen.len(), 1);
    let record = seen[0].record.as_ref().unwrap();
    assert!(record.has_seen(&[7; 16]) && !record.has_seen(&[8; 16]));
    assert_eq!((record.kind, &record.process), (Kind::Backup, &Process::own()));
    drop(lease);
    assert!(vault.store().list(LEASES).unwrap().is_empty());
}

#[test]
fn what_is_marked_or_absent_is_not_relied_on() {
    let (store, vault) = new_vault();
    [[1; 16], [2; 16]].iter().for_each(|id| put_pack(&vault, *id));
    mark(&vault, [7; 16], &[[1; 16]]);
    let lease = Lease::take(&vault, Kind::Copy, &System).unwrap();
    let admits = |id| lease.admits(ObjectType::Pack, &id).unwrap();
    assert!(!admits([1; 16]) && admits([2; 16]) && !admits([3; 16]));
    store.take_calls();
    assert!(admits([2; 16]) && !admits([1; 16]));
    assert!(store.take_calls().is_empty(), "it is looked for once");
    // A mark that comes later waits for the end of the lease.
    mark(&vault, [8; 16], &[[2; 16]]);
    assert!(admits([2; 16]));
    assert!(!all(&vault).unwrap()[0].record.as_ref().unwrap().has_seen(&[8; 16]));
}

#[test]
fn a_renewal_never_leaves_a_moment_without_the_lease() {
    let (store, vault) = new_vault();
    let lease = Lease::take(&vault, Kind::Backup, &System).unwrap();
    let first = lease.name();
    for number in 1..4 {
        lease.renew().unwrap();
        assert_eq!(lease.name().renewal, number);
        let names: Vec<Name> = vault
            .store()
            .list(LEASES)
            .unwrap()
            .iter()
            .filter_map(Name::of)
            .collect();
        assert_eq!(names, [first, lease.name()]);
        assert_eq!(all(&vault).unwrap()[0].name, lease.name());
    }
    let first = first.key().unwrap().to_string();
    assert!(!store.take_calls().contains(&Call::Delete(first)));
    assert!(lease.is_whole().unwrap());
}

#[test]
fn a_lease_that_was_lost_costs_a_look_at_everything_relied_on() {
    let (_, vault) = new_vault();
    [[1; 16], [2; 16]].iter().for_each(|id| put_pack(&vault, *id));
    let lease = Lease::take(&vault, Kind::Backup, &System).unwrap();
    assert!(lease.admits(ObjectType::Pack, &[1; 16]).unwrap());
    lease.note(ObjectType::Pack, &[2; 16]);
    vault.store().delete(&lease.name().key().unwrap()).unwrap();
    assert!(!lease.is_whole().unwrap());
    let before = lease.name();
    // A renewal brings nothing back.
    lease.renew().unwrap();
    assert!(!lease.is_whole().unwrap());
    lease.commit(&manifest()).unwrap();
    assert_ne!(lease.name().id, before.id);
    assert!(lease.is_whole().unwrap());
    assert!(vault.load(&manifest().address().unwrap()).is_ok());
}

#[test]
fn a_backup_whose_packs_went_with_its_lease_is_not_committed() {
    for is_own in [false, true] {
        for is_marked in [false, true] {
            let (_, vault) = new_vault();
            put_pack(&vault, [1; 16]);
            let lease = Lease::take(&vault, Kind::Backup, &System).unwrap();
            if is_own {
                lease.note(ObjectType::Pack, &[1; 16]);
            } else {
                assert!(lease.admits(ObjectType::Pack, &[1; 16]).unwrap());
            }
            vault.store().delete(&lease.name().key().unwrap()).unwrap();
            if is_marked {
                mark(&vault, [7; 16], &[[1; 16]]);
            } else {
                vault
                    .store()
                    .delete(&pack_key(ObjectType::Pack, &[1; 16]).unwrap())
                    .unwrap();
            }
            let error = lease.commit(&manifest()).unwrap_err();
            assert!(matches!(error, Error::Lapsed { .. }), "{error}");
            assert!(vault.load(&manifest().address().unwrap()).is_err());
        }
    }
}

#[test]
fn what_is_left_of_a_lease_without_its_first_record_means_nothing() {
    let (_, vault) = new_vault();
    let lease = Lease::take(&vault, Kind::Backup, &System).unwrap();
    lease.renew().unwrap();
    vault.store().delete(&lease.name().first().key().unwrap()).unwrap();
    assert!(all(&vault).unwrap().is_empty());
}

#[test]
fn a_mark_that_cannot_be_read_is_not_seen_and_stops_no_backup() {
    let store = Arc::new(MemoryStore::new());
    let dynamic: Arc<dyn Store> = Arc::<MemoryStore>::clone(&store);
    let vault = Vault::create(dynamic, vault::new_config("test", 1 << 16, &System).unwrap()).unwrap();
    mark(&vault, [7; 16], &[[1; 16]]);
    let key = crate::vault::mark::mark_key(&[7; 16]).unwrap();
    store.overwrite(&key, b"damaged".to_vec());
    put_pack(&vault, [1; 16]);
    let lease = Lease::take(&vault, Kind::Backup, &System).unwrap();
    assert!(lease.admits(ObjectType::Pack, &[1; 16]).unwrap());
    assert!(!all(&vault).unwrap()[0].record.as_ref().unwrap().has_seen(&[7; 16]));
}
