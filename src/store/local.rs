//! A store in a local directory: one file an object, written under a temporary name, synced, then named without overwriting.
//!
//! What is assumed of the file system: `fsync` of a file and of a directory are honest, `rename` without replacing (or
//! `link`) is atomic. Temporary names start with `.tmp-`, which no key can, so a crash leaves nothing that could be listed.

mod room;

use super::{Error, Key, Result, Store};
use crate::bytes::to_u64;
use lru::LruCache;
use parking_lot::Mutex;
use rustix::fs::{AtFlags, CWD, RenameFlags};
use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::num::NonZeroUsize;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Objects kept open for reading, so that a read is one `pread`.
const OPEN_FILES: NonZeroUsize = NonZeroUsize::new(128).unwrap();

/// A directory as a store.
#[derive(Debug)]
pub struct LocalStore {
    root: PathBuf,
    open: Mutex<LruCache<Key, Arc<File>>>,
    /// Directories known to exist durably: created or found in this process, their parents synced.
    durable_dirs: Mutex<HashSet<PathBuf>>,
}

impl LocalStore {
    /// Opens an existing directory.
    ///
    /// # Errors
    /// `NoRoot` if there is none.
    pub fn open(root: &Path) -> Result<Self> {
        let no_root = |_| Error::NoRoot {
            path: root.display().to_string(),
        };
        let absolute = root.canonicalize().map_err(no_root)?;
        if !absolute.is_dir() {
            return Err(Error::NoRoot {
                path: root.display().to_string(),
            });
        }
        Ok(Self {
            root: absolute,
            open: Mutex::new(LruCache::new(OPEN_FILES)),
            durable_dirs: Mutex::new(HashSet::new()),
        })
    }

    /// Creates the directory (and its parents) durably if it is not there, then opens it.
    ///
    /// # Errors
    /// `Io` if it cannot be created.
    pub fn create(root: &Path) -> Result<Self> {
        let failed = |source| Error::Io {
            operation: "create",
            key: root.display().to_string(),
            source,
        };
        let absolute = std::path::absolute(root).map_err(failed)?;
        make_dirs(&absolute).map_err(failed)?;
        Self::open(root)
    }

    /// The directory, absolute.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.root.join(key.as_str())
    }

    fn file(&self, key: &Key) -> Result<Arc<File>> {
        if let Some(file) = self.open.lock().get(key) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(File::open(self.path(key)).map_err(|source| self.error("open", key, source))?);
        self.open.lock().put(key.clone(), Arc::clone(&file));
        Ok(file)
    }

    /// Makes sure that `dir` exists durably: every directory from the root down is synced into its parent once.
    fn ensure_dir(&self, dir: &Path) -> io::Result<()> {
        if self.durable_dirs.lock().contains(dir) {
            return Ok(());
        }
        // Never the root: where it is gone, a new one would lie on another file system.
        std::fs::metadata(&self.root)?;
        make_dirs(dir)?;
        for ancestor in dir.ancestors().take_while(|ancestor| *ancestor != self.root) {
            sync_dir(ancestor.parent().unwrap_or(&self.root))?;
        }
        self.durable_dirs.lock().insert(dir.to_owned());
        Ok(())
    }

    /// What an error of the system means for `key`. A name that is free, or a directory's, is no object; but where the root
    /// itself is gone (a disk that was unmounted), nothing can be said about any object.
    fn error(&self, operation: &'static str, key: &Key, source: io::Error) -> Error {
        let absent = matches!(
            source.kind(),
            ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::IsADirectory
        );
        match self.failed(operation, key, source) {
            Error::Io { .. } if absent => Error::NotFound { key: key.to_string() },
            other => other,
        }
    }

    /// The error of an operation that makes no statement about whether there is an object.
    fn failed(&self, operation: &'static str, key: &Key, source: io::Error) -> Error {
        if source.kind() == ErrorKind::NotFound && !self.root.is_dir() {
            return self.no_root();
        }
        Error::Io {
            operation,
            key: key.to_string(),
            source,
        }
    }

    fn no_root(&self) -> Error {
        Error::NoRoot {
            path: self.root.display().to_string(),
        }
    }

    fn walk(&self, dir: &Path, prefix: &str, found: &mut Vec<Key>) -> io::Result<()> {
        let entries = match std::fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(absent) if is_no_directory(&absent) && dir != self.root => return Ok(()),
            Err(other) => return Err(other),
        };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            // Temporary files and foreign names (lost+found is valid, .snapshot is not) are no objects.
            let Some(name) = name.to_str().filter(|name| super::is_component(name)) else {
                continue;
            };
            let key = format!("{prefix}{name}");
            let kind = entry.file_type()?;
            if kind.is_dir() {
                self.walk(&entry.path(), &format!("{key}/"), found)?;
            } else if kind.is_file() {
                found.extend(Key::new(key));
            }
        }
        Ok(())
    }
}

