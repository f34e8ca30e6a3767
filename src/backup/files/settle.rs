//! From sorted items to the stored tree: one visit of each file counts, names of what could not be read go, pages are stored.

use super::pages::{Pages, Root};
use super::sorter::{Merge, Sorter};
use super::{Shared, fatal};
use crate::backup::{Error, Result};
use crate::vault::TreeStatistics;
use crate::vault::item::{ChunkRef, InodeRecord, Key, Kind, NameTarget};
use crate::vault::map::PageRef;
use crate::vault::tree_page::page_id;
use std::collections::HashSet;
use std::sync::atomic::Ordering;

/// Items between two looks at whether to stop.
const STEP: u64 = 4096;

/// Chooses among the items of several visits, and counts.
#[derive(Debug, Default)]
struct Choice {
    /// The file whose items are passing, and the visit that counts.
    current: Option<(u64, u64)>,
    statistics: TreeStatistics,
}

impl Choice {
    /// Says whether an item is to be stored: the first complete visit of its file made it, and it names no file that failed.
    fn takes(&mut self, key: Key<'_>, visit: u64, value: &[u8], failed: &HashSet<u64>) -> bool {
        match key.kind {
            Kind::User | Kind::Group => return true,
            // Comes first of all items of a file, and last from a visit: one that broke off has none.
            Kind::Inode => {
                let new = self.current.is_none_or(|(inode, _)| inode != key.inode);
                if new {
                    self.current = Some((key.inode, visit));
                    self.count(value);
                }
                return new;
            }
            _ => {}
        }
        if self.current != Some((key.inode, visit)) {
            return false;
        }
        let data = &mut self.statistics.data;
        match key.kind {
            Kind::Name => NameTarget::decode(value).is_some_and(|target| !failed.contains(&target.inode)),
            Kind::Chunk => {
                *data = data.saturating_add(ChunkRef::decode(value).map_or(0, |chunk| chunk.len_bytes()));
                true
            }
            _ => true,
        }
    }

    fn count(&mut self, value: &[u8]) {
        let Some(record) = InodeRecord::decode(value) else {
            return;
        };
        let statistics = &mut self.statistics;
        let one_more = match super::record::type_code(record.mode) {
            REGULAR => {
                statistics.logical = statistics.logical.saturating_add(record.size);
                &mut statistics.files
            }
            DIRECTORY => &mut statistics.directories,
            _ => &mut statistics.others,
        };
        *one_more = one_more.saturating_add(1);
    }
}

const REGULAR: u8 = 8;
const DIRECTORY: u8 = 4;

/// Stores the tree.
pub(super) fn settle(shared: &Shared<'_>, sorter: Sorter, failed: &HashSet<u64>) -> Result<(Root, TreeStatistics)> {
    let mut merge: Merge = sorter.merge().map_err(fatal)?;
    let mut stored = 0u64;
    let mut pages = Pages::new(|page: Vec<u8>| {
        let (place, added) = store_page(shared, &page)?;
        stored = stored.saturating_add(added);
        Ok::<PageRef, Error>(place)
    });
    let mut choice = Choice::default();
    let mut inline = 0u64;
    let mut is_file = false;
    let mut passed = 0u64;
    while let Some(record) = merge.next().map_err(fatal)? {
        passed = passed.wrapping_add(1);
        if passed.is_multiple_of(STEP) && shared.context.cancel.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        let Some(key) = Key::decode(record.key) else { continue };
        if !choice.takes(key, record.visit, record.value, failed) {
            continue;
        }
        match key.kind {
            Kind::Inode => {
                is_file = InodeRecord::decode(record.value)
                    .is_some_and(|record| super::record::type_code(record.mode) == REGULAR);
            }
            Kind::Data if is_file => inline = inline.saturating_add(crate::bytes::to_u64(record.value.len())),
            _ => {}
        }
        pages.push(record.key, record.value)?;
    }
    let root = pages.finish()?.ok_or_else(|| Error::Invalid {
        what: "the tree came out empty".to_owned(),
    })?;
    let mut statistics = choice.statistics;
    statistics.data = statistics.data.saturating_add(inline);
    statistics.stored = stored;
    Ok((root, statistics))
}

/// Stores a page, unless the parent has it and it is still there; returns the bytes that this added.
fn store_page(shared: &Shared<'_>, page: &[u8]) -> Result<(PageRef, u64)> {
    let writer = &shared.context.writer;
    let old = shared
        .previous
        .as_ref()
        .and_then(|previous| previous.page(page_id(page).0));
    match old {
        Some(place) if writer.has_page(&place)? => Ok((place, 0)),
        _ => Ok(writer.add_tree_page(page, shared.context.level)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum::Digest;
    use crate::vault::item::{Time, first_key};

    fn record(mode: u32) -> Vec<u8> {
        InodeRecord {
            mode,
            uid: 0,
            gid: 0,
            links: 1,
            size: 10,
            blocks: 0,
            device: (0, 0),
            accessed: Time::default(),
            modified: Time::default(),
            changed: Time::default(),
            created: None,
            flags: 0,
            state: crate::vault::item::State::default(),
            digest: Digest([0; 32]),
        }
        .encode()
    }

    fn name(to: u64) -> Vec<u8> {
        NameTarget {
            inode: to,
            type_code: 8,
        }
        .encode()
    }

    #[test]
    fn items_of_one_visit_are_taken_and_names_of_what_failed_are_not() {
        let (file, data) = (record(0o100_644), vec![1]);
        let key = |inode, kind| Key { inode, kind, rest: b"" };
        let named = |inode| Key {
            inode,
            kind: Kind::Name,
            rest: b"a",
        };
        let failed = HashSet::from([9]);
        let steps = [
            (key(5, Kind::Inode), 3, &record(0o040_755), true),
            (named(5), 3, &name(6), true),
            (named(5), 3, &name(9), false),
            (key(6, Kind::Inode), 4, &file, true),
            (key(6, Kind::Inode), 8, &file, false),
            (key(6, Kind::Data), 2, &data, false),
            (key(6, Kind::Data), 4, &data, true),
            (key(6, Kind::Data), 8, &data, false),
            (key(9, Kind::Data), 7, &data, false),
        ];
        let mut choice = Choice::default();
        for (key, visit, value, expected) in steps {
            assert_eq!(choice.takes(key, visit, value, &failed), expected, "{key:?} {visit}");
        }
        let counted = choice.statistics;
        assert_eq!((counted.files, counted.directories, counted.logical), (1, 1, 10));
        assert!(Key::decode(&first_key(6, Kind::Data)).is_some());
    }
}
