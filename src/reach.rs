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
use crate::vault::map::{Entry, LIST_PAGES, Layout, Page, PageList, PageRef};
use crate::vault::object::{ObjectId, ObjectType};
use crate::vault::pack::Footer;
use crate::vault::{Address, ChunkId, Manifest, pack_key, tree_page};
use std::collections::HashMap;
use std::num::NonZero;
use std::sync::Arc;
use std::thread;

/// Pages that are read, in threads, before what they lead to is looked up: bounds what is held, and is enough for chunks that are
/// scattered over many packs to meet others of the same pack.
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

/// What pages lead to.
#[derive(Default)]
struct Leads {
    chunks: Vec<Entry>,
    pages: Vec<Node>,
}

/// References into one pack, and for each of them the number of its record and that record's stored bytes.
struct Found<'a, T> {
    object: Object,
    /// Records of the pack.
    records: usize,
    references: &'a [T],
    places: Vec<(u32, u32)>,
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
        let mut leads = Leads {
            pages: roots(manifest),
            chunks: Vec::new(),
        };
        let mut waiting = Vec::new();
        loop {
            self.take(leads, &mut waiting)?;
            if waiting.is_empty() {
                return Ok(());
            }
            let batch = waiting.split_off(waiting.len().saturating_sub(BATCH));
            let read = in_threads(self.jobs, &batch, |node| leads_of(&self.reader, node))?;
            leads = Leads::default();
            for more in read {
                leads.chunks.extend(more.chunks);
                leads.pages.extend(more.pages);
            }
        }
    }

    /// Takes note of what pages lead to; the pages that the group has not come to yet are to be read.
    fn take(&mut self, mut leads: Leads, waiting: &mut Vec<Node>) -> chunk::Result<()> {
        // By pack, so that each footer is looked at once, however scattered the chunks of a disk are.
        leads.chunks.sort_unstable_by_key(|chunk| chunk.pack);
        leads.pages.sort_unstable_by_key(|node| node.entry().pack);
        for found in self.find(ObjectType::Pack, &leads.chunks, |chunk| *chunk)? {
            for place in &found.places {
                self.note(found.object, found.records, *place);
            }
        }
        for found in self.find(ObjectType::MetaPack, &leads.pages, Node::entry)? {
            for (node, place) in found.references.iter().zip(&found.places) {
                if self.note(found.object, found.records, *place) {
                    waiting.push(*node);
                }
            }
        }
        Ok(())
    }

    /// Finds the records that references mean, which come sorted by their packs.
    fn find<'a, T: Sync>(
        &self,
        object_type: ObjectType,
        references: &'a [T],
        entry: fn(&T) -> Entry,
    ) -> chunk::Result<Vec<Found<'a, T>>> {
        let packs: Vec<&[T]> = references.chunk_by(|a, b| entry(a).pack == entry(b).pack).collect();
        in_threads(self.jobs, &packs, |references| {
            let pack = references.first().map(|first| entry(first).pack).unwrap_or_default();
            let footer = self.reader.footer(object_type, &pack)?;
            let place = |reference: &T| {
                let id = entry(reference).id;
                place(&footer, &id).ok_or_else(|| chunk::Error::Missing {
                    object: key_text(object_type, &pack),
                    what: format!("chunk {id}"),
                })
            };
            Ok(Found {
                object: (object_type, pack),
                records: footer.records().len(),
                references,
                places: references.iter().map(place).collect::<chunk::Result<_>>()?,
            })
        })
    }

    /// Says whether the group has come here for the first time.
    fn note(&mut self, object: Object, records: usize, (number, stored_len): (u32, u32)) -> bool {
        let group = u32::try_from(self.groups.len()).unwrap_or(SEVERAL);
        let uses = self.objects.entry(object).or_insert_with(|| Uses::new(records));
        let record = usize::try_from(number)
            .ok()
            .and_then(|number| uses.records.get_mut(number));
        let Some(record) = record else { return false };
        if record.last == group {
            return false;
        }
        record.last = group;
        let bytes = u64::from(stored_len);
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
    /// The page as an entry of its meta pack.
    fn entry(&self) -> Entry {
        let (Self::List { place, .. } | Self::Page { place, .. } | Self::Tree { place, .. }) = self;
        Entry {
            id: ChunkId(place.id),
            pack: place.pack,
        }
    }
}

/// Reads a page and collects everything that it names.
fn leads_of(reader: &Reader, node: &Node) -> chunk::Result<Leads> {
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

/// Calls `work` for each item, in at most `jobs` threads; the results are in the order of the items.
fn in_threads<T: Sync, R: Send>(
    jobs: usize,
    items: &[T],
    work: impl Fn(&T) -> chunk::Result<R> + Sync,
) -> chunk::Result<Vec<R>> {
    if jobs <= 1 || items.len() <= 1 {
        return items.iter().map(work).collect();
    }
    let work = &work;
    let share = |items: &[T]| items.iter().map(work).collect::<chunk::Result<Vec<R>>>();
    let share = &share;
    let shares = thread::scope(|scope| {
        let threads: Vec<_> = items
            .chunks(items.len().div_ceil(jobs).max(1))
            .map(|items| scope.spawn(move || share(items)))
            .collect();
        let joined = threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        joined.collect::<chunk::Result<Vec<_>>>()
    });
    Ok(shares?.into_iter().flatten().collect())
}

/// The number of a chunk's record, and its stored bytes.
fn place(footer: &Footer, id: &ChunkId) -> Option<(u32, u32)> {
    let number = footer.position(id)?;
    let record = footer.records().get(number)?;
    Some((u32::try_from(number).ok()?, record.stored_len))
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
