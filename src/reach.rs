//! What backups need of the vault: a walk from their manifests over every page to every chunk, and what it found of each pack.
//!
//! Nothing is guessed and nothing is passed over: a page that cannot be read, or a chunk that the footer of its pack does not list, is
//! an error, for who removes what nobody needs must know all that is needed. The footers say which of a pack's records is meant, so
//! that a record costs a few bytes here, however long its backup's list of chunks is.
//!
//! Backups are walked in groups. What a group has walked is not walked again for it, and what only one group needs is counted apart from
//! what several need: a prune has one group, space is told by a group for each backup.

use crate::chunk::{self, Reader};
use crate::vault::item::{ChunkRef, Key, Kind};
use crate::vault::map::{Layout, Page, PageList, PageRef};
use crate::vault::object::{ObjectId, ObjectType};
use crate::vault::pack::Footer;
use crate::vault::{Address, ChunkId, Manifest, pack_key, tree_page};
use std::collections::HashMap;
use std::num::NonZero;
use std::sync::Arc;
use std::thread;

/// Pages that are read at the same time, in threads, before what they lead to is looked at: bounds what waits.
const BATCH: usize = 256;
/// Threads where each page is a request: while one waits, others do.
const REMOTE_JOBS: usize = 16;

/// Something that a backup needs is damaged, missing, or could not be read.
#[derive(Debug, thiserror::Error)]
#[error("what backup {address} needs is not known in full")]
pub struct Error {
    /// The backup.
    pub address: Address,
    /// What failed.
    #[source]
    pub source: chunk::Error,
}

/// The result of a walk.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A pack of data, or of pages.
pub type Object = (ObjectType, ObjectId);

/// Stored bytes of chunks and pages that the backups of one group need.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Needed {
    /// All of them, each counted once.
    pub total: u64,
    /// Those that no other group needs: what is free once these backups are gone.
    pub unique: u64,
}

impl Needed {
    /// What other groups need, too.
    #[must_use]
    pub fn shared(&self) -> u64 {
        self.total.saturating_sub(self.unique)
    }
}

/// Who needs a record, by the numbers of groups.
#[derive(Debug, Clone, Copy, Default)]
struct Use {
    /// The only group, 0 before the first, or [`SEVERAL`].
    owner: u32,
    /// The group that came last.
    last: u32,
}

/// The owner of a record that more than one group needs.
const SEVERAL: u32 = u32::MAX;

/// What is needed of one pack.
#[derive(Debug, Clone)]
pub struct Uses {
    /// In the order of [`Footer::records`].
    records: Vec<Use>,
    needed_records: usize,
    needed_bytes: u64,
}

impl Uses {
    fn new(records: usize) -> Self {
        Self {
            records: vec![Use::default(); records],
            needed_records: 0,
            needed_bytes: 0,
        }
    }

    /// Says whether any backup needs the record with this number in [`Footer::records`].
    #[must_use]
    pub fn is_needed(&self, number: usize) -> bool {
        self.records.get(number).is_some_and(|found| found.owner != 0)
    }

    /// Records of the pack.
    #[must_use]
    pub fn records(&self) -> usize {
        self.records.len()
    }

    /// Records that are needed.
    #[must_use]
    pub fn needed_records(&self) -> usize {
        self.needed_records
    }

    /// Stored bytes of these.
    #[must_use]
    pub fn needed_bytes(&self) -> u64 {
        self.needed_bytes
    }
}

/// A walk over what backups need.
pub struct Walk {
    reader: Arc<Reader>,
    jobs: usize,
    objects: HashMap<Object, Uses>,
    /// By group; the number of the last one is the length.
    groups: Vec<Needed>,
}

/// A page that is still to be read.
#[derive(Debug, Clone, Copy)]
enum Node {
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

/// A record that something leads to.
#[derive(Debug, Clone, Copy)]
struct Found {
    object: Object,
    /// Records of that pack.
    records: usize,
    /// Which of them.
    number: usize,
    stored_len: u32,
}

/// What one page leads to.
#[derive(Default)]
struct Below {
    chunks: Vec<Found>,
    pages: Vec<(Found, Node)>,
}

impl Walk {
    /// Begins a walk, with a first group of backups.
    #[must_use]
    pub fn new(reader: &Arc<Reader>) -> Self {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        Self {
            reader: Arc::clone(reader),
            jobs: if reader.is_remote() { REMOTE_JOBS } else { cores },
            objects: HashMap::new(),
            groups: vec![Needed::default()],
        }
    }

