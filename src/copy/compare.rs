//! Whether the backup that is there is the one that would be copied: by chunk ids and by everything that a user gets, whatever the
//! packs are called; and whether the packs that it needs are there.

use super::disk::{self, name};
use super::seen::{Name, Node};
use super::tree::{self, chunk_of, entries, fits, is_sound, span};
use super::{Copier, Error, Place, Result, crew, kind_of};
use crate::bytes::{to_u64, to_usize};
use crate::chunk::{self, Reader};
use crate::vault::map::{Entry, Layout, PAGE_CHUNKS, Page, PageRef};
use crate::vault::object::{ObjectId, ObjectType};
use crate::vault::tree_page::Child;
use crate::vault::{Address, ChunkId, Content, Disk, Manifest, Tree, pack_key};
use std::sync::Arc;

/// Pages that are compared together.
const GROUP: u64 = 64;

/// Compares backups of one address.
///
/// # Errors
/// `Differs`, `Read` if one of them is damaged or lacks a pack, `Interrupted`.
pub(super) fn compare(copier: &Copier<'_>, address: &Address, ours: &Manifest, theirs: &Manifest) -> Result<()> {
    let comparison = Comparison { copier, address };
    if ours.consistency != theirs.consistency || ours.tags != theirs.tags || ours.facts != theirs.facts {
        return Err(comparison.differs("their tags, facts or levels of consistency differ".to_owned()));
    }
    match (&ours.content, &theirs.content) {
        (Content::Disks(ours), Content::Disks(theirs)) => comparison.disks(ours, theirs),
        (Content::Tree(ours), Content::Tree(theirs)) => comparison.trees(ours, theirs),
        (ours, theirs) => {
            Err(comparison.differs(format!("one holds {}, the other {}", kind_of(ours), kind_of(theirs))))
        }
    }
}

struct Comparison<'a> {
    copier: &'a Copier<'a>,
    address: &'a Address,
}

/// Pages of one level in both vaults.
type Pair = (PageRef, PageRef);

