//! FAT12, FAT16 and FAT32 with long names, as EFI system partitions are.
//!
//! What Linux's `vfat` shows with its defaults and `utf8`: directories are 0755, files 0755 or 0555, all of them root's; times count as
//! UTC. The inode number of a file is the place of its short entry on the volume, in units of 32 bytes.
//!
//! # Source
//! Microsoft Extensible Firmware Initiative FAT32 File System Specification, version 1.03, and its successor
//! "Microsoft FAT specification" of 2005, whose sections are cited.

pub(super) mod attr;
mod boot;
pub(super) mod chain;
mod directory;
mod entry;
pub(super) mod index;
pub(super) mod slots;
pub(super) mod table;
pub(super) mod text;
pub(super) mod time;

use std::ops::Range;
use std::sync::Arc;

use super::{Attr, DirEntry, Error, Extent, FileSystem, FileType, Inode, Result, Summary, Xattr};
use crate::image::ReadAt;
use boot::{BOOT_LEN, Boot, Root};
use chain::{Clusters, sound_len};
use directory::{Directory, MOST_SLOTS};
use entry::{Content, Entry};
use index::{Index, Indexes, Record, Records};
use slots::{Area, Length, SLOT, Slots};
use table::{Table, Width};

/// Number of the root directory, which has no entry: the second 32 bytes of the boot sector can be none.
const ROOT: Inode = Inode(1);

/// A FAT file system.
pub struct Fat {
    volume: Arc<dyn ReadAt>,
    boot: Boot,
    clusters: Clusters,
    indexes: Indexes,
}

/// What an inode number stands for.
enum Node {
    Root,
    Entry(Entry),
}

impl Fat {
    /// Opens the FAT file system on `volume`.
    ///
    /// # Errors
    /// `Corrupt` if there is none; `Unsupported` for a FAT32 of another version; as the volume's.
    pub fn open(volume: Arc<dyn ReadAt>) -> Result<Self> {
        let mut sector = [0; BOOT_LEN];
        volume.read_at(0, &mut sector)?;
        let boot = Boot::decode(&sector)?;
        let table = Table::new(Arc::clone(&volume), boot.table, boot.width, boot.clusters);
        let clusters = Clusters::new(Arc::clone(&volume), table, boot.heap, boot.cluster_size);
        let indexes = Indexes::default();
        Ok(Self {
            volume,
            boot,
            clusters,
            indexes,
        })
    }

    /// The name of the volume, from the root directory.
    ///
    /// # Errors
    /// `Corrupt` if the root directory is damaged before the label.
    pub fn label(&self) -> Result<Option<String>> {
        self.directory(ROOT, 0)?.label()
    }

    /// The entry of a number, which may be anything: it must lie where directories can be and hold a short entry.
    fn node(&self, inode: Inode) -> Result<Node> {
        if inode == ROOT {
            return Ok(Node::Root);
        }
        let none = || Error::NoInode { inode };
        let offset = inode.0.checked_mul(SLOT).ok_or_else(none)?;
        let in_root = match self.boot.root {
            Root::Fixed { offset: start, slots } => {
                let number = offset.checked_sub(start).map(|into| into / SLOT);
                number.is_some_and(|number| number < slots)
            }
            Root::Chain(_) => false,
        };
        if !in_root && self.clusters.at(offset).is_none() {
            return Err(none());
        }
        let mut slot = [0; 32];
        self.volume.read_at(offset, &mut slot)?;
        match Content::decode(&slot) {
            Content::File(entry) => Ok(Node::Entry(entry)),
            _ => Err(none()),
        }
    }

    fn file(&self, inode: Inode) -> Result<Entry> {
        match self.node(inode)? {
            Node::Entry(entry) if !entry.is_directory() => Ok(entry),
            _ => {
                let wanted = FileType::File;
                Err(Error::WrongType { inode, wanted })
            }
        }
    }

    /// The first cluster of a file or directory.
    fn first_cluster(&self, entry: &Entry) -> u32 {
        match self.boot.width {
            Width::Fat32 => entry.first_cluster & 0x0fff_ffff,
            // OS/2 and others keep something else in the upper half.
            _ => entry.first_cluster & 0xffff,
        }
    }

