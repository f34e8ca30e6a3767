//! Which packs backups need, by every page of theirs. What cannot be read is an error: nothing becomes garbage because of it.

use super::plan::SKEW;
use super::{Environment, Error, Result};
use crate::chunk::{self, Reader};
use crate::vault::item::{ChunkRef, Key, Kind};
use crate::vault::map::{Page, PageList, PageRef};
use crate::vault::object::{ObjectId, ObjectType};
use crate::vault::{self, Address, ChunkId, Content, Disk, Manifest, pack_key, tree_page};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Packs by type and id.
pub(super) type Packs = HashSet<(ObjectType, ObjectId)>;

/// What is put up with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tolerance {
    /// Nothing.
    None,
    /// Pages and manifests that are damaged or gone: what can be read counts.
    Damage,
}

/// A walk through backups; pages that they share are read once.
pub(super) struct Walk<'a> {
    reader: Arc<Reader>,
    environment: Environment<'a>,
    tolerance: Tolerance,
    pages: HashSet<PageRef>,
    packs: Packs,
    /// Where chunks of a pack were stored again, in packs that are there.
    moves: BTreeMap<ObjectId, Vec<ObjectId>>,
    /// Packs that pages name, whether they are needed or chunks of theirs were stored again.
    named: HashSet<ObjectId>,
}

impl<'a> Walk<'a> {
    /// Starts with no backup.
    pub(super) fn new(
        reader: Arc<Reader>,
        environment: Environment<'a>,
        moves: BTreeMap<ObjectId, Vec<ObjectId>>,
    ) -> Self {
        Self {
            reader,
            environment,
            moves,
            named: HashSet::new(),
            tolerance: Tolerance::None,
            pages: HashSet::new(),
            packs: Packs::new(),
        }
    }

    /// Adds what a backup needs.
    pub(super) fn add(&mut self, address: &Address, tolerance: Tolerance) -> Result<()> {
        self.tolerance = tolerance;
        let manifest = match self.reader.vault().load(address) {
            Err(error @ (vault::Error::Corrupt { .. } | vault::Error::NoBackup { .. }))
                if tolerance == Tolerance::Damage =>
            {
                self.environment
                    .monitor
                    .warn(&format!("deleted backup {address}: {error}"));
                return Ok(());
            }
            other => other.map_err(|source| Error::Manifest {
                address: address.clone(),
                source,
            })?,
        };
        let now = self.environment.clock.now();
        if manifest.finished > now.saturating_add(SKEW) {
            return Err(Error::Skew {
                object: vault::manifest_key(address)?.to_string(),
                at: manifest.finished,
                now,
            });
        }
        self.content(&manifest).map_err(|failure| match failure {
            Failure::Read(source) => Error::Unreadable {
                address: address.clone(),
                source,
            },
            Failure::Interrupted => Error::Interrupted,
        })
    }

    /// The packs that all of them need.
    pub(super) fn packs(&self) -> &Packs {
        &self.packs
    }

    /// The packs that pages name.
    pub(super) fn named(&self) -> &HashSet<ObjectId> {
        &self.named
    }

