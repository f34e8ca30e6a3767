//! Names and addresses: the one string that is mount path, CLI argument, JSON field and object key.

use crate::clock::Point;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Longest name of a vault, a resource or a disk, in bytes.
pub const MAX_NAME: usize = 64;

/// Checks the name of a vault, a resource or a disk: 1-64 of `A-Z a-z 0-9 . _ -`, not starting with a dot.
///
/// # Errors
/// A sentence saying what is allowed.
pub fn check_name(name: &str) -> Result<(), String> {
    if name.len() <= MAX_NAME && crate::store::is_component(name) {
        return Ok(());
    }
    Err(format!(
        "{name:?} is not a valid name: 1 to {MAX_NAME} of A-Z a-z 0-9 . _ - and no dot in front"
    ))
}

/// What is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ResourceKind {
    /// A server: all its disks at one point in time.
    Server,
    /// One disk.
    Disk,
    /// A directory tree.
    Filesystem,
}

impl ResourceKind {
    /// Every kind, in the order of the format.
    pub const ALL: [Self; 3] = [Self::Server, Self::Disk, Self::Filesystem];

    /// The directory of the kind, in addresses and keys: `servers`, `disks`, `filesystems`.
    #[must_use]
    pub fn dir(self) -> &'static str {
        match self {
            Self::Server => "servers",
            Self::Disk => "disks",
            Self::Filesystem => "filesystems",
        }
    }

    /// The kind in words: `server`, `disk`, `filesystem`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Disk => "disk",
            Self::Filesystem => "filesystem",
        }
    }

    /// The kind whose directory is `dir`.
    #[must_use]
    pub fn from_dir(dir: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.dir() == dir)
    }
}

/// A resource of a vault: `servers/web-01`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceName {
    /// Its kind.
    pub kind: ResourceKind,
    /// Its name, checked by [`check_name`].
    pub name: String,
}

impl ResourceName {
    /// Makes a checked resource name.
    ///
    /// # Errors
    /// As [`check_name`].
    pub fn new(kind: ResourceKind, name: &str) -> Result<Self, String> {
        check_name(name)?;
        Ok(Self {
            kind,
            name: name.to_owned(),
        })
    }

    /// The address of this resource's backup at `point`.
    #[must_use]
    pub fn at(&self, point: Point) -> Address {
        Address {
            resource: self.clone(),
            point,
        }
    }
}

impl fmt::Display for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.dir(), self.name)
    }
}

impl FromStr for ResourceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (dir, name) = text.split_once('/').unwrap_or((text, ""));
        let kind = ResourceKind::from_dir(dir)
            .ok_or_else(|| format!("{text:?} is no resource: it starts with servers/, disks/ or filesystems/"))?;
        Self::new(kind, name)
    }
}

/// The address of one backup: `servers/web-01/2026-11-20T03-00-00Z`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// What was backed up.
    pub resource: ResourceName,
    /// When.
    pub point: Point,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.resource, self.point)
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (resource, point) = text.rsplit_once('/').ok_or_else(|| {
            format!("{text:?} is no backup address; an address reads servers/web-01/2026-11-20T03-00-00Z")
        })?;
        Ok(resource.parse::<ResourceName>()?.at(point.parse()?))
    }
}

/// An address as a user gives it: a backup by its point, or the newest one by the word `latest`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AddressSpec {
    /// This backup.
    Exact(Address),
    /// The newest backup of the resource.
    Latest(ResourceName),
}

impl AddressSpec {
    /// The resource that is meant.
    #[must_use]
    pub fn resource(&self) -> &ResourceName {
        match self {
            Self::Exact(address) => &address.resource,
            Self::Latest(resource) => resource,
        }
    }
}

impl FromStr for AddressSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim_matches('/');
        match text.strip_suffix("/latest") {
            Some(resource) => Ok(Self::Latest(resource.parse()?)),
            None => Ok(Self::Exact(text.parse()?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_reads_back_as_it_is_written() {
        let text = "servers/web-01/2026-11-20T03-00-00Z";
        assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        for bad in [
            "",
            "servers",
            "servers/web-01",
            "server/web-01/2026-11-20T03-00-00Z",
            "servers//2026-11-20T03-00-00Z",
            "servers/a/b/2026-11-20T03-00-00Z",
            "servers/../2026-11-20T03-00-00Z",
            "servers/.x/2026-11-20T03-00-00Z",
            "servers/web-01/2026-11-20T03:00:00Z",
        ] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }

    #[test]
    fn latest_stands_for_the_point() {
        let spec: AddressSpec = "disks/db/latest".parse().unwrap();
        assert_eq!(
            spec,
            AddressSpec::Latest(ResourceName::new(ResourceKind::Disk, "db").unwrap())
        );
        assert!("disks/latest".parse::<AddressSpec>().is_err());
    }

    #[test]
    fn names_have_their_limits() {
        assert!(check_name(&"x".repeat(64)).is_ok());
        for bad in ["", ".", "..", ".a", "a/b", "a b", "ä", &"x".repeat(65)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
