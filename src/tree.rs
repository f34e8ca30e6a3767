//! The visible hierarchy as inodes: `servers/NAME/POINT/{disks,volumes,root}`, `disks/NAME/POINT/{disk.img,volumes}`, and `latest`.
//!
//! Listing the root or a resource reads names only; a manifest is read when somebody looks into its point. Nothing here
//! knows FUSE.

mod assemble;
pub mod attributes;
pub mod changes;
pub mod contents;
pub mod directory;
pub mod escape;
#[cfg(test)]
pub(crate) mod fake;
mod files;
pub mod fstab;
pub mod held;
mod inside;
mod manifests;
mod names;
pub mod node;
pub mod place;
pub mod resolve;
mod status;
mod table;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

pub use attributes::{Attributes, Owner, Space};
pub use changes::Change;
pub use contents::Contents;
pub use directory::{Directory, Listed};
pub use files::OpenFile;
pub use node::{Ino, Lasting, Node};

use crate::chunk::Reader;
use crate::clock::{Point, Seconds};
use crate::fs::{self, FileType};
use crate::image;
use crate::image::handle::ReadAhead;
use crate::vault::{self, Address, Catalogue, Manifest, ResourceName};
use manifests::Backup;
use node::SHOWN;

/// Why the tree could not answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The backup was deleted after it had been looked up.
    #[error("backup {address} is not in the vault any more")]
    Gone {
        /// The backup.
        address: Address,
    },
    /// The kernel asks for an inode number that it does not hold.
    #[error("inode {} is not known to this mount", .ino.0)]
    Stale {
        /// The number.
        ino: Ino,
    },
    /// Two paths have the same inode number; the second is refused.
    #[error("{path} cannot be shown: its inode number is that of {other}")]
    Collision {
        /// The path that is refused.
        path: String,
        /// The path that has the number.
        other: String,
    },
    /// The operation is one for another kind of file.
    #[error("{path} is not a {wanted}")]
    WrongType {
        /// What was named.
        path: String,
        /// What the operation is for.
        wanted: FileType,
    },
    /// There is no extended attribute of this name.
    #[error("there is no such attribute")]
    NoAttribute,
    /// The vault did not deliver a catalogue or a manifest.
    #[error("{what} cannot be read from the vault")]
    Vault {
        /// What was asked for.
        what: String,
        /// The vault's own words.
        #[source]
        source: vault::Error,
    },
    /// The bytes of an image could not be read.
    #[error("an image cannot be read")]
    Image(#[from] image::Error),
    /// A file system of a backup could not answer.
    #[error("a file of a backup cannot be read")]
    File(#[from] fs::Error),
}

/// A name that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// What it stands for.
    pub attributes: Attributes,
    /// How long the name stands for it.
    pub name_lasts: Lasting,
    /// How long the attributes stay true.
    pub content_lasts: Lasting,
}

/// The answer to a lookup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// It is there; the kernel holds one more reference now.
    Here(Entry),
    /// It is not there, for this long.
    Missing(Lasting),
}

/// Where a tree's bytes come from.
#[derive(Clone)]
pub struct Content {
    /// Chunks of the vault, and the vault itself.
    pub reader: Arc<Reader>,
    /// Threads that read ahead for all open images.
    pub read_ahead: Arc<ReadAhead>,
}

/// How a tree is shown.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Who owns directories, images and descriptions.
    pub owner: Owner,
    /// Who owns the files inside images.
    pub owners: Owners,
    /// What symbolic links inside images say.
    pub link_targets: LinkTargets,
    /// Extended attributes of the root, not listed, for those who know them.
    pub root_attributes: Vec<(String, Vec<u8>)>,
    /// Time shown for directories while there is no backup.
    pub mounted_at: Seconds,
}

/// Who owns the files inside images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owners {
    /// Whom the file system names: users of the machine that was backed up.
    Image,
    /// This one.
    Fixed(Owner),
}

/// What symbolic links inside images say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkTargets {
    /// The text that is stored.
    AsStored,
    /// Absolute targets lead to the same file of the backup; this is the path of the mount.
    Within(Vec<u8>),
}

/// A vault's backups as a tree of inodes; every method may be called from any thread.
pub struct Tree {
    content: Content,
    settings: Settings,
    table: table::Table,
    manifests: manifests::Manifests,
    open_volumes: contents::OpenVolumes,
    /// The catalogue as of the last refresh; replaced whole, never changed.
    catalogue: RwLock<Arc<Catalogue>>,
    /// Logical size of each resource's newest backup, as far as it was asked for.
    sizes: Mutex<HashMap<ResourceName, (Point, u64)>>,
}

/// Memory for manifests in use, part of the fixed rest beside the chunk cache.
const MANIFESTS_LIMIT_BYTES: u64 = 8 << 20;

impl Tree {
    /// Builds the tree of a vault; reads names only.
    ///
    /// # Errors
    /// `Vault` if the catalogue cannot be listed.
    pub fn open(content: Content, settings: Settings) -> Result<Self, Error> {
        let catalogue = catalogue(&content)?;
        Ok(Self {
            content,
            settings,
            table: table::Table::default(),
            manifests: manifests::Manifests::new(MANIFESTS_LIMIT_BYTES),
            open_volumes: contents::OpenVolumes::default(),
            catalogue: RwLock::new(Arc::new(catalogue)),
            sizes: Mutex::new(HashMap::new()),
        })
    }

