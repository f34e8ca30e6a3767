//! What a node looks like: its attributes, its extended attributes, and the space of the whole.

use super::manifests::Backup;
use super::node::{Ino, Node, SHOWN};
use super::status::STATUS_BYTES;
use super::{Error, Tree, files};
use crate::bytes::to_u64;
use crate::clock::{Point, Seconds};
use crate::fs::{DeviceNumber, FileType, Timestamp};
use crate::vault::{Address, Disk};

/// Attributes of a file, in the terms of stat(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// Inode number.
    pub ino: Ino,
    /// Type of file.
    pub file_type: FileType,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Blocks of 512 bytes that hold data.
    pub blocks: u64,
    /// Last access. What is not inside an image has one time: that of its backup, or of the newest backup below it.
    pub accessed: Timestamp,
    /// Last change of the content.
    pub modified: Timestamp,
    /// Last change of the attributes.
    pub changed: Timestamp,
    /// Creation; 1970 where the file system does not keep it.
    pub created: Timestamp,
    /// Permission bits.
    pub mode: u16,
    /// Number of links, at least 1.
    pub links: u32,
    /// Whose it is.
    pub owner: Owner,
    /// Which device a device file stands for.
    pub device: DeviceNumber,
    /// What programs should read at once, in bytes.
    pub block_bytes: u32,
}

/// Owner and group shown for every file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// What statfs tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Logical size of the newest backup of each resource, in bytes.
    pub logical_bytes: u64,
    /// Number of backups.
    pub backups: u64,
}

/// What a disk's attributes need.
struct Sizes {
    size_bytes: u64,
    data_bytes: u64,
    chunk_size_bytes: u32,
}

/// A disk image holds everybody's secrets: its owner and group may read it, others not, even with `allow_other`.
const IMAGE_MODE: u16 = 0o440;
const FILE_MODE: u16 = 0o444;
const DIRECTORY_MODE: u16 = 0o555;
const LINK_MODE: u16 = 0o777;
const BLOCK_BYTES: u64 = 512;
/// Images are read from end to end.
const IMAGE_BLOCK_BYTES: u32 = 1 << 20;

const ADDRESS: &str = "user.vaultfs.address";
const CONSISTENCY: &str = "user.vaultfs.consistency";
const CHUNK_SIZE: &str = "user.vaultfs.chunk_size";
const DATA_BYTES: &str = "user.vaultfs.data_bytes";
const LOGICAL_BYTES: &str = "user.vaultfs.logical_bytes";

impl Tree {
    /// Names of an inode's extended attributes.
    ///
    /// # Errors
    /// `Stale`; `File` inside an image.
    pub fn xattr_names(&self, ino: Ino) -> Result<Vec<Vec<u8>>, Error> {
        let names: &[&str] = match &self.table.get(ino)? {
            Node::Image(..) => &[ADDRESS, CHUNK_SIZE, CONSISTENCY, DATA_BYTES, LOGICAL_BYTES],
            Node::Point(_) => &[ADDRESS],
            Node::Inside(file) => {
                let xattrs = self.xattrs_inside(file)?;
                return Ok(xattrs.iter().map(|(name, _)| name.clone()).collect());
            }
            _ => &[],
        };
        Ok(names.iter().map(|name| name.as_bytes().to_vec()).collect())
    }

    /// Value of one extended attribute.
    ///
    /// # Errors
    /// `NoAttribute`; as loading a manifest below a point.
    pub fn xattr(&self, ino: Ino, name: &[u8]) -> Result<Vec<u8>, Error> {
        let node = self.table.get(ino)?;
        if let Node::Inside(file) = &node {
            let xattrs = self.xattrs_inside(file)?;
            let found = xattrs.iter().find(|(known, _)| known == name);
            return found.map(|(_, value)| value.clone()).ok_or(Error::NoAttribute);
        }
        let name = std::str::from_utf8(name).map_err(|_| Error::NoAttribute)?;
        if !name.starts_with("user.vaultfs.") {
            return Err(Error::NoAttribute);
        }
        let text = match (&node, name) {
            (Node::Root, _) => {
                let mut known = self.settings.root_attributes.iter();
                return known
                    .find(|(known, _)| known == name)
                    .map(|(_, value)| value.clone())
                    .ok_or(Error::NoAttribute);
            }
            (Node::Image(address, _) | Node::Point(address), ADDRESS) => address.to_string(),
            (Node::Image(address, _), CONSISTENCY) => self.backup(address)?.manifest.consistency.word().to_owned(),
            (Node::Image(address, image), CHUNK_SIZE) => self.disk(address, image)?.chunk_size_bytes.to_string(),
            (Node::Image(address, image), DATA_BYTES) => self.disk(address, image)?.data_bytes.to_string(),
            (Node::Image(address, image), LOGICAL_BYTES) => self.disk(address, image)?.size_bytes.to_string(),
            _ => return Err(Error::NoAttribute),
        };
        Ok(text.into_bytes())
    }

