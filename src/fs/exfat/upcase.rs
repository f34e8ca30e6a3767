//! The up-case table of an exFAT volume: which characters are the same to it in names.

use super::boot::add;

/// Capital letters of the characters of 16 bits.
pub(crate) struct Upcase {
    /// One for each; empty if only ASCII is known.
    table: Vec<u16>,
}

/// Most bytes that a table has on the volume: two for each character of 16 bits.
pub(crate) const MOST_BYTES: u64 = 128 << 10;

impl Upcase {
    /// The table for volumes that have no sound one.
    pub(crate) fn ascii() -> Self {
        Self { table: Vec::new() }
    }

    /// Decodes a table: values in the order of characters, in which 0xffff and a count stand for so many characters that are their own
    /// capital letters. `None` if the checksum is wrong.
    ///
    /// # Source
    /// exFAT specification, section 7.2 "Up-case Table Directory Entry".
    pub(crate) fn decode(bytes: &[u8], checksum: u32) -> Option<Self> {
        if bytes.iter().fold(0, |sum, byte| add(sum, *byte)) != checksum {
            return None;
        }
        let mut table: Vec<u16> = (0..=u16::MAX).collect();
        let mut values = bytes.as_chunks::<2>().0.iter().map(|value| u16::from_le_bytes(*value));
        let mut letter = 0_usize;
        while let Some(value) = values.next() {
            let step = if value == 0xffff {
                // At the very end it is the capital letter of 0xffff.
                usize::from(values.next().unwrap_or(1))
            } else {
                *table.get_mut(letter)? = value;
                1
            };
            letter = letter.checked_add(step)?;
        }
        Some(Self { table })
    }

    /// The capital letter of a character; itself if there is none.
    pub(crate) fn upper(&self, letter: char) -> char {
        if letter.is_ascii() && self.table.is_empty() {
            return letter.to_ascii_uppercase();
        }
        let place = usize::try_from(u32::from(letter)).ok();
        let upper = place.and_then(|place| self.table.get(place));
        upper
            .and_then(|upper| char::from_u32(u32::from(*upper)))
            .unwrap_or(letter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(values: &[u16]) -> Option<Upcase> {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Upcase::decode(&bytes, bytes.iter().fold(0, |sum, byte| add(sum, *byte)))
    }

    #[test]
    fn runs_are_skipped_and_values_taken() {
        let upcase = decode(&[0xffff, 0x61, 0x41, 0x42]).unwrap();
        assert_eq!(
            ['a', 'b', 'c', 'A', 'é', '😀'].map(|letter| upcase.upper(letter)),
            ['A', 'B', 'c', 'A', 'é', '😀']
        );
        assert_eq!(Upcase::ascii().upper('z'), 'Z');
    }

    #[test]
    fn tables_that_lie_are_refused_or_do_not_matter() {
        assert!(Upcase::decode(&[0, 0], 1).is_none());
        assert!(decode(&[0xffff, 0xffff, 1, 2]).is_none());
        assert_eq!(decode(&[0xffff, 0x61, 0xd800]).unwrap().upper('a'), 'a');
        assert_eq!(decode(&[0xffff]).unwrap().upper('a'), 'a');
    }
}
