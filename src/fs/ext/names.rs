//! Names as users see them: the bytes in the directory, or what stands for an encrypted name when there is no key.

use std::borrow::Cow;

use super::inode::{ENCRYPT_FL, Node};
use crate::checksum::Digest;

/// Bytes of an encrypted name that are shown as they are; longer names end with a digest of the rest.
const PLAIN: usize = 149;

/// The name that stands for what is in the directory.
///
/// Encrypted names are shown in the way of the kernel's view without keys: text that stands for the cipher text, the same every time,
/// and different for different names.
pub(super) fn shown<'a>(directory: &Node, raw: &'a [u8]) -> Cow<'a, [u8]> {
    if !directory.has(ENCRYPT_FL) {
        return Cow::Borrowed(raw);
    }
    let (head, rest) = raw.split_at_checked(PLAIN).unwrap_or((raw, &[]));
    // As the kernel's: eight bytes for the directory's hash, which are left zero here, then the name.
    let mut bytes = vec![0; 8];
    bytes.extend_from_slice(head);
    if !rest.is_empty() {
        bytes.extend_from_slice(&Digest::of(rest).0);
    }
    Cow::Owned(base64url(&bytes))
}

/// Says whether the name in the directory is the one that a user gave.
pub(super) fn is(directory: &Node, raw: &[u8], name: &[u8]) -> bool {
    if directory.has(ENCRYPT_FL) {
        *shown(directory, raw) == *name
    } else {
        raw == name
    }
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
