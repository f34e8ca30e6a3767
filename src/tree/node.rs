//! The places of the tree, their paths, and the inode numbers made from these.

use super::place::Inside;
use crate::checksum::Digest;
use crate::fs::FileType;
use crate::vault::{Address, ResourceKind, ResourceName};

/// An inode number: made from the path, so that it is the same in every mount of a vault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ino(pub u64);

impl Ino {
    /// The root of the mount.
    pub const ROOT: Self = Self(1);
}

/// Kinds of resource that have a directory in the root, in its order; the directories are always there.
pub const SHOWN: [ResourceKind; 3] = [ResourceKind::Disk, ResourceKind::Filesystem, ResourceKind::Server];

/// A place in the tree; it need not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// The mount itself.
    Root,
    /// `servers`, `disks`, `filesystems`.
    Kind(ResourceKind),
    /// `servers/web-01`.
    Resource(ResourceName),
    /// `servers/web-01/latest`.
    Latest(ResourceName),
    /// `servers/web-01/2026-11-20T03-00-00Z`.
    Point(Address),
    /// `backup.json` of a point.
    Json(Address),
    /// The directory `disks` of a server's point.
    Disks(Address),
    /// The image of the disk with this name.
    Image(Address, String),
    /// The directory `volumes` of a point.
    Volumes(Address),
    /// The hidden directory `.vaultfs` of the mount's own affairs.
    House,
    /// `.vaultfs/status`.
    Status,
    /// A file or directory inside an image, or of a file system: `volumes/vda1`, `root` or `tree` and all below it.
    Inside(Inside),
}

/// How long the kernel may keep what it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lasting {
    /// It never changes.
    Forever,
    /// A new or deleted backup changes it.
    Shortly,
}

/// Name of the hidden directory of a mount's own affairs.
pub const HOUSE: &str = ".vaultfs";
/// Name of the file that tells what a mount did.
pub const STATUS: &str = "status";
/// Name of the link to a resource's newest point.
pub const LATEST: &str = "latest";
/// Name of the manifest for people and jq.
pub const JSON: &str = "backup.json";
/// Name of the directory of a point's file systems.
pub const VOLUMES: &str = "volumes";
/// Name of a server's own tree.
pub const ROOT: &str = "root";
/// Name of the directory of a file system's files.
pub const TREE: &str = "tree";
/// Name of the directory of a server's images.
pub const DISKS: &str = "disks";
/// What image names end with.
pub const IMAGE_SUFFIX: &str = ".img";

impl Node {
    /// The path from the root, without a leading slash; empty for the root. Inside an image it is the path of the file system
    /// and the inode's number there.
    #[must_use]
    pub fn path(&self) -> String {
        match self {
            Self::Root => String::new(),
            Self::Kind(kind) => kind.dir().to_owned(),
            Self::House => HOUSE.to_owned(),
            Self::Status => format!("{HOUSE}/{STATUS}"),
            Self::Resource(resource) => resource.to_string(),
            Self::Latest(resource) => format!("{resource}/{LATEST}"),
            Self::Point(address) => address.to_string(),
            Self::Json(address) => format!("{address}/{JSON}"),
            Self::Disks(address) => format!("{address}/{DISKS}"),
            Self::Volumes(address) => format!("{address}/{VOLUMES}"),
            Self::Inside(file) => file.path(),
            Self::Image(address, name) => match address.resource.kind {
                ResourceKind::Disk => format!("{address}/{name}{IMAGE_SUFFIX}"),
                ResourceKind::Server | ResourceKind::Filesystem => format!("{address}/{DISKS}/{name}{IMAGE_SUFFIX}"),
            },
        }
    }

    /// The inode number: 1 for the root, else 64 bits of the path's hash, or made from the inode inside an image.
    #[must_use]
    pub fn ino(&self) -> Ino {
        if *self == Self::Root {
            return Ino::ROOT;
        }
        if let Self::Inside(file) = self {
            return file.ino();
        }
        let digest = Digest::in_context("vaultfs 2026 inode number", self.path().as_bytes());
        let number = crate::bytes::le_u64(&digest.0, 0).unwrap_or_default();
        // 0 means "no entry" to the kernel and 1 is the root.
        Ino(number.max(2))
    }

