//! Several chunks at once, straight into the memory they are wanted in or, ahead of a reader, into the cache: chunks that lie next to
//! each other in a pack are fetched as one range.

pub mod stored;

use super::cache::Landing;
use super::{Error, Reader, Result, key_text};
use crate::bytes::scratch::Scratch;
use crate::bytes::to_usize;
use crate::store::wait::{self, Limit};
use crate::vault::map::Entry;
use crate::vault::object::{ObjectId, ObjectType};
use crate::vault::pack::Record;
use crate::vault::{ChunkId, codec};

/// Most stored bytes fetched as one range.
const MAX_RUN: u64 = 4 << 20;
/// Ranges of one read that are fetched at once over a network.
const AT_ONCE: usize = 8;

/// A whole chunk, and where its plain bytes shall go.
pub struct Wanted<'a> {
    /// The chunk.
    pub entry: Entry,
    /// Memory of exactly its plain length.
    pub plain: &'a mut [u8],
}

/// A range of one pack that holds the next `records.len()` of the chunks wanted.
#[derive(Debug, PartialEq, Eq)]
struct Run {
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

/// The order in which chunks lie: what was packed by several threads is wanted in another one.
fn position((pack, record): &(ObjectId, Record)) -> (ObjectId, u32) {
    (*pack, record.offset)
}

/// Joins neighbours.
fn plan(located: &[(ObjectId, Record)]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (pack, record) in located {
        match runs.last_mut().filter(|run| run.takes(pack, record)) {
            Some(run) => run.records.push(*record),
            None => runs.push(Run {
                pack: *pack,
                records: vec![*record],
            }),
        }
    }
    runs
}

/// A chunk on its way into the cache: which, the memory for its plain bytes, and the end that all wait for.
type Arrival<'a> = (Entry, Vec<u8>, Landing<'a>);

/// A wanted chunk and its number among those asked for.
type Numbered<'a, 'b> = (usize, &'a mut Wanted<'b>);

impl Reader {
    /// Reads and checks whole chunks, each into its own memory.
    ///
    /// # Errors
    /// The number of a chunk that could not be had, and why; the memory of the others is unspecified.
    pub fn fetch_many(&self, wanted: &mut [Wanted<'_>]) -> Result<(), (usize, Error)> {
        let numbered = wanted.iter_mut().enumerate();
        let missing: Vec<Numbered<'_, '_>> = numbered
            .filter_map(|(number, wanted)| {
                let kept = self.take_kept_slice(&wanted.entry.id, wanted.plain);
                (!kept).then_some((number, wanted))
            })
            .collect();
        let locate = |(number, wanted): &Numbered<'_, '_>| {
            let located = self.locate(ObjectType::Pack, &wanted.entry.id, &wanted.entry.pack);
            located.map_err(|error| (*number, error))
        };
        let located = missing.iter().map(locate).collect::<Result<Vec<_>, _>>()?;
        let mut placed: Vec<_> = located.into_iter().zip(missing).collect();
        placed.sort_by_key(|(place, _)| position(place));
        let (located, mut missing): (Vec<_>, Vec<_>) = placed.into_iter().unzip();
        let runs = plan(&located);
        let mut rest = missing.as_mut_slice();
        let mut work = Vec::with_capacity(runs.len());
        for run in &runs {
            let (group, tail) = rest.split_at_mut(run.records.len().min(rest.len()));
            work.push((run, group));
            rest = tail;
        }
        if work.len() > 1 && self.is_remote() && wait::limit() != Limit::Never {
            return self.fetch_at_once(work);
        }
        work.into_iter()
            .try_for_each(|(run, group)| self.fetch_group(run, group))
    }

    /// Fetches several runs, some at the same time.
    fn fetch_at_once(&self, work: Vec<(&Run, &mut [Numbered<'_, '_>])>) -> Result<(), (usize, Error)> {
        let limit = wait::limit();
        let mut work = work.into_iter().peekable();
        while work.peek().is_some() {
            let done = std::thread::scope(|scope| {
                let start = |(run, group)| scope.spawn(move || wait::within(limit, || self.fetch_group(run, group)));
                let threads: Vec<_> = work.by_ref().take(AT_ONCE).map(start).collect();
                let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
                    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                };
                // All are joined, whatever becomes of the first.
                threads.into_iter().map(join).collect::<Vec<_>>()
            });
            done.into_iter().collect::<Result<(), _>>().inspect_err(|(_, error)| {
                if matches!(error, Error::Unavailable { .. } | Error::Timeout { .. }) {
                    wait::note_failure();
                }
            })?;
        }
        Ok(())
    }

