//! Builds the tree of pages over sorted items: pages end where a hash of a key says so, so that a change moves few ends.

use crate::bytes::to_u64;
use crate::vault::map::PageRef;
use crate::vault::tree_page::{Builder, Child, MAX_HEIGHT};

/// Least bytes of a page, but for the last of a level.
const MIN: usize = 8 << 10;
/// Bytes of most pages, about.
const TARGET: usize = 32 << 10;
/// A page that has this many bytes takes no more.
const MAX: usize = 64 << 10;
/// Bytes of an entry beside its key and value.
const ENTRY_HEAD: usize = 6;

/// The tree that was built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Root {
    /// The root page.
    pub(super) page: PageRef,
    /// Its level.
    pub(super) height: u8,
    /// Number of items.
    pub(super) items: u64,
}

#[derive(Debug, Default)]
struct Level {
    page: Builder,
    first_key: Vec<u8>,
    items: u64,
}

/// Takes items in the order of their keys, gives encoded pages to `store`, which says where they are.
pub(super) struct Pages<S> {
    levels: Vec<Level>,
    store: S,
}

impl<E, S> Pages<S>
where
    S: FnMut(Vec<u8>) -> Result<PageRef, E>,
{
    /// Starts an empty tree.
    pub(super) fn new(store: S) -> Self {
        Self {
            levels: Vec::new(),
            store,
        }
    }

    /// Adds an item; its key comes after all others.
    ///
    /// # Errors
    /// As `store`.
    pub(super) fn push(&mut self, key: &[u8], value: &[u8]) -> Result<(), E> {
        let (mut key, mut value, mut items) = (key.to_vec(), value.to_vec(), 1);
        for number in 0..MAX_HEIGHT {
            if self.levels.len() == usize::from(number) {
                self.levels.push(Level::default());
            }
            let ended = match self.levels.get_mut(usize::from(number)) {
                Some(level) if ends_before(&key, value.len(), number, level.page.len()) && !level.page.is_empty() => {
                    Some(end(level, number, &mut self.store)?)
                }
                _ => None,
            };
            if let Some(level) = self.levels.get_mut(usize::from(number)) {
                if level.page.is_empty() {
                    level.first_key.clone_from(&key);
                }
                level.page.push(&key, &value);
                level.items = level.items.saturating_add(items);
            }
            match ended {
                None => break,
                Some((first_key, child)) => (key, value, items) = (first_key, child.encode(), child.items),
            }
        }
        Ok(())
    }

    /// Ends all pages; `None` if there was no item.
    ///
    /// # Errors
    /// As `store`.
    pub(super) fn finish(mut self) -> Result<Option<Root>, E> {
        let top = self.levels.len();
        let mut below: Option<(Vec<u8>, Child)> = None;
        for (number, mut level) in (0..MAX_HEIGHT).zip(self.levels) {
            if let Some((key, child)) = below.take() {
                if level.page.is_empty() {
                    level.first_key.clone_from(&key);
                }
                level.page.push(&key, &child.encode());
                level.items = level.items.saturating_add(child.items);
            }
            let (key, child) = end(&mut level, number, &mut self.store)?;
            if usize::from(number).saturating_add(1) == top {
                return Ok(Some(Root {
                    page: child.page,
                    height: number,
                    items: child.items,
                }));
            }
            below = Some((key, child));
        }
        Ok(None)
    }
}

/// Stores a page; returns what stands for it on the level above.
fn end<E>(
    level: &mut Level,
    number: u8,
    store: &mut impl FnMut(Vec<u8>) -> Result<PageRef, E>,
) -> Result<(Vec<u8>, Child), E> {
    let page = store(level.page.take(number))?;
    let items = std::mem::take(&mut level.items);
    Ok((std::mem::take(&mut level.first_key), Child { page, items }))
}

/// Says whether a page of `page_len` bytes ends before the entry with this key.
///
/// An entry begins a page with a chance that grows with its length: bytes, not entries, make a page full.
fn ends_before(key: &[u8], value_len: usize, level: u8, page_len: usize) -> bool {
    let entry_len = to_u64(key.len().saturating_add(value_len).saturating_add(ENTRY_HEAD));
    let chance = entry_len.saturating_mul(u64::MAX / to_u64(TARGET - MIN));
    page_len >= MAX || (page_len >= MIN && hash(key, level) < chance)
}

