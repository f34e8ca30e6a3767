//! Extended attributes: in the inode, in leaves of a hash tree, with long values in blocks of their own.

mod acl;

use super::bmap;
use super::disk::{Disk, Header, corrupt};
use super::hash_tree::{Block, Tree, hash_of, number_of};
use super::inode::{Dinode, Fork, Format};
use crate::bytes::{be_u16, be_u32, to_u64, to_usize};
use crate::fs::{Error, Result, Xattr};

/// Bits of an attribute's flags.
mod flag {
    /// The value is beside the name.
    pub(super) const LOCAL: u8 = 1 << 0;
    /// Namespace `trusted`.
    pub(super) const ROOT: u8 = 1 << 1;
    /// Namespace `security`.
    pub(super) const SECURE: u8 = 1 << 2;
    /// A pointer to a parent directory, for the file system's own use.
    pub(super) const PARENT: u8 = 1 << 3;
    /// Being made or removed when the system stopped.
    pub(super) const INCOMPLETE: u8 = 1 << 7;
}

/// Magics of leaves: version 4, version 5.
const LEAF_MAGIC: [u16; 2] = [0xfbee, 0x3bee];
/// Offset of the count and bytes before the entries of a leaf: version 4, version 5.
const LEAF: [(usize, usize); 2] = [(12, 32), (56, 80)];
/// `XARM`.
const REMOTE_MAGIC: u32 = 0x5841_524d;
/// Bytes of `struct xfs_attr3_rmt_hdr`, which version 5 puts before each block of a value.
const REMOTE_HEADER: usize = 56;
/// Longest value.
const MAX_VALUE: u32 = 64 << 10;
/// Most leaves of one file, and most bytes of names and values.
const MAX_LEAVES: usize = 16 << 10;
const MAX_TOTAL: usize = 64 << 20;
/// What an attribute takes in memory beside its bytes; empty ones are not free.
const OVERHEAD: usize = 64;
/// What a value outside the leaves counts at least: finding it is work, however short it is.
const REMOTE_COST: usize = 4 << 10;

/// As [`FileSystem::xattrs`](crate::fs::FileSystem::xattrs).
///
/// # Errors
/// `Corrupt`; `Unsupported` if the attributes take more memory than a request may have.
///
/// # Source
/// XFS Algorithms & Data Structures, "Extended Attributes".
pub(super) fn xattrs(disk: &Disk, inode: &Dinode) -> Result<Vec<Xattr>> {
    let mut list = List::default();
    match inode.format(Fork::Attributes)? {
        None | Some(Format::Device) => {}
        Some(Format::Local) => {
            let done = short_form(inode.fork(Fork::Attributes), &mut list);
            done.ok_or_else(|| inode.corrupt("its short attributes do not fit"))??;
        }
        Some(Format::Extents) if inode.extent_count(Fork::Attributes) == 0 => {}
        Some(Format::Extents | Format::Btree) => leaves(disk, inode, &mut list)?,
    }
    list.xattrs.sort();
    Ok(list.xattrs)
}

/// What has been found so far.
#[derive(Default)]
struct List {
    xattrs: Vec<Xattr>,
    total: usize,
}

impl List {
    /// Adds an attribute with the names that the kernel gives it; `None` if it is an ACL that is none.
    ///
    /// An ACL is there twice for root: as what it means, and as the attribute that keeps it.
    fn add(&mut self, flags: u8, name: &[u8], value: &[u8]) -> Option<Result<()>> {
        self.total = self
            .total
            .saturating_add(name.len())
            .saturating_add(value.len())
            .saturating_add(OVERHEAD);
        if self.total > MAX_TOTAL {
            let feature = format!("more than {} MiB of extended attributes on a file", MAX_TOTAL >> 20);
            return Some(Err(Error::Unsupported { feature }));
        }
        let prefix: &[u8] = match flags {
            _ if flags & flag::ROOT != 0 => b"trusted.",
            _ if flags & flag::SECURE != 0 => b"security.",
            _ => b"user.",
        };
        if flags & flag::ROOT != 0
            && let Some(acl_name) = acl::name(name)
        {
            self.xattrs.push((acl_name.to_vec(), acl::to_xattr(value)?));
        }
        self.xattrs.push(([prefix, name].concat(), value.to_vec()));
        Some(Ok(()))
    }
}

fn is_hidden(flags: u8) -> bool {
    flags & (flag::PARENT | flag::INCOMPLETE) != 0
}

/// Attributes inside the inode: size and count, then lengths, flags, name and value of each.
fn short_form(fork: &[u8], list: &mut List) -> Option<Result<()>> {
    let fork = fork.get(..usize::from(be_u16(fork, 0)?))?;
    let count = *fork.get(2)?;
    let mut rest = fork.get(4..)?;
    for _ in 0..count {
        let (name_len, value_len, flags) = (*rest.first()?, *rest.get(1)?, *rest.get(2)?);
        let (name, after) = rest.get(3..)?.split_at_checked(usize::from(name_len))?;
        let (value, after) = after.split_at_checked(usize::from(value_len))?;
        if !is_hidden(flags)
            && let Err(error) = list.add(flags, name, value)?
        {
            return Some(Err(error));
        }
        rest = after;
    }
    Some(Ok(()))
}

