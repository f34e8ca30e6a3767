//! Why a prune stops. It does so wherever it does not know everything.

use crate::clock::{Seconds, rfc3339};
use crate::vault::{self, Address};
use crate::{chunk, lease, store, writer};

/// Why nothing, or not everything, was pruned. Whatever the reason, no backup lost anything.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The vault could not be read or written.
    #[error(transparent)]
    Vault(#[from] vault::Error),
    /// The lease of this prune could not be had.
    #[error(transparent)]
    Lease(lease::Error),
    /// The manifest of a backup could not be read.
    #[error(
        "backup {address} cannot be read, so that nobody knows what it needs, and nothing is removed; look at it with `vaultfs \
         verify`, and `vaultfs delete` it if it is lost"
    )]
    Manifest {
        /// The backup.
        address: Address,
        /// Why.
        #[source]
        source: vault::Error,
    },
    /// A backup was listed, and its manifest is not there.
    #[error(
        "backup {address} was there a moment ago and is not any more: whoever wrote it has taken it back, or the store does not list \
         what there is; nothing is removed; run this again"
    )]
    Vanished {
        /// The backup.
        address: Address,
    },
    /// A page of a backup could not be read.
    #[error(
        "backup {address} cannot be read in full, so that nobody knows what it needs, and nothing is removed; look at it with \
         `vaultfs verify`, and `vaultfs delete` it if it is lost"
    )]
    Unreadable {
        /// The backup.
        address: Address,
        /// Why.
        #[source]
        source: chunk::Error,
    },
    /// A backup needs a pack that is not there.
    #[error(
        "backups need the object {key}, which is not there; nothing is removed from a damaged vault; `vaultfs verify` says which \
         backups these are, and what can be done"
    )]
    Missing {
        /// The pack.
        key: String,
    },
    /// The vault holds something that this program does not know.
    #[error(
        "object {key} is nothing that this program knows, and what it does not know it must not work around; use a newer vaultfs, or \
         move the object away if it does not belong to the vault"
    )]
    Unknown {
        /// The object.
        key: String,
    },
    /// The store told something that cannot be true.
    #[error("object {key} {what}; the store does not list the vault as it is, and nothing is removed; try again later")]
    Untrue {
        /// The object.
        key: String,
        /// What is wrong.
        what: &'static str,
    },
    /// A deleted backup that was about to be removed was brought back or protected.
    #[error(
        "backup {address} was about to be removed, and is not deleted or is protected now; it stays; run this again"
    )]
    Changed {
        /// The backup.
        address: Address,
    },
    /// A chunk that is needed could not be read to be stored again.
    #[error(
        "{key} could not be repacked; it stays as it is, and nothing else was changed; look at it with `vaultfs verify`"
    )]
    Repack {
        /// The pack.
        key: String,
        /// Why.
        #[source]
        source: chunk::Error,
    },
    /// The new packs could not be written.
    #[error("what is needed of packs could not be stored again; they stay as they are")]
    Write(#[from] writer::Error),
    /// Clocks disagree.
    #[error(
        "object {object} is from {}, and here it is {}: one of the two clocks is wrong, and nothing is removed; set it right",
        rfc3339(*at),
        rfc3339(*now)
    )]
    Skew {
        /// The object that is from the future.
        object: String,
        /// When it was written.
        at: Seconds,
        /// What this machine takes for now.
        now: Seconds,
    },
    /// Another prune is under way.
    #[error(
        "another prune is under way ({0}); wait until it has ended; if it was killed, that is found out within an hour"
    )]
    Busy(String),
    /// This prune gave no sign of life for so long that another one may have taken its place.
    #[error("the lease of this prune was lost (this machine was suspended, or cut off from the vault); run it again")]
    Lost,
    /// The user or the system asked to stop.
    #[error("interrupted; what was removed was needed by nobody, and the next prune goes on from there")]
    Interrupted,
}

impl Error {
    /// Says whether there was no space left in the store.
    pub(super) fn is_full(&self) -> bool {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        let (Self::Vault(error) | Self::Write(writer::Error::Vault(error))) = self else {
            return false;
        };
        matches!(error, vault::Error::Store(store::Error::Io { source, .. })
            if matches!(source.kind(), StorageFull | QuotaExceeded))
    }
}

impl From<lease::Error> for Error {
    fn from(error: lease::Error) -> Self {
        match error {
            lease::Error::Vault(error) => Self::Vault(error),
            other => Self::Lease(other),
        }
    }
}
