//! An exFAT directory as records: entry sets one after another.

use super::super::fat::index::{Record, Records};
use super::super::fat::slots::{SLOT, Slots};
use super::super::{FileType, Inode, Result};
use super::entry::{Bytes, EntrySet, SECONDARY, entry_type, is_secondary, secondary_count};

/// Most slots of a directory: 256 MiB.
///
/// # Source
/// exFAT specification, section 7.6.7: `DataLength` of a directory is at most 256 MiB.
pub(crate) const MOST_SLOTS: u64 = 8 << 20;

/// The files of a directory.
pub(crate) struct Directory<'a> {
    slots: Slots<'a>,
}

impl<'a> Directory<'a> {
    /// The files whose entry sets lie in `slots`.
    pub(crate) fn new(slots: Slots<'a>) -> Self {
        Self { slots }
    }
}

impl Records for Directory<'_> {
    /// A set that is damaged is a record too, with as much of its name as is there: that a file was there must not be hidden.
    fn next(&mut self) -> Result<Option<Record>> {
        while let Some(slot) = self.slots.next()? {
            let [entry_type, ..] = slot.bytes;
            if entry_type == entry_type::END {
                break;
            }
            let Some(count) = secondary_count(&slot.bytes) else {
                continue;
            };
            let mut set = vec![slot.bytes];
            let next_slot = collect(&mut self.slots, count, &mut set)?.max(slot.number.saturating_add(1));
            let Some(entries) = EntrySet::decode(&set) else {
                continue;
            };
            let is_directory = entries.is_directory();
            return Ok(Some(Record {
                name: match entries.name.as_str() {
                    // No name that can be shown. A colon is in no other name: it would be spelled `:003a`.
                    "" | "." | ".." => format!(":lost-{}", slot.number),
                    _ => entries.name,
                },
                alias: None,
                inode: Inode(slot.offset / SLOT),
                file_type: if is_directory {
                    FileType::Directory
                } else {
                    FileType::File
                },
                first_slot: slot.number,
                next_slot,
            }));
        }
        Ok(None)
    }

    fn seek(&mut self, slot: u64) {
        self.slots.seek(slot);
    }
}

/// Appends the secondary entries that follow, at most `count`; gives the number of the slot after them, which comes next.
pub(crate) fn collect(slots: &mut Slots<'_>, count: u8, set: &mut Vec<Bytes>) -> Result<u64> {
    let mut next = 0;
    for _ in 0..count.min(*SECONDARY.end()) {
        match slots.next()? {
            Some(slot) if is_secondary(&slot.bytes) => {
                set.push(slot.bytes);
                next = slot.number.saturating_add(1);
            }
            Some(slot) => {
                slots.seek(slot.number);
                return Ok(slot.number);
            }
            None => break,
        }
    }
    Ok(next)
}