    /// The directory that holds it; the root holds itself. Files inside an image do not know theirs: they name the point.
    #[must_use]
    pub fn parent(&self) -> Self {
        match self {
            Self::Root | Self::Kind(_) | Self::House => Self::Root,
            Self::Status => Self::House,
            Self::Resource(resource) => Self::Kind(resource.kind),
            Self::Latest(resource) => Self::Resource(resource.clone()),
            Self::Point(address) => Self::Resource(address.resource.clone()),
            Self::Json(address) | Self::Disks(address) | Self::Volumes(address) => Self::Point(address.clone()),
            Self::Inside(file) => Self::Point(file.place.address.clone()),
            Self::Image(address, _) => match address.resource.kind {
                ResourceKind::Disk => Self::Point(address.clone()),
                ResourceKind::Server | ResourceKind::Filesystem => Self::Disks(address.clone()),
            },
        }
    }

    /// Its type of file.
    #[must_use]
    pub fn file_type(&self) -> FileType {
        match self {
            Self::Root
            | Self::Kind(_)
            | Self::Resource(_)
            | Self::Point(_)
            | Self::Disks(_)
            | Self::Volumes(_)
            | Self::House => FileType::Directory,
            Self::Latest(_) => FileType::Symlink,
            Self::Json(_) | Self::Image(..) | Self::Status => FileType::File,
            Self::Inside(file) => file.file_type,
        }
    }

    /// The backup that it belongs to.
    #[must_use]
    pub fn address(&self) -> Option<&Address> {
        match self {
            Self::Point(address)
            | Self::Json(address)
            | Self::Disks(address)
            | Self::Volumes(address)
            | Self::Image(address, _) => Some(address),
            Self::Inside(file) => Some(&file.place.address),
            Self::Root | Self::Kind(_) | Self::Resource(_) | Self::Latest(_) | Self::House | Self::Status => None,
        }
    }

    /// How long its own attributes and, for a directory, its list of names stay true.
    #[must_use]
    pub fn content_lasts(&self) -> Lasting {
        if self.address().is_some() {
            Lasting::Forever
        } else {
            Lasting::Shortly
        }
    }

    /// How long its name stays in its parent: a point can be deleted, what is below it goes with it.
    #[must_use]
    pub fn name_lasts(&self) -> Lasting {
        self.parent().content_lasts()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(kind: ResourceKind) -> Node {
        let resource = ResourceName {
            kind,
            name: "db".into(),
        };
        let point = "2026-11-20T03-00-00Z".parse().unwrap();
        Node::Image(Address { resource, point }, "disk".into())
    }

    #[test]
    fn inode_numbers_never_change() {
        assert_eq!(Node::Root.ino(), Ino(1));
        // Pinned: a change would give every file of every vault a new identity for backup and search tools.
        assert_eq!(Node::Kind(ResourceKind::Server).ino(), Ino(10_633_322_207_274_870_708));
        assert_ne!(image(ResourceKind::Server).ino(), image(ResourceKind::Disk).ino());
    }

    #[test]
    fn paths_follow_parents() {
        for kind in SHOWN {
            let mut node = image(kind);
            while node != Node::Root {
                let parent = node.parent();
                let path = node.path();
                let cut = path.rfind('/').map_or("", |at| &path[..at]);
                assert_eq!(parent.path(), cut);
                node = parent;
            }
        }
        assert_eq!(
            image(ResourceKind::Disk).path(),
            "disks/db/2026-11-20T03-00-00Z/disk.img"
        );
        assert_eq!(
            image(ResourceKind::Server).path(),
            "servers/db/2026-11-20T03-00-00Z/disks/disk.img"
        );
    }

    #[test]
    fn only_what_backups_come_and_go_in_is_short_lived() {
        let image = image(ResourceKind::Server);
        assert_eq!(
            (image.content_lasts(), image.name_lasts()),
            (Lasting::Forever, Lasting::Forever)
        );
        let point = image.parent().parent();
        assert_eq!(
            (point.content_lasts(), point.name_lasts()),
            (Lasting::Forever, Lasting::Shortly)
        );
        assert_eq!(point.parent().content_lasts(), Lasting::Shortly);
    }
}
