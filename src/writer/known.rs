//! Which chunks the vault holds already: asked of indexes, believed only of footers.

use super::{Error, Result};
use crate::bytes::to_u64;
use crate::chunk::{self, Reader};
use crate::lease::Lease;
use crate::store::Key;
use crate::vault::index::Index;
use crate::vault::object::{ObjectId, ObjectType};
use crate::vault::{self, ChunkId};
use parking_lot::RwLock;
use std::sync::Arc;

/// The vault's chunks: those at the start of a session, and those of the indexes it wrote out itself.
pub(super) struct Known {
    reader: Arc<Reader>,
    lease: Arc<Lease>,
    indexes: RwLock<Vec<Index>>,
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
        let indexes = RwLock::new(indexes);
        Ok(Self {
            reader,
            lease,
            indexes,
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
        if let Some(pack) = hint
            && self.holds(ObjectType::Pack, &pack, id, Some(plain_len))?
        {
            return Ok(Some(pack));
        }
        let store = self.reader.vault().store();
        for index in self.indexes.read().iter() {
            if let Some(pack) = index.find(store.as_ref(), id).map_err(vault::Error::from)?
                && self.holds(ObjectType::Pack, &pack, id, Some(plain_len))?
            {
                return Ok(Some(pack));
            }
        }
        Ok(None)
    }

    /// Says whether a pack can be relied on and its footer lists the chunk, with that plain length if one is given.
    pub(super) fn holds(
        &self,
        object_type: ObjectType,
        pack: &ObjectId,
        id: &ChunkId,
        plain_len: Option<usize>,
    ) -> Result<bool> {
        if !self.lease.admits(object_type, pack)? {
            return Ok(false);
        }
        match self.reader.footer(object_type, pack) {
            Ok(footer) => Ok(footer.find(id).is_some_and(|record| {
                plain_len.is_none_or(|plain_len| u64::from(record.plain_len) == to_u64(plain_len))
            })),
            Err(chunk::Error::Missing { .. } | chunk::Error::Corrupt { .. }) => Ok(false),
            Err(error) => Err(Error::Lookup(error)),
        }
    }
}
