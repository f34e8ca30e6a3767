//! The parts of packs, so that tests know what they damage.

use std::ops::Range;
use std::path::Path;
use vaultfs::store::Key;
use vaultfs::vault::object::{HEADER_LEN, ObjectId, ObjectType};
use vaultfs::vault::pack::{Footer, Record};
use vaultfs::vault::{ChunkId, Vault};

/// The chunks of a pack, in the order in which they lie in it.
pub fn records(vault: &Vault, key: &Key, object: &[u8]) -> Vec<Record> {
    let kind = if key.as_str().starts_with("meta/") {
        ObjectType::MetaPack
    } else {
        ObjectType::Pack
    };
    let id: ObjectId = vaultfs::bytes::unhex(key.as_str().rsplit('/').next().unwrap()).unwrap();
    let frame = vault.frame(kind, id);
    let footer = Footer::decode(&frame, super::disks::size(object.len()), object, key.as_str()).unwrap();
    let mut records = footer.records().to_vec();
    records.sort_by_key(|record| record.offset);
    records
}

/// The stored bytes of a chunk in its pack.
pub fn stored(record: &Record) -> Range<usize> {
    let start = usize::try_from(record.offset).unwrap();
    start..start + usize::try_from(record.stored_len).unwrap()
}

/// The parts of a pack: its header, each chunk, the footer, the object's hash.
pub fn regions(vault: &Vault, key: &Key, object: &[u8]) -> Vec<(&'static str, Range<usize>)> {
    let mut regions = vec![("header", 0..HEADER_LEN)];
    let records = records(vault, key, object);
    regions.extend(records.iter().map(|record| ("chunk", stored(record))));
    let footer = object.len() - Footer::total_len(object).unwrap();
    regions.push(("footer", footer..object.len() - 32));
    regions.push(("hash", object.len() - 32..object.len()));
    let covered: usize = regions.iter().map(|(_, range)| range.len()).sum();
    assert_eq!(covered, object.len(), "regions without a gap");
    regions
}

/// Flips a byte of the stored form of this plain chunk in whichever pack of a vault in a directory has it.
#[track_caller]
pub fn damage(vault: &Path, plain: &[u8]) {
    let (id, opened) = (ChunkId::of(plain), super::open(vault));
    let mut found = 0;
    for path in super::files(&vault.join("packs")) {
        let text = path.strip_prefix(vault).unwrap().to_str().unwrap();
        let mut object = std::fs::read(&path).unwrap();
        let all = records(&opened, &Key::new(text).unwrap(), &object);
        if let Some(record) = all.iter().find(|record| record.id == id) {
            object[stored(record).start + 9] ^= 4;
            std::fs::remove_file(&path).unwrap();
            std::fs::write(&path, &object).unwrap();
            found += 1;
        }
    }
    assert_eq!(found, 1, "the chunk is in one pack");
}
