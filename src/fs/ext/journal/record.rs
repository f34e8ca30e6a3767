//! The journal's own blocks: superblock, heads, tags of descriptors and lists of revoked blocks; all big-endian.

use super::super::disk::corrupt;
use super::super::overlay::JBD2_MAGIC;
use super::sums;
use crate::bytes::{be_u16, be_u32, be_u64, field, to_u64};
use crate::fs::{Error, Result};

/// `JBD2_FEATURE_COMPAT_CHECKSUM`: commit blocks hold a CRC-32 of all blocks of their transaction.
const COMPAT_CHECKSUM: u32 = 0x1;
/// `JBD2_FEATURE_INCOMPAT_64BIT`.
const INCOMPAT_64BIT: u32 = 0x2;
/// `JBD2_FEATURE_INCOMPAT_CSUM_V2`.
const INCOMPAT_CSUM_V2: u32 = 0x8;
/// `JBD2_FEATURE_INCOMPAT_CSUM_V3`.
const INCOMPAT_CSUM_V3: u32 = 0x10;
/// `JBD2_FEATURE_INCOMPAT_FAST_COMMIT`.
const INCOMPAT_FAST_COMMIT: u32 = 0x20;
/// Revocations, 64bit, asynchronous commits, both sums, fast commits.
const KNOWN_INCOMPAT: u32 = 0x3f;
/// `JBD2_DEFAULT_FAST_COMMIT_BLOCKS`.
const FAST_COMMIT_BLOCKS: u64 = 256;
/// Length of the head of every block of the journal's own.
const HEAD: usize = 12;

/// Which sums the journal's blocks carry, and so how long tags are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// None.
    Plain,
    /// CRC-32C, of which tags hold half.
    CsumV2,
    /// CRC-32C, and tags of 16 bytes.
    CsumV3,
}

/// What the journal says of itself.
///
/// # Source
/// Linux Documentation/filesystems/ext4/journal.rst, `struct journal_superblock_s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct JournalSuperblock {
    /// First block of the log that is not the superblock.
    pub(super) first: u64,
    /// Block after the last of the log, where fast commits begin.
    pub(super) last: u64,
    /// Blocks for fast commits.
    pub(super) fast_commit_blocks: u64,
    /// Number of the oldest transaction to replay.
    pub(super) sequence: u32,
    /// Where it begins; 0 if there is none.
    pub(super) start: u64,
    /// Sums.
    pub(super) format: Format,
    /// Says whether block numbers have 64 bits.
    pub(super) is_64bit: bool,
    /// Says whether commit blocks hold a CRC-32 of their transaction.
    pub(super) sums_transactions: bool,
    /// Where CRC-32C sums of this journal begin.
    pub(super) csum_seed: u32,
}

impl JournalSuperblock {
    /// Decodes block 0 of a journal of `len` blocks.
    ///
    /// # Errors
    /// `Corrupt`, `Unsupported`.
    pub(super) fn decode(block: &[u8], block_size: u64, len: u64) -> Result<Self> {
        let bad = |what: &str| corrupt(format!("the journal's superblock ({what})"), 0);
        let head = Head::decode(block).ok_or_else(|| bad("its magic number"))?;
        let u32_at = |at| be_u32(block, at).unwrap_or_default();
        let (compat, incompat) = match head.kind {
            Kind::SuperblockV1 => (0, 0),
            Kind::SuperblockV2 => (u32_at(36), u32_at(40)),
            _ => return Err(bad("its type")),
        };
        if incompat & !KNOWN_INCOMPAT != 0 {
            return Err(Error::Unsupported {
                feature: format!("feature {:#x} of the journal", incompat & !KNOWN_INCOMPAT),
            });
        }
        let format = if incompat & INCOMPAT_CSUM_V3 != 0 {
            Format::CsumV3
        } else if incompat & INCOMPAT_CSUM_V2 != 0 {
            Format::CsumV2
        } else {
            Format::Plain
        };
        if format != Format::Plain && !sums::superblock_holds(block) {
            return Err(bad("its checksum"));
        }
        let fast_commit_blocks = match (incompat & INCOMPAT_FAST_COMMIT != 0, u64::from(u32_at(84))) {
            (false, _) => 0,
            (true, 0) => FAST_COMMIT_BLOCKS,
            (true, blocks) => blocks,
        };
        let max_len = u64::from(u32_at(16));
        let last = max_len
            .checked_sub(fast_commit_blocks)
            .ok_or_else(|| bad("its length"))?;
        let first = u64::from(u32_at(20));
        let start = u64::from(u32_at(28));
        if u64::from(u32_at(12)) != block_size {
            return Err(bad("its block size"));
        }
        if first == 0 || first >= last || max_len > len || start >= last || (start != 0 && start < first) {
            return Err(bad("its length"));
        }
        Ok(Self {
            first,
            last,
            fast_commit_blocks,
            sequence: u32_at(24),
            start,
            format,
            is_64bit: incompat & INCOMPAT_64BIT != 0,
            sums_transactions: compat & COMPAT_CHECKSUM != 0,
            csum_seed: crate::checksum::crc32c(!0, &field::<16>(block, 48).unwrap_or_default()),
        })
    }

