//! Puts the chunk map of a disk together while its chunks come in any order.

use crate::bytes::{to_u64, to_usize};
use crate::vault::map::{Entry, LIST_PAGES, Layout, PAGE_CHUNKS, Page, PageList, PageRef};
use std::collections::HashMap;
use std::ops::Range;

struct Open {
    entries: Vec<Option<Entry>>,
    missing: usize,
}

/// The pages of a disk under way; only pages whose chunks are partly in are in memory.
pub(super) struct Pages {
    layout: Layout,
    open: HashMap<u64, Open>,
    done: Vec<PageRef>,
}

impl Pages {
    /// Starts the map of a disk.
    pub(super) fn new(layout: Layout) -> Self {
        Self {
            layout,
            open: HashMap::new(),
            done: vec![PageRef::HOLE; to_usize(layout.pages())],
        }
    }

    /// Takes note of hole chunks; returns the pages this completed that hold data.
    pub(super) fn holes(&mut self, chunks: Range<u64>) -> Vec<(u64, Page)> {
        let mut completed = Vec::new();
        let mut number = chunks.start;
        while number < chunks.end {
            let page = number / to_u64(PAGE_CHUNKS);
            let page_end = (page + 1).saturating_mul(to_u64(PAGE_CHUNKS)).min(chunks.end);
            let whole = to_usize(page_end - number) == self.layout.page_chunks(page);
            if !whole {
                completed.extend(self.fill(page, to_usize(page_end - number), |_| {}));
            }
            number = page_end;
        }
        completed
    }

    /// Takes note of consecutive chunks of one page; returns the page if this completed it.
    pub(super) fn chunks(&mut self, first: u64, entries: Vec<Option<Entry>>) -> Option<(u64, Page)> {
        let (page, at) = (first / to_u64(PAGE_CHUNKS), to_usize(first % to_u64(PAGE_CHUNKS)));
        let count = entries.len();
        self.fill(page, count, |open| {
            for (place, entry) in open.iter_mut().skip(at).zip(entries) {
                *place = entry;
            }
        })
    }

    fn fill(&mut self, page: u64, count: usize, set: impl FnOnce(&mut [Option<Entry>])) -> Option<(u64, Page)> {
        let chunks = self.layout.page_chunks(page);
        let open = self.open.entry(page).or_insert_with(|| Open {
            entries: vec![None; chunks],
            missing: chunks,
        });
        set(&mut open.entries);
        open.missing = open.missing.saturating_sub(count);
        if open.missing > 0 {
            return None;
        }
        let complete = Page::new(self.open.remove(&page)?.entries);
        (!complete.is_hole()).then_some((page, complete))
    }

    /// Records where a completed page was stored.
    pub(super) fn stored(&mut self, page: u64, place: PageRef) {
        if let Some(slot) = self.done.get_mut(to_usize(page)) {
            *slot = place;
        }
    }

    /// Takes the references of all pages, in order; none are left.
    pub(super) fn take(&mut self) -> Vec<PageRef> {
        std::mem::take(&mut self.done)
    }
}

/// Cuts the references of all pages into page lists; `None` for a list of holes, which is not stored.
pub(super) fn lists(pages: &[PageRef]) -> Vec<Option<PageList>> {
    let list = |pages: &[PageRef]| (!pages.iter().all(PageRef::is_hole)).then(|| PageList(pages.to_vec()));
    pages.chunks(LIST_PAGES).map(list).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::ChunkId;

    #[test]
    fn a_page_is_complete_when_its_last_chunk_or_hole_comes() {
        let layout = Layout {
            size: 1500 << 16,
            chunk_size: 1 << 16,
        };
        let mut pages = Pages::new(layout);
        let entry = Some(Entry {
            id: ChunkId([1; 32]),
            pack: [2; 16],
        });
        assert!(pages.chunks(1020, vec![entry; 4]).is_none());
        assert!(pages.holes(10..1020).is_empty());
        let (number, page) = pages.chunks(0, vec![entry; 10]).unwrap();
        assert_eq!((number, page.entries().iter().flatten().count()), (0, 14));
        assert!(pages.holes(1024..1500).is_empty());
        pages.stored(
            0,
            PageRef {
                id: [1; 32],
                pack: [1; 16],
            },
        );
        assert_eq!(
            pages.take(),
            vec![
                PageRef {
                    id: [1; 32],
                    pack: [1; 16]
                },
                PageRef::HOLE
            ]
        );
    }
}
