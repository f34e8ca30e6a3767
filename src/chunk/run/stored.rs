//! Several chunks at once as they are stored, for another vault: fetched as [`fetch_many`](Reader::fetch_many) does, decoded and
//! matched with their ids, and given away undecoded.

use super::super::{Error, Reader, Result, key_text, unsteady};
use super::{plan, position};
use crate::bytes::{to_u64, to_usize};
use crate::store::again::{self, Failure};
use crate::vault::ChunkId;
use crate::vault::codec::{self, Codec};
use crate::vault::map::Entry;
use crate::vault::object::{ObjectId, ObjectType};
use crate::vault::pack::Record;

/// A chunk as it is stored; its bytes decode to what its id says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// How it is compressed.
    pub codec: Codec,
    /// Its stored bytes.
    pub bytes: Vec<u8>,
}

impl Reader {
    /// Reads whole chunks as they are stored, in the order they are wanted, each with its plain length; nothing goes through the
    /// cache.
    ///
    /// # Errors
    /// The number of the first chunk that could not be had, and why.
    pub fn fetch_stored(&self, wanted: &[(Entry, usize)]) -> Result<Vec<Stored>, (usize, Error)> {
        let mut located = Vec::with_capacity(wanted.len());
        for (number, (Entry { id, pack }, _)) in wanted.iter().enumerate() {
            let place = self.locate(ObjectType::Pack, id, pack);
            let (pack, record) = place.map_err(|error| (number, error))?;
            located.push((pack, record, number));
        }
        located.sort_unstable_by_key(|(pack, record, _)| position(&(*pack, *record)));
        let places: Vec<(ObjectId, Record)> = located.iter().map(|(pack, record, _)| (*pack, *record)).collect();
        let mut found = Vec::with_capacity(wanted.len());
        let mut plain = Vec::new();
        let mut numbers = located.iter().map(|(_, _, number)| *number);
        for run in plan(&places) {
            let stored = self.fetch_run(&run);
            let mut rest: &[u8] = stored.as_deref().unwrap_or_default();
            for (record, number) in run.records.iter().zip(numbers.by_ref()) {
                let (this, next) = rest.split_at(to_usize(u64::from(record.stored_len)).min(rest.len()));
                rest = next;
                let Some((entry, plain_len)) = wanted.get(number) else {
                    continue;
                };
                let object = || key_text(ObjectType::Pack, &run.pack);
                let checked = stored.as_ref().map_err(Clone::clone).and_then(|_| {
                    check(record, this, *plain_len, &mut plain)
                        .map_err(|what| Error::Corrupt { object: object(), what })
                });
                let stored = match checked {
                    Ok(()) => Ok(Stored {
                        codec: record.codec,
                        bytes: this.to_vec(),
                    }),
                    Err(error) if error.is_loss() => self.alone(entry, (&run.pack, record), *plain_len, error),
                    Err(error) => Err(error),
                };
                found.push((number, stored.map_err(|error| (number, error))?));
            }
        }
        found.sort_unstable_by_key(|(number, _)| *number);
        Ok(found.into_iter().map(|(_, stored)| stored).collect())
    }

    /// A chunk that was damaged as part of a run: over a network it is fetched once more for itself; then from wherever else it is.
    fn alone(&self, entry: &Entry, place: (&ObjectId, &Record), plain_len: usize, error: Error) -> Result<Stored> {
        let again = if self.is_remote() {
            self.stored_alone(place.0, place.1, plain_len)
        } else {
            Err(error)
        };
        again.or_else(|error| {
            let names = (&entry.id, &entry.pack, place.0);
            self.elsewhere_or_hint(ObjectType::Pack, names, error, |pack, record| {
                self.stored_alone(pack, record, plain_len)
            })
        })
    }

