//! Keeps the number of indexes small: many small ones become one.
//!
//! A plan (pure) and its execution. The merged index is durable before the ones it replaces go; whoever loses one of them
//! under its hands just does not find a chunk and stores it again.

use crate::bytes::to_u64;
use crate::store::{self, Key};
use crate::vault::index::{self, MAX_INDEX, Record};
use crate::vault::object::{FRAME_LEN, ObjectType};
use crate::vault::quarantine::Quarantined;
use crate::vault::{ChunkId, Result, Vault, index_key, random_id};
use std::collections::HashSet;

/// Indexes a vault may have before some are merged.
const MANY: usize = 12;
/// Indexes merged at once, the smallest first.
const MERGED: usize = 10;
/// Largest sum of the indexes merged at once: bounds the memory of the merge.
const MAX_MERGE: u64 = MAX_INDEX / 2;

/// Chooses indexes to merge, or none.
fn plan(mut indexes: Vec<(Key, u64)>) -> Vec<Key> {
    if indexes.len() <= MANY {
        return Vec::new();
    }
    indexes.sort_by_key(|(_, len)| *len);
    let mut total = 0u64;
    let fits = |(_, len): &(Key, u64)| {
        total = total.saturating_add(*len);
        total <= MAX_MERGE
    };
    let chosen: Vec<_> = indexes
        .into_iter()
        .take(MERGED)
        .take_while(fits)
        .map(|(key, _)| key)
        .collect();
    if chosen.len() > 1 { chosen } else { Vec::new() }
}

/// Merges small indexes if there are many.
///
/// # Errors
/// As the store reports; the vault is as good as before in any case.
pub fn merge_indexes(vault: &Vault) -> Result<()> {
    let store = vault.store();
    let mut indexes = Vec::new();
    for key in store.list("index/")? {
        match store.head(&key) {
            Ok(len) => indexes.push((key, len)),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    let chosen = plan(indexes);
    let (mut records, mut merged) = (Vec::new(), Vec::new());
    for key in chosen {
        // A damaged one is left for verify to find; one that is gone was merged by somebody else.
        if let Some(found) = load(vault, &key)? {
            records.extend(found);
            merged.push(key);
        }
    }
    if merged.len() < 2 {
        return Ok(());
    }
    prefer_whole(&mut records, &vault.quarantined()?);
    let id = random_id()?;
    let object = vault.frame(ObjectType::Index, id).seal(&index::encode(records));
    store.put_new(&index_key(&id)?, &object)?;
    for key in merged {
        match store.delete(&key) {
            Err(error) if !error.is_not_found() => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

/// Takes out records of damaged chunks that are whole in another pack: of two records of a chunk, an index keeps one.
fn prefer_whole(records: &mut Vec<Record>, quarantined: &Quarantined) {
    let is_bad = |record: &Record| quarantined.has(&record.pack, &record.id);
    let doubtful: HashSet<ChunkId> = records
        .iter()
        .filter(|record| is_bad(record))
        .map(|record| record.id)
        .collect();
    let good = |record: &&Record| doubtful.contains(&record.id) && !is_bad(record);
    let whole: HashSet<ChunkId> = records.iter().filter(good).map(|record| record.id).collect();
    records.retain(|record| !(whole.contains(&record.id) && is_bad(record)));
}

fn load(vault: &Vault, key: &Key) -> Result<Option<Vec<index::Record>>> {
    let object = match vault.store().get(key, MAX_INDEX.saturating_add(to_u64(FRAME_LEN))) {
        Err(store::Error::NotFound { .. }) => return Ok(None),
        other => other?,
    };
    let id = key.as_str().strip_prefix("index/").and_then(crate::bytes::unhex);
    let frame = id.map(|id| vault.frame(ObjectType::Index, id));
    let payload = frame.and_then(|frame| frame.open(&object, key.as_str()).ok());
    Ok(payload.and_then(index::decode))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn indexes(lens: &[u64]) -> Vec<(Key, u64)> {
        lens.iter()
            .enumerate()
            .map(|(number, len)| (Key::new(format!("index/{number}")).unwrap(), *len))
            .collect()
    }

    #[test]
    fn of_a_damaged_chunk_and_its_copy_the_copy_stays_and_one_without_a_copy_stays_too() {
        let config = crate::vault::new_config("test", 1 << 16, &crate::clock::System).unwrap();
        let store = std::sync::Arc::new(crate::store::memory::MemoryStore::new());
        let vault = Vault::create(store, config).unwrap();
        let record = |id, pack| Record {
            id: ChunkId([id; 32]),
            pack: [pack; 16],
            offset: 64,
            stored_len: 1,
            plain_len: 1,
        };
        let found = crate::vault::quarantine::Quarantine {
            at: 0,
            by: String::new(),
            what: String::new(),
        };
        for id in [1, 2] {
            vault.put_quarantine(&[1; 16], &ChunkId([id; 32]), &found).unwrap();
        }
        let mut records = vec![record(1, 1), record(1, 2), record(2, 1), record(3, 1)];
        prefer_whole(&mut records, &vault.quarantined().unwrap());
        assert_eq!(records, [record(1, 2), record(2, 1), record(3, 1)]);
    }

    #[test]
    fn few_indexes_stay_as_they_are() {
        assert!(plan(indexes(&[1; 12])).is_empty());
    }

    #[test]
    fn the_smallest_are_merged_and_large_ones_are_left_alone() {
        let mut lens = vec![MAX_INDEX - 1; 3];
        lens.extend([5; 11]);
        let chosen = plan(indexes(&lens));
        assert_eq!(chosen.len(), 10);
        assert!(
            chosen
                .iter()
                .all(|key| !["index/0", "index/1", "index/2"].contains(&key.as_str()))
        );
        assert!(plan(indexes(&[MAX_INDEX - 1; 40])).is_empty());
    }
}
