//! ext2, ext3 and ext4: a reader that shows what the kernel shows after recovery, without writing.
//!
//! The journal is replayed in memory: where it has a newer copy of a block, that copy is read instead. All else is read when it is
//! asked for, and checked by the checksums that are there.

mod acl;
mod block_map;
mod content;
mod directory;
mod dirent;
mod disk;
mod extent_tree;
mod fast_commit;
mod features;
mod fold;
mod group;
mod hash;
mod htree;
mod inline_data;
mod inode;
mod journal;
mod mapping;
mod names;
mod orphan;
mod overlay;
mod sha256;
mod superblock;
mod xattr;

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use self::disk::Disk;
use self::fast_commit::{FastCommits, Said};
use self::htree::Answer;
use self::inode::{EA_INODE_FL, ENCRYPT_FL, Node, ROOT};
use self::overlay::Overlay;
use self::superblock::{SUPERBLOCK_AT, SUPERBLOCK_LEN, Superblock};
use super::{Attr, DirEntry, Error, Extent, FileSystem, FileType, Inode, Result, Summary, Xattr};
use crate::bytes::to_u64;
use crate::image::ReadAt;

/// An ext2, ext3 or ext4 file system on a volume.
pub struct Ext {
    disk: Disk,
    /// Inodes that recovery would cut to their size.
    orphans: HashSet<u64>,
    notes: Vec<String>,
}

impl Ext {
    /// Opens the file system on a volume: reads its superblock, and its journal if that is to be replayed.
    ///
    /// # Errors
    /// `Corrupt` if there is no sound superblock; `Unsupported` for features that are unknown.
    pub fn open(volume: Arc<dyn ReadAt>) -> Result<Self> {
        let sb = read_superblock(&*volume)?;
        let mut notes = Vec::new();
        if !superblock::fits(&sb, volume.len()) {
            notes.push("the file system is larger than the volume; what lies behind its end cannot be read".to_owned());
        }
        if !sb.is_valid {
            notes
                .push("the file system was in use and has no journal; the newest changes may be half there".to_owned());
        }
        if sb.has_errors {
            notes.push("the kernel found errors in this file system before it was backed up".to_owned());
        }
        let mut disk = Disk::new(volume, sb, Overlay::default());
        let recovery = journal::recover(&disk)?;
        notes.extend(recovery.notes);
        if !recovery.copies.is_empty() {
            let overlay = Overlay::new(disk.sb.block_size, recovery.copies);
            let volume = Arc::clone(disk.volume());
            disk = Disk::new(volume, disk.sb, overlay);
            match recovered_superblock(&disk) {
                Ok(sb) => disk.sb = sb,
                Err(Error::Image(error)) => return Err(error.into()),
                Err(error) => notes.push(format!("the superblock in the journal is not used: {error}")),
            }
        }
        FastCommits::apply(&mut disk, recovery.changes)?;
        let orphans = orphan::list(&disk)?;
        Ok(Self { disk, orphans, notes })
    }

    /// An inode that users may see.
    fn node(&self, inode: Inode) -> Result<Node> {
        if inode.0 != ROOT && inode.0 < self.disk.sb.first_ino {
            return Err(Error::NoInode { inode });
        }
        let node = Node::load(&self.disk, inode.0)?;
        if node.has(EA_INODE_FL) {
            return Err(node.corrupt("it holds an attribute and is no file"));
        }
        Ok(node)
    }

    fn node_of_type(&self, inode: Inode, wanted: FileType) -> Result<Node> {
        let node = self.node(inode)?;
        if node.file_type != wanted {
            return Err(Error::WrongType { inode, wanted });
        }
        Ok(node)
    }
}

fn read_superblock(volume: &dyn ReadAt) -> Result<Superblock> {
    let mut raw = [0; SUPERBLOCK_LEN];
    if volume.len() < SUPERBLOCK_AT.saturating_mul(2) {
        return Err(disk::corrupt("the volume, too small for ext4", 0));
    }
    volume.read_at(SUPERBLOCK_AT, &mut raw)?;
    Superblock::decode(&raw)
}

/// The superblock as recovery would leave it; its geometry must be the one by which the journal was found.
fn recovered_superblock(disk: &Disk) -> Result<Superblock> {
    let mut raw = [0; SUPERBLOCK_LEN];
    disk.read(SUPERBLOCK_AT, &mut raw)?;
    let sb = Superblock::decode(&raw)?;
    if sb.block_size != disk.sb.block_size || sb.inode_size != disk.sb.inode_size {
        return Err(disk::corrupt("its geometry", SUPERBLOCK_AT));
    }
    Ok(sb)
}

impl FileSystem for Ext {
    fn root(&self) -> Inode {
        Inode(ROOT)
    }

    fn lookup(&self, directory: Inode, name: &[u8]) -> Result<Option<Inode>> {
        let node = self.node_of_type(directory, FileType::Directory)?;
        if name.is_empty() || name.len() > dirent::NAME_LEN || name == b"." || name == b".." {
            return Ok(None);
        }
        match self.disk.fast.directory(directory.0).map(|edits| edits.of(name)) {
            Some(Said::Here(inode)) => return Ok(Some(Inode(u64::from(inode)))),
            Some(Said::Gone) => return Ok(None),
            Some(Said::Nothing) | None => {}
        }
        match htree::find(&self.disk, &node, name)? {
            Answer::Found(inode) => Ok(Some(inode)),
            Answer::Absent => Ok(None),
            Answer::Unknown => directory::find(&self.disk, &node, name),
        }
    }

    fn read_dir(&self, directory: Inode, cookie: u64, visit: &mut dyn FnMut(DirEntry<'_>) -> bool) -> Result<()> {
        let node = self.node_of_type(directory, FileType::Directory)?;
        directory::list(&self.disk, &node, cookie, visit)
    }

    fn attr(&self, inode: Inode) -> Result<Attr> {
        let node = self.node(inode)?;
        let mut attr = node.attr(&self.disk);
        if self.orphans.contains(&inode.0)
            && let Some(blocks) = orphan::sectors_when_cut(&self.disk, &node)
        {
            attr.blocks = blocks;
        }
        if node.has(ENCRYPT_FL) && node.file_type == FileType::Symlink {
            attr.size = to_u64(content::link_target(&self.disk, &node)?.len());
        }
        Ok(attr)
    }

    fn read_link(&self, inode: Inode) -> Result<Vec<u8>> {
        let node = self.node_of_type(inode, FileType::Symlink)?;
        content::link_target(&self.disk, &node)
    }

    fn xattrs(&self, inode: Inode) -> Result<Vec<Xattr>> {
        xattr::list(&self.disk, &self.node(inode)?)
    }

    fn extents(&self, inode: Inode, range: Range<u64>) -> Result<Vec<Extent>> {
        let node = self.node_of_type(inode, FileType::File)?;
        content::extents(&self.disk, &node, range)
    }

    fn summary(&self) -> Summary {
        let sb = &self.disk.sb;
        let mut notes = self.notes.clone();
        let damaged = self.disk.groups.damaged();
        if damaged > 0 {
            notes.push(format!(
                "{damaged} block group descriptors fail their checksum; they are used as they are"
            ));
        }
        Summary {
            size: sb.blocks_count.saturating_mul(sb.block_size),
            free: sb.free_blocks.saturating_mul(sb.cluster_size),
            files: sb.inodes_count.saturating_sub(sb.free_inodes),
            notes,
        }
    }
}
