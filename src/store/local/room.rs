//! Space in a directory: what writers left that were killed, and a reserve for when the disk is full to the last byte.

use super::LocalStore;
use crate::store::{Error, Result};
use rustix::fs::{FallocateFlags, OFlags, fallocate};
use std::fs::{DirEntry, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Name of the reserve; no key can have it.
const RESERVE: &str = ".reserve";
/// Bytes of a part of the reserve, of which as many are kept as there is space for.
const PART_BYTES: u64 = 1 << 20;
/// Parts of the reserve: room for leases, marks and an index.
const PARTS: u64 = 16;
/// What names of temporary files begin with.
pub(super) const TEMPORARY: &str = ".tmp-";
/// Directories inside directories that are looked into: keys have fewer components.
const MAX_DEPTH: usize = 8;

impl LocalStore {
    fn reserve(&self) -> PathBuf {
        self.root.join(RESERVE)
    }

    fn room_error(&self, operation: &'static str, path: &Path, source: io::Error) -> Error {
        Error::Io {
            operation,
            key: path.display().to_string(),
            source,
        }
    }

    /// Makes the reserve, or completes what there is of one: whoever made it may have been killed. On a disk that is too full for it, as
    /// much of it as there is space for is kept, and that is an error.
    pub(super) fn make_reserve(&self) -> Result<()> {
        let path = self.reserve();
        let failed = |source| self.room_error("make", &path, source);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(&path)
            .map_err(failed)?;
        let there = file.metadata().map_err(failed)?.len();
        let mut failure = None;
        for part in (1..=PARTS).rev() {
            let len = part.saturating_mul(PART_BYTES);
            if len <= there {
                break;
            }
            let filled = fallocate(&file, FallocateFlags::empty(), 0, len).map_err(io::Error::from);
            match filled.and_then(|()| file.sync_all()) {
                Ok(()) => break,
                Err(source) if source.kind() == ErrorKind::StorageFull => drop(failure.get_or_insert(source)),
                // There is none where space cannot be kept.
                Err(source) => {
                    let _ = std::fs::remove_file(&path);
                    let is_unsupported = source.kind() == ErrorKind::Unsupported;
                    return if is_unsupported { Ok(()) } else { Err(failed(source)) };
                }
            }
        }
        match failure {
            None => Ok(()),
            Some(source) => Err(self.room_error("fill", &path, source)),
        }
    }

    /// Removes the reserve; says whether there was one.
    pub(super) fn remove_reserve(&self) -> Result<bool> {
        let path = self.reserve();
        match std::fs::remove_file(&path) {
            Err(absent) if absent.kind() == ErrorKind::NotFound => Ok(false),
            Err(source) => Err(self.room_error("remove", &path, source)),
            // Some file systems give space back only when the removal is durable.
            Ok(()) => match File::open(&self.root).and_then(|root| root.sync_all()) {
                Ok(()) => Ok(true),
                Err(source) => Err(self.room_error("sync", &self.root, source)),
            },
        }
    }

    /// Removes temporary files that are older than `age`. A writer that is that slow fails, and stores nothing.
    pub(super) fn remove_temporary(&self, age: Duration) -> Result<u64> {
        let failed = |source| self.room_error("look for temporary files in", &self.root, source);
        let now = SystemTime::now();
        let mut waiting = vec![(self.root.clone(), 0usize)];
        let mut removed = 0u64;
        while let Some((dir, depth)) = waiting.pop() {
            let entries = match std::fs::read_dir(&dir) {
                Err(gone) if gone.kind() == ErrorKind::NotFound && depth > 0 => continue,
                other => other.map_err(failed)?,
            };
            for entry in entries {
                let entry = entry.map_err(failed)?;
                let kind = entry.file_type().map_err(failed)?;
                if kind.is_dir() && depth < MAX_DEPTH {
                    waiting.push((entry.path(), depth.saturating_add(1)));
                } else if kind.is_file() && is_abandoned(&entry, now, age) && std::fs::remove_file(entry.path()).is_ok()
                {
                    removed = removed.saturating_add(1);
                }
            }
        }
        Ok(removed)
    }
}

fn is_abandoned(entry: &DirEntry, now: SystemTime, age: Duration) -> bool {
    let name = entry.file_name();
    let is_temporary = name
        .to_str()
        .and_then(|name| name.strip_prefix(TEMPORARY))
        .is_some_and(|name| name.len() == 32);
    let modified = || entry.metadata().and_then(|data| data.modified()).ok();
    is_temporary
        && modified()
            .and_then(|time| now.duration_since(time).ok())
            .is_some_and(|old| old > age)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Key, Store};

    const RESERVE_BYTES: u64 = PARTS * PART_BYTES;

    fn store() -> (tempfile::TempDir, LocalStore) {
        let dir = tempfile::TempDir::new().unwrap();
        let store = LocalStore::open(dir.path()).unwrap();
        (dir, store)
    }

    #[test]
    fn the_reserve_takes_its_space_and_is_no_object() {
        let (dir, store) = store();
        for _ in 0..2 {
            store.keep_reserve().unwrap();
            let data = std::fs::metadata(dir.path().join(RESERVE)).unwrap();
            assert_eq!(data.len(), RESERVE_BYTES);
            assert!(store.list("").unwrap().is_empty());
        }
        assert!(store.release_reserve().unwrap());
        assert!(!store.release_reserve().unwrap());
        // What somebody else has put in its place is not written to.
        let other = dir.path().join("other");
        std::fs::write(&other, b"mine").unwrap();
        std::os::unix::fs::symlink(&other, dir.path().join(RESERVE)).unwrap();
        store.keep_reserve().unwrap_err();
        assert_eq!(std::fs::read(other).unwrap(), b"mine");
    }

    #[test]
    fn a_reserve_that_was_only_begun_is_filled() {
        let (dir, store) = store();
        for len in [0, 4096] {
            let path = dir.path().join(RESERVE);
            File::create(&path).unwrap().set_len(len).unwrap();
            store.keep_reserve().unwrap();
            assert_eq!(path.metadata().unwrap().len(), RESERVE_BYTES);
        }
    }

    #[test]
    fn only_old_temporary_files_are_removed() {
        let (dir, store) = store();
        let packs = dir.path().join("packs/0a");
        std::fs::create_dir_all(&packs).unwrap();
        let old = SystemTime::now() - Duration::from_secs(7200);
        let make = |name: String, age: Option<SystemTime>| {
            let path = packs.join(name);
            let file = File::create(&path).unwrap();
            age.into_iter().for_each(|time| file.set_modified(time).unwrap());
            path
        };
        let hex = "0123456789abcdef0123456789abcdef";
        let young = make(format!(".tmp-{hex}"), None);
        let foreign = make(".tmp-mine".to_owned(), Some(old));
        let object = make(hex.to_owned(), Some(old));
        let future = make(
            format!(".tmp-{}", hex.replace('0', "f")),
            Some(SystemTime::now() + Duration::from_secs(7200)),
        );
        let left = make(format!(".tmp-{}", hex.replace('0', "1")), Some(old));
        assert_eq!(store.remove_litter(Duration::from_secs(3600)).unwrap(), 1);
        assert!(!left.exists());
        assert!([young, foreign, object, future].iter().all(|path| path.exists()));
        assert_eq!(store.list("").unwrap(), [Key::new(format!("packs/0a/{hex}")).unwrap()]);
    }
}
