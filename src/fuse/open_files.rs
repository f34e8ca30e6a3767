//! Files that are being read. The kernel is told that opening needs no request: for small files the requests to open and to release
//! would be a third of all. So nobody says when a file is done with; the longest unused ones go.

use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;
use parking_lot::Mutex;

use crate::tree::{Error, Ino, OpenFile, Tree};

/// Files kept ready; each holds some KiB at most.
const KEPT: NonZeroUsize = NonZeroUsize::new(1024).unwrap();

/// Files by their inode number.
pub(super) struct OpenFiles {
    /// Never held while a file is opened.
    kept: Mutex<LruCache<Ino, Arc<OpenFile>>>,
}

impl OpenFiles {
    pub(super) fn new() -> Self {
        Self {
            kept: Mutex::new(LruCache::new(KEPT)),
        }
    }

    /// The file, opened if it is not kept.
    ///
    /// # Errors
    /// As [`Tree::open_file`].
    pub(super) fn get(&self, tree: &Tree, ino: Ino) -> Result<Arc<OpenFile>, Error> {
        if let Some(file) = self.kept.lock().get(&ino) {
            return Ok(Arc::clone(file));
        }
        let opened = Arc::new(tree.open_file(ino)?);
        let mut kept = self.kept.lock();
        // Somebody may have been faster; the state of the reads is with the one that is kept.
        if let Some(file) = kept.get(&ino) {
            return Ok(Arc::clone(file));
        }
        let pushed_out = kept.push(ino, Arc::clone(&opened));
        drop(kept);
        // Outside the lock: an image has much to let go.
        drop(pushed_out);
        Ok(opened)
    }
}
