//! The tree of a file-system backup, copied page by page in the shape it has: leaves with the places that their chunks have in the
//! other vault, and the pages above them.

use super::seen::{Name, Node};
use super::session::{Added, Session, Want};
use super::{Result, crew};
use crate::bytes::to_usize;
use crate::chunk;
use crate::chunk::cache::Chunk;
use crate::chunk::items::Items;
use crate::vault::item::{ChunkRef, Key, Kind};
use crate::vault::map::{Entry, PageRef};
use crate::vault::object::{ObjectId, ObjectType};
use crate::vault::tree_page::{Builder, Child, Page};
use crate::vault::{self, Address, Manifest, Tree, TreeStatistics};
use std::collections::HashMap;
use std::sync::Arc;

/// Leaves that are copied together.
const GROUP: usize = 64;

struct Copy<'a> {
    session: &'a Session<'a>,
    /// Pages of a tree that the other vault has.
    there: HashMap<[u8; 32], ObjectId>,
    added: Added,
}

/// A page of the vault copied from, whose form is right.
struct Source {
    place: PageRef,
    data: Chunk,
}

/// Copies a tree; what is returned stands in the manifest of the copy.
pub(super) fn copy(session: &Session<'_>, tree: &Tree, near: Option<&(Address, Manifest)>) -> Result<Tree> {
    let mut copy = Copy {
        session,
        there: near
            .and_then(|(_, near)| near.tree())
            .map_or_else(HashMap::new, |near| pages(session, near)),
        added: Added::default(),
    };
    let root = copy.pages(&[tree.root], tree.height)?.pop();
    let failed = || session.unreadable("tree".to_owned(), damaged(&tree.root));
    let root = root.filter(|root| root.items == tree.items).ok_or_else(failed)?;
    Ok(Tree {
        root: root.page,
        statistics: TreeStatistics {
            new: copy.added.new,
            stored: copy.added.stored,
            ..tree.statistics
        },
        ..tree.clone()
    })
}

/// The pages of a tree in the vault copied to; those that cannot be read are stored again.
fn pages(session: &Session<'_>, tree: &Tree) -> HashMap<[u8; 32], ObjectId> {
    let mut pages = HashMap::new();
    let items = Items::new(session.to, tree.root, tree.height, tree.items);
    let listed = items.pages(&mut |page| {
        pages.insert(page.id, page.pack);
    });
    if let Err(error) = listed {
        log::debug!("not all pages of the backup before could be listed: {error}");
    }
    pages
}

/// The error for a page that breaks the format.
pub(super) fn damaged(place: &PageRef) -> chunk::Error {
    let key = vault::pack_key(ObjectType::MetaPack, &place.pack);
    chunk::Error::Corrupt {
        object: key.map_or_else(|_| crate::bytes::hex(&place.pack), |key| key.to_string()),
        what: format!("tree page {} breaks its format", crate::bytes::hex(&place.id)),
    }
}

/// Says whether a page has this level and the one form that its entries can have.
pub(super) fn is_sound(data: &[u8], level: u8) -> bool {
    let is_run = |key: &[u8]| Key::decode(key).is_some_and(|key| key.kind == Kind::Chunk);
    let sound = |(key, value): &(&[u8], &[u8])| level > 0 || !is_run(key) || ChunkRef::decode(value).is_some();
    Page::parse(data).is_some_and(|page| page.level() == level && page.is_canonical())
        && entries(data).iter().all(sound)
}

/// The entries of a page that is sound.
pub(super) fn entries(data: &[u8]) -> Vec<(&[u8], &[u8])> {
    let page = Page::parse(data);
    page.map_or_else(Vec::new, |page| {
        (0..page.count()).filter_map(|number| page.entry(number)).collect()
    })
}

/// What an entry of a leaf refers to, if it is the run of a file's bytes.
pub(super) fn chunk_of(key: &[u8], value: &[u8]) -> Option<ChunkRef> {
    Key::decode(key).filter(|key| key.kind == Kind::Chunk)?;
    ChunkRef::decode(value)
}

/// Says whether the pages below one are those that its entries say: first keys, order, and numbers of items.
pub(super) fn fits(entries: &[(&[u8], &[u8])], below: &[Arc<Node>]) -> bool {
    let mut next = entries.iter().skip(1).map(|(key, _)| *key);
    let pairs = entries.iter().zip(below);
    entries.len() == below.len()
        && pairs.into_iter().all(|((key, value), node)| {
            let (first, last) = &node.keys;
            Child::decode(value).is_some_and(|child| child.items == node.items)
                && first.as_slice() == *key
                && next.next().is_none_or(|next| last.as_slice() < next)
        })
}

/// First and last key of an inner page whose children are these.
pub(super) fn span(below: &[Arc<Node>]) -> (Vec<u8>, Vec<u8>) {
    let first = below.first().map(|node| node.keys.0.clone());
    let last = below.last().map(|node| node.keys.1.clone());
    (first.unwrap_or_default(), last.unwrap_or_default())
}

