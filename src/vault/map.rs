//! The chunk map of a disk: pages of 1024 chunk ids with the packs that hold them, and lists of pages above that.
//!
//! # Source
//! `docs/format.md`, section "Chunk map".

use super::object::ObjectId;
use super::{ChunkId, MAX_DISK_PAGES};
use crate::bytes::{field, le_u16, to_u64, to_usize};
use crate::checksum::Digest;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Chunks in a full page.
pub const PAGE_CHUNKS: usize = 1024;
/// Page references in a full page list.
pub const LIST_PAGES: usize = 1024;
/// Most references in a manifest: what a hostile one may make a reader hold.
pub const MAX_ROOT_REFS: usize = 4096;
/// A writer moves the references out of the manifest into page lists above this number, so that manifests stay small.
const WRITER_ROOT_REFS: u64 = 256;

const PAGE_MAGIC: [u8; 4] = *b"VMP\x01";
const LIST_MAGIC: [u8; 4] = *b"VML\x01";
const PAGE_HEAD: usize = 16;
const LIST_HEAD: usize = 16;
const ID_LEN: usize = 32;
const PACK_LEN: usize = 16;
const REF_LEN: usize = ID_LEN + PACK_LEN;
const HOLE_HINT: u16 = u16::MAX;

/// The id of a page or a page list: hashed in a context of its own, so that no content of a disk passes for a page.
#[must_use]
pub fn page_id(encoded: &[u8]) -> ChunkId {
    ChunkId(Digest::in_context("vaultfs 2026-11-20 chunk map page v1", encoded).0)
}

/// Where a page is: its id and the meta pack that held it when it was written. All zeros: the page is a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PageRef {
    /// Id of the page.
    pub id: [u8; 32],
    /// Hint: its meta pack.
    pub pack: ObjectId,
}

impl PageRef {
    /// The page that holds nothing but holes.
    pub const HOLE: Self = Self {
        id: [0; 32],
        pack: [0; 16],
    };

    /// Says whether the page is a hole.
    #[must_use]
    pub fn is_hole(&self) -> bool {
        self.id == [0; 32]
    }
}

/// One chunk of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The chunk.
    pub id: ChunkId,
    /// Hint: the pack that held it when the page was written.
    pub pack: ObjectId,
}

/// A page: for each chunk of its range, where it is, or `None` for a hole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    entries: Vec<Option<Entry>>,
}

impl Page {
    /// Makes a page of at most [`PAGE_CHUNKS`] entries.
    #[must_use]
    pub fn new(entries: Vec<Option<Entry>>) -> Self {
        Self { entries }
    }

    /// The chunks in order.
    #[must_use]
    pub fn entries(&self) -> &[Option<Entry>] {
        &self.entries
    }

    /// Says whether every chunk is a hole; such a page is never stored.
    #[must_use]
    pub fn is_hole(&self) -> bool {
        self.entries.iter().all(Option::is_none)
    }

