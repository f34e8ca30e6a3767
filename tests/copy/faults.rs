//! A store that fails at each of its operations while a backup is copied to it or from it.

use crate::common::Random;
use crate::common::disks::{self, CHUNK, Sparse, Ticking};
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use vaultfs::chunk::Reader;
use vaultfs::clock::System;
use vaultfs::copy::{self, Amounts, Environment, Outcome};
use vaultfs::image::ReadAt;
use vaultfs::image::disk::DiskImage;
use vaultfs::monitor::Silent;
use vaultfs::store::fault::{Fault, FaultStore, When};
use vaultfs::store::memory::MemoryStore;
use vaultfs::vault::{Address, Vault};

type Faulty = Arc<FaultStore<MemoryStore>>;

fn vault() -> (Vault, Faulty) {
    let store = Arc::new(FaultStore::new(MemoryStore::new()));
    let own: Arc<dyn vaultfs::store::Store> = Arc::<FaultStore<MemoryStore>>::clone(&store);
    (disks::new_vault(own), store)
}

fn model() -> Sparse {
    let bytes = Random::quiet(3).bytes(disks::length(40 * CHUNK));
    Sparse::new(
        3000 * CHUNK + 5,
        vec![(2 * CHUNK + 9, bytes), (1500 * CHUNK, vec![5; 70_000])],
    )
}

fn every(vault: &Vault) -> Vec<Address> {
    let of = |(resource, points): (vaultfs::vault::ResourceName, Vec<_>)| {
        points
            .into_iter()
            .map(move |point| resource.at(point))
            .collect::<Vec<_>>()
    };
    vault.catalogue().unwrap().into_iter().flat_map(of).collect()
}

/// Copies every backup; the outcomes, or none if the plan failed.
fn copy_all(from: &Vault, to: &Vault, addresses: Vec<Address>) -> (Vec<Outcome>, Amounts) {
    let cancel = AtomicBool::new(false);
    let environment = Environment {
        monitor: &Silent,
        clock: &System,
        cancel: &cancel,
        jobs: 3,
    };
    let mut outcomes = Vec::new();
    let Ok(plan) = copy::plan(from, to, addresses, 3) else {
        return (outcomes, Amounts::default());
    };
    let amounts = copy::run(from, to, &plan, environment, &mut |_, outcome| outcomes.push(outcome));
    (outcomes, amounts)
}

#[track_caller]
fn holds(vault: &Vault, address: &Address, model: &Sparse) {
    let manifest = vault.load(address).unwrap();
    let reader = Reader::new(vault.clone(), 8 << 20);
    let image = DiskImage::open(&reader, address, manifest.disk("vda").unwrap());
    let mut bytes = vec![0; disks::length(image.len())];
    image.read_at(0, &mut bytes).unwrap();
    assert!(bytes == model.bytes(0..model.len()), "{address}");
    let mut at = 0;
    let mut data = Vec::new();
    while let Some(start) = image.next_data(at).unwrap() {
        at = image.next_hole(start).unwrap();
        data.push(start..at);
    }
    assert_eq!(data, model.data_chunks(CHUNK));
}

/// Lets each operation of one of the vaults fail in turn; the target is checked each time, and completed afterwards.
fn fail_everywhere(of_target: bool, fault: Fault) {
    let model = model();
    let mut failed = 0;
    for number in 0..400 {
        let ((from, from_store), (to, to_store)) = (vault(), vault());
        disks::back_up(&from, &disks::request("a", &[("vda", &model)]), &Ticking::default()).unwrap();
        let addresses = every(&from);
        let store = if of_target { &to_store } else { &from_store };
        store.plan(When::From(number), fault);
        let (outcomes, _) = copy_all(&from, &to, addresses.clone());
        let hits = store.hits();
        store.heal();
        for address in every(&to) {
            holds(&to, &address, &model);
        }
        let copied = matches!(&outcomes[..], [Outcome::Copied]);
        assert!(
            !copied || every(&to) == addresses,
            "{fault:?} {number}: it is not there"
        );
        assert!(copied || hits > 0, "{fault:?} {number}: failed without a fault");
        failed += u32::from(!copied);
        let (outcomes, _) = copy_all(&from, &to, addresses.clone());
        assert!(
            matches!(&outcomes[..], [Outcome::Copied | Outcome::There]),
            "{fault:?} {number}: {outcomes:?}"
        );
        holds(&to, &addresses[0], &model);
        if hits == 0 {
            eprintln!("{fault:?}: {number} places, {failed} failed copies");
            assert!(failed > 4, "{fault:?}: hardly anything failed");
            return;
        }
    }
    panic!("{fault:?}: there is no end of operations");
}

#[test]
fn a_store_that_fails_at_any_operation_fails_the_copy_and_shows_nothing_half_made() {
    fail_everywhere(true, Fault::Error(ErrorKind::StorageFull));
    fail_everywhere(true, Fault::LostAnswer);
    fail_everywhere(false, Fault::Error(ErrorKind::ConnectionReset));
}

#[test]
fn flipped_bits_of_the_vault_copied_from_never_arrive() {
    fail_everywhere(false, Fault::FlipBit);
}
