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
