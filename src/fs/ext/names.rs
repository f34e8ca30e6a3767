//! Names as users see them: the bytes in the directory, or what stands for an encrypted name when there is no key.

use std::borrow::Cow;

use super::disk::Disk;
use super::hash::{Version, hash};
use super::htree;
use super::inode::{ENCRYPT_FL, Node};
use super::sha256::sha256;
use crate::fs::Result;

/// Bytes of an encrypted name that are shown as they are; longer names end with a digest of the rest.
const PLAIN: usize = 149;

/// How the names of one directory are shown.
pub(super) enum Names {
    /// As they are.
    Plain,
    /// As the kernel shows encrypted names without the key: text made of hash and cipher text.
    Encrypted {
        /// The directory's hash, if it is known.
        version: Option<Version>,
        /// Secret of the hash.
        seed: [u32; 4],
    },
}

impl Names {
    /// Finds out how the names of a directory are shown.
    ///
    /// # Errors
    /// `Image`.
    pub(super) fn of(disk: &Disk, directory: &Node) -> Result<Self> {
        if !directory.has(ENCRYPT_FL) {
            return Ok(Self::Plain);
        }
        Ok(Self::Encrypted {
            version: htree::version(disk, directory)?,
            seed: disk.sb.hash_seed,
        })
    }

    /// The name that stands for what is in the directory: the same every time, and different for different names.
    pub(super) fn shown<'a>(&self, raw: &'a [u8]) -> Cow<'a, [u8]> {
        match self {
            Self::Plain => Cow::Borrowed(raw),
            Self::Encrypted { version, seed } => {
                let hashes = version.map_or((0, 0), |version| hash(raw, version, *seed));
                Cow::Owned(without_key(hashes, raw))
            }
        }
    }
}

/// The text that the kernel shows for a cipher text when it has no key.
///
/// # Source
/// Linux Documentation/filesystems/fscrypt.rst, "Without the key"; fs/crypto/fname.c, `struct fscrypt_nokey_name`.
pub(super) fn without_key((major, minor): (u32, u32), raw: &[u8]) -> Vec<u8> {
    let (head, rest) = raw.split_at_checked(PLAIN).unwrap_or((raw, &[]));
    let mut bytes = [major.to_le_bytes(), minor.to_le_bytes()].concat();
    bytes.extend_from_slice(head);
    if !rest.is_empty() {
        bytes.extend_from_slice(&sha256(rest));
    }
    base64url(&bytes)
}

/// Base64 for file names (RFC 4648 section 5), without padding.
fn base64url(bytes: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = Vec::new();
    for piece in bytes.chunks(3) {
        let at = |index| piece.get(index).copied().map_or(0, u32::from);
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for shift in [18_u32, 12, 6, 0].iter().take(piece.len().saturating_add(1)) {
            let digit = usize::try_from((bits >> shift) & 63).unwrap_or(0);
            text.extend(DIGITS.get(digit));
        }
    }
    text
}