    /// Encodes the page: packs in the order of their first use, then ids, then a pack number for each id.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut packs: Vec<ObjectId> = Vec::new();
        let mut numbers: HashMap<ObjectId, u16> = HashMap::new();
        let (mut ids, mut hints) = (Vec::new(), Vec::new());
        for entry in &self.entries {
            let (id, hint) = match entry {
                None => ([0; ID_LEN], HOLE_HINT),
                Some(entry) => {
                    let next = u16::try_from(packs.len()).unwrap_or(HOLE_HINT);
                    let number = *numbers.entry(entry.pack).or_insert_with(|| {
                        packs.push(entry.pack);
                        next
                    });
                    (entry.id.0, number)
                }
            };
            ids.extend_from_slice(&id);
            hints.extend_from_slice(&hint.to_le_bytes());
        }
        let mut out = Vec::with_capacity(PAGE_HEAD + ids.len() + hints.len());
        out.extend_from_slice(&PAGE_MAGIC);
        out.extend_from_slice(&u16::try_from(self.entries.len()).unwrap_or(u16::MAX).to_le_bytes());
        out.extend_from_slice(&u16::try_from(packs.len()).unwrap_or(u16::MAX).to_le_bytes());
        out.extend_from_slice(&[0; 8]);
        packs.iter().for_each(|pack| out.extend_from_slice(pack));
        out.extend_from_slice(&ids);
        out.extend_from_slice(&hints);
        out
    }

    /// Entry `number` of an encoded page of `count` chunks, read in place; `None` if the page does not have the form of one.
    ///
    /// The page matched its id already, so that only bounds are checked here; `decode` checks everything.
    #[must_use]
    pub fn entry(data: &[u8], count: usize, number: usize) -> Option<Option<Entry>> {
        let packs = usize::from(le_u16(data, 6)?);
        let ids_at = PAGE_HEAD + packs * PACK_LEN;
        let hints_at = ids_at + count * ID_LEN;
        let sane = data.starts_with(&PAGE_MAGIC) && le_u16(data, 4).map(usize::from) == Some(count) && number < count;
        if !sane || data.len() != hints_at + count * 2 {
            return None;
        }
        let hint = le_u16(data, hints_at + number * 2)?;
        if hint == HOLE_HINT {
            return Some(None);
        }
        let pack = Some(usize::from(hint)).filter(|hint| *hint < packs)?;
        let id = ChunkId(field(data, ids_at + number * ID_LEN)?);
        Some(Some(Entry {
            id,
            pack: field(data, PAGE_HEAD + pack * PACK_LEN)?,
        }))
    }

    /// Decodes a page of exactly `count` chunks; `None` if it is not the one canonical encoding of such a page.
    #[must_use]
    pub fn decode(data: &[u8], count: usize) -> Option<Self> {
        let head = data.get(..PAGE_HEAD)?;
        let stored_count = usize::from(le_u16(head, 4)?);
        let packs = usize::from(le_u16(head, 6)?);
        let expected = PAGE_HEAD + packs * PACK_LEN + count * (ID_LEN + 2);
        let sane = head.starts_with(&PAGE_MAGIC) && stored_count == count && count <= PAGE_CHUNKS;
        if !sane || data.len() != expected {
            return None;
        }
        let ids_at = PAGE_HEAD + packs * PACK_LEN;
        let hints_at = ids_at + count * ID_LEN;
        let mut entries = Vec::with_capacity(count);
        for number in 0..count {
            let id: [u8; ID_LEN] = field(data, ids_at + number * ID_LEN)?;
            let hint = le_u16(data, hints_at + number * 2)?;
            entries.push(if hint == HOLE_HINT {
                None
            } else {
                let pack = Some(usize::from(hint)).filter(|hint| *hint < packs)?;
                Some(Entry {
                    id: ChunkId(id),
                    pack: field(data, PAGE_HEAD + pack * PACK_LEN)?,
                })
            });
        }
        let page = Self { entries };
        (page.encode() == data).then_some(page)
    }
}

/// A list of pages, for disks of many pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageList(pub Vec<PageRef>);

impl PageList {
    /// Encodes the list.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(LIST_HEAD + self.0.len() * REF_LEN);
        out.extend_from_slice(&LIST_MAGIC);
        out.extend_from_slice(&u16::try_from(self.0.len()).unwrap_or(u16::MAX).to_le_bytes());
        out.extend_from_slice(&[0; 10]);
        for page in &self.0 {
            out.extend_from_slice(&page.id);
            out.extend_from_slice(&page.pack);
        }
        out
    }

    /// Reference `number` of an encoded list of `count` pages, read in place; `None` if it does not have the form of one.
    #[must_use]
    pub fn page(data: &[u8], count: usize, number: usize) -> Option<PageRef> {
        let sane = data.starts_with(&LIST_MAGIC) && data.len() == LIST_HEAD + count * REF_LEN && number < count;
        let at = LIST_HEAD + number * REF_LEN;
        sane.then(|| {
            Some(PageRef {
                id: field(data, at)?,
                pack: field(data, at + ID_LEN)?,
            })
        })
        .flatten()
    }

    /// Decodes a list of exactly `count` pages; `None` if it is not the one canonical encoding of such a list.
    #[must_use]
    pub fn decode(data: &[u8], count: usize) -> Option<Self> {
        if count > LIST_PAGES || data.len() != LIST_HEAD + count * REF_LEN {
            return None;
        }
        let at = |number: usize| LIST_HEAD + number * REF_LEN;
        let list = (0..count)
            .map(|number| {
                Some(PageRef {
                    id: field(data, at(number))?,
                    pack: field(data, at(number) + ID_LEN)?,
                })
            })
            .collect::<Option<Vec<_>>>()
            .map(Self)?;
        (list.encode() == data).then_some(list)
    }
}