    /// Says whether what is shown comes over a network.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        self.content.reader.is_remote()
    }

    /// Finds `name` in a directory and counts a reference of the kernel to it.
    ///
    /// # Errors
    /// `WrongType` if `parent` is no directory, `Stale` if it is not known; as loading a manifest below a point.
    pub fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Found, Error> {
        let parent = self.table.get(parent)?;
        let Some(node) = self.child(&parent, name)? else {
            return Ok(Found::Missing(parent.content_lasts()));
        };
        self.enter(&node).map(Found::Here)
    }

    /// Describes a node and counts a reference of the kernel to it.
    ///
    /// # Errors
    /// As [`lookup`](Self::lookup).
    pub fn enter(&self, node: &Node) -> Result<Entry, Error> {
        let attributes = self.attributes_of(node)?;
        self.table.remember(&typed(node, attributes.file_type))?;
        Ok(Entry {
            attributes,
            name_lasts: node.name_lasts(),
            content_lasts: node.content_lasts(),
        })
    }

    /// Counts a reference of the kernel to a node whose attributes cannot be read: asked for them, it meets the error again.
    ///
    /// # Errors
    /// `Collision`.
    pub fn enter_unread(&self, node: &Node) -> Result<(), Error> {
        self.table.remember(node)
    }

    /// Takes back references of the kernel.
    pub fn forget(&self, ino: Ino, count: u64) {
        self.table.forget(ino, count);
    }

    /// Attributes of an inode that the kernel holds, and how long they stay true.
    ///
    /// # Errors
    /// `Stale` or `Gone`; as loading a manifest below a point.
    pub fn attributes(&self, ino: Ino) -> Result<(Attributes, Lasting), Error> {
        let node = self.table.get(ino)?;
        Ok((self.attributes_of(&node)?, node.content_lasts()))
    }

    /// Target of a symbolic link: `latest` stands for a point beside it.
    ///
    /// # Errors
    /// `WrongType` if it is no link; `Stale` if the resource has no backup any more.
    pub fn link_target(&self, ino: Ino) -> Result<Vec<u8>, Error> {
        let node = self.table.get(ino)?;
        match &node {
            Node::Latest(resource) => self
                .newest(resource)
                .map(|point| point.to_string().into_bytes())
                .ok_or(Error::Stale { ino }),
            Node::Inside(file) => self.link_inside(file),
            other => Err(wrong_type(other, FileType::Symlink)),
        }
    }

    /// The path of an inode, for messages.
    #[must_use]
    pub fn path(&self, ino: Ino) -> String {
        self.table
            .get(ino)
            .map_or_else(|_| format!("inode {}", ino.0), |node| node.path())
    }

    /// Reads the catalogue anew and says what changed.
    ///
    /// The kernel must be told of the changes from a thread that serves no request.
    ///
    /// # Errors
    /// `Vault` if the catalogue cannot be listed; the tree stays as it was.
    pub fn refresh(&self) -> Result<Vec<Change>, Error> {
        let new = Arc::new(catalogue(&self.content)?);
        let old = std::mem::replace(&mut *self.catalogue.write(), Arc::clone(&new));
        let (changes, gone) = changes::between(&old, &new);
        for address in &gone {
            self.manifests.remove(address);
        }
        if !gone.is_empty() {
            self.sizes.lock().retain(|resource, _| new.contains_key(resource));
        }
        Ok(changes)
    }

    fn snapshot(&self) -> Arc<Catalogue> {
        Arc::clone(&self.catalogue.read())
    }

    fn newest(&self, resource: &ResourceName) -> Option<Point> {
        self.catalogue.read().get(resource)?.last().copied()
    }

    fn has(&self, address: &Address) -> bool {
        let catalogue = self.catalogue.read();
        catalogue
            .get(&address.resource)
            .is_some_and(|points| points.binary_search(&address.point).is_ok())
    }

    /// A backup's description, from memory or from the vault.
    fn backup(&self, address: &Address) -> Result<Arc<Backup>, Error> {
        if let Some(kept) = self.manifests.get(address) {
            return Ok(kept);
        }
        let loaded = Arc::new(Backup::new(self.load(address)?));
        self.manifests.put(address, &loaded);
        Ok(loaded)
    }

    fn load(&self, address: &Address) -> Result<Manifest, Error> {
        self.content.reader.vault().load(address).map_err(|error| match error {
            vault::Error::NoBackup { .. } => Error::Gone {
                address: address.clone(),
            },
            source => Error::Vault {
                what: format!("backup {address}"),
                source,
            },
        })
    }
}

/// The names of what is shown.
fn catalogue(content: &Content) -> Result<Catalogue, Error> {
    let listed = content.reader.vault().catalogue().map_err(|source| Error::Vault {
        what: "the list of backups".into(),
        source,
    });
    let mut catalogue = listed?;
    catalogue.retain(|resource, _| SHOWN.contains(&resource.kind));
    Ok(catalogue)
}

/// The node as its attributes say: a directory's word for a file's type is not trusted.
fn typed(node: &Node, file_type: FileType) -> Node {
    match node {
        Node::Inside(file) => Node::Inside(place::Inside {
            file_type,
            ..file.clone()
        }),
        other => other.clone(),
    }
}

fn wrong_type(node: &Node, wanted: FileType) -> Error {
    Error::WrongType {
        path: node.path(),
        wanted,
    }
}

#[cfg(test)]
pub(crate) mod tests;
