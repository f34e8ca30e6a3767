//! Which inode number a file has in a backup: its own, as long as that tells it from every other.

use crate::checksum::Digest;
use crate::bytes::field;
use crate::source::directory::attributes::{Attributes, FileId, Kind, Time};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// Numbers that are made, not found, have this bit.
const MADE: u64 = 1 << 63;

/// File systems whose inode numbers are known to be unique on a device: ext2/3/4, XFS, btrfs, tmpfs, ZFS, F2FS, bcachefs.
const UNIQUE: [u64; 7] = [
    0xef53,
    0x5846_5342,
    0x9123_683e,
    0x0102_1994,
    0x2fc1_2fc1,
    0xf2f5_2010,
    0xca45_1a4e,
];

/// What tells two files apart that have one number on a file system that is not careful with numbers.
type Fingerprint = (u64, Time, u32);

/// How often a file has been met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Met {
    /// For the first time: it is to be read.
    First,
    /// Before, under another name.
    Again,
}

/// Gives numbers to files.
#[derive(Debug)]
pub(super) struct Numbers {
    device: u64,
    trusted: bool,
    /// Directories, files with several names, and all files where numbers are not trusted.
    seen: Mutex<HashMap<FileId, Fingerprint>>,
}

impl Numbers {
    /// Starts for a tree whose root is `root`, on a file system with this magic number.
    pub(super) fn new(root: FileId, filesystem_magic: u64) -> Self {
        Self {
            device: root.device,
            trusted: UNIQUE.contains(&filesystem_magic),
            seen: Mutex::default(),
        }
    }

    /// The number of a file called `name` in the directory with the number `parent`.
    pub(super) fn assign(&self, file: &Attributes, parent: u64, name: &[u8]) -> (u64, Met) {
        let number = self.plain(file.id);
        if file.kind != Kind::Directory && file.links <= 1 && self.trusted && file.id.device == self.device {
            return (number, Met::First);
        }
        let fingerprint = (file.size_bytes, file.modified, file.mode);
        match self.seen.lock().entry(file.id) {
            Entry::Vacant(place) => {
                place.insert(fingerprint);
                (number, Met::First)
            }
            // A directory has one place; where it is seen at a second one (a bind mount), that is a tree of its own.
            Entry::Occupied(_) if file.kind == Kind::Directory => (elsewhere(file.id, parent, name), Met::First),
            Entry::Occupied(met) if file.links <= 1 && *met.get() != fingerprint => {
                (elsewhere(file.id, parent, name), Met::First)
            }
            Entry::Occupied(_) => (number, Met::Again),
        }
    }

    /// Takes back that a file was met: it could not be read under that name, and may be under another one.
    pub(super) fn forget(&self, id: FileId) {
        self.seen.lock().remove(&id);
    }

    fn plain(&self, id: FileId) -> u64 {
        if id.device == self.device && (1..MADE).contains(&id.inode) {
            id.inode
        } else {
            made(id, &[])
        }
    }
}

fn elsewhere(id: FileId, parent: u64, name: &[u8]) -> u64 {
    made(id, &[&parent.to_le_bytes(), name])
}

fn made(id: FileId, more: &[&[u8]]) -> u64 {
    let (device, inode) = (id.device.to_le_bytes(), id.inode.to_le_bytes());
    let pieces: Vec<&[u8]> = [&device[..], &inode[..]].into_iter().chain(more.iter().copied()).collect();
    let digest = Digest::of_pieces(&pieces);
    u64::from_le_bytes(field(&digest.0, 0).unwrap_or_default()) | MADE
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
            born: None,
        }
    }

    const EXT4: u64 = 0xef53;
    const ROOT: FileId = FileId { device: 5, inode: 2 };

    #[test]
    fn files_of_the_device_keep_their_numbers_and_others_get_one_that_stays() {
        let numbers = Numbers::new(ROOT, EXT4);
        assert_eq!(numbers.assign(&file(5, 77, 1, Kind::Regular), 2, b"a"), (77, Met::First));
        for (device, inode) in [(6, 77), (5, 0), (5, MADE), (5, u64::MAX)] {
            let odd = file(device, inode, 1, Kind::Regular);
            let (number, _) = numbers.assign(&odd, 2, b"a");
            assert!(number >= MADE);
            let next_time = Numbers::new(ROOT, EXT4);
            assert_eq!(next_time.assign(&odd, 9, b"renamed").0, number);
        }
    }

    #[test]
    fn names_of_one_file_share_its_number() {
        let numbers = Numbers::new(ROOT, EXT4);
        let linked = file(5, 77, 3, Kind::Regular);
        assert_eq!(numbers.assign(&linked, 2, b"a"), (77, Met::First));
        assert_eq!(numbers.assign(&linked, 9, b"b"), (77, Met::Again));
        numbers.forget(linked.id);
        assert_eq!(numbers.assign(&linked, 9, b"c"), (77, Met::First));
    }

    #[test]
    fn a_directory_seen_twice_is_two_directories() {
        let numbers = Numbers::new(ROOT, EXT4);
        let bound = file(5, 77, 2, Kind::Directory);
        assert_eq!(numbers.assign(&bound, 2, b"a"), (77, Met::First));
        let (second, met) = numbers.assign(&bound, 2, b"b");
        assert!(second >= MADE && met == Met::First);
        assert_ne!(numbers.assign(&bound, 2, b"c").0, second);
    }

    #[test]
    fn different_files_of_one_number_are_told_apart_where_numbers_are_not_trusted() {
        let numbers = Numbers::new(ROOT, 0x6573_5546);
        let one = file(5, 77, 1, Kind::Regular);
        let other = Attributes { size_bytes: 11, ..one };
        assert_eq!(numbers.assign(&one, 2, b"a"), (77, Met::First));
        assert_ne!(numbers.assign(&other, 2, b"b").0, 77);
        assert_eq!(numbers.assign(&one, 2, b"moved"), (77, Met::Again));
    }
}
