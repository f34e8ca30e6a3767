//! Where objects live: the trait [`Store`], its keys and its errors.
//!
//! A store maps keys to immutable byte strings. An object is written once and never changed; the only thing that changes is
//! the set of keys. Wrappers that inject faults or record calls are stores too, and every store passes the one conformance
//! suite in `tests/store.rs`.

pub mod again;
pub mod fault;
pub mod local;
pub mod location;
pub mod memory;
pub mod record;
pub mod remote;
pub mod s3;
pub mod wait;

use crate::bytes;
use crate::clock::Seconds;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The name of an object: components of `A-Z a-z 0-9 . _ -` joined by `/`, none empty, none starting with a dot.
///
/// Such a key is a valid relative path and a valid S3 key as it is, and can name nothing outside the store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

impl Key {
    /// Longest key in bytes.
    pub const MAX_LEN: usize = 512;

    /// Checks `text` and makes it a key.
    ///
    /// # Errors
    /// `InvalidKey` if a rule above is broken.
    pub fn new(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        if text.len() <= Self::MAX_LEN && text.split('/').all(is_component) {
            Ok(Self(text))
        } else {
            Err(Error::InvalidKey { key: text })
        }
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Says whether `text` can be one component of a key.
#[must_use]
pub fn is_component(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('.')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

/// Why the store did not do what was asked. Absent, present and passing faults are different on purpose:
/// only `NotFound` says that an object is not there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store confirmed that there is no such object.
    #[error("there is no object {key}")]
    NotFound {
        /// The object.
        key: String,
    },
    /// `put_new` found an object of that name; nothing was changed.
    #[error("object {key} exists already")]
    AlreadyExists {
        /// The object.
        key: String,
    },
    /// The object is shorter than the range asked for.
    #[error("object {key} ends before byte {end}")]
    Short {
        /// The object.
        key: String,
        /// One past the last byte asked for.
        end: u64,
    },
    /// A text that is no key.
    #[error("{key:?} is not a valid object name")]
    InvalidKey {
        /// The text.
        key: String,
    },
    /// The vault's root is not there or is no directory.
    #[error("{path} is not there or is not a directory; check the path, or that its file system is mounted")]
    NoRoot {
        /// The root, as the user wrote it.
        path: String,
    },
    /// A text that names no place of a store.
    #[error("{text}: {problem}")]
    InvalidLocation {
        /// The text.
        text: String,
        /// What is wrong, and the cure.
        problem: String,
    },
    /// The store answered, and goes on refusing until somebody changes something: credentials, a right, a region, a clock.
    #[error("{store} {problem}")]
    Refused {
        /// The store.
        store: String,
        /// What it refuses, and the cure.
        problem: String,
    },
    /// There is no such bucket, or no server that can be trusted to be the one: nothing can be said about any object.
    #[error("{store}: {problem}")]
    NoStore {
        /// The store.
        store: String,
        /// What is wrong, and the cure.
        problem: String,
    },
    /// The system or the network failed; a later try may succeed.
    #[error("could not {operation} {key}")]
    Io {
        /// A verb: `read`, `write`, `sync`, `list`, `delete`.
        operation: &'static str,
        /// Object or path.
        key: String,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    /// Says whether the store confirmed that the object is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}

/// The result of a store operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The error for an object that is larger than its kind may be: hostile or foreign, and never read.
fn too_large(key: &Key, limit: u64) -> Error {
    let text = format!("it is larger than the {limit} bytes its kind may have");
    Error::Io {
        operation: "read",
        key: key.to_string(),
        source: std::io::Error::new(std::io::ErrorKind::InvalidData, text),
    }
}

/// How a store keeps two writers of one name apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exclusion {
    /// The store itself decides, atomically.
    Atomic,
    /// Names are looked up before and compared after: only who writes the same name in the same moment is not found.
    Checked,
}

/// A flat set of named, immutable byte strings.
pub trait Store: Send + Sync {
    /// Reads a whole object of at most `limit` bytes.
    ///
    /// # Errors
    /// `NotFound`; `Io` if it is larger than `limit` (kind `InvalidData`) or as the system reports.
    fn get(&self, key: &Key, limit: u64) -> Result<Vec<u8>>;

    /// Fills `buf` with the bytes from `offset`; never less. On an error its content is unspecified.
    ///
    /// # Errors
    /// `NotFound`, `Short`, `Io`.
    fn read_range(&self, key: &Key, offset: u64, buf: &mut [u8]) -> Result<()>;

    /// Reads exactly `len` bytes from `offset` into new memory.
    ///
    /// # Errors
    /// As [`read_range`](Self::read_range).
    fn get_range(&self, key: &Key, offset: u64, len: usize) -> Result<Vec<u8>> {
        let mut data = vec![0; len];
        self.read_range(key, offset, &mut data)?;
        Ok(data)
    }

    /// Reads the last `most` bytes of an object, or all of a smaller one; gives its size too.
    ///
    /// # Errors
    /// As [`read_range`](Self::read_range).
    fn read_tail(&self, key: &Key, most: usize) -> Result<(u64, Vec<u8>)> {
        let size = self.head(key)?;
        let len = bytes::to_usize(size).min(most);
        let tail = self.get_range(key, size.saturating_sub(bytes::to_u64(len)), len)?;
        Ok((size, tail))
    }

    /// Size of an object in bytes.
    ///
    /// # Errors
    /// `NotFound`, `Io`.
    fn head(&self, key: &Key) -> Result<u64>;

    /// Writes a new object; when this returns, the whole object is durable under its name, or was never visible.
    ///
    /// # Errors
    /// `AlreadyExists` (the object that is there is untouched), `Io`. A failed sync is final.
    fn put_new(&self, key: &Key, data: &[u8]) -> Result<()>;

    /// Names every object whose key starts with `prefix` (empty, or ending in `/`), in ascending order.
    ///
    /// # Errors
    /// `Io`: a listing is complete or an error, never a part.
    fn list(&self, prefix: &str) -> Result<Vec<Key>>;

    /// Removes an object durably.
    ///
    /// # Errors
    /// `NotFound`, `Io`.
    fn delete(&self, key: &Key) -> Result<()>;

    /// Says whether the store itself can keep objects from being removed: an object lock.
    ///
    /// # Errors
    /// `Io`.
    fn can_retain(&self) -> Result<bool> {
        Ok(false)
    }

    /// Has a store that can forbid everybody to remove an object until a time; other stores do nothing. It cannot be taken back.
    ///
    /// # Errors
    /// `NotFound`, `Io`; `Io` of the kind `PermissionDenied` if this user may not.
    fn retain(&self, key: &Key, until: Seconds) -> Result<()> {
        let _ = (key, until);
        Ok(())
    }

    /// Removes what writers that were killed have left and that no listing shows, if it is older than `age`; returns how much it was.
    ///
    /// # Errors
    /// `Io`.
    fn remove_litter(&self, age: Duration) -> Result<u64> {
        let _ = age;
        Ok(0)
    }

    /// Keeps some space back for a time when there is none left, if the store can.
    ///
    /// # Errors
    /// `Io`, also when there is no space to be kept.
    fn keep_reserve(&self) -> Result<()> {
        Ok(())
    }

    /// Gives back the space that was kept; says whether there was any.
    ///
    /// # Errors
    /// `Io`.
    fn release_reserve(&self) -> Result<bool> {
        Ok(false)
    }

    /// The store in words for messages: a path or a URL.
    fn describe(&self) -> String;

    /// Says whether bytes come over a network: what is damaged then may be whole when it is fetched again.
    fn is_remote(&self) -> bool {
        false
    }

    /// Tries out how two writers of one name are kept apart here. Leaves no object behind.
    ///
    /// # Errors
    /// `Io` and what else says that the store cannot be written to.
    fn probe_exclusion(&self) -> Result<Exclusion> {
        Ok(Exclusion::Atomic)
    }

    /// Tells the store what a probe found when the vault was made; until then it assumes the worst.
    fn set_exclusion(&self, exclusion: Exclusion) {
        let _ = exclusion;
    }
}

impl<T: Store + ?Sized> Store for Arc<T> {
    fn get(&self, key: &Key, limit: u64) -> Result<Vec<u8>> {
        (**self).get(key, limit)
    }
    fn read_range(&self, key: &Key, offset: u64, buf: &mut [u8]) -> Result<()> {
        (**self).read_range(key, offset, buf)
    }
    fn read_tail(&self, key: &Key, most: usize) -> Result<(u64, Vec<u8>)> {
        (**self).read_tail(key, most)
    }
    fn head(&self, key: &Key) -> Result<u64> {
        (**self).head(key)
    }
    fn put_new(&self, key: &Key, data: &[u8]) -> Result<()> {
        (**self).put_new(key, data)
    }
    fn list(&self, prefix: &str) -> Result<Vec<Key>> {
        (**self).list(prefix)
    }
    fn delete(&self, key: &Key) -> Result<()> {
        (**self).delete(key)
    }
    fn can_retain(&self) -> Result<bool> {
        (**self).can_retain()
    }
    fn retain(&self, key: &Key, until: Seconds) -> Result<()> {
        (**self).retain(key, until)
    }
    fn remove_litter(&self, age: Duration) -> Result<u64> {
        (**self).remove_litter(age)
    }
    fn keep_reserve(&self) -> Result<()> {
        (**self).keep_reserve()
    }
    fn release_reserve(&self) -> Result<bool> {
        (**self).release_reserve()
    }
    fn describe(&self) -> String {
        (**self).describe()
    }
    fn is_remote(&self) -> bool {
        (**self).is_remote()
    }
    fn probe_exclusion(&self) -> Result<Exclusion> {
        (**self).probe_exclusion()
    }
    fn set_exclusion(&self, exclusion: Exclusion) {
        (**self).set_exclusion(exclusion);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_cannot_leave_the_store() {
        for good in ["vault", "packs/0a/0a1b", "backups/servers/web-01/2026-11-20T03-00-00Z"] {
            assert_eq!(Key::new(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            "/",
            "a//b",
            "a/",
            "/a",
            "..",
            "a/../b",
            ".tmp",
            "a/.hidden",
            "a b",
            "a\0b",
            "ä",
            &"x".repeat(513),
        ] {
            assert!(Key::new(bad).is_err(), "{bad}");
        }
    }
}
