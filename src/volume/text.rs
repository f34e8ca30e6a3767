//! Bytes of tables and superblocks as text: UUIDs in their spellings, names in UTF-16, labels without padding.

use crate::bytes::{field, hex};

/// Sixteen bytes in the order of the text: `6f0c1f5e-…`; `None` if they are missing or all zero.
pub(super) fn uuid(data: &[u8], offset: usize) -> Option<String> {
    let bytes: [u8; 16] = field(data, offset)?;
    (bytes != [0; 16]).then(|| dashed(&bytes))
}

/// A GUID of UEFI, whose first three fields are little-endian; as [`uuid`].
pub(super) fn guid(data: &[u8], offset: usize) -> Option<String> {
    let [a, b, c, d, e, f, g, h, rest @ ..] = field::<16>(data, offset)?;
    let [i, j, k, l, m, n, o, p] = rest;
    uuid(&[d, c, b, a, f, e, h, g, i, j, k, l, m, n, o, p], 0)
}

/// A UUID that may be zero.
fn dashed(bytes: &[u8; 16]) -> String {
    let digits = hex(bytes);
    let mut text = String::with_capacity(36);
    for (index, digit) in digits.chars().enumerate() {
        if matches!(index, 8 | 12 | 16 | 20) {
            text.push('-');
        }
        text.push(digit);
    }
    text
}

/// A serial number as FAT's is written: `ABCD-1234`; `None` for 0.
pub(super) fn serial(number: u32) -> Option<String> {
    (number != 0).then(|| format!("{:04X}-{:04X}", number >> 16, number & 0xffff))
}

/// Little-endian UTF-16 up to a zero; what is no character shows as U+FFFD. `None` if nothing is there.
pub(super) fn utf16(data: &[u8]) -> Option<String> {
    let (units, _) = data.as_chunks::<2>();
    let units = units
        .iter()
        .map(|unit| u16::from_le_bytes(*unit))
        .take_while(|unit| *unit != 0);
    let text: String = char::decode_utf16(units)
        .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect();
    (!text.is_empty()).then_some(text)
}

/// The bytes of a label field up to a zero, without blanks at the end; `None` if nothing is there.
pub(super) fn label(data: &[u8], offset: usize, len: usize) -> Option<Vec<u8>> {
    let bytes = data.get(offset..offset.checked_add(len)?)?;
    let bytes = bytes.split(|byte| *byte == 0).next()?.trim_ascii_end();
    (!bytes.is_empty()).then(|| bytes.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guid_swaps_its_first_three_fields_and_a_uuid_does_not() {
        let bytes: Vec<u8> = (0..16).collect();
        assert_eq!(uuid(&bytes, 0).unwrap(), "00010203-0405-0607-0809-0a0b0c0d0e0f");
        assert_eq!(guid(&bytes, 0).unwrap(), "03020100-0504-0706-0809-0a0b0c0d0e0f");
        assert_eq!(uuid(&[0; 16], 0), None);
        assert_eq!(uuid(&bytes, 1), None);
    }

    #[test]
    fn a_lone_surrogate_is_shown_and_does_not_end_the_name() {
        assert_eq!(utf16(&[0x00, 0xd8, b'a', 0, 0, 0, b'b', 0]).unwrap(), "\u{fffd}a");
        assert_eq!(utf16(&[0, 0]), None);
    }
}
