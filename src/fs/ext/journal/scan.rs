//! The pass over the log: follows transactions from the oldest to the last whole one, and collects what they wrote and revoked.

use std::collections::HashMap;

use super::log::Log;
use super::record::{self, Head, JournalSuperblock, Kind};
use super::sums;
use crate::bytes::to_u64;
use crate::fs::Result;

/// Most writes and revocations that are collected, and most blocks of the journal's own that are read.
const MOST_RECORDS: u64 = 2 << 20;
/// Most bytes of the log that are read; a sum of whole transactions takes longer, and is of a time of small journals.
const MOST_BYTES: u64 = 8 << 30;
const MOST_SUMMED_BYTES: u64 = 2 << 30;

/// A copy of a block in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Write {
    /// Block of the volume.
    pub(super) block: u64,
    /// Block of the log.
    pub(super) log_block: u64,
    /// Transaction.
    pub(super) sequence: u32,
    /// Sum in the tag.
    pub(super) checksum: u32,
    /// Says whether the block begins with the journal's magic number, which the copy does not.
    pub(super) is_escaped: bool,
}

/// Why the pass ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// After the last transaction that was committed.
    Whole,
    /// At a transaction that was committed and is damaged.
    Damaged,
    /// At the limit of what is replayed.
    TooLarge,
}

/// What the log holds.
#[derive(Debug)]
pub(super) struct Scan {
    /// Copies, oldest first.
    pub(super) writes: Vec<Write>,
    /// Revoked blocks, and the newest transaction that revoked each.
    pub(super) revoked: HashMap<u64, u32>,
    /// Transactions that are whole.
    pub(super) transactions: u64,
    /// The one after them.
    pub(super) sequence: u32,
    /// Why it is not among them.
    pub(super) end: End,
}

/// Says whether one transaction is newer than another; their numbers wrap around.
pub(super) fn is_after(one: u32, other: u32) -> bool {
    let ahead = one.wrapping_sub(other);
    ahead != 0 && ahead < 1 << 31
}

/// The transaction that is being read.
#[derive(Default)]
struct Pending {
    writes: Vec<Write>,
    revoked: Vec<u64>,
    /// CRC-32 of its descriptors and copies so far.
    sum: u32,
    /// Says whether a block of it fails its own sum.
    is_doubtful: bool,
}

impl Pending {
    fn new() -> Self {
        Self {
            sum: !0,
            ..Self::default()
        }
    }
}

impl Scan {
    /// Follows the log.
    ///
    /// # Errors
    /// `Image`.
    pub(super) fn run(superblock: &JournalSuperblock, log: &mut Log<'_>) -> Result<Self> {
        let mut scan = Self {
            writes: Vec::new(),
            revoked: HashMap::new(),
            transactions: 0,
            sequence: superblock.sequence,
            end: End::Whole,
        };
        let mut pending = Pending::new();
        let mut last_commit = (0, 0);
        let mut at = superblock.start;
        // No block of a sound log is met twice.
        let mut left = superblock.last;
        let most_bytes = if superblock.sums_transactions {
            MOST_SUMMED_BYTES
        } else {
            MOST_BYTES
        };
        let most = MOST_RECORDS.min(most_bytes / log.block_size());
        let mut heads = 0_usize;
        while let Some(rest) = left.checked_sub(1) {
            left = rest;
            let Some(block) = log.block(at)?.map(<[u8]>::to_vec) else {
                break;
            };
            at = superblock.wrap(at.saturating_add(1));
            let Some(head) = Head::decode(&block).filter(|head| head.sequence == scan.sequence) else {
                break;
            };
            match head.kind {
                Kind::Descriptor => {
                    pending.is_doubtful |= !sums::descriptor_holds(superblock, &block);
                    let before = pending.writes.len();
                    describe(superblock, log, &block, (head.sequence, at), &mut pending)?;
                    let count = to_u64(pending.writes.len().saturating_sub(before));
                    at = superblock.wrap(at.saturating_add(count));
                    left = left.saturating_sub(count);
                }
                Kind::Revoke => {
                    pending.is_doubtful |= !sums::descriptor_holds(superblock, &block);
                    pending.revoked.extend(record::revoked(superblock, &block));
                }
                Kind::Commit => {
                    let time = record::commit_time(&block);
                    let sound = !pending.is_doubtful
                        && sums::commit_holds(superblock, &block)
                        && (!superblock.sums_transactions || sums::transaction_holds(&block, pending.sum));
                    if !sound {
                        // A commit older than the one before is what an earlier round of the log left there.
                        scan.end = if time < last_commit { End::Whole } else { End::Damaged };
                        return Ok(scan);
                    }
                    last_commit = time;
                    scan.commit(std::mem::replace(&mut pending, Pending::new()));
                }
                Kind::SuperblockV1 | Kind::SuperblockV2 => break,
            }
            let held = scan.writes.len().saturating_add(scan.revoked.len());
            let more = pending.writes.len().saturating_add(pending.revoked.len());
            heads = heads.saturating_add(1);
            if to_u64(held.saturating_add(more).saturating_add(heads)) > most {
                scan.end = End::TooLarge;
                break;
            }
        }
        Ok(scan)
    }

    fn commit(&mut self, pending: Pending) {
        self.writes.extend(pending.writes);
        for block in pending.revoked {
            // Later transactions come later, so the newest stays.
            self.revoked.insert(block, self.sequence);
        }
        self.transactions = self.transactions.saturating_add(1);
        self.sequence = self.sequence.wrapping_add(1);
    }
}

/// Adds the copies that a descriptor lists; the first is at block `first` of the log.
fn describe(
    superblock: &JournalSuperblock,
    log: &mut Log<'_>,
    block: &[u8],
    (sequence, first): (u32, u64),
    pending: &mut Pending,
) -> Result<()> {
    if superblock.sums_transactions {
        pending.sum = sums::crc32_be(pending.sum, block);
    }
    for (tag, index) in record::tags(superblock, block).into_iter().zip(0_u64..) {
        let log_block = superblock.wrap(first.saturating_add(index));
        if superblock.sums_transactions
            && let Some(data) = log.block(log_block)?
        {
            pending.sum = sums::crc32_be(pending.sum, data);
        }
        pending.writes.push(Write {
            block: tag.block,
            log_block,
            sequence,
            checksum: tag.checksum,
            is_escaped: tag.is_escaped,
        });
    }
    Ok(())
}
