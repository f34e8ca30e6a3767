//! The area of fast commits: small records of what changed since the last transaction, which recovery does again.

use super::log::Log;
use super::record::JournalSuperblock;
use crate::bytes::{le_u16, le_u32, to_u64};
use crate::checksum::crc32c;
use crate::fs::Result;

/// Most records that are done again.
const MOST_RECORDS: usize = 1 << 18;
/// Most bytes of names and inodes in them.
const MOST_BYTES: usize = 64 << 20;

/// A change.
///
/// # Source
/// Linux Documentation/filesystems/ext4/journal.rst, "Fast Commits"; fs/ext4/fast_commit.h.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Change {
    /// `EXT4_FC_TAG_INODE`: the fields of an inode, without what `i_block` holds.
    Inode { number: u64, raw: Vec<u8> },
    /// `EXT4_FC_TAG_ADD_RANGE`: blocks of a file have a place, or `None` if they were not written.
    AddRange {
        number: u64,
        first: u64,
        len: u64,
        target: Option<u64>,
    },
    /// `EXT4_FC_TAG_DEL_RANGE`: blocks of a file have none any more.
    DelRange { number: u64, first: u64, len: u64 },
    /// `EXT4_FC_TAG_CREAT`: a new inode has a name.
    Create { parent: u64, number: u64, name: Vec<u8> },
    /// `EXT4_FC_TAG_LINK`: an inode has one more name.
    Link { parent: u64, number: u64, name: Vec<u8> },
    /// `EXT4_FC_TAG_UNLINK`: a name is gone.
    Unlink { parent: u64, number: u64, name: Vec<u8> },
}

/// A record: tag, value, and all its bytes.
struct Record<'a> {
    tag: u16,
    value: &'a [u8],
    bytes: &'a [u8],
}

fn record(block: &[u8], at: usize) -> Option<Record<'_>> {
    let rest = block.get(at..)?;
    let len = usize::from(le_u16(rest, 2)?);
    let end = len.checked_add(4)?;
    Some(Record {
        tag: le_u16(rest, 0)?,
        value: rest.get(4..end)?,
        bytes: rest.get(..end)?,
    })
}

/// Changes of the commits that follow transaction `sequence - 1` and are whole, in order.
///
/// # Errors
/// `Image`.
pub(super) fn changes(superblock: &JournalSuperblock, log: &mut Log<'_>, sequence: u32) -> Result<Vec<Change>> {
    const PAD: u16 = 7;
    const TAIL: u16 = 8;
    const HEAD: u16 = 9;
    let mut whole = Vec::new();
    let mut pending = Vec::new();
    let (mut sum, mut bytes) = (0_u32, 0_usize);
    for index in 0..superblock.fast_commit_blocks {
        // The first block of the area is not used.
        let at = superblock.last.saturating_add(index).saturating_add(1);
        let Some(block) = log.block(at)? else { return Ok(whole) };
        let mut at = 0;
        while let Some(found) = record(block, at) {
            at = at.saturating_add(found.bytes.len());
            if index == 0 && at == found.bytes.len() && found.tag != HEAD {
                return Ok(whole);
            }
            match found.tag {
                HEAD if le_u32(found.value, 0) != Some(0) || le_u32(found.value, 4) != Some(sequence) => {
                    return Ok(whole);
                }
                HEAD | PAD => sum = crc32c(sum, found.bytes),
                TAIL => {
                    sum = crc32c(sum, found.bytes.get(..8).unwrap_or_default());
                    if le_u32(found.value, 0) != Some(sequence) || le_u32(found.value, 4) != Some(sum) {
                        return Ok(whole);
                    }
                    whole.append(&mut pending);
                    sum = 0;
                }
                _ => {
                    let Some(change) = change(&found) else { return Ok(whole) };
                    sum = crc32c(sum, found.bytes);
                    bytes = bytes.saturating_add(found.bytes.len());
                    pending.push(change);
                    if whole.len().saturating_add(pending.len()) > MOST_RECORDS || bytes > MOST_BYTES {
                        return Ok(whole);
                    }
                }
            }
        }
    }
    Ok(whole)
}

fn change(record: &Record<'_>) -> Option<Change> {
    let value = record.value;
    let u32_at = |at| le_u32(value, at).map(u64::from);
    let named = || Some((u32_at(0)?, u32_at(4)?, value.get(8..)?.to_vec()));
    Some(match record.tag {
        1 => {
            let len = le_u16(value, 8)?;
            let start = u32_at(12)? | u64::from(le_u16(value, 10)?) << 32;
            let is_unwritten = len > 0x8000;
            Change::AddRange {
                number: u32_at(0)?,
                first: u32_at(4)?,
                len: u64::from(if is_unwritten { len.saturating_sub(0x8000) } else { len }),
                target: (!is_unwritten).then_some(start),
            }
        }
        2 => Change::DelRange {
            number: u32_at(0)?,
            first: u32_at(4)?,
            len: u32_at(8)?,
        },
        3 => named().map(|(parent, number, name)| Change::Create { parent, number, name })?,
        4 => named().map(|(parent, number, name)| Change::Link { parent, number, name })?,
        5 => named().map(|(parent, number, name)| Change::Unlink { parent, number, name })?,
        6 if to_u64(value.len()) >= 4 + 128 => Change::Inode {
            number: u32_at(0)?,
            raw: value.get(4..)?.to_vec(),
        },
        _ => return None,
    })
}
