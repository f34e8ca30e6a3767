//! Directories: listing by position, in large reads, and finding a name by looking at all of them.

use std::ops::ControlFlow;

use super::dirent::{Broken, Entries, Entry, record_len};
use super::disk::{Disk, corrupt};
use super::fast_commit::Said;
use super::features::Incompat;
use super::inode::{INDEX_FL, Node};
use super::names::Names;
use super::{fold, inline_data, mapping};
use crate::bytes::{le_u16, le_u32, to_u64, to_usize};
use crate::checksum::crc32c;
use crate::fs::{DirEntry, Error, Inode, Result};

/// Bytes of a directory read at once.
const PIECE: u64 = 128 << 10;
/// Bytes read at once for the first part of an answer, which is often all of it.
const FIRST_PIECE: u64 = 32 << 10;
/// Most bytes of a directory that one question reads.
const MOST_BYTES: u64 = 1 << 30;

/// Gives the entries after `cookie`, which is the position in the directory's bytes after an entry.
///
/// What a damaged block hides is left out, and told with the error that comes after the other blocks.
///
/// # Errors
/// `Corrupt`; `Image`.
pub(super) fn read(
    disk: &Disk,
    node: &Node,
    cookie: u64,
    visit: &mut dyn FnMut(&Entry<'_>, u64) -> ControlFlow<()>,
) -> Result<()> {
    let Some(edits) = disk.fast.directory(node.number) else {
        return read_stored(disk, node, cookie, visit);
    };
    let mut stopped = false;
    let stored = if edits.is_new() {
        Ok(())
    } else {
        read_stored(disk, node, cookie, &mut |entry, next| {
            let flow = match edits.of(entry.name) {
                Said::Nothing => visit(entry, next),
                Said::Gone | Said::Here(_) => ControlFlow::Continue(()),
            };
            stopped = flow.is_break();
            flow
        })
    };
    if stopped {
        return stored;
    }
    for (name, inode, next) in edits.added(cookie) {
        let (kind, end) = (0, 0);
        if visit(&Entry { inode, name, kind, end }, next).is_break() {
            break;
        }
    }
    stored
}

/// The entries on the volume.
fn read_stored(
    disk: &Disk,
    node: &Node,
    cookie: u64,
    visit: &mut dyn FnMut(&Entry<'_>, u64) -> ControlFlow<()>,
) -> Result<()> {
    if node.has_inline_data() {
        return inline_data::read_dir(node, cookie, visit);
    }
    let block_size = disk.sb.block_size;
    let size = to_u64(disk.block_size());
    let mut damage = None;
    let mut hurt = |error: Error| {
        disk.remember(node.number, &error);
        damage.get_or_insert(error);
    };
    let mut left = MOST_BYTES;
    let mut seen = |index: u64, bytes: &[u8]| -> Result<ControlFlow<()>> {
        if let Err(error) = check_block(disk, node, index, bytes) {
            hurt(error);
            return Ok(ControlFlow::Continue(()));
        }
        let base = index.saturating_mul(size);
        for entry in Entries::new(bytes) {
            match entry {
                Ok(entry) => {
                    let next = base.saturating_add(to_u64(entry.end));
                    if next > cookie && entry.is_listed() && visit(&entry, next).is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
                Err(Broken { at }) => {
                    let what = format!("directory inode {} (an entry)", node.number);
                    hurt(corrupt(what, base.saturating_add(to_u64(at))));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    };
    let total = node.size / block_size;
    let mut at = cookie / block_size;
    let mut piece = FIRST_PIECE;
    let mut buf = Vec::new();
    while at < total {
        let wanted = at..at.saturating_add((piece / block_size).max(1)).min(total);
        let runs = mapping::runs(disk, node, wanted.clone())?;
        for run in runs {
            let end = run.end().min(total);
            let Some(target) = run.target else {
                // The kernel passes over holes too.
                at = at.max(end);
                continue;
            };
            while at < end {
                let count = end.saturating_sub(at).min((piece / block_size).max(1));
                let bytes = count.saturating_mul(block_size);
                left = left
                    .checked_sub(bytes)
                    .ok_or_else(|| node.corrupt("a directory without end"))?;
                buf.resize(to_usize(bytes), 0);
                disk.read(
                    disk.byte_of(target.saturating_add(at.saturating_sub(run.first))),
                    &mut buf,
                )?;
                for (block, index) in buf.chunks_exact(disk.block_size()).zip(at..) {
                    if seen(index, block)?.is_break() {
                        return Ok(());
                    }
                }
                at = at.saturating_add(count);
                piece = PIECE;
            }
        }
    }
    // Whoever lists in parts may have seen no damage in this part.
    let before = || if cookie > 0 { disk.remembered(node.number) } else { None };
    damage.or_else(before).map_or(Ok(()), Err)
}

/// Finds a name by reading the directory: exact, then with the directory's folding of case.
///
/// # Errors
/// As [`read`], if the name was not found before.
pub(super) fn find(disk: &Disk, node: &Node, name: &[u8]) -> Result<Option<Inode>> {
    let folds = fold::applies(disk, node);
    let mut exact = None;
    let mut folded = None;
    let names = Names::of(disk, node)?;
    let read = read(disk, node, 0, &mut |entry, _| {
        if *names.shown(entry.name) == *name {
            exact = Some(entry.inode);
            return ControlFlow::Break(());
        }
        if folds && folded.is_none() && fold::same(entry.name, name) {
            folded = Some(entry.inode);
        }
        ControlFlow::Continue(())
    });
    match (exact.or(folded), read) {
        (Some(inode), _) => Ok(Some(Inode(u64::from(inode)))),
        (None, Ok(())) => Ok(None),
        (None, Err(error)) => Err(error),
    }
}

/// Gives the entries after `cookie` as users see them.
///
/// # Errors
/// As [`read`].
pub(super) fn list(disk: &Disk, node: &Node, cookie: u64, visit: &mut dyn FnMut(DirEntry<'_>) -> bool) -> Result<()> {
    let names = Names::of(disk, node)?;
    let has_type = disk.sb.features.incompat(Incompat::FileType);
    read(disk, node, cookie, &mut |entry, next| {
        let more = visit(DirEntry {
            name: &names.shown(entry.name),
            inode: Inode(u64::from(entry.inode)),
            file_type: if has_type { entry.file_type() } else { None },
            next,
        });
        if more {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    })
}

/// Checks the sum of a directory block: at its end for entries, behind the room for entries in blocks of the tree.
///
/// # Source
/// Linux Documentation/filesystems/ext4/directory.rst, `struct ext4_dir_entry_tail`, `struct dx_tail`.
///
/// # Errors
/// `Corrupt`.
pub(super) fn check_block(disk: &Disk, node: &Node, index: u64, bytes: &[u8]) -> Result<()> {
    if !disk.sb.has_metadata_csum() {
        return Ok(());
    }
    let holds = match tree_offset(bytes).filter(|_| node.has(INDEX_FL)) {
        Some(offset) => tree_sum_holds(node, bytes, offset),
        None => leaf_sum_holds(node, bytes),
    };
    if holds == Some(true) {
        return Ok(());
    }
    let what = format!("block {index} of directory inode {} (its checksum)", node.number);
    Err(corrupt(what, 0)).map_err(|error| place(error, disk, node, index))
}

/// Puts the place of a directory's block into an error, where it can be told.
fn place(error: Error, disk: &Disk, node: &Node, index: u64) -> Error {
    let runs = mapping::runs(disk, node, index..index.saturating_add(1));
    let target = runs.ok().and_then(|runs| runs.first().copied());
    match (error, target) {
        (Error::Corrupt { what, .. }, Some(run)) => {
            let into = index.saturating_sub(run.first);
            corrupt(
                what,
                run.target.map_or(0, |target| disk.byte_of(target.saturating_add(into))),
            )
        }
        (error, _) => error,
    }
}

/// Where the entries of the tree begin in a block that looks like one of a tree of hashes.
pub(super) fn tree_offset(bytes: &[u8]) -> Option<usize> {
    let first = record_len(le_u16(bytes, 4)?, bytes.len());
    if first == bytes.len() {
        return (le_u32(bytes, 0)? == 0).then_some(8);
    }
    let second = record_len(le_u16(bytes, 16)?, bytes.len());
    let is_root = first == 12 && second.checked_add(12)? == bytes.len();
    (is_root && le_u32(bytes, 24)? == 0 && *bytes.get(29)? == 8).then_some(32)
}

fn tree_sum_holds(node: &Node, bytes: &[u8], offset: usize) -> Option<bool> {
    let limit = usize::from(le_u16(bytes, offset)?);
    let count = usize::from(le_u16(bytes, offset.checked_add(2)?)?);
    let tail = offset.checked_add(limit.checked_mul(8)?)?;
    let used = bytes.get(..offset.checked_add(count.checked_mul(8)?)?)?;
    let found = le_u32(bytes, tail.checked_add(4)?)?;
    let sum = crc32c(node.csum_seed, used);
    let sum = crc32c(sum, bytes.get(tail..tail.checked_add(4)?)?);
    Some(found == crc32c(sum, &[0; 4]))
}

fn leaf_sum_holds(node: &Node, bytes: &[u8]) -> Option<bool> {
    let tail = bytes.len().checked_sub(12)?;
    let is_tail = le_u32(bytes, tail)? == 0 && le_u32(bytes, tail.checked_add(4)?)? == 0xde00_000c;
    let found = le_u32(bytes, tail.checked_add(8)?)?;
    Some(is_tail && found == crc32c(node.csum_seed, bytes.get(..tail)?))
}
