//! Comparing names without case, in directories that ask for it.

use super::disk::Disk;
use super::features::Incompat;
use super::inode::{CASEFOLD_FL, ENCRYPT_FL, Node};

/// Says whether names in the directory are compared without case.
pub(super) fn applies(disk: &Disk, node: &Node) -> bool {
    // Without the key, names of encrypted directories cannot be folded.
    disk.sb.features.incompat(Incompat::CaseFold) && node.has(CASEFOLD_FL) && !node.has(ENCRYPT_FL)
}

/// Says whether two names are the same but for case.
///
/// Simple lower case of each character, which is the kernel's folding for nearly all text. Not covered: canonical equivalence
/// (a letter with an accent as one character or two) and foldings to several characters (`ß` and `ss`).
pub(super) fn same(one: &[u8], other: &[u8]) -> bool {
    if one.is_ascii() && other.is_ascii() {
        return one.eq_ignore_ascii_case(other);
    }
    match (std::str::from_utf8(one), std::str::from_utf8(other)) {
        (Ok(one), Ok(other)) => {
            let lower = |text: &str| text.chars().flat_map(char::to_lowercase).collect::<String>();
            lower(one) == lower(other)
        }
        // What is no text is only the same as itself.
        _ => one == other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_does_not_matter_and_other_letters_do() {
        assert!(same(b"README.md", b"readme.MD"));
        assert!(same("ÄÖÜ".as_bytes(), "äöü".as_bytes()));
        assert!(!same(b"a", b"b"));
        assert!(!same(b"\xff", b"\xfe"));
    }
}
