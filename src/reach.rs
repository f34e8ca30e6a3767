//! What backups need of the vault: a walk from their manifests over every page to every chunk, and what it found of each pack.
//!
//! Nothing is guessed: what cannot be read is an error, or, where [`Doubt`] says so, makes a whole pack needed, for who removes what
//! nobody needs must know all that is needed. The footers say which of a pack's records is meant, so that a record costs a few bytes
//! here, however long its backup's list of chunks is.
//!
//! Backups are walked in groups. What a group has walked is not walked again for it, and what only one group needs is counted apart from
//! what several need: a prune has one group, space is told by a group for each backup.

mod pages;
mod uses;

pub use uses::{Needed, Uses};

use crate::chunk::{self, Reader};
use crate::vault::map::Entry;
use crate::vault::object::{ObjectId, ObjectType};
use crate::vault::pack::Footer;
use crate::vault::quarantine::Quarantined;
use crate::vault::{Address, ChunkId, Manifest, pack_key};
use pages::{Leads, Node, leads_of};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use uses::SEVERAL;

/// Pages that are read, in threads, before what they lead to is looked up: bounds what is held, and is enough for chunks that are
/// scattered over many packs to meet others of the same pack.
const BATCH: usize = 256;
/// References into one pack that a thread looks up at a time.
const PIECE: usize = 4096;
/// Threads where each page is a request: while one waits, others do.
const REMOTE_JOBS: usize = 16;

/// Why it is not known what a backup needs.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something that it needs is damaged, missing, or could not be read.
    #[error("what backup {address} needs is not known in full")]
    Unreadable {
        /// The backup.
        address: Address,
        /// What failed.
        #[source]
        source: chunk::Error,
    },
    /// Somebody wanted this to end.
    #[error("interrupted")]
    Interrupted,
}

/// The result of a walk.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A pack of data, or of pages.
pub type Object = (ObjectType, ObjectId);

/// What is done about something that is damaged or gone. A store that fails is an error in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// It is an error.
    Refuse,
    /// A pack of data whose footer does not tell of a chunk is needed as a whole; pages must be there.
    KeepPacks,
    /// As `KeepPacks`, and what a page that is gone leads to is passed over.
    KeepWhatIsThere,
}

/// A walk over what backups need.
pub struct Walk<'a> {
    reader: Arc<Reader>,
    jobs: usize,
    objects: HashMap<Object, Uses>,
    /// By group; the number of the last one is the length.
    groups: Vec<Needed>,
    /// Where chunks of a pack were stored again; those are the ones that count.
    moves: BTreeMap<ObjectId, Vec<ObjectId>>,
    /// What counts only where there is nothing else.
    damaged: Quarantined,
    /// Packs that pages and manifests name, wherever what they mean is now.
    named: HashSet<ObjectId>,
    cancel: Option<&'a AtomicBool>,
}

/// What came of references into one pack.
struct Looked<'a, T> {
    found: Vec<Found<'a, T>>,
    /// The pack is needed as a whole.
    whole: Option<Object>,
    /// What was passed over.
    passed: Option<chunk::Error>,
}

/// References into one pack, and for each of them the number of its record and that record's stored bytes.
struct Found<'a, T> {
    object: Object,
    /// Records of the pack.
    records: usize,
    references: Vec<&'a T>,
    places: Vec<(u32, u32)>,
}

impl<T> Found<'_, T> {
    fn new(object: Object, footer: &Footer) -> Self {
        Self {
            object,
            records: footer.records().len(),
            references: Vec::new(),
            places: Vec::new(),
        }
    }
}

impl<'a> Walk<'a> {
    /// Begins a walk, with a first group of backups.
    #[must_use]
    pub fn new(reader: &Arc<Reader>) -> Self {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        Self {
            reader: Arc::clone(reader),
            jobs: if reader.is_remote() { REMOTE_JOBS } else { cores },
            objects: HashMap::new(),
            groups: vec![Needed::default()],
            moves: BTreeMap::new(),
            damaged: Quarantined::default(),
            named: HashSet::new(),
            cancel: None,
        }
    }

    /// Ends with [`Error::Interrupted`] soon after this is set.
    #[must_use]
    pub fn until(self, cancel: &'a AtomicBool) -> Self {
        Self {
            cancel: Some(cancel),
            ..self
        }
    }