    /// Takes note of a chunk that is needed: of the pack that it was stored in again, or else of the one that its page names.
    fn refer(&mut self, id: &ChunkId, pack: ObjectId) -> Result<(), Failure> {
        self.named.insert(pack);
        for new in self.moves.get(&pack).into_iter().flatten() {
            match self.reader.footer(ObjectType::Pack, new) {
                Ok(footer) if footer.find(id).is_some() => {
                    self.packs.insert((ObjectType::Pack, *new));
                    return Ok(());
                }
                Ok(_) => {}
                Err(error) if error.is_loss() => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.packs.insert((ObjectType::Pack, pack));
        Ok(())
    }

    fn content(&mut self, manifest: &Manifest) -> Result<(), Failure> {
        match &manifest.content {
            Content::Disks(disks) => disks.iter().try_for_each(|disk| self.disk(disk)),
            Content::Tree(tree) => self.tree(tree.root, tree.height),
        }
    }

    /// Says whether a page is to be read: it is none of holes, and was not met before.
    fn is_new(&mut self, place: &PageRef) -> Result<bool, Failure> {
        if self.environment.cancel.load(Ordering::Relaxed) {
            return Err(Failure::Interrupted);
        }
        if place.is_hole() {
            return Ok(false);
        }
        self.packs.insert((ObjectType::MetaPack, place.pack));
        Ok(self.pages.insert(*place))
    }

    /// What a page is, read by `read`; `None` if it is damaged and that is put up with.
    fn read<T>(&self, read: impl FnOnce() -> Result<T, Failure>) -> Result<Option<T>, Failure> {
        match read() {
            Err(Failure::Read(error @ (chunk::Error::Corrupt { .. } | chunk::Error::Missing { .. })))
                if self.tolerance == Tolerance::Damage =>
            {
                self.environment
                    .monitor
                    .warn(&format!("a deleted backup is damaged: {error}"));
                Ok(None)
            }
            other => other.map(Some),
        }
    }

    fn disk(&mut self, disk: &Disk) -> Result<(), Failure> {
        let layout = disk.layout();
        if disk.levels == 0 {
            return (0..).zip(&disk.roots).try_for_each(|(number, place)| {
                let count = layout.page_chunks(number);
                self.map_page(place, count)
            });
        }
        for (number, place) in (0..).zip(&disk.roots) {
            if !self.is_new(place)? {
                continue;
            }
            let count = layout.list_pages(number);
            let list =
                self.read(|| PageList::decode(&self.reader.page(place)?, count).ok_or_else(|| damaged(place)))?;
            let Some(list) = list else { continue };
            let first = number.saturating_mul(crate::bytes::to_u64(vault::map::LIST_PAGES));
            for (number, place) in (first..).zip(&list.0) {
                self.map_page(place, layout.page_chunks(number))?;
            }
        }
        Ok(())
    }

    fn map_page(&mut self, place: &PageRef, count: usize) -> Result<(), Failure> {
        if !self.is_new(place)? {
            return Ok(());
        }
        let page = self.read(|| Page::decode(&self.reader.page(place)?, count).ok_or_else(|| damaged(place)))?;
        let entries = page.iter().flat_map(Page::entries).flatten();
        entries
            .into_iter()
            .try_for_each(|entry| self.refer(&entry.id, entry.pack))
    }

    fn tree(&mut self, root: PageRef, height: u8) -> Result<(), Failure> {
        let mut waiting = vec![(root, height)];
        while let Some((place, level)) = waiting.pop() {
            if !self.is_new(&place)? {
                continue;
            }
            let below = self.read(|| below(&self.reader.tree_page(&place)?, level).ok_or_else(|| damaged(&place)))?;
            for name in below.into_iter().flatten() {
                match (name, level.checked_sub(1)) {
                    (Below::Page(place), Some(level)) => waiting.push((place, level)),
                    (Below::Page(place), None) => return Err(damaged(&place)),
                    (Below::Chunk(id, pack), _) => self.refer(&id, pack)?,
                }
            }
        }
        Ok(())
    }
}

/// What a page of a tree refers to.
enum Below {
    Page(PageRef),
    Chunk(ChunkId, ObjectId),
}

/// What a page of a tree of this level refers to; `None` if it breaks the format.
fn below(data: &[u8], level: u8) -> Option<Vec<Below>> {
    let page = tree_page::Page::parse(data).filter(|page| page.level() == level)?;
    let mut found = Vec::new();
    for number in 0..page.count() {
        if level > 0 {
            found.push(Below::Page(page.child(number)?.page));
            continue;
        }
        let (key, value) = page.entry(number)?;
        if Key::decode(key)?.kind == Kind::Chunk {
            let chunk = ChunkRef::decode(value)?;
            found.push(Below::Chunk(chunk.id, chunk.pack));
        }
    }
    Some(found)
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

fn damaged(place: &PageRef) -> Failure {
    let key = pack_key(ObjectType::MetaPack, &place.pack);
    Failure::Read(chunk::Error::Corrupt {
        object: key.map_or_else(|_| crate::bytes::hex(&place.pack), |key| key.to_string()),
        what: format!("page {} breaks its format", crate::bytes::hex(&place.id)),
    })
}