impl Copy<'_> {
    /// Copies pages of one level and all below them; levels are at most seven, so that this goes no deeper.
    fn pages(&mut self, places: &[PageRef], level: u8) -> Result<Vec<Arc<Node>>> {
        let mut nodes = Vec::with_capacity(places.len());
        if level == 0 {
            for group in places.chunks(GROUP) {
                nodes.extend(self.leaves(group)?);
            }
            return Ok(nodes);
        }
        for place in places {
            nodes.push(self.inner(place, level)?);
        }
        Ok(nodes)
    }

    fn inner(&mut self, place: &PageRef, level: u8) -> Result<Arc<Node>> {
        let name = Name::Tree { id: place.id, level };
        if let Some(node) = self.session.known(&name) {
            return Ok(node);
        }
        let page = self.load(place, level)?;
        let entries = entries(&page.data);
        let children: Vec<Child> = entries.iter().filter_map(|(_, value)| Child::decode(value)).collect();
        let places: Vec<PageRef> = children.iter().map(|child| child.page).collect();
        let below = self.pages(&places, level.saturating_sub(1))?;
        if !fits(&entries, &below) {
            return Err(self.unreadable(place));
        }
        let mut builder = Builder::default();
        for ((key, _), node) in entries.iter().zip(&below) {
            let (page, items) = (node.page, node.items);
            builder.push(key, &Child { page, items }.encode());
        }
        let page = self.store(&builder.take(level))?;
        let sum = |of: fn(&Node) -> u64| below.iter().fold(0u64, |sum, node| sum.saturating_add(of(node)));
        let node = Arc::new(Node {
            page,
            chunks: sum(|node| node.chunks),
            data_bytes: sum(|node| node.data_bytes),
            items: sum(|node| node.items),
            keys: span(&below),
        });
        self.session.note(name, Arc::clone(&node));
        Ok(node)
    }

    /// Copies leaves and the chunks that they refer to.
    fn leaves(&mut self, places: &[PageRef]) -> Result<Vec<Arc<Node>>> {
        let name = |place: &PageRef| Name::Tree { id: place.id, level: 0 };
        let mut nodes: Vec<Option<Arc<Node>>> = places.iter().map(|place| self.session.known(&name(place))).collect();
        let waiting: Vec<PageRef> = places
            .iter()
            .zip(&nodes)
            .filter(|(_, node)| node.is_none())
            .map(|(place, _)| *place)
            .collect();
        let jobs = self.session.environment.jobs;
        let pages = crew::each(&waiting, jobs, |place| self.load(place, 0))?;
        let (mut wants, mut files) = (Vec::new(), Vec::new());
        for (key, value) in pages.iter().flat_map(|page| entries(&page.data)) {
            if let Some(chunk) = chunk_of(key, value) {
                let entry = Entry {
                    id: chunk.id,
                    pack: chunk.pack,
                };
                let len = to_usize(chunk.len_bytes());
                wants.push(Want { entry, len, hint: None });
                files.push(Key::decode(key).map(|key| (key.inode, key.offset().unwrap_or_default())));
            }
        }
        let place = |at: usize| match files.get(at).copied().flatten() {
            Some((inode, byte)) => format!("file with inode number {inode}, byte {byte}"),
            None => "tree".to_owned(),
        };
        let (packs, added) = self.session.transfer(&wants, place)?;
        self.added.add(added);
        let mut packs = packs.into_iter();
        let mut copies = Vec::with_capacity(pages.len());
        for page in &pages {
            let node = Arc::new(self.leaf(page, &mut packs)?);
            self.session.note(name(&page.place), Arc::clone(&node));
            copies.push(node);
        }
        let mut copies = copies.into_iter();
        nodes
            .iter_mut()
            .filter(|node| node.is_none())
            .for_each(|node| *node = copies.next());
        let whole: Option<Vec<Arc<Node>>> = nodes.into_iter().collect();
        whole.ok_or_else(|| {
            places
                .first()
                .map_or_else(|| self.unreadable(&PageRef::HOLE), |place| self.unreadable(place))
        })
    }

    /// Stores a leaf with the places that its chunks have now.
    fn leaf(&mut self, page: &Source, packs: &mut impl Iterator<Item = ObjectId>) -> Result<Node> {
        let entries = entries(&page.data);
        let mut builder = Builder::default();
        let (mut chunks, mut data_bytes) = (0u64, 0u64);
        for (key, value) in &entries {
            match chunk_of(key, value) {
                Some(chunk) => {
                    chunks = chunks.saturating_add(1);
                    data_bytes = data_bytes.saturating_add(chunk.len_bytes());
                    let pack = self.session.next_pack(packs)?;
                    builder.push(key, &ChunkRef { pack, ..chunk }.encode());
                }
                None => builder.push(key, value),
            }
        }
        let key = |entry: Option<&(&[u8], &[u8])>| entry.map_or_else(Vec::new, |(key, _)| key.to_vec());
        Ok(Node {
            page: self.store(&builder.take(0))?,
            chunks,
            data_bytes,
            items: crate::bytes::to_u64(entries.len()),
            keys: (key(entries.first()), key(entries.last())),
        })
    }

    fn load(&self, place: &PageRef, level: u8) -> Result<Source> {
        self.session.check()?;
        let failed = |error| self.session.unreadable("tree".to_owned(), error);
        let data = self.session.from.tree_page(place).map_err(failed)?;
        if !is_sound(&data, level) {
            return Err(self.unreadable(place));
        }
        Ok(Source { place: *place, data })
    }

    fn store(&mut self, encoded: &[u8]) -> Result<PageRef> {
        let there = |id: &vault::ChunkId| self.there.get(&id.0).map(|pack| PageRef { id: id.0, pack: *pack });
        let (page, added) = self.session.tree_page(encoded, there)?;
        self.added.add(added);
        Ok(page)
    }

    fn unreadable(&self, place: &PageRef) -> super::Error {
        self.session.unreadable("tree".to_owned(), damaged(place))
    }
}
