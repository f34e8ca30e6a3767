//! The parent backup of a tree: which files are as they were, and which pages need not be stored again.

use super::record;
use crate::chunk::Reader;
use crate::chunk::items::Items;
use crate::monitor::Monitor;
use crate::source::directory::attributes::Attributes;
use crate::vault::item::{self, InodeRecord, Key, Kind};
use crate::vault::map::PageRef;
use crate::vault::object::ObjectId;
use crate::vault::{Address, Tree};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The tree of the parent backup.
pub(super) struct Previous {
    items: Items,
    pages: HashMap<[u8; 32], ObjectId>,
    address: Address,
    is_bad: AtomicBool,
}

impl Previous {
    /// Opens it; reads its inner pages.
    pub(super) fn open(reader: &Arc<Reader>, address: &Address, tree: &Tree, monitor: &dyn Monitor) -> Self {
        let items = Items::new(reader, tree.root, tree.height, tree.items);
        let mut pages = HashMap::new();
        let listed = items.pages(&mut |page| {
            pages.insert(page.id, page.pack);
        });
        let previous = Self {
            items,
            pages,
            address: address.clone(),
            is_bad: AtomicBool::new(false),
        };
        if let Err(error) = listed {
            previous.complain(monitor, &error);
        }
        previous
    }

    /// Where the page with this id is, if the parent has it.
    pub(super) fn page(&self, id: [u8; 32]) -> Option<PageRef> {
        self.pages.get(&id).map(|pack| PageRef { id, pack: *pack })
    }

    /// The record of file `number`, if the file is as it was; `each` gets its other items but names, until it returns `false`.
    ///
    /// A parent that cannot be read costs reading the file, never the backup.
    pub(super) fn unchanged(
        &self,
        monitor: &dyn Monitor,
        number: u64,
        found: &Attributes,
        mut each: impl FnMut(Key<'_>, &[u8]) -> bool,
    ) -> Option<InodeRecord> {
        let mut old = None;
        let scanned = self
            .items
            .scan(&item::first_key(number, Kind::Inode), &mut |_, key, value| {
                let Some(key) = Key::decode(key).filter(|key| key.inode == number && key.kind != Kind::Name) else {
                    return false;
                };
                if key.kind == Kind::Inode {
                    old = InodeRecord::decode(value).filter(|old| record::is_unchanged(old, found));
                    return old.is_some();
                }
                old.is_some() && each(key, value)
            });
        match scanned {
            Ok(()) => old,
            Err(error) => {
                self.complain(monitor, &error);
                None
            }
        }
    }

    fn complain(&self, monitor: &dyn Monitor, error: &crate::chunk::Error) {
        if !self.is_bad.swap(true, Ordering::Relaxed) {
            let address = &self.address;
            monitor.warn(&format!(
                "{address} cannot be compared with everywhere: {error}; more is read and stored than needed"
            ));
        }
    }
}
