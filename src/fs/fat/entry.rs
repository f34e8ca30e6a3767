//! Directory entries of FAT: the short entry that is the file, and the long-name entries before it. Parsing only.

use super::super::Timestamp;
use super::text::{from_437, from_utf16, lower_437};
use super::time;
use crate::bytes::{field, le_u16, le_u32};

/// Bits of `DIR_Attr`.
pub(crate) mod attribute {
    /// `ATTR_READ_ONLY`.
    pub(crate) const READ_ONLY: u8 = 0x01;
    /// `ATTR_VOLUME_ID`.
    pub(crate) const VOLUME_ID: u8 = 0x08;
    /// `ATTR_DIRECTORY`.
    pub(crate) const DIRECTORY: u8 = 0x10;
    /// `ATTR_LONG_NAME`, after [`LONG_NAME_MASK`].
    pub(crate) const LONG_NAME: u8 = 0x0f;
    /// `ATTR_LONG_NAME_MASK`.
    pub(crate) const LONG_NAME_MASK: u8 = 0x3f;
}

/// What a slot holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    /// Nothing, and so do all slots after it.
    End,
    /// A deleted entry.
    Free,
    /// A piece of a long name.
    Long(LongPiece),
    /// The name of the volume.
    Label(String),
    /// `.` or `..`.
    Dot,
    /// A file or directory.
    File(Entry),
}

/// A piece of a long name.
///
/// # Source
/// Microsoft FAT specification, section 7 "Long File Name Implementation".
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LongPiece {
    /// `LDIR_Ord`: number of the piece from 1, with 0x40 in the last piece, which comes first.
    order: u8,
    /// `LDIR_Chksum` of the short name that it belongs to.
    checksum: u8,
    /// 13 units of UTF-16.
    units: [u16; 13],
}

/// A short entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// `DIR_Name`.
    name: [u8; 11],
    /// `DIR_NTRes`: 0x08 for a base name, 0x10 for an extension in small letters.
    nt_reserved: u8,
    /// `DIR_Attr`.
    attributes: u8,
    /// First cluster; 0 for an empty file. Only FAT32 keeps the upper half.
    pub(crate) first_cluster: u32,
    /// `DIR_FileSize`; 0 for directories.
    pub(crate) size: u32,
    /// Creation; `None` if its date was not kept.
    pub(crate) created: Option<Timestamp>,
    /// Last write.
    pub(crate) modified: Timestamp,
    /// Day of the last access.
    pub(crate) accessed: Timestamp,
}

impl Content {
    /// Decodes a slot.
    pub(crate) fn decode(slot: &[u8; 32]) -> Self {
        let [first, ..] = *slot;
        let [attributes] = field(slot, 11).unwrap_or_default();
        if first == 0 {
            return Self::End;
        }
        if first == 0xe5 {
            return Self::Free;
        }
        if attributes & attribute::LONG_NAME_MASK == attribute::LONG_NAME {
            return LongPiece::decode(slot).map_or(Self::Free, Self::Long);
        }
        if attributes & attribute::VOLUME_ID != 0 {
            let rest = slot.iter().take(11).skip(1);
            let label: String = [unmask(first)].iter().chain(rest).map(|byte| from_437(*byte)).collect();
            return Self::Label(label.trim_end_matches(' ').to_owned());
        }
        match Entry::decode(slot) {
            Some(entry) if entry.name == *b".          " || entry.name == *b"..         " => Self::Dot,
            Some(entry) => Self::File(entry),
            None => Self::Free,
        }
    }
}

impl LongPiece {
    /// Says whether it is the last piece of a name, the one that comes first.
    pub(crate) fn is_last(&self) -> bool {
        self.order & LAST_LONG_ENTRY != 0
    }

    fn decode(slot: &[u8; 32]) -> Option<Self> {
        let [order] = field(slot, 0)?;
        let [kind, checksum] = field(slot, 12)?;
        let places = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];
        let units = places.map(|place| le_u16(slot, place).unwrap_or_default());
        (kind == 0).then_some(Self { order, checksum, units })
    }
}

