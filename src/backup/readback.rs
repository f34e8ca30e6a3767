//! The last thing before a backup is committed: a random extent of each disk, or a random file, is read back through the vault by a fresh
//! reader and compared with the source.

use super::{Error, Result};
use crate::bytes::{field, to_usize};
use crate::checksum::Hasher;
use crate::chunk::items::Items;
use crate::chunk::{self, Reader};
use crate::image::disk::{DiskImage, Place};
use crate::image::{self, ReadAt};
use crate::monitor::Monitor;
use crate::vault::item::{ChunkRef, InodeRecord, Key, Kind, chunk_key, first_key};
use crate::vault::map::Entry;
use crate::vault::object::ObjectId;
use crate::vault::quarantine::Quarantine;
use crate::vault::{Address, ChunkId, Disk, Tree, Vault, random_id};
use std::sync::Arc;

/// Memory for what is read back.
const CACHE: u64 = 8 << 20;
/// Places of a disk that are compared until one is as it was: the source may be in use.
const PLACES: usize = 8;
/// Items of a tree that are looked at until a file is found.
const ITEMS: usize = 4096;
/// Most bytes of a file that are read back.
const MAX_FILE: u64 = 64 << 20;
/// The type of a regular file in a mode.
const REGULAR: u32 = 0o10;

/// Reads back what is to be committed.
pub(super) struct ReadBack<'a> {
    reader: Arc<Reader>,
    address: &'a Address,
    monitor: &'a dyn Monitor,
    now: i64,
}

impl<'a> ReadBack<'a> {
    /// Starts with a reader that has read nothing.
    pub(super) fn new(vault: &Vault, address: &'a Address, monitor: &'a dyn Monitor, now: i64) -> Self {
        Self {
            reader: Reader::new(vault.clone(), CACHE),
            address,
            monitor,
            now,
        }
    }

    /// Compares a random extent of a disk with its source; an extent that the source has changed since counts for nothing.
    pub(super) fn disk(&self, disk: &Disk, source: &dyn ReadAt) -> Result<()> {
        let image = DiskImage::open(&self.reader, self.address, disk);
        let layout = image.layout();
        let chunk_size = u64::from(layout.chunk_size);
        for _ in 0..PLACES {
            let Some(start) = random_below(layout.chunks())?.map(|number| number.saturating_mul(chunk_size)) else {
                return Ok(());
            };
            let place = |at| {
                image
                    .next_data(at)
                    .map_err(|source| self.lost_map(disk, &image, source))
            };
            let found = match place(start)? {
                None if start > 0 => place(0)?,
                found => found,
            };
            let Some(number) = found.map(|offset| offset / chunk_size) else {
                return Ok(());
            };
            let entry = image
                .place(number)
                .map_err(|source| self.lost_map(disk, &image, source))?;
            let Place::Chunk(entry) = entry else { continue };
            let len = layout.chunk_len(number);
            let offset = number.saturating_mul(chunk_size);
            let (mut stored, mut now) = (Vec::new(), vec![0; len]);
            self.fetch(&entry, len, (&disk.name, offset), &mut stored)?;
            source.read_at(offset, &mut now)?;
            if stored == now {
                return Ok(());
            }
        }
        let name = &disk.name;
        self.monitor.warn(&format!(
            "disk {name} was read back in {PLACES} places, and its source differs in all of them by now: is it in heavy use?"
        ));
        Ok(())
    }

    /// Reads a random file back and compares it with the hash of what was read of the source.
    pub(super) fn tree(&self, tree: &Tree) -> Result<()> {
        let items = Items::new(&self.reader, tree.root, tree.height, tree.items);
        let Some(rank) = random_below(tree.items)? else {
            return Ok(());
        };
        let Some((inode, record)) = self.file(&items, rank)? else {
            return Ok(());
        };
        let file = format!("the file with inode number {inode}");
        let lost = |error| self.lost_tree(&items, error);
        let mut hasher = Hasher::default();
        if let Some(item) = items.get(&first_key(inode, Kind::Data)).map_err(lost)? {
            hasher.update(item.value());
        }
        let mut runs: Vec<(Entry, usize, u64)> = Vec::new();
        let scanned = items.scan(&chunk_key(inode, 0), &mut |_, key, value| {
            let key = Key::decode(key).filter(|key| (key.inode, key.kind) == (inode, Kind::Chunk));
            let run = key.and_then(|key| Some((key.offset()?, ChunkRef::decode(value)?)));
            run.is_some_and(|(offset, chunk)| {
                let entry = Entry {
                    id: chunk.id,
                    pack: chunk.pack,
                };
                runs.push((entry, to_usize(chunk.len_bytes()), offset));
                true
            })
        });
        scanned.map_err(lost)?;
        let mut plain = Vec::new();
        for (entry, len, offset) in runs {
            self.fetch(&entry, len, (&file, offset), &mut plain)?;
            hasher.update(&plain);
        }
        if hasher.digest() == record.digest {
            return Ok(());
        }
        let what = format!("the content of {file}");
        Err(self.failed(&file, image::Error::Corrupt { what, at: 0 }))
    }

