//! BLAKE3, the one hash of the project; the only file that names the crate.

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
