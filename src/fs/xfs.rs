//! Reads XFS of versions 4 and 5: superblock, inodes, block maps, directories, attributes, as `mount -o ro,norecovery` shows them.

mod attributes;
mod bmap;
mod directory;
mod disk;
mod extents;
mod hash_tree;
mod inode;
mod log;
mod superblock;
mod symlink;

use std::ops::Range;
use std::sync::Arc;

use super::{Attr, DirEntry, Extent, FileSystem, FileType, Inode, Result, Summary, Xattr};
use crate::image::ReadAt;
use disk::Disk;
use inode::Dinode;

/// An XFS file system.
pub struct Xfs {
    disk: Disk,
    log: log::State,
}

impl Xfs {
    /// Opens the file system on a volume; reads the superblock and the ends of the log, no more.
    ///
    /// # Errors
    /// `Corrupt` if there is no sound superblock; `Unsupported` with the name of a feature that is not known.
    pub fn open(volume: Arc<dyn ReadAt>) -> Result<Self> {
        let disk = Disk::open(volume)?;
        let log = log::state(&disk)?;
        Ok(Self { disk, log })
    }

    /// What a user should know, in sentences.
    fn notes(&self) -> Vec<String> {
        let log = match self.log {
            log::State::Clean => None,
            log::State::Dirty => Some(
                "The file system was in use: its log was not replayed, so that the last changes may be missing or \
                 half done.",
            ),
            log::State::External => Some(
                "The log of the file system is on another device: if it was in use, the last changes may be missing or \
                 half done.",
            ),
            log::State::Damaged => Some("The log of the file system is damaged: the last changes may be missing."),
        };
        let repair = "The file system is marked as in need of repair (xfs_repair): parts of it may be unreadable.";
        let repair = self.disk.superblock.needs_repair.then_some(repair);
        log.into_iter().chain(repair).map(str::to_owned).collect()
    }

    fn directory(&self, inode: Inode) -> Result<Dinode> {
        let dinode = Dinode::read(&self.disk, inode)?;
        dinode.expect_type(FileType::Directory)?;
        Ok(dinode)
    }
}

impl FileSystem for Xfs {
    fn root(&self) -> Inode {
        Inode(self.disk.superblock.root)
    }

    fn lookup(&self, directory: Inode, name: &[u8]) -> Result<Option<Inode>> {
        directory::lookup(&self.disk, &self.directory(directory)?, name)
    }

    fn read_dir(&self, directory: Inode, cookie: u64, visit: &mut dyn FnMut(DirEntry<'_>) -> bool) -> Result<()> {
        directory::read_dir(&self.disk, &self.directory(directory)?, cookie, visit)
    }

    fn attr(&self, inode: Inode) -> Result<Attr> {
        Dinode::read(&self.disk, inode)?.attr(self.disk.superblock.block_log)
    }

    fn read_link(&self, inode: Inode) -> Result<Vec<u8>> {
        let dinode = Dinode::read(&self.disk, inode)?;
        dinode.expect_type(FileType::Symlink)?;
        symlink::target(&self.disk, &dinode)
    }

    fn xattrs(&self, inode: Inode) -> Result<Vec<Xattr>> {
        attributes::xattrs(&self.disk, &Dinode::read(&self.disk, inode)?)
    }

    fn extents(&self, inode: Inode, range: Range<u64>) -> Result<Vec<Extent>> {
        let dinode = Dinode::read(&self.disk, inode)?;
        dinode.expect_type(FileType::File)?;
        extents::extents(&self.disk, &dinode, range)
    }

    fn summary(&self) -> Summary {
        let superblock = &self.disk.superblock;
        Summary {
            size: superblock.blocks << superblock.block_log,
            free: superblock.free.min(superblock.blocks) << superblock.block_log,
            files: superblock.files,
            notes: self.notes(),
        }
    }
}