impl Entry {
    /// # Source
    /// Microsoft FAT specification, section 6 "Directory Structure".
    fn decode(slot: &[u8; 32]) -> Option<Self> {
        let [attributes, nt_reserved, tenths] = field(slot, 11)?;
        let word = |place| le_u16(slot, place).unwrap_or_default();
        let [dir_crt_time, dir_crt_date, dir_lst_acc_date] = [14, 16, 18].map(word);
        let [dir_fst_clus_hi, dir_wrt_time, dir_wrt_date, dir_fst_clus_lo] = [20, 22, 24, 26].map(word);
        Some(Self {
            name: field(slot, 0)?,
            nt_reserved,
            attributes,
            first_cluster: u32::from(dir_fst_clus_hi) << 16 | u32::from(dir_fst_clus_lo),
            size: le_u32(slot, 28)?,
            created: (dir_crt_date != 0).then(|| time::decode(dir_crt_date, dir_crt_time, tenths)),
            modified: time::decode(dir_wrt_date, dir_wrt_time, 0),
            accessed: time::decode(dir_lst_acc_date, 0, 0),
        })
    }

    /// Says whether it is a directory.
    pub(crate) fn is_directory(&self) -> bool {
        self.attributes & attribute::DIRECTORY != 0
    }

    /// Says whether writing is forbidden.
    pub(crate) fn is_read_only(&self) -> bool {
        self.attributes & attribute::READ_ONLY != 0
    }

    /// The short name, with the capital letters of the volume where the flags of Windows NT do not say otherwise.
    pub(crate) fn short_name(&self) -> String {
        let (base, extension) = self.name.split_at(8);
        let mut name = self.part(base, 0x08);
        let extension = self.part(extension, 0x10);
        if !extension.is_empty() {
            name.push('.');
            name.push_str(&extension);
        }
        name
    }

    fn part(&self, bytes: &[u8], small: u8) -> String {
        let len = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        let used = bytes.get(..len).unwrap_or_default();
        let blanks = used.iter().rev().take_while(|byte| **byte == b' ').count();
        let used = used.iter().take(len.saturating_sub(blanks)).enumerate();
        used.map(|(place, byte)| {
            let is_first = place == 0 && small == 0x08;
            let letter = from_437(if is_first { unmask(*byte) } else { *byte });
            if self.nt_reserved & small == 0 {
                letter
            } else {
                lower_437(letter)
            }
        })
        .collect()
    }

    /// The checksum that pieces of its long name carry.
    fn checksum(&self) -> u8 {
        let add = |sum: u8, byte: &u8| sum.rotate_right(1).wrapping_add(*byte);
        self.name.iter().fold(0, add)
    }
}

/// The first byte of a name: 0x05 stands for 0xe5, which would mark the entry as deleted.
fn unmask(byte: u8) -> u8 {
    if byte == 0x05 { 0xe5 } else { byte }
}

/// A long name as its pieces come, the last piece first.
#[derive(Debug, Default)]
pub(crate) struct LongName {
    /// Units in reverse order of pieces: the piece that came last is the beginning of the name.
    pieces: Vec<[u16; 13]>,
    /// Number and checksum of the piece that came last.
    last: Option<(u8, u8)>,
}

/// Mark in `LDIR_Ord` of the last piece.
const LAST_LONG_ENTRY: u8 = 0x40;

/// Most pieces: 255 units.
const MOST_PIECES: u8 = 20;

impl LongName {
    /// Takes a piece; one that does not continue the name throws the name away.
    pub(crate) fn push(&mut self, piece: &LongPiece) {
        let number = piece.order & !LAST_LONG_ENTRY;
        let is_last = piece.is_last();
        let continues = self.last == Some((number.saturating_add(1), piece.checksum));
        if is_last {
            self.clear();
        }
        if number == 0 || number > MOST_PIECES || !(is_last || continues) {
            self.clear();
            return;
        }
        self.pieces.push(piece.units);
        self.last = Some((number, piece.checksum));
    }

