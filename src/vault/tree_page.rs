//! Pages of a stored tree: sorted items behind a table of where each starts, searched in place.
//!
//! # Source
//! `docs/format.md`, section "Tree".

use super::ChunkId;
use super::item::MAX_KEY;
use super::map::PageRef;
use crate::bytes::{field, le_u16, le_u32, le_u64, to_usize};
use crate::checksum::Digest;

/// Largest page in plain bytes, part of the format.
pub const MAX_PAGE: usize = 256 << 10;
/// Most levels of pages, part of the format.
pub const MAX_HEIGHT: u8 = 8;

const MAGIC: [u8; 4] = *b"VTP\x01";
const HEAD: usize = 12;
const SLOT: usize = 4;
const CHILD_LEN: usize = 56;

/// The id of a tree page: hashed in a context of its own, so that no content of a file passes for a page.
#[must_use]
pub fn page_id(encoded: &[u8]) -> ChunkId {
    ChunkId(Digest::in_context("vaultfs 2026-11-21 tree page v1", encoded).0)
}

/// What an entry of an inner page leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Child {
    /// The page below.
    pub page: PageRef,
    /// Items in all leaves below it.
    pub items: u64,
}

impl Child {
    /// The value of the entry.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(CHILD_LEN);
        out.extend(self.page.id);
        out.extend(self.page.pack);
        out.extend(self.items.to_le_bytes());
        out
    }

    /// Reads the value of an inner page's entry; `None` if it is none.
    #[must_use]
    pub fn decode(value: &[u8]) -> Option<Self> {
        let (id, pack) = (field(value, 0)?, field(value, 32)?);
        let items = le_u64(value, 48)?;
        (value.len() == CHILD_LEN && items > 0).then_some(Self {
            page: PageRef { id, pack },
            items,
        })
    }
}

/// Puts a page together, entry by entry.
#[derive(Debug, Clone, Default)]
pub struct Builder {
    starts: Vec<u32>,
    entries: Vec<u8>,
}

impl Builder {
    /// Adds an entry; keys come in order.
    pub fn push(&mut self, key: &[u8], value: &[u8]) {
        // Longer keys than a u16 tells are refused by every reader.
        let key_len = u16::try_from(key.len()).unwrap_or(u16::MAX);
        self.starts.push(u32::try_from(self.entries.len()).unwrap_or(u32::MAX));
        self.entries.extend(key_len.to_le_bytes());
        self.entries.extend(key);
        self.entries.extend(value);
    }

    /// Length of the page as it is.
    #[must_use]
    pub fn len(&self) -> usize {
        let slots = self.starts.len().saturating_mul(SLOT);
        HEAD.saturating_add(slots).saturating_add(self.entries.len())
    }

    /// Says whether there is no entry yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Encodes the page and starts an empty one.
    pub fn take(&mut self, level: u8) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len());
        let count = u32::try_from(self.starts.len()).unwrap_or(u32::MAX);
        let heap = u32::try_from(HEAD.saturating_add(self.starts.len().saturating_mul(SLOT))).unwrap_or(u32::MAX);
        out.extend(MAGIC);
        out.extend([level, 0, 0, 0]);
        out.extend(count.to_le_bytes());
        for start in self.starts.drain(..) {
            out.extend(start.saturating_add(heap).to_le_bytes());
        }
        out.append(&mut self.entries);
        out
    }
}

/// A page, read in place. It matched its id already, so that only bounds are checked by use; [`Page::is_canonical`] checks all.
#[derive(Debug, Clone, Copy)]
pub struct Page<'a> {
    data: &'a [u8],
    level: u8,
    count: usize,
}

impl<'a> Page<'a> {
    /// Looks at the head of a page; `None` if it is none.
    #[must_use]
    pub fn parse(data: &'a [u8]) -> Option<Self> {
        let head = field::<8>(data, 0)?;
        let [.., level, _, _, _] = head;
        let count = to_usize(u64::from(le_u32(data, 8)?));
        let fits = count >= 1 && count <= data.len().saturating_sub(HEAD) / SLOT && data.len() <= MAX_PAGE;
        (head.starts_with(&MAGIC) && level < MAX_HEIGHT && fits).then_some(Self { data, level, count })
    }

    /// 0 for a leaf.
    #[must_use]
    pub fn level(&self) -> u8 {
        self.level
    }

