//! What was read from a vault over a network, kept in a local directory for the next time: by this process, by others at the same
//! moment, and after a restart.
//!
//! Only what has been checked is put here, and it is checked again when it is taken out: whoever takes an entry holds it to the same
//! rules as bytes from the store. So nothing here needs to be trusted. An entry is one file with a checksum, written under a temporary name
//! and renamed; one that is damaged, or of another vault, is as good as none. Nothing here ever fails a read.

use super::VaultId;
use crate::bytes::{fill_random, hex, size_text, to_u64};
use crate::checksum::Digest;
use parking_lot::Mutex;
use rustix::fs::{Mode, OFlags};
use std::fs::{DirBuilder, File};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// First bytes of every entry.
const MAGIC: &[u8] = b"vaultfs kept 1\n";
/// Largest entry: a manifest and what goes with it.
const MAX_ENTRY: u64 = 17 << 20;
/// A temporary file of this age was left by a process that was killed.
const ABANDONED: Duration = Duration::from_secs(3600);
/// An entry that is used gets a new time when its own is older than this: often enough to tell what is used from what is not.
const TOUCH: Duration = Duration::from_secs(600);
/// The directory is looked through when so much was written since the last time: this part of its limit.
const SWEEP_PART: u64 = 16;

/// What an entry holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The vault object, by where the vault is.
    Vault,
    /// The names of the backups, by where the vault is.
    Names,
    /// The object of a manifest, by its key.
    Manifest,
    /// The footer of a pack, by the pack's key.
    Footer,
    /// The stored bytes of a page of a map or a tree, by its id.
    Page,
    /// The stored bytes of a chunk of data, by its id.
    Chunk,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Vault => "vault",
            Self::Names => "names",
            Self::Manifest => "manifest",
            Self::Footer => "footer",
            Self::Page => "page",
            Self::Chunk => "chunk",
        }
    }
}

/// Whether chunks of data are kept too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Only what leads to them.
    Metadata,
    /// Everything that is read.
    Data,
}

/// A directory of entries of one vault.
#[derive(Debug)]
pub struct Kept {
    directory: PathBuf,
    /// Whose entries these are: goes into their checksums.
    owner: Vec<u8>,
    scope: Scope,
    limit: u64,
    hits: AtomicU64,
    misses: AtomicU64,
    /// Bytes written since the directory was last looked through; at the limit before the first time.
    written: AtomicU64,
    /// Held while the directory is looked through, by one thread.
    sweeping: Mutex<()>,
    complained: AtomicBool,
}

impl Kept {
    /// The entries of a vault below `root`, at most `limit` bytes of them; touches nothing yet.
    #[must_use]
    pub fn of_vault(root: &Path, vault: &VaultId, scope: Scope, limit: u64) -> Self {
        Self::new(root.join(hex(vault)), vault.to_vec(), scope, limit)
    }

    /// The entries that tell which vault is at a place.
    #[must_use]
    pub fn of_places(root: &Path) -> Self {
        Self::new(root.join("places"), b"places".to_vec(), Scope::Metadata, MAX_ENTRY)
    }

    fn new(directory: PathBuf, owner: Vec<u8>, scope: Scope, limit: u64) -> Self {
        Self {
            directory,
            owner,
            scope,
            limit,
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            written: AtomicU64::new(limit),
            sweeping: Mutex::new(()),
            complained: AtomicBool::new(false),
        }
    }

    /// Where the entries are.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether chunks of data are kept.
    #[must_use]
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// Entries found, and entries looked for in vain.
    #[must_use]
    pub fn counters(&self) -> (u64, u64) {
        (self.hits.load(Ordering::Relaxed), self.misses.load(Ordering::Relaxed))
    }

    /// Takes out an entry that `check` makes something of. What it refuses is removed, as if it had never been there.
    pub fn find<T>(&self, kind: Kind, name: &[u8], check: impl FnOnce(&[u8]) -> Option<T>) -> Option<T> {
        let path = self.path(kind, name);
        let found = read(&path).map(|entry| self.open(kind, name, &entry).and_then(check));
        match found {
            Some(Some(value)) => {
                self.hits.fetch_add(1, Ordering::Relaxed);
                return Some(value);
            }
            Some(None) => {
                log::debug!("{}: a damaged or foreign cache entry is removed", path.display());
                self.remove(&path);
            }
            None => {}
        }
        self.misses.fetch_add(1, Ordering::Relaxed);
        None
    }

    /// Puts an entry made of several pieces in place of any other of its name. Whether that works is of no matter to a reader.
    pub fn put(&self, kind: Kind, name: &[u8], pieces: &[&[u8]]) {
        let len = pieces.iter().map(|piece| to_u64(piece.len())).sum::<u64>();
        if len > MAX_ENTRY.min(self.limit) {
            return;
        }
        match self.write(kind, name, pieces) {
            Ok(()) => {
                let written = self.written.fetch_add(len, Ordering::Relaxed).saturating_add(len);
                if written > self.limit / SWEEP_PART {
                    self.sweep();
                }
            }
            Err(error) if !self.complained.swap(true, Ordering::Relaxed) => {
                log::warn!(
                    "the cache in {} cannot be written: {error}; reading goes on without, more slowly",
                    self.directory.display()
                );
            }
            Err(_) => {}
        }
    }

