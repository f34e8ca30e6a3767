//! Which chunks the vault holds already: asked of indexes, believed only of footers, and not of packs that are known to be damaged.

use super::{Error, Result};
use crate::bytes::to_u64;
use crate::chunk::{self, Reader};
use crate::lease::Lease;
use crate::store::Key;
use crate::vault::index::Index;
use crate::vault::object::{ObjectId, ObjectType};
use crate::vault::quarantine::Quarantined;
use crate::vault::{self, ChunkId};
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// Chunks whose lost copies are remembered at most; of more, the copies stay lost, and `repair` finds them.
const MAX_LOST: usize = 1 << 20;

/// The vault's chunks: those at the start of a session, and those of the indexes it wrote out itself.
pub(super) struct Known {
    reader: Arc<Reader>,
    lease: Arc<Lease>,
    indexes: RwLock<Vec<Index>>,
    quarantined: Quarantined,
    /// Packs that were found to be gone: a store over a network needs many requests to be sure.
    gone: Mutex<HashSet<ObjectId>>,
    /// Packs that should hold a chunk and do not give it: they are healed by storing it again.
    lost: Mutex<HashMap<ChunkId, BTreeSet<ObjectId>>>,
}

impl Known {
    /// Opens every index of the vault; reads their fan-out tables only.
    pub(super) fn open(reader: Arc<Reader>, lease: Arc<Lease>) -> Result<Self> {
        let store = reader.vault().store();
        let mut indexes = Vec::new();
        for key in store.list("index/").map_err(vault::Error::from)? {
            match Index::open(store.as_ref(), &key).map_err(vault::Error::from)? {
                Some(index) => indexes.push(index),
                None => log::warn!("object {key} is not a valid index; chunks that only it lists are stored again"),
            }
        }
        let quarantined = reader.vault().quarantined()?;
        Ok(Self {
            reader,
            lease,
            indexes: RwLock::new(indexes),
            quarantined,
            gone: Mutex::default(),
            lost: Mutex::default(),
        })
    }

    /// Takes note of an index that this session wrote.
    pub(super) fn add(&self, key: &Key) -> Result<()> {
        let store = self.reader.vault().store();
        let index = Index::open(store.as_ref(), key).map_err(vault::Error::from)?;
        self.indexes.write().extend(index);
        Ok(())
    }

    /// The pack that holds a chunk of `plain_len` bytes.
    pub(super) fn find(&self, id: &ChunkId, plain_len: usize, hint: Option<ObjectId>) -> Result<Option<ObjectId>> {
        if let Some(pack) = hint {
            if !self.is_gone(&pack) && self.holds(ObjectType::Pack, &pack, id, Some(plain_len))? {
                return Ok(Some(pack));
            }
            self.note_lost(id, &pack);
        }
        let store = self.reader.vault().store();
        for index in self.indexes.read().iter() {
            if let Some(pack) = index.find(store.as_ref(), id).map_err(vault::Error::from)? {
                if self.holds(ObjectType::Pack, &pack, id, Some(plain_len))? {
                    return Ok(Some(pack));
                }
                // An index may also name a pack that another session has not stored yet.
                if self.quarantined.has(&pack, id) {
                    self.note_lost(id, &pack);
                }
            }
        }
        Ok(None)
    }

    /// Takes note if `pack`, which should hold a chunk that this session stored, does not.
    pub(super) fn note_replaced(&self, id: &ChunkId, plain_len: usize, pack: &ObjectId) -> Result<()> {
        if self.is_gone(pack) || !self.holds(ObjectType::Pack, pack, id, Some(plain_len))? {
            self.note_lost(id, pack);
        }
        Ok(())
    }

    /// Says whether a page is where a parent's reference says.
    pub(super) fn has_page(&self, id: &ChunkId, pack: &ObjectId) -> Result<bool> {
        let held = !self.is_gone(pack) && self.holds(ObjectType::MetaPack, pack, id, None)?;
        if !held {
            self.note_lost(id, pack);
        }
        Ok(held)
    }

    /// Says whether a pack can be relied on and its footer lists the chunk, with that plain length if one is given, and nobody found it
    /// damaged.
    fn holds(&self, kind: ObjectType, pack: &ObjectId, id: &ChunkId, plain_len: Option<usize>) -> Result<bool> {
        if self.quarantined.has(pack, id) {
            return Ok(false);
        }
        // Footers are kept by the reader: only the lease says that the pack is there now.
        if !self.lease.admits(kind, pack)? {
            self.gone.lock().insert(*pack);
            return Ok(false);
        }
        match self.reader.footer(kind, pack) {
            Ok(footer) => Ok(footer.find(id).is_some_and(|record| {
                plain_len.is_none_or(|plain_len| u64::from(record.plain_len) == to_u64(plain_len))
            })),
            Err(chunk::Error::Missing { .. }) => {
                self.gone.lock().insert(*pack);
                Ok(false)
            }
            Err(chunk::Error::Corrupt { .. }) => Ok(false),
            Err(error) => Err(Error::Lookup(error)),
        }
    }

    /// Says whether a pack that a parent names was gone before: it does not come back. One that an index names may be on its way.
    fn is_gone(&self, pack: &ObjectId) -> bool {
        self.gone.lock().contains(pack)
    }

    /// Takes note of a pack that should hold a chunk; one that is about to be removed has lost nothing.
    pub(super) fn note_lost(&self, id: &ChunkId, pack: &ObjectId) {
        if self.lease.is_marked(pack) {
            return;
        }
        let mut lost = self.lost.lock();
        if lost.len() < MAX_LOST {
            lost.entry(*id).or_default().insert(*pack);
        }
    }

    /// The packs that should hold a chunk that is whole elsewhere now; they are forgotten here.
    pub(super) fn take_lost(&self, id: &ChunkId) -> BTreeSet<ObjectId> {
        self.lost.lock().remove(id).unwrap_or_default()
    }
}
