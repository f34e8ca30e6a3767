//! CRC-32 as GPT and LVM2 use it.

/// The reflected polynomial of IEEE 802.3.
const POLYNOMIAL: u32 = 0xedb8_8320;

const TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut rest: &mut [u32] = &mut table;
    let mut index = 0;
    while let Some((entry, later)) = rest.split_first_mut() {
        let mut value: u32 = index;
        let mut bit = 0;
        while bit < 8 {
            value = (value >> 1) ^ if value & 1 == 1 { POLYNOMIAL } else { 0 };
            bit += 1;
        }
        *entry = value;
        rest = later;
        index += 1;
    }
    table
}

/// Goes on with a remainder over `data`; nothing is inverted before or after.
pub(super) fn update(remainder: u32, data: &[u8]) -> u32 {
    data.iter().fold(remainder, |value, byte| {
        let [low, ..] = value.to_le_bytes();
        let entry = TABLE.get(usize::from(low ^ byte)).copied().unwrap_or_default();
        (value >> 8) ^ entry
    })
}

/// The usual CRC-32, as zlib has it.
pub(super) fn crc32(data: &[u8]) -> u32 {
    !update(!0, data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_of_the_catalogue_comes_out() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b""), 0);
    }
}