fn is_no_directory(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// Creates a directory and its parents, syncing each new one into its parent.
fn make_dirs(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    if let Some(parent) = dir.parent() {
        make_dirs(parent)?;
        match std::fs::create_dir(dir) {
            Err(exists) if exists.kind() == ErrorKind::AlreadyExists => {}
            other => other?,
        }
        sync_dir(parent)?;
    }
    Ok(())
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Gives `from` the name `to` if that name is free; file systems without `RENAME_NOREPLACE` get `link` and `unlink`.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::NOTSUP) => {
            rustix::fs::linkat(CWD, from, CWD, to, AtFlags::empty())?;
            std::fs::remove_file(from)
        }
        other => Ok(other?),
    }
}

fn write_durably(path: &Path, data: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o444).open(path)?;
    crate::bytes::direct::write_all(&mut file, data)?;
    if file.metadata()?.len() != to_u64(data.len()) {
        return Err(io::Error::new(
            ErrorKind::WriteZero,
            "the file does not have the length that was written",
        ));
    }
    file.sync_all()
}

impl Store for LocalStore {
    fn get(&self, key: &Key, limit: u64) -> Result<Vec<u8>> {
        // Not through the cache of open files: whole objects are read once (manifests) and would push packs out.
        let file = File::open(self.path(key)).map_err(|source| self.error("open", key, source))?;
        let data = file.metadata().map_err(|source| self.error("read", key, source))?;
        let len = data.len();
        if !data.is_file() {
            return Err(Error::NotFound { key: key.to_string() });
        }
        if len > limit {
            return Err(super::too_large(key, limit));
        }
        let mut data = vec![0; crate::bytes::to_usize(len)];
        file.read_exact_at(&mut data, 0)
            .map_err(|source| self.error("read", key, source))?;
        Ok(data)
    }

    fn read_range(&self, key: &Key, offset: u64, buf: &mut [u8]) -> Result<()> {
        match self.file(key)?.read_exact_at(buf, offset) {
            Ok(()) => Ok(()),
            Err(short) if short.kind() == ErrorKind::UnexpectedEof => Err(Error::Short {
                key: key.to_string(),
                end: offset.saturating_add(to_u64(buf.len())),
            }),
            Err(source) => Err(self.error("read", key, source)),
        }
    }

    fn head(&self, key: &Key) -> Result<u64> {
        let data = std::fs::metadata(self.path(key)).map_err(|source| self.error("look up", key, source))?;
        if data.is_file() {
            Ok(data.len())
        } else {
            Err(Error::NotFound { key: key.to_string() })
        }
    }

    fn put_new(&self, key: &Key, data: &[u8]) -> Result<()> {
        let failed = |operation, source| self.failed(operation, key, source);
        let path = self.path(key);
        let dir = path.parent().unwrap_or(&self.root);
        self.ensure_dir(dir)
            .map_err(|source| failed("create the directory of", source))?;
        let temporary = dir.join(format!(
            "{}{}",
            room::TEMPORARY,
            random_name().map_err(|source| failed("name", source))?
        ));
        let named = write_durably(&temporary, data).and_then(|()| rename_new(&temporary, &path));
        if let Err(source) = named {
            // The first error is the one to tell; a temporary file that stays is invisible and swept by prune.
            let _ = std::fs::remove_file(&temporary);
            return Err(match source.kind() {
                ErrorKind::AlreadyExists => Error::AlreadyExists { key: key.to_string() },
                _ => failed("write", source),
            });
        }
        sync_dir(dir).map_err(|source| failed("sync the directory of", source))
    }

    fn list(&self, prefix: &str) -> Result<Vec<Key>> {
        let mut found = Vec::new();
        let (dir, _) = prefix.rsplit_once('/').unwrap_or(("", prefix));
        let base = if dir.is_empty() {
            String::new()
        } else {
            format!("{dir}/")
        };
        let start = if dir.is_empty() {
            self.root.clone()
        } else {
            self.root.join(dir)
        };
        self.walk(&start, &base, &mut found).map_err(|source| Error::Io {
            operation: "list",
            key: start.display().to_string(),
            source,
        })?;
        // An unmounted disk looks like an empty directory: no root is an error, never an empty vault.
        if !self.root.is_dir() {
            return Err(self.no_root());
        }
        found.retain(|key| key.as_str().starts_with(prefix));
        found.sort_unstable();
        Ok(found)
    }

    fn delete(&self, key: &Key) -> Result<()> {
        let path = self.path(key);
        std::fs::remove_file(&path).map_err(|source| self.error("delete", key, source))?;
        self.open.lock().pop(key);
        sync_dir(path.parent().unwrap_or(&self.root)).map_err(|source| self.error("sync", key, source))
    }

    fn remove_litter(&self, age: Duration) -> Result<u64> {
        self.remove_temporary(age)
    }

    fn keep_reserve(&self) -> Result<()> {
        self.make_reserve()
    }

    fn release_reserve(&self) -> Result<bool> {
        self.remove_reserve()
    }

    fn describe(&self) -> String {
        self.root.display().to_string()
    }
}

/// Sixteen random bytes in hexadecimal.
fn random_name() -> io::Result<String> {
    let mut bytes = [0u8; 16];
    crate::bytes::fill_random(&mut bytes)?;
    Ok(crate::bytes::hex(&bytes))
}
