//! The tree of hashes that directories and attributes share: its nodes, and the way down to a leaf.

use super::bmap;
use super::disk::{Disk, Header, corrupt};
use super::inode::{Dinode, Fork};
use crate::bytes::{be_u16, be_u32};
use crate::fs::{Error, Result};

/// `XFS_DA_NODE_MAGIC` and `XFS_DA3_NODE_MAGIC`.
const NODE_MAGIC: [u16; 2] = [0xfebe, 0x3ebe];
/// Bytes before the entries of a node: version 4, version 5.
const NODE_HEADER: (usize, usize) = (16, 64);
/// Highest level of a root: `XFS_DA_NODE_MAXDEPTH`.
const MAX_LEVEL: u16 = 5;
/// Bytes of an entry: hash, then a block or an address.
const ENTRY: usize = 8;

/// An entry of a node or a leaf as it lies there: it is searched in place, not parsed.
pub(super) type Pair = [u8; ENTRY];

/// Which tree of an inode, and the units it has.
#[derive(Clone, Copy)]
pub(super) struct Tree<'a> {
    pub(super) disk: &'a Disk,
    pub(super) inode: &'a Dinode,
    pub(super) fork: Fork,
    /// Block of the fork at which the root is.
    pub(super) root: u64,
    /// Bytes of a block of the tree.
    pub(super) block_len: usize,
}

/// A block of a tree that passed its checksum.
pub(super) struct Block {
    /// Byte of the volume at which it begins.
    pub(super) at: u64,
    pub(super) bytes: Vec<u8>,
}

impl Block {
    /// What kind of block it says it is.
    pub(super) fn magic(&self) -> u16 {
        be_u16(&self.bytes, 8).unwrap_or(0)
    }

    /// The block after it on the same level.
    pub(super) fn forward(&self) -> Option<u64> {
        be_u32(&self.bytes, 0).filter(|block| *block != 0).map(u64::from)
    }

    /// Entries: as many as the 16 bits at `count_at` say, from `header` on.
    pub(super) fn entries(&self, count_at: usize, header: usize) -> Option<&[Pair]> {
        entries(&self.bytes, usize::from(be_u16(&self.bytes, count_at)?), header)
    }
}

/// The `count` entries from byte `from` on, in place; `None` if they do not fit.
fn entries(bytes: &[u8], count: usize, from: usize) -> Option<&[Pair]> {
    let end = count.checked_mul(ENTRY)?.checked_add(from)?;
    Some(bytes.get(from..end)?.as_chunks::<ENTRY>().0)
}

/// Hash of an entry: its first half.
pub(super) fn hash_of(pair: &Pair) -> u32 {
    let [a, b, c, d, ..] = *pair;
    u32::from_be_bytes([a, b, c, d])
}

/// What an entry leads to: its second half, a block or an address.
pub(super) fn number_of(pair: &Pair) -> u32 {
    let [.., a, b, c, d] = *pair;
    u32::from_be_bytes([a, b, c, d])
}

impl Tree<'_> {
    /// Reads a block of the tree.
    ///
    /// # Errors
    /// `Corrupt`.
    pub(super) fn block(&self, number: u64) -> Result<Block> {
        let Self {
            disk,
            inode,
            fork,
            block_len,
            ..
        } = *self;
        let (bytes, at) = bmap::read(disk, inode, fork, number, block_len)?;
        disk.verify(&bytes, Header::HASH_TREE, at, inode.number, "the hash tree")?;
        Ok(Block { at, bytes })
    }

    /// Goes down to the leaf in which `hash` comes first, if it is there at all; hash 0 gives the first leaf.
    ///
    /// What the leaf is must be checked by its magic.
    ///
    /// # Errors
    /// `Corrupt`.
    pub(super) fn leaf(&self, hash: u32) -> Result<Block> {
        let mut block = self.block(self.root)?;
        let mut above = MAX_LEVEL + 1;
        while NODE_MAGIC.contains(&block.magic()) {
            let (level, child) = self.child(&block, hash).ok_or_else(|| self.corrupt(&block))?;
            let is_root = above > MAX_LEVEL;
            if level == 0 || level >= above || !is_root && level.saturating_add(1) != above {
                return Err(self.corrupt(&block));
            }
            above = level;
            block = self.block(child)?;
        }
        if above > 1 && above <= MAX_LEVEL {
            return Err(self.corrupt(&block));
        }
        Ok(block)
    }

    /// Level of a node, and its child whose last hash is the first not below `hash`.
    fn child(&self, node: &Block, hash: u32) -> Option<(u16, u64)> {
        let header = if self.disk.superblock.checksums {
            NODE_HEADER.1
        } else {
            NODE_HEADER.0
        };
        let (count_at, level_at) = if self.disk.superblock.checksums {
            (56, 58)
        } else {
            (12, 14)
        };
        let level = be_u16(&node.bytes, level_at)?;
        let entries = node.entries(count_at, header)?;
        let found = entries.partition_point(|last| hash_of(last) < hash);
        let child = number_of(entries.get(found).or_else(|| entries.last())?);
        Some((level, u64::from(child)))
    }

    /// The error for a block that is not what its place asks for.
    pub(super) fn corrupt(&self, block: &Block) -> Error {
        corrupt(format!("the hash tree of inode {}", self.inode.number), block.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_that_do_not_fit_are_none() {
        assert_eq!(entries(&[0; 24], 2, 8), Some(&[[0; 8]; 2][..]));
        assert_eq!(entries(&[0; 24], 3, 8), None);
        assert_eq!(entries(&[0; 24], usize::MAX, 8), None);
        assert_eq!(
            (hash_of(&[0, 0, 0, 1, 0, 0, 0, 2]), number_of(&[0, 0, 0, 1, 0, 0, 0, 2])),
            (1, 2)
        );
    }
}
