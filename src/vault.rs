//! The vault: its format, and the operations on whole objects (create, open, list names, load and commit a manifest).
//!
//! `docs/format.md` is the normative text. Everything read here is hostile until it is checked.

pub mod access;
mod catalogue;
mod census;
pub mod codec;
pub mod config;
pub mod index;
pub mod item;
pub mod kept;
pub mod lifecycle;
pub mod manifest;
pub mod map;
pub mod mark;
pub mod moved;
pub mod name;
pub mod object;
pub mod pack;
pub mod quarantine;
pub mod record;
pub mod tags;
pub mod tree_page;

pub use catalogue::Catalogue;
pub use config::{CHUNK_SIZES, Config, Features};
pub use lifecycle::{Change, LOCKS, Lock, Pin, Protections, Tombstone};
pub use manifest::{Consistency, Content, Disk, Manifest, Problem, Sizes, Statistics, Tree, TreeStatistics};
pub use name::{Address, AddressSpec, ResourceKind, ResourceName, check_name};

use crate::checksum::Digest;
use crate::clock::Clock;
use crate::store::again::{self, Failure};
use crate::store::{self, Exclusion, Key, Store};
use access::Local;
use kept::{Kept, Kind};
use object::{FRAME_LEN, Frame, ObjectId, ObjectType};
use std::fmt;
use std::sync::Arc;

/// Random id of a vault.
pub type VaultId = [u8; 16];
/// Largest chunk in plain bytes.
pub const MAX_CHUNK: u32 = 4 << 20;
/// Most pages of one disk: 4096 lists of 1024 pages.
pub const MAX_DISK_PAGES: u64 = 4096 * 1024;

/// What the keys of manifests start with.
pub(crate) const BACKUPS: &str = "backups/";

/// Identity of a chunk: BLAKE3 of its plain bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkId(pub [u8; 32]);

impl ChunkId {
    /// The id of data with this content.
    #[must_use]
    pub fn of(plain: &[u8]) -> Self {
        Self(Digest::of(plain).0)
    }
}

impl fmt::Display for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Digest(self.0), f)
    }
}

/// Why a vault could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An object is there and is not what it should be.
    #[error("object {object} is corrupt: {what}")]
    Corrupt {
        /// Its key.
        object: String,
        /// What is wrong.
        what: String,
    },
    /// An object was written by a newer version of the format.
    #[error(
        "object {object} has format version {version}, this program knows {}; use a newer vaultfs",
        object::VERSION
    )]
    FromTheFuture {
        /// Its key.
        object: String,
        /// Its version.
        version: u16,
    },
    /// The vault needs a feature this program does not know.
    #[error("the vault uses the feature {feature:?}, which this program does not know; use a newer vaultfs")]
    UnknownFeature {
        /// Name of the flag.
        feature: String,
    },
    /// There is no vault in the store.
    #[error("there is no vault in {path}; make one with: vaultfs init {path}")]
    NoVault {
        /// Where it was looked for.
        path: String,
    },
    /// There is a vault already, or something else is in the way.
    #[error("{path} {what}")]
    InTheWay {
        /// Where the vault should have been made.
        path: String,
        /// What is there.
        what: &'static str,
    },
    /// There is no such backup or resource.
    #[error("there is no backup {address}; vaultfs list shows what there is")]
    NoBackup {
        /// What was asked for.
        address: String,
    },
    /// The backup is deleted and has not been removed yet.
    #[error("backup {address} is deleted; `vaultfs undelete` brings it back, until `vaultfs prune` has removed it")]
    Deleted {
        /// Its address.
        address: String,
    },
    /// What was asked cannot be done to the backup now.
    #[error("backup {address} {why}")]
    Held {
        /// Its address.
        address: String,
        /// What holds it, and the cure.
        why: String,
    },
    /// A thing is larger than the format allows.
    #[error("the {what} is larger than the format allows")]
    TooLarge {
        /// What it is.
        what: &'static str,
    },
    /// The store failed.
    #[error("the vault could not be read or written")]
    Store(#[from] store::Error),
}

/// The result of a vault operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An open vault.
#[derive(Clone)]
pub struct Vault {
    store: Arc<dyn Store>,
    config: Arc<Config>,
    /// What there is of it on this machine, if it is reached over a network.
    local: Option<Arc<Local>>,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vault({})", self.store.describe())
    }
}

