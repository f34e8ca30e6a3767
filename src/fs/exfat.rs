//! exFAT, as memory cards and large removable disks are.
//!
//! What Linux's `exfat` shows with its defaults: directories are 0755, files 0755 or 0555, all of them root's. The inode number of a file
//! is the place of its File entry on the volume, in units of 32 bytes.
//!
//! # Source
//! Microsoft exFAT file system specification, revision 1.00, whose sections are cited.

mod boot;
mod directory;
mod entry;
mod upcase;

use std::ops::Range;
use std::sync::Arc;

use super::fat::attr;
use super::fat::chain::{Clusters, sound_len};
use super::fat::index::Indexes;
use super::fat::slots::{Area, Length, SLOT, Slots};
use super::fat::table::{Table, Width};
use super::fat::{corrupt, give, truncation};
use super::{Attr, DirEntry, Error, Extent, FileSystem, FileType, Inode, MAX_EXTENTS, Place, Result, Summary, Xattr};
use crate::bytes::{le_u32, le_u64, to_usize};
use crate::image::ReadAt;
use boot::Boot;
use directory::{Directory, MOST_SLOTS, collect};
use entry::{Bytes, EntrySet, entry_type, secondary_count};
use upcase::Upcase;

/// Number of the root directory, which has no entry: the second 32 bytes of the boot sector can be none.
const ROOT: Inode = Inode(1);

/// Slots of the root directory in which the up-case table and the label are looked for.
const SEARCHED_SLOTS: u64 = 1 << 16;

/// An exFAT file system.
pub struct Exfat {
    volume: Arc<dyn ReadAt>,
    boot: Boot,
    clusters: Clusters,
    indexes: Indexes,
    upcase: Upcase,
    label: Option<String>,
    notes: Vec<String>,
}

/// What an inode number stands for.
enum Node {
    Root,
    Entries(EntrySet),
}

impl Exfat {
    /// Opens the exFAT file system on `volume`.
    ///
    /// # Errors
    /// `Corrupt` if there is none; `Unsupported` for a revision other than 1; as the volume's.
    pub fn open(volume: Arc<dyn ReadAt>) -> Result<Self> {
        let boot = Boot::read(&volume)?;
        let table = Table::new(Arc::clone(&volume), boot.table, Width::Exfat, boot.clusters);
        let clusters = Clusters::new(Arc::clone(&volume), table, boot.heap, boot.cluster_size);
        let mut this = Self {
            volume,
            boot,
            clusters,
            indexes: Indexes::default(),
            upcase: Upcase::ascii(),
            label: None,
            notes: Vec::new(),
        };
        match this.find_upcase() {
            Some(upcase) => this.upcase = upcase,
            None => this.notes.push(
                "The table of capital letters is missing or damaged: names are found in any letters of case for ASCII only.".to_owned(),
            ),
        }
        this.note();
        Ok(this)
    }

    /// The name of the volume, if it has one.
    #[must_use]
    pub fn label(&self) -> Option<&str> {
        self.label.as_deref()
    }

    fn note(&mut self) {
        let flags = [
            (
                self.boot.is_backup,
                "The boot region is damaged, and its backup was used.",
            ),
            (
                self.boot.is_dirty,
                "The file system was in use when it was backed up, or was not unmounted.",
            ),
            (
                self.boot.has_failed,
                "The file system is marked as one whose disk has failed to read or write.",
            ),
            (self.boot.percent.is_none(), "How much space is free is not known."),
        ];
        let notes = flags.into_iter().filter(|(is_so, _)| *is_so);
        self.notes.extend(notes.map(|(_, note)| note.to_owned()));
        self.notes.extend(truncation(self.boot.size, &self.volume));
    }

    /// Looks through the root directory for the up-case table, and for the label on the way.
    fn find_upcase(&mut self) -> Option<Upcase> {
        let area = Area::Chain(self.boot.root);
        let mut slots = Slots::new(&self.clusters, area, Length::AtMost(MOST_SLOTS), 0);
        let mut found = None;
        while let Ok(Some(slot)) = slots.next() {
            let [entry_type, ..] = slot.bytes;
            match entry_type {
                entry_type::LABEL => self.label = entry::label(&slot.bytes).filter(|label| !label.is_empty()),
                entry_type::UPCASE => found = self.upcase_of(&slot.bytes).or(found),
                entry_type::END => break,
                _ => {}
            }
            if slot.number >= SEARCHED_SLOTS || found.is_some() && self.label.is_some() {
                break;
            }
        }
        found
    }

