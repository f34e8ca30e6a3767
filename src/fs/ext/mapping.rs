//! Which blocks hold a file: runs of blocks collected from an extent tree or a block map, and read from there.

use std::ops::{ControlFlow, Range};

use super::disk::Disk;
use super::inode::{EXTENTS_FL, Node};
use super::{block_map, extent_tree};
use crate::bytes::{to_u64, to_usize};
use crate::fs::{MAX_EXTENTS, Result};

/// Most blocks of a tree that one question reads.
const NODES: usize = 4096;

/// A run of a file's blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    /// First block in the file.
    pub(super) first: u64,
    /// Number of blocks; never 0.
    pub(super) len: u64,
    /// Block of the volume where they begin; `None` if they read as zeros.
    pub(super) target: Option<u64>,
}

impl Run {
    /// The block of the file after this run.
    pub(super) fn end(&self) -> u64 {
        self.first.saturating_add(self.len)
    }
}

/// Whether to go on walking a tree.
pub(super) type Flow = ControlFlow<()>;

/// Runs collected so far for the blocks `wanted`: in order, without gaps, neighbours joined.
#[derive(Debug)]
pub(super) struct Runs {
    /// Blocks of the file that were asked for.
    pub(super) wanted: Range<u64>,
    runs: Vec<Run>,
    /// First block about which nothing is known.
    next: u64,
    /// Blocks of the tree that may still be read.
    budget: usize,
    /// Extents met so far, of which every sound block of a tree has some.
    pushed: usize,
    /// Blocks of content and of the tree met so far, instead of runs.
    tally: Option<u64>,
}

impl Runs {
    fn new(wanted: Range<u64>) -> Self {
        Self {
            next: wanted.start,
            wanted,
            runs: Vec::new(),
            budget: NODES,
            pushed: 0,
            tally: None,
        }
    }

    /// Counts blocks, and keeps no runs.
    pub(super) fn tally(wanted: Range<u64>) -> Self {
        Self {
            tally: Some(0),
            ..Self::new(wanted)
        }
    }

    /// Blocks of content and of the tree that tell of the blocks `wanted`; `None` if the tree is too large.
    pub(super) fn counted(&self) -> Option<u64> {
        self.tally.filter(|_| self.budget > 0)
    }

    /// Tells that blocks before `end` are no part of the answer, and that there is nothing from there to the next run pushed.
    pub(super) fn pass(&mut self, end: u64) {
        if self.runs.is_empty() && end <= self.wanted.start {
            self.next = end;
        }
    }

    /// Takes from the budget for reading a block that tells of the file's blocks from `first` on.
    pub(super) fn spend(&mut self, first: u64) -> Flow {
        match self.budget.checked_sub(1) {
            Some(rest) => {
                self.budget = rest;
                if let Some(count) = self.tally.as_mut().filter(|_| first < self.wanted.end) {
                    *count = count.saturating_add(1);
                }
                Flow::Continue(())
            }
            None => {
                // A tree of nothing but itself could otherwise be followed for hours, a part at a time.
                if self.pushed >= NODES / 4 {
                    self.zeros_to(first);
                }
                Flow::Break(())
            }
        }
    }

    /// Adds a run; what lies between the one before and this one is a hole.
    pub(super) fn push(&mut self, run: Run) -> Flow {
        self.pushed = self.pushed.saturating_add(1);
        if let Some(count) = &mut self.tally {
            let inside = run.end().min(self.wanted.end).saturating_sub(run.first);
            *count = count.saturating_add(inside);
            return if run.end() < self.wanted.end {
                Flow::Continue(())
            } else {
                Flow::Break(())
            };
        }
        self.zeros_to(run.first);
        if self.next >= self.wanted.end {
            return Flow::Break(());
        }
        self.add(run);
        if self.next >= self.wanted.end || self.runs.len() >= MAX_EXTENTS {
            return Flow::Break(());
        }
        Flow::Continue(())
    }

    fn zeros_to(&mut self, end: u64) {
        let len = end.saturating_sub(self.next);
        if len > 0 && self.tally.is_none() {
            let first = self.next;
            self.add(Run {
                first,
                len,
                target: None,
            });
        }
    }

    fn add(&mut self, run: Run) {
        self.next = run.end();
        if let Some(last) = self.runs.last_mut() {
            let follows = match (last.target, run.target) {
                (None, None) => true,
                (Some(last_at), Some(at)) => last_at.checked_add(last.len) == Some(at),
                _ => false,
            };
            if follows {
                last.len = last.len.saturating_add(run.len);
                return;
            }
        }
        self.runs.push(run);
    }
}

/// Runs that hold the blocks `wanted` of a file, the first of which contains `wanted.start`; possibly fewer than asked for.
///
/// # Errors
/// `Corrupt` if the damage is met before anything is known of the first block.
pub(super) fn runs(disk: &Disk, node: &Node, wanted: Range<u64>) -> Result<Vec<Run>> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let start = wanted.start;
    let mut found = Runs::new(wanted);
    let walked = if let Some(flow) = disk.fast.walk(node.number, &mut found) {
        Ok(flow)
    } else if node.has(EXTENTS_FL) {
        extent_tree::walk(disk, node, &mut found)
    } else {
        block_map::walk(disk, node, &mut found)
    };
    if matches!(walked, Ok(Flow::Continue(()))) {
        // The tree ends here, so all that follows is a hole.
        found.zeros_to(u64::MAX);
    }
    let known = found.runs.first().is_some_and(|first| first.first <= start)
        && found.runs.last().is_some_and(|last| start < last.end());
    match walked {
        // Damage further on is told to him who asks for what lies there.
        _ if known => {
            found.runs.retain(|run| start < run.end());
            Ok(found.runs)
        }
        Err(error) => Err(error),
        Ok(_) => Err(node.corrupt("its block map is too large")),
    }
}

/// Reads `buf.len()` bytes of a file's content from `offset` on, whatever its size says; holes are zeros.
///
/// # Errors
/// As [`runs`] and [`Disk::read`].
pub(super) fn read(disk: &Disk, node: &Node, offset: u64, buf: &mut [u8]) -> Result<()> {
    let block_size = disk.sb.block_size;
    let end = offset.saturating_add(to_u64(buf.len()));
    let mut at = offset;
    while at < end {
        for run in runs(disk, node, at / block_size..end.div_ceil(block_size))? {
            let run_end = run.end().saturating_mul(block_size).min(end);
            if run_end <= at {
                continue;
            }
            let part = to_usize(at.saturating_sub(offset))..to_usize(run_end.saturating_sub(offset));
            let Some(part) = buf.get_mut(part) else { break };
            match run.target {
                Some(target) => {
                    let into = at.saturating_sub(run.first.saturating_mul(block_size));
                    disk.read(disk.byte_of(target).saturating_add(into), part)?;
                }
                None => part.fill(0),
            }
            at = run_end;
            if at >= end {
                break;
            }
        }
    }
    Ok(())
}
