//! Directories that fit into their inode.

use super::data::Entry;
use crate::bytes::{be_u32, be_u64};
use crate::fs::xfs::disk::Disk;
use crate::fs::xfs::inode::{Dinode, Fork};
use crate::fs::{FileType, Inode, Result};

/// Gives each entry with its cookie, until `visit` returns `false`; a cookie is the index of the entry.
///
/// `.` and `..` are not there: the parent is a field of the header, before the names.
///
/// # Errors
/// `Corrupt`, or what `visit` fails with.
///
/// # Source
/// XFS Algorithms & Data Structures, "Short Form Directories"; fs/xfs/libxfs/xfs_da_format.h, `struct xfs_dir2_sf_hdr`.
pub(super) fn each(disk: &Disk, inode: &Dinode, visit: &mut dyn FnMut(u64, &Entry<'_>) -> Result<bool>) -> Result<()> {
    let damaged = || inode.corrupt("its short directory does not fit");
    let fork = inode.fork(Fork::Data);
    let used = fork.get(..crate::bytes::to_usize(inode.size)).ok_or_else(damaged)?;
    let (Some(count), Some(wide)) = (used.first(), used.get(1)) else {
        return Err(damaged());
    };
    let number_len = if *wide == 0 { 4 } else { 8 };
    let mut rest = used.get(2 + number_len..).ok_or_else(damaged)?;
    for address in 0..u64::from(*count) {
        let (entry, after) = parse(rest, number_len, disk.superblock.file_types, address).ok_or_else(damaged)?;
        if !visit(address, &entry)? {
            return Ok(());
        }
        rest = after;
    }
    Ok(())
}

/// One entry, and the bytes after it: length of the name, two bytes of offset, name, type, number.
fn parse(bytes: &[u8], number_len: usize, typed: bool, address: u64) -> Option<(Entry<'_>, &[u8])> {
    let name_len = usize::from(*bytes.first()?);
    let name = bytes.get(3..)?.get(..name_len).filter(|name| !name.is_empty())?;
    let after_name = bytes.get(3 + name_len..)?;
    let (kind, after_kind) = match typed {
        true => (FileType::from_entry(*after_name.first()?), after_name.get(1..)?),
        false => (None, after_name),
    };
    let number = match number_len {
        4 => u64::from(be_u32(after_kind, 0)?),
        _ => be_u64(after_kind, 0)?,
    };
    let entry = Entry {
        address,
        name,
        inode: Inode(number),
        file_type: kind,
    };
    Some((entry, after_kind.get(number_len..)?))
}
