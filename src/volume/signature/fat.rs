//! The signature of FAT, which is no more than a parameter block that makes sense.

use crate::bytes::{field, le_u16, le_u32, to_u64, to_usize};
use crate::image::{ReadAt, Result};
use crate::volume::{Holds, Signature, text};

/// Length of an entry of a directory.
const ENTRY_LEN: usize = 32;
/// Bytes of the root directory in which the label is looked for.
const ROOT_LEN_MAX: u64 = 16 << 10;

/// The sizes of the parameter block, by their names in the specification; checked to make sense.
///
/// # Source
/// Microsoft FAT32 File System Specification 1.03, "Boot Sector and BPB Structure".
struct Bpb {
    bytes_per_sec: u64,
    sec_per_clus: u64,
    rsvd_sec_cnt: u64,
    num_fats: u64,
    root_ent_cnt: u64,
    fat_sz16: u64,
    fat_sz32: u64,
    root_clus: u64,
}

impl Bpb {
    fn decode(head: &[u8]) -> Option<Self> {
        let jumps = matches!(head.first()?, 0xe9 | 0xeb);
        let signed = head.get(510..512)? == [0x55, 0xaa];
        let named = head.get(54..57)? == b"FAT" || head.get(82..85)? == b"FAT";
        let media = *head.get(21)?;
        if !(named || jumps && signed) || !(media == 0xf0 || media >= 0xf8) {
            return None;
        }
        let bpb = Self {
            bytes_per_sec: u64::from(le_u16(head, 11)?),
            sec_per_clus: u64::from(*head.get(13)?),
            rsvd_sec_cnt: u64::from(le_u16(head, 14)?),
            num_fats: u64::from(*head.get(16)?),
            root_ent_cnt: u64::from(le_u16(head, 17)?),
            fat_sz16: u64::from(le_u16(head, 22)?),
            fat_sz32: u64::from(le_u32(head, 36)?),
            root_clus: u64::from(le_u32(head, 44)?),
        };
        let sizes = bpb.bytes_per_sec.is_power_of_two() && (512..=4096).contains(&bpb.bytes_per_sec);
        let sound = sizes
            && bpb.sec_per_clus.is_power_of_two()
            && bpb.rsvd_sec_cnt > 0
            && matches!(bpb.num_fats, 1..=4)
            && (bpb.fat_sz16 > 0 || bpb.fat_sz32 > 0);
        sound.then_some(bpb)
    }

    fn is_fat32(&self) -> bool {
        self.fat_sz16 == 0
    }

    /// Where the root directory begins, and how long it is; of FAT32 the first cluster only.
    fn root(&self) -> (u64, u64) {
        let fat_len = if self.is_fat32() { self.fat_sz32 } else { self.fat_sz16 };
        let after_fats = self.num_fats.saturating_mul(fat_len).saturating_add(self.rsvd_sec_cnt);
        if self.is_fat32() {
            let before = self.root_clus.saturating_sub(2).saturating_mul(self.sec_per_clus);
            let len = self.sec_per_clus.saturating_mul(self.bytes_per_sec);
            (
                after_fats.saturating_add(before).saturating_mul(self.bytes_per_sec),
                len,
            )
        } else {
            let len = self.root_ent_cnt.saturating_mul(to_u64(ENTRY_LEN));
            (after_fats.saturating_mul(self.bytes_per_sec), len)
        }
    }
}

/// Decodes the boot sector.
pub(super) fn decode(head: &[u8]) -> Option<Signature> {
    let bpb = Bpb::decode(head)?;
    let (serial_at, label_at) = if bpb.is_fat32() { (67, 71) } else { (39, 43) };
    Some(Signature {
        holds: Holds::Fat,
        uuid: le_u32(head, serial_at).and_then(text::serial),
        label: text::label(head, label_at, 11).filter(|label| label != b"NO NAME"),
    })
}

/// The label in the root directory, which counts for more than the boot sector's.
pub(super) fn root_label(volume: &dyn ReadAt, head: &[u8]) -> Result<Option<Vec<u8>>> {
    const VOLUME_ID: u8 = 0x08;
    const LONG_NAME: u8 = 0x0f;
    let Some((start, len)) = Bpb::decode(head).map(|bpb| bpb.root()) else {
        return Ok(None);
    };
    let len = len.min(ROOT_LEN_MAX).min(volume.len().saturating_sub(start));
    let mut root = vec![0; to_usize(len)];
    volume.read_at(start.min(volume.len()), &mut root)?;
    let mut entries = root.as_chunks::<ENTRY_LEN>().0.iter();
    let found = entries
        .by_ref()
        .take_while(|entry| entry.first() != Some(&0))
        .find(|entry| {
            let attributes = field::<1>(*entry, 11).map_or(0, |[attributes]| attributes);
            let deleted = entry.first() == Some(&0xe5);
            !deleted && attributes & VOLUME_ID != 0 && attributes & LONG_NAME != LONG_NAME
        });
    Ok(found.and_then(|entry| text::label(entry, 0, 11)))
}
