//! What a page of a backup leads to: other pages, and chunks.

use super::key_text;
use crate::chunk::{self, Reader};
use crate::vault::item::{ChunkRef, Key, Kind};
use crate::vault::map::{Entry, LIST_PAGES, Layout, Page, PageList, PageRef};
use crate::vault::object::ObjectType;
use crate::vault::{ChunkId, Manifest, tree_page};

/// A page that is still to be read.
#[derive(Debug, Clone, Copy)]
pub(super) enum Node {
    /// A page list of a disk.
    List {
        place: PageRef,
        number: u64,
        layout: Layout,
    },
    /// A page of a disk's map, of so many chunks.
    Page { place: PageRef, chunks: usize },
    /// A page of a tree.
    Tree { place: PageRef, level: u8 },
}

/// What pages lead to.
#[derive(Default)]
pub(super) struct Leads {
    pub(super) chunks: Vec<Entry>,
    pub(super) pages: Vec<Node>,
}

impl Leads {
    /// What a manifest leads to.
    pub(super) fn of(manifest: &Manifest) -> Self {
        Self {
            pages: roots(manifest),
            chunks: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, more: Self) {
        self.chunks.extend(more.chunks);
        self.pages.extend(more.pages);
    }
}

/// The pages that a manifest leads to.
fn roots(manifest: &Manifest) -> Vec<Node> {
    if let Some(tree) = manifest.tree() {
        return vec![Node::Tree {
            place: tree.root,
            level: tree.height,
        }];
    }
    let of_disk = |disk: &crate::vault::Disk| {
        let (layout, levels) = (disk.layout(), disk.levels);
        let node = move |(number, place): (u64, &PageRef)| page_of_disk(layout, levels, number, *place);
        (0..).zip(&disk.roots).filter_map(node).collect::<Vec<_>>()
    };
    manifest.disks().iter().flat_map(of_disk).collect()
}

/// What a reference of a disk's map leads to, `levels` above its pages; `None` for a hole.
fn page_of_disk(layout: Layout, levels: u8, number: u64, place: PageRef) -> Option<Node> {
    if place.is_hole() {
        return None;
    }
    Some(if levels == 0 {
        Node::Page {
            place,
            chunks: layout.page_chunks(number),
        }
    } else {
        Node::List { place, number, layout }
    })
}

impl Node {
    /// The page as an entry of its meta pack.
    pub(super) fn entry(&self) -> Entry {
        let (Self::List { place, .. } | Self::Page { place, .. } | Self::Tree { place, .. }) = self;
        Entry {
            id: ChunkId(place.id),
            pack: place.pack,
        }
    }
}

/// Reads a page and collects everything that it names.
pub(super) fn leads_of(reader: &Reader, node: &Node) -> chunk::Result<Leads> {
    let mut leads = Leads::default();
    match node {
        Node::List { place, number, layout } => {
            let data = reader.page(place)?;
            let count = layout.list_pages(*number);
            let first = number.saturating_mul(crate::bytes::to_u64(LIST_PAGES));
            for (page, at) in (0..count).zip(first..) {
                let page = PageList::page(&data, count, page).ok_or_else(|| damaged(place, "page list"))?;
                leads.pages.extend(page_of_disk(*layout, 0, at, page));
            }
        }
        Node::Page { place, chunks } => {
            let data = reader.page(place)?;
            for number in 0..*chunks {
                let entry = Page::entry(&data, *chunks, number).ok_or_else(|| damaged(place, "map page"))?;
                leads.chunks.extend(entry);
            }
        }
        Node::Tree { place, level } => {
            let data = reader.tree_page(place)?;
            let wrong = || damaged(place, "tree page");
            let page = tree_page::Page::parse(&data).filter(|page| page.level() == *level);
            let page = page.ok_or_else(wrong)?;
            for number in 0..page.count() {
                if let Some(level) = level.checked_sub(1) {
                    let place = page.child(number).ok_or_else(wrong)?.page;
                    leads.pages.push(Node::Tree { place, level });
                    continue;
                }
                let (key, value) = page.entry(number).ok_or_else(wrong)?;
                if Key::decode(key).ok_or_else(wrong)?.kind == Kind::Chunk {
                    let ChunkRef { id, pack, .. } = ChunkRef::decode(value).ok_or_else(wrong)?;
                    leads.chunks.push(Entry { id, pack });
                }
            }
        }
    }
    Ok(leads)
}

fn damaged(place: &PageRef, what: &str) -> chunk::Error {
    chunk::Error::Corrupt {
        object: key_text(ObjectType::MetaPack, &place.pack),
        what: format!("{what} {} breaks its format", crate::bytes::hex(&place.id)),
    }
}
