//! Files of a file-system backup: a [`FileSystem`] over the items of a stored tree.
//!
//! Every answer is made from the few items of one inode, found in O(log n) pages. Pages matched their hashes, but whoever wrote
//! them may mean harm: what does not fit the format is an error on the inode it belongs to.
//!
//! # Source
//! `docs/format.md`, section "Tree".

mod extents;
#[cfg(test)]
pub(crate) mod tests;

use std::ops::Range;
use std::sync::Arc;

use super::{
    Attr, DeviceNumber, DirEntry, Error, Extent, FileSystem, FileType, Inode, Result, Summary, Timestamp, Xattr,
};
use crate::chunk::items::{Item, Items};
use crate::chunk::{self, Reader};
use crate::image::piece::Source;
use crate::vault::Address;
use crate::vault::item::{self, InodeRecord, Key, Kind, NameTarget, TREE_INODE, Time, first_key};
use crate::vault::manifest::Tree;

/// Most bytes of names and values of one file's extended attributes.
const MAX_XATTRS_BYTES: usize = 64 << 20;
/// What an attribute takes beside these.
const XATTR_OVERHEAD: usize = 64;

/// A stored tree, open for reading.
pub struct Stored {
    items: Items,
    root: Inode,
    source: Arc<Source>,
    summary: Summary,
}

impl Stored {
    /// Opens the files of the backup at `address`, as its manifest describes them; reads nothing.
    #[must_use]
    pub fn open(reader: &Arc<Reader>, address: &Address, tree: &Tree) -> Self {
        let numbers = tree.statistics;
        let notes = match tree.unread {
            0 => Vec::new(),
            1 => vec!["1 file could not be stored as it is: see backup.json".to_owned()],
            count => vec![format!(
                "{count} files could not be stored as they are: see backup.json"
            )],
        };
        Self {
            items: Items::new(reader, tree.root, tree.height, tree.items),
            root: Inode(tree.root_inode),
            source: Arc::new(Source {
                reader: Arc::clone(reader),
                label: format!("backup {address}"),
            }),
            summary: Summary {
                size: numbers.logical,
                free: 0,
                files: [numbers.directories, numbers.others]
                    .into_iter()
                    .fold(numbers.files, u64::saturating_add),
                notes,
            },
        }
    }

    /// Gives the items of `inode` of one kind to `visit`, from the first whose key is not below `from`.
    fn of_kind(&self, inode: Inode, kind: Kind, from: &[u8], visit: &mut Each<'_>) -> Result<()> {
        let mut bad_key = false;
        let scanned = self.items.scan(from, &mut |rank, key, value| match Key::decode(key) {
            Some(key) if (key.inode, key.kind) == (inode.0, kind) => visit(rank, &key, value),
            Some(_) => false,
            None => {
                bad_key = true;
                false
            }
        });
        scanned.map_err(|error| self.lost(inode, error))?;
        if bad_key {
            return Err(self.corrupt(inode, "the key of an item"));
        }
        Ok(())
    }

    fn get(&self, inode: Inode, key: &[u8]) -> Result<Option<Item>> {
        self.items.get(key).map_err(|error| self.lost(inode, error))
    }

    fn record(&self, inode: Inode) -> Result<(InodeRecord, FileType)> {
        if inode.0 == TREE_INODE {
            return Err(Error::NoInode { inode });
        }
        let item = self.get(inode, &first_key(inode.0, Kind::Inode))?;
        let item = item.ok_or(Error::NoInode { inode })?;
        let record = InodeRecord::decode(item.value()).filter(|record| i64::try_from(record.size).is_ok());
        let file_type = |record: &InodeRecord| FileType::from_mode(u16::try_from(record.mode).ok()?);
        record
            .and_then(|record| Some((record, file_type(&record)?)))
            .ok_or_else(|| self.corrupt(inode, "its record"))
    }

    fn of_type(&self, inode: Inode, wanted: FileType) -> Result<InodeRecord> {
        match self.record(inode)? {
            (record, file_type) if file_type == wanted => Ok(record),
            _ => Err(Error::WrongType { inode, wanted }),
        }
    }

    fn owner(&self, kind: Kind, id: u32) -> Result<Option<Vec<u8>>> {
        let item = self.get(Inode(TREE_INODE), &item::owner_key(kind, id))?;
        let Some(item) = item else { return Ok(None) };
        if item::value_fits(kind, item.value()) {
            Ok(Some(item.value().to_vec()))
        } else {
            Err(self.corrupt(Inode(TREE_INODE), "the name of an owner"))
        }
    }

    fn lost(&self, inode: Inode, source: chunk::Error) -> Error {
        let what = format!("inode {} of {}", inode.0, self.source.label);
        Error::Stored { what, source }
    }

    fn corrupt(&self, inode: Inode, what: &str) -> Error {
        let what = format!("{what} breaks the format");
        let object = "of its tree".to_owned();
        self.lost(inode, chunk::Error::Corrupt { object, what })
    }
}

