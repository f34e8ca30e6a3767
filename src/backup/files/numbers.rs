//! Which inode number a file has in a backup: its own, as long as that tells it from every other.

use crate::bytes::field;
use crate::checksum::Digest;
use crate::source::directory::attributes::{Attributes, FileId, Kind, Time};
use crate::vault::item::MADE_NUMBERS;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// Inode numbers whose bits are kept together: file systems give neighbours to neighbours.
const BLOCK: u64 = 512;

/// How often a file has been met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Met {
    /// For the first time: it is to be read.
    First,
    /// Before, under another name.
    Again,
}

/// What a file with several names keeps for as long as it is there, and a new file with its number does not have.
type Mark = (Kind, Option<Time>);

#[derive(Debug, Default)]
struct Seen {
    /// A bit for each number that was given as it is.
    given: HashMap<(u64, u64), [u64; 8]>,
    /// Files with several names.
    linked: HashMap<FileId, Mark>,
}

impl Seen {
    /// Takes note of a number; says whether it is new.
    fn give(&mut self, id: FileId) -> bool {
        let place = id.inode % BLOCK;
        let block = self.given.entry((id.device, id.inode / BLOCK)).or_default();
        let Some(word) = block.get_mut(usize::try_from(place / 64).unwrap_or_default()) else {
            return false;
        };
        let bit = 1 << (place % 64);
        let new = *word & bit == 0;
        *word |= bit;
        new
    }
}

/// Gives numbers to files.
#[derive(Debug)]
pub(super) struct Numbers {
    device: u64,
    seen: Mutex<Seen>,
}

impl Numbers {
    /// Starts for a tree with this root.
    pub(super) fn new(root: FileId) -> Self {
        Self {
            device: root.device,
            seen: Mutex::default(),
        }
    }

    /// The number of a file called `name` in the directory with the number `parent`.
    ///
    /// A number is met a second time if a directory is mounted at a second place, a file moves while the tree is walked, its
    /// number goes to a new file, or the file system is careless: then what is met is a file of its own.
    pub(super) fn assign(&self, file: &Attributes, parent: u64, name: &[u8]) -> (u64, Met) {
        let mut seen = self.seen.lock();
        if file.kind != Kind::Directory {
            let mark = (file.kind, file.born);
            match seen.linked.entry(file.id) {
                Entry::Occupied(met) if *met.get() == mark => return (self.plain(file.id), Met::Again),
                Entry::Vacant(place) if file.links > 1 => {
                    place.insert(mark);
                }
                _ => {}
            }
        }
        if seen.give(file.id) {
            (self.plain(file.id), Met::First)
        } else {
            (made(file.id, &[&parent.to_le_bytes(), name]), Met::First)
        }
    }

    /// Takes back that a file was met: it could not be read under that name, and may be under another one.
    pub(super) fn forget(&self, id: FileId) {
        let mut seen = self.seen.lock();
        if seen.linked.remove(&id).is_some()
            && let Some(word) = seen
                .given
                .get_mut(&(id.device, id.inode / BLOCK))
                .and_then(|block| block.get_mut(usize::try_from(id.inode % BLOCK / 64).unwrap_or_default()))
        {
            *word &= !(1 << (id.inode % 64));
        }
    }

    fn plain(&self, id: FileId) -> u64 {
        if id.device == self.device && (1..MADE_NUMBERS).contains(&id.inode) {
            id.inode
        } else {
            made(id, &[])
        }
    }
}

fn made(id: FileId, more: &[&[u8]]) -> u64 {
    let (device, inode) = (id.device.to_le_bytes(), id.inode.to_le_bytes());
    let pieces: Vec<&[u8]> = [&device[..], &inode[..]]
        .into_iter()
        .chain(more.iter().copied())
        .collect();
    let digest = Digest::of_pieces(&pieces);
    u64::from_le_bytes(field(&digest.0, 0).unwrap_or_default()) | MADE_NUMBERS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(device: u64, inode: u64, links: u32, kind: Kind) -> Attributes {
        let time = Time {
            seconds: 1,
            nanoseconds: 0,
        };
        Attributes {
            id: FileId { device, inode },
            kind,
            mode: 0o100_644,
            links,
            uid: 0,
            gid: 0,
            size_bytes: 10,
            blocks: 8,
            represents: (0, 0),
            accessed: time,
            modified: time,
            changed: time,
            born: Some(time),
        }
    }

    const ROOT: FileId = FileId { device: 5, inode: 2 };

    #[test]
    fn files_of_the_device_keep_their_numbers_and_others_get_one_that_stays() {
        let numbers = Numbers::new(ROOT);
        for inode in [1, 77, 78, 511, 512, MADE_NUMBERS - 1] {
            assert_eq!(
                numbers.assign(&file(5, inode, 1, Kind::Regular), 2, b"a"),
                (inode, Met::First)
            );
        }
        for (device, inode) in [(6, 77), (5, 0), (5, MADE_NUMBERS), (5, u64::MAX)] {
            let odd = file(device, inode, 1, Kind::Regular);
            let (number, _) = numbers.assign(&odd, 2, b"a");
            assert!(number >= MADE_NUMBERS);
            assert_eq!(Numbers::new(ROOT).assign(&odd, 9, b"renamed").0, number);
        }
    }

    #[test]
    fn names_of_one_file_share_its_number() {
        let numbers = Numbers::new(ROOT);
        let linked = file(5, 77, 3, Kind::Regular);
        assert_eq!(numbers.assign(&linked, 2, b"a"), (77, Met::First));
        assert_eq!(numbers.assign(&linked, 9, b"b"), (77, Met::Again));
        let last_name = Attributes { links: 1, ..linked };
        assert_eq!(numbers.assign(&last_name, 9, b"c"), (77, Met::Again));
        numbers.forget(linked.id);
        assert_eq!(numbers.assign(&linked, 9, b"d"), (77, Met::First));
    }

    #[test]
    fn a_number_that_is_met_twice_is_two_files() {
        let numbers = Numbers::new(ROOT);
        for (inode, kind, links) in [(77, Kind::Directory, 4), (78, Kind::Regular, 1), (79, Kind::Special, 1)] {
            let met = file(5, inode, links, kind);
            assert_eq!(numbers.assign(&met, 2, b"a"), (inode, Met::First));
            let (second, again) = numbers.assign(&met, 2, b"b");
            assert!(second >= MADE_NUMBERS && again == Met::First);
            assert_ne!(numbers.assign(&met, 2, b"c").0, second);
        }
        let linked = file(5, 80, 2, Kind::Regular);
        let reused = Attributes { born: None, ..linked };
        assert_eq!(numbers.assign(&linked, 2, b"a"), (80, Met::First));
        assert!(numbers.assign(&reused, 2, b"b").0 >= MADE_NUMBERS);
    }
}