    /// A regular file whose items come at this rank or later, and that is not too large to be read back.
    fn file(&self, items: &Items, rank: u64) -> Result<Option<(u64, InodeRecord)>> {
        let (mut looked_at, mut found) = (0usize, None);
        let scanned = items.scan_from_rank(rank, &mut |_, key, value| {
            looked_at = looked_at.saturating_add(1);
            let key = Key::decode(key).filter(|key| key.kind == Kind::Inode);
            let file = key.and_then(|key| Some((key.inode, InodeRecord::decode(value)?)));
            let file = file.filter(|(_, record)| record.mode >> 12 == REGULAR && (1..=MAX_FILE).contains(&record.size));
            found = file;
            found.is_none() && looked_at < ITEMS
        });
        scanned.map_err(|error| self.lost_tree(items, error))?;
        Ok(found)
    }

    /// Reads a chunk; one that is lost goes into quarantine, so that the next backup stores it again.
    fn fetch(&self, entry: &Entry, len: usize, (whose, at): (&str, u64), plain: &mut Vec<u8>) -> Result<()> {
        let first = self.reader.fetch(entry, len, plain);
        // Once more before it is said for ever: memory or a cable may have been to blame.
        let fetched = match first {
            Err(error) if error.is_loss() => self.reader.fetch(entry, len, plain),
            other => other,
        };
        fetched.map_err(|error| {
            self.quarantine(&entry.pack, &entry.id, &error);
            self.failed(whose, image::Error::of_chunk(error, whose, at))
        })
    }

    /// The error for a map that cannot be read; its pages that are lost go into quarantine.
    fn lost_map(&self, disk: &Disk, image: &DiskImage, source: image::Error) -> Error {
        let layout = image.layout();
        let lists = (0..layout.lists()).filter_map(|number| image.list_ref(number));
        let pages = (0..layout.pages()).filter_map(|number| image.page_ref(number).ok());
        for page in lists.chain(pages).filter(|page| !page.is_hole()) {
            if let Err(error) = self.reader.page(&page) {
                self.quarantine(&page.pack, &ChunkId(page.id), &error);
            }
        }
        self.failed(&disk.name, source)
    }

    /// The error for a tree that cannot be read; its pages that are lost go into quarantine.
    fn lost_tree(&self, items: &Items, error: chunk::Error) -> Error {
        let mut pages = Vec::new();
        // It ends at the first page that is lost, which is among those it gave.
        let listed = items.pages(&mut |page| pages.push(*page));
        for page in pages {
            if let Err(error) = self.reader.tree_page(&page) {
                self.quarantine(&page.pack, &ChunkId(page.id), &error);
            }
        }
        let what = "the tree of files";
        self.failed(what, image::Error::of_chunk(listed.err().unwrap_or(error), what, 0))
    }

    fn quarantine(&self, pack: &ObjectId, id: &ChunkId, error: &chunk::Error) {
        if !error.is_loss() {
            return;
        }
        let found = Quarantine {
            at: self.now,
            by: concat!("vaultfs ", env!("CARGO_PKG_VERSION"), " backup").to_owned(),
            what: error.to_string(),
        };
        if let Err(error) = self.reader.vault().put_quarantine(pack, id, &found) {
            self.monitor
                .warn(&format!("chunk {id} cannot be put into quarantine: {error}"));
        }
    }

    fn failed(&self, whose: &str, source: image::Error) -> Error {
        let whose = whose.to_owned();
        Error::ReadBack { whose, source }
    }
}

/// A random number below `bound`; `None` if there is none.
fn random_below(bound: u64) -> Result<Option<u64>> {
    let number = random_id()?;
    Ok(field(&number, 0)
        .map(u64::from_le_bytes)
        .and_then(|number| number.checked_rem(bound)))
}