    /// Size and number of everything shown; loads the newest manifest of each resource that it has not seen.
    ///
    /// A manifest that cannot be read counts nothing: `df` must not fail for one bad backup.
    #[must_use]
    pub fn space(&self) -> Space {
        let snapshot = self.snapshot();
        let mut space = Space {
            logical_bytes: 0,
            backups: 0,
        };
        for (resource, points) in &*snapshot {
            space.backups = space.backups.saturating_add(to_u64(points.len()));
            let Some(point) = points.last() else { continue };
            let address = Address {
                resource: resource.clone(),
                point: *point,
            };
            match self.size_of(&address) {
                Ok(bytes) => space.logical_bytes = space.logical_bytes.saturating_add(bytes),
                Err(error) => log::debug!("{address} is not counted: {error}"),
            }
        }
        space
    }

    fn size_of(&self, address: &Address) -> Result<u64, Error> {
        let known = self.sizes.lock().get(&address.resource).copied();
        if let Some((point, bytes)) = known
            && point == address.point
        {
            return Ok(bytes);
        }
        // Not through the kept manifests: one `df` over many resources would push out those in use.
        let manifest = self.load(address)?;
        let bytes = manifest.sizes().logical;
        self.sizes
            .lock()
            .insert(address.resource.clone(), (address.point, bytes));
        Ok(bytes)
    }

    pub(super) fn attributes_of(&self, node: &Node) -> Result<Attributes, Error> {
        let plain = |mode, size_bytes| {
            let time = Timestamp {
                seconds: self.time_of(node),
                nanos: 0,
            };
            Attributes {
                ino: node.ino(),
                file_type: node.file_type(),
                size_bytes,
                blocks: 0,
                accessed: time,
                modified: time,
                changed: time,
                created: time,
                mode,
                links: 1,
                owner: self.settings.owner,
                device: DeviceNumber::default(),
                block_bytes: IMAGE_BLOCK_BYTES,
            }
        };
        Ok(match node {
            Node::Inside(file) => self.attributes_inside(file)?,
            Node::Latest(resource) => {
                let len = self.newest(resource).map_or(0, |point| to_u64(point.to_string().len()));
                plain(LINK_MODE, len)
            }
            Node::Json(address) => {
                let len = to_u64(self.contents(address)?.json.len());
                Attributes {
                    blocks: len.div_ceil(BLOCK_BYTES),
                    ..plain(FILE_MODE, len)
                }
            }
            Node::Status => {
                // A time that moves on makes the kernel forget what it has read of the file.
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                let now = now.unwrap_or_default();
                Attributes {
                    modified: Timestamp {
                        seconds: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
                        nanos: now.subsec_nanos(),
                    },
                    ..plain(FILE_MODE, STATUS_BYTES)
                }
            }
            Node::Image(address, name) => {
                let disk = self.disk(address, name)?;
                Attributes {
                    blocks: disk.data_bytes.div_ceil(BLOCK_BYTES),
                    ..plain(IMAGE_MODE, disk.size_bytes)
                }
            }
            directory => Attributes {
                links: self.links_of(directory),
                ..plain(DIRECTORY_MODE, 0)
            },
        })
    }

    /// A disk of a backup by the name of its image.
    fn disk(&self, address: &Address, image: &str) -> Result<Sizes, Error> {
        let backup = self.backup(address)?;
        let disk = find_disk(&backup, address, image)?;
        Ok(Sizes {
            size_bytes: disk.size,
            data_bytes: disk.statistics.data,
            chunk_size_bytes: disk.chunk_size,
        })
    }

    fn time_of(&self, node: &Node) -> Seconds {
        let snapshot = self.snapshot();
        let newest = |points: &Vec<Point>| points.last().copied();
        let point = match node {
            Node::Root => snapshot.values().filter_map(newest).max(),
            Node::Kind(kind) => {
                let of_kind = snapshot.iter().filter(|(resource, _)| resource.kind == *kind);
                of_kind.filter_map(|(_, points)| newest(points)).max()
            }
            Node::Resource(resource) | Node::Latest(resource) => snapshot.get(resource).and_then(newest),
            other => other.address().map(|address| address.point),
        };
        point.map_or(self.settings.mounted_at, Point::seconds)
    }

    /// Two and one for each directory inside, as on other file systems: find(1) counts on it.
    fn links_of(&self, directory: &Node) -> u32 {
        let inside = match directory {
            Node::Root => SHOWN.len(),
            Node::Kind(kind) => self.snapshot().keys().filter(|resource| resource.kind == *kind).count(),
            Node::Resource(resource) => self.snapshot().get(resource).map_or(0, Vec::len),
            // Whether there is a `root` is not known without reading disks; 1 says that nobody has counted.
            Node::Point(_) => return 1,
            Node::Volumes(address) => self.contents(address).map_or(0, |contents| contents.volumes.len()),
            _ => 0,
        };
        u32::try_from(inside).unwrap_or(u32::MAX).saturating_add(2)
    }
}

/// Finds a disk by the name of its image.
pub(super) fn find_disk<'a>(backup: &'a Backup, address: &Address, image: &str) -> Result<&'a Disk, Error> {
    let mut disks = backup.manifest.disks().iter();
    let kind = address.resource.kind;
    let found = disks.find(|disk| files::image_name(kind, &disk.name) == image);
    let ino = || Node::Image(address.clone(), image.to_owned()).ino();
    found.ok_or_else(|| Error::Stale { ino: ino() })
}
