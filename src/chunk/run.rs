//! Several chunks at once, straight into the memory they are wanted in: chunks that lie next to each other in a pack are
//! fetched as one range, and nothing goes through the cache.

pub mod stored;

use super::{Error, Reader, Result, from_store, from_vault, key_text};
use crate::bytes::scratch::Scratch;
use crate::bytes::to_usize;
use crate::vault::map::Entry;
use crate::vault::object::{ObjectId, ObjectType};
use crate::vault::pack::Record;
use crate::vault::{ChunkId, codec, pack_key};

/// Most stored bytes fetched as one range.
const MAX_RUN: u64 = 4 << 20;

/// A whole chunk, and where its plain bytes shall go.
pub struct Wanted<'a> {
    /// The chunk.
    pub entry: Entry,
    /// Memory of exactly its plain length.
    pub plain: &'a mut [u8],
}

/// A range of one pack that holds the chunks `first .. first + records.len()` of those wanted.
#[derive(Debug, PartialEq, Eq)]
struct Run {
    first: usize,
    pack: ObjectId,
    records: Vec<Record>,
}

impl Run {
    fn end(&self) -> u64 {
        self.records.last().map_or(0, |record| {
            u64::from(record.offset).saturating_add(u64::from(record.stored_len))
        })
    }

    fn start(&self) -> u64 {
        self.records.first().map_or(0, |record| u64::from(record.offset))
    }

    fn takes(&self, pack: &ObjectId, record: &Record) -> bool {
        let end = u64::from(record.offset).saturating_add(u64::from(record.stored_len));
        self.pack == *pack && self.end() == u64::from(record.offset) && end.saturating_sub(self.start()) <= MAX_RUN
    }
}

/// Joins neighbours, in the order they are wanted.
fn plan(located: &[(ObjectId, Record)]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (number, (pack, record)) in located.iter().enumerate() {
        match runs.last_mut().filter(|run| run.takes(pack, record)) {
            Some(run) => run.records.push(*record),
            None => runs.push(Run {
                first: number,
                pack: *pack,
                records: vec![*record],
            }),
        }
    }
    runs
}

impl Reader {
    /// Reads and checks whole chunks, each into its own memory.
    ///
    /// # Errors
    /// The number of the first chunk that could not be had, and why; the memory of the others is unspecified.
    pub fn fetch_many(&self, wanted: &mut [Wanted<'_>]) -> Result<(), (usize, Error)> {
        let locate = |(number, wanted): (usize, &Wanted<'_>)| {
            let Entry { id, pack } = wanted.entry;
            self.locate(ObjectType::Pack, &id, &pack)
                .map(|record| (pack, record))
                .map_err(|error| (number, error))
        };
        let located = wanted.iter().enumerate().map(locate).collect::<Result<Vec<_>, _>>()?;
        for run in plan(&located) {
            let stored = self.fetch_run(&run).map_err(|error| (run.first, error))?;
            let mut rest: &[u8] = &stored;
            for (record, (number, wanted)) in run.records.iter().zip(wanted.iter_mut().enumerate().skip(run.first)) {
                let (this, next) = rest.split_at(to_usize(u64::from(record.stored_len)).min(rest.len()));
                rest = next;
                let decoded = decode(record, this, wanted, &run.pack);
                self.or_alone(decoded, wanted).map_err(|error| (number, error))?;
            }
        }
        Ok(())
    }

    /// What came damaged over a network as part of a run is fetched once more for itself.
    fn or_alone(&self, decoded: Result<()>, wanted: &mut Wanted<'_>) -> Result<()> {
        match decoded {
            Err(Error::Corrupt { .. }) if self.vault.store().is_remote() => {
                let mut plain = Vec::new();
                self.fetch(&wanted.entry, wanted.plain.len(), &mut plain)?;
                wanted.plain.copy_from_slice(&plain);
                Ok(())
            }
            other => other,
        }
    }

    fn fetch_run(&self, run: &Run) -> Result<Scratch> {
        let object = || key_text(ObjectType::Pack, &run.pack);
        let key = pack_key(ObjectType::Pack, &run.pack).map_err(|error| from_vault(error, object()))?;
        let mut stored = Scratch::take(to_usize(run.end().saturating_sub(run.start())));
        let read = self.vault.store().read_range(&key, run.start(), &mut stored);
        read.map(|()| stored).map_err(|error| from_store(error, object()))
    }
}

fn decode(record: &Record, stored: &[u8], wanted: &mut Wanted<'_>, pack: &ObjectId) -> Result<()> {
    let corrupt = |what: &str| {
        let what = format!("chunk {} {what}", record.id);
        Err(Error::Corrupt {
            object: key_text(ObjectType::Pack, pack),
            what,
        })
    };
    if !codec::decode_slice(record.codec, stored, wanted.plain) {
        return corrupt("does not decode to the length its place demands");
    }
    if ChunkId::of(wanted.plain) != wanted.entry.id {
        return corrupt("fails its hash");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::codec::Codec;

    fn record(offset: u32, stored_len: u32) -> Record {
        Record {
            id: ChunkId([0; 32]),
            offset,
            stored_len,
            plain_len: 1 << 17,
            codec: Codec::Zstd,
        }
    }

    #[test]
    fn neighbours_of_one_pack_become_one_range() {
        let (a, b) = ([1; 16], [2; 16]);
        let located = [
            (a, record(64, 10)),
            (a, record(74, 5)),
            (a, record(90, 5)),
            (b, record(95, 5)),
            (b, record(100, 1)),
        ];
        let runs: Vec<_> = plan(&located)
            .iter()
            .map(|run| (run.first, run.start(), run.end()))
            .collect();
        assert_eq!(runs, [(0, 64, 79), (2, 90, 95), (3, 95, 101)]);
    }

    #[test]
    fn a_run_is_bounded() {
        let located: Vec<_> = (0..10).map(|number| ([1; 16], record(number << 20, 1 << 20))).collect();
        assert!(plan(&located).iter().all(|run| run.end() - run.start() <= MAX_RUN));
    }
}
