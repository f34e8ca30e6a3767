//! Records of the log: their headers, checksums, and bodies as they were before they were written.

use crate::bytes::{be_u32, be_u64, field, le_u32, to_u64, to_usize};
use crate::checksum::crc32c;

/// Bytes of the unit in which the log counts.
pub(super) const BASIC_BLOCK: usize = 512;
/// First word of the header of a record, and of no other block.
pub(super) const MAGIC: u32 = 0xfeed_babe;
/// Bytes of a body that one block of header describes, and the number of blocks that they are.
const HEADER_CYCLE_SIZE: u32 = 32 << 10;
const HEADER_CYCLES: usize = 64;
/// Largest body.
pub(super) const MAX_LEN: u32 = 256 << 10;
/// Little-endian items, as nearly all machines write them.
const FORMAT_LITTLE_ENDIAN: u32 = 1;
/// Byte offset of the checksum, and the bytes that it covers, without padding (32-bit machines) and with it.
const CRC_AT: usize = 32;
const CHECKED: [usize; 2] = [328, 324];
/// Bytes of a further block of header that the checksum covers.
const CHECKED_MORE: usize = 260;

/// The header of a record.
///
/// # Source
/// fs/xfs/libxfs/xfs_log_format.h, `struct xlog_rec_header`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record {
    version: u32,
    /// Bytes of the body.
    pub(super) len: u32,
    /// Its own place: cycle above block.
    pub(super) lsn: u64,
    /// Place of the oldest record that is still needed.
    pub(super) tail_lsn: u64,
    /// Number of operations in it.
    pub(super) operations: u32,
    size: u32,
    /// Items are little-endian.
    pub(super) little_endian: bool,
}

impl Record {
    /// Parses a header; `None` if it is none of this file system.
    pub(super) fn parse(block: &[u8], uuid: &[u8; 16]) -> Option<Self> {
        let record = Self {
            version: be_u32(block, 8)?,
            len: be_u32(block, 12)?,
            lsn: be_u64(block, 16)?,
            tail_lsn: be_u64(block, 24)?,
            operations: be_u32(block, 40)?,
            size: be_u32(block, 320)?,
            little_endian: be_u32(block, 300)? == FORMAT_LITTLE_ENDIAN,
        };
        let ours = be_u32(block, 0) == Some(MAGIC) && field(block, 304) == Some(*uuid);
        let sound = record.len <= MAX_LEN && matches!(record.version, 1 | 2);
        (ours && sound).then_some(record)
    }

    /// Blocks that the header takes: one for each 32 KiB that a record of this log can have.
    pub(super) fn header_blocks(&self) -> u64 {
        match self.version {
            2 => u64::from(self.size.div_ceil(HEADER_CYCLE_SIZE).clamp(1, 8)),
            _ => 1,
        }
    }

    /// Blocks that the body takes.
    pub(super) fn body_blocks(&self) -> u64 {
        u64::from(self.len).div_ceil(to_u64(BASIC_BLOCK))
    }

    /// Holds header and body, as they were written, to the checksum.
    pub(super) fn is_intact(&self, header: &[u8], body: &[u8]) -> bool {
        let Some(stored) = le_u32(header, CRC_AT) else {
            return false;
        };
        CHECKED
            .iter()
            .any(|len| self.checksum(header, body, *len) == Some(stored))
    }

    fn checksum(&self, header: &[u8], body: &[u8], checked: usize) -> Option<u32> {
        let mut crc = crc32c(!0, header.get(..CRC_AT)?);
        crc = crc32c(crc32c(crc, &[0; 4]), header.get(CRC_AT + 4..checked)?);
        let more = match self.version {
            2 => to_usize(u64::from(self.len.div_ceil(HEADER_CYCLE_SIZE))),
            _ => 1,
        };
        for index in 1..more {
            let from = index * BASIC_BLOCK;
            crc = crc32c(crc, header.get(from..from + CHECKED_MORE)?);
        }
        Some(!crc32c(crc, body.get(..to_usize(u64::from(self.len)))?))
    }

    /// Puts back the first word of each block of the body, which was replaced with the cycle; `None` if one has another cycle.
    ///
    /// `wrapped` is the number of the first block that lies at the beginning of the log again, where a new cycle began.
    pub(super) fn unpack(&self, header: &[u8], body: &mut [u8], wrapped: usize) -> Option<()> {
        let cycle = be_u32(&self.lsn.to_be_bytes(), 0)?;
        let next_cycle = match cycle.wrapping_add(1) {
            MAGIC => MAGIC.wrapping_add(1),
            next => next,
        };
        for (block, index) in body.chunks_mut(BASIC_BLOCK).zip(0_usize..) {
            let expected = if index < wrapped { cycle } else { next_cycle };
            if be_u32(block, 0) != Some(expected) {
                return None;
            }
            let (part, slot) = (index / HEADER_CYCLES, index % HEADER_CYCLES);
            let first = if part == 0 { 44 } else { part * BASIC_BLOCK + 4 };
            let word: [u8; 4] = field(header, first + slot * 4)?;
            block.get_mut(..4)?.copy_from_slice(&word);
        }
        Some(())
    }
}
