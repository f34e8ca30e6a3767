//! Objects in each other's place, objects under new names, and how far damage reaches.

use crate::common::Random;
use crate::common::disks::{self, CHUNK, Sparse, Ticking, length};
use crate::common::packs::regions;
use crate::sample::{Reading, Sample};
use std::sync::Arc;
use vaultfs::chunk::Reader;
use vaultfs::image::ReadAt;
use vaultfs::image::disk::DiskImage;
use vaultfs::store::Key;
use vaultfs::store::memory::MemoryStore;
use vaultfs::vault::Vault;

const KINDS: [&str; 4] = ["packs/", "meta/", "index/", "backups/"];

#[test]
fn objects_in_each_others_place_are_found() {
    let sample = Sample::new();
    let (mut swaps, mut copies) = (0, 0);
    let all: Vec<&Key> = sample.objects.keys().collect();
    for one in &all {
        for other in &all {
            let kind = |key: &Key| KINDS.iter().position(|kind| key.as_str().starts_with(kind));
            if one == other {
                continue;
            }
            let store = sample.store();
            store.overwrite(one, sample.objects[*other].clone());
            let reading = sample.read(&store);
            assert_eq!(
                reading.found(),
                kind(one) != Some(2),
                "{other} in place of {one}: {reading:?}"
            );
            copies += 1;
            if kind(one) == kind(other) && one < other {
                store.overwrite(other, sample.objects[*one].clone());
                let reading = sample.read(&store);
                assert_eq!(
                    reading.found(),
                    kind(one) != Some(2),
                    "{one} and {other} swapped: {reading:?}"
                );
                swaps += 1;
            }
        }
    }
    assert!(swaps >= 6 && copies >= 100, "{swaps} swaps, {copies} copies");
}

#[test]
fn an_object_under_a_new_name_adds_nothing_that_can_be_read() {
    let sample = Sample::new();
    for key in sample.keys("backups/") {
        for name in [
            "backups/servers/web/2030-01-01T00-00-00Z",
            "backups/servers/other/2026-11-20T03-00-00Z",
            "backups/disks/web/2026-11-20T03-00-00Z",
        ] {
            let store = sample.store();
            let copy = Key::new(name).unwrap();
            store.overwrite(&copy, sample.objects[&key].clone());
            let failed = vec![name.strip_prefix("backups/").unwrap().to_owned()];
            assert_eq!(sample.read(&store), Reading::Failed(failed), "only the copy fails");
        }
    }
    for key in sample.keys("packs/").iter().chain(&sample.keys("meta/")) {
        let store = sample.store();
        let (dir, _) = key.as_str().split_once('/').unwrap();
        let copy = Key::new(format!("{dir}/00/{}", "0".repeat(32))).unwrap();
        store.overwrite(&copy, sample.objects[key].clone());
        assert_eq!(sample.read(&store), Reading::Identical, "{key} copied to {copy}");
    }
}

#[test]
fn objects_of_another_vault_are_found() {
    let (ours, theirs) = (Sample::new(), Sample::new());
    let mut exchanged = 0;
    for key in ours.keys("backups/").iter().chain(&ours.keys("vault")) {
        // Same content, same names, another vault id and other packs.
        let store = ours.store();
        store.overwrite(key, theirs.objects[key].clone());
        assert!(ours.read(&store).found(), "{key}");
        exchanged += 1;
    }
    assert_eq!(exchanged, 4);
}

