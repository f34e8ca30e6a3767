//! Where a user says a vault is: a directory, or `s3://bucket/prefix`.

use super::local::LocalStore;
use super::s3::{Address, S3Store, Settings};
use super::{Error, Result, Store};
use std::ffi::OsStr;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// The place of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A directory, as the user wrote it.
    Directory(PathBuf),
    /// A bucket of an object store, and a prefix in it.
    Bucket(Address),
}

impl Location {
    /// Reads what a user wrote.
    ///
    /// # Errors
    /// `InvalidLocation` with the cure.
    pub fn parse(word: &OsStr) -> Result<Self> {
        let text = word.to_string_lossy();
        let invalid = |problem: String| Error::InvalidLocation {
            text: text.to_string(),
            problem,
        };
        if let Some(rest) = text.strip_prefix("s3://") {
            return Address::parse(rest).map(Self::Bucket).map_err(invalid);
        }
        if let Some((scheme, _)) = text.split_once("://") {
            return Err(invalid(format!(
                "{scheme}:// is not known; a vault is a directory or s3://bucket/prefix"
            )));
        }
        if text.is_empty() {
            return Err(invalid("the vault's directory is empty text".to_owned()));
        }
        Ok(Self::Directory(PathBuf::from(word)))
    }

    /// Opens the store that is there. `settings` are asked for only where there is a network to be set up.
    ///
    /// # Errors
    /// `NoRoot` for a directory that is not there, `Refused` for settings that cannot work.
    pub fn open(&self, settings: impl FnOnce() -> Result<Settings>) -> Result<Arc<dyn Store>> {
        Ok(match self {
            Self::Directory(path) => Arc::new(LocalStore::open(path)?),
            Self::Bucket(address) => Arc::new(S3Store::open(address, &settings()?)?),
        })
    }

    /// Opens the store, after making its directory where that is missing; buckets are never made.
    ///
    /// # Errors
    /// As [`open`](Self::open), and `Io` if the directory cannot be made.
    pub fn create(&self, settings: impl FnOnce() -> Result<Settings>) -> Result<Arc<dyn Store>> {
        match self {
            Self::Directory(path) => Ok(Arc::new(LocalStore::create(path)?)),
            Self::Bucket(_) => self.open(settings),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => path.display().fmt(f),
            Self::Bucket(address) => address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Location> {
        Location::parse(OsStr::new(text))
    }

    #[test]
    fn directories_and_buckets_are_told_apart() {
        assert_eq!(parse("/srv/vault").unwrap(), Location::Directory("/srv/vault".into()));
        assert_eq!(parse("s3").unwrap(), Location::Directory("s3".into()));
        assert_eq!(parse("s3://b/p/q/").unwrap().to_string(), "s3://b/p/q");
    }

    #[test]
    fn what_is_neither_is_refused_with_the_cure() {
        for (bad, cure) in [
            ("http://host", "s3://bucket/prefix"),
            ("", "empty"),
            ("s3://", "bucket"),
            ("s3://b//x", "prefix"),
        ] {
            let text = parse(bad).unwrap_err().to_string();
            assert!(text.contains(cure), "{bad}: {text}");
        }
    }
}
