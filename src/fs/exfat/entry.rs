//! Directory entry sets of exFAT: a file's entry with its stream extension and its name. Parsing only.

use super::super::Timestamp;
use super::super::fat::{text, time};
use crate::bytes::{field, le_u16, le_u32, le_u64};

/// Values of `EntryType`.
pub(crate) mod entry_type {
    /// The end of the directory.
    pub(crate) const END: u8 = 0x00;
    /// Up-case Table.
    pub(crate) const UPCASE: u8 = 0x82;
    /// Volume Label.
    pub(crate) const LABEL: u8 = 0x83;
    /// File.
    pub(crate) const FILE: u8 = 0x85;
    /// Stream Extension.
    pub(crate) const STREAM: u8 = 0xc0;
    /// File Name.
    pub(crate) const NAME: u8 = 0xc1;
}

/// A slot of a directory.
pub(crate) type Bytes = [u8; 32];

/// Secondary entries that a file may have.
pub(crate) const SECONDARY: std::ops::RangeInclusive<u8> = 2..=18;

/// Bits of `EntryType` that a secondary entry in use has.
const SECONDARY_IN_USE: u8 = 0xc0;

/// A file's entry set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EntrySet {
    /// `FileAttributes`.
    attributes: u16,
    /// The name as far as it is there; may be empty.
    pub(crate) name: String,
    /// `NoFatChain`: the clusters follow each other, and the table says nothing of them.
    pub(crate) is_contiguous: bool,
    /// `FirstCluster`; 0 if there is none.
    pub(crate) first_cluster: u32,
    /// `ValidDataLength`, at most `size`: what follows was never written.
    pub(crate) valid: u64,
    /// `DataLength`.
    pub(crate) size: u64,
    /// Creation.
    pub(crate) created: Timestamp,
    /// Last write.
    pub(crate) modified: Timestamp,
    /// Last access.
    pub(crate) accessed: Timestamp,
    /// Says whether all is there and has the right checksum.
    pub(crate) is_sound: bool,
}

/// Says whether a slot holds a secondary entry in use.
pub(crate) fn is_secondary(slot: &Bytes) -> bool {
    let [entry_type, ..] = slot;
    entry_type & SECONDARY_IN_USE == SECONDARY_IN_USE
}

/// `SecondaryCount` of a File entry; `None` if the slot holds none.
pub(crate) fn secondary_count(slot: &Bytes) -> Option<u8> {
    let [entry_type, secondary_count, ..] = *slot;
    (entry_type == entry_type::FILE).then_some(secondary_count)
}

impl EntrySet {
    /// Decodes a set whose first slot holds a File entry; what is not there is empty or zero.
    ///
    /// # Source
    /// exFAT specification, sections 7.4 "File Directory Entry", 7.6 "Stream Extension Directory Entry" and 7.7 "File Name Directory
    /// Entry".
    pub(crate) fn decode(set: &[Bytes]) -> Option<Self> {
        let (file, secondary) = set.split_first()?;
        let count = secondary_count(file)?;
        let set_checksum = le_u16(file, 2)?;
        let [create, last_modified, last_accessed] = [le_u32(file, 8)?, le_u32(file, 12)?, le_u32(file, 16)?];
        let [
            create_10ms,
            last_modified_10ms,
            create_offset,
            last_modified_offset,
            last_accessed_offset,
        ] = field(file, 20)?;
        let nothing = [0; 32];
        let (stream, names) = match secondary.split_first() {
            Some((stream, names)) if stream.first() == Some(&entry_type::STREAM) => (stream, names),
            _ => (&nothing, secondary),
        };
        let [general_secondary_flags, _, name_length] = field(stream, 1)?;
        let data_length = le_u64(stream, 24)?;
        let name = units(names, usize::from(name_length));
        Some(Self {
            attributes: le_u16(file, 4)?,
            is_contiguous: general_secondary_flags & 2 != 0,
            first_cluster: le_u32(stream, 20)?,
            valid: le_u64(stream, 8)?.min(data_length),
            size: data_length,
            created: timestamp(create, create_10ms, create_offset),
            modified: timestamp(last_modified, last_modified_10ms, last_modified_offset),
            accessed: timestamp(last_accessed, 0, last_accessed_offset),
            is_sound: SECONDARY.contains(&count)
                && secondary.len() == usize::from(count)
                && stream != &nothing
                && name_length > 0
                && name.len() == usize::from(name_length)
                && checksum(set) == set_checksum,
            name: text::from_utf16(name.into_iter()),
        })
    }

    /// Says whether it is a directory.
    pub(crate) fn is_directory(&self) -> bool {
        self.attributes & 0x10 != 0
    }

    /// Says whether writing is forbidden.
    pub(crate) fn is_read_only(&self) -> bool {
        self.attributes & 0x01 != 0
    }
}

/// The first `len` units of the names of a set.
fn units(names: &[Bytes], len: usize) -> Vec<u16> {
    let names = names.iter().take_while(|slot| slot.first() == Some(&entry_type::NAME));
    let units = names.flat_map(|slot| (2..32).step_by(2).filter_map(|place| le_u16(slot, place)));
    units.take(len).collect()
}

/// The checksum of a set, without the field that holds it.
///
/// # Source
/// exFAT specification, section 6.3.3 "SetChecksum Field".
fn checksum(set: &[Bytes]) -> u16 {
    let bytes = set.iter().flatten().enumerate();
    let bytes = bytes.filter(|(place, _)| !matches!(place, 2 | 3));
    bytes.fold(0, |sum: u16, (_, byte)| {
        sum.rotate_right(1).wrapping_add(u16::from(*byte))
    })
}

/// A time with its zone: a signed number of quarters of an hour before UTC in seven bits, if the eighth says that it was kept. Without
/// it the time counts as UTC, as Linux takes it on a machine whose clock is in UTC.
///
/// # Source
/// exFAT specification, sections 7.4.8 "Timestamp Fields" and 7.4.10 "UtcOffset Fields".
fn timestamp(packed: u32, hundredths: u8, utc_offset: u8) -> Timestamp {
    let [time_low, time_high, date_low, date_high] = packed.to_le_bytes();
    let local = time::decode(
        u16::from_le_bytes([date_low, date_high]),
        u16::from_le_bytes([time_low, time_high]),
        hundredths,
    );
    let quarters = i64::from(utc_offset & 0x7f);
    let quarters = if quarters < 64 { quarters } else { quarters - 128 };
    let is_kept = utc_offset & 0x80 != 0;
    Timestamp {
        seconds: local.seconds - if is_kept { quarters * 900 } else { 0 },
        ..local
    }
}

/// The name of a volume, from its Volume Label entry.
///
/// # Source
/// exFAT specification, section 7.3 "Volume Label Directory Entry".
pub(crate) fn label(slot: &Bytes) -> Option<String> {
    let [entry_type, character_count, ..] = *slot;
    let units = (2..24).step_by(2).filter_map(|place| le_u16(slot, place));
    let units = units.take(usize::from(character_count));
    (entry_type == entry_type::LABEL).then(|| text::from_utf16(units))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_from_utc_are_quarters_of_an_hour_with_a_sign() {
        let date = 46 << 25 | 11 << 21 | 21 << 16;
        let at = |offset| timestamp(date, 150, offset).seconds - 1_795_219_200;
        assert_eq!([at(0), at(0x80), at(0x84), at(0x04)], [1, 1, 1 - 3600, 1]);
        assert_eq!([at(0x80 | 0x7c), at(0xff)], [1 + 3600, 1 + 900]);
        assert_eq!(timestamp(date, 150, 0).nanos, 500_000_000);
    }
}