    /// Reads the table that an Up-case Table entry describes.
    fn upcase_of(&self, slot: &Bytes) -> Option<Upcase> {
        let table_checksum = le_u32(slot, 4)?;
        let first_cluster = le_u32(slot, 20)?;
        let data_length = le_u64(slot, 24).filter(|len| (1..=upcase::MOST_BYTES).contains(len))?;
        let mut table = vec![0; to_usize(data_length)];
        for extent in self.clusters.chained(first_cluster, 0..data_length, data_length).ok()? {
            let Place::Volume(offset) = extent.place else {
                return None;
            };
            let end = extent.start.checked_add(extent.len)?;
            let part = table.get_mut(to_usize(extent.start)..to_usize(end))?;
            self.volume.read_at(offset, part).ok()?;
        }
        Upcase::decode(&table, table_checksum)
    }

    fn fold(&self) -> impl Fn(char) -> char + '_ {
        |letter| self.upcase.upper(letter)
    }

    /// The entry set of a number, which may be anything: a File entry must lie there, and its set must have the right checksum.
    fn node(&self, inode: Inode) -> Result<Node> {
        if inode == ROOT {
            return Ok(Node::Root);
        }
        let none = || Error::NoInode { inode };
        let offset = inode.0.checked_mul(SLOT).ok_or_else(none)?;
        let cluster = self.clusters.at(offset).ok_or_else(none)?;
        let begin = self.clusters.offset(cluster).ok_or_else(none)?;
        let number = offset.saturating_sub(begin) / SLOT;
        let mut slot = [0; 32];
        self.volume.read_at(offset, &mut slot)?;
        let count = secondary_count(&slot).ok_or_else(none)?;
        // A set that crosses the end of its cluster goes on where the directory does. The number does not say which directory that is:
        // the checksum tells whether it has a chain or not.
        let is_inside = number.saturating_add(u64::from(count)) < self.boot.cluster_size / SLOT;
        let areas = [Area::Fixed(begin), Area::Chain(cluster)];
        for area in areas.into_iter().take(if is_inside { 1 } else { 2 }) {
            let mut set = vec![slot];
            let length = Length::Exactly(MOST_SLOTS);
            let mut slots = Slots::new(&self.clusters, area, length, number.saturating_add(1));
            let collected = collect(&mut slots, count, &mut set);
            let entries = EntrySet::decode(&set).filter(|entries| collected.is_ok() && entries.is_sound);
            if let Some(entries) = entries {
                return self.check(entries, offset);
            }
        }
        Err(corrupt("a directory entry set (its checksum is wrong)", offset))
    }

    fn check(&self, entries: EntrySet, offset: u64) -> Result<Node> {
        let space = u64::from(self.boot.clusters).saturating_mul(self.boot.cluster_size);
        if entries.size > space {
            let what = format!("a file of {} bytes (it is larger than the volume)", entries.size);
            return Err(corrupt(what, offset));
        }
        Ok(Node::Entries(entries))
    }

    /// The records of a directory from slot `from` on.
    fn directory(&self, inode: Inode, from: u64) -> Result<Directory<'_>> {
        let (area, length) = match self.node(inode)? {
            Node::Root => (Area::Chain(self.boot.root), Length::AtMost(MOST_SLOTS)),
            Node::Entries(entries) if entries.is_directory() => self.area(&entries, inode)?,
            Node::Entries(_) => {
                let wanted = FileType::Directory;
                return Err(Error::WrongType { inode, wanted });
            }
        };
        Ok(Directory::new(Slots::new(&self.clusters, area, length, from)))
    }

    fn area(&self, entries: &EntrySet, inode: Inode) -> Result<(Area, Length)> {
        let slots = entries.size / SLOT;
        if slots > MOST_SLOTS {
            let what = format!(
                "a directory of {} bytes (it is longer than the format allows)",
                entries.size
            );
            return Err(corrupt(what, inode.0.saturating_mul(SLOT)));
        }
        if slots == 0 {
            return Ok((Area::Fixed(0), Length::Exactly(0)));
        }
        if !entries.is_contiguous {
            return Ok((Area::Chain(entries.first_cluster), Length::Exactly(slots)));
        }
        match self
            .clusters
            .contiguous(entries.first_cluster, entries.size)?
            .as_slice()
        {
            [
                Extent {
                    place: Place::Volume(offset),
                    ..
                },
            ] => Ok((Area::Fixed(*offset), Length::Exactly(slots))),
            _ => Err(corrupt("a directory", inode.0.saturating_mul(SLOT))),
        }
    }

    fn attr_of(&self, inode: Inode, entries: Option<&EntrySet>) -> Attr {
        let kind = match entries {
            Some(entries) if !entries.is_directory() => attr::Kind::File {
                is_read_only: entries.is_read_only(),
            },
            _ => attr::Kind::Directory {
                // Damage inside the directory is told when it is read.
                subdirectories: self.directory(inode, 0).map_or(0, |mut records| {
                    self.indexes.of(inode, &mut records, &self.fold()).subdirectories
                }),
            },
        };
        let size = match entries {
            Some(entries) => entries.size,
            None => sound_len(&self.clusters, self.boot.root, MOST_SLOTS.saturating_mul(SLOT)),
        };
        let times = entries.map(|entries| attr::Times {
            accessed: entries.accessed,
            modified: entries.modified,
            created: Some(entries.created),
        });
        attr::of(kind, size, self.boot.cluster_size, times.unwrap_or_default())
    }

    fn data_extents(&self, entries: &EntrySet, range: Range<u64>) -> Result<Vec<Extent>> {
        if entries.is_contiguous {
            self.clusters.contiguous(entries.first_cluster, entries.valid)
        } else {
            self.clusters.chained(entries.first_cluster, range, entries.valid)
        }
    }
}

