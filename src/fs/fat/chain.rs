//! Cluster chains: where the clusters of a file lie, as runs, with what was learnt of a chain remembered. Shared by FAT and exFAT.

use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;

use super::super::{Error, Extent, MAX_EXTENTS, Place, Result};
use super::corrupt;
use super::table::{Link, Table};
use crate::image::ReadAt;

/// Clusters of a chain that follow each other on the volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// How many clusters of the chain come before it.
    index: u32,
    /// Number of its first cluster.
    cluster: u32,
    /// Clusters; never 0.
    count: u32,
}

impl Run {
    /// How many clusters the chain has up to the end of this run.
    fn end(self) -> u32 {
        self.index.saturating_add(self.count)
    }

    /// Number of the last cluster.
    fn last(self) -> u32 {
        self.cluster.saturating_add(self.count.saturating_sub(1))
    }
}

/// The clusters of a volume and the table that chains them.
pub(crate) struct Clusters {
    /// What they lie on.
    pub(crate) volume: Arc<dyn ReadAt>,
    table: Table,
    /// Byte on the volume of cluster 2, the first.
    heap: u64,
    /// Bytes of a cluster.
    size: u64,
    /// What is known of the chains asked for last, the latest first.
    known: Mutex<Vec<Arc<Known>>>,
}

/// Chains that are remembered.
const KNOWN_CHAINS: usize = 32;

/// Runs that are remembered of a chain; beyond that every second one is forgotten, and the gaps are walked again.
const KNOWN_RUNS: usize = 16 << 10;

/// What is known of a chain: runs from its beginning, perhaps with gaps. All but the last are known to end where they do.
#[derive(Clone)]
struct Known {
    runs: Vec<Run>,
    watch: Watch,
}

/// Brent's search for a cycle: compares each cluster with one that lies up to as many steps back as the walk is long.
#[derive(Clone, Copy)]
struct Watch {
    cluster: u32,
    steps: u32,
    limit: u32,
}

impl Watch {
    /// Says whether the walk, now at `cluster`, has been there.
    fn meets(&mut self, cluster: u32) -> bool {
        if cluster == self.cluster {
            return true;
        }
        self.steps = self.steps.saturating_add(1);
        if self.steps == self.limit {
            *self = Self {
                cluster,
                steps: 0,
                limit: self.limit.saturating_mul(2),
            };
        }
        false
    }
}

impl Clusters {
    /// The clusters of `size` bytes that begin at byte `heap` of `volume`.
    pub(crate) fn new(volume: Arc<dyn ReadAt>, table: Table, heap: u64, size: u64) -> Self {
        let known = Mutex::default();
        Self {
            volume,
            table,
            heap,
            size,
            known,
        }
    }

    /// Bytes of a cluster.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The table that chains them.
    pub(crate) fn table(&self) -> &Table {
        &self.table
    }

    /// Byte on the volume where a cluster begins; `None` if it does not exist.
    pub(crate) fn offset(&self, cluster: u32) -> Option<u64> {
        let number = cluster.checked_sub(2).filter(|_| self.table.holds(cluster))?;
        self.heap.checked_add(u64::from(number).checked_mul(self.size)?)
    }

    /// The cluster in which byte `offset` of the volume lies.
    pub(crate) fn at(&self, offset: u64) -> Option<u32> {
        let number = offset.checked_sub(self.heap)?.checked_div(self.size)?;
        let cluster = u32::try_from(number.checked_add(2)?).ok()?;
        self.table.holds(cluster).then_some(cluster)
    }

    /// Where bytes `range` of the chain that begins at cluster `first` lie, cut at `size`: the first extent holds `range.start`.
    /// Empty if the chain ends before that.
    ///
    /// # Errors
    /// `Corrupt` if the chain is broken before `range.start`; a break after it only makes the answer short.
    pub(crate) fn chained(&self, first: u32, range: Range<u64>, size: u64) -> Result<Vec<Extent>> {
        let stop = range.end.min(size);
        if range.start >= stop {
            return Ok(Vec::new());
        }
        let index = |byte: u64| u32::try_from(byte).unwrap_or(u32::MAX);
        let from = index(range.start.checked_div(self.size).unwrap_or(u64::MAX));
        let runs = self.runs(first, from..index(stop.div_ceil(self.size)))?;
        Ok(runs.into_iter().filter_map(|run| self.extent(run, size)).collect())
    }

