//! Reads metadata from the volume: bounds, checksums, and the words of errors.

use std::sync::Arc;

use super::overlay::Overlay;
use super::superblock::{self, Superblock};
use crate::bytes::{be_u64, field, le_u32, to_u64, to_usize};
use crate::checksum::crc32c;
use crate::fs::{Error, Result};
use crate::image::ReadAt;

/// Bytes of the unit in which headers tell their place on the volume.
const BASIC_BLOCK: u64 = 512;

/// Builds the error for a structure at byte `at` of the volume.
pub(super) fn corrupt(what: impl Into<String>, at: u64) -> Error {
    Error::Corrupt { what: what.into(), at }
}

/// Says whether the checksum at `crc_at` of a structure fits all its other bytes.
///
/// The field itself counts as zeros, and is little-endian though everything else is big-endian.
///
/// # Source
/// fs/xfs/libxfs/xfs_cksum.h.
pub(super) fn checksum_matches(structure: &[u8], crc_at: usize) -> bool {
    checksum(structure, crc_at).is_some_and(|crc| le_u32(structure, crc_at) == Some(crc))
}

/// The checksum that belongs at `crc_at` of a structure; `None` if the field lies outside.
fn checksum(structure: &[u8], crc_at: usize) -> Option<u32> {
    let (before, after) = (structure.get(..crc_at)?, structure.get(crc_at.checked_add(4)?..)?);
    Some(!crc32c(crc32c(crc32c(!0, before), &[0; 4]), after))
}

/// Writes the checksum that fits a structure to `crc_at` of it.
pub(super) fn seal(structure: &mut [u8], crc_at: usize) {
    let crc = checksum(structure, crc_at).unwrap_or(0).to_le_bytes();
    if let Some(to) = crc_at.checked_add(4).and_then(|end| structure.get_mut(crc_at..end)) {
        to.copy_from_slice(&crc);
    }
}

/// Where the self-describing fields of a version 5 header lie.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) crc: usize,
    pub(super) blkno: usize,
    pub(super) uuid: usize,
    pub(super) owner: usize,
}

impl Header {
    /// `struct xfs_dir3_blk_hdr`: directory data.
    pub(super) const DIRECTORY_DATA: Self = Self {
        crc: 4,
        blkno: 8,
        uuid: 24,
        owner: 40,
    };
    /// `struct xfs_da3_blkinfo`: hash trees of directories and attributes.
    pub(super) const HASH_TREE: Self = Self {
        crc: 12,
        blkno: 16,
        uuid: 32,
        owner: 48,
    };
    /// `struct xfs_btree_block_lhdr`: trees of extents.
    pub(super) const EXTENT_TREE: Self = Self {
        crc: 64,
        blkno: 24,
        uuid: 40,
        owner: 56,
    };
    /// `struct xfs_dsymlink_hdr` and `struct xfs_attr3_rmt_hdr`: targets and values outside the inode.
    pub(super) const REMOTE: Self = Self {
        crc: 12,
        blkno: 40,
        uuid: 16,
        owner: 32,
    };
}

/// The volume with its superblock, as it is once the log is replayed.
pub(super) struct Disk {
    volume: Arc<dyn ReadAt>,
    pub(super) superblock: Superblock,
    /// What the log says that some sectors should be.
    pub(super) overlay: Overlay,
}

impl Disk {
    /// Reads the superblock.
    ///
    /// # Errors
    /// As [`Superblock::parse`].
    pub(super) fn open(volume: Arc<dyn ReadAt>) -> Result<Self> {
        let mut raw = vec![0; to_usize(superblock::read_len(volume.len()))];
        volume.read_at(0, &mut raw)?;
        let superblock = Superblock::parse(&raw)?;
        Ok(Self {
            volume,
            superblock,
            overlay: Overlay::default(),
        })
    }

    /// Reads `len` bytes at byte `at`; callers bound `len`.
    ///
    /// # Errors
    /// `Corrupt` if the volume ends before, `Image` if it cannot be read.
    pub(super) fn read(&self, at: u64, len: usize) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.append(at, len, &mut bytes)?;
        Ok(bytes)
    }

    /// As [`read`](Self::read), to the end of `bytes`.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(super) fn append(&self, at: u64, len: usize, bytes: &mut Vec<u8>) -> Result<()> {
        if at.checked_add(to_u64(len)).is_none_or(|end| end > self.volume.len()) {
            return Err(corrupt("metadata (it lies past the end of the volume)", at));
        }
        let old = bytes.len();
        bytes.resize(old.saturating_add(len), 0);
        let into = bytes.get_mut(old..).unwrap_or_default();
        self.volume.read_at(at, into)?;
        self.overlay.apply(at, into);
        Ok(())
    }

    /// Byte at which a block begins.
    ///
    /// # Errors
    /// `Corrupt`, naming `what` pointed to it, if there is no such block.
    pub(super) fn block_offset(&self, block: u64, what: &str, at: u64) -> Result<u64> {
        self.superblock
            .block_offset(block)
            .ok_or_else(|| corrupt(format!("{what} (it names block {block}, which is not there)"), at))
    }

    /// Holds a structure of version 5 to its checksum, its place and its owner; earlier versions have none of them.
    ///
    /// # Errors
    /// `Corrupt`.
    pub(super) fn verify(&self, structure: &[u8], header: Header, at: u64, owner: u64, what: &str) -> Result<()> {
        if !self.superblock.checksums {
            return Ok(());
        }
        let wrong = if !checksum_matches(structure, header.crc) {
            "its checksum does not match"
        } else if be_u64(structure, header.blkno) != Some(at / BASIC_BLOCK) {
            "it was written for another place"
        } else if field(structure, header.uuid) != Some(self.superblock.meta_uuid) {
            "it belongs to another file system"
        } else if be_u64(structure, header.owner) != Some(owner) {
            "it belongs to another inode"
        } else {
            return Ok(());
        };
        Err(corrupt(format!("{what} of inode {owner} ({wrong})"), at))
    }
}