/// A hash whose bits are good enough to choose by: FNV-1a with the last mixing of splitmix64. Not part of the format.
fn hash(key: &[u8], level: u8) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325 ^ u64::from(level);
    for byte in key {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::item::{Kind, chunk_key};
    use crate::vault::tree_page::{MAX_PAGE, Page, page_id};
    use proptest::prelude::*;
    use std::collections::{BTreeMap, HashMap};
    use std::convert::Infallible;

    type Items = BTreeMap<Vec<u8>, Vec<u8>>;
    type Stored = HashMap<[u8; 32], Vec<u8>>;

    fn build(items: &Items) -> (Option<Root>, Stored) {
        let mut stored = Stored::new();
        let mut pages = Pages::new(|page: Vec<u8>| {
            let id = page_id(&page).0;
            stored.insert(id, page);
            Ok::<_, Infallible>(PageRef { id, pack: [1; 16] })
        });
        for (key, value) in items {
            pages.push(key, value).unwrap();
        }
        let root = pages.finish().unwrap();
        (root, stored)
    }

    /// All items below a page, in order, with every promise of the format checked on the way.
    fn read(stored: &Stored, page: &PageRef, level: u8, first_key: Option<&[u8]>) -> Vec<(Vec<u8>, Vec<u8>)> {
        let data = &stored[&page.id];
        assert!(data.len() <= MAX_PAGE);
        let parsed = Page::parse(data).unwrap();
        assert!(parsed.is_canonical());
        assert_eq!(parsed.level(), level);
        assert!(first_key.is_none_or(|key| parsed.entry(0).unwrap().0 == key));
        let mut found = Vec::new();
        for number in 0..parsed.count() {
            let (key, value) = parsed.entry(number).unwrap();
            if level == 0 {
                found.push((key.to_vec(), value.to_vec()));
            } else {
                let child = parsed.child(number).unwrap();
                let below = read(stored, &child.page, level - 1, Some(key));
                assert_eq!(to_u64(below.len()), child.items);
                found.extend(below);
            }
        }
        found
    }

    fn xattr(inode: u64, name: &[u8]) -> Vec<u8> {
        let (kind, rest) = (Kind::Xattr, name);
        crate::vault::item::Key { inode, kind, rest }.encode()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        #[test]
        fn what_was_pushed_is_found_in_order(
            seeds in prop::collection::btree_map((1u64..50, prop::collection::vec(1u8..255, 1..40)), 0usize..3000, 0..400),
            large in prop::collection::vec(0usize..65536, 0..6),
        ) {
            let mut items: Items = seeds.into_iter().map(|((inode, name), len)| (xattr(inode, &name), vec![7; len])).collect();
            for (number, len) in large.into_iter().enumerate() {
                items.insert(xattr(to_u64(number) + 10, b"\xff\xff"), vec![8; len]);
            }
            let (root, stored) = build(&items);
            match root {
                None => prop_assert!(items.is_empty()),
                Some(root) => {
                    let found = read(&stored, &root.page, root.height, None);
                    prop_assert_eq!(root.items, to_u64(found.len()));
                    prop_assert_eq!(found, items.into_iter().collect::<Vec<_>>());
                }
            }
        }
    }

    fn chunks(count: u64) -> Items {
        (0..count)
            .map(|number| (chunk_key(5, number * 3), [7; 52].to_vec()))
            .collect()
    }

    #[test]
    fn pages_are_about_as_large_as_they_should_be() {
        let items = chunks(50_000);
        let (root, stored) = build(&items);
        assert_eq!(root.unwrap().height, 1);
        let bytes: usize = stored.values().map(Vec::len).sum();
        let average = bytes / stored.len();
        assert!((24 << 10..40 << 10).contains(&average), "{average}");
    }

    #[test]
    fn one_item_more_changes_a_few_pages() {
        let items = chunks(50_000);
        let (_, before) = build(&items);
        let mut worst = 0;
        for at in [0u64, 1, 20_000, 49_999, 70_000] {
            let mut more = items.clone();
            more.insert(chunk_key(5, at * 3 + 1), [8; 52].to_vec());
            let (_, after) = build(&more);
            worst = worst.max(after.keys().filter(|id| !before.contains_key(*id)).count());
        }
        assert!(worst <= 8, "{worst} of {} pages are new", before.len());
    }
}
