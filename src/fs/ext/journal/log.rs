//! The log as numbered blocks, read ahead in large pieces.

use super::super::disk::Disk;
use super::super::inode::Node;
use super::super::mapping::{self, Run};
use crate::bytes::{to_u64, to_usize};
use crate::fs::Result;

/// Bytes read at once.
const PIECE: u64 = 256 << 10;
/// Most pieces that a journal may be in.
const MOST_RUNS: usize = 1 << 16;

/// The blocks of the journal's inode.
pub(super) struct Log<'a> {
    disk: &'a Disk,
    runs: Vec<Run>,
    len: u64,
    window: Vec<u8>,
    window_first: u64,
}

impl<'a> Log<'a> {
    /// Finds out where the blocks of the journal lie.
    ///
    /// # Errors
    /// `Corrupt`, `Image`.
    pub(super) fn open(disk: &'a Disk, node: &Node) -> Result<Self> {
        // The kernel's largest journal has fewer blocks than 2^32.
        let len = (node.size / disk.sb.block_size).min(u64::from(u32::MAX));
        let mut runs: Vec<Run> = Vec::new();
        let mut at = 0;
        while at < len {
            let more = mapping::runs(disk, node, at..len)?;
            let Some(end) = more.last().map(Run::end).filter(|end| *end > at) else {
                break;
            };
            runs.extend(more);
            at = end;
            if runs.len() > MOST_RUNS {
                return Err(node.corrupt("the journal is in too many pieces"));
            }
        }
        Ok(Self {
            disk,
            runs,
            len,
            window: Vec::new(),
            window_first: 0,
        })
    }

    /// Number of blocks.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Bytes of a block.
    pub(super) fn block_size(&self) -> u64 {
        self.disk.sb.block_size
    }

    /// The run with a block of the log, and the block of the volume that it is.
    fn target(&self, block: u64) -> Option<(Run, u64)> {
        let index = self.runs.partition_point(|run| run.end() <= block);
        let run = self
            .runs
            .get(index)
            .filter(|run| run.first <= block && block < self.len)?;
        let target = run.target?.checked_add(block.checked_sub(run.first)?)?;
        Some((*run, target))
    }

    /// Byte of the volume at which a block of the log begins.
    pub(super) fn place(&self, block: u64) -> Option<u64> {
        self.target(block).map(|(_, target)| self.disk.byte_of(target))
    }

    /// The bytes of a block of the log; `None` if there is no such block.
    ///
    /// # Errors
    /// `Image`.
    pub(super) fn block(&mut self, block: u64) -> Result<Option<&[u8]>> {
        let size = self.disk.sb.block_size;
        let held = to_u64(self.window.len()) / size;
        if block < self.window_first || block >= self.window_first.saturating_add(held) {
            let Some((run, target)) = self.target(block) else {
                return Ok(None);
            };
            let count = run.end().min(self.len).saturating_sub(block).min((PIECE / size).max(1));
            self.window.resize(to_usize(count.saturating_mul(size)), 0);
            self.window_first = block;
            let read = self.disk.read(self.disk.byte_of(target), &mut self.window);
            if let Err(error) = read {
                self.window.clear();
                return Err(error);
            }
        }
        let from = to_usize(block.saturating_sub(self.window_first).saturating_mul(size));
        Ok(self.window.get(from..from.saturating_add(to_usize(size))))
    }
}
