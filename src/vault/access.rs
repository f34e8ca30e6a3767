//! How a vault is reached: its store and, where that is over a network, the guard of the way and the cache on this machine.

use super::kept::{Kept, Kind, Scope};
use super::{Config, Result, Vault};
use crate::store::location::Location;
use crate::store::remote::{RemoteStore, Traffic};
use crate::store::s3::Settings;
use crate::store::{self, Key, Store};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Size of the cache directory of a vault when the user says nothing.
pub const DEFAULT_CACHE_DIR: u64 = 1 << 30;
/// The smallest cache directory: less would lose what it has before it is used.
pub const MIN_CACHE_DIR: u64 = 8 << 20;

/// The variable that names the usual directory, or `none`.
const VARIABLE: &str = "VAULTFS_CACHE_DIR";

/// How a user wants a vault to be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// Where what was read is kept.
    pub cache: CacheDirectory,
    /// The most that is kept, in bytes.
    pub cache_bytes: u64,
    /// What is kept.
    pub scope: Scope,
    /// Whether the store is asked at all.
    pub reach: Reach,
    /// The most that is fetched from a store over a network, in bytes.
    pub max_egress: Option<u64>,
}

/// Where what was read from a vault is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheDirectory {
    /// Where `VAULTFS_CACHE_DIR` says, else in the user's own cache directory, if the vault is reached over a network.
    Usual,
    /// In this directory.
    At(PathBuf),
    /// Nowhere.
    Nowhere,
}

/// Whether a store over a network is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// For everything that is not cached.
    Online,
    /// For nothing.
    Offline,
}

impl Reach {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Offline => "offline",
        }
    }
}

impl Default for Access {
    fn default() -> Self {
        Self {
            cache: CacheDirectory::Usual,
            cache_bytes: DEFAULT_CACHE_DIR,
            scope: Scope::Metadata,
            reach: Reach::Online,
            max_egress: None,
        }
    }
}

/// What a vault that is reached over a network has on this machine.
#[derive(Debug)]
pub struct Local {
    /// What was read before; `None` if nothing is kept.
    pub kept: Option<Kept>,
    /// What crossed the way to the store.
    pub traffic: Arc<Traffic>,
    /// Whether the store is asked.
    pub reach: Reach,
}

impl CacheDirectory {
    /// Reads `DIR` or `none`.
    #[must_use]
    pub fn of_word(word: &Path) -> Self {
        if word.as_os_str() == "none" {
            Self::Nowhere
        } else {
            Self::At(word.to_owned())
        }
    }

    /// The directory, as far as `variable` knows the user's.
    fn resolve(&self, user: User, variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
        let absolute = |path: &PathBuf| path.is_absolute();
        match (self, user) {
            (Self::Nowhere, _) => None,
            (Self::At(path), _) => Some(path.clone()),
            (Self::Usual, _) if variable(VARIABLE).is_some_and(|word| !word.as_os_str().is_empty()) => {
                let word = variable(VARIABLE).unwrap_or_default();
                (word.as_os_str() != "none").then_some(word)
            }
            (Self::Usual, User::Root) => Some(PathBuf::from("/var/cache/vaultfs")),
            (Self::Usual, User::Ordinary) => variable("XDG_CACHE_HOME")
                .filter(absolute)
                .or_else(|| Some(variable("HOME").filter(absolute)?.join(".cache")))
                .map(|caches| caches.join("vaultfs")),
        }
    }

    /// Where what is read of the vault at `location` is kept.
    #[must_use]
    pub fn root(&self, location: &Location) -> Option<PathBuf> {
        if *self == Self::Usual && matches!(location, Location::Directory(_)) {
            return None;
        }
        self.of_user()
    }