    /// The records of a directory from slot `from` on.
    fn directory(&self, inode: Inode, from: u64) -> Result<Directory<'_>> {
        let (area, length) = match (self.node(inode)?, self.boot.root) {
            (Node::Root, Root::Fixed { offset, slots }) => (Area::Fixed(offset), Length::Exactly(slots)),
            (Node::Root, Root::Chain(first)) => (Area::Chain(first), Length::AtMost(MOST_SLOTS)),
            (Node::Entry(entry), _) if entry.is_directory() => {
                let first = self.first_cluster(&entry);
                (Area::Chain(first), Length::AtMost(MOST_SLOTS))
            }
            _ => {
                let wanted = FileType::Directory;
                return Err(Error::WrongType { inode, wanted });
            }
        };
        Ok(Directory::new(Slots::new(&self.clusters, area, length, from)))
    }

    fn index(&self, directory: Inode) -> Result<Arc<Index>> {
        let mut records = self.directory(directory, 0)?;
        Ok(self.indexes.of(directory, &mut records, &text::upper))
    }

    fn directory_attr(&self, inode: Inode, entry: Option<&Entry>) -> Result<Attr> {
        let first = match (entry, self.boot.root) {
            (None, Root::Fixed { slots, .. }) => return self.attr_of(inode, None, slots.saturating_mul(SLOT)),
            (None, Root::Chain(first)) => first,
            (Some(entry), _) => self.first_cluster(entry),
        };
        // A broken chain is told when the directory is read; what lies before the break can be.
        let size = sound_len(&self.clusters, first, MOST_SLOTS.saturating_mul(SLOT));
        self.attr_of(inode, entry, size)
    }

    fn attr_of(&self, inode: Inode, entry: Option<&Entry>, size: u64) -> Result<Attr> {
        let kind = match entry {
            Some(entry) if !entry.is_directory() => attr::Kind::File {
                is_read_only: entry.is_read_only(),
            },
            _ => attr::Kind::Directory {
                subdirectories: self.index(inode)?.subdirectories,
            },
        };
        let times = entry.map(|entry| attr::Times {
            accessed: entry.accessed,
            modified: entry.modified,
            created: entry.created,
        });
        Ok(attr::of(kind, size, self.boot.cluster_size, times.unwrap_or_default()))
    }

    /// Free clusters, from the table itself where it is small.
    fn free_clusters(&self) -> Option<u64> {
        if self.boot.width != Width::Fat32 {
            return self.clusters.table().links().free().ok();
        }
        let mut sector = [0; 512];
        self.volume.read_at(self.boot.info?, &mut sector).ok()?;
        boot::free_clusters(&sector).filter(|free| *free <= u64::from(self.boot.clusters))
    }
}

impl FileSystem for Fat {
    fn root(&self) -> Inode {
        ROOT
    }

    fn lookup(&self, directory: Inode, name: &[u8]) -> Result<Option<Inode>> {
        let mut records = self.directory(directory, 0)?;
        let found = self.indexes.find((directory, name), &mut records, &text::upper)?;
        Ok(found.map(|record| record.inode))
    }

    fn read_dir(&self, directory: Inode, cookie: u64, visit: &mut dyn FnMut(DirEntry<'_>) -> bool) -> Result<()> {
        let mut records = self.directory(directory, cookie)?;
        give(&mut records, visit)
    }

    fn attr(&self, inode: Inode) -> Result<Attr> {
        match self.node(inode)? {
            Node::Entry(entry) if !entry.is_directory() => self.attr_of(inode, Some(&entry), u64::from(entry.size)),
            Node::Entry(entry) => self.directory_attr(inode, Some(&entry)),
            Node::Root => self.directory_attr(inode, None),
        }
    }

    fn read_link(&self, inode: Inode) -> Result<Vec<u8>> {
        self.node(inode)?;
        let wanted = FileType::Symlink;
        Err(Error::WrongType { inode, wanted })
    }

    fn xattrs(&self, inode: Inode) -> Result<Vec<Xattr>> {
        self.node(inode)?;
        Ok(Vec::new())
    }

    fn extents(&self, inode: Inode, range: Range<u64>) -> Result<Vec<Extent>> {
        let entry = self.file(inode)?;
        let size = u64::from(entry.size);
        if range.start >= range.end.min(size) {
            return Ok(Vec::new());
        }
        let extents = self.clusters.chained(self.first_cluster(&entry), range, size)?;
        if extents.is_empty() {
            let what = format!("a file of {size} bytes (its cluster chain ends too early)");
            return Err(corrupt(what, inode.0.saturating_mul(SLOT)));
        }
        Ok(extents)
    }

    fn summary(&self) -> Summary {
        let free = self.free_clusters();
        let mut notes = Vec::new();
        // A table that cannot be read says so wherever it is needed.
        let (is_clean, is_sound) = self.clusters.table().links().marks().unwrap_or((true, true));
        if !is_sound {
            notes.push("The file system is marked as one whose disk has failed to read or write.".to_owned());
        }
        if self.boot.is_dirty || !is_clean {
            notes.push("The file system was in use when it was backed up, or was not unmounted.".to_owned());
        }
        if free.is_none() {
            notes.push("How much space is free is not known.".to_owned());
        }
        notes.extend(truncation(self.boot.size, &self.volume));
        Summary {
            size: self.boot.size,
            free: free.unwrap_or_default().saturating_mul(self.boot.cluster_size),
            files: 0,
            notes,
        }
    }
}

/// Gives records to a visitor of a directory; the cookie of each is the slot after it.
pub(super) fn give(records: &mut dyn Records, visit: &mut dyn FnMut(DirEntry<'_>) -> bool) -> Result<()> {
    while let Some(record) = records.next()? {
        let Record {
            name, inode, file_type, ..
        } = &record;
        let more = visit(DirEntry {
            name: name.as_bytes(),
            inode: *inode,
            file_type: Some(*file_type),
            next: record.next_slot,
        });
        if !more {
            break;
        }
    }
    Ok(())
}

/// Says that a volume is too short for the file system on it.
pub(super) fn truncation(size: u64, volume: &Arc<dyn ReadAt>) -> Option<String> {
    let have = volume.len();
    (size > have).then(|| format!("The file system has {size} bytes, of which the volume holds only the first {have}."))
}

pub(super) fn corrupt(what: impl Into<String>, at: u64) -> Error {
    let what = what.into();
    Error::Corrupt { what, at }
}
