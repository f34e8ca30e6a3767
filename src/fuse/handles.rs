//! Numbers for what is open.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fuser::FileHandle;
use parking_lot::RwLock;

/// Open things by their handle; a handle is never used twice.
#[derive(Debug)]
pub(super) struct Handles<T> {
    next: AtomicU64,
    /// Held only to look up or to change the map, never while a thing is used.
    open: RwLock<HashMap<u64, Arc<T>>>,
}

impl<T> Handles<T> {
    pub(super) fn new() -> Self {
        Self {
            next: AtomicU64::new(1),
            open: RwLock::new(HashMap::new()),
        }
    }

    pub(super) fn add(&self, thing: T) -> FileHandle {
        let handle = self.next.fetch_add(1, Ordering::Relaxed);
        self.open.write().insert(handle, Arc::new(thing));
        FileHandle(handle)
    }

    pub(super) fn get(&self, handle: FileHandle) -> Option<Arc<T>> {
        self.open.read().get(&handle.0).cloned()
    }

    pub(super) fn remove(&self, handle: FileHandle) {
        // Dropped outside the lock: an image may have much to let go.
        let removed = self.open.write().remove(&handle.0);
        drop(removed);
    }
}
