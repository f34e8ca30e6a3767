//! A stored tree read item by item, without the reader that users have, and held against the directory it was made of.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use vaultfs::checksum::Digest;
use vaultfs::chunk::Reader;
use vaultfs::chunk::items::Items;
use vaultfs::store::local::LocalStore;
use vaultfs::vault::item::{ChunkRef, InodeRecord, Key, Kind, NameTarget};
use vaultfs::vault::map::Entry;
use vaultfs::vault::{Address, Tree, Vault};

/// One file of a stored tree.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) number: u64,
    pub(crate) record: InodeRecord,
    /// Target of a link.
    pub(crate) target: Vec<u8>,
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Runs of bytes by their offsets; what is between them are holes.
    pub(crate) runs: BTreeMap<u64, Vec<u8>>,
}

/// The files of a backup by path, the root's being empty; and what its manifest says.
pub(crate) struct Backup {
    pub(crate) files: BTreeMap<Vec<u8>, Stored>,
    pub(crate) users: BTreeMap<u32, Vec<u8>>,
    pub(crate) tree: Tree,
}

pub(crate) fn open(vault: &Path) -> Vault {
    Vault::open(Arc::new(LocalStore::open(vault).unwrap())).unwrap()
}

/// Every backup of a vault, in the order of their addresses.
pub(crate) fn addresses(vault: &Path) -> Vec<Address> {
    let catalogue = open(vault).catalogue().unwrap();
    let of = |(resource, points): (_, Vec<_>)| {
        let resource: vaultfs::vault::ResourceName = resource;
        points
            .into_iter()
            .map(move |point| resource.at(point))
            .collect::<Vec<_>>()
    };
    catalogue.into_iter().flat_map(of).collect()
}

/// Reads a whole backup; panics if it breaks any promise of the format.
#[track_caller]
pub(crate) fn read(vault: &Path, address: &Address) -> Backup {
    let vault = open(vault);
    let tree = vault.load(address).unwrap().tree().unwrap().clone();
    let reader = Reader::new(vault, 64 << 20);
    let items = Items::new(&reader, tree.root, tree.height, tree.items);
    let (mut inodes, mut names, mut users) = (BTreeMap::new(), Vec::new(), BTreeMap::new());
    let mut count = 0;
    items
        .scan(&[], &mut |rank, key, value| {
            assert_eq!(rank, count);
            count += 1;
            let key = Key::decode(key).unwrap();
            take(&reader, key, value, &mut inodes);
            match key.kind {
                Kind::Name => names.push((key.inode, key.rest.to_vec(), NameTarget::decode(value).unwrap())),
                Kind::User => drop(users.insert(u32::from_be_bytes(key.rest.try_into().unwrap()), value.to_vec())),
                _ => {}
            }
            true
        })
        .unwrap();
    assert_eq!(count, tree.items);
    for stored in inodes.values() {
        let stored: &Stored = stored;
        let pieces: Vec<&[u8]> = stored.runs.values().map(Vec::as_slice).collect();
        let is_file = stored.record.mode & 0o170_000 == 0o100_000;
        let digest = if is_file {
            Digest::of_pieces(&pieces)
        } else {
            Digest([0; 32])
        };
        assert_eq!(stored.record.digest, digest, "inode {}", stored.number);
    }
    let files = paths(&tree, &inodes, names);
    assert_eq!(
        files.values().map(|file| file.number).collect::<BTreeSet<_>>().len(),
        inodes.len(),
        "a record without a name"
    );
    Backup { files, users, tree }
}

fn take(reader: &Arc<Reader>, key: Key<'_>, value: &[u8], inodes: &mut BTreeMap<u64, Stored>) {
    if key.kind == Kind::Inode {
        let record = InodeRecord::decode(value).unwrap();
        let stored = Stored {
            number: key.inode,
            record,
            target: Vec::new(),
            xattrs: BTreeMap::new(),
            runs: BTreeMap::new(),
        };
        inodes.insert(key.inode, stored);
        return;
    }
    let Some(stored) = inodes.get_mut(&key.inode) else {
        assert!(matches!(key.kind, Kind::User | Kind::Group), "an item without a record");
        return;
    };
    match key.kind {
        Kind::Data if stored.record.mode & 0o170_000 == 0o120_000 => stored.target = value.to_vec(),
        Kind::Data => {
            assert_eq!(stored.record.size, u64::try_from(value.len()).unwrap());
            stored.runs.insert(0, value.to_vec());
        }
        Kind::Xattr => drop(stored.xattrs.insert(key.rest.to_vec(), value.to_vec())),
        Kind::Chunk => {
            let chunk = ChunkRef::decode(value).unwrap();
            let entry = Entry {
                id: chunk.id,
                pack: chunk.pack,
            };
            let bytes = reader
                .chunk(&entry, usize::try_from(chunk.len).unwrap())
                .unwrap()
                .to_vec();
            let offset = key.offset().unwrap();
            if let Some((start, before)) = stored.runs.iter().next_back() {
                assert!(start + u64::try_from(before.len()).unwrap() <= offset, "chunks overlap");
            }
            assert!(offset + u64::from(chunk.len) <= stored.record.size);
            stored.runs.insert(offset, bytes);
        }
        _ => {}
    }
}