    /// The directory for this user, wherever the vault is.
    #[must_use]
    pub fn of_user(&self) -> Option<PathBuf> {
        let user = if rustix::process::geteuid().is_root() {
            User::Root
        } else {
            User::Ordinary
        };
        let root = self.resolve(user, |name| std::env::var_os(name).map(PathBuf::from))?;
        // A mount in the background leaves the directory that it was started in.
        Some(std::path::absolute(&root).unwrap_or(root))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum User {
    Root,
    Ordinary,
}

/// Opens the vault at `location`.
///
/// # Errors
/// As [`Vault::open`] and [`Location::open`]; offline, `Refused` if the cache does not know the vault.
pub fn open(location: &Location, access: &Access) -> Result<Vault> {
    let root = access.cache.root(location);
    let over_network = matches!(location, Location::Bucket(_));
    if over_network && access.reach == Reach::Offline {
        return open_offline(location, access, root.as_deref());
    }
    let store = location.open(Settings::from_environment)?;
    if !over_network && root.is_none() {
        return Vault::open(store);
    }
    let vault = open_store(store, access, root.as_deref())?;
    if let Some(root) = root.filter(|_| over_network) {
        let name = name_of(location);
        Kept::of_places(&root).put(Kind::Vault, name.as_bytes(), &[&vault.config().encode()?]);
    }
    Ok(vault)
}

/// Opens the vault in a store, with what `root` keeps of it.
///
/// # Errors
/// As [`Vault::open`].
pub fn open_store(store: Arc<dyn Store>, access: &Access, root: Option<&Path>) -> Result<Vault> {
    let traffic = Arc::new(Traffic::new(access.max_egress));
    let store = if store.is_remote() {
        Arc::new(RemoteStore::new(store, Arc::clone(&traffic)))
    } else {
        store
    };
    let vault = Vault::open(store)?;
    Ok(beside(vault, access, root, traffic))
}

fn open_offline(location: &Location, access: &Access, root: Option<&Path>) -> Result<Vault> {
    let refused = |problem: String| store::Error::Refused {
        store: location.to_string(),
        problem,
    };
    let root = root.ok_or_else(|| refused("cannot be opened offline without a cache directory".to_owned()))?;
    let (places, name) = (Kept::of_places(root), name_of(location));
    let config = places.find(Kind::Vault, name.as_bytes(), |object| Config::decode(object).ok());
    let config = config.ok_or_else(|| {
        let place = root.display();
        refused(format!(
            "is not known to the cache in {place}: open it once without `offline`, with the same cache directory and settings"
        ))
    })?;
    let traffic = Arc::new(Traffic::new(access.max_egress));
    let store = Arc::new(RemoteStore::closed(location.to_string(), Arc::clone(&traffic)));
    let config = Arc::new(config);
    let vault = Vault {
        store,
        config,
        local: None,
    };
    Ok(beside(vault, access, Some(root), traffic))
}

fn beside(mut vault: Vault, access: &Access, root: Option<&Path>, traffic: Arc<Traffic>) -> Vault {
    let id = vault.config.id;
    let kept = root.map(|root| Kept::of_vault(root, &id, access.scope, access.cache_bytes));
    vault.local = Some(Arc::new(Local {
        kept,
        traffic,
        reach: access.reach,
    }));
    vault
}

impl Vault {
    /// The keys below `root` that start with `prefix`, which does so too; offline, those of the last complete listing of `root`.
    pub(super) fn names(&self, root: &str, prefix: &str) -> Result<Vec<Key>> {
        let offline = self.local.as_ref().is_some_and(|local| local.reach == Reach::Offline);
        let known = |kept: &Kept| {
            kept.find(Kind::Names, root.as_bytes(), |text| {
                let lines = std::str::from_utf8(text).ok()?.lines();
                lines.map(|line| Key::new(line).ok()).collect::<Option<Vec<_>>>()
            })
        };
        if offline && let Some(mut keys) = self.kept().and_then(known) {
            keys.retain(|key| key.as_str().starts_with(prefix));
            return Ok(keys);
        }
        let keys = self.store.list(prefix)?;
        if let Some(kept) = self.kept().filter(|_| prefix == root) {
            let before = known(kept);
            if before.as_ref() != Some(&keys) {
                let text = keys.iter().fold(String::new(), |text, key| text + key.as_str() + "\n");
                kept.put(Kind::Names, root.as_bytes(), &[text.as_bytes()]);
            }
            // What is deleted may come again under its name and be another backup.
            for gone in before.iter().flatten().filter(|key| keys.binary_search(key).is_err()) {
                kept.forget(Kind::Manifest, gone.as_str().as_bytes());
            }
        }
        Ok(keys)
    }
}

/// Where a vault is, with the server: two servers may have buckets of one name.
fn name_of(location: &Location) -> String {
    // Who reads from the cache alone needs no credentials.
    let lookup = |name: &str| match name {
        "AWS_SKIP_SIGNATURE" => Some("1".to_owned()),
        other => std::env::var(other).ok(),
    };
    let settings = Settings::from_lookup(lookup).ok();
    let endpoint = settings.as_ref().and_then(Settings::endpoint);
    format!("{location} at {}", endpoint.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_directory_is_the_users_own() {
        let variables = |name: &str| match name {
            "XDG_CACHE_HOME" => Some(PathBuf::from("/x/caches")),
            "HOME" => Some(PathBuf::from("/home/ann")),
            _ => None,
        };
        let home = |name: &str| variables(name).filter(|_| name == "HOME");
        let resolve = |user, variable: &dyn Fn(&str) -> Option<PathBuf>| CacheDirectory::Usual.resolve(user, variable);
        assert_eq!(resolve(User::Root, &variables), Some("/var/cache/vaultfs".into()));
        assert_eq!(resolve(User::Ordinary, &variables), Some("/x/caches/vaultfs".into()));
        assert_eq!(resolve(User::Ordinary, &home), Some("/home/ann/.cache/vaultfs".into()));
        assert_eq!(resolve(User::Ordinary, &|_| None), None);
        let named = |word: &'static str| move |name: &str| (name == VARIABLE).then(|| PathBuf::from(word));
        assert_eq!(resolve(User::Root, &named("/c")), Some("/c".into()));
        assert_eq!(resolve(User::Root, &named("none")), None);
        assert_eq!(resolve(User::Root, &named("")), Some("/var/cache/vaultfs".into()));
    }

    #[test]
    fn a_directory_of_the_users_choice_serves_every_vault_and_none_serves_none() {
        let local = Location::Directory("/srv/vault".into());
        assert_eq!(CacheDirectory::Usual.root(&local), None);
        assert_eq!(CacheDirectory::of_word(Path::new("/c")).root(&local), Some("/c".into()));
        assert_eq!(CacheDirectory::of_word(Path::new("none")).root(&local), None);
    }
}
