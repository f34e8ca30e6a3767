//! The index: chunk id to pack, sorted behind a fan-out table and searched in place by range reads.
//!
//! An index only helps to deduplicate. What it says is never trusted: a writer looks the chunk up in the footer of the pack
//! it names before it relies on it, so that a damaged or outdated index costs space, never data.
//!
//! # Source
//! `docs/format.md`, section "Index".

use super::ChunkId;
use super::object::{FRAME_LEN, HEADER_LEN, ObjectId};
use crate::bytes::{field, le_u32, le_u64, to_u64, to_usize};
use crate::store::{Key, Store};
use std::collections::HashMap;

/// Largest index object in bytes; a writer starts another one above it.
pub const MAX_INDEX: u64 = 128 << 20;

const MAGIC: [u8; 8] = *b"VFSINDX\x01";
const HEAD_LEN: usize = 24;
const RECORD_LEN: usize = 48;
const PACK_LEN: usize = 16;
/// Records of one fan-out slot, on average.
const SLOT_RECORDS: usize = 16;
const MAX_FAN_BITS: u32 = 20;

/// One chunk in the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    /// The chunk.
    pub id: ChunkId,
    /// The pack that holds it.
    pub pack: ObjectId,
    /// Offset of its stored bytes in the pack object.
    pub offset: u32,
    /// Stored bytes.
    pub stored_len: u32,
    /// Plain bytes.
    pub plain_len: u32,
}