    /// Number of entries, at least 1.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    fn start(&self, number: usize) -> Option<usize> {
        if number == self.count {
            return Some(self.data.len());
        }
        le_u32(self.data, HEAD + number * SLOT).map(|start| to_usize(u64::from(start)))
    }

    /// Key and value of an entry; `None` if there is no such entry or it breaks the format.
    #[must_use]
    pub fn entry(&self, number: usize) -> Option<(&'a [u8], &'a [u8])> {
        if number >= self.count {
            return None;
        }
        let entry = self.data.get(self.start(number)?..self.start(number + 1)?)?;
        let key_len = usize::from(le_u16(entry, 0)?);
        let (key, value) = entry.get(2..)?.split_at_checked(key_len)?;
        (key_len <= MAX_KEY).then_some((key, value))
    }

    /// What an entry of an inner page leads to.
    #[must_use]
    pub fn child(&self, number: usize) -> Option<Child> {
        Child::decode(self.entry(number)?.1)
    }

    /// Number of entries with keys below `key`; `None` if the page breaks the format on the way.
    #[must_use]
    pub fn lower_bound(&self, key: &[u8]) -> Option<usize> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.entry(middle)?.0 < key {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Some(low)
    }

    /// Says whether the page has exactly the one form that its entries can have.
    #[must_use]
    pub fn is_canonical(&self) -> bool {
        let mut builder = Builder::default();
        let mut before: Option<&[u8]> = None;
        for number in 0..self.count {
            let Some((key, value)) = self.entry(number) else {
                return false;
            };
            let sound = match self.level {
                0 => super::item::Key::decode(key).is_some_and(|key| super::item::value_fits(key.kind, value)),
                _ => Child::decode(value).is_some(),
            };
            if !sound || before.is_some_and(|before| before >= key) {
                return false;
            }
            before = Some(key);
            builder.push(key, value);
        }
        builder.take(self.level) == self.data
    }
}

#[cfg(test)]
mod tests {
    use super::super::item::{Kind, NameTarget, first_key};
    use super::*;

    fn page(names: &[&[u8]]) -> Vec<u8> {
        let mut builder = Builder::default();
        for (name, inode) in names.iter().zip(2..) {
            let key = super::super::item::Key {
                inode: 1,
                kind: Kind::Name,
                rest: name,
            };
            let type_code = 8;
            builder.push(&key.encode(), &NameTarget { inode, type_code }.encode());
        }
        let len = builder.len();
        let data = builder.take(0);
        assert_eq!(data.len(), len);
        assert!(builder.is_empty());
        data
    }

    #[test]
    fn every_entry_is_found_and_what_is_not_there_is_not() {
        let names: Vec<[u8; 2]> = (1..200u8).map(|number| [number.wrapping_mul(57), number]).collect();
        let plain = |name: &&[u8]| !name.contains(&b'/') && !name.contains(&0);
        let mut names: Vec<&[u8]> = names.iter().map(<[u8; 2]>::as_slice).filter(plain).collect();
        names.sort_unstable();
        let data = page(&names);
        let page = Page::parse(&data).unwrap();
        assert!(page.is_canonical());
        for (number, inode) in (0..names.len()).zip(2..) {
            let (key, value) = page.entry(number).unwrap();
            assert_eq!(page.lower_bound(key), Some(number));
            assert_eq!(NameTarget::decode(value).unwrap().inode, inode);
            let mut after = key.to_vec();
            after.push(0);
            assert_eq!(page.lower_bound(&after), Some(number + 1));
        }
        assert_eq!(page.entry(names.len()), None);
        assert_eq!(page.lower_bound(&first_key(1, Kind::Inode)), Some(0));
        assert_eq!(page.lower_bound(&first_key(2, Kind::Inode)), Some(names.len()));
    }

    #[test]
    fn damaged_pages_are_refused_or_read_within_their_bounds() {
        let good = page(&[b"a", b"bb", b"ccc"]);
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                if let Some(page) = Page::parse(&bad) {
                    (0..page.count().min(9)).for_each(|number| _ = page.entry(number));
                    let _ = page.lower_bound(b"b");
                    let _ = page.is_canonical();
                }
            }
            assert!(Page::parse(&good[..at]).is_none_or(|page| !page.is_canonical()));
        }
        let reordered = page(&[b"b", b"a"]);
        assert!(!Page::parse(&reordered).unwrap().is_canonical());
        let twice = page(&[b"a", b"a"]);
        assert!(!Page::parse(&twice).unwrap().is_canonical());
    }

    #[test]
    fn the_bytes_of_a_page_never_change() {
        let encoded = page(&[b"a"]);
        let expected = "56545001000000000100000010000000\
                        0a00000000000000000104610200000000000000\
                        08";
        assert_eq!(crate::bytes::hex(&encoded), expected);
        let child = Child {
            page: PageRef {
                id: [1; 32],
                pack: [2; 16],
            },
            items: 3,
        };
        assert_eq!(Child::decode(&child.encode()), Some(child));
        assert_eq!(Child::decode(&Child { items: 0, ..child }.encode()), None);
    }
}
