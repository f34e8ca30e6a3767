//! Extended attributes: in the inode behind its fields, in a block of their own, and values in inodes of their own.

use std::collections::BTreeMap;

use super::acl;
use super::disk::{Disk, corrupt};
use super::features::Incompat;
use super::inode::{EA_INODE_FL, Node};
use super::mapping;
use crate::bytes::{le_u16, le_u32, to_u64, to_usize};
use crate::checksum::crc32c;
use crate::fs::{Result, Xattr};

/// `EXT4_XATTR_MAGIC`.
const MAGIC: u32 = 0xea02_0000;
/// Length of the head of a block of attributes.
const HEAD: usize = 32;
/// Length of an entry without its name.
const ENTRY: usize = 16;
/// `XATTR_SIZE_MAX`: most bytes of a value that getxattr(2) gives.
const VALUE_MAX: u32 = 1 << 16;
/// Most bytes of all values of a file together.
const VALUES_MAX: u64 = 4 << 20;
/// `EXT4_XATTR_INDEX_SYSTEM`, whose `data` is the rest of inline data.
const INDEX_SYSTEM: u8 = 7;

/// An attribute's entry.
///
/// # Source
/// Linux Documentation/filesystems/ext4/attributes.rst, `struct ext4_xattr_entry`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry<'a> {
    index: u8,
    name: &'a [u8],
    value_offs: u16,
    value_inum: u32,
    value_size: u32,
}

/// Entries from the beginning of `region` to the four zeros that end them; `None` if they are not sound.
fn entries(region: &[u8]) -> Option<Vec<Entry<'_>>> {
    let mut found = Vec::new();
    let mut at = 0_usize;
    loop {
        let rest = region.get(at..)?;
        if le_u32(rest, 0)? == 0 {
            return Some(found);
        }
        let name_len = usize::from(*rest.first()?);
        let end = ENTRY.checked_add(name_len)?;
        found.push(Entry {
            index: *rest.get(1)?,
            name: rest.get(ENTRY..end)?,
            value_offs: le_u16(rest, 2)?,
            value_inum: le_u32(rest, 4)?,
            value_size: le_u32(rest, 8)?,
        });
        at = at.checked_add(end.checked_next_multiple_of(4)?)?;
    }
}

/// The part of `region` that an entry says its value is.
fn value<'a>(entry: &Entry<'_>, region: &'a [u8]) -> Option<&'a [u8]> {
    let start = usize::from(entry.value_offs);
    region.get(start..start.checked_add(usize::try_from(entry.value_size).ok()?)?)
}

/// Attributes in the inode, if it has any; values lie in the same region.
fn body(node: &Node) -> Option<&[u8]> {
    let body = node.body();
    (le_u32(body, 0) == Some(MAGIC)).then(|| body.get(4..)).flatten()
}

/// What inline data has beyond `i_block`; empty if there is nothing.
///
/// # Errors
/// `Corrupt`.
pub(super) fn inline_rest(node: &Node) -> Result<&[u8]> {
    let Some(region) = body(node) else { return Ok(&[]) };
    let bad = || node.corrupt("its inline data");
    let entries = entries(region).ok_or_else(bad)?;
    let data = entries
        .iter()
        .find(|entry| entry.index == INDEX_SYSTEM && entry.name == b"data");
    data.map_or(Ok(&[]), |entry| value(entry, region).ok_or_else(bad))
}

/// The start of the full name that the kernel lists for an index; `None` for what it does not list.
fn prefix(index: u8) -> Option<&'static [u8]> {
    Some(match index {
        1 => b"user.",
        2 => b"system.posix_acl_access",
        3 => b"system.posix_acl_default",
        4 => b"trusted.",
        6 => b"security.",
        10 => b"gnu.",
        _ => return None,
    })
}

