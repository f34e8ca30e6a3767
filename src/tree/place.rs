//! Where a file inside an image is: the file system it is on, the way by which it is shown, and its inode number in the mount.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::node::Ino;
use crate::checksum::Digest;
use crate::fs::handle::Neighbourhood;
use crate::fs::{self, FileSystem, FileType, Inode, Xattr};
use crate::image::ReadAt;
use crate::vault::Address;

/// By which directory of a point a file is shown. The same file has another inode number in each: the kernel does not bear
/// one directory in two places.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum View {
    /// Below `volumes/NAME`.
    Volume,
    /// Below `root`: the mount with this number, 0 for the root itself.
    Mount(usize),
    /// Below `tree`.
    Tree,
}

/// A file system of a backup in one view.
#[derive(Debug)]
pub struct Place {
    pub(super) address: Address,
    /// Name of the volume.
    pub(super) volume: String,
    pub(super) view: View,
    /// The directory that the view shows.
    pub(super) root: Inode,
    /// Directories covered by another mount of the same `root` tree: the number of that mount.
    pub(super) crossings: HashMap<Inode, usize>,
    salt: u64,
    /// The file system while somebody uses it; opened again when it is wanted.
    pub(super) opened: Mutex<Weak<Opened>>,
}

impl Place {
    pub(super) fn new(address: &Address, volume: &str, view: View, root: Inode) -> Self {
        let text = match &view {
            View::Volume => format!("{address}/volumes/{volume}"),
            View::Mount(number) => format!("{address}/root {number}"),
            View::Tree => format!("{address}/tree"),
        };
        let digest = Digest::in_context("vaultfs 2026 files of a volume", text.as_bytes());
        Self {
            address: address.clone(),
            volume: volume.to_owned(),
            view,
            root,
            crossings: HashMap::new(),
            salt: crate::bytes::le_u64(&digest.0, 0).unwrap_or_default(),
            opened: Mutex::new(Weak::new()),
        }
    }

    /// Path of the directory that the view shows.
    pub(super) fn path(&self) -> String {
        match self.view {
            View::Volume => format!("{}/volumes/{}", self.address, self.volume),
            View::Mount(0) => format!("{}/root", self.address),
            View::Mount(_) => format!("{}/root (volume {})", self.address, self.volume),
            View::Tree => format!("{}/tree", self.address),
        }
    }
}

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        (&self.view, &self.volume, &self.address) == (&other.view, &other.volume, &other.address)
    }
}

impl Eq for Place {}

/// A file system that is in use.
pub struct Opened {
    pub(super) file_system: Arc<dyn FileSystem>,
    pub(super) neighbourhood: Arc<Neighbourhood>,
    /// The last answer to [`FileSystem::xattrs`]: programs ask three times in a row for a file, and mostly there are none.
    last_xattrs: Mutex<Option<(Inode, Arc<[Xattr]>)>>,
}

impl Opened {
    pub(super) fn new(file_system: Arc<dyn FileSystem>, volume: Arc<dyn ReadAt>) -> Self {
        Self {
            file_system,
            neighbourhood: Arc::new(Neighbourhood::new(volume)),
            last_xattrs: Mutex::new(None),
        }
    }

    pub(super) fn xattrs(&self, inode: Inode) -> fs::Result<Arc<[Xattr]>> {
        let last = self.last_xattrs.lock().clone();
        if let Some((_, xattrs)) = last.filter(|(of, _)| *of == inode) {
            return Ok(xattrs);
        }
        let xattrs: Arc<[Xattr]> = self.file_system.xattrs(inode)?.into();
        *self.last_xattrs.lock() = Some((inode, Arc::clone(&xattrs)));
        Ok(xattrs)
    }
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Opened")
    }
}

/// A file inside an image.
#[derive(Debug, Clone)]
pub struct Inside {
    pub(super) place: Arc<Place>,
    pub(super) inode: Inode,
    pub(super) file_type: FileType,
}

impl Inside {
    /// The directory that a place shows.
    pub(super) fn root(place: &Arc<Place>) -> Self {
        Self {
            place: Arc::clone(place),
            inode: place.root,
            file_type: FileType::Directory,
        }
    }

    /// Its inode number: no two files of a place share one, and files of different places share one by rare chance only.
    pub(super) fn ino(&self) -> Ino {
        Ino((self.place.salt ^ mixed(self.inode.0)).max(2))
    }

    /// The file whose number [`ino`](Self::ino) gives as this one; it need not exist.
    pub(super) fn numbered(place: &Arc<Place>, ino: Ino, file_type: FileType) -> Self {
        Self {
            place: Arc::clone(place),
            inode: Inode(unmixed(place.salt ^ ino.0)),
            file_type,
        }
    }

    /// What messages call it: a file knows no path of its own.
    pub(super) fn path(&self) -> String {
        if self.inode == self.place.root {
            return self.place.path();
        }
        format!("{}, inode {}", self.place.path(), self.inode.0)
    }
}

impl PartialEq for Inside {
    fn eq(&self, other: &Self) -> bool {
        self.inode == other.inode && (Arc::ptr_eq(&self.place, &other.place) || self.place == other.place)
    }
}

impl Eq for Inside {}

/// Spreads numbers over all 64 bits, one to one (the finishing steps of splitmix64).
fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// What [`mixed`] made the number from.
fn unmixed(number: u64) -> u64 {
    let number = (number ^ (number >> 31) ^ (number >> 62)).wrapping_mul(0x3196_42b2_d24d_8ec3);
    let number = (number ^ (number >> 27) ^ (number >> 54)).wrapping_mul(0x96de_1b17_3f11_9089);
    number ^ (number >> 30) ^ (number >> 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_leads_back_to_its_inode() {
        let numbers = (0..64).map(|bit| 1_u64 << bit);
        for number in numbers.chain([0, 2, 11, 12_345_678_901, u64::MAX]) {
            assert_eq!(unmixed(mixed(number)), number);
            assert_eq!(mixed(unmixed(number)), number);
        }
    }
}