    /// Removes an entry, if there is one.
    pub fn forget(&self, kind: Kind, name: &[u8]) {
        self.remove(&self.path(kind, name));
    }

    fn path(&self, kind: Kind, name: &[u8]) -> PathBuf {
        let digest = hex(&Digest::of_pieces(&[kind.word().as_bytes(), b"/", name]).0);
        let (fan, rest) = digest.split_at_checked(2).unwrap_or_default();
        self.directory.join(fan).join(rest)
    }

    /// The checksum of an entry; binds its bytes to vault, kind and name.
    fn sum(&self, kind: Kind, name: &[u8], payload: Digest) -> Digest {
        let lens = [to_u64(self.owner.len()), to_u64(name.len())].map(u64::to_le_bytes);
        let [owner_len, name_len] = &lens;
        Digest::of_pieces(&[
            MAGIC,
            owner_len,
            &self.owner,
            kind.word().as_bytes(),
            name_len,
            name,
            &payload.0,
        ])
    }

    /// The payload of an entry, if all of it is as it was written.
    fn open<'a>(&self, kind: Kind, name: &[u8], entry: &'a [u8]) -> Option<&'a [u8]> {
        let (sum, payload) = entry.strip_prefix(MAGIC)?.split_at_checked(Digest::LEN)?;
        (sum == self.sum(kind, name, Digest::of(payload)).0).then_some(payload)
    }

    fn write(&self, kind: Kind, name: &[u8], pieces: &[&[u8]]) -> std::io::Result<()> {
        let path = self.path(kind, name);
        let fan = path.parent().unwrap_or(&self.directory);
        let sum = self.sum(kind, name, Digest::of_pieces(pieces));
        let mut random = [0; 8];
        fill_random(&mut random)?;
        let temporary = fan.join(format!(".tmp-{}", hex(&random)));
        let mut file = match create(&temporary) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                // What is in backups is for those alone who may read them.
                DirBuilder::new().recursive(true).mode(0o700).create(fan)?;
                create(&temporary)
            }
            other => other,
        }?;
        let mut all = [MAGIC, &sum.0].into_iter().chain(pieces.iter().copied());
        // Not synced: an entry that a power cut leaves half written fails its checksum.
        let written = all.try_for_each(|piece| file.write_all(piece));
        let placed = written.and_then(|()| std::fs::rename(&temporary, &path));
        if placed.is_err() {
            self.remove(&temporary);
        }
        placed
    }

    fn remove(&self, path: &Path) {
        // Somebody else may have been faster, or it may not be allowed: then it is found damaged again.
        if let Err(error) = std::fs::remove_file(path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            log::debug!("{}: {error}", path.display());
        }
    }

    /// Looks through the directory and removes the entries that were not used for longest, until the rest is well below the limit.
    fn sweep(&self) {
        let Some(_alone) = self.sweeping.try_lock() else { return };
        self.written.store(0, Ordering::Relaxed);
        let mut files = self.files();
        files.sort_unstable_by_key(|file| file.used);
        let mut total = files.iter().map(|file| file.len).sum::<u64>();
        let target = self.limit.saturating_sub(self.limit / SWEEP_PART).saturating_sub(1);
        let before = total;
        for file in files {
            if total <= target {
                break;
            }
            self.remove(&file.path);
            total = total.saturating_sub(file.len);
        }
        if total < before {
            let (removed, place) = (size_text(before.saturating_sub(total)), self.directory.display());
            log::debug!("{place}: {removed} of unused cache entries were removed");
        }
    }

    /// All entries; temporary files that somebody left behind are removed.
    fn files(&self) -> Vec<Found> {
        let now = SystemTime::now();
        let mut found = Vec::new();
        let list = |dir: &Path| std::fs::read_dir(dir).into_iter().flatten().flatten();
        for entry in list(&self.directory).flat_map(|fan| list(&fan.path())) {
            let Ok(metadata) = entry.metadata() else { continue };
            let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            let path = entry.path();
            if entry.file_name().as_encoded_bytes().starts_with(b".tmp-") {
                if now.duration_since(used).is_ok_and(|age| age > ABANDONED) {
                    self.remove(&path);
                }
                continue;
            }
            let len = metadata.len();
            found.push(Found { path, used, len });
        }
        found
    }
}

/// An entry in the directory.
struct Found {
    path: PathBuf,
    used: SystemTime,
    len: u64,
}

fn create(path: &Path) -> std::io::Result<File> {
    File::options().write(true).create_new(true).mode(0o600).open(path)
}

/// The bytes of a regular file of reasonable size, whose time of use is brought up to date.
fn read(path: &Path) -> Option<Vec<u8>> {
    // Whatever lies there: it is not followed and not waited for.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty()).ok()?);
    let metadata = file.metadata().ok()?;
    if !metadata.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    (&file).take(MAX_ENTRY.saturating_add(1)).read_to_end(&mut bytes).ok()?;
    let now = SystemTime::now();
    let age = metadata.modified().ok().and_then(|used| now.duration_since(used).ok());
    if age.is_none_or(|age| age > TOUCH) {
        // In a cache that may only be read, age is that of the writing.
        let _ = file.set_modified(now);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests;