/// All attributes that the kernel lists, sorted by name.
///
/// # Errors
/// `Corrupt`.
pub(super) fn list(disk: &Disk, node: &Node) -> Result<Vec<Xattr>> {
    let mut found = BTreeMap::new();
    let mut left = VALUES_MAX;
    if let Some(region) = body(node) {
        let entries = entries(region).ok_or_else(|| node.corrupt("its attributes"))?;
        for entry in entries {
            add(disk, node, &entry, region, &mut found, &mut left)?;
        }
    }
    let block = node.file_acl();
    if block != 0 {
        let bytes = disk.block(block)?;
        let bad = |what| {
            let what = format!("the attributes of inode {} ({what})", node.number);
            corrupt(what, disk.byte_of(block))
        };
        check(disk, block, &bytes).map_err(bad)?;
        for entry in entries(bytes.get(HEAD..).unwrap_or_default()).ok_or_else(|| bad("an entry"))? {
            add(disk, node, &entry, &bytes, &mut found, &mut left)?;
        }
    }
    Ok(found.into_iter().collect())
}

/// Checks the head of a block of attributes.
///
/// # Source
/// Linux Documentation/filesystems/ext4/attributes.rst, `struct ext4_xattr_header`.
fn check(disk: &Disk, block: u64, bytes: &[u8]) -> std::result::Result<(), &'static str> {
    if le_u32(bytes, 0) != Some(MAGIC) || le_u32(bytes, 8) != Some(1) {
        return Err("their header");
    }
    if disk.sb.has_metadata_csum() {
        let (before, after) = (bytes.get(..16).unwrap_or_default(), bytes.get(20..).unwrap_or_default());
        let sum = crc32c(crc32c(disk.sb.csum_seed, &block.to_le_bytes()), before);
        if le_u32(bytes, 16) != Some(crc32c(crc32c(sum, &[0; 4]), after)) {
            return Err("their checksum");
        }
    }
    Ok(())
}

fn add(
    disk: &Disk,
    node: &Node,
    entry: &Entry<'_>,
    region: &[u8],
    found: &mut BTreeMap<Vec<u8>, Vec<u8>>,
    left: &mut u64,
) -> Result<()> {
    let Some(prefix) = prefix(entry.index) else {
        return Ok(());
    };
    let bad = || node.corrupt("an attribute");
    *left = left.checked_sub(u64::from(entry.value_size)).ok_or_else(bad)?;
    let raw = if entry.value_inum != 0 {
        value_of_inode(disk, node, entry)?
    } else {
        value(entry, region).ok_or_else(bad)?.to_vec()
    };
    let value = if matches!(entry.index, 2 | 3) {
        acl::to_xattr(&raw).ok_or_else(bad)?
    } else {
        raw
    };
    // What is in the inode itself hides what is in the block.
    found.entry([prefix, entry.name].concat()).or_insert(value);
    Ok(())
}

/// A value that is the content of an inode of its own.
fn value_of_inode(disk: &Disk, node: &Node, entry: &Entry<'_>) -> Result<Vec<u8>> {
    let bad = || node.corrupt("an attribute with an inode of its own");
    if !disk.sb.features.incompat(Incompat::EaInode) || entry.value_size > VALUE_MAX {
        return Err(bad());
    }
    let holder = Node::load(disk, u64::from(entry.value_inum))?;
    let size = u64::from(entry.value_size);
    if !holder.has(EA_INODE_FL) || holder.has_inline_data() || holder.size != size {
        return Err(bad());
    }
    let mut bytes = vec![0; to_usize(size)];
    mapping::read(disk, &holder, 0, &mut bytes)?;
    debug_assert_eq!(to_u64(bytes.len()), size);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_outside_their_region_are_refused() {
        let mut region = vec![4, 1, 60, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0];
        region.extend(b"name");
        region.resize(64, 0);
        let found = entries(&region).unwrap();
        assert_eq!(found[0].name, b"name");
        assert_eq!(value(&found[0], &region), None);
        assert_eq!(entries(&region[..18]), None);
        assert_eq!(entries(&[]), None);
    }
}
