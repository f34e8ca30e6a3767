//! The records of a lease: what its holder says, and what others read of it.

use super::LEASES;
use super::process::Process;
use crate::clock::Seconds;
use crate::store::{self, Key};
use crate::vault::mark::MarkId;
use crate::vault::object::ObjectId;
use crate::vault::{self, Vault, random_id};
use serde::{Deserialize, Serialize};

/// What the holder of a lease does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Writes a backup.
    Backup,
    /// Copies backups into the vault.
    Copy,
    /// Prunes.
    Prune,
    /// Shows the vault as files.
    Mount,
    /// Verifies, and changes nothing.
    Verify,
    /// Stores again what is damaged.
    Repair,
    /// Stores again what is needed of packs that mostly are not; a part of a prune.
    Repack,
}

impl Kind {
    /// The kind in a word: `backup`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Copy => "copy",
            Self::Prune => "prune",
            Self::Mount => "mount",
            Self::Verify => "verify",
            Self::Repair => "repair",
            Self::Repack => "repack",
        }
    }

    /// Says whether the holder may commit what refers to packs that it found.
    #[must_use]
    pub fn writes(self) -> bool {
        match self {
            Self::Backup | Self::Copy | Self::Repair | Self::Repack => true,
            Self::Prune | Self::Mount | Self::Verify => false,
        }
    }
}

/// The record of a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// What its holder does.
    pub kind: Kind,
    /// Who holds it.
    pub process: Process,
    /// When it was taken.
    pub started: Seconds,
    /// When this record was written.
    pub renewed: Seconds,
    /// The marks whose packs its holder takes for absent, in hexadecimal.
    pub seen: Vec<String>,
}

impl Record {
    /// Says whether the holder has seen a mark.
    #[must_use]
    pub fn has_seen(&self, mark: &MarkId) -> bool {
        self.seen.contains(&crate::bytes::hex(mark))
    }
}

/// The name of a record of a lease: `<id>-<number of the renewal>`.
///
/// The record with number 0 is the lease: it is there from the beginning to the end, so that no listing misses it. The others only say
/// that its holder lives, and what it has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// Random, the same in all records of a lease.
    pub id: ObjectId,
    /// Counts the renewals.
    pub renewal: u32,
}

impl Name {
    /// A name that nobody has.
    pub(super) fn new() -> vault::Result<Self> {
        Ok(Self {
            id: random_id()?,
            renewal: 0,
        })
    }

    /// The name in a key under [`LEASES`].
    #[must_use]
    pub fn of(key: &Key) -> Option<Self> {
        let (id, renewal) = key.as_str().strip_prefix(LEASES)?.split_once('-')?;
        Some(Self {
            id: crate::bytes::unhex(id)?,
            renewal: u32::from_be_bytes(crate::bytes::unhex(renewal)?),
        })
    }

    /// The key of the record.
    ///
    /// # Errors
    /// None for any name; the key's check is kept.
    pub fn key(&self) -> vault::Result<Key> {
        let renewal = crate::bytes::hex(&self.renewal.to_be_bytes());
        Ok(Key::new(format!("{LEASES}{}-{renewal}", crate::bytes::hex(&self.id)))?)
    }

    /// The name of the record that is the lease.
    #[must_use]
    pub fn first(self) -> Self {
        Self { renewal: 0, ..self }
    }

    /// The name of the next renewal.
    pub(super) fn next(self) -> Self {
        Self {
            renewal: self.renewal.saturating_add(1),
            ..self
        }
    }
}

/// A lease as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its newest record.
    pub name: Name,
    /// What that says; `None` if it cannot be read.
    pub record: Option<Record>,
}

/// The leases of a vault: every one that was there before this began and has not ended meanwhile.
///
/// # Errors
/// `Store`; `Corrupt` for a key that is none of a lease's.
pub fn all(vault: &Vault) -> vault::Result<Vec<Seen>> {
    let mut names = Vec::new();
    for key in vault.store().list(LEASES)? {
        names.push(Name::of(&key).ok_or_else(|| {
            vault::Error::Corrupt {
                object: key.to_string(),
                what:
                    "its key is none that vaultfs makes; look at it, and remove it by hand if it does not belong there"
                        .to_owned(),
            }
        })?);
    }
    names.sort_unstable();
    let mut found = Vec::new();
    for of_one in names.chunk_by(|one, next| one.id == next.id) {
        // Without its first record it has ended.
        if of_one.first().is_some_and(|name| name.renewal == 0) {
            found.extend(newest(vault, of_one)?);
        }
    }
    Ok(found)
}

/// The newest record of a lease; a newer one than was listed may have taken its place, then an older one speaks for it.
fn newest(vault: &Vault, names: &[Name]) -> vault::Result<Option<Seen>> {
    for name in names.iter().rev() {
        let record = match vault.record::<Record>(&name.key()?) {
            Ok(record) => Some(record),
            Err(vault::Error::Corrupt { .. } | vault::Error::FromTheFuture { .. }) => None,
            Err(vault::Error::Store(store::Error::NotFound { .. })) => continue,
            Err(error) => return Err(error),
        };
        return Ok(Some(Seen { name: *name, record }));
    }
    Ok(None)
}
