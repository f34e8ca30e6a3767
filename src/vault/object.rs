//! The frame around every stored object but the vault object: a 64-byte header, the payload, and a BLAKE3 of both.
//!
//! # Source
//! `docs/format.md`, section "Object frame".

use super::{Error, Result, VaultId};
use crate::bytes::to_u64;
use crate::checksum::Digest;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The random id of a pack or an index object.
pub type ObjectId = [u8; 16];

/// First bytes of every object.
pub const MAGIC: [u8; 8] = *b"VAULTFS\x01";
/// Version of the format, in every header.
pub const VERSION: u16 = 1;
/// Length of the header in bytes.
pub const HEADER_LEN: usize = 64;
/// Bytes a frame adds to its payload.
pub const FRAME_LEN: usize = HEADER_LEN + Digest::LEN;

/// What an object is; bound by its hash, so that no object passes for another kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ObjectType {
    /// Pack of data chunks.
    Pack,
    /// Pack of chunk-map pages.
    MetaPack,
    /// Index from chunk ids to packs.
    Index,
    /// Manifest of one backup.
    Manifest,
    /// A fact about a backup or a program, as JSON.
    Record,
    /// What a prune found that nobody needs.
    Mark,
}

impl ObjectType {
    fn code(self) -> u8 {
        match self {
            Self::Pack => 1,
            Self::MetaPack => 2,
            Self::Index => 3,
            Self::Manifest => 4,
            Self::Record => 5,
            Self::Mark => 6,
        }
    }

    /// The type in words, for messages.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Pack => "pack",
            Self::MetaPack => "meta pack",
            Self::Index => "index",
            Self::Manifest => "manifest",
            Self::Record => "record",
            Self::Mark => "mark",
        }
    }
}

/// Header as stored.
#[derive(Debug, Clone, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawHeader {
    magic: [u8; 8],
    version: U16,
    object_type: u8,
    codec: u8,
    flags: U32,
    vault_id: VaultId,
    object_id: ObjectId,
    stored_len: U64,
    plain_len: U64,
}

/// What a reader knows about an object before it reads it; the header must say the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// What the object is.
    pub object_type: ObjectType,
    /// The vault it belongs to.
    pub vault_id: VaultId,
    /// Its id: random for packs and indexes, derived from the key for manifests and records.
    pub object_id: ObjectId,
}

impl Frame {
    /// The header of an object of this frame with `payload_len` bytes of payload.
    #[must_use]
    pub fn header(&self, payload_len: usize) -> [u8; HEADER_LEN] {
        let raw = RawHeader {
            magic: MAGIC,
            version: U16::new(VERSION),
            object_type: self.object_type.code(),
            codec: 0,
            flags: U32::new(0),
            vault_id: self.vault_id,
            object_id: self.object_id,
            stored_len: U64::new(to_u64(payload_len)),
            plain_len: U64::new(to_u64(payload_len)),
        };
        zerocopy::transmute!(raw)
    }

    /// Frames a payload.
    #[must_use]
    pub fn seal(&self, payload: &[u8]) -> Vec<u8> {
        let mut object = Vec::with_capacity(payload.len().saturating_add(FRAME_LEN));
        object.extend_from_slice(&self.header(payload.len()));
        object.extend_from_slice(payload);
        object.extend_from_slice(&Digest::of(&object).0);
        object
    }

    /// Checks a whole object against this frame and its own hash, and returns the payload.
    ///
    /// # Errors
    /// `Corrupt` if anything differs, `FromTheFuture` if a newer version wrote it.
    pub fn open<'a>(&self, object: &'a [u8], key: &str) -> Result<&'a [u8]> {
        let corrupt = |what: &str| Error::Corrupt {
            object: key.to_owned(),
            what: what.to_owned(),
        };
        let payload_len = object
            .len()
            .checked_sub(FRAME_LEN)
            .ok_or_else(|| corrupt("it is too short"))?;
        let (body, digest) = object.split_at(object.len().saturating_sub(Digest::LEN));
        if Digest::of(body).0 != digest {
            return Err(corrupt("it fails its hash"));
        }
        let (header, payload) = body.split_at(HEADER_LEN);
        if header == self.header(payload_len) {
            return Ok(payload);
        }
        let raw = RawHeader::read_from_bytes(header).map_err(|_| corrupt("its header is cut"))?;
        Err(if raw.magic != MAGIC {
            corrupt("it is not a vaultfs object")
        } else if raw.version.get() > VERSION {
            Error::FromTheFuture {
                object: key.to_owned(),
                version: raw.version.get(),
            }
        } else if raw.vault_id != self.vault_id {
            corrupt("it belongs to another vault")
        } else if raw.object_type != self.object_type.code() || raw.object_id != self.object_id {
            corrupt("it was stored as another object")
        } else {
            corrupt("its header is not valid")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: Frame = Frame {
        object_type: ObjectType::Pack,
        vault_id: [7; 16],
        object_id: [9; 16],
    };

    #[test]
    fn every_flipped_bit_and_every_truncation_is_refused() {
        let object = FRAME.seal(b"payload");
        assert_eq!(FRAME.open(&object, "k").unwrap(), b"payload");
        for at in 0..object.len() {
            for bit in 0..8 {
                let mut bad = object.clone();
                bad[at] ^= 1 << bit;
                assert!(FRAME.open(&bad, "k").is_err());
            }
            assert!(FRAME.open(&object[..at], "k").is_err());
        }
        let mut longer = object;
        longer.push(0);
        assert!(FRAME.open(&longer, "k").is_err());
    }

    #[test]
    fn an_object_passes_for_no_other_type_vault_or_name() {
        let object = FRAME.seal(b"payload");
        for other in [
            Frame {
                object_type: ObjectType::MetaPack,
                ..FRAME
            },
            Frame {
                vault_id: [8; 16],
                ..FRAME
            },
            Frame {
                object_id: [8; 16],
                ..FRAME
            },
        ] {
            assert!(matches!(other.open(&object, "k"), Err(Error::Corrupt { .. })));
        }
    }

    #[test]
    fn a_newer_version_is_named_as_such() {
        let mut object = FRAME.seal(b"payload");
        object[8] = 2;
        let body = object.len() - 32;
        let digest = Digest::of(&object[..body]).0;
        object[body..].copy_from_slice(&digest);
        assert!(matches!(
            FRAME.open(&object, "k"),
            Err(Error::FromTheFuture { version: 2, .. })
        ));
    }
}
