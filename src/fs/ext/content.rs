//! Where a regular file's bytes lie, with the journal's newer copies of its blocks in their places; and targets of links.

use std::ops::Range;
use std::sync::Arc;

use super::disk::Disk;
use super::inode::{ENCRYPT_FL, EXTENTS_FL, Node};
use super::mapping::{self, Run};
use super::overlay::Copy;
use super::{features, inline_data, names};
use crate::bytes::{le_u16, to_u64, to_usize};
use crate::fs::{Error, Extent, MAX_EXTENTS, Place, Result};

/// Most blocks in one answer that are given as bytes, because the journal's copy of them is not exactly what they are.
const MAX_ESCAPED: usize = 16;
/// Longest target of a link.
const PATH_MAX: u64 = 4095;

/// Extents of a regular file, as [`FileSystem::extents`](crate::fs::FileSystem::extents).
///
/// # Errors
/// `Corrupt`, `Encrypted`.
pub(super) fn extents(disk: &Disk, node: &Node, range: Range<u64>) -> Result<Vec<Extent>> {
    if node.has(ENCRYPT_FL) {
        return Err(encrypted(node));
    }
    let end = range.end.min(node.size);
    if range.start >= end {
        return Ok(Vec::new());
    }
    if node.has_inline_data() {
        return inline(node);
    }
    let block_size = disk.sb.block_size;
    let mut found = Vec::new();
    let mut escaped = 0;
    for run in mapping::runs(disk, node, range.start / block_size..end.div_ceil(block_size))? {
        let (parts, is_whole) = split(disk, &run, range.start / block_size);
        for (run, copy) in parts {
            let start = run.first.saturating_mul(block_size);
            let len = run
                .end()
                .saturating_mul(block_size)
                .min(node.size)
                .saturating_sub(start);
            if start.saturating_add(len) <= range.start || len == 0 {
                continue;
            }
            if found.len() >= MAX_EXTENTS || escaped >= MAX_ESCAPED {
                return Ok(found);
            }
            let place = match (run.target, copy) {
                (None, _) => Place::Zeros,
                (Some(target), Some(copy)) if copy.is_escaped => {
                    escaped = escaped.saturating_add(1);
                    let mut bytes = vec![0; to_usize(len)];
                    disk.read(disk.byte_of(target), &mut bytes)?;
                    Place::Inline(bytes.into())
                }
                (Some(_), Some(copy)) => Place::Volume(copy.at),
                (Some(target), None) => Place::Volume(disk.byte_of(target)),
            };
            push(&mut found, Extent { start, len, place });
        }
        if !is_whole {
            break;
        }
    }
    Ok(found)
}

/// Adds an extent, joined with the one before if both are one piece of the volume.
fn push(found: &mut Vec<Extent>, extent: Extent) {
    if let Some(last) = found.last_mut()
        && let (Place::Volume(before), Place::Volume(at)) = (&last.place, &extent.place)
        && before.checked_add(last.len) == Some(*at)
    {
        last.len = last.len.saturating_add(extent.len);
        return;
    }
    found.push(extent);
}

/// Cuts a run, from block `start` of the file on, where blocks have copies in the journal; says whether these parts are all.
fn split(disk: &Disk, run: &Run, start: u64) -> (Vec<(Run, Option<Copy>)>, bool) {
    let Some(target) = run.target.filter(|_| !disk.overlay.is_empty()) else {
        return (vec![(*run, None)], true);
    };
    let part = |from: u64, to: u64| Run {
        first: run.first.saturating_add(from),
        len: to.saturating_sub(from),
        target: Some(target.saturating_add(from)),
    };
    let mut parts = Vec::new();
    let mut at = start.saturating_sub(run.first).min(run.len);
    for (block, copy) in disk
        .overlay
        .within(target.saturating_add(at)..target.saturating_add(run.len))
    {
        let into = block.saturating_sub(target);
        if into > at {
            parts.push((part(at, into), None));
        }
        at = into.saturating_add(1);
        parts.push((part(into, at), Some(copy)));
        if parts.len() > MAX_EXTENTS {
            return (parts, false);
        }
    }
    if at < run.len {
        parts.push((part(at, run.len), None));
    }
    (parts, true)
}

/// Content in the inode; what the size says beyond it reads as zeros.
fn inline(node: &Node) -> Result<Vec<Extent>> {
    let mut bytes = inline_data::content(node)?;
    bytes.truncate(to_usize(node.size));
    let len = to_u64(bytes.len());
    let rest = node.size.saturating_sub(len);
    let mut found = vec![Extent {
        start: 0,
        len,
        place: Place::Inline(Arc::from(bytes)),
    }];
    if rest > 0 {
        found.push(Extent {
            start: len,
            len: rest,
            place: Place::Zeros,
        });
    }
    Ok(found)
}

/// The target of a symbolic link; of an encrypted one the text that the kernel shows without the key.
///
/// # Errors
/// `Corrupt` if it is empty, too long, or has a NUL in it.
pub(super) fn link_target(disk: &Disk, node: &Node) -> Result<Vec<u8>> {
    let bad = || node.corrupt("the target of the symbolic link");
    if node.size == 0 || node.size > PATH_MAX {
        return Err(bad());
    }
    let mut target = if node.has_inline_data() {
        inline_data::content(node)?
    } else if is_fast(disk, node) {
        node.i_block().to_vec()
    } else {
        let mut bytes = vec![0; to_usize(node.size)];
        mapping::read(disk, node, 0, &mut bytes)?;
        bytes
    };
    if to_u64(target.len()) < node.size {
        return Err(bad());
    }
    target.truncate(to_usize(node.size));
    if node.has(ENCRYPT_FL) {
        // The length comes first, in two bytes.
        let end = le_u16(&target, 0).map_or(0, usize::from).saturating_add(2);
        let text = target.get(2..end).filter(|text| !text.is_empty()).ok_or_else(bad)?;
        return Ok(names::without_key((0, 0), text));
    }
    if target.contains(&0) { Err(bad()) } else { Ok(target) }
}

/// Says whether the target is in `i_block`: with ea_inode by its length, before by taking no space but for attributes.
fn is_fast(disk: &Disk, node: &Node) -> bool {
    if disk.sb.features.incompat(features::Incompat::EaInode) {
        return node.size < 60;
    }
    let attributes = if node.file_acl() == 0 {
        0
    } else {
        disk.sb.cluster_size / 512
    };
    !node.has(EXTENTS_FL) && node.sectors(disk) == attributes
}

fn encrypted(node: &Node) -> Error {
    Error::Encrypted {
        what: format!("the content of inode {}", node.number),
    }
}
