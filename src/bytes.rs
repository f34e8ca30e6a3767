//! Byte-level base: bounded little- and big-endian fields, lossless integer conversions, hexadecimal text, sizes for people.

pub mod direct;
pub mod scratch;
pub mod temporary;

/// Converts a length or index to `u64`; `usize` is at most 64 bits wide on every target we build for.
#[must_use]
pub fn to_u64(value: usize) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

/// Converts to `usize`, saturating: a saturated value fails every bounds check that follows, so nothing is read out of place.
#[must_use]
pub fn to_usize(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// Returns the `N` bytes at `offset`, or `None` if they do not all lie inside `data`.
#[must_use]
pub fn field<const N: usize>(data: &[u8], offset: usize) -> Option<[u8; N]> {
    data.get(offset..offset.checked_add(N)?)?.try_into().ok()
}

/// Reads a little-endian `u16` at `offset`.
#[must_use]
pub fn le_u16(data: &[u8], offset: usize) -> Option<u16> {
    field(data, offset).map(u16::from_le_bytes)
}

/// Reads a little-endian `u32` at `offset`.
#[must_use]
pub fn le_u32(data: &[u8], offset: usize) -> Option<u32> {
    field(data, offset).map(u32::from_le_bytes)
}

/// Reads a little-endian `u64` at `offset`.
#[must_use]
pub fn le_u64(data: &[u8], offset: usize) -> Option<u64> {
    field(data, offset).map(u64::from_le_bytes)
}

/// Reads a big-endian `u16` at `offset`.
#[must_use]
pub fn be_u16(data: &[u8], offset: usize) -> Option<u16> {
    field(data, offset).map(u16::from_be_bytes)
}

/// Reads a big-endian `u32` at `offset`.
#[must_use]
pub fn be_u32(data: &[u8], offset: usize) -> Option<u32> {
    field(data, offset).map(u32::from_be_bytes)
}

/// Reads a big-endian `u64` at `offset`.
#[must_use]
pub fn be_u64(data: &[u8], offset: usize) -> Option<u64> {
    field(data, offset).map(u64::from_be_bytes)
}

/// Says whether every byte is zero; stops at the first 64-byte block that is not.
#[must_use]
pub fn is_zero(data: &[u8]) -> bool {
    let (blocks, rest) = data.as_chunks::<64>();
    blocks
        .iter()
        .all(|block| block.iter().fold(0, |all, byte| all | byte) == 0)
        && rest.iter().all(|byte| *byte == 0)
}

/// Renders bytes as lower-case hexadecimal.
#[must_use]
pub fn hex(data: &[u8]) -> String {
    data.iter()
        .fold(String::with_capacity(data.len().saturating_mul(2)), |mut text, byte| {
            for nibble in [byte >> 4, byte & 15] {
                text.extend(char::from_digit(u32::from(nibble), 16));
            }
            text
        })
}

/// Parses exactly `2 * N` lower-case hexadecimal digits; anything else is `None`.
#[must_use]
pub fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != N.checked_mul(2)? {
        return None;
    }
    let nibble = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(digits.as_chunks::<2>().0) {
        let [high, low] = *pair;
        *byte = (nibble(high)? << 4) | nibble(low)?;
    }
    Some(out)
}

/// Renders a size with binary units, as people read it: `1.5 GiB`.
#[must_use]
pub fn size_text(bytes: u64) -> String {
    bytesize::ByteSize::b(bytes).display().iec().to_string()
}

/// Parses a size as people write it: `65536`, `128KiB`, `256M`, `1GiB`.
///
/// `K`, `M`, `G`, `T` without `iB` mean powers of 1024, as in `dd`, `truncate` and `qemu-img`.
///
/// # Errors
/// A sentence saying what was expected.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let trimmed = text.trim();
    let split = trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(split);
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        "t" | "tib" => 40,
        _ => {
            return Err(format!(
                "{text:?} is not a size; write for example 65536, 128KiB, 256MiB or 1GiB"
            ));
        }
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|value| value.checked_mul(1 << shift))
        .ok_or_else(|| format!("{text:?} is not a size; write for example 65536, 128KiB, 256MiB or 1GiB"))
}

/// Fills `out` with random bytes of the kernel.
///
/// # Errors
/// As `getrandom(2)` reports.
pub fn fill_random(out: &mut [u8]) -> std::io::Result<()> {
    let mut filled = 0;
    while let Some(rest) = out.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        filled = filled.saturating_add(rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty())?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_outside_the_data_are_none() {
        assert_eq!(le_u32(&[1, 2, 3], 0), None);
        assert_eq!(le_u32(&[1, 0, 0, 0], usize::MAX), None);
        assert_eq!(le_u16(&[0, 1, 2], 1), Some(0x0201));
        assert_eq!(be_u16(&[0, 1, 2], 1), Some(0x0102));
    }

    #[test]
    fn hex_round_trips_and_refuses_other_spellings() {
        assert_eq!(unhex::<3>(&hex(&[0, 0xab, 0xff])), Some([0, 0xab, 0xff]));
        for bad in ["", "00abf", "00ABFF", "00abfg", "00abff0"] {
            assert_eq!(unhex::<3>(bad), None, "{bad}");
        }
    }

    #[test]
    fn one_set_bit_anywhere_is_not_zero() {
        for len in [1, 63, 64, 65, 4096] {
            let mut data = vec![0; len];
            assert!(is_zero(&data));
            for at in [0, len / 2, len - 1] {
                data[at] = 1;
                assert!(!is_zero(&data));
                data[at] = 0;
            }
        }
    }

    #[test]
    fn sizes_are_binary_and_overflow_is_refused() {
        assert_eq!(parse_size("128KiB"), Ok(131_072));
        assert_eq!(parse_size("1G"), Ok(1 << 30));
        for bad in ["", "KiB", "1.5G", "-1", "1KB?", "99999999999T"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }
}