    /// Begins the next group; returns how many there were before, which is its place among [`groups`](Self::groups).
    pub fn begin_group(&mut self) -> usize {
        self.groups.push(Needed::default());
        self.groups.len().saturating_sub(1)
    }

    /// Walks everything that a backup needs, as one of the last group.
    ///
    /// # Errors
    /// Whatever cannot be read. The walk has then found too little, and tells of nothing that can be relied on.
    pub fn backup(&mut self, address: &Address, manifest: &Manifest) -> Result<()> {
        self.walk(manifest).map_err(|source| Error {
            address: address.clone(),
            source,
        })
    }

    /// What the backups of each group need.
    #[must_use]
    pub fn groups(&self) -> &[Needed] {
        &self.groups
    }

    /// What is needed of a pack; `None` if nothing is.
    #[must_use]
    pub fn uses(&self, object: &Object) -> Option<&Uses> {
        self.objects.get(object)
    }

    /// Every pack of which something is needed, in no order.
    pub fn objects(&self) -> impl Iterator<Item = (&Object, &Uses)> {
        self.objects.iter()
    }

    fn walk(&mut self, manifest: &Manifest) -> chunk::Result<()> {
        let mut below = Below::default();
        let mut footers = Footers::new(&self.reader);
        for node in roots(manifest) {
            below.page(&mut footers, node)?;
        }
        let mut waiting = Vec::new();
        self.take(below, &mut waiting);
        while !waiting.is_empty() {
            let batch = waiting.split_off(waiting.len().saturating_sub(BATCH));
            for below in self.read(&batch)? {
                self.take(below, &mut waiting);
            }
        }
        Ok(())
    }

    /// Reads pages, in threads if there are several.
    fn read(&self, batch: &[Node]) -> chunk::Result<Vec<Below>> {
        let read = |nodes: &[Node]| -> chunk::Result<Vec<Below>> {
            let mut footers = Footers::new(&self.reader);
            nodes.iter().map(|node| below(&mut footers, node)).collect()
        };
        if batch.len() <= 1 || self.jobs <= 1 {
            return read(batch);
        }
        let share = batch.len().div_ceil(self.jobs).max(1);
        let results = thread::scope(|scope| {
            let threads: Vec<_> = batch
                .chunks(share)
                .map(|nodes| scope.spawn(move || read(nodes)))
                .collect();
            let joined = threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            joined.collect::<chunk::Result<Vec<_>>>()
        });
        Ok(results?.into_iter().flatten().collect())
    }

    /// Takes note of what a page leads to; the pages that the group has not come to yet are to be read.
    fn take(&mut self, below: Below, waiting: &mut Vec<Node>) {
        for found in &below.chunks {
            self.note(found);
        }
        for (found, node) in &below.pages {
            if self.note(found) {
                waiting.push(*node);
            }
        }
    }

    /// Says whether the group has come here for the first time.
    fn note(&mut self, found: &Found) -> bool {
        let group = u32::try_from(self.groups.len()).unwrap_or(SEVERAL);
        let uses = self
            .objects
            .entry(found.object)
            .or_insert_with(|| Uses::new(found.records));
        let Some(record) = uses.records.get_mut(found.number) else {
            return false;
        };
        if record.last == group {
            return false;
        }
        record.last = group;
        let bytes = u64::from(found.stored_len);
        let mut count = |owner: u32, change: fn(&mut Needed, u64)| {
            let place = usize::try_from(owner).ok().and_then(|owner| owner.checked_sub(1));
            if let Some(needed) = place.and_then(|place| self.groups.get_mut(place)) {
                change(needed, bytes);
            }
        };
        count(group, |needed, bytes| needed.total = needed.total.saturating_add(bytes));
        match record.owner {
            0 => {
                record.owner = group;
                uses.needed_records = uses.needed_records.saturating_add(1);
                uses.needed_bytes = uses.needed_bytes.saturating_add(bytes);
                count(group, |needed, bytes| {
                    needed.unique = needed.unique.saturating_add(bytes);
                });
            }
            SEVERAL => {}
            owner => {
                record.owner = SEVERAL;
                count(owner, |needed, bytes| {
                    needed.unique = needed.unique.saturating_sub(bytes);
                });
            }
        }
        true
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
    fn place(&self) -> &PageRef {
        match self {
            Self::List { place, .. } | Self::Page { place, .. } | Self::Tree { place, .. } => place,
        }
    }
}

impl Below {
    /// A page that was led to.
    fn page(&mut self, footers: &mut Footers<'_>, node: Node) -> chunk::Result<()> {
        let place = node.place();
        let found = footers.find(ObjectType::MetaPack, &ChunkId(place.id), &place.pack)?;
        self.pages.push((found, node));
        Ok(())
    }

