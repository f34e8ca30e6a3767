//! Brings the items of a tree into the order of their keys with bounded memory: sorted batches, those that do not fit in a
//! temporary file, merged in the end.

mod merge;

use crate::bytes::temporary::unlinked_file;
use crate::bytes::{le_u16, le_u32, le_u64, to_u64, to_usize};
use crate::checksum::crc32c;
pub(super) use merge::Merge;
use parking_lot::Mutex;
use std::cmp::Ordering;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// Bytes of items in memory, over all threads.
const MEMORY: usize = 64 << 20;
/// Least bytes of one batch.
const MIN_BATCH: usize = 64 << 10;
/// Bytes before the key of a record: key length, value length, visit.
const HEAD: usize = 14;
/// Bytes of an item beside its record: its place in the index.
const INDEX_ENTRY: usize = 16;

/// One item and the visit that made it.
///
/// A file that is met twice while it moves is visited twice: only the items of one visit may be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record<'a> {
    /// The item's key.
    pub(super) key: &'a [u8],
    /// Number of the visit.
    pub(super) visit: u64,
    /// The item's value.
    pub(super) value: &'a [u8],
}

impl<'a> Record<'a> {
    /// The record at the beginning of `data`, and its length; `None` if it does not end there.
    fn read(data: &'a [u8]) -> Option<(Self, usize)> {
        let key_len = usize::from(le_u16(data, 0)?);
        let value_len = to_usize(u64::from(le_u32(data, 2)?));
        let visit = le_u64(data, 6)?;
        let key_end = HEAD.checked_add(key_len)?;
        let end = key_end.checked_add(value_len)?;
        let (key, value) = (data.get(HEAD..key_end)?, data.get(key_end..end)?);
        Some((Self { key, visit, value }, end))
    }

    fn order(&self, other: &Self) -> Ordering {
        self.key.cmp(other.key).then(self.visit.cmp(&other.visit))
    }
}

/// Items of one thread, not yet sorted.
#[derive(Debug)]
pub(super) struct Batch {
    records: Vec<u8>,
    /// First eight bytes of the key as a number, and where the record is.
    index: Vec<(u64, usize)>,
    limit: usize,
}

impl Batch {
    /// Adds an item; one whose key or value is longer than any item may be is not taken, and `false` returned.
    #[must_use]
    pub(super) fn push(&mut self, key: &[u8], visit: u64, value: &[u8]) -> bool {
        let (Ok(key_len), Ok(value_len)) = (u16::try_from(key.len()), u32::try_from(value.len())) else {
            return false;
        };
        // A shorter key is filled up with zeros: then it is not greater than any key it begins, and the keys themselves decide.
        let mut prefix = [0; 8];
        prefix.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
        self.index.push((u64::from_be_bytes(prefix), self.records.len()));
        self.records.extend_from_slice(&key_len.to_le_bytes());
        self.records.extend_from_slice(&value_len.to_le_bytes());
        self.records.extend_from_slice(&visit.to_le_bytes());
        self.records.extend_from_slice(key);
        self.records.extend_from_slice(value);
        true
    }

    fn is_full(&self) -> bool {
        self.records
            .len()
            .saturating_add(self.index.len().saturating_mul(INDEX_ENTRY))
            >= self.limit
    }

    fn record(&self, at: usize) -> Option<(Record<'_>, usize)> {
        Record::read(self.records.get(at..)?)
    }

    fn sort(&mut self) {
        let mut index = std::mem::take(&mut self.index);
        index.sort_unstable_by(|(prefix, at), (other_prefix, other_at)| {
            prefix
                .cmp(other_prefix)
                .then_with(|| match (self.record(*at), self.record(*other_at)) {
                    (Some((one, _)), Some((other, _))) => one.order(&other),
                    _ => Ordering::Equal,
                })
        });
        self.index = index;
    }
}

/// A sorted run in the temporary file.
#[derive(Debug, Clone)]
struct Run {
    bytes: Range<u64>,
    checksum: u32,
}

/// What does not fit into memory.
#[derive(Debug, Default)]
struct Spilled {
    file: Option<File>,
    len: u64,
    runs: Vec<Run>,
}

/// Takes batches from many threads.
#[derive(Debug)]
pub(super) struct Sorter {
    batch_limit: usize,
    kept: Mutex<Vec<Batch>>,
    /// Held while a run is written: threads that sort too fast wait for the disk here.
    spilled: Mutex<Spilled>,
}

impl Sorter {
    /// Starts a sort by `threads` threads.
    pub(super) fn new(threads: usize) -> Self {
        Self::with_memory(MEMORY, threads)
    }

    fn with_memory(memory: usize, threads: usize) -> Self {
        Self {
            batch_limit: (memory / threads.max(1)).max(MIN_BATCH.min(memory)),
            kept: Mutex::default(),
            spilled: Mutex::default(),
        }
    }