impl FileSystem for Exfat {
    fn root(&self) -> Inode {
        ROOT
    }

    fn lookup(&self, directory: Inode, name: &[u8]) -> Result<Option<Inode>> {
        let mut records = self.directory(directory, 0)?;
        let found = self.indexes.find((directory, name), &mut records, &self.fold())?;
        Ok(found.map(|record| record.inode))
    }

    fn read_dir(&self, directory: Inode, cookie: u64, visit: &mut dyn FnMut(DirEntry<'_>) -> bool) -> Result<()> {
        let mut records = self.directory(directory, cookie)?;
        give(&mut records, visit)
    }

    fn attr(&self, inode: Inode) -> Result<Attr> {
        match self.node(inode)? {
            Node::Root => Ok(self.attr_of(inode, None)),
            Node::Entries(entries) => Ok(self.attr_of(inode, Some(&entries))),
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
        let entries = match self.node(inode)? {
            Node::Entries(entries) if !entries.is_directory() => entries,
            _ => {
                let wanted = FileType::File;
                return Err(Error::WrongType { inode, wanted });
            }
        };
        let (valid, size) = (entries.valid, entries.size);
        if range.start >= range.end.min(size) {
            return Ok(Vec::new());
        }
        let mut extents = Vec::new();
        if range.start < valid {
            extents = self.data_extents(&entries, range)?;
            if extents.is_empty() {
                let what = format!("a file of {size} bytes (its cluster chain ends too early)");
                return Err(corrupt(what, inode.0.saturating_mul(SLOT)));
            }
        }
        let end = extents.last().map_or(valid, |last| last.start.saturating_add(last.len));
        if end == valid && valid < size && extents.len() < MAX_EXTENTS {
            extents.push(Extent {
                start: valid,
                len: size.saturating_sub(valid),
                place: Place::Zeros,
            });
        }
        Ok(extents)
    }

    fn summary(&self) -> Summary {
        let free = 100_u64.saturating_sub(u64::from(self.boot.percent.unwrap_or(100)));
        let space = u64::from(self.boot.clusters).saturating_mul(self.boot.cluster_size);
        Summary {
            size: self.boot.size,
            free: space / 100 * free,
            files: 0,
            notes: self.notes.clone(),
        }
    }
}
