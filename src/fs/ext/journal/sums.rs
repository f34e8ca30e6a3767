//! The journal's checksums: CRC-32C of single blocks, and the older CRC-32 of a whole transaction.

use super::record::{Format, JournalSuperblock};
use super::scan::Write;
use crate::bytes::be_u32;
use crate::checksum::crc32c;

/// Where the journal's superblock has its sum, and how long it is.
const SUPERBLOCK_SUM: usize = 252;
const SUPERBLOCK_LEN: usize = 1024;
/// Where commit blocks have theirs.
const COMMIT_SUM: usize = 16;
/// Length of a commit block's fields.
const COMMIT_LEN: usize = 60;

/// Sums a block with the four bytes at `at` taken as zero, and compares with those.
fn holds(seed: u32, block: &[u8], at: usize) -> bool {
    let parts = || {
        let after = at.checked_add(4)?;
        Some((block.get(..at)?, be_u32(block, at)?, block.get(after..)?))
    };
    parts().is_some_and(|(before, found, after)| crc32c(crc32c(crc32c(seed, before), &[0; 4]), after) == found)
}

/// Checks the journal's superblock.
pub(super) fn superblock_holds(block: &[u8]) -> bool {
    block
        .get(..SUPERBLOCK_LEN)
        .is_some_and(|block| holds(!0, block, SUPERBLOCK_SUM))
}

/// Checks a descriptor or a list of revoked blocks: the sum is at its end.
pub(super) fn descriptor_holds(superblock: &JournalSuperblock, block: &[u8]) -> bool {
    superblock.format == Format::Plain || holds(superblock.csum_seed, block, block.len().saturating_sub(4))
}

/// Checks a commit block.
pub(super) fn commit_holds(superblock: &JournalSuperblock, block: &[u8]) -> bool {
    if superblock.format == Format::Plain || holds(superblock.csum_seed, block, COMMIT_SUM) {
        return true;
    }
    // Kernels have summed the fields alone, as if zeros came after them.
    let mut fields = block.get(..COMMIT_LEN).unwrap_or_default().to_vec();
    fields.resize(block.len(), 0);
    holds(superblock.csum_seed, &fields, COMMIT_SUM)
}

/// Checks a copy of a block against the sum in its tag.
pub(super) fn data_holds(superblock: &JournalSuperblock, write: &Write, data: &[u8]) -> bool {
    let sum = crc32c(crc32c(superblock.csum_seed, &write.sequence.to_be_bytes()), data);
    match superblock.format {
        Format::Plain => true,
        Format::CsumV2 => sum & 0xffff == write.checksum,
        Format::CsumV3 => sum == write.checksum,
    }
}

/// Checks the sum of a whole transaction in its commit block: none, or a CRC-32 that is right.
pub(super) fn transaction_holds(commit: &[u8], sum: u32) -> bool {
    const CRC32: [u8; 2] = [1, 4];
    let found = be_u32(commit, COMMIT_SUM);
    match commit.get(12..14) {
        Some([0, 0]) => found == Some(0),
        Some(kind) => kind == CRC32 && found == Some(sum),
        None => false,
    }
}

/// Goes on with the CRC-32 of polynomial 0x04c11db7, highest bit first, as the kernel's `crc32_be()`.
pub(super) fn crc32_be(seed: u32, data: &[u8]) -> u32 {
    const TABLE: [u32; 256] = table();
    data.iter().fold(seed, |sum, byte| {
        let [high, ..] = sum.to_be_bytes();
        let step = TABLE.get(usize::from(high ^ byte)).copied().unwrap_or_default();
        sum << 8 ^ step
    })
}

#[allow(clippy::indexing_slicing)]
const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    let mut byte = 0_u32;
    while index < 256 {
        let mut sum = byte << 24;
        let mut bit = 0;
        while bit < 8 {
            sum = if sum & 0x8000_0000 == 0 {
                sum << 1
            } else {
                sum << 1 ^ 0x04c1_1db7
            };
            bit += 1;
        }
        table[index] = sum;
        index += 1;
        byte += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32_be_is_the_one_of_the_catalogues() {
        // CRC-32/BZIP2, which inverts at the end.
        assert_eq!(!crc32_be(!0, b"123456789"), 0xfc89_1918);
    }
}
