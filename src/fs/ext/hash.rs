//! The hashes by which large directories are ordered: half of MD4, TEA, and the first one of ext3.

/// Keys of MD4, which are the state to start from when the superblock has no secret.
const MD4_START: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
/// A hash that no name has: the end of the directory.
const EOF: u32 = 0xffff_fffe;

/// How bytes above 127 count; machines differed in this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    /// As negative numbers.
    Signed,
    /// As they are.
    Unsigned,
}

/// `dx_root.info.hash_version`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// `DX_HASH_LEGACY`.
    Legacy(Sign),
    /// `DX_HASH_HALF_MD4`.
    HalfMd4(Sign),
    /// `DX_HASH_TEA`.
    Tea(Sign),
}

impl Version {
    /// The version of this number in a directory; `default` is what the superblock says of signs.
    ///
    /// `None` for what is unknown, and for SipHash, whose key is one of the file system's encryption.
    pub(super) fn from_raw(raw: u8, default: Sign) -> Option<Self> {
        Some(match raw {
            0 => Self::Legacy(default),
            1 => Self::HalfMd4(default),
            2 => Self::Tea(default),
            3 => Self::Legacy(Sign::Unsigned),
            4 => Self::HalfMd4(Sign::Unsigned),
            5 => Self::Tea(Sign::Unsigned),
            _ => return None,
        })
    }
}

/// The hash of a name, its lowest bit always zero, and the minor hash.
///
/// # Source
/// Linux fs/ext4/hash.c, `ext4fs_dirhash()`; Linux Documentation/filesystems/ext4/directory.rst, "Hash Tree Directories".
pub(super) fn hash(name: &[u8], version: Version, seed: [u32; 4]) -> (u32, u32) {
    let mut state = if seed == [0; 4] { MD4_START } else { seed };
    let (raw, minor) = match version {
        Version::Legacy(sign) => (legacy(name, sign), 0),
        Version::HalfMd4(sign) => {
            for piece in name.chunks(32).zip(lengths(name.len(), 32)) {
                half_md4(&mut state, &words::<8>(piece, sign));
            }
            let [_, result, minor, _] = state;
            (result, minor)
        }
        Version::Tea(sign) => {
            for piece in name.chunks(16).zip(lengths(name.len(), 16)) {
                tea(&mut state, &words::<4>(piece, sign));
            }
            let [result, minor, _, _] = state;
            (result, minor)
        }
    };
    let result = raw & !1;
    (if result == EOF { EOF.wrapping_sub(2) } else { result }, minor)
}

/// How long the name still is at each of its pieces; the padding of a piece depends on that.
fn lengths(len: usize, piece: usize) -> impl Iterator<Item = usize> {
    (0..=len)
        .step_by(piece.max(1))
        .map(move |passed| len.saturating_sub(passed))
}

fn value(byte: u8, sign: Sign) -> u32 {
    match sign {
        Sign::Unsigned => u32::from(byte),
        // Sign extension to 32 bits.
        Sign::Signed => u32::from(byte).wrapping_sub(if byte >= 0x80 { 0x100 } else { 0 }),
    }
}

/// Packs up to four bytes a word; what is left over is filled with the length of the rest of the name.
fn words<const N: usize>((piece, len): (&[u8], usize), sign: Sign) -> [u32; N] {
    let low = u32::try_from(len).unwrap_or(u32::MAX);
    let pad = low | low << 8;
    let pad = pad | pad << 16;
    let mut out = [pad; N];
    for (word, bytes) in out.iter_mut().zip(piece.chunks(4)) {
        *word = bytes
            .iter()
            .fold(pad, |word, byte| value(*byte, sign).wrapping_add(word << 8));
    }
    out
}

fn legacy(name: &[u8], sign: Sign) -> u32 {
    let (mut newer, mut older) = (0x12a3_fe2d_u32, 0x37ab_e8f9_u32);
    for byte in name {
        let mixed = older.wrapping_add(newer ^ value(*byte, sign).wrapping_mul(7_152_373));
        older = newer;
        newer = if mixed & 0x8000_0000 == 0 {
            mixed
        } else {
            mixed.wrapping_sub(0x7fff_ffff)
        };
    }
    newer << 1
}

/// Three rounds of MD4 on eight words.
fn half_md4(state: &mut [u32; 4], input: &[u32; 8]) {
    type Mix = fn(u32, u32, u32) -> u32;
    let rounds: [(Mix, u32, [usize; 8], [u32; 4]); 3] = [
        (|x, y, z| z ^ (x & (y ^ z)), 0, [0, 1, 2, 3, 4, 5, 6, 7], [3, 7, 11, 19]),
        (
            |x, y, z| (x & y).wrapping_add((x ^ y) & z),
            0x5a82_7999,
            [1, 3, 5, 7, 0, 2, 4, 6],
            [3, 5, 9, 13],
        ),
        (
            |x, y, z| x ^ y ^ z,
            0x6ed9_eba1,
            [3, 7, 2, 6, 1, 5, 0, 4],
            [3, 9, 11, 15],
        ),
    ];
    let [mut a, mut b, mut c, mut d] = *state;
    for (mix, key, order, shifts) in rounds {
        for (index, shift) in order.iter().zip(shifts.iter().cycle()) {
            let word = input.get(*index).copied().unwrap_or_default().wrapping_add(key);
            let mixed = a.wrapping_add(mix(b, c, d)).wrapping_add(word).rotate_left(*shift);
            (a, b, c, d) = (d, mixed, b, c);
        }
    }
    for (word, added) in state.iter_mut().zip([a, b, c, d]) {
        *word = word.wrapping_add(added);
    }
}

/// Sixteen rounds of the Tiny Encryption Algorithm on the first two words of the state.
fn tea(state: &mut [u32; 4], key: &[u32; 4]) {
    let [x, y, _, _] = state;
    let [a, b, c, d] = *key;
    let (mut left, mut right) = (*x, *y);
    let mut sum = 0_u32;
    let mix = |half: u32, sum: u32, k0: u32, k1: u32| {
        (half << 4).wrapping_add(k0) ^ half.wrapping_add(sum) ^ (half >> 5).wrapping_add(k1)
    };
    for _ in 0..16 {
        sum = sum.wrapping_add(0x9e37_79b9);
        left = left.wrapping_add(mix(right, sum, a, b));
        right = right.wrapping_add(mix(left, sum, c, d));
    }
    *x = x.wrapping_add(left);
    *y = y.wrapping_add(right);
}
