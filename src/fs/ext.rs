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
mod features;
mod fold;
mod group;
mod hash;
mod htree;
mod inline_data;
mod inode;
mod mapping;
mod names;
mod overlay;
mod superblock;
mod xattr;

use std::ops::Range;
use std::sync::Arc;

use self::disk::Disk;
use self::htree::Answer;
use self::inode::{EA_INODE_FL, Node, ROOT};
use self::overlay::Overlay;
use self::superblock::{SUPERBLOCK_AT, SUPERBLOCK_LEN, Superblock};
use super::{Attr, DirEntry, Error, Extent, FileSystem, FileType, Inode, Result, Summary, Xattr};
use crate::image::ReadAt;

/// An ext2, ext3 or ext4 file system on a volume.
pub struct Ext {
    disk: Disk,
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
        let disk = Disk::new(volume, sb, Overlay::default());
        Ok(Self { disk, notes })
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

impl FileSystem for Ext {
    fn root(&self) -> Inode {
        Inode(ROOT)
    }

    fn lookup(&self, directory: Inode, name: &[u8]) -> Result<Option<Inode>> {
        let node = self.node_of_type(directory, FileType::Directory)?;
        if name.is_empty() || name.len() > dirent::NAME_LEN || name == b"." || name == b".." {
            return Ok(None);
        }
        match htree::find(&self.disk, &node, name)? {
            Answer::Found(inode) => Ok(Some(inode)),
            Answer::Absent => Ok(None),
            Answer::Unknown => directory::find(&self.disk, &node, name),
        }
    }

    fn read_dir(&self, directory: Inode, cookie: u64, visit: &mut dyn FnMut(DirEntry<'_>) -> bool) -> Result<()> {
        let node = self.node_of_type(directory, FileType::Directory)?;
        directory::read(&self.disk, &node, cookie, &mut |entry, next| {
            directory::show(&self.disk, &node, entry, next, visit)
        })
    }

    fn attr(&self, inode: Inode) -> Result<Attr> {
        Ok(self.node(inode)?.attr(&self.disk))
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
