//! Reads XFS of versions 4 and 5: superblock, inodes, block maps, directories, attributes, as the kernel shows them.

mod attributes;
mod bmap;
mod directory;
mod disk;
mod extents;
mod hash_tree;
mod inode;
mod log;
mod overlay;
mod superblock;
mod symlink;

use std::ops::Range;
use std::sync::Arc;

use super::{Attr, DirEntry, Error, Extent, FileSystem, FileType, Inode, Result, Summary, Xattr};
use crate::image::ReadAt;
use disk::Disk;
use inode::Dinode;
use log::Replayed;

/// An XFS file system.
pub struct Xfs {
    disk: Disk,
    log: log::State,
    /// What became of the log, if it had to be replayed.
    replayed: Option<Replayed>,
}

impl Xfs {
    /// Opens the file system on a volume; reads the superblock and the ends of the log, no more if it was unmounted.
    ///
    /// If it was in use, its log is replayed in memory, or, where that is not possible for certain, not at all.
    ///
    /// # Errors
    /// `Corrupt` if there is no sound superblock; `Unsupported` with the name of a feature that is not known.
    pub fn open(volume: Arc<dyn ReadAt>) -> Result<Self> {
        let mut xfs = Self::open_as_is(volume)?;
        if xfs.log == log::State::Dirty {
            xfs.replayed = Some(log::replay(&mut xfs.disk)?);
        }
        Ok(xfs)
    }

    /// As [`open`](Self::open), never replaying the log: what `mount -o ro,norecovery` shows.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_as_is(volume: Arc<dyn ReadAt>) -> Result<Self> {
        let disk = Disk::open(volume)?;
        let log = log::state(&disk)?;
        Ok(Self {
            disk,
            log,
            replayed: None,
        })
    }

    /// What a user should know, in sentences.
    fn notes(&self) -> Vec<String> {
        let lost = "the last changes may be missing or half done";
        let log = match (self.log, &self.replayed) {
            (log::State::Clean, _) => None,
            (log::State::Dirty, Some(Replayed::Done { unfinished })) if unfinished.is_empty() => {
                Some("The file system was in use: its log was replayed in memory.".to_owned())
            }
            (log::State::Dirty, Some(Replayed::Done { unfinished })) => Some(format!(
                "The file system was in use: its log was replayed in memory, but a change of {} of its files was not ended, \
                 and these cannot be read.",
                unfinished.len()
            )),
            (log::State::Dirty, Some(Replayed::Not(reason))) => Some(format!(
                "The file system was in use, and its log was not replayed ({reason}): {lost}."
            )),
            (log::State::Dirty, None) => Some(format!(
                "The file system was in use, and its log was not replayed: {lost}."
            )),
            (log::State::External, _) => Some(format!(
                "The log of the file system is on another device: if it was in use, {lost}."
            )),
            (log::State::Damaged, _) => Some(format!("The log of the file system is damaged: {lost}.")),
        };
        let repair = "The file system is marked as in need of repair (xfs_repair): parts of it may be unreadable.";
        let repair = self.disk.superblock.needs_repair.then(|| repair.to_owned());
        log.into_iter().chain(repair).collect()
    }

    /// Refuses to tell of blocks and attributes whose change was cut off: neither old nor new ones are what they were.
    fn expect_finished(&self, inode: Inode) -> Result<()> {
        match &self.replayed {
            Some(Replayed::Done { unfinished }) if unfinished.contains(&inode.0) => Err(Error::Unsupported {
                feature: "a file whose last change was not ended".to_owned(),
            }),
            _ => Ok(()),
        }
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
        self.expect_finished(inode)?;
        attributes::xattrs(&self.disk, &Dinode::read(&self.disk, inode)?)
    }

    fn extents(&self, inode: Inode, range: Range<u64>) -> Result<Vec<Extent>> {
        let dinode = Dinode::read(&self.disk, inode)?;
        dinode.expect_type(FileType::File)?;
        self.expect_finished(inode)?;
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