    fn fetch_group(&self, run: &Run, group: &mut [Numbered<'_, '_>]) -> Result<(), (usize, Error)> {
        let stored = self.fetch_run(run);
        let mut rest: &[u8] = stored.as_deref().unwrap_or_default();
        for (record, (number, wanted)) in run.records.iter().zip(group) {
            let (this, next) = rest.split_at(to_usize(u64::from(record.stored_len)).min(rest.len()));
            rest = next;
            let landed = self.land(run, record, stored.as_ref().map(|_| this), wanted);
            landed.map_err(|error| (*number, error))?;
        }
        Ok(())
    }

    /// Decodes one chunk of a run; what is damaged as part of it is fetched for itself, from wherever it is whole.
    fn land(&self, run: &Run, record: &Record, stored: Result<&[u8], &Error>, wanted: &mut Wanted<'_>) -> Result<()> {
        let decoded = stored.map_err(Clone::clone).and_then(|stored| {
            decode(record, stored, wanted, &run.pack)?;
            self.keep(ObjectType::Pack, record, stored);
            Ok(())
        });
        match decoded {
            Err(error) if error.is_loss() => {
                let mut plain = Vec::new();
                self.fetch(&wanted.entry, wanted.plain.len(), &mut plain)?;
                wanted.plain.copy_from_slice(&plain);
                Ok(())
            }
            other => other,
        }
    }

    /// Reads whole chunks, each of these plain lengths, into the cache, as far as they are not there or on their way.
    ///
    /// A failure is that of everybody who waits for the chunk by then; who asks later tries again. A thread that may not wait does nothing.
    pub fn warm(&self, wanted: &[(Entry, usize)]) {
        if wait::limit() == Limit::Never {
            return;
        }
        // One after the other: two that claim in turns would leave each other every second chunk, each a request of its own.
        let claiming = self.claiming.lock();
        let mut claimed = Vec::with_capacity(wanted.len());
        for (entry, plain_len) in wanted {
            let landing = self.cache.claim(&entry.id, *plain_len);
            claimed.extend(landing.map(|landing| (entry, *plain_len, landing)));
        }
        drop(claiming);
        let mut placed = Vec::with_capacity(claimed.len());
        for (entry, plain_len, landing) in claimed {
            let mut plain = self.cache.buffer();
            plain.resize(plain_len, 0);
            if self.take_kept_slice(&entry.id, &mut plain) {
                drop(landing.land(Ok(plain)));
                continue;
            }
            match self.locate(ObjectType::Pack, &entry.id, &entry.pack) {
                Ok(place) => placed.push((place, (*entry, plain, landing))),
                Err(error) => drop(landing.land(Err(error))),
            }
        }
        placed.sort_by_key(|(place, _)| position(place));
        let (located, mut rest): (Vec<_>, Vec<_>) = placed.into_iter().unzip();
        let runs = plan(&located);
        let mut work = Vec::with_capacity(runs.len());
        for run in &runs {
            let tail = rest.split_off(run.records.len().min(rest.len()));
            work.push((run, std::mem::replace(&mut rest, tail)));
        }
        let limit = wait::limit();
        let mut work = work.into_iter().peekable();
        while work.peek().is_some() {
            std::thread::scope(|scope| {
                let mut several = work.by_ref().take(AT_ONCE);
                let first = several.next();
                for (run, group) in several {
                    scope.spawn(move || wait::within(limit, || self.land_run(run, group)));
                }
                if let Some((run, group)) = first {
                    self.land_run(run, group);
                }
            });
        }
    }

    fn land_run(&self, run: &Run, landings: Vec<Arrival<'_>>) {
        let stored = self.fetch_run(run);
        let mut rest: &[u8] = stored.as_deref().unwrap_or_default();
        for (record, (entry, mut plain, landing)) in run.records.iter().zip(landings) {
            let (this, next) = rest.split_at(to_usize(u64::from(record.stored_len)).min(rest.len()));
            rest = next;
            let mut wanted = Wanted {
                entry,
                plain: &mut plain,
            };
            let landed = self.land(run, record, stored.as_ref().map(|_| this), &mut wanted);
            drop(landing.land(landed.map(|()| plain)));
        }
    }

    fn fetch_run(&self, run: &Run) -> Result<Scratch> {
        let len = to_usize(run.end().saturating_sub(run.start()));
        match self.came_along(ObjectType::Pack, &run.pack, run.start(), len) {
            Some(stored) => Ok(stored),
            None => self.read_stored(ObjectType::Pack, &run.pack, run.start(), len),
        }
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
            .map(|run| (run.records.len(), run.start(), run.end()))
            .collect();
        assert_eq!(runs, [(2, 64, 79), (1, 90, 95), (2, 95, 101)]);
    }

    #[test]
    fn a_run_is_bounded() {
        let located: Vec<_> = (0..10).map(|number| ([1; 16], record(number << 20, 1 << 20))).collect();
        assert!(plan(&located).iter().all(|run| run.end() - run.start() <= MAX_RUN));
    }
}
