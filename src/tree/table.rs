//! The inodes that the kernel holds, with its counts; bounded by the kernel's own cache.

use std::collections::HashMap;
use std::collections::hash_map;
use std::sync::Arc;

use parking_lot::RwLock;

use super::Error;
use super::node::{Ino, Node};

/// Maps inode numbers back to nodes while the kernel refers to them.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// Never held while anything is loaded.
    held: RwLock<HashMap<Ino, Held>>,
}

#[derive(Debug)]
struct Held {
    node: Arc<Node>,
    lookups: u64,
}

impl Table {
    /// The node with this number; the root is always there.
    ///
    /// # Errors
    /// `Stale` for a number that the kernel has given back or never got.
    pub(super) fn get(&self, ino: Ino) -> Result<Arc<Node>, Error> {
        if ino == Ino::ROOT {
            return Ok(Arc::new(Node::Root));
        }
        let held = self.held.read();
        held.get(&ino)
            .map(|held| Arc::clone(&held.node))
            .ok_or(Error::Stale { ino })
    }

    /// Counts one more reference of the kernel to `node`.
    ///
    /// # Errors
    /// `Collision` if another path has the same number: better no file than another file's bytes.
    pub(super) fn remember(&self, node: &Node) -> Result<(), Error> {
        let ino = node.ino();
        match self.held.write().entry(ino) {
            hash_map::Entry::Vacant(slot) => {
                slot.insert(Held {
                    node: Arc::new(node.clone()),
                    lookups: 1,
                });
            }
            hash_map::Entry::Occupied(mut slot) => {
                let held = slot.get_mut();
                if *held.node != *node {
                    return Err(Error::Collision {
                        path: node.path(),
                        other: held.node.path(),
                    });
                }
                held.lookups = held.lookups.saturating_add(1);
            }
        }
        Ok(())
    }

    /// Takes back `count` references; without any the number is forgotten.
    pub(super) fn forget(&self, ino: Ino, count: u64) {
        let mut held = self.held.write();
        if let hash_map::Entry::Occupied(mut slot) = held.entry(ino) {
            let left = slot.get().lookups.saturating_sub(count);
            if left == 0 {
                slot.remove();
            } else {
                slot.get_mut().lookups = left;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::ResourceKind;

    #[test]
    fn a_number_lives_as_long_as_its_references() {
        let table = Table::default();
        let node = Node::Kind(ResourceKind::Server);
        table.remember(&node).unwrap();
        table.remember(&node).unwrap();
        table.forget(node.ino(), 1);
        assert_eq!(*table.get(node.ino()).unwrap(), node);
        table.forget(node.ino(), 1);
        assert!(matches!(table.get(node.ino()), Err(Error::Stale { .. })));
        assert!(table.held.read().is_empty());
        assert_eq!(*table.get(Ino::ROOT).unwrap(), Node::Root);
    }

    #[test]
    fn two_paths_with_one_number_are_refused() {
        let table = Table::default();
        let (node, other) = (Node::Kind(ResourceKind::Server), Node::Kind(ResourceKind::Disk));
        let held = Held {
            node: Arc::new(other),
            lookups: 1,
        };
        table.held.write().insert(node.ino(), held);
        assert!(matches!(table.remember(&node), Err(Error::Collision { .. })));
    }
}