impl Comparison<'_> {
    fn differs(&self, what: String) -> Error {
        Error::Differs {
            address: self.address.clone(),
            what,
            from: self.copier.from.vault().store().describe(),
            to: self.copier.to.vault().store().describe(),
        }
    }

    fn unreadable(&self, reader: &Reader, place: &str, source: chunk::Error) -> Error {
        Error::Read {
            at: Place::new(self.address, place.to_owned(), reader.vault()),
            source,
        }
    }

    fn check(&self) -> Result<()> {
        if self
            .copier
            .environment
            .cancel
            .load(std::sync::atomic::Ordering::Relaxed)
        {
            let address = self.address.clone();
            return Err(Error::Interrupted { address });
        }
        Ok(())
    }

    fn known(&self, name: &Name, theirs: &PageRef) -> Option<Arc<Node>> {
        let node = self.copier.seen.lock().get(name)?;
        (node.page.id == theirs.id).then_some(node)
    }

    /// Makes sure that the vault copied to has a chunk where its own backup says.
    fn holds(&self, place: &str, id: &ChunkId, pack: &ObjectId, len: usize) -> Result<()> {
        let to = &self.copier.to;
        let found = to.locate(ObjectType::Pack, id, pack).and_then(|(pack, record)| {
            if u64::from(record.plain_len) == to_u64(len) {
                return Ok(());
            }
            Err(chunk::Error::Missing {
                object: pack_key(ObjectType::Pack, &pack)
                    .map_or_else(|_| crate::bytes::hex(&pack), |key| key.to_string()),
                what: format!("chunk {id} of {len} bytes"),
            })
        });
        found.map_err(|error| self.unreadable(to, place, error))
    }

    fn disks(&self, ours: &[Disk], theirs: &[Disk]) -> Result<()> {
        let shape = |disk: &Disk| (disk.name.clone(), disk.size, disk.bootable, disk.chunk_size);
        if !ours.iter().map(shape).eq(theirs.iter().map(shape)) {
            return Err(self.differs("their disks have other names, sizes or chunk sizes".to_owned()));
        }
        for (ours, theirs) in ours.iter().zip(theirs) {
            let layout = ours.layout();
            let mut first = 0;
            while first < layout.pages() {
                let numbers: Vec<u64> = (first..layout.pages().min(first.saturating_add(GROUP))).collect();
                let jobs = self.copier.environment.jobs;
                crew::each(&numbers, jobs, |number| self.page(&layout, ours, theirs, *number))?;
                first = first.saturating_add(GROUP);
            }
        }
        Ok(())
    }

    fn page(&self, layout: &Layout, ours: &Disk, theirs: &Disk, number: u64) -> Result<()> {
        self.check()?;
        let start = number.saturating_mul(to_u64(PAGE_CHUNKS));
        let byte = |chunk: u64| chunk.saturating_mul(u64::from(layout.chunk_size));
        let place = |chunk: u64| format!("disk {}, byte {}", ours.name, byte(chunk));
        let differs = |chunk: u64| self.differs(format!("disk {} differs at byte {}", ours.name, byte(chunk)));
        let (from, to) = (&self.copier.from, &self.copier.to);
        let ours_at = self.page_ref(from, ours, number, &place(start))?;
        let theirs_at = self.page_ref(to, theirs, number, &place(start))?;
        if ours_at.is_hole() && theirs_at.is_hole() {
            return Ok(());
        }
        let name = name(layout, number, ours_at.id);
        if let Some(node) = self.known(&name, &theirs_at) {
            self.copier.environment.monitor.advance(node.data_bytes);
            return Ok(());
        }
        let load =
            |reader: &Reader, page: &PageRef| self.entries(reader, page, layout.page_chunks(number), &place(start));
        let (ours, theirs) = (load(from, &ours_at)?, load(to, &theirs_at)?);
        let (mut chunks, mut data_bytes) = (0u64, 0u64);
        for ((ours, theirs), chunk) in ours.iter().zip(&theirs).zip(start..) {
            match (ours, theirs) {
                (None, None) => {}
                (Some(ours), Some(theirs)) if ours.id == theirs.id => {
                    let len = layout.chunk_len(chunk);
                    self.holds(&place(chunk), &theirs.id, &theirs.pack, len)?;
                    chunks = chunks.saturating_add(1);
                    data_bytes = data_bytes.saturating_add(to_u64(len));
                }
                _ => return Err(differs(chunk)),
            }
        }
        self.copier.environment.monitor.advance(data_bytes);
        let node = Node {
            page: theirs_at,
            chunks,
            data_bytes,
            items: 0,
            keys: <(Vec<u8>, Vec<u8>)>::default(),
        };
        self.copier.seen.lock().insert(name, Arc::new(node));
        Ok(())
    }

    fn page_ref(&self, reader: &Reader, disk: &Disk, number: u64, place: &str) -> Result<PageRef> {
        disk::page_ref(reader, disk, number).map_err(|error| self.unreadable(reader, place, error))
    }

    /// The chunks of a page; all holes for a page of holes.
    fn entries(&self, reader: &Reader, page: &PageRef, count: usize, place: &str) -> Result<Vec<Option<Entry>>> {
        if page.is_hole() {
            return Ok(vec![None; count]);
        }
        let data = reader
            .page(page)
            .map_err(|error| self.unreadable(reader, place, error))?;
        let decoded = Page::decode(&data, count);
        let page = decoded.ok_or_else(|| self.unreadable(reader, place, disk::damaged(page)))?;
        Ok(page.entries().to_vec())
    }

    fn trees(&self, ours: &Tree, theirs: &Tree) -> Result<()> {
        let shape = |tree: &Tree| (tree.height, tree.items, tree.root_inode, tree.unread);
        if shape(ours) != shape(theirs) {
            return Err(self.differs("their files differ".to_owned()));
        }
        let pairs = [(ours.root, theirs.root)];
        self.tree_pages(&pairs, ours.height).map(drop)
    }

    /// Compares pages of one level and all below them.
    fn tree_pages(&self, pairs: &[Pair], level: u8) -> Result<Vec<Arc<Node>>> {
        if level == 0 {
            return crew::each(pairs, self.copier.environment.jobs, |pair| self.leaf(pair));
        }
        pairs.iter().map(|pair| self.inner(pair, level)).collect()
    }

    fn inner(&self, pair: &Pair, level: u8) -> Result<Arc<Node>> {
        let name = Name::Tree { id: pair.0.id, level };
        if let Some(node) = self.known(&name, &pair.1) {
            self.copier.environment.monitor.advance(node.data_bytes);
            return Ok(node);
        }
        let (ours, theirs) = self.tree_pair(pair, level)?;
        let (ours, theirs) = (entries(&ours), entries(&theirs));
        let children = |entries: &[(&[u8], &[u8])]| -> Vec<Child> {
            entries.iter().filter_map(|(_, value)| Child::decode(value)).collect()
        };
        let (our_children, their_children) = (children(&ours), children(&theirs));
        let keys =
            |entries: &[(&[u8], &[u8])]| -> Vec<Vec<u8>> { entries.iter().map(|(key, _)| key.to_vec()).collect() };
        if keys(&ours) != keys(&theirs) {
            return Err(self.differs("their files differ".to_owned()));
        }
        let pairs: Vec<Pair> = our_children
            .iter()
            .zip(&their_children)
            .map(|(ours, theirs)| (ours.page, theirs.page))
            .collect();
        let below = self.tree_pages(&pairs, level.saturating_sub(1))?;
        for (entries, reader, page) in [(&ours, &self.copier.from, pair.0), (&theirs, &self.copier.to, pair.1)] {
            if !fits(entries, &below) {
                return Err(self.unreadable(reader, "tree", tree::damaged(&page)));
            }
        }
        let sum = |of: fn(&Node) -> u64| below.iter().fold(0u64, |sum, node| sum.saturating_add(of(node)));
        let node = Arc::new(Node {
            page: pair.1,
            chunks: sum(|node| node.chunks),
            data_bytes: sum(|node| node.data_bytes),
            items: sum(|node| node.items),
            keys: span(&below),
        });
        self.copier.seen.lock().insert(name, Arc::clone(&node));
        Ok(node)
    }

    fn leaf(&self, pair: &Pair) -> Result<Arc<Node>> {
        self.check()?;
        let name = Name::Tree {
            id: pair.0.id,
            level: 0,
        };
        if let Some(node) = self.known(&name, &pair.1) {
            self.copier.environment.monitor.advance(node.data_bytes);
            return Ok(node);
        }
        let (ours, theirs) = self.tree_pair(pair, 0)?;
        let (ours, theirs) = (entries(&ours), entries(&theirs));
        let (mut chunks, mut data_bytes) = (0u64, 0u64);
        let mut same = ours.len() == theirs.len();
        for ((key, ours), (their_key, theirs)) in ours.iter().zip(&theirs) {
            same = same && key == their_key;
            match (chunk_of(key, ours), chunk_of(their_key, theirs)) {
                (Some(ours), Some(theirs)) if ours.id == theirs.id && ours.len == theirs.len => {
                    self.holds("tree", &theirs.id, &theirs.pack, to_usize(theirs.len_bytes()))?;
                    chunks = chunks.saturating_add(1);
                    data_bytes = data_bytes.saturating_add(ours.len_bytes());
                }
                (None, None) => same = same && ours == theirs,
                _ => same = false,
            }
        }
        if !same {
            return Err(self.differs("their files differ".to_owned()));
        }
        self.copier.environment.monitor.advance(data_bytes);
        let key = |entry: Option<&(&[u8], &[u8])>| entry.map_or_else(Vec::new, |(key, _)| key.to_vec());
        let node = Arc::new(Node {
            page: pair.1,
            chunks,
            data_bytes,
            items: to_u64(ours.len()),
            keys: (key(ours.first()), key(ours.last())),
        });
        self.copier.seen.lock().insert(name, Arc::clone(&node));
        Ok(node)
    }

    fn tree_pair(&self, pair: &Pair, level: u8) -> Result<(chunk::cache::Chunk, chunk::cache::Chunk)> {
        let load = |reader: &Reader, page: &PageRef| {
            let data = reader.tree_page(page);
            let data = data.map_err(|error| self.unreadable(reader, "tree", error))?;
            if is_sound(&data, level) {
                Ok(data)
            } else {
                Err(self.unreadable(reader, "tree", tree::damaged(page)))
            }
        };
        Ok((load(&self.copier.from, &pair.0)?, load(&self.copier.to, &pair.1)?))
    }
}
