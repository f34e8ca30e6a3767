//! Chunk id to verified plain bytes: locate the chunk in a pack, fetch, decompress, check its hash, keep it for the next reader.
//!
//! However many threads wait for one chunk, it is fetched once ([`cache`]); bytes leave this module only after they matched
//! their id.

pub mod cache;
pub mod items;
mod keeping;
mod moved;
pub mod prefetch;
pub mod run;
mod segments;

use crate::bytes::{to_u64, to_usize};
use crate::store::again::{self, Failure};
use crate::store::{self, Key, wait};
use crate::vault::object::{ObjectId, ObjectType};
use crate::vault::pack::{Footer, Record};
use crate::vault::{self, ChunkId, Vault, codec, map, pack_key, tree_page};
use cache::{Cache, Chunk};
use lru::LruCache;
use parking_lot::Mutex;
use std::sync::Arc;

/// Smallest cache a reader works well with: a few chunks of the largest size.
pub const MIN_CACHE: u64 = 8 << 20;
/// Cache of a mount when the user says nothing.
pub const DEFAULT_CACHE: u64 = 256 << 20;
/// Most memory for footers, beside the cache of chunks.
const MAX_FOOTER_BYTES: usize = 16 << 20;

/// Why a chunk could not be had. Cheap to clone: all who wait for one fetch get the same error.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Its bytes are there and wrong.
    #[error("{what} in object {object}")]
    Corrupt {
        /// Key of the pack.
        object: String,
        /// What is wrong.
        what: String,
    },
    /// The pack or the chunk in it is not there.
    #[error("{what} is missing from object {object}")]
    Missing {
        /// Key of the pack.
        object: String,
        /// What is missing.
        what: String,
    },
    /// The store failed; a later try may succeed.
    #[error("object {object} could not be read")]
    Unavailable {
        /// Key of the pack.
        object: String,
        /// The store's error.
        #[source]
        source: Arc<store::Error>,
    },
    /// Another thread's fetch of the same chunk did not end in time.
    #[error("chunk {id} was not delivered in time")]
    Timeout {
        /// The chunk.
        id: ChunkId,
    },
}

impl Error {
    /// Says whether the store itself answered that the bytes are not there or wrong: another try would not give them, another copy may.
    #[must_use]
    pub fn is_loss(&self) -> bool {
        matches!(self, Self::Corrupt { .. } | Self::Missing { .. })
    }

    /// Says whether the failure was of the thread that met it, which had no time left: another one may try at once.
    fn is_of_its_thread(&self) -> bool {
        use std::io::ErrorKind::{TimedOut, WouldBlock};
        match self {
            Self::Unavailable { source, .. } => {
                matches!(&**source, store::Error::Io { source, .. } if matches!(source.kind(), TimedOut | WouldBlock))
            }
            Self::Corrupt { .. } | Self::Missing { .. } | Self::Timeout { .. } => false,
        }
    }
}

/// The result of a chunk read.
pub type Result<T, E = Error> = std::result::Result<T, E>;

struct Footers {
    lru: LruCache<(ObjectType, ObjectId), Arc<Footer>>,
    bytes: usize,
}

/// Reads chunks and map pages of one vault, from any number of threads.
pub struct Reader {
    vault: Vault,
    cache: Cache,
    /// Held only to look up and insert, never across I/O.
    footers: Mutex<Footers>,
    segments: segments::Segments,
    /// Held by who claims several chunks, not while they are fetched.
    claiming: Mutex<()>,
    moves: moved::Moves,
}

impl Reader {
    /// Makes a reader that keeps at most `cache_bytes` of plain chunks and pages in memory, work in flight included.
    #[must_use]
    pub fn new(vault: Vault, cache_bytes: u64) -> Arc<Self> {
        let footers = Footers {
            lru: LruCache::unbounded(),
            bytes: 0,
        };
        let cache = Cache::new(to_usize(cache_bytes.max(MIN_CACHE)));
        Arc::new(Self {
            vault,
            cache,
            footers: Mutex::new(footers),
            segments: segments::Segments::default(),
            claiming: Mutex::new(()),
            moves: moved::Moves::default(),
        })
    }

    /// The vault read from.
    #[must_use]
    pub fn vault(&self) -> &Vault {
        &self.vault
    }

