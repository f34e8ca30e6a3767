//! A FAT directory as records: long names joined with the short entries that they belong to.

use super::super::{FileType, Inode, Result};
use super::entry::{Content, Entry, LongName};
use super::index::{Record, Records};
use super::slots::{SLOT, Slots};

/// Most slots of a directory.
///
/// # Source
/// Microsoft FAT specification, section 6: a directory is at most 2^16 entries of 32 bytes.
pub(crate) const MOST_SLOTS: u64 = 1 << 16;

/// The files of a directory.
pub(crate) struct Directory<'a> {
    slots: Slots<'a>,
}

impl<'a> Directory<'a> {
    /// The files whose entries lie in `slots`.
    pub(crate) fn new(slots: Slots<'a>) -> Self {
        Self { slots }
    }

    /// The name of the volume, if this is the root directory and has one.
    ///
    /// # Errors
    /// `Corrupt` where the directory is damaged.
    pub(crate) fn label(mut self) -> Result<Option<String>> {
        while let Some(slot) = self.slots.next()? {
            match Content::decode(&slot.bytes) {
                Content::Label(label) => return Ok(Some(label)),
                Content::End => break,
                _ => {}
            }
        }
        Ok(None)
    }
}

impl Records for Directory<'_> {
    fn next(&mut self) -> Result<Option<Record>> {
        let mut long = LongName::default();
        let mut first_slot = None;
        while let Some(slot) = self.slots.next()? {
            match Content::decode(&slot.bytes) {
                Content::End => break,
                Content::Long(piece) => {
                    if long.is_empty() || piece.is_last() {
                        first_slot = Some(slot.number);
                    }
                    long.push(&piece);
                }
                Content::File(entry) => {
                    let next_slot = slot.number.saturating_add(1);
                    let inode = Inode(slot.offset / SLOT);
                    // Pieces that belong to no entry are what other systems leave behind: the short name stands.
                    let long = long.finish(&entry);
                    let first_slot = first_slot.filter(|_| long.is_some()).unwrap_or(slot.number);
                    return Ok(Some(record(&entry, long, (inode, first_slot, next_slot))));
                }
                Content::Free | Content::Label(_) | Content::Dot => long.clear(),
            }
        }
        Ok(None)
    }

    fn seek(&mut self, slot: u64) {
        self.slots.seek(slot);
    }
}

fn record(entry: &Entry, long: Option<String>, (inode, first_slot, next_slot): (Inode, u64, u64)) -> Record {
    let short = match entry.short_name() {
        // No name that can be shown. A colon is in no other name: it would be spelled `:003a`.
        nothing if matches!(nothing.as_str(), "" | "." | "..") => format!(":lost-{first_slot}"),
        short => short,
    };
    let (name, alias) = match long {
        Some(long) => (long, Some(short)),
        None => (short, None),
    };
    let file_type = if entry.is_directory() {
        FileType::Directory
    } else {
        FileType::File
    };
    Record {
        name,
        alias,
        inode,
        file_type,
        first_slot,
        next_slot,
    }
}