fn paths(
    tree: &Tree,
    inodes: &BTreeMap<u64, Stored>,
    names: Vec<(u64, Vec<u8>, NameTarget)>,
) -> BTreeMap<Vec<u8>, Stored> {
    let mut below: BTreeMap<u64, Vec<(Vec<u8>, NameTarget)>> = BTreeMap::new();
    for (parent, name, target) in names {
        below.entry(parent).or_default().push((name, target));
    }
    let mut files = BTreeMap::new();
    let mut waiting = vec![(Vec::new(), tree.root_inode)];
    while let Some((path, number)) = waiting.pop() {
        let stored = inodes.get(&number).unwrap_or_else(|| panic!("{path:?} names nothing"));
        for (name, target) in below.remove(&number).unwrap_or_default() {
            let mut path = path.clone();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend(name);
            let mode = inodes[&target.inode].record.mode;
            assert_eq!(u32::from(target.type_code), mode >> 12, "{path:?}");
            waiting.push((path, target.inode));
        }
        files.insert(path, stored.clone());
    }
    files
}

impl Stored {
    /// The whole content, holes as zeros.
    pub(crate) fn content(&self) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(self.record.size).unwrap()];
        for (offset, run) in &self.runs {
            let at = usize::try_from(*offset).unwrap();
            bytes[at..at + run.len()].copy_from_slice(run);
        }
        bytes
    }
}

impl Backup {
    /// A file by its path as text.
    #[track_caller]
    pub(crate) fn file(&self, path: &str) -> &Stored {
        self.files
            .get(path.as_bytes())
            .unwrap_or_else(|| panic!("{path} is not there"))
    }

    pub(crate) fn has(&self, path: &str) -> bool {
        self.files.contains_key(path.as_bytes())
    }

    /// Holds the backup against a directory: every path, attribute and byte.
    #[track_caller]
    pub(crate) fn equals(&self, source: &Path) {
        let mut found = BTreeSet::new();
        let mut waiting = vec![source.to_owned()];
        while let Some(at) = waiting.pop() {
            let path = at.strip_prefix(source).unwrap().as_os_str().to_owned().into_vec();
            let stored = self
                .files
                .get(&path)
                .unwrap_or_else(|| panic!("{} is not there", at.display()));
            compare(&at, stored);
            found.insert(path);
            if at.symlink_metadata().unwrap().is_dir() {
                waiting.extend(std::fs::read_dir(&at).unwrap().map(|entry| entry.unwrap().path()));
            }
        }
        let stored: BTreeSet<_> = self.files.keys().cloned().collect();
        assert_eq!(found, stored, "names");
    }
}

#[track_caller]
fn compare(at: &Path, stored: &Stored) {
    let meta = at.symlink_metadata().unwrap();
    let record = &stored.record;
    let numbers = (meta.mode(), meta.uid(), meta.gid(), meta.ino(), meta.nlink());
    let kept = (
        record.mode,
        record.uid,
        record.gid,
        stored.number,
        u64::from(record.links),
    );
    assert_eq!(kept, numbers, "{}", at.display());
    let time = |time: vaultfs::vault::item::Time| (time.seconds, i64::from(time.nanos));
    assert_eq!(
        time(record.modified),
        (meta.mtime(), meta.mtime_nsec()),
        "{}",
        at.display()
    );
    assert_eq!(
        time(record.changed),
        (meta.ctime(), meta.ctime_nsec()),
        "{}",
        at.display()
    );
    let kind = meta.file_type();
    if kind.is_file() {
        assert_eq!(record.size, meta.len(), "{}", at.display());
        if meta.len() < 64 << 20 {
            assert!(stored.content() == std::fs::read(at).unwrap(), "{}", at.display());
        }
    }
    if kind.is_symlink() {
        assert_eq!(stored.target, std::fs::read_link(at).unwrap().as_os_str().as_bytes());
    }
    let expected = if kind.is_block_device() || kind.is_char_device() {
        meta.rdev()
    } else {
        0
    };
    assert_eq!(
        rustix::fs::makedev(record.device.0, record.device.1),
        expected,
        "{}",
        at.display()
    );
}