    /// Counts chunks that were stored again in packs that are there where they are now, and not where their pages say.
    #[must_use]
    pub fn following(self, moves: BTreeMap<ObjectId, Vec<ObjectId>>) -> Self {
        Self { moves, ..self }
    }

    /// Counts chunks that are known to be damaged where they are in another pack, too, if the walk follows to one.
    #[must_use]
    pub fn avoiding(self, damaged: Quarantined) -> Self {
        Self { damaged, ..self }
    }

    /// Begins the next group; returns how many there were before, which is its place among [`groups`](Self::groups).
    pub fn begin_group(&mut self) -> usize {
        self.groups.push(Needed::default());
        self.groups.len().saturating_sub(1)
    }

    /// Walks everything that a backup needs, as one of the last group; returns the first thing that was passed over, as `doubt` says.
    ///
    /// # Errors
    /// `Unreadable`, `Interrupted`. The walk has then found too little, and tells of nothing that can be relied on.
    pub fn backup(&mut self, address: &Address, manifest: &Manifest, doubt: Doubt) -> Result<Option<chunk::Error>> {
        self.walk(manifest, doubt).map_err(|failure| match failure {
            Failure::Read(source) => Error::Unreadable {
                address: address.clone(),
                source,
            },
            Failure::Interrupted => Error::Interrupted,
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

    /// Every pack of which something is needed.
    #[must_use]
    pub fn objects(&self) -> &HashMap<Object, Uses> {
        &self.objects
    }

    /// Every pack of which something is needed, and those that pages and manifests name, wherever what they mean is now.
    #[must_use]
    pub fn into_parts(self) -> (HashMap<Object, Uses>, HashSet<ObjectId>) {
        (self.objects, self.named)
    }

    fn walk(&mut self, manifest: &Manifest, doubt: Doubt) -> Result<Option<chunk::Error>, Failure> {
        let mut leads = Leads::of(manifest);
        let (mut waiting, mut passed) = (Vec::new(), None);
        loop {
            if self.cancel.is_some_and(|cancel| cancel.load(Ordering::Relaxed)) {
                return Err(Failure::Interrupted);
            }
            let more = self.take(leads, doubt, &mut waiting)?;
            passed = passed.or(more);
            if waiting.is_empty() {
                return Ok(passed);
            }
            let batch = waiting.split_off(waiting.len().saturating_sub(BATCH));
            let read = in_threads(self.jobs, &batch, |node| match leads_of(&self.reader, node) {
                Err(error) if doubt == Doubt::KeepWhatIsThere && error.is_loss() => Ok(Err(error)),
                other => other.map(Ok),
            })?;
            leads = Leads::default();
            for more in read {
                match more {
                    Ok(more) => leads.add(more),
                    Err(error) => passed = passed.or(Some(error)),
                }
            }
        }
    }

    /// Takes note of what pages lead to; the pages that the group has not come to yet are to be read. Returns what was passed over.
    fn take(&mut self, mut leads: Leads, doubt: Doubt, waiting: &mut Vec<Node>) -> chunk::Result<Option<chunk::Error>> {
        // By pack, so that each footer is looked at once, however scattered the chunks of a disk are.
        leads.chunks.sort_unstable_by_key(|chunk| chunk.pack);
        leads.pages.sort_unstable_by_key(|node| node.entry().pack);
        let mut passed = None;
        for looked in self.find(ObjectType::Pack, &leads.chunks, |chunk| *chunk, doubt)? {
            self.note_whole(looked.whole);
            for found in &looked.found {
                self.note(found, |_| {});
            }
        }
        for looked in self.find(ObjectType::MetaPack, &leads.pages, Node::entry, doubt)? {
            self.note_whole(looked.whole);
            passed = passed.or(looked.passed);
            for found in looked.found {
                self.note(&found, |node| waiting.push(*node));
            }
        }
        Ok(passed)
    }

    /// Finds the records that references mean, which come sorted by their packs.
    fn find<'t, T: Sync>(
        &mut self,
        object_type: ObjectType,
        references: &'t [T],
        entry: fn(&T) -> Entry,
        doubt: Doubt,
    ) -> chunk::Result<Vec<Looked<'t, T>>> {
        let packs = references.chunk_by(|a, b| entry(a).pack == entry(b).pack);
        let packs: Vec<&[T]> = packs.flat_map(|references| references.chunks(PIECE)).collect();
        let firsts = packs.iter().filter_map(|references| references.first());
        self.named.extend(firsts.map(|first| entry(first).pack));
        in_threads(self.jobs, &packs, |references| {
            self.find_in_one(object_type, references, entry, doubt)
        })
    }

    /// Finds the records of references that name the same pack, in it and in those in which chunks of it were stored again.
    fn find_in_one<'t, T>(
        &self,
        object_type: ObjectType,
        references: &'t [T],
        entry: fn(&T) -> Entry,
        doubt: Doubt,
    ) -> chunk::Result<Looked<'t, T>> {
        let hint = references.first().map(|first| entry(first).pack).unwrap_or_default();
        let mut looked = Looked {
            found: Vec::new(),
            whole: None,
            passed: None,
        };
        let mut rest: Vec<&T> = references.iter().collect();
        let again = self.moves.get(&hint).into_iter().flatten();
        let packs: Vec<&ObjectId> = again.chain([&hint]).collect();
        // The whole copies first: what is damaged in one pack may be whole in another.
        for with_damaged in [false, true] {
            for pack in &packs {
                if rest.is_empty() {
                    break;
                }
                let footer = match self.reader.footer(object_type, pack) {
                    Ok(footer) => footer,
                    Err(error) if error.is_loss() => continue,
                    Err(error) => return Err(error),
                };
                let mut here = Found::new((object_type, **pack), &footer);
                rest.retain(|reference| {
                    let id = entry(reference).id;
                    let is_good = with_damaged || !self.damaged.has(pack, &id);
                    match place(&footer, &id).filter(|_| is_good) {
                        Some(place) => {
                            here.references.push(*reference);
                            here.places.push(place);
                            false
                        }
                        None => true,
                    }
                });
                if !here.places.is_empty() {
                    looked.found.push(here);
                }
            }
        }
        // Moved since the records were listed, or nobody listed them, or it is nowhere.
        for reference in rest {
            if object_type == ObjectType::Pack && doubt != Doubt::Refuse {
                looked.whole = Some((object_type, hint));
                break;
            }
            match self.find_elsewhere(object_type, &entry(reference).id, &hint) {
                Ok((object, records, place)) => looked.found.push(Found {
                    object,
                    records,
                    references: vec![reference],
                    places: vec![place],
                }),
                Err(error) if doubt == Doubt::KeepWhatIsThere && error.is_loss() => {
                    looked.whole = Some((object_type, hint));
                    looked.passed.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(looked)
    }

    /// The pack that has a chunk of another, how many records it has, and which is meant.
    fn find_elsewhere(
        &self,
        object_type: ObjectType,
        id: &ChunkId,
        hint: &ObjectId,
    ) -> chunk::Result<(Object, usize, (u32, u32))> {
        let (pack, _) = self.reader.locate(object_type, id, hint)?;
        let footer = self.reader.footer(object_type, &pack)?;
        let place = place(&footer, id).ok_or_else(|| chunk::Error::Missing {
            object: key_text(object_type, &pack),
            what: format!("chunk {id}"),
        })?;
        Ok(((object_type, pack), footer.records().len(), place))
    }

    fn note_whole(&mut self, object: Option<Object>) {
        if let Some(object) = object {
            self.objects.entry(object).or_insert_with(|| Uses::new(0)).note_whole();
        }
    }

    /// Takes note of records that are needed; `visit` gets the references by which the group has come to a record for the first time.
    fn note<T>(&mut self, found: &Found<'_, T>, mut visit: impl FnMut(&T)) {
        let group = u32::try_from(self.groups.len()).unwrap_or(SEVERAL);
        let uses = self
            .objects
            .entry(found.object)
            .or_insert_with(|| Uses::new(found.records));
        uses.reach(found.records);
        for (reference, (number, stored_len)) in found.references.iter().zip(&found.places) {
            if uses.note(group, (*number, *stored_len), &mut self.groups) {
                visit(reference);
            }
        }
    }
}

/// Why a backup was not walked through.
enum Failure {
    Read(chunk::Error),
    Interrupted,
}

impl From<chunk::Error> for Failure {
    fn from(error: chunk::Error) -> Self {
        Self::Read(error)
    }
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

#[cfg(test)]
mod tests;