    /// Forgets all pieces.
    pub(crate) fn clear(&mut self) {
        self.pieces.clear();
        self.last = None;
    }

    /// Says whether no piece has come.
    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// The name of the entry that follows the pieces; `None` if they are not all there or belong to another one.
    pub(crate) fn finish(&self, entry: &Entry) -> Option<String> {
        if self.last != Some((1, entry.checksum())) {
            return None;
        }
        let units = self.pieces.iter().rev().flatten().copied();
        let name = from_utf16(units.take(255).take_while(|unit| *unit != 0));
        // Such a name would not be shown, and the short one finds the file.
        (!matches!(name.as_str(), "" | "." | "..")).then_some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn short(name: &[u8; 11], nt_reserved: u8) -> Entry {
        let mut slot = [0; 32];
        slot[..11].copy_from_slice(name);
        slot[12] = nt_reserved;
        match Content::decode(&slot) {
            Content::File(entry) => entry,
            other => panic!("{other:?}"),
        }
    }

    fn piece(order: u8, checksum: u8, text: &str) -> LongPiece {
        let mut units = [0xffff; 13];
        for (unit, value) in units.iter_mut().zip(text.encode_utf16().chain([0])) {
            *unit = value;
        }
        LongPiece { order, checksum, units }
    }

    #[test]
    fn short_names_lose_blanks_and_keep_their_case() {
        let cases: [(&[u8; 11], u8, &str); 9] = [
            (b"README  TXT", 0, "README.TXT"),
            (b"README  TXT", 0x08, "readme.TXT"),
            (b"README  TXT", 0x10, "README.txt"),
            (b"README  TXT", 0x18, "readme.txt"),
            (b"MAKEFILE   ", 0x18, "makefile"),
            (b"A B     C D", 0, "A B.C D"),
            (b"\x05BC        ", 0, "σBC"),
            (b"\x80\x90     \x81   ", 0x08, "çé     ü"),
            (b"A\0C     X\0Z", 0, "A.X"),
        ];
        for (name, flags, text) in cases {
            assert_eq!(short(name, flags).short_name(), text, "{name:?}");
        }
    }

    #[test]
    fn a_long_name_needs_all_pieces_in_order_and_the_checksum() {
        let entry = short(b"LONGFI~1TXT", 0);
        let sum = entry.checksum();
        let finish = |pieces: &[LongPiece]| {
            let mut name = LongName::default();
            pieces.iter().for_each(|piece| name.push(piece));
            name.finish(&entry)
        };
        let [first, second] = [piece(1, sum, "a long name, "), piece(0x42, sum, "and more")];
        assert_eq!(
            finish(&[second.clone(), first.clone()]).as_deref(),
            Some("a long name, and more")
        );
        assert_eq!(finish(&[piece(0x41, sum, "short")]).as_deref(), Some("short"));
        let lies: [&[LongPiece]; 10] = [
            &[],
            std::slice::from_ref(&first),
            std::slice::from_ref(&second),
            &[first.clone(), second.clone()],
            &[piece(0x43, sum, "x"), first.clone()],
            &[second.clone(), first.clone(), first.clone()],
            &[second.clone(), piece(1, sum ^ 1, "x")],
            &[piece(0x42, sum ^ 1, "x"), piece(1, sum ^ 1, "y")],
            &[piece(0x40, sum, "x")],
            &[piece(0x41, sum, "..")],
        ];
        for (number, lie) in lies.iter().enumerate() {
            assert_eq!(finish(lie), None, "{number}");
        }
    }

    #[test]
    fn the_number_of_pieces_is_bounded() {
        let entry = short(b"LONGFI~1TXT", 0);
        let mut name = LongName::default();
        for order in (1..=63).rev() {
            let mark = if order == 63 { LAST_LONG_ENTRY } else { 0 };
            name.push(&piece(order | mark, entry.checksum(), "abcdefghijklm"));
        }
        assert_eq!(name.finish(&entry), None);
    }
}
