//! Directories: which of their forms one has, and the two questions that are asked of it.

mod data;
mod hash;
mod index;
mod shortform;

use super::disk::Disk;
use super::inode::{Dinode, Fork, Format};
use crate::fs::{DirEntry, Error, Inode, Result};
use data::{Block, Entry};

/// Byte of a directory's own space at which data ends and the leaves of the hash tree begin.
const LEAF_SPACE: u64 = 1 << 35;

/// Most bytes that a search without the hash tree looks at: a directory of about ten million names.
const MAX_SCAN: usize = 512 << 20;

/// Most bytes without a single name that are passed by one request.
const MAX_EMPTY: usize = 256 << 20;

/// Bytes by which addresses and cookies count.
const ADDRESS_LOG: u32 = 3;

/// As [`FileSystem::lookup`](crate::fs::FileSystem::lookup) for an inode that is a directory.
///
/// # Errors
/// `Corrupt`.
pub(super) fn lookup(disk: &Disk, inode: &Dinode, name: &[u8]) -> Result<Option<Inode>> {
    if matches!(name, b"" | b"." | b"..") || name.len() > usize::from(u8::MAX) {
        return Ok(None);
    }
    let mut search = Search::new(name, disk.superblock.ascii_ci);
    if inode.format(Fork::Data)? == Some(Format::Local) {
        shortform::each(disk, inode, &mut |_, entry| Ok(search.goes_on(entry)))?;
        return Ok(search.found());
    }
    match index::search(disk, inode, &mut search) {
        Ok(true) => return Ok(search.found()),
        Err(Error::Corrupt { .. }) | Ok(false) => {}
        Err(error) => return Err(error),
    }
    // No tree, or a damaged one: the names themselves decide.
    let mut search = Search::new(name, disk.superblock.ascii_ci);
    let mut left = MAX_SCAN;
    let scanned = data::blocks(disk, inode, 0, &mut |block| {
        left = left
            .checked_sub(disk.superblock.directory_size())
            .ok_or_else(|| inode.corrupt("a directory too large for its names"))?;
        for entry in block.entries(0) {
            if !search.goes_on(&entry?) {
                return Ok(false);
            }
        }
        Ok(true)
    });
    match (search.found(), scanned) {
        (Some(found), _) => Ok(Some(found)),
        (None, Ok(())) => Ok(None),
        (None, Err(error)) => Err(error),
    }
}

/// As [`FileSystem::read_dir`](crate::fs::FileSystem::read_dir) for an inode that is a directory.
///
/// # Errors
/// `Corrupt`.
pub(super) fn read_dir(
    disk: &Disk,
    inode: &Dinode,
    cookie: u64,
    visit: &mut dyn FnMut(DirEntry<'_>) -> bool,
) -> Result<()> {
    let mut give = |address: u64, entry: &Entry<'_>| {
        matches!(entry.name, b"." | b"..")
            || visit(DirEntry {
                name: entry.name,
                inode: entry.inode,
                file_type: entry.file_type,
                next: address.saturating_add(1),
            })
    };
    if inode.format(Fork::Data)? == Some(Format::Local) {
        return shortform::each(disk, inode, &mut |address, entry| {
            Ok(address < cookie || give(address, entry))
        });
    }
    let Some(from) = cookie.checked_mul(1 << ADDRESS_LOG).filter(|from| *from < LEAF_SPACE) else {
        return Ok(());
    };
    let mut empty: usize = 0;
    data::blocks(
        disk,
        inode,
        from >> disk.superblock.directory_log,
        &mut |block: &Block<'_>| {
            empty = empty.saturating_add(disk.superblock.directory_size());
            for entry in block.entries(from) {
                let entry = entry?;
                empty = 0;
                if !give(entry.address, &entry) {
                    return Ok(false);
                }
            }
            if empty > MAX_EMPTY {
                return Err(inode.corrupt("a directory of empty blocks"));
            }
            Ok(true)
        },
    )
}

/// A name that is looked for among entries that may have it.
struct Search<'a> {
    name: &'a [u8],
    ascii_ci: bool,
    folded: Option<Inode>,
    exact: Option<Inode>,
}

impl<'a> Search<'a> {
    fn new(name: &'a [u8], ascii_ci: bool) -> Self {
        Self {
            name,
            ascii_ci,
            folded: None,
            exact: None,
        }
    }

    /// Looks at an entry; says whether another could be better.
    fn goes_on(&mut self, entry: &Entry<'_>) -> bool {
        if entry.name == self.name {
            self.exact = Some(entry.inode);
        } else if self.ascii_ci && self.folded.is_none() && hash::same_folded(entry.name, self.name) {
            self.folded = Some(entry.inode);
        }
        self.exact.is_none()
    }

    /// The file of exactly this name, else the first that differs in case only.
    fn found(&self) -> Option<Inode> {
        self.exact.or(self.folded)
    }
}
