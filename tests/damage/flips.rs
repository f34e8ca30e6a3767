//! Flipped bits, cuts, and added bytes.

use crate::common::packs::regions;
use crate::sample::Sample;
use std::ops::Range;
use std::sync::Arc;
use vaultfs::store::Key;
use vaultfs::store::memory::MemoryStore;
use vaultfs::vault::Vault;

/// How a zstd frame starts.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// A byte and what it is combined with by exclusive or.
type Flip = (usize, u8);

fn flip(object: &[u8], (at, mask): &Flip) -> Vec<u8> {
    let mut bad = object.to_vec();
    bad[*at] ^= mask;
    bad
}

fn every_bit(range: Range<usize>) -> Vec<Flip> {
    range.flat_map(|at| (0..8).map(move |bit| (at, 1 << bit))).collect()
}

/// Two patterns for each byte: one bit, which one depending on the place, and all of them.
fn two_patterns(range: Range<usize>) -> Vec<Flip> {
    range.flat_map(|at| [(at, 1 << (at % 8)), (at, 0xff)]).collect()
}

/// One bit of each byte, which one depending on the place.
fn one_pattern(range: Range<usize>) -> Vec<Flip> {
    range.map(|at| (at, 1 << (at % 8))).collect()
}

/// Reads every flip of a part of an object and returns those that were not found.
fn missed(sample: &Sample, key: &Key, flips: &[Flip]) -> Vec<Flip> {
    let found = sample.read_mutants(key, flips, flip);
    let pairs = flips.iter().zip(found);
    pairs.filter(|(_, found)| !found).map(|(flip, _)| *flip).collect()
}

#[test]
fn every_flip_in_a_pack_that_a_reader_meets_is_found() {
    flip_packs(one_pattern);
}

#[test]
#[ignore = "soak: eight flips of each byte"]
fn soak_every_flipped_bit_of_a_pack_that_a_reader_meets_is_found() {
    flip_packs(every_bit);
}

/// Flips every bit of every pack, in chunks those that `of_chunk` chooses, and asserts region by region what is found.
fn flip_packs(of_chunk: fn(Range<usize>) -> Vec<Flip>) {
    let sample = Sample::new();
    let vault = Vault::open(sample.store()).unwrap();
    let (mut mutants, mut found) = (0, 0);
    for key in sample.keys("packs/").iter().chain(&sample.keys("meta/")) {
        let object = &sample.objects[key];
        for (what, range) in regions(&vault, key, object) {
            let is_zstd = object[range.clone()].starts_with(&ZSTD_MAGIC);
            let choose = if what == "chunk" { of_chunk } else { every_bit };
            let flips = choose(range);
            let missed = missed(&sample, key, &flips);
            match what {
                // A reader knows the header beforehand, and the footer's hash covers it; the object's hash is for verify.
                "header" | "hash" => assert_eq!(missed, flips, "{what} of {key} is not read"),
                // A zstd frame has a few bits that decoders pass over: the chunk is the same, as its hash says.
                "chunk" if is_zstd => assert!(missed.len() <= 16, "{what} of {key}: {missed:?}"),
                _ => assert_eq!(missed, [], "{what} of {key}"),
            }
            mutants += flips.len();
            found += flips.len() - missed.len();
        }
    }
    println!("{found} of {mutants} flips in packs were found, the others change nothing that is read");
}

#[test]
fn every_flip_in_a_manifest_or_the_vault_object_is_found() {
    let sample = Sample::new();
    let mut mutants = 0;
    for key in sample.keys("backups/").iter().chain(&sample.keys("vault")) {
        let flips = every_bit(0..sample.objects[key].len());
        assert_eq!(missed(&sample, key, &flips), [], "{key}");
        mutants += flips.len();
    }
    println!("{mutants} flips in manifests and the vault object were found");
}

#[test]
fn an_index_is_never_read_by_a_reader() {
    let sample = Sample::new();
    for key in sample.keys("index/") {
        let flips = two_patterns(0..sample.objects[&key].len());
        assert_eq!(missed(&sample, &key, &flips), flips, "{key}");
    }
}

#[test]
fn every_cut_and_every_added_byte_is_found() {
    let sample = Sample::new();
    let mut mutants = 0;
    for key in sample.objects.keys().filter(|key| !key.as_str().starts_with("index/")) {
        let lengths: Vec<usize> = (0..sample.objects[key].len()).collect();
        let found = sample.read_mutants(key, &lengths, |object, len| object[..*len].to_vec());
        // Only the newline at the end of the vault object carries nothing.
        let missed: Vec<usize> = lengths.iter().filter(|len| !found[**len]).copied().collect();
        let newline = key.as_str() == "vault" && sample.objects[key].ends_with(b"\n");
        let harmless = if newline { vec![lengths.len() - 1] } else { vec![] };
        assert_eq!(missed, harmless, "{key} cut to these lengths");
        let added: Vec<Vec<u8>> = [vec![0], vec![0xff], vec![0; 32], sample.objects[key].clone()].into();
        let found = sample.read_mutants(key, &added, |object, more| [object, more].concat());
        assert_eq!(found, vec![true; added.len()], "{key} with bytes added");
        mutants += lengths.len() + added.len();
    }
    println!("{mutants} cuts and additions");
}

#[test]
fn a_deleted_object_fails_what_needs_it_and_nothing_else() {
    let sample = Sample::new();
    for key in sample.objects.keys() {
        let store: Arc<MemoryStore> = sample.store();
        vaultfs::store::Store::delete(store.as_ref(), key).unwrap();
        let reading = sample.read(&store);
        assert_eq!(
            reading.found(),
            !key.as_str().starts_with("index/"),
            "{key}: {reading:?}"
        );
    }
}
