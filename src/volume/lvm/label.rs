//! The label of a physical volume: who it is, and where its metadata and its extents lie.

use crate::bytes::{le_u32, le_u64, to_u64, to_usize};
use crate::volume::crc;
use crate::volume::{Holds, Signature};

/// The label is in one of this many first sectors.
const LABEL_SECTORS: usize = 4;
const SECTOR: usize = 512;
/// LVM2 starts its CRC-32 from this remainder and inverts nothing.
const CRC_START: u32 = 0xf597_a6cf;
/// Most areas of one kind that a header may list.
const AREAS_MAX: usize = 16;

/// A range of the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::volume) struct Area {
    /// First byte.
    pub(in crate::volume) offset: u64,
    /// Bytes.
    pub(in crate::volume) size: u64,
}

/// A label whose checksum is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::volume) struct Label {
    /// Who it is: 32 characters with dashes, as LVM2 writes them.
    pub(in crate::volume) uuid: String,
    /// Where the volume group's metadata lies.
    pub(in crate::volume) metadata: Vec<Area>,
}

impl Label {
    /// What it says of the volume.
    pub(in crate::volume) fn signature(&self) -> Signature {
        Signature {
            uuid: Some(self.uuid.clone()),
            ..Signature::of(Holds::LvmMember)
        }
    }
}

/// LVM2's checksum.
pub(in crate::volume) fn checksum(data: &[u8]) -> u32 {
    crc::update(CRC_START, data)
}

/// Finds the label in the first sectors of a volume.
///
/// # Source
/// lvm2 lib/label/label.h `struct label_header`, lib/format_text/layout.h `struct pv_header`.
pub(in crate::volume) fn decode(head: &[u8]) -> Option<Label> {
    head.chunks_exact(SECTOR)
        .take(LABEL_SECTORS)
        .zip(0_u64..)
        .find_map(|(sector, number)| decode_sector(sector, number))
}

fn decode_sector(sector: &[u8], number: u64) -> Option<Label> {
    if !sector.starts_with(b"LABELONE") || sector.get(24..32)? != b"LVM2 001" {
        return None;
    }
    let sector_xl = le_u64(sector, 8)?;
    let crc_xl = le_u32(sector, 16)?;
    if sector_xl != number || crc_xl != checksum(sector.get(20..)?) {
        return None;
    }
    let header = sector.get(to_usize(u64::from(le_u32(sector, 20)?))..)?;
    let uuid = uuid_text(header.get(..32)?)?;
    // Two lists of areas, each ended by zeros: where the extents lie, and where the metadata does.
    let lists = header.get(40..)?;
    let (_, skipped) = areas(lists)?;
    let (metadata, _) = areas(lists.get(skipped..)?)?;
    Some(Label { uuid, metadata })
}

/// Decodes a list of areas, and tells how long it is.
fn areas(data: &[u8]) -> Option<(Vec<Area>, usize)> {
    let mut list = Vec::new();
    for (pair, number) in data.chunks_exact(16).zip(1_u64..) {
        let (offset, size) = (le_u64(pair, 0)?, le_u64(pair, 8)?);
        if offset == 0 {
            return Some((list, to_usize(number.checked_mul(16)?)));
        }
        if list.len() >= AREAS_MAX {
            return None;
        }
        list.push(Area { offset, size });
    }
    None
}

/// LVM2's text of a UUID: 32 letters and digits in groups of 6, 4, 4, 4, 4, 4, 6.
fn uuid_text(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    if !text
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'!' || byte == b'#')
    {
        return None;
    }
    let mut dashed = String::with_capacity(38);
    for (character, index) in text.chars().zip(0_u64..) {
        if matches!(index, 6 | 10 | 14 | 18 | 22 | 26) {
            dashed.push('-');
        }
        dashed.push(character);
    }
    (to_u64(dashed.len()) == 38).then_some(dashed)
}
