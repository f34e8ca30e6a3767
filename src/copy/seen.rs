//! Pages of the vault copied from, and the pages that stand for them in the other one: what backups share is walked once in a run.

use crate::vault::map::PageRef;
use std::collections::HashMap;
use std::sync::Arc;

/// Most pages remembered: about 16 TiB of disks; above that it starts anew.
const MAX_PAGES: usize = 1 << 18;

/// A page, and what its place demands of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Name {
    /// A page of a chunk map.
    Map {
        /// Its id.
        id: [u8; 32],
        /// Bytes of its chunks.
        chunk_size: u32,
        /// Bytes of the disk that it stands for.
        span: u64,
    },
    /// A page of a tree.
    Tree {
        /// Its id.
        id: [u8; 32],
        /// Its level.
        level: u8,
    },
}

/// The copy of a page and of everything below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    /// Where the copy is.
    pub(super) page: PageRef,
    /// Number of chunks below it.
    pub(super) chunks: u64,
    /// Their bytes.
    pub(super) data_bytes: u64,
    /// Items below it, if it is a page of a tree.
    pub(super) items: u64,
    /// The first and the last key of these.
    pub(super) keys: (Vec<u8>, Vec<u8>),
}

/// Copies by the pages they stand for.
#[derive(Debug, Default)]
pub(super) struct Seen(HashMap<Name, Arc<Node>>);

impl Seen {
    /// The copy of a page.
    pub(super) fn get(&self, name: &Name) -> Option<Arc<Node>> {
        self.0.get(name).map(Arc::clone)
    }

    /// Takes note of a copy.
    pub(super) fn insert(&mut self, name: Name, node: Arc<Node>) {
        if self.0.len() >= MAX_PAGES {
            self.0.clear();
        }
        self.0.insert(name, node);
    }

    /// Takes over what a session found out.
    pub(super) fn add(&mut self, other: Self) {
        if self.0.len().saturating_add(other.0.len()) > MAX_PAGES {
            self.0.clear();
        }
        self.0.extend(other.0);
    }
}