    /// Says whether what is read comes over a network.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        self.vault.store().is_remote()
    }

    /// The chunks in memory.
    #[must_use]
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// A data chunk of `plain_len` bytes, from memory or from the pack that `entry` hints at.
    ///
    /// # Errors
    /// As [`Error`]; a chunk of another length is `Corrupt`.
    pub fn chunk(&self, entry: &map::Entry, plain_len: usize) -> Result<Chunk> {
        self.cache
            .get_or_load(&entry.id, plain_len, |buffer| self.fetch(entry, plain_len, buffer))
    }

    /// Reads a data chunk into `buffer` (which it resizes), past the cache.
    ///
    /// # Errors
    /// As [`chunk`](Self::chunk).
    pub fn fetch(&self, entry: &map::Entry, plain_len: usize, buffer: &mut Vec<u8>) -> Result<()> {
        let check = |plain: &[u8]| {
            if plain.len() != plain_len {
                let len = plain.len();
                return Err(format!("chunk {} has {len} bytes instead of {plain_len}", entry.id));
            }
            if ChunkId::of(plain) != entry.id {
                return Err(format!("chunk {} fails its hash", entry.id));
            }
            Ok(())
        };
        if self.take_kept(ObjectType::Pack, &entry.id, buffer, check) {
            return Ok(());
        }
        self.take(ObjectType::Pack, &entry.id, &entry.pack, buffer, check)
    }

    /// The encoded bytes of a map page or page list; they match their id, their content is still to be checked.
    ///
    /// # Errors
    /// As [`Error`].
    pub fn page(&self, page: &map::PageRef) -> Result<Chunk> {
        self.meta(page, map::PAGE_CHUNKS * 34, "map page", map::page_id)
    }

    /// The encoded bytes of a page of a stored tree; they match their id, their content is still to be checked.
    ///
    /// # Errors
    /// As [`Error`].
    pub fn tree_page(&self, page: &map::PageRef) -> Result<Chunk> {
        self.meta(page, tree_page::MAX_PAGE / 8, "tree page", tree_page::page_id)
    }

    /// The encoded bytes of a page of either kind, as its id says; past the cache.
    ///
    /// # Errors
    /// As [`Error`].
    pub fn any_page(&self, page: &map::PageRef) -> Result<Vec<u8>> {
        let id = ChunkId(page.id);
        let mut plain = Vec::new();
        let fits = moved::fits(ObjectType::MetaPack, &id);
        self.take(ObjectType::MetaPack, &id, &page.pack, &mut plain, fits)?;
        Ok(plain)
    }

    fn meta(&self, page: &map::PageRef, len: usize, what: &str, id_of: fn(&[u8]) -> ChunkId) -> Result<Chunk> {
        let id = ChunkId(page.id);
        let check = |plain: &[u8]| {
            if id_of(plain) == id {
                Ok(())
            } else {
                Err(format!("{what} {id} fails its hash"))
            }
        };
        self.cache.get_or_load(&id, len, |buffer| {
            if self.take_kept(ObjectType::MetaPack, &id, buffer, check) {
                return Ok(());
            }
            self.take(ObjectType::MetaPack, &id, &page.pack, buffer, check)
        })
    }

    /// Finds a chunk and decodes it from the first place where `check` finds it good.
    fn take(
        &self,
        kind: ObjectType,
        id: &ChunkId,
        hint: &ObjectId,
        buffer: &mut Vec<u8>,
        check: impl Fn(&[u8]) -> Result<(), String>,
    ) -> Result<()> {
        let (pack, record) = self.locate(kind, id, hint)?;
        match self.decode(kind, &pack, &record, buffer, &check) {
            Err(error) if error.is_loss() => self.elsewhere_or_hint(kind, (id, hint, &pack), error, |pack, record| {
                self.decode(kind, pack, record, buffer, &check)
            }),
            other => other,
        }
    }

    /// Reads the stored bytes of a chunk, decodes them, and lets `check` say what is wrong with the plain ones.
    fn decode(
        &self,
        kind: ObjectType,
        pack: &ObjectId,
        record: &Record,
        buffer: &mut Vec<u8>,
        check: impl Fn(&[u8]) -> Result<(), String>,
    ) -> Result<()> {
        let object = || key_text(kind, pack);
        let (offset, len) = (u64::from(record.offset), to_usize(u64::from(record.stored_len)));
        // Looked at once: should it be bad, the store itself is asked.
        let mut came_along = self.came_along(kind, pack, offset, len);
        again::settle(self.vault.store(), unsteady, || {
            let stored = match came_along.take() {
                Some(stored) => stored,
                None => self.read_stored(kind, pack, offset, len).map_err(Failure::Final)?,
            };
            let plain_len = to_usize(u64::from(record.plain_len));
            let checked = if codec::decode_into(record.codec, &stored, plain_len, buffer) {
                check(buffer)
            } else {
                Err(format!("chunk {} does not decode", record.id))
            };
            checked.map_err(|what| Failure::damaged(Error::Corrupt { object: object(), what }, &stored))?;
            self.keep(kind, record, &stored);
            Ok(())
        })
    }

    /// The checked footer of a pack, from memory or the store.
    ///
    /// # Errors
    /// `Missing` if the pack is not there, `Corrupt`, `Unavailable`.
    pub fn footer(&self, object_type: ObjectType, pack: &ObjectId) -> Result<Arc<Footer>> {
        let name = (object_type, *pack);
        if let Some(footer) = self.footers.lock().lru.get(&name) {
            return Ok(Arc::clone(footer));
        }
        let footer = Arc::new(self.read_footer(object_type, pack)?);
        let mut footers = self.footers.lock();
        footers.bytes = footers.bytes.saturating_add(footer.memory_len());
        if let Some((_, old)) = footers.lru.push(name, Arc::clone(&footer)) {
            footers.bytes = footers.bytes.saturating_sub(old.memory_len());
        }
        let limit = MAX_FOOTER_BYTES.min(self.cache.limit() / 4);
        while footers.bytes > limit && footers.lru.len() > 1 {
            let Some((_, old)) = footers.lru.pop_lru() else { break };
            footers.bytes = footers.bytes.saturating_sub(old.memory_len());
        }
        Ok(footer)
    }

    fn read_footer(&self, object_type: ObjectType, pack: &ObjectId) -> Result<Footer> {
        let object = key_text(object_type, pack);
        let store = self.vault.store();
        let frame = self.vault.frame(object_type, *pack);
        if let Some(footer) = self.kept_footer(&object, &frame) {
            return Ok(footer);
        }
        let read = || -> store::Result<(u64, Vec<u8>)> {
            let key = Key::new(object.clone())?;
            let (len, mut tail) = store.read_tail(&key, Footer::TAIL_GUESS)?;
            let more = |total: &usize| *total > tail.len() && to_u64(*total) <= len;
            if let Some(total) = Footer::total_len(&tail).filter(more) {
                tail = store.get_range(&key, len.saturating_sub(to_u64(total)), total)?;
            }
            Ok((len, tail))
        };
        again::settle(store, unsteady, || {
            let (len, tail) = read().map_err(|error| Failure::Final(from_store(error, object.clone())))?;
            let footer = Footer::decode(&frame, len, &tail, &object)
                .map_err(|error| Failure::damaged(from_vault(error, object.clone()), &tail))?;
            self.keep_footer(&object, len, &tail);
            self.keep_tail(object_type, pack, len, &tail);
            Ok(footer)
        })
    }
}

