//! Finds names by their hash, in the leaves and nodes of large directories.

use super::data::Block;
use super::{ADDRESS_LOG, LEAF_SPACE, Search, hash};
use crate::bytes::to_u64;
use crate::fs::Result;
use crate::fs::xfs::bmap;
use crate::fs::xfs::disk::Disk;
use crate::fs::xfs::hash_tree::{Tree, hash_of, number_of};
use crate::fs::xfs::inode::{Dinode, Fork};

/// Magics of leaves: the only one of a directory, one of many; version 4, version 5.
const LEAF_MAGIC: [u16; 4] = [0xd2f1, 0xd2ff, 0x3df1, 0x3dff];
/// Offset of the count and bytes before the entries: version 4, version 5.
const LEAF: [(usize, usize); 2] = [(12, 16), (56, 64)];
/// Most entries of one hash that are looked at, and most leaves and data blocks that they lie in.
const MAX_SAME: usize = 64 << 10;
const MAX_LEAVES: usize = 1024;
const MAX_BLOCKS: usize = 1024;

/// Lets `search` see every entry with the hash of its name; says whether there is a tree at all.
///
/// # Errors
/// `Corrupt` if the tree is damaged or has too many entries of one hash.
pub(super) fn search(disk: &Disk, inode: &Dinode, search: &mut Search<'_>) -> Result<bool> {
    let len = disk.superblock.directory_size();
    if inode.size <= to_u64(len) {
        return Ok(false);
    }
    let tree = Tree {
        disk,
        inode,
        fork: Fork::Data,
        root: LEAF_SPACE >> disk.superblock.block_log,
        block_len: len,
    };
    let mut addresses = addresses(&tree, hash::of_name(search.name, search.ascii_ci))?;
    // Neighbours lie in one block, which is then read once.
    addresses.sort_unstable();
    addresses.dedup();
    let mut blocks = 0;
    for of_block in addresses.chunk_by(|a, b| block_of(disk, *a) == block_of(disk, *b)) {
        blocks += 1;
        let first = of_block.first().copied().unwrap_or_default();
        if blocks > MAX_BLOCKS {
            return Err(inode.corrupt("too many names of one hash"));
        }
        let start = block_of(disk, first) << disk.superblock.directory_log;
        let (bytes, at) = bmap::read(disk, inode, Fork::Data, start >> disk.superblock.block_log, len)?;
        let block = Block::parse(disk, inode, start, at, &bytes)?;
        for address in of_block {
            let entry = block.entry_at(u64::from(*address) << ADDRESS_LOG);
            let entry = entry.ok_or_else(|| inode.corrupt("its hash tree names an entry that is not there"))?;
            if !search.goes_on(&entry) {
                return Ok(true);
            }
        }
    }
    Ok(true)
}

/// Number of the data block in which an address lies.
fn block_of(disk: &Disk, address: u32) -> u64 {
    (u64::from(address) << ADDRESS_LOG) >> disk.superblock.directory_log
}

/// The addresses of all entries of a hash; entries that were removed have address 0.
fn addresses(tree: &Tree<'_>, hash: u32) -> Result<Vec<u32>> {
    let [version_4, version_5] = LEAF;
    let (count_at, header) = if tree.disk.superblock.checksums {
        version_5
    } else {
        version_4
    };
    let mut leaf = tree.leaf(hash)?;
    let mut addresses = Vec::new();
    for _ in 0..MAX_LEAVES {
        if !LEAF_MAGIC.contains(&leaf.magic()) {
            return Err(tree.corrupt(&leaf));
        }
        let entries = leaf.entries(count_at, header).ok_or_else(|| tree.corrupt(&leaf))?;
        let first = entries.partition_point(|pair| hash_of(pair) < hash);
        let same = entries.iter().skip(first).take_while(|pair| hash_of(pair) == hash);
        addresses.extend(same.map(number_of).filter(|address| *address != 0));
        // Names of one hash can go on in the next leaf only if this one ends with them.
        let ends = entries.last().is_some_and(|last| hash_of(last) <= hash);
        match leaf.forward() {
            Some(next) if ends && addresses.len() <= MAX_SAME => leaf = tree.block(next)?,
            _ if addresses.len() <= MAX_SAME => return Ok(addresses),
            _ => break,
        }
    }
    Err(tree.corrupt(&leaf))
}
