//! The visible hierarchy as inodes: `servers/NAME/POINT/disks/vda.img`, `disks/NAME/POINT/disk.img`, and `latest`.
//!
//! Listing the root or a resource reads names only; a manifest is read when somebody looks into its point. Nothing here
//! knows FUSE.

pub mod attributes;
pub mod changes;
mod files;
mod manifests;
mod names;
pub mod node;
mod table;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

pub use attributes::{Attributes, Owner, Space};
pub use changes::Change;
pub use files::OpenFile;
pub use node::{Form, Ino, Lasting, Node};

use crate::chunk::Reader;
use crate::clock::{Point, Seconds};
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
    WrongForm {
        /// What was named.
        path: String,
        /// What the operation is for.
        wanted: Form,
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

/// One name of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The name; never `.` or `..`.
    pub name: String,
    /// What it stands for.
    pub node: Node,
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
    /// Who owns everything.
    pub owner: Owner,
    /// Extended attributes of the root, not listed, for those who know them.
    pub root_attributes: Vec<(String, Vec<u8>)>,
    /// Time shown for directories while there is no backup.
    pub mounted_at: Seconds,
}

/// A vault's backups as a tree of inodes; every method may be called from any thread.
pub struct Tree {
    content: Content,
    settings: Settings,
    table: table::Table,
    manifests: manifests::Manifests,
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
            catalogue: RwLock::new(Arc::new(catalogue)),
            sizes: Mutex::new(HashMap::new()),
        })
    }

    /// Finds `name` in a directory and counts a reference of the kernel to it.
    ///
    /// # Errors
    /// `WrongForm` if `parent` is no directory, `Stale` if it is not known; as loading a manifest below a point.
    pub fn lookup(&self, parent: Ino, name: &str) -> Result<Found, Error> {
        let parent = self.table.get(parent)?;
        let Some(node) = self.child(&parent, name)? else {
            return Ok(Found::Missing(parent.content_lasts()));
        };
        self.enter(&node).map(Found::Here)
    }

    /// Describes a listed node and counts a reference of the kernel to it; for readdirplus.
    ///
    /// # Errors
    /// As [`lookup`](Self::lookup).
    pub fn look_up_listed(&self, listed: &Listed) -> Result<Entry, Error> {
        self.enter(&listed.node)
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

    /// Names in a directory, sorted, and how long they stay true.
    ///
    /// # Errors
    /// `WrongForm` if it is no directory; as loading a manifest below a point.
    pub fn list(&self, ino: Ino) -> Result<(Vec<Listed>, Lasting), Error> {
        let node = self.table.get(ino)?;
        let listed = self
            .children(&node)?
            .into_iter()
            .map(|(name, node)| Listed { name, node });
        Ok((listed.collect(), node.content_lasts()))
    }

    /// Number of the directory that holds `ino`.
    ///
    /// # Errors
    /// `Stale`.
    pub fn parent(&self, ino: Ino) -> Result<Ino, Error> {
        Ok(self.table.get(ino)?.parent().ino())
    }

    /// Target of a symbolic link: `latest` stands for a point beside it.
    ///
    /// # Errors
    /// `WrongForm` if it is no link; `Stale` if the resource has no backup any more.
    pub fn link_target(&self, ino: Ino) -> Result<String, Error> {
        let node = self.table.get(ino)?;
        match &*node {
            Node::Latest(resource) => self
                .newest(resource)
                .map(|point| point.to_string())
                .ok_or(Error::Stale { ino }),
            other => Err(wrong_form(other, Form::Symlink)),
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

    fn enter(&self, node: &Node) -> Result<Entry, Error> {
        let attributes = self.attributes_of(node)?;
        self.table.remember(node)?;
        Ok(Entry {
            attributes,
            name_lasts: node.name_lasts(),
            content_lasts: node.content_lasts(),
        })
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

fn wrong_form(node: &Node, wanted: Form) -> Error {
    Error::WrongForm {
        path: node.path(),
        wanted,
    }
}

#[cfg(test)]
mod tests;
