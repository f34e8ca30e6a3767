//! Block maps of ext2 and ext3: twelve blocks in the inode, then blocks of block numbers up to three deep.

use super::disk::{Disk, corrupt};
use super::inode::Node;
use super::mapping::{Flow, Run, Runs};
use crate::bytes::{le_u32, to_u64, to_usize};
use crate::fs::Result;

/// Blocks named in the inode itself.
const DIRECT: usize = 12;

/// Collects the runs of a file.
///
/// # Source
/// Linux Documentation/filesystems/ext4/ifork.rst, "Direct/Indirect Block Addressing".
///
/// # Errors
/// `Corrupt` where a block number lies outside the volume.
pub(super) fn walk(disk: &Disk, node: &Node, runs: &mut Runs) -> Result<Flow> {
    let fan = disk.sb.block_size / 4;
    let mut first = 0_u64;
    for (slot, index) in node.i_block().as_chunks::<4>().0.iter().zip(0_usize..) {
        let level = u32::try_from(index.saturating_sub(DIRECT.saturating_sub(1))).unwrap_or(0);
        let span = fan.saturating_pow(level);
        let pointer = Pointer {
            block: u64::from(u32::from_le_bytes(*slot)),
            level,
            first,
            span,
        };
        if follow(disk, node, &pointer, runs)?.is_break() {
            return Ok(Flow::Break(()));
        }
        first = first.saturating_add(span);
    }
    Ok(Flow::Continue(()))
}

/// A number that stands for `span` blocks of the file from `first` on.
struct Pointer {
    /// The block; 0 for a hole.
    block: u64,
    /// How many blocks of block numbers are on the way to content.
    level: u32,
    first: u64,
    span: u64,
}

fn follow(disk: &Disk, node: &Node, pointer: &Pointer, runs: &mut Runs) -> Result<Flow> {
    let end = pointer.first.saturating_add(pointer.span);
    if end <= runs.wanted.start {
        runs.pass(end);
        return Ok(Flow::Continue(()));
    }
    if pointer.block == 0 {
        return Ok(Flow::Continue(()));
    }
    if !disk.holds(pointer.block, 1) {
        let what = format!("the block map of inode {}", node.number);
        return Err(corrupt(what, disk.byte_of(pointer.block)));
    }
    if pointer.level == 0 {
        return Ok(runs.push(Run {
            first: pointer.first,
            len: 1,
            target: Some(pointer.block),
        }));
    }
    if runs.spend(pointer.first).is_break() {
        return Ok(Flow::Break(()));
    }
    let bytes = disk.block(pointer.block)?;
    let fan = to_u64(bytes.len()) / 4;
    let span = (pointer.span / fan).max(1);
    let skip = runs.wanted.start.saturating_sub(pointer.first) / span;
    runs.pass(pointer.first.saturating_add(skip.saturating_mul(span)));
    for index in skip..fan {
        let below = Pointer {
            block: le_u32(&bytes, to_usize(index.saturating_mul(4))).map_or(0, u64::from),
            level: pointer.level.saturating_sub(1),
            first: pointer.first.saturating_add(index.saturating_mul(span)),
            span,
        };
        if follow(disk, node, &below, runs)?.is_break() {
            return Ok(Flow::Break(()));
        }
    }
    Ok(Flow::Continue(()))
}