    /// The block of the log after `block`, which may be up to one round beyond the end.
    pub(super) fn wrap(&self, block: u64) -> u64 {
        if block < self.last {
            return block;
        }
        let round = self.last.saturating_sub(self.first).max(1);
        self.first.saturating_add(block.saturating_sub(self.last) % round)
    }

    /// Bytes of sums at the end of descriptors and lists of revoked blocks.
    fn tail(&self) -> usize {
        if self.format == Format::Plain { 0 } else { 4 }
    }
}

/// Types of the journal's own blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Descriptor,
    Commit,
    SuperblockV1,
    SuperblockV2,
    Revoke,
}

/// How a block of the journal's own begins.
///
/// # Source
/// Linux Documentation/filesystems/ext4/journal.rst, `struct journal_header_s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) kind: Kind,
    pub(super) sequence: u32,
}

impl Head {
    /// Decodes the head; `None` if the block is none of the journal's own.
    pub(super) fn decode(block: &[u8]) -> Option<Self> {
        if be_u32(block, 0)? != JBD2_MAGIC {
            return None;
        }
        let kind = match be_u32(block, 4)? {
            1 => Kind::Descriptor,
            2 => Kind::Commit,
            3 => Kind::SuperblockV1,
            4 => Kind::SuperblockV2,
            5 => Kind::Revoke,
            _ => return None,
        };
        Some(Self {
            kind,
            sequence: be_u32(block, 8)?,
        })
    }
}

/// What a descriptor says of one of the blocks that follow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tag {
    /// Block of the volume.
    pub(super) block: u64,
    /// Says whether its first four bytes were replaced by zeros.
    pub(super) is_escaped: bool,
    /// Sum of its content: 32 bits, or the lower 16.
    pub(super) checksum: u32,
}

/// Tags of a descriptor, in the order of the blocks that follow it.
///
/// # Source
/// Linux Documentation/filesystems/ext4/journal.rst, `struct journal_block_tag3_s`, `struct journal_block_tag_s`.
pub(super) fn tags(superblock: &JournalSuperblock, block: &[u8]) -> Vec<Tag> {
    const ESCAPE: u32 = 1;
    const SAME_UUID: u32 = 2;
    const LAST_TAG: u32 = 8;
    let mut tags = Vec::new();
    let mut rest = block
        .get(HEAD..block.len().saturating_sub(superblock.tail()))
        .unwrap_or_default();
    loop {
        let parsed = match superblock.format {
            Format::CsumV3 => tag3(superblock, rest),
            Format::CsumV2 | Format::Plain => tag(superblock, rest),
        };
        let Some((block, flags, checksum, len)) = parsed else {
            return tags;
        };
        tags.push(Tag {
            block,
            is_escaped: flags & ESCAPE != 0,
            checksum,
        });
        let len = if flags & SAME_UUID == 0 {
            len.saturating_add(16)
        } else {
            len
        };
        match rest.get(len..) {
            Some(more) if flags & LAST_TAG == 0 => rest = more,
            _ => return tags,
        }
    }
}

fn tag3(superblock: &JournalSuperblock, raw: &[u8]) -> Option<(u64, u32, u32, usize)> {
    let raw = raw.get(..16)?;
    let high = if superblock.is_64bit { be_u32(raw, 8)? } else { 0 };
    let block = u64::from(be_u32(raw, 0)?) | u64::from(high) << 32;
    Some((block, be_u32(raw, 4)?, be_u32(raw, 12)?, 16))
}

fn tag(superblock: &JournalSuperblock, raw: &[u8]) -> Option<(u64, u32, u32, usize)> {
    let more = if superblock.format == Format::CsumV2 { 2 } else { 0 };
    let len = if superblock.is_64bit { 12 } else { 8 } + more;
    let raw = raw.get(..len)?;
    let high = if superblock.is_64bit { be_u32(raw, 8)? } else { 0 };
    let block = u64::from(be_u32(raw, 0)?) | u64::from(high) << 32;
    Some((block, u32::from(be_u16(raw, 6)?), u32::from(be_u16(raw, 4)?), len))
}

