//! Pages and lists of a chunk map that decode are canonical, and reading an entry in place says what decoding says.

use vaultfs::vault::ChunkId;
use vaultfs::vault::map::{Entry, Page, PageList};

/// Decodes bytes as a page and as a list, of as many entries as the first two bytes say.
pub fn run(data: &[u8]) {
    let Some((count, data)) = data.split_first_chunk::<2>() else {
        return;
    };
    let count = usize::from(u16::from_le_bytes(*count));
    let in_place: Vec<_> = (0..count.min(8))
        .map(|number| Page::entry(data, count, number))
        .collect();
    if let Some(page) = Page::decode(data, count) {
        assert_eq!(page.encode(), data);
        for (number, entry) in in_place.into_iter().enumerate() {
            assert_eq!(entry.as_ref(), page.entries().get(number));
        }
    }
    if let Some(list) = PageList::decode(data, count) {
        assert_eq!(list.encode(), data);
        for (number, page) in list.0.iter().enumerate().take(8) {
            assert_eq!(PageList::page(data, count, number).as_ref(), Some(page));
        }
    }
}

/// A page of a few chunks of two packs, and a hole.
pub fn seed() -> Vec<u8> {
    let entry = |number: u8| Entry {
        id: ChunkId([number; 32]),
        pack: [number % 2; 16],
    };
    let page = Page::new(vec![Some(entry(1)), None, Some(entry(2)), Some(entry(3))]);
    [&4_u16.to_le_bytes()[..], &page.encode()].concat()
}