/// Encodes the payload of an index object; records are sorted, of equal ids the first stays.
#[must_use]
pub fn encode(mut records: Vec<Record>) -> Vec<u8> {
    records.sort_unstable();
    records.dedup_by_key(|record| record.id);
    let bits = (records.len() / SLOT_RECORDS)
        .checked_ilog2()
        .unwrap_or(0)
        .min(MAX_FAN_BITS);
    let mut packs: Vec<ObjectId> = Vec::new();
    let mut numbers: HashMap<ObjectId, u32> = HashMap::new();
    let mut slots = vec![0u32; 1 << bits];
    let mut body = Vec::with_capacity(records.len().saturating_mul(RECORD_LEN));
    for record in &records {
        let next = u32::try_from(packs.len()).unwrap_or(u32::MAX);
        let number = *numbers.entry(record.pack).or_insert_with(|| {
            packs.push(record.pack);
            next
        });
        if let Some(slot) = slots.get_mut(slot_of(&record.id, bits)) {
            *slot = slot.saturating_add(1);
        }
        body.extend_from_slice(&record.id.0);
        for value in [number, record.offset, record.stored_len, record.plain_len] {
            body.extend_from_slice(&value.to_le_bytes());
        }
    }
    let mut out = Vec::with_capacity(body.len() + HEAD_LEN + packs.len() * PACK_LEN + slots.len() * 4);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&to_u64(records.len()).to_le_bytes());
    out.extend_from_slice(&u32::try_from(packs.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(&bits.to_le_bytes());
    packs.iter().for_each(|pack| out.extend_from_slice(pack));
    let mut end = 0u32;
    for slot in slots {
        end = end.saturating_add(slot);
        out.extend_from_slice(&end.to_le_bytes());
    }
    out.extend_from_slice(&body);
    out
}

fn slot_of(id: &ChunkId, bits: u32) -> usize {
    let [a, b, c, d, ..] = id.0;
    let top = u32::from_be_bytes([a, b, c, d]);
    top.checked_shr(32 - bits).map_or(0, |slot| to_usize(u64::from(slot)))
}

/// An index object opened for searching: its fan-out table and packs are in memory, its records stay in the store.
#[derive(Debug)]
pub struct Index {
    key: Key,
    bits: u32,
    packs: Vec<ObjectId>,
    /// End of each slot, in records.
    ends: Vec<u32>,
    records_at: u64,
}

impl Index {
    /// Opens an index object; `None` if it is not there any more or not an index: it is then as if it did not exist.
    ///
    /// # Errors
    /// As the store reports anything but an absent object.
    pub fn open(store: &dyn Store, key: &Key) -> crate::store::Result<Option<Self>> {
        use crate::store::Error;
        let read = || -> crate::store::Result<Option<Self>> {
            let len = store.head(key)?;
            let head = store.get_range(key, to_u64(HEADER_LEN), HEAD_LEN)?;
            let Some(sizes) = Sizes::decode(&head, len) else {
                return Ok(None);
            };
            let table_at = to_u64(HEADER_LEN + HEAD_LEN);
            let table = store.get_range(key, table_at, sizes.table_len())?;
            Ok(Some(Self::from_table(key.clone(), &sizes, &table)))
        };
        match read() {
            Err(Error::NotFound { .. } | Error::Short { .. }) => Ok(None),
            other => other,
        }
    }

    fn from_table(key: Key, sizes: &Sizes, table: &[u8]) -> Self {
        let (packs, ends) = table.split_at(sizes.packs.saturating_mul(PACK_LEN).min(table.len()));
        Self {
            key,
            bits: sizes.bits,
            packs: packs.as_chunks::<PACK_LEN>().0.to_vec(),
            ends: ends
                .as_chunks::<4>()
                .0
                .iter()
                .map(|end| u32::from_le_bytes(*end))
                .collect(),
            records_at: to_u64(HEADER_LEN + HEAD_LEN + sizes.table_len()),
        }
    }

    /// The packs that its records name.
    #[must_use]
    pub fn packs(&self) -> &[ObjectId] {
        &self.packs
    }

    /// The pack this index names for a chunk.
    ///
    /// # Errors
    /// As the store reports anything but an absent or shortened object, which hold no chunk.
    pub fn find(&self, store: &dyn Store, id: &ChunkId) -> crate::store::Result<Option<ObjectId>> {
        use crate::store::Error;
        let slot = slot_of(id, self.bits);
        let before = slot
            .checked_sub(1)
            .map_or(Some(0), |before| self.ends.get(before).copied());
        let (Some(start), Some(end)) = (before, self.ends.get(slot).copied()) else {
            return Ok(None);
        };
        // A damaged table could name a slot of millions of records; an honest one never does.
        let count = to_usize(u64::from(end.saturating_sub(start))).min(SLOT_RECORDS * 64);
        if count == 0 {
            return Ok(None);
        }
        let at = self
            .records_at
            .saturating_add(u64::from(start).saturating_mul(to_u64(RECORD_LEN)));
        let records = match store.get_range(&self.key, at, count * RECORD_LEN) {
            Err(Error::NotFound { .. } | Error::Short { .. }) => return Ok(None),
            other => other?,
        };
        let record = records
            .as_chunks::<RECORD_LEN>()
            .0
            .iter()
            .find(|record| record.starts_with(&id.0));
        let pack = record
            .and_then(|record| le_u32(record, 32))
            .map(|number| to_usize(u64::from(number)));
        Ok(pack.and_then(|number| self.packs.get(number)).copied())
    }
}

/// Sizes in the head of an index payload, checked against the object's length.
struct Sizes {
    packs: usize,
    bits: u32,
    records: usize,
}

impl Sizes {
    fn decode(head: &[u8], object_len: u64) -> Option<Self> {
        let payload = to_usize(object_len)
            .checked_sub(FRAME_LEN)
            .filter(|_| object_len <= MAX_INDEX)?;
        let sizes = Self {
            records: to_usize(le_u64(head, 8)?),
            packs: to_usize(u64::from(le_u32(head, 16)?)),
            bits: le_u32(head, 20)?,
        };
        let limits = sizes.bits <= MAX_FAN_BITS && sizes.packs <= payload && sizes.records <= payload;
        let total = || HEAD_LEN + sizes.table_len() + sizes.records * RECORD_LEN;
        (head.starts_with(&MAGIC) && limits && total() == payload).then_some(sizes)
    }

    fn table_len(&self) -> usize {
        self.packs * PACK_LEN + (4 << self.bits)
    }
}

/// Decodes all records of an index payload, for merging; `None` if it is not valid.
#[must_use]
pub fn decode(payload: &[u8]) -> Option<Vec<Record>> {
    let sizes = Sizes::decode(payload, to_u64(payload.len().checked_add(FRAME_LEN)?))?;
    let packs = payload
        .get(HEAD_LEN..HEAD_LEN + sizes.packs * PACK_LEN)?
        .as_chunks::<PACK_LEN>()
        .0;
    let records = payload.get(HEAD_LEN + sizes.table_len()..)?.as_chunks::<RECORD_LEN>().0;
    records
        .iter()
        .map(|record| {
            Some(Record {
                id: ChunkId(field(record, 0)?),
                pack: *packs.get(to_usize(u64::from(le_u32(record, 32)?)))?,
                offset: le_u32(record, 36)?,
                stored_len: le_u32(record, 40)?,
                plain_len: le_u32(record, 44)?,
            })
        })
        .collect()
}

/// Says whether `payload`, which has these records, is sorted, names no chunk twice, and has the fan-out table that finds them.
#[must_use]
pub fn is_canonical(payload: &[u8], records: &[Record]) -> bool {
    let bits = le_u32(payload, 20).unwrap_or(u32::MAX);
    let packs = le_u32(payload, 16).map_or(usize::MAX, |packs| to_usize(u64::from(packs)));
    let table_at = packs.saturating_mul(PACK_LEN).saturating_add(HEAD_LEN);
    let sorted = records.is_sorted_by(|a, b| a.id < b.id);
    let mut rest = records;
    sorted
        && (0..1usize << bits.min(MAX_FAN_BITS)).all(|slot| {
            let here = rest.partition_point(|record| slot_of(&record.id, bits) <= slot);
            rest = rest.get(here..).unwrap_or_default();
            let end = le_u32(payload, table_at.saturating_add(slot.saturating_mul(4)));
            end.map(|end| to_usize(u64::from(end))) == records.len().checked_sub(rest.len())
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum::Digest;
    use crate::store::memory::MemoryStore;
    use crate::vault::object::{Frame, ObjectType};

    fn record(number: u32) -> Record {
        let id = ChunkId(Digest::of(&number.to_le_bytes()).0);
        let pack = [u8::try_from(number % 7).unwrap(); 16];
        Record {
            id,
            pack,
            offset: number,
            stored_len: 1,
            plain_len: 2,
        }
    }

    fn stored(records: Vec<Record>) -> (MemoryStore, Key) {
        let frame = Frame {
            object_type: ObjectType::Index,
            vault_id: [1; 16],
            object_id: [2; 16],
        };
        let (store, key) = (MemoryStore::new(), Key::new("index/x").unwrap());
        store.put_new(&key, &frame.seal(&encode(records))).unwrap();
        (store, key)
    }

    #[test]
    fn every_record_is_found_and_nothing_else() {
        for count in [0, 1, 15, 16, 33, 5000] {
            let (store, key) = stored((0..count).map(record).collect());
            let index = Index::open(&store, &key).unwrap().unwrap();
            for number in 0..count {
                assert_eq!(
                    index.find(&store, &record(number).id).unwrap(),
                    Some(record(number).pack)
                );
            }
            assert_eq!(index.find(&store, &record(count).id).unwrap(), None);
        }
    }

    #[test]
    fn records_survive_decoding_for_a_merge() {
        let mut records: Vec<_> = (0..100).map(record).collect();
        let payload = encode(records.clone());
        records.sort_unstable();
        assert_eq!(decode(&payload), Some(records));
        assert_eq!(decode(&payload[..payload.len() - 1]), None);
    }

    #[test]
    fn an_index_out_of_order_or_with_a_wrong_table_is_not_canonical() {
        let records: Vec<_> = (0..100).map(record).collect();
        let good = encode(records);
        let canonical = |payload: &[u8]| is_canonical(payload, &decode(payload).unwrap());
        assert!(canonical(&good));
        assert!(canonical(&encode(Vec::new())));
        let table = HEAD_LEN + 7 * PACK_LEN;
        let mut bad = good.clone();
        bad[table] ^= 1;
        assert!(!canonical(&bad));
        let (one, two) = (good.len() - 2 * RECORD_LEN, good.len() - RECORD_LEN);
        let mut bad = good.clone();
        bad[one..].rotate_left(RECORD_LEN);
        assert!(!canonical(&bad));
        let mut bad = good.clone();
        bad.copy_within(one..two, two);
        assert!(!canonical(&bad));
    }

    #[test]
    fn a_damaged_index_finds_nothing_or_something_but_never_panics() {
        let (store, key) = stored((0..40).map(record).collect());
        let object = store.get(&key, 1 << 20).unwrap();
        for at in 0..object.len() {
            let mut bad = object.clone();
            bad[at] ^= 0xff;
            store.overwrite(&key, bad);
            if let Some(index) = Index::open(&store, &key).unwrap() {
                for number in 0..40 {
                    index.find(&store, &record(number).id).unwrap();
                }
            }
        }
        store.overwrite(&key, object[..100].to_vec());
        assert!(Index::open(&store, &key).unwrap().is_none());
    }
}