/// Blocks that a revocation lists: copies of them in this or an older transaction do not count.
///
/// # Source
/// Linux Documentation/filesystems/ext4/journal.rst, `struct jbd2_journal_revoke_header_s`.
pub(super) fn revoked(superblock: &JournalSuperblock, block: &[u8]) -> Vec<u64> {
    let most = to_u64(block.len().saturating_sub(superblock.tail()));
    let end = be_u32(block, HEAD).map_or(0, u64::from).min(most);
    let list = block.get(16..crate::bytes::to_usize(end)).unwrap_or_default();
    if superblock.is_64bit {
        list.as_chunks::<8>()
            .0
            .iter()
            .filter_map(|raw| be_u64(raw, 0))
            .collect()
    } else {
        list.as_chunks::<4>()
            .0
            .iter()
            .filter_map(|raw| be_u32(raw, 0))
            .map(u64::from)
            .collect()
    }
}

/// Time of a commit, to tell an old block from a damaged one: seconds, then nanoseconds.
pub(super) fn commit_time(block: &[u8]) -> (u64, u32) {
    (
        be_u64(block, 48).unwrap_or_default(),
        be_u32(block, 56).unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn superblock(format: Format, is_64bit: bool) -> JournalSuperblock {
        JournalSuperblock {
            first: 1,
            last: 10,
            fast_commit_blocks: 0,
            sequence: 1,
            start: 1,
            format,
            is_64bit,
            sums_transactions: false,
            csum_seed: 0,
        }
    }

    /// A descriptor with two tags: block 5 with a UUID behind it, then block 6, escaped and the last.
    fn descriptor(tag: impl Fn(u32, u32) -> Vec<u8>) -> Vec<u8> {
        let mut block = vec![0; HEAD];
        block.extend(tag(5, 0));
        block.extend([0xaa; 16]);
        block.extend(tag(6, 1 | 2 | 8));
        block.resize(1024, 0xff);
        block
    }

    #[test]
    fn tags_of_all_five_forms_are_read() {
        let high = |is_64bit: bool| if is_64bit { 1 << 32 } else { 0 };
        for is_64bit in [false, true] {
            for format in [Format::Plain, Format::CsumV2, Format::CsumV3] {
                let block = descriptor(|number, flags| {
                    let mut tag = number.to_be_bytes().to_vec();
                    let high = [0, 0, 0, 1];
                    if format == Format::CsumV3 {
                        tag.extend(flags.to_be_bytes());
                        tag.extend(high);
                        tag.extend([1, 2, 3, 4]);
                        return tag;
                    }
                    tag.extend([3, 4]);
                    tag.extend(u16::try_from(flags).unwrap().to_be_bytes());
                    tag.extend(high.iter().filter(|_| is_64bit));
                    tag.extend([0; 2].iter().filter(|_| format == Format::CsumV2));
                    tag
                });
                let checksum = if format == Format::CsumV3 { 0x0102_0304 } else { 0x0304 };
                let expected = [(5, false), (6, true)].map(|(block, is_escaped)| Tag {
                    block: block | high(is_64bit),
                    is_escaped,
                    checksum,
                });
                assert_eq!(
                    tags(&superblock(format, is_64bit), &block),
                    expected,
                    "{format:?} {is_64bit}"
                );
            }
        }
    }

    #[test]
    fn a_descriptor_without_a_last_tag_ends_with_its_block() {
        let found = tags(&superblock(Format::Plain, false), &[0; 1024]);
        assert_eq!(found.len(), (1024 - HEAD - 8) / 24 + 1);
        assert_eq!(tags(&superblock(Format::CsumV3, true), &[0; 10]), []);
    }

    #[test]
    fn lists_of_revoked_blocks_end_with_their_block() {
        let mut block = vec![0; 1024];
        block[HEAD..16].copy_from_slice(&24_u32.to_be_bytes());
        block[19] = 7;
        block[23] = 9;
        assert_eq!(revoked(&superblock(Format::Plain, false), &block), [7, 9]);
        assert_eq!(revoked(&superblock(Format::Plain, true), &block), [(7 << 32) | 9]);
        block[HEAD..16].copy_from_slice(&[0xff; 4]);
        assert_eq!(
            revoked(&superblock(Format::CsumV2, false), &block).len(),
            (1024 - 20) / 4
        );
        block[HEAD..16].copy_from_slice(&[0; 4]);
        assert_eq!(revoked(&superblock(Format::Plain, false), &block), [0_u64; 0]);
    }

    #[test]
    fn blocks_behind_the_end_of_the_log_are_at_its_beginning() {
        let superblock = superblock(Format::Plain, false);
        assert_eq!([9, 10, 11, 18, 19].map(|block| superblock.wrap(block)), [9, 1, 2, 9, 1]);
    }
}
