//! Blocks of an image file used last, bounded in bytes: tables, and clusters once they are decompressed.

use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;
use parking_lot::Mutex;

use crate::bytes::to_usize;
use crate::image::Result;

/// A cache of blocks of one size, by their place in the file.
pub(super) struct Recent {
    /// Never held across I/O: two threads that miss together both load, and one of the equal blocks stays.
    blocks: Mutex<LruCache<u64, Arc<[u8]>>>,
}

impl Recent {
    /// A cache for `limit` bytes in blocks of `block` bytes, at least four of them.
    pub(super) fn new(limit: u64, block: u64) -> Self {
        let capacity = to_usize(limit.checked_div(block).unwrap_or(0)).max(4);
        Self {
            blocks: Mutex::new(LruCache::new(NonZeroUsize::new(capacity).unwrap_or(NonZeroUsize::MIN))),
        }
    }

    /// Returns the block at `host`, loading it if it is not there; a failed load leaves nothing behind.
    pub(super) fn get(&self, host: u64, load: impl FnOnce() -> Result<Vec<u8>>) -> Result<Arc<[u8]>> {
        if let Some(block) = self.blocks.lock().get(&host) {
            return Ok(Arc::clone(block));
        }
        let block: Arc<[u8]> = load()?.into();
        self.blocks.lock().put(host, Arc::clone(&block));
        Ok(block)
    }
}
