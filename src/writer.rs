//! Writes chunks into packs and packs into the vault, and lists them in an index, in the order the format demands:
//! packs first, then the index; the manifest comes after, by the caller.
//!
//! A [`Writer`] belongs to one backup. Many threads add chunks; a few threads of its own hash and store full packs.

mod known;
pub mod merge;

use crate::bytes::to_u64;
use crate::chunk::{self, Reader};
use crate::lease::{self, Lease};
use crate::store::Key;
use crate::vault::codec::{Codec, DEFAULT_LEVEL};
use crate::vault::index::{self, Record};
use crate::vault::map::PageRef;
use crate::vault::object::{ObjectId, ObjectType};
use crate::vault::pack::Builder;
use crate::vault::{self, ChunkId, Vault, index_key, pack_key, random_id};
use crossbeam_channel::{Receiver, Sender, bounded};
use known::Known;
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::thread::JoinHandle;

/// Threads that store full packs: one waits for the disk while the other hashes.
const STORERS: usize = 2;
/// New chunks remembered before they are written out as an index of their own; bounds the memory of a first backup.
const FRESH_LIMIT: usize = 1 << 19;

/// Why chunks could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The vault refused a pack or an index, or could not be read.
    #[error(transparent)]
    Vault(#[from] vault::Error),
    /// The lease under which this writes could not be had, or was lost with what it protected.
    #[error(transparent)]
    Lease(lease::Error),
    /// An existing pack could not be looked at, which says nothing about whether the chunk is there.
    #[error("a chunk could not be looked up in the vault")]
    Lookup(#[source] chunk::Error),
    /// What was compressed does not decode to what it was made from: bad memory, or a defect of the compressor.
    #[error(
        "chunk {id} does not decode to what was compressed; the memory of this machine may be failing, nothing was committed"
    )]
    BadEncoding {
        /// The chunk.
        id: ChunkId,
    },
    /// The compressor failed.
    #[error("compressing failed")]
    Compress(#[source] std::io::Error),
    /// Another thread of this writer failed before; its error is the one that counts.
    #[error("another pack could not be written")]
    Stopped,
}

impl From<lease::Error> for Error {
    fn from(error: lease::Error) -> Self {
        match error {
            lease::Error::Vault(error) => Self::Vault(error),
            other => Self::Lease(other),
        }
    }
}

/// The result of a write.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A chunk ready to be stored.
#[derive(Debug, Clone, Copy)]
pub struct Encoded<'a> {
    /// Its id.
    pub id: ChunkId,
    /// How it is compressed.
    pub codec: Codec,
    /// Its stored bytes.
    pub stored: &'a [u8],
    /// Its plain length.
    pub plain_len: usize,
}

/// Compresses `plain` and checks that it decodes to the same bytes.
///
/// # Errors
/// `Compress`, `BadEncoding`.
pub fn encode_checked(id: ChunkId, plain: &[u8], level: i32, scratch: &mut Vec<u8>) -> Result<(Codec, Vec<u8>)> {
    let (codec, stored) = vault::codec::encode(plain, level).map_err(Error::Compress)?;
    let good = match codec {
        Codec::Raw => stored == plain,
        Codec::Zstd => vault::codec::decode_into(codec, &stored, plain.len(), scratch) && scratch == plain,
    };
    if good {
        Ok((codec, stored))
    } else {
        Err(Error::BadEncoding { id })
    }
}

struct Open {
    id: ObjectId,
    builder: Builder,
}

struct Full {
    object_type: ObjectType,
    open: Open,
}

/// Collects new chunks into packs. See the module's text.
pub struct Writer {
    vault: Vault,
    lease: Arc<Lease>,
    known: Known,
    data: Mutex<Option<Open>>,
    meta: Mutex<Option<Open>>,
    /// New data chunks of this session that no index lists yet.
    fresh: Mutex<HashMap<ChunkId, Record>>,
    fresh_limit: usize,
    /// The index that lists `fresh` for others, should this session not come to its end.
    checkpoint: Mutex<Option<Key>>,
    /// New pages of this session.
    fresh_pages: Mutex<HashMap<ChunkId, ObjectId>>,
    /// Packs that lost a chunk, and the packs that have it now; recorded at the end.
    moves: Mutex<BTreeSet<(ObjectId, ObjectId)>>,
    failure: Arc<Mutex<Option<vault::Error>>>,
    full: Sender<Full>,
    storers: Vec<JoinHandle<()>>,
}