/// Attributes in the leaves of a tree, from the first to the last.
fn leaves(disk: &Disk, inode: &Dinode, list: &mut List) -> Result<()> {
    let tree = Tree {
        disk,
        inode,
        fork: Fork::Attributes,
        root: 0,
        block_len: disk.superblock.block_size(),
    };
    let mut leaf = tree.leaf(0)?;
    let mut last = 0;
    for _ in 0..MAX_LEAVES {
        let range = add_leaf(&tree, &leaf, list)?;
        // Hashes grow from leaf to leaf, which finds most circles long before the limit does.
        if let Some((low, high)) = range {
            if low < last {
                return Err(tree.corrupt(&leaf));
            }
            last = high;
        }
        match leaf.forward() {
            Some(next) => leaf = tree.block(next)?,
            None => return Ok(()),
        }
    }
    Err(tree.corrupt(&leaf))
}

/// Adds the attributes of one leaf; gives its lowest and highest hash.
fn add_leaf(tree: &Tree<'_>, leaf: &Block, list: &mut List) -> Result<Option<(u32, u32)>> {
    let damaged = || tree.corrupt(leaf);
    if !LEAF_MAGIC.contains(&leaf.magic()) {
        return Err(damaged());
    }
    let [version_4, version_5] = LEAF;
    let (count_at, header) = if tree.disk.superblock.checksums {
        version_5
    } else {
        version_4
    };
    let entries = leaf.entries(count_at, header).ok_or_else(damaged)?;
    for entry in entries {
        // The second half of an entry: offset of 16 bits, flags, padding.
        let [high, low, flags, _] = number_of(entry).to_be_bytes();
        if is_hidden(flags) {
            continue;
        }
        let offset = usize::from(u16::from_be_bytes([high, low]));
        let entry = leaf.bytes.get(offset..).unwrap_or_default();
        if flags & flag::LOCAL != 0 {
            let (name, value) = local(entry).ok_or_else(damaged)?;
            list.add(flags, name, value).ok_or_else(damaged)??;
        } else {
            let (name, block, len) = remote(entry).ok_or_else(damaged)?;
            list.total = list.total.saturating_add(REMOTE_COST);
            let value = remote_value(tree, u64::from(block), to_usize(u64::from(len)))?;
            list.add(flags, name, &value).ok_or_else(damaged)??;
        }
    }
    Ok(entries.first().map(hash_of).zip(entries.last().map(hash_of)))
}

/// Name and value of `struct xfs_attr_leaf_name_local`.
fn local(entry: &[u8]) -> Option<(&[u8], &[u8])> {
    let value_len = usize::from(be_u16(entry, 0)?);
    let (name, after) = entry.get(3..)?.split_at_checked(usize::from(*entry.get(2)?))?;
    Some((name, after.get(..value_len)?))
}

/// Name, first block and length of the value of `struct xfs_attr_leaf_name_remote`.
fn remote(entry: &[u8]) -> Option<(&[u8], u32, u32)> {
    let (block, len) = (be_u32(entry, 0)?, be_u32(entry, 4)?);
    let name = entry.get(9..)?.get(..usize::from(*entry.get(8)?))?;
    (len <= MAX_VALUE).then_some((name, block, len))
}

/// Reads a value of `len` bytes from the attribute fork's block `first` on; `len` is at most [`MAX_VALUE`].
fn remote_value(tree: &Tree<'_>, first: u64, len: usize) -> Result<Vec<u8>> {
    let Tree { disk, inode, .. } = *tree;
    let block_size = disk.superblock.block_size();
    let header = if disk.superblock.checksums { REMOTE_HEADER } else { 0 };
    let count = to_u64(len.div_ceil(block_size - header));
    let mut value = Vec::with_capacity(len);
    for (at, count) in bmap::pieces(disk, inode, Fork::Attributes, first, count)? {
        let bytes = disk.read(at, to_usize(count).saturating_mul(block_size))?;
        for (block, index) in bytes.chunks_exact(block_size).zip(0_u64..) {
            let at = at.saturating_add(index << disk.superblock.block_log);
            let part = len.saturating_sub(value.len()).min(block_size - header);
            if header != 0 {
                check_remote(tree, block, at, value.len(), part)?;
            }
            value.extend_from_slice(block.get(header..header + part).unwrap_or_default());
        }
    }
    Ok(value)
}

/// Holds a block of a value to its header: checksum, owner, and which part of the value it is.
fn check_remote(tree: &Tree<'_>, block: &[u8], at: u64, done: usize, part: usize) -> Result<()> {
    let what = "the value of an attribute";
    tree.disk.verify(block, Header::REMOTE, at, tree.inode.number, what)?;
    let number = |at: usize| be_u32(block, at).map(u64::from);
    let fits =
        be_u32(block, 0) == Some(REMOTE_MAGIC) && number(4) == Some(to_u64(done)) && number(8) == Some(to_u64(part));
    if fits {
        return Ok(());
    }
    Err(corrupt(format!("{what} of inode {}", tree.inode.number), at))
}