/// Takes items: rank, key, value; says whether it wants more.
type Each<'v> = dyn FnMut(u64, &Key<'_>, &[u8]) -> bool + 'v;

impl FileSystem for Stored {
    fn root(&self) -> Inode {
        self.root
    }

    fn lookup(&self, directory: Inode, name: &[u8]) -> Result<Option<Inode>> {
        if item::is_name(name) {
            let (inode, kind, rest) = (directory.0, Kind::Name, name);
            if let Some(item) = self.get(directory, &Key { inode, kind, rest }.encode())? {
                let target = NameTarget::decode(item.value());
                let target = target.ok_or_else(|| self.corrupt(directory, "what a name stands for"))?;
                return Ok(Some(Inode(target.inode)));
            }
        }
        self.of_type(directory, FileType::Directory).map(|_| None)
    }

    /// A cookie is the rank of the entry's item in the whole tree, plus 1.
    fn read_dir(&self, directory: Inode, cookie: u64, visit: &mut dyn FnMut(DirEntry<'_>) -> bool) -> Result<()> {
        self.of_type(directory, FileType::Directory)?;
        let mut broken = None;
        let mut each = |rank: u64, key: &[u8], value: &[u8]| {
            let Some(key) = Key::decode(key) else {
                broken = Some("the key of an item");
                return false;
            };
            if (key.inode, key.kind) != (directory.0, Kind::Name) {
                return false;
            }
            let Some(target) = NameTarget::decode(value) else {
                broken = Some("what a name stands for");
                return false;
            };
            visit(DirEntry {
                name: key.rest,
                inode: Inode(target.inode),
                file_type: FileType::from_mode(u16::from(target.type_code) << 12),
                next: rank.saturating_add(1),
            })
        };
        let scanned = match cookie {
            0 => self.items.scan(&first_key(directory.0, Kind::Name), &mut each),
            rank => self.items.scan_from_rank(rank, &mut each),
        };
        scanned.map_err(|error| self.lost(directory, error))?;
        broken.map_or(Ok(()), |what| Err(self.corrupt(directory, what)))
    }

    fn attr(&self, inode: Inode) -> Result<Attr> {
        let (record, file_type) = self.record(inode)?;
        let time = |time: Time| Timestamp {
            seconds: time.seconds,
            nanos: time.nanos,
        };
        let (major, minor) = record.device;
        Ok(Attr {
            file_type,
            permissions: u16::try_from(record.mode & 0o7777).unwrap_or_default(),
            uid: record.uid,
            gid: record.gid,
            size: record.size,
            blocks: record.blocks,
            links: record.links.max(1),
            device: DeviceNumber { major, minor },
            accessed: time(record.accessed),
            modified: time(record.modified),
            changed: time(record.changed),
            created: record.created.map(time),
        })
    }

    fn read_link(&self, inode: Inode) -> Result<Vec<u8>> {
        self.of_type(inode, FileType::Symlink)?;
        let item = self.get(inode, &first_key(inode.0, Kind::Data))?;
        item.map(|item| item.value().to_vec())
            .filter(|target| item::value_fits(Kind::Data, target) && !target.contains(&0))
            .ok_or_else(|| self.corrupt(inode, "the target of the link"))
    }

    fn xattrs(&self, inode: Inode) -> Result<Vec<Xattr>> {
        let mut xattrs = Vec::new();
        let (mut total, mut too_long) = (0_usize, false);
        self.of_kind(
            inode,
            Kind::Xattr,
            &first_key(inode.0, Kind::Xattr),
            &mut |_, key, value| {
                let bytes = key.rest.len().saturating_add(value.len());
                total = total.saturating_add(bytes).saturating_add(XATTR_OVERHEAD);
                too_long |= !item::value_fits(Kind::Xattr, value);
                let goes_on = total <= MAX_XATTRS_BYTES && !too_long;
                if goes_on {
                    xattrs.push((key.rest.to_vec(), value.to_vec()));
                }
                goes_on
            },
        )?;
        if too_long {
            return Err(self.corrupt(inode, "the length of an extended attribute"));
        }
        if total > MAX_XATTRS_BYTES {
            let feature = format!(
                "more than {} MiB of extended attributes on a file",
                MAX_XATTRS_BYTES >> 20
            );
            return Err(Error::Unsupported { feature });
        }
        if xattrs.is_empty() {
            self.record(inode)?;
        }
        Ok(xattrs)
    }

    fn extents(&self, inode: Inode, range: Range<u64>) -> Result<Vec<Extent>> {
        let record = self.of_type(inode, FileType::File)?;
        self.extents_of(inode, record.size, range)
    }

    fn summary(&self) -> Summary {
        self.summary.clone()
    }

    fn flags(&self, inode: Inode) -> Result<u32> {
        self.record(inode).map(|(record, _)| record.flags)
    }

    fn user_name(&self, uid: u32) -> Result<Option<Vec<u8>>> {
        self.owner(Kind::User, uid)
    }

    fn group_name(&self, gid: u32) -> Result<Option<Vec<u8>>> {
        self.owner(Kind::Group, gid)
    }
}
