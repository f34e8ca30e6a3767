//! The inodes that the kernel holds, with its counts; bounded by the kernel's own cache.
//!
//! That cache may hold millions of files inside images, so that what is kept of one is small: its number tells the inode, as
//! long as its place is known. A B-tree holds them because it never needs room for three times what is in it, as a hash table does
//! while it grows.

use std::collections::{BTreeMap, HashMap, btree_map};
use std::sync::Arc;

use parking_lot::RwLock;

use super::Error;
use super::node::{Ino, Node};
use super::place::{Inside, Place};
use crate::fs::FileType;

/// Maps inode numbers back to nodes while the kernel refers to them.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// Never held while anything is loaded.
    held: RwLock<Held>,
}

/// A number is in one of the two at most.
#[derive(Debug, Default)]
struct Held {
    files: BTreeMap<Ino, File>,
    others: HashMap<Ino, Other>,
}

/// A file inside an image: [`Inside`] without the inode.
#[derive(Debug)]
struct File {
    place: Arc<Place>,
    /// References of the kernel. At [`u32::MAX`] they are not counted any more, and the file is never forgotten.
    lookups: u32,
    file_type: FileType,
}

#[derive(Debug)]
struct Other {
    node: Node,
    lookups: u64,
}

impl Table {
    /// The node with this number; the root is always there.
    ///
    /// # Errors
    /// `Stale` for a number that the kernel has given back or never got.
    pub(super) fn get(&self, ino: Ino) -> Result<Node, Error> {
        if ino == Ino::ROOT {
            return Ok(Node::Root);
        }
        self.held.read().get(ino).ok_or(Error::Stale { ino })
    }

    /// Counts one more reference of the kernel to `node`.
    ///
    /// # Errors
    /// `Collision` if another path has the same number: better no file than another file's bytes.
    pub(super) fn remember(&self, node: &Node) -> Result<(), Error> {
        let known = self.held.write().count(node.ino(), node);
        known.map_or(Ok(()), |known| {
            Err(Error::Collision {
                path: node.path(),
                other: known.path(),
            })
        })
    }

    /// Takes back `count` references; without any the number is forgotten.
    pub(super) fn forget(&self, ino: Ino, count: u64) {
        self.held.write().forget(ino, count);
    }
}

impl Held {
    fn get(&self, ino: Ino) -> Option<Node> {
        let file = self.files.get(&ino).map(|file| file.node(ino));
        file.or_else(|| self.others.get(&ino).map(|other| other.node.clone()))
    }

    /// Counts a reference to `node`; gives the other node that has this number, if one does.
    fn count(&mut self, ino: Ino, node: &Node) -> Option<Node> {
        if let Some(other) = self.others.get_mut(&ino) {
            if other.node != *node {
                return Some(other.node.clone());
            }
            other.lookups = other.lookups.saturating_add(1);
            return None;
        }
        let slot = self.files.entry(ino);
        match (slot, compact(ino, node)) {
            (btree_map::Entry::Occupied(mut slot), Some(file)) if slot.get().place == file.place => {
                let lookups = &mut slot.get_mut().lookups;
                *lookups = lookups.saturating_add(1);
            }
            (btree_map::Entry::Occupied(slot), _) => return Some(slot.get().node(ino)),
            (btree_map::Entry::Vacant(slot), Some(file)) => {
                slot.insert(file);
            }
            (btree_map::Entry::Vacant(_), None) => {
                let node = node.clone();
                self.others.insert(ino, Other { node, lookups: 1 });
            }
        }
        None
    }

    fn forget(&mut self, ino: Ino, count: u64) {
        if let btree_map::Entry::Occupied(mut slot) = self.files.entry(ino) {
            let file = slot.get_mut();
            if file.lookups == u32::MAX {
                return;
            }
            file.lookups = file.lookups.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX));
            if file.lookups == 0 {
                slot.remove();
            }
        } else if let Some(other) = self.others.get_mut(&ino) {
            other.lookups = other.lookups.saturating_sub(count);
            if other.lookups == 0 {
                self.others.remove(&ino);
            }
        }
    }
}

impl File {
    fn node(&self, ino: Ino) -> Node {
        Node::Inside(Inside::numbered(&self.place, ino, self.file_type))
    }
}