impl Writer {
    /// Starts a session; `reader` looks at the packs that are there, `lease` says which of them can be relied on.
    ///
    /// # Errors
    /// `Vault` if the vault must not be written or its indexes cannot be listed.
    pub fn open(reader: &Arc<Reader>, lease: &Arc<Lease>) -> Result<Self> {
        let vault = reader.vault().clone();
        vault.check_writable()?;
        let known = Known::open(Arc::clone(reader), Arc::clone(lease))?;
        let (full, jobs) = bounded::<Full>(1);
        let failure = Arc::new(Mutex::new(None));
        let start = |_| {
            let (vault, jobs, failure) = (vault.clone(), jobs.clone(), Arc::clone(&failure));
            std::thread::Builder::new()
                .name("store".to_owned())
                .spawn(move || store_packs(&vault, &jobs, &failure))
        };
        let storers = (0..STORERS)
            .map(start)
            .collect::<std::io::Result<Vec<_>>>()
            .map_err(Error::Compress)?;
        Ok(Self {
            vault,
            lease: Arc::clone(lease),
            known,
            data: Mutex::new(None),
            meta: Mutex::new(None),
            fresh: Mutex::default(),
            fresh_limit: FRESH_LIMIT,
            checkpoint: Mutex::new(None),
            fresh_pages: Mutex::default(),
            moves: Mutex::default(),
            failure,
            full,
            storers,
        })
    }

    /// The pack that holds a chunk already: written in this session, in the hinted pack, or found by an index, and in each
    /// case listed by the footer of a pack that is there.
    ///
    /// # Errors
    /// `Lookup` if the store fails; a pack that is damaged or gone just does not hold the chunk.
    pub fn find(&self, id: &ChunkId, plain_len: usize, hint: Option<ObjectId>) -> Result<Option<ObjectId>> {
        let fresh = self.fresh.lock().get(id).map(|record| record.pack);
        let found = match fresh {
            Some(pack) => {
                // Not looked at: it is only asked whether it has to be healed.
                if let Some(hint) = hint {
                    self.known.note_replaced(id, plain_len, &hint)?;
                }
                Some(pack)
            }
            None => self.known.find(id, plain_len, hint)?,
        };
        if let Some(pack) = &found {
            self.heal(id, pack);
        }
        Ok(found)
    }

    /// Takes note that `pack`, which should hold a chunk, does not give it: once the chunk is stored elsewhere, that is recorded.
    pub fn note_lost(&self, id: &ChunkId, pack: &ObjectId) {
        self.known.note_lost(id, pack);
    }

    fn heal(&self, id: &ChunkId, pack: &ObjectId) {
        let lost = self.known.take_lost(id);
        let moves = lost.into_iter().filter(|old| old != pack).map(|old| (old, *pack));
        self.moves.lock().extend(moves);
    }

    /// Says whether a page is where a parent's reference says.
    ///
    /// # Errors
    /// As [`find`](Self::find).
    pub fn has_page(&self, page: &PageRef) -> Result<bool> {
        self.known.has_page(&ChunkId(page.id), &page.pack)
    }

    /// Adds a data chunk, unless another thread just did; returns its pack and the stored bytes it added.
    ///
    /// # Errors
    /// `Vault`, `Stopped`.
    pub fn add(&self, chunk: &Encoded<'_>) -> Result<(ObjectId, u64)> {
        self.add_to(&mut self.data.lock(), chunk)
    }