    /// As [`chained`](Self::chained) for clusters that follow each other without a chain.
    ///
    /// # Errors
    /// `Corrupt` if they lie outside the volume's clusters.
    pub(crate) fn contiguous(&self, first: u32, size: u64) -> Result<Vec<Extent>> {
        let count = u32::try_from(size.div_ceil(self.size)).unwrap_or(u32::MAX);
        let (index, cluster) = (0, first);
        let run = Run { index, cluster, count };
        if count == 0 || !self.table.holds(run.cluster) || !self.table.holds(run.last()) {
            let what =
                format!("a file of {size} bytes without a chain at cluster {first} (it lies outside the volume)");
            return Err(corrupt(what, self.heap));
        }
        Ok(self.extent(run, size).into_iter().collect())
    }

    fn extent(&self, run: Run, size: u64) -> Option<Extent> {
        let start = u64::from(run.index).checked_mul(self.size)?;
        let len = u64::from(run.count).checked_mul(self.size)?;
        let len = len.min(size.checked_sub(start)?);
        let place = Place::Volume(self.offset(run.cluster)?);
        (len > 0).then_some(Extent { start, len, place })
    }

    /// Runs of the chain from `first` that hold its clusters `wanted`, not more than [`MAX_EXTENTS`].
    fn runs(&self, first: u32, wanted: Range<u32>) -> Result<Vec<Run>> {
        let known = self.known(first)?;
        let mut walk = Walk::new(&known, wanted);
        let ended = walk.go(&self.table);
        if let Some(longer) = walk.learnt(&known) {
            self.remember(longer);
        }
        match ended {
            Err(error) if walk.found.is_empty() => Err(error),
            _ => Ok(walk.found),
        }
    }

    fn known(&self, first: u32) -> Result<Arc<Known>> {
        if !self.table.holds(first) {
            let what = format!("a cluster chain (it begins at cluster {first}, which does not exist)");
            return Err(corrupt(what, self.heap));
        }
        let mut all = self.known.lock();
        let place = all
            .iter()
            .position(|known| known.runs.first().is_some_and(|run| run.cluster == first));
        if let Some(place) = place {
            let known = all.remove(place);
            all.insert(0, Arc::clone(&known));
            return Ok(known);
        }
        let run = Run {
            index: 0,
            cluster: first,
            count: 1,
        };
        let watch = Watch {
            cluster: first,
            steps: 0,
            limit: 2,
        };
        Ok(Arc::new(Known { runs: vec![run], watch }))
    }

    fn remember(&self, mut known: Known) {
        if known.runs.len() > KNOWN_RUNS {
            let last = known.runs.len().saturating_sub(1);
            let mut number = 0_usize;
            known.runs.retain(|_| {
                let keep = number.is_multiple_of(2) || number == last;
                number = number.saturating_add(1);
                keep
            });
        }
        let (first, end) = (known.runs.first().copied(), known.runs.last().map(|run| run.end()));
        let mut all = self.known.lock();
        let same = |other: &Arc<Known>| other.runs.first().map(|run| run.cluster) == first.map(|run| run.cluster);
        // Another request may have come further in the meantime.
        if all
            .iter()
            .any(|other| same(other) && other.runs.last().map(|run| run.end()) >= end)
        {
            return;
        }
        all.retain(|other| !same(other));
        all.truncate(KNOWN_CHAINS.saturating_sub(1));
        all.insert(0, Arc::new(known));
    }
}

/// One walk along a chain, from the last run known before what is wanted.
struct Walk<'a> {
    known: &'a [Run],
    /// Number in `known` of the run that `here` is or comes after.
    number: usize,
    here: Run,
    wanted: Range<u32>,
    found: Vec<Run>,
    /// Runs from the last known one on, when the walk has come past it.
    fresh: Vec<Run>,
    watch: Watch,
}