#[test]
fn damage_in_one_chunk_leaves_every_other_chunk_readable() {
    let mut random = Random::new(0xda3a_6e02);
    let model = Sparse::new(
        20 * CHUNK,
        vec![
            (0, random.bytes(length(12 * CHUNK))),
            (15 * CHUNK, random.bytes(length(CHUNK))),
        ],
    );
    let store = Arc::new(MemoryStore::new());
    let vault = disks::new_vault(Arc::<MemoryStore>::clone(&store));
    let report = disks::back_up(&vault, &disks::request("a", &[("vda", &model)]), &Ticking::default()).unwrap();
    let key = vaultfs::store::Store::list(store.as_ref(), "packs/").unwrap().remove(0);
    let object = vaultfs::store::Store::get(store.as_ref(), &key, 64 << 20).unwrap();
    let chunks: Vec<_> = regions(&vault, &key, &object)
        .into_iter()
        .filter(|(what, _)| *what == "chunk")
        .collect();
    assert_eq!(chunks.len(), 13);
    let mut failures = Vec::new();
    for (_, range) in chunks {
        let mut bad = object.clone();
        let at = range.start + length(random.below(disks::size(range.len())));
        bad[at] ^= 0x20;
        store.overwrite(&key, bad);
        failures.push(one_chunk_fails(&vault, &report.address, &model));
    }
    // Every chunk of data had its turn, and holes never fail.
    failures.sort_unstable();
    assert_eq!(failures, (0..12).chain([15]).collect::<Vec<u64>>());
}

/// Reads every chunk twice by itself, and ranges over its edges; returns the one chunk that fails.
fn one_chunk_fails(vault: &Vault, address: &vaultfs::vault::Address, model: &Sparse) -> u64 {
    let reader = Reader::new(vault.clone(), 0);
    let manifest = vault.load(address).unwrap();
    let image = DiskImage::open(&reader, address, manifest.disk("vda").unwrap());
    let mut failed = Vec::new();
    for _ in 0..2 {
        for number in 0..20 {
            let range = number * CHUNK..(number + 1) * CHUNK;
            let mut bytes = vec![0; length(CHUNK)];
            match image.read_at(range.start, &mut bytes) {
                Ok(()) => assert!(bytes == model.bytes(range), "chunk {number}"),
                Err(error) => {
                    let text = error.to_string();
                    let place = format!("byte {}", range.start);
                    for part in ["packs/", "backup servers/a/", "disk vda", &place] {
                        assert!(text.contains(part), "{part:?} is not in {text:?}");
                    }
                    failed.push(number);
                }
            }
        }
    }
    let [one, again] = failed.as_slice() else {
        panic!("{failed:?}")
    };
    assert_eq!(one, again, "an error is not kept, and not forgotten");
    // A read over an edge of the damaged chunk fails whole; up to the edge it does not.
    let (start, end) = (one * CHUNK, (one + 1) * CHUNK);
    let read = |from: u64, to: u64| image.read_at(from, &mut vec![0; length(to - from)]);
    assert!(read(end - 1, end).is_err() && read(start, start + 1).is_err());
    assert!(read(end - 1, end + 1).is_err() && read(end, end + 1).is_ok());
    assert!(start == 0 || read(start - 1, start + 1).is_err() && read(start - 1, start).is_ok());
    *one
}

#[test]
fn a_damaged_index_costs_space_and_never_a_backup() {
    let sample = Sample::new();
    let mut random = Random::new(0xda3a_6e03);
    let content = sample.images[0].model.clone();
    for key in sample.keys("index/") {
        let object = &sample.objects[&key];
        let fan = 24..(24 + 200).min(object.len());
        let mut flips: Vec<(usize, u8)> = (0..64 + 24).chain(fan).map(|at| (at, 0x41)).collect();
        flips.extend((0..60).map(|_| (length(random.below(disks::size(object.len()))), 1 << random.below(8))));
        for (at, mask) in flips {
            let store = sample.store();
            let mut bad = object.clone();
            bad[at] ^= mask;
            store.overwrite(&key, bad);
            let vault = Vault::open(Arc::<MemoryStore>::clone(&store)).unwrap();
            let request = disks::request("new", &[("vda", &content)]);
            let report = disks::back_up(&vault, &request, &Ticking::default());
            let report = report.unwrap_or_else(|error| panic!("byte {at} of {key}: {error}"));
            let reader = Reader::new(vault.clone(), 0);
            let image = DiskImage::open(&reader, &report.address, report.manifest.disk("vda").unwrap());
            let mut bytes = vec![0; length(content.len())];
            image.read_at(0, &mut bytes).unwrap();
            assert!(bytes == content.bytes(0..content.len()), "byte {at} of {key}");
        }
    }
}