    /// Adds several, side by side if there is room for them; for each what [`add`](Self::add) returns.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn add_all(&self, chunks: &[Encoded<'_>]) -> Result<Vec<(ObjectId, u64)>> {
        let mut open = self.data.lock();
        chunks.iter().map(|chunk| self.add_to(&mut open, chunk)).collect()
    }

    fn add_to(&self, open: &mut Option<Open>, chunk: &Encoded<'_>) -> Result<(ObjectId, u64)> {
        let fresh = self.fresh.lock().get(&chunk.id).map(|record| record.pack);
        if let Some(pack) = fresh {
            self.heal(&chunk.id, &pack);
            return Ok((pack, 0));
        }
        let (pack, offset) = self.push(ObjectType::Pack, open, chunk)?;
        self.heal(&chunk.id, &pack);
        let length = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
        let (stored_len, plain_len) = (length(chunk.stored.len()), length(chunk.plain_len));
        let mut fresh = self.fresh.lock();
        fresh.insert(
            chunk.id,
            Record {
                id: chunk.id,
                pack,
                offset,
                stored_len,
                plain_len,
            },
        );
        let overflow = (fresh.len() >= self.fresh_limit).then(|| std::mem::take(&mut *fresh));
        drop(fresh);
        if let Some(records) = overflow {
            // The index may list packs that are still on their way: a hit is checked against the pack's footer, which is not
            // there yet, so that the chunk would be stored twice, never lost.
            self.put_index(records.into_values().collect())?
                .map_or(Ok(()), |key| self.known.add(&key))?;
            self.replace_checkpoint(None);
        }
        Ok((pack, to_u64(chunk.stored.len())))
    }

    /// Lists what was stored so far in an index, so that the next session finds it if this one is killed; its own index takes
    /// the place of this one.
    ///
    /// # Errors
    /// `Vault`.
    pub fn checkpoint(&self) -> Result<()> {
        // Packs that are still on their way are listed, too: who finds a chunk looks into the footer of its pack.
        let records = self.fresh.lock().values().copied().collect();
        let key = self.put_index(records)?;
        self.replace_checkpoint(key);
        Ok(())
    }

    fn replace_checkpoint(&self, next: Option<Key>) {
        let old = std::mem::replace(&mut *self.checkpoint.lock(), next);
        if let Some(key) = old
            && let Err(error) = self.vault.store().delete(&key)
        {
            // It lists what is there; all it costs is space.
            log::debug!("{key} stays beside the index that takes its place: {error}");
        }
    }

    /// Stores an encoded map page or page list, unless this session did; returns where it is and the bytes it added.
    ///
    /// # Errors
    /// `Vault`, `Stopped`, `Compress`, `BadEncoding`.
    pub fn add_page(&self, encoded: &[u8], level: i32) -> Result<(PageRef, u64)> {
        self.add_meta(vault::map::page_id(encoded), encoded, level)
    }

    /// Stores an encoded page of a tree, unless this session did; returns where it is and the bytes it added.
    ///
    /// # Errors
    /// As [`add_page`](Self::add_page).
    pub fn add_tree_page(&self, encoded: &[u8], level: i32) -> Result<(PageRef, u64)> {
        self.add_meta(vault::tree_page::page_id(encoded), encoded, level)
    }

    /// Stores an encoded page of the kind that its id says, unless this session did; returns where it is and the bytes it added.
    ///
    /// # Errors
    /// As [`add_page`](Self::add_page).
    pub fn add_any_page(&self, encoded: &[u8], id: &ChunkId) -> Result<(PageRef, u64)> {
        if vault::map::page_id(encoded) == *id {
            self.add_page(encoded, DEFAULT_LEVEL)
        } else {
            self.add_tree_page(encoded, DEFAULT_LEVEL)
        }
    }

    fn add_meta(&self, id: ChunkId, encoded: &[u8], level: i32) -> Result<(PageRef, u64)> {
        let mut open = self.meta.lock();
        let fresh = self.fresh_pages.lock().get(&id).copied();
        if let Some(pack) = fresh {
            self.heal(&id, &pack);
            return Ok((PageRef { id: id.0, pack }, 0));
        }
        let (codec, stored) = encode_checked(id, encoded, level, &mut Vec::new())?;
        let chunk = Encoded {
            id,
            codec,
            stored: &stored,
            plain_len: encoded.len(),
        };
        let (pack, _) = self.push(ObjectType::MetaPack, &mut open, &chunk)?;
        self.fresh_pages.lock().insert(id, pack);
        self.heal(&id, &pack);
        Ok((PageRef { id: id.0, pack }, to_u64(stored.len())))
    }

    fn push(&self, kind: ObjectType, open: &mut Option<Open>, chunk: &Encoded<'_>) -> Result<(ObjectId, u32)> {
        if self.failure.lock().is_some() {
            return Err(Error::Stopped);
        }
        if open
            .as_ref()
            .is_some_and(|open| !open.builder.has_room(chunk.stored.len()))
        {
            self.hand_over(kind, open)?;
        }
        if open.is_none() {
            let id = random_id()?;
            self.lease.note(kind, &id);
            *open = Some(Open {
                id,
                builder: Builder::new(self.vault.frame(kind, id)),
            });
        }
        let Some(open) = open.as_mut() else {
            return Err(Error::Stopped);
        };
        Ok((
            open.id,
            open.builder.push(chunk.id, chunk.codec, chunk.stored, chunk.plain_len),
        ))
    }

    fn hand_over(&self, object_type: ObjectType, open: &mut Option<Open>) -> Result<()> {
        match open.take() {
            Some(open) => self.full.send(Full { object_type, open }).map_err(|_| Error::Stopped),
            None => Ok(()),
        }
    }

    /// Stores an index of `records`; returns its key, or `None` if there are none.
    fn put_index(&self, records: Vec<Record>) -> Result<Option<Key>> {
        if records.is_empty() {
            return Ok(None);
        }
        let id = random_id()?;
        let key = index_key(&id)?;
        let object = self.vault.frame(ObjectType::Index, id).seal(&index::encode(records));
        self.vault.store().put_new(&key, &object).map_err(vault::Error::from)?;
        Ok(Some(key))
    }

    /// Stores what is still open, waits until every pack and the index are durable, and records which lost chunks they heal.
    ///
    /// # Errors
    /// The first error of any pack; then nothing may be committed that refers to this session's chunks.
    pub fn finish(mut self) -> Result<()> {
        let (mut data, mut meta) = (self.data.lock().take(), self.meta.lock().take());
        let handed = self
            .hand_over(ObjectType::Pack, &mut data)
            .and(self.hand_over(ObjectType::MetaPack, &mut meta));
        let storers = std::mem::take(&mut self.storers);
        let fresh = std::mem::take(&mut *self.fresh.lock());
        let (full, _) = bounded(0);
        // Closing the channel is what ends the storers.
        drop(std::mem::replace(&mut self.full, full));
        let joined = storers.into_iter().map(JoinHandle::join).filter(Result::is_err).count();
        if let Some(error) = self.failure.lock().take() {
            return Err(error.into());
        }
        handed?;
        if joined > 0 {
            return Err(Error::Stopped);
        }
        self.put_index(fresh.into_values().collect())?;
        self.replace_checkpoint(None);
        // Last: what a record names is durable.
        for (old, new) in std::mem::take(&mut *self.moves.lock()) {
            self.vault.put_moved(&old, &new)?;
        }
        Ok(())
    }
}

/// Closes and stores packs until the channel is closed; after a failure the rest is dropped.
fn store_packs(vault: &Vault, jobs: &Receiver<Full>, failure: &Mutex<Option<vault::Error>>) {
    for Full { object_type, open } in jobs {
        if failure.lock().is_some() {
            continue;
        }
        let object = open.builder.finish();
        let stored = pack_key(object_type, &open.id)
            .and_then(|key| vault.store().put_new(&key, &object).map_err(vault::Error::from));
        if let Err(error) = stored {
            failure.lock().get_or_insert(error);
        }
    }
}

#[cfg(test)]
mod tests;