/// Says whether `plain` is what this id says: data in a pack, a page of a map or of a tree in a meta pack.
#[must_use]
pub fn id_fits(object_type: ObjectType, id: &ChunkId, plain: &[u8]) -> bool {
    match object_type {
        ObjectType::MetaPack => map::page_id(plain) == *id || tree_page::page_id(plain) == *id,
        _ => ChunkId::of(plain) == *id,
    }
}

/// Bytes that were bad in another way each time say nothing about the store.
fn unsteady(error: Error) -> Error {
    match error {
        Error::Corrupt { object, .. } => Error::Unavailable {
            source: Arc::new(again::unsteady(&object)),
            object,
        },
        other => other,
    }
}

fn key_text(object_type: ObjectType, pack: &ObjectId) -> String {
    pack_key(object_type, pack).map_or_else(|_| crate::bytes::hex(pack), |key| key.to_string())
}

fn from_store(error: store::Error, object: String) -> Error {
    match error {
        store::Error::NotFound { .. } => Error::Missing {
            what: "the whole pack".to_owned(),
            object,
        },
        store::Error::Short { end, .. } => Error::Corrupt {
            object,
            what: format!("it ends before byte {end}"),
        },
        source => {
            wait::note_failure();
            Error::Unavailable {
                object,
                source: Arc::new(source),
            }
        }
    }
}

fn from_vault(error: vault::Error, object: String) -> Error {
    match error {
        vault::Error::Store(source) => from_store(source, object),
        vault::Error::Corrupt { what, .. } => Error::Corrupt { object, what },
        other => Error::Corrupt {
            object,
            what: other.to_string(),
        },
    }
}