    /// A chunk of data that was led to.
    fn chunk(&mut self, footers: &mut Footers<'_>, id: &ChunkId, pack: &ObjectId) -> chunk::Result<()> {
        self.chunks.push(footers.find(ObjectType::Pack, id, pack)?);
        Ok(())
    }
}

/// Reads a page and finds everything that it names.
fn below(footers: &mut Footers<'_>, node: &Node) -> chunk::Result<Below> {
    let mut below = Below::default();
    match node {
        Node::List { place, number, layout } => {
            let data = footers.reader.page(place)?;
            let count = layout.list_pages(*number);
            let first = number.saturating_mul(crate::bytes::to_u64(crate::vault::map::LIST_PAGES));
            for (page, at) in (0..count).zip(first..) {
                let page = PageList::page(&data, count, page).ok_or_else(|| damaged(place, "page list"))?;
                if let Some(node) = page_of_disk(*layout, 0, at, page) {
                    below.page(footers, node)?;
                }
            }
        }
        Node::Page { place, chunks } => {
            let data = footers.reader.page(place)?;
            for number in 0..*chunks {
                let entry = Page::entry(&data, *chunks, number).ok_or_else(|| damaged(place, "map page"))?;
                if let Some(entry) = entry {
                    below.chunk(footers, &entry.id, &entry.pack)?;
                }
            }
        }
        Node::Tree { place, level } => {
            let data = footers.reader.tree_page(place)?;
            let wrong = || damaged(place, "tree page");
            let page = tree_page::Page::parse(&data).filter(|page| page.level() == *level);
            let page = page.ok_or_else(wrong)?;
            for number in 0..page.count() {
                if let Some(level) = level.checked_sub(1) {
                    let place = page.child(number).ok_or_else(wrong)?.page;
                    below.page(footers, Node::Tree { place, level })?;
                    continue;
                }
                let (key, value) = page.entry(number).ok_or_else(wrong)?;
                if Key::decode(key).ok_or_else(wrong)?.kind == Kind::Chunk {
                    let chunk = ChunkRef::decode(value).ok_or_else(wrong)?;
                    below.chunk(footers, &chunk.id, &chunk.pack)?;
                }
            }
        }
    }
    Ok(below)
}

/// The footers that one thread needs for its pages: the chunks of a page are in few packs.
struct Footers<'a> {
    reader: &'a Arc<Reader>,
    recent: HashMap<Object, Arc<Footer>>,
}

/// Footers that a thread holds before it lets go of them.
const RECENT: usize = 32;

impl<'a> Footers<'a> {
    fn new(reader: &'a Arc<Reader>) -> Self {
        Self {
            reader,
            recent: HashMap::new(),
        }
    }

    /// The record of a chunk that is said to be in a pack.
    fn find(&mut self, object_type: ObjectType, id: &ChunkId, pack: &ObjectId) -> chunk::Result<Found> {
        let object = (object_type, *pack);
        let footer = match self.recent.get(&object) {
            Some(footer) => footer,
            None => {
                if self.recent.len() >= RECENT {
                    self.recent.clear();
                }
                let footer = self.reader.footer(object_type, pack)?;
                self.recent.entry(object).or_insert(footer)
            }
        };
        let place = footer
            .position(id)
            .and_then(|number| Some((number, footer.records().get(number)?)));
        let (number, record) = place.ok_or_else(|| chunk::Error::Missing {
            object: key_text(object_type, pack),
            what: format!("chunk {id}"),
        })?;
        Ok(Found {
            object,
            records: footer.records().len(),
            number,
            stored_len: record.stored_len,
        })
    }
}

fn key_text(object_type: ObjectType, pack: &ObjectId) -> String {
    pack_key(object_type, pack).map_or_else(|_| crate::bytes::hex(pack), |key| key.to_string())
}

fn damaged(place: &PageRef, what: &str) -> chunk::Error {
    chunk::Error::Corrupt {
        object: key_text(ObjectType::MetaPack, &place.pack),
        what: format!("{what} {} breaks its format", crate::bytes::hex(&place.id)),
    }
}

#[cfg(test)]
mod tests;