/// How many chunks, pages and references a disk has: pure arithmetic from its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Bytes of the disk.
    pub size: u64,
    /// Bytes of a chunk, a power of two.
    pub chunk_size: u32,
}

impl Layout {
    /// Chunks of the disk; the last may be shorter than the others.
    #[must_use]
    pub fn chunks(&self) -> u64 {
        self.size.div_ceil(u64::from(self.chunk_size))
    }

    /// Pages of the disk.
    #[must_use]
    pub fn pages(&self) -> u64 {
        self.chunks().div_ceil(to_u64(PAGE_CHUNKS))
    }

    /// Bytes of chunk `number`.
    #[must_use]
    pub fn chunk_len(&self, number: u64) -> usize {
        let start = number.saturating_mul(u64::from(self.chunk_size));
        to_usize(self.size.saturating_sub(start).min(u64::from(self.chunk_size)))
    }

    /// Chunks of page `number`.
    #[must_use]
    pub fn page_chunks(&self, number: u64) -> usize {
        let start = number.saturating_mul(to_u64(PAGE_CHUNKS));
        to_usize(self.chunks().saturating_sub(start)).min(PAGE_CHUNKS)
    }

    /// Page lists of a disk whose map has one level of them.
    #[must_use]
    pub fn lists(&self) -> u64 {
        self.pages().div_ceil(to_u64(LIST_PAGES))
    }

    /// Pages of list `number`.
    #[must_use]
    pub fn list_pages(&self, number: u64) -> usize {
        let start = number.saturating_mul(to_u64(LIST_PAGES));
        to_usize(self.pages().saturating_sub(start)).min(LIST_PAGES)
    }

    /// Levels of page lists a writer puts between manifest and pages: 0 or 1.
    #[must_use]
    pub fn writer_levels(&self) -> u8 {
        u8::from(self.pages() > WRITER_ROOT_REFS)
    }

    /// References a manifest must hold for a map of `levels`; `None` if the disk is too large for the format.
    #[must_use]
    pub fn root_refs(&self, levels: u8) -> Option<usize> {
        let refs = match levels {
            0 => self.pages(),
            1 => self.lists(),
            _ => return None,
        };
        (refs <= to_u64(MAX_ROOT_REFS) && self.pages() <= MAX_DISK_PAGES).then(|| to_usize(refs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: u8, pack: u8) -> Option<Entry> {
        Some(Entry {
            id: ChunkId([id; 32]),
            pack: [pack; 16],
        })
    }

    #[test]
    fn a_page_has_one_encoding() {
        let page = Page::new(vec![entry(1, 7), None, entry(2, 8), entry(1, 7)]);
        let data = page.encode();
        assert_eq!(Page::decode(&data, 4), Some(page));
        assert_eq!(Page::decode(&data, 3), None);
        // A flipped bit in an id or a pack is another valid page (its hash tells); anywhere else it is refused.
        for at in (0..16).chain(data.len() - 8..data.len()) {
            let mut bad = data.clone();
            bad[at] ^= 0x10;
            assert_eq!(Page::decode(&bad, 4), None, "byte {at}");
        }
        for len in 0..data.len() {
            assert_eq!(Page::decode(&data[..len], 4), None);
        }
    }

    #[test]
    fn a_list_has_one_encoding() {
        let list = PageList(vec![
            PageRef {
                id: [3; 32],
                pack: [4; 16],
            },
            PageRef::HOLE,
        ]);
        let data = list.encode();
        assert_eq!(PageList::decode(&data, 2), Some(list));
        assert_eq!(PageList::decode(&data, 1), None);
        assert_eq!(PageList::decode(&data[..data.len() - 1], 2), None);
    }

    #[test]
    fn layout_of_edges() {
        let layout = |size| Layout {
            size,
            chunk_size: 1 << 17,
        };
        assert_eq!((layout(0).chunks(), layout(0).pages()), (0, 0));
        let odd = layout((1 << 17) + 1);
        assert_eq!(
            (odd.chunks(), odd.chunk_len(0), odd.chunk_len(1), odd.chunk_len(2)),
            (2, 1 << 17, 1, 0)
        );
        let large = layout(1 << 40);
        assert_eq!(
            (large.pages(), large.writer_levels(), large.root_refs(1)),
            (8192, 1, Some(8))
        );
        assert_eq!(large.root_refs(0), None);
        assert_eq!(layout(u64::MAX).root_refs(1), None);
    }
}
