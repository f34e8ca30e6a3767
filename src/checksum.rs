//! BLAKE3, the one hash of the project, and CRC-32C, which the structures of others carry; the only file that names the crates.

use std::fmt;

/// A BLAKE3-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Length in bytes.
    pub const LEN: usize = 32;

    /// Hashes `data` as it is.
    #[must_use]
    pub fn of(data: &[u8]) -> Self {
        Self(*blake3::hash(data).as_bytes())
    }

    /// Hashes `data` in a domain of its own, so that bytes of one kind never pass for another kind.
    ///
    /// `context` is a fixed text of the format, never user input.
    #[must_use]
    pub fn in_context(context: &str, data: &[u8]) -> Self {
        Self(blake3::derive_key(context, data))
    }

    /// The hash of several pieces as if they stood in one buffer.
    #[must_use]
    pub fn of_pieces(pieces: &[&[u8]]) -> Self {
        let mut hasher = blake3::Hasher::new();
        for piece in pieces {
            hasher.update(piece);
        }
        Self(*hasher.finalize().as_bytes())
    }
}

/// Hashes bytes that come one after the other.
#[derive(Debug, Clone, Default)]
pub struct Hasher(blake3::Hasher);

impl Hasher {
    /// Goes on with `data`.
    pub fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    /// The hash of everything so far, as [`Digest::of`] gives it.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest(*self.0.finalize().as_bytes())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::bytes::hex(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Goes on with the CRC-32C (Castagnoli) of `data` from `seed`, without inverting it before or after.
///
/// This is the kernel's `crc32c()`: ext4 begins with `!0` and keeps the result as it is, XFS and btrfs keep its complement.
#[must_use]
pub fn crc32c(seed: u32, data: &[u8]) -> u32 {
    !crc32c::crc32c_append(!seed, data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32c_is_castagnoli_and_goes_on_from_its_seed() {
        // The check value of the catalogues of CRCs, which inverts on both sides.
        assert_eq!(!crc32c(!0, b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(crc32c(!0, b"1234"), b"56789"), crc32c(!0, b"123456789"));
        assert_eq!(crc32c(0, &[0; 8]), 0);
    }
}
