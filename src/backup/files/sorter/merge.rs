//! Gives sorted runs back as one: a heap of the runs by their next item.

use super::{Batch, Record, Run};
use crate::bytes::{to_u64, to_usize};
use crate::checksum::crc32c;
use std::cmp::Ordering;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes of runs in memory while they are merged, over all runs.
const BUFFERS: usize = 32 << 20;
/// Most and least bytes read at a time.
const MAX_READ: usize = 256 << 10;
const MIN_READ: usize = 16 << 10;

/// One run and how far it has been given.
#[derive(Debug)]
enum Source {
    Memory {
        batch: Batch,
        next: usize,
    },
    Disk {
        run: Run,
        buffer: Vec<u8>,
        at: usize,
        checksum: u32,
    },
}

impl Source {
    fn current(&self) -> Option<Record<'_>> {
        match self {
            Self::Memory { batch, next } => {
                let (_, at) = batch.index.get(*next)?;
                batch.record(*at).map(|(record, _)| record)
            }
            Self::Disk { buffer, at, .. } => Record::read(buffer.get(*at..)?).map(|(record, _)| record),
        }
    }

    /// Goes to the next item.
    fn step(&mut self, file: Option<&File>, read_len: usize) -> io::Result<()> {
        match self {
            Self::Memory { next, .. } => {
                *next = next.saturating_add(1);
                Ok(())
            }
            Self::Disk { buffer, at, .. } => {
                let rest = buffer.get(*at..).unwrap_or_default();
                *at = at.saturating_add(Record::read(rest).map_or(0, |(_, len)| len));
                self.fill(file, read_len)
            }
        }
    }

    /// Reads until a whole record is in the buffer, or the run has ended.
    fn fill(&mut self, file: Option<&File>, read_len: usize) -> io::Result<()> {
        let (
            Self::Disk {
                run,
                buffer,
                at,
                checksum,
            },
            Some(file),
        ) = (self, file)
        else {
            return Ok(());
        };
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "the temporary file is damaged");
        while Record::read(buffer.get(*at..).unwrap_or_default()).is_none() {
            let left = run.bytes.end.saturating_sub(run.bytes.start);
            if left == 0 {
                let all_given = *at == buffer.len() && *checksum == run.checksum;
                return if all_given { Ok(()) } else { Err(damaged()) };
            }
            buffer.drain(..*at);
            *at = 0;
            let (old, len) = (buffer.len(), read_len.min(to_usize(left)));
            buffer.resize(old.saturating_add(len), 0);
            let new = buffer.get_mut(old..).unwrap_or_default();
            file.read_exact_at(new, run.bytes.start)?;
            *checksum = crc32c(*checksum, new);
            run.bytes.start = run.bytes.start.saturating_add(to_u64(len));
        }
        Ok(())
    }
}

/// All items in the order of their keys, those of one key in the order of their visits.
#[derive(Debug)]
pub(in super::super) struct Merge {
    sources: Vec<Source>,
    /// A binary heap of the sources that have items; the one with the first item is at its top.
    heap: Vec<usize>,
    file: Option<File>,
    read_len: usize,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The top has not been given yet.
    Fresh,
    /// The top has been given.
    Given,
}

impl Merge {
    pub(super) fn new(batches: Vec<Batch>, file: Option<File>, runs: Vec<Run>) -> io::Result<Self> {
        let read_len = (BUFFERS / runs.len().max(1)).clamp(MIN_READ, MAX_READ);
        let mut sources: Vec<_> = batches
            .into_iter()
            .map(|batch| Source::Memory { batch, next: 0 })
            .collect();
        for run in runs {
            let mut source = Source::Disk {
                run,
                buffer: Vec::new(),
                at: 0,
                checksum: !0,
            };
            source.fill(file.as_ref(), read_len)?;
            sources.push(source);
        }
        let heap = (0..sources.len())
            .filter(|number| sources.get(*number).is_some_and(|source| source.current().is_some()))
            .collect();
        let mut merge = Self {
            sources,
            heap,
            file,
            read_len,
            state: State::Fresh,
        };
        for place in (0..merge.heap.len() / 2).rev() {
            merge.sink(place);
        }
        Ok(merge)
    }

    /// The next item; `None` after the last.
    ///
    /// # Errors
    /// As the system reports for the temporary file, or that it is damaged.
    pub(in super::super) fn next(&mut self) -> io::Result<Option<Record<'_>>> {
        if self.state == State::Given
            && let Some(source) = self.heap.first().and_then(|top| self.sources.get_mut(*top))
        {
            source.step(self.file.as_ref(), self.read_len)?;
            if source.current().is_none() {
                self.heap.swap_remove(0);
            }
            self.sink(0);
        }
        self.state = State::Given;
        let top = self.heap.first().and_then(|top| self.sources.get(*top));
        Ok(top.and_then(Source::current))
    }

    fn order(&self, one: usize, other: usize) -> Ordering {
        let current = |place: usize| {
            let source = self.heap.get(place).and_then(|number| self.sources.get(*number));
            source.and_then(Source::current)
        };
        match (current(one), current(other)) {
            (Some(one), Some(other)) => one.order(&other),
            (one, other) => other.is_some().cmp(&one.is_some()),
        }
    }

    /// Moves the source at `place` down until none below it comes first.
    fn sink(&mut self, mut place: usize) {
        loop {
            let left = place.saturating_mul(2).saturating_add(1);
            let first = [left, left.saturating_add(1)]
                .into_iter()
                .filter(|child| *child < self.heap.len())
                .fold(
                    place,
                    |first, child| if self.order(child, first).is_lt() { child } else { first },
                );
            if first == place {
                return;
            }
            self.heap.swap(first, place);
            place = first;
        }
    }
}
