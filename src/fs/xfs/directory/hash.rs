//! Hashes of names, and the folding of case in directories that ignore it.

/// The hash under which a directory keeps a name.
pub(super) fn of_name(name: &[u8], ascii_ci: bool) -> u32 {
    if ascii_ci {
        return name
            .iter()
            .fold(0_u32, |hash, byte| hash.rotate_left(7) ^ u32::from(fold(*byte)));
    }
    of_bytes(name)
}

/// The hash of bytes: 7 bits more for each, of which four are mixed in at a time.
///
/// # Source
/// fs/xfs/libxfs/xfs_da_btree.c, `xfs_da_hashname`.
pub(super) fn of_bytes(name: &[u8]) -> u32 {
    // Mixing one byte turns by 7 bits, so that four bytes at a time are the same as one by one.
    name.iter()
        .fold(0_u32, |hash, byte| hash.rotate_left(7) ^ u32::from(*byte))
}

/// Says whether two names differ in case only.
pub(super) fn same_folded(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| fold(*a) == fold(*b))
}

/// Lower case of ASCII and of Latin-1, as the kernel has it: without the sign at 0xd7 and the letter at 0xdf.
///
/// # Source
/// fs/xfs/libxfs/xfs_dir2.h, `xfs_ascii_ci_xfrm`.
fn fold(byte: u8) -> u8 {
    match byte {
        b'A'..=b'Z' | 0xc0..=0xd6 | 0xd8..=0xde => byte + 32,
        _ => byte,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_xfs_db() {
        for (name, hash) in [
            ("Name", 0x09d8_76e5),
            ("a", 0x61),
            ("lost+found", 0x021a_a60c),
            ("averylongname.with.many.parts", 0xb246_0b72),
        ] {
            assert_eq!(of_name(name.as_bytes(), false), hash, "{name}");
        }
        assert_eq!(of_name(b"NAME", true), of_name(b"name", true));
        assert_eq!(of_name(b"name", true), of_name(b"name", false));
    }

    #[test]
    fn folding_leaves_alone_what_has_no_case() {
        assert!(same_folded(b"\xc4Z[@", b"\xe4z[@"));
        assert!(!same_folded(b"\xd7", b"\xf7") && !same_folded(b"\xdf", b"\xff") && !same_folded(b"[", b"{"));
        assert!(!same_folded(b"a", b"ab"));
    }
}
