//! Targets of symbolic links: in the inode, or in up to three runs of blocks outside it.

use super::bmap;
use super::disk::{Disk, Header, corrupt};
use super::inode::{Dinode, Fork, Format};
use crate::bytes::{be_u32, to_u64, to_usize};
use crate::fs::Result;

/// Longest target.
const MAX_LEN: u64 = 1024;
/// Most runs: three blocks of 512 bytes hold 1024 bytes and their headers.
const MAX_RUNS: usize = 3;
/// `XSLM`.
const MAGIC: u32 = 0x5853_4c4d;
/// Bytes of `struct xfs_dsymlink_hdr`, which version 5 puts before each run.
const HEADER: usize = 56;

/// Reads the target of a symbolic link.
///
/// # Errors
/// `Corrupt`.
///
/// # Source
/// XFS Algorithms & Data Structures, "Symbolic Links".
pub(super) fn target(disk: &Disk, inode: &Dinode) -> Result<Vec<u8>> {
    if inode.size == 0 || inode.size > MAX_LEN {
        return Err(inode.corrupt("the length of its target is impossible"));
    }
    let len = to_usize(inode.size);
    if inode.format(Fork::Data)? == Some(Format::Local) {
        let target = inode.fork(Fork::Data).get(..len);
        return Ok(target.ok_or_else(|| inode.corrupt("its target does not fit"))?.to_vec());
    }
    let mut target = Vec::with_capacity(len);
    for run in bmap::runs(disk, inode, Fork::Data, 0)?.take(MAX_RUNS) {
        let run = run?;
        // A run was written as one piece: at most what the longest target and its header need.
        let run_len = to_usize(run.len << disk.superblock.block_log);
        let most = len.next_multiple_of(disk.superblock.block_size()) + disk.superblock.block_size();
        let piece = disk.read(run.at, run_len.min(most))?;
        let room = len.saturating_sub(target.len());
        target.extend_from_slice(piece_of(disk, inode, &piece, run.at, target.len(), room)?);
        if target.len() >= len {
            return Ok(target);
        }
    }
    Err(inode.corrupt("its target is cut off"))
}

/// The part of the target in one run, at most `room` bytes.
fn piece_of<'a>(disk: &Disk, inode: &Dinode, piece: &'a [u8], at: u64, done: usize, room: usize) -> Result<&'a [u8]> {
    if !disk.superblock.checksums {
        return Ok(piece.get(..room.min(piece.len())).unwrap_or_default());
    }
    disk.verify(piece, Header::REMOTE, at, inode.number, "the target")?;
    let here = piece.get(HEADER..).unwrap_or_default();
    let here = here.get(..room.min(here.len())).unwrap_or_default();
    let offset = be_u32(piece, 4).map(u64::from);
    let bytes = be_u32(piece, 8).map(u64::from);
    if be_u32(piece, 0) != Some(MAGIC) || offset != Some(to_u64(done)) || bytes != Some(to_u64(here.len())) {
        return Err(corrupt(format!("the target of inode {}", inode.number), at));
    }
    Ok(here)
}