    fn stored_alone(&self, pack: &ObjectId, record: &Record, plain_len: usize) -> Result<Stored> {
        let object = key_text(ObjectType::Pack, pack);
        let len = to_usize(u64::from(record.stored_len));
        again::settle(self.vault.store(), unsteady, || {
            let read = self.read_stored(ObjectType::Pack, pack, u64::from(record.offset), len);
            let stored = read.map_err(Failure::Final)?;
            match check(record, &stored, plain_len, &mut Vec::new()) {
                Ok(()) => Ok(Stored {
                    codec: record.codec,
                    bytes: stored.to_vec(),
                }),
                Err(what) => {
                    let object = object.clone();
                    Err(Failure::damaged(Error::Corrupt { object, what }, &stored))
                }
            }
        })
    }
}

/// Says what is wrong with the stored bytes of a chunk, if anything is.
fn check(record: &Record, stored: &[u8], plain_len: usize, plain: &mut Vec<u8>) -> Result<(), String> {
    let id = record.id;
    if u64::from(record.plain_len) != to_u64(plain_len) {
        return Err(format!(
            "chunk {id} has {} bytes instead of {plain_len}",
            record.plain_len
        ));
    }
    if !codec::decode_into(record.codec, stored, plain_len, plain) {
        return Err(format!("chunk {id} does not decode"));
    }
    if ChunkId::of(plain) != id {
        return Err(format!("chunk {id} fails its hash"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::MemoryStore;
    use crate::vault::pack::Builder;
    use crate::vault::{self, Vault, pack_key};
    use std::sync::Arc;

    const PACK: ObjectId = [3; 16];

    fn reader(chunks: &[&[u8]], damage: impl Fn(&mut Vec<u8>)) -> (Arc<Reader>, Vec<(Entry, usize)>) {
        let config = vault::new_config("test", 1 << 16, &crate::clock::System).unwrap();
        let vault = Vault::create(Arc::new(MemoryStore::new()), config).unwrap();
        let mut builder = Builder::new(vault.frame(ObjectType::Pack, PACK));
        let mut wanted = Vec::new();
        for plain in chunks {
            let (codec, stored) = codec::encode(plain, 3).unwrap();
            let id = ChunkId::of(plain);
            builder.push(id, codec, &stored, plain.len());
            wanted.push((Entry { id, pack: PACK }, plain.len()));
        }
        let mut object = builder.finish();
        damage(&mut object);
        let key = pack_key(ObjectType::Pack, &PACK).unwrap();
        vault.store().put_new(&key, &object).unwrap();
        (Reader::new(vault, 8 << 20), wanted)
    }

    #[test]
    fn stored_chunks_come_in_the_order_they_are_wanted_and_decode() {
        let (first, second, third) = (vec![1; 5000], b"short".to_vec(), vec![3; 70_000]);
        let (reader, mut wanted) = reader(&[&first, &second, &third], |_| {});
        wanted.rotate_left(1);
        let stored = reader.fetch_stored(&wanted).unwrap();
        let plain: Vec<Vec<u8>> = stored
            .iter()
            .zip(&wanted)
            .map(|(stored, (_, len))| {
                let mut plain = Vec::new();
                assert!(codec::decode_into(stored.codec, &stored.bytes, *len, &mut plain));
                plain
            })
            .collect();
        assert_eq!(plain, [second, third, first]);
        let codecs: Vec<Codec> = stored.iter().map(|stored| stored.codec).collect();
        assert_eq!(codecs, [Codec::Raw, Codec::Zstd, Codec::Zstd]);
    }

    #[test]
    fn a_damaged_chunk_is_named_and_never_given() {
        let (reader, wanted) = reader(&[b"one", b"two", b"six"], |object| object[64 + 4] ^= 1);
        let (number, error) = reader.fetch_stored(&wanted).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{error}");
        assert_eq!(number, 1);
        let longer: Vec<_> = wanted.iter().take(1).map(|(entry, len)| (*entry, len + 1)).collect();
        assert!(matches!(reader.fetch_stored(&longer), Err((0, Error::Corrupt { .. }))));
        assert_eq!(reader.fetch_stored(&wanted[..1]).unwrap().len(), 1);
    }
}
