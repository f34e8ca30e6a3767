//! Vaults of every released format, kept as files: each version of the program reads all of them.

#![allow(clippy::indexing_slicing)]

use std::path::Path;
use std::sync::Arc;
use vaultfs::chunk::Reader;
use vaultfs::image::ReadAt;
use vaultfs::image::disk::DiskImage;
use vaultfs::store::local::LocalStore;
use vaultfs::vault::{Address, Vault};

/// What was on the disks when the vault was made: a pattern with a run of zeros, and a second disk with one byte changed.
fn disk(changed: bool) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..200_001u32)
        .map(|at| ((at * 7 + at / 256) % 251).to_le_bytes()[0])
        .collect();
    bytes[70_000..140_000].fill(0);
    if changed {
        bytes[5] = 1;
    }
    bytes
}

#[test]
fn the_vault_of_format_1_reads_as_on_the_day_it_was_made() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1");
    let vault = Vault::open(Arc::new(LocalStore::open(&dir).unwrap())).unwrap();
    assert_eq!(
        (vault.config().name.as_str(), vault.config().chunk_size),
        ("golden", 65_536)
    );
    let reader = Reader::new(vault.clone(), 8 << 20);
    let cases = [
        ("servers/web-01/2026-11-20T03-00-00Z", "vda", disk(false)),
        ("servers/web-01/2026-11-20T03-00-00Z", "vdb", disk(true)),
        ("disks/db/2026-11-20T04-00-00Z", "disk", disk(true)),
    ];
    assert_eq!(vault.catalogue().unwrap().len(), 2);
    for (address, name, expected) in cases {
        let address: Address = address.parse().unwrap();
        let manifest = vault.load(&address).unwrap();
        let image = DiskImage::open(&reader, &address, manifest.disk(name).unwrap());
        let mut bytes = vec![0xee; expected.len()];
        image.read_at(0, &mut bytes).unwrap();
        assert!(bytes == expected, "{address} {name}");
    }
    let server = vault
        .load(&"servers/web-01/2026-11-20T03-00-00Z".parse().unwrap())
        .unwrap();
    let json = server.to_json();
    assert_eq!(
        (&json["tags"]["tier"], &json["facts"]["flavor"]),
        (&"gold".into(), &"small".into())
    );
}

#[test]
fn every_golden_vault_has_its_test() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut names: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["v1"], "a golden vault without a test, or a lost one");
}