impl Vault {
    /// Makes a vault in an empty store.
    ///
    /// # Errors
    /// `InTheWay` if the store holds a vault or anything else, `Store`.
    pub fn create(store: Arc<dyn Store>, mut config: Config) -> Result<Self> {
        let in_the_way = |what| Error::InTheWay {
            path: store.describe(),
            what,
        };
        match store.head(&vault_key()?) {
            Ok(_) => return Err(in_the_way("is a vault already")),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
        if !store.list("")?.is_empty() {
            return Err(in_the_way(if store.is_remote() {
                "is not empty; give an empty bucket or a prefix of its own"
            } else {
                "is not empty; give an empty or new directory"
            }));
        }
        if store.is_remote() && store.probe_exclusion()? == Exclusion::Atomic {
            config.features.compat.push(config::CONDITIONAL_PUT.to_owned());
        }
        store.set_exclusion(config.exclusion());
        match store.put_new(&vault_key()?, &config.encode()?) {
            Err(store::Error::AlreadyExists { .. }) => Err(in_the_way("is a vault already")),
            other => Ok(other?),
        }?;
        Ok(Self {
            store,
            config: Arc::new(config),
            local: None,
        })
    }

    /// Opens the vault in a store.
    ///
    /// # Errors
    /// `NoVault`, and as [`Config::decode`].
    pub fn open(store: Arc<dyn Store>) -> Result<Self> {
        let config = read_checked(&store, &vault_key()?, config::MAX_CONFIG, Config::decode).map_err(|error| {
            let absent = matches!(&error, Error::Store(error) if error.is_not_found());
            if absent {
                Error::NoVault { path: store.describe() }
            } else {
                error
            }
        })?;
        store.set_exclusion(config.exclusion());
        Ok(Self {
            store,
            config: Arc::new(config),
            local: None,
        })
    }

    /// What the vault is.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Where the vault lives.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// What there is of the vault on this machine, if it is reached over a network.
    #[must_use]
    pub fn local(&self) -> Option<&Arc<Local>> {
        self.local.as_ref()
    }

    /// What was read before and is kept on this machine.
    #[must_use]
    pub fn kept(&self) -> Option<&Kept> {
        self.local.as_ref()?.kept.as_ref()
    }

    /// Checks that this program may write to the vault.
    ///
    /// # Errors
    /// `UnknownFeature` for a `ro_compat` flag it does not know.
    pub fn check_writable(&self) -> Result<()> {
        let unknown = |flag: &&String| *flag != config::RECORDS;
        match self.config.features.ro_compat.iter().find(unknown) {
            Some(feature) => Err(Error::UnknownFeature {
                feature: feature.clone(),
            }),
            None => Ok(()),
        }
    }

    /// Reads and checks the manifest of a backup.
    ///
    /// # Errors
    /// `NoBackup`, `Corrupt`, `FromTheFuture`, `Store`.
    pub fn load(&self, address: &Address) -> Result<Manifest> {
        let key = manifest_key(address)?;
        let limit = crate::bytes::to_u64(manifest::MAX_MANIFEST + FRAME_LEN);
        let frame = self.named_frame(ObjectType::Manifest, &key);
        let decode = |object: &[u8]| Manifest::decode(frame.open(object, key.as_str())?, address);
        let name = key.as_str().as_bytes();
        let found = |kept: &Kept| kept.find(Kind::Manifest, name, |object| decode(object).ok());
        if let Some(manifest) = self.kept().and_then(found) {
            return Ok(manifest);
        }
        let decode = |object: &[u8]| {
            let manifest = decode(object)?;
            if let Some(kept) = self.kept() {
                kept.put(Kind::Manifest, name, &[object]);
            }
            Ok(manifest)
        };
        read_checked(&self.store, &key, limit, decode).map_err(|error| match error {
            Error::Store(error) if error.is_not_found() => Error::NoBackup {
                address: address.to_string(),
            },
            other => other,
        })
    }

    /// Commits a backup: its manifest is the last object written, and from then on the backup exists.
    ///
    /// # Errors
    /// `Store` with `AlreadyExists` if there is a backup of that address; any other error says nothing about visibility.
    pub fn commit(&self, manifest: &Manifest) -> Result<()> {
        let address = manifest.address()?;
        manifest.check().map_err(|what| Error::Corrupt {
            object: address.to_string(),
            what,
        })?;
        let key = manifest_key(&address)?;
        let object = self.named_frame(ObjectType::Manifest, &key).seal(&manifest.encode()?);
        Ok(self.store.put_new(&key, &object)?)
    }

    /// The frame of an object whose id is derived from its key.
    fn named_frame(&self, object_type: ObjectType, key: &Key) -> Frame {
        let name = Digest::in_context("vaultfs 2026-11-20 object name v1", key.as_str().as_bytes());
        let object_id = crate::bytes::field(&name.0, 0).unwrap_or_default();
        Frame {
            object_type,
            vault_id: self.config.id,
            object_id,
        }
    }

    /// The frame of a pack or index of this vault.
    #[must_use]
    pub fn frame(&self, object_type: ObjectType, object_id: ObjectId) -> Frame {
        Frame {
            object_type,
            vault_id: self.config.id,
            object_id,
        }
    }
}

/// Reads a whole object and decodes it; what comes damaged over a network is asked for again.
fn read_checked<T>(store: &dyn Store, key: &Key, limit: u64, decode: impl Fn(&[u8]) -> Result<T>) -> Result<T> {
    let unsteady = |error| match error {
        Error::Corrupt { .. } => Error::Store(again::unsteady(key.as_str())),
        other => other,
    };
    again::settle(store, unsteady, || {
        let data = store.get(key, limit).map_err(|error| Failure::Final(error.into()))?;
        decode(&data).map_err(|error| Failure::damaged(error, &data))
    })
}

/// The key of the vault object.
///
/// # Errors
/// None; the key's check is kept.
pub fn vault_key() -> Result<Key> {
    Ok(Key::new("vault")?)
}

/// The key of a backup's manifest.
///
/// # Errors
/// None for any address; the key's check is kept.
pub fn manifest_key(address: &Address) -> Result<Key> {
    Ok(Key::new(format!("{BACKUPS}{address}"))?)
}

/// The key of a pack: `packs/<2 hex>/<id>` or `meta/<2 hex>/<id>`.
///
/// # Errors
/// None for any id; the key's check is kept.
pub fn pack_key(object_type: ObjectType, id: &ObjectId) -> Result<Key> {
    let text = crate::bytes::hex(id);
    let fan = text.get(..2).unwrap_or_default();
    let dir = if object_type == ObjectType::MetaPack {
        "meta"
    } else {
        "packs"
    };
    Ok(Key::new(format!("{dir}/{fan}/{text}"))?)
}

/// The key of an index object.
///
/// # Errors
/// None for any id; the key's check is kept.
pub fn index_key(id: &ObjectId) -> Result<Key> {
    Ok(Key::new(format!("index/{}", crate::bytes::hex(id)))?)
}

/// A random id for a vault, a resource, a pack or an index.
///
/// # Errors
/// `Store` if the kernel gives no random bytes.
pub fn random_id() -> Result<[u8; 16]> {
    let mut id = [0; 16];
    crate::bytes::fill_random(&mut id).map_err(|source| {
        Error::Store(store::Error::Io {
            operation: "get random bytes for",
            key: "an id".to_owned(),
            source,
        })
    })?;
    Ok(id)
}

/// The settings of a new vault with a random id.
///
/// # Errors
/// As [`random_id`].
pub fn new_config(name: &str, chunk_size: u32, clock: &dyn Clock) -> Result<Config> {
    Ok(Config {
        id: random_id()?,
        name: name.to_owned(),
        chunk_size,
        tags: tags::Tags::new(),
        features: Features {
            ro_compat: vec![config::RECORDS.to_owned()],
            ..Features::default()
        },
        created: clock.now(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::MemoryStore;

    pub(super) fn vault() -> Vault {
        let config = new_config("test", 1 << 17, &crate::clock::System).unwrap();
        Vault::create(Arc::new(MemoryStore::new()), config).unwrap()
    }

    #[test]
    fn a_committed_backup_is_listed_and_loads() {
        let vault = vault();
        let manifest = manifest::tests::sample();
        vault.commit(&manifest).unwrap();
        let address = manifest.address().unwrap();
        let catalogue = vault.catalogue().unwrap();
        assert_eq!(catalogue.get(&address.resource), Some(&vec![address.point]));
        assert_eq!(vault.load(&address).unwrap(), manifest);
        let latest = AddressSpec::Latest(address.resource.clone());
        assert_eq!(vault.resolve(&latest).unwrap(), address);
        assert!(matches!(
            vault.commit(&manifest),
            Err(Error::Store(store::Error::AlreadyExists { .. }))
        ));
    }

    #[test]
    fn a_manifest_moved_to_another_name_is_refused() {
        let vault = vault();
        let manifest = manifest::tests::sample();
        vault.commit(&manifest).unwrap();
        let object = vault
            .store()
            .get(&manifest_key(&manifest.address().unwrap()).unwrap(), 1 << 20)
            .unwrap();
        let moved: Address = "servers/web-02/2026-11-20T03-00-00Z".parse().unwrap();
        vault.store().put_new(&manifest_key(&moved).unwrap(), &object).unwrap();
        assert!(matches!(vault.load(&moved), Err(Error::Corrupt { .. })));
    }

    #[test]
    fn a_second_vault_in_the_same_place_is_refused() {
        let vault = vault();
        let config = new_config("other", 1 << 17, &crate::clock::System).unwrap();
        assert!(matches!(
            Vault::create(Arc::clone(vault.store()), config),
            Err(Error::InTheWay { .. })
        ));
        assert_eq!(Vault::open(Arc::clone(vault.store())).unwrap().config(), vault.config());
    }
}