/// What is kept of a file inside an image, with one reference; `None` for what its number does not lead back to.
fn compact(ino: Ino, node: &Node) -> Option<File> {
    let Node::Inside(file) = node else { return None };
    let numbered = Inside::numbered(&file.place, ino, file.file_type);
    (numbered == *file).then(|| File {
        place: Arc::clone(&file.place),
        lookups: 1,
        file_type: file.file_type,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::Inode;
    use crate::tree::place::View;
    use crate::tree::tests::server;
    use crate::vault::ResourceKind;

    fn place(volume: &str) -> Arc<Place> {
        Arc::new(Place::new(&server("web", 5), volume, View::Volume, Inode(2)))
    }

    fn inside(place: &Arc<Place>, inode: u64) -> Node {
        Node::Inside(Inside {
            place: Arc::clone(place),
            inode: Inode(inode),
            file_type: FileType::Fifo,
        })
    }

    /// The number of [`Held::files`] and of [`Held::others`].
    fn counts(table: &Table) -> (usize, usize) {
        let held = table.held.read();
        (held.files.len(), held.others.len())
    }

    #[test]
    fn a_number_lives_as_long_as_its_references() {
        let table = Table::default();
        for (node, kept) in [
            (Node::Kind(ResourceKind::Server), (0, 1)),
            (inside(&place("vda1"), 12), (1, 0)),
        ] {
            table.remember(&node).unwrap();
            table.remember(&node).unwrap();
            table.forget(node.ino(), 1);
            assert_eq!(table.get(node.ino()).unwrap(), node);
            assert_eq!(table.get(node.ino()).unwrap().file_type(), node.file_type());
            assert_eq!(counts(&table), kept);
            table.forget(node.ino(), 1);
            assert!(matches!(table.get(node.ino()), Err(Error::Stale { .. })));
            assert_eq!(counts(&table), (0, 0));
        }
        assert_eq!(table.get(Ino::ROOT).unwrap(), Node::Root);
    }

    #[test]
    fn two_paths_with_one_number_are_refused() {
        let (here, there) = (place("vda1"), place("vda2"));
        let file = inside(&here, 12);
        let same_number = Node::Inside(Inside::numbered(&there, file.ino(), FileType::File));
        let kind = Node::Kind(ResourceKind::Server);
        let as_kind = Node::Inside(Inside::numbered(&here, kind.ino(), FileType::File));
        for (node, other) in [(&file, &same_number), (&kind, &as_kind)] {
            assert_eq!(node.ino(), other.ino());
            for (first, second) in [(node, other), (other, node)] {
                let table = Table::default();
                table.remember(first).unwrap();
                assert!(matches!(table.remember(second), Err(Error::Collision { .. })));
                assert_eq!(table.get(first.ino()).unwrap(), *first);
            }
        }
    }

    #[test]
    fn a_place_that_was_loaded_again_is_the_same() {
        let table = Table::default();
        table.remember(&inside(&place("vda1"), 12)).unwrap();
        table.remember(&inside(&place("vda1"), 12)).unwrap();
        assert_eq!(counts(&table), (1, 0));
    }

    #[test]
    fn a_file_whose_number_was_changed_is_kept_whole() {
        let table = Table::default();
        let here = place("vda1");
        // The number that 0 and 1 would have: 0 is no entry to the kernel, and 1 is the root.
        let all: Vec<Node> = (0..3)
            .map(|number| Node::Inside(Inside::numbered(&here, Ino(number), FileType::File)))
            .collect();
        assert!(all.iter().all(|node| node.ino() == Ino(2)));
        for (node, kept) in all.iter().zip([(0, 1), (0, 1), (1, 0)]) {
            table.remember(node).unwrap();
            assert_eq!((table.get(Ino(2)).unwrap(), counts(&table)), (node.clone(), kept));
            let others = all.iter().filter(|other| *other != node);
            others.for_each(|other| assert!(matches!(table.remember(other), Err(Error::Collision { .. }))));
            table.forget(Ino(2), 1);
        }
        assert_eq!(counts(&table), (0, 0));
    }

    #[test]
    fn references_beyond_counting_are_never_forgotten() {
        let table = Table::default();
        let node = inside(&place("vda1"), 12);
        table.remember(&node).unwrap();
        table.held.write().files.get_mut(&node.ino()).unwrap().lookups = u32::MAX - 1;
        table.remember(&node).unwrap();
        table.remember(&node).unwrap();
        table.forget(node.ino(), u64::MAX);
        assert_eq!(table.get(node.ino()).unwrap(), node);
    }

    #[test]
    fn what_is_kept_of_a_file_is_small() {
        assert!(size_of::<(Ino, File)>() <= 24);
    }
}