impl<'a> Walk<'a> {
    fn new(known: &'a Known, wanted: Range<u32>) -> Self {
        let before = known.runs.partition_point(|run| run.index <= wanted.start);
        let number = before.saturating_sub(1);
        let nothing = Run {
            index: 0,
            cluster: 0,
            count: 0,
        };
        Self {
            known: &known.runs,
            number,
            here: known.runs.get(number).copied().unwrap_or(nothing),
            wanted,
            found: Vec::new(),
            fresh: Vec::new(),
            watch: known.watch,
        }
    }

    /// Walks until everything wanted is found, the chain ends or it breaks.
    fn go(&mut self, table: &Table) -> Result<()> {
        let mut links = table.links();
        let mut step = || -> Result<bool> {
            if self.here.end() >= self.wanted.end || self.found.len() >= MAX_EXTENTS {
                return Ok(false);
            }
            if let Some(run) = self.known.get(self.number.saturating_add(1))
                && run.index == self.here.end()
            {
                self.number = self.number.saturating_add(1);
                self.turn(*run);
                return Ok(true);
            }
            let last = self.here.last();
            let why = match links.after(last)? {
                Link::End => return Ok(false),
                Link::Next(cluster) => match self.advance(cluster, table) {
                    Ok(()) => return Ok(true),
                    Err(why) => why,
                },
                Link::Broken(why) => why,
            };
            Err(broken(last, why, table))
        };
        let ended = loop {
            match step() {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        if self.found.len() < MAX_EXTENTS {
            self.keep();
        }
        ended
    }

    /// Goes on to `cluster`, which the table gave.
    fn advance(&mut self, cluster: u32, table: &Table) -> Result<(), &'static str> {
        let index = self.here.end();
        if self.is_at_frontier() && (self.watch.meets(cluster) || index >= table.clusters()) {
            return Err("it runs in a circle");
        }
        if self.here.last().checked_add(1) == Some(cluster) {
            self.here.count = self.here.count.saturating_add(1);
        } else {
            let count = 1;
            self.turn(Run { index, cluster, count });
        }
        Ok(())
    }

    fn is_at_frontier(&self) -> bool {
        self.number.saturating_add(1) >= self.known.len()
    }

    /// Leaves `here`, which is complete, for `next`.
    fn turn(&mut self, next: Run) {
        self.keep();
        if self.is_at_frontier()
            && self.known.last().is_some_and(|last| last.index <= self.here.index)
            && next.index > self.here.index
        {
            self.fresh.push(self.here);
        }
        self.here = next;
    }

    fn keep(&mut self) {
        if self.here.end() > self.wanted.start && self.here.count > 0 {
            self.found.push(self.here);
        }
    }

    /// What is known after the walk, if that is more than before.
    fn learnt(&self, before: &Known) -> Option<Known> {
        let (known_last, rest) = before.runs.split_last()?;
        if !self.is_at_frontier() || self.here.end() <= known_last.end() {
            return None;
        }
        let mut runs = Vec::with_capacity(before.runs.len().saturating_add(self.fresh.len()).saturating_add(1));
        runs.extend_from_slice(rest);
        runs.extend_from_slice(&self.fresh);
        runs.push(self.here);
        let watch = self.watch;
        Some(Known { runs, watch })
    }
}

fn broken(cluster: u32, why: &str, table: &Table) -> Error {
    let what = format!("the chain of cluster {cluster} ({why})");
    corrupt(what, table.entry_offset(cluster))
}

/// Length in bytes of the part of a chain that is sound, at most `most`.
pub(crate) fn sound_len(clusters: &Clusters, first: u32, most: u64) -> u64 {
    let mut len = 0_u64;
    while len < most {
        match clusters.chained(first, len..most, most) {
            Ok(extents) => match extents.last() {
                Some(last) => len = last.start.saturating_add(last.len),
                None => return len,
            },
            Err(_) => return len,
        }
    }
    len
}