    /// An empty batch for one thread.
    pub(super) fn batch(&self) -> Batch {
        Batch {
            records: Vec::new(),
            index: Vec::new(),
            limit: self.batch_limit,
        }
    }

    /// Moves a batch that is full into the temporary file; an emptied batch is left.
    ///
    /// # Errors
    /// As the system reports for the temporary file.
    pub(super) fn relieve(&self, batch: &mut Batch) -> io::Result<()> {
        if !batch.is_full() {
            return Ok(());
        }
        batch.sort();
        let mut spilled = self.spilled.lock();
        let Spilled { file, len, runs } = &mut *spilled;
        let file = match file {
            Some(file) => file,
            None => file.insert(unlinked_file()?),
        };
        let start = *len;
        let mut checksum = !0;
        let mut buffer = Vec::with_capacity(MIN_BATCH);
        for (_, at) in &batch.index {
            let Some((_, record_len)) = batch.record(*at) else {
                continue;
            };
            buffer.extend_from_slice(
                batch
                    .records
                    .get(*at..at.saturating_add(record_len))
                    .unwrap_or_default(),
            );
            if buffer.len() >= MIN_BATCH {
                checksum = write_run(file, len, &mut buffer, checksum)?;
            }
        }
        checksum = write_run(file, len, &mut buffer, checksum)?;
        runs.push(Run {
            bytes: start..*len,
            checksum,
        });
        batch.records.clear();
        batch.index.clear();
        Ok(())
    }

    /// Takes the last batch of a thread.
    pub(super) fn keep(&self, mut batch: Batch) {
        batch.sort();
        self.kept.lock().push(batch);
    }

    /// Begins to give all items back, in order.
    ///
    /// # Errors
    /// As the system reports for the temporary file.
    pub(super) fn merge(self) -> io::Result<Merge> {
        let spilled = self.spilled.into_inner();
        Merge::new(self.kept.into_inner(), spilled.file, spilled.runs)
    }
}

fn write_run(file: &File, len: &mut u64, buffer: &mut Vec<u8>, checksum: u32) -> io::Result<u32> {
    file.write_all_at(buffer, *len)?;
    *len = len.saturating_add(to_u64(buffer.len()));
    let checksum = crc32c(checksum, buffer);
    buffer.clear();
    Ok(checksum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Owned = (Vec<u8>, u64, Vec<u8>);

    fn sorted(items: &[Owned], memory: usize, threads: usize) -> Vec<Owned> {
        let sorter = Sorter::with_memory(memory, threads);
        let mut batches: Vec<_> = (0..threads).map(|_| sorter.batch()).collect();
        for (number, (key, visit, value)) in items.iter().enumerate() {
            let batch = &mut batches[number % threads];
            assert!(batch.push(key, *visit, value));
            sorter.relieve(batch).unwrap();
        }
        batches.into_iter().for_each(|batch| sorter.keep(batch));
        let mut merge = sorter.merge().unwrap();
        let mut out = Vec::new();
        while let Some(record) = merge.next().unwrap() {
            out.push((record.key.to_vec(), record.visit, record.value.to_vec()));
        }
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn items_come_back_sorted_and_complete_from_memory_and_from_disk(
            mut items in prop::collection::vec(
                (prop::collection::vec(0u8..3, 0..12), 0u64..3, prop::collection::vec(any::<u8>(), 0..200)), 0..300),
            memory in prop_oneof![Just(1usize << 20), Just(2000), Just(300)],
            threads in 1usize..4,
        ) {
            let mut found = sorted(&items, memory, threads);
            let order = |a: &Owned, b: &Owned| (&a.0, a.1).cmp(&(&b.0, b.1));
            prop_assert!(found.is_sorted_by(|a, b| order(a, b).is_le()));
            // Items of the same key and visit may come in any order.
            items.sort();
            found.sort();
            prop_assert_eq!(found, items);
        }
    }

    #[test]
    fn a_damaged_temporary_file_is_noticed() {
        let sorter = Sorter::with_memory(1 << 10, 1);
        let mut batch = sorter.batch();
        for number in 0..200u64 {
            assert!(batch.push(&number.to_be_bytes(), 1, b"a value of some length"));
            sorter.relieve(&mut batch).unwrap();
        }
        sorter.keep(batch);
        {
            let spilled = sorter.spilled.lock();
            assert!(spilled.runs.len() > 2);
            let file = spilled.file.as_ref().unwrap();
            file.write_all_at(b"X", 30).unwrap();
        }
        let mut merge = sorter.merge().unwrap();
        let ended = std::iter::from_fn(|| match merge.next() {
            Ok(record) => record.map(|_| Ok(())),
            Err(error) => Some(Err(error)),
        })
        .take(1000)
        .find(Result::is_err);
        assert!(ended.is_some());
    }
}
