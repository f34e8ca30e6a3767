//! GUID partition tables: the header, its copy at the end of the disk, and the entries.

use super::crc::crc32;
use super::partition::{Partition, Table};
use super::text;
use crate::bytes::{le_u32, le_u64, to_usize};
use crate::image::ReadAt;

/// First bytes of a header.
const SIGNATURE: &[u8] = b"EFI PART";
/// Length of the fields that every header has.
const HEADER_LEN: usize = 92;
/// Most entries that a table may have; tools make 128.
const ENTRIES_MAX: u32 = 1024;
/// Longest entry; tools make 128 bytes.
const ENTRY_LEN_MAX: u32 = 4096;
/// Longest array of entries that is read.
const ARRAY_LEN_MAX: u64 = 1 << 20;
/// Sizes of a sector, the usual one first.
const SECTORS: [u64; 2] = [512, 4096];

/// A header whose checksum is right and whose sizes are bounded.
///
/// # Source
/// UEFI specification 2.10, section 5.3.2, `EFI_PARTITION_TABLE_HEADER`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    alternate_lba: u64,
    partition_entry_lba: u64,
    number_of_partition_entries: u32,
    size_of_partition_entry: u32,
    partition_entry_array_crc32: u32,
}

/// A header and the entries it leads to, both as their checksums say.
struct Copy {
    header: Header,
    entries: Vec<u8>,
}

/// Finds a table. `None` if neither end of the disk has a trace of one.
pub(super) fn find(image: &dyn ReadAt) -> Option<Table> {
    let mut damage = Vec::new();
    for sector in SECTORS {
        let primary = load(image, sector, 1);
        let backup_lba = match &primary {
            Ok(copy) => Some(copy.header.alternate_lba),
            Err(_) => last_lba(image, sector),
        };
        let backup = backup_lba
            .ok_or_else(|| "is not on the disk".to_owned())
            .and_then(|lba| load(image, sector, lba));
        match (primary, backup) {
            (Ok(primary), backup) => {
                let problem = match backup {
                    Ok(backup) if backup.entries == primary.entries => None,
                    Ok(_) => Some("the backup GPT differs from the primary GPT, which is used".to_owned()),
                    Err(why) => Some(format!("the backup GPT {why}")),
                };
                return Some(table(&primary, sector, problem));
            }
            (Err(why), Ok(backup)) => {
                let problem = format!("the primary GPT {why}; its backup is used");
                return Some(table(&backup, sector, Some(problem)));
            }
            (Err(first), Err(second)) if first != NO_SIGNATURE || second != NO_SIGNATURE => {
                damage.push(format!("the primary GPT {first}, and its backup {second}"));
            }
            _ => {}
        }
    }
    damage.into_iter().next().map(|problem| Table {
        partitions: Vec::new(),
        problems: vec![problem],
    })
}

const NO_SIGNATURE: &str = "has no signature";

fn last_lba(image: &dyn ReadAt, sector: u64) -> Option<u64> {
    (image.len() / sector).checked_sub(1).filter(|lba| *lba > 1)
}

/// Reads and checks the header at `lba` and its entries; an error goes on from "the primary GPT".
fn load(image: &dyn ReadAt, sector: u64, lba: u64) -> Result<Copy, String> {
    let offset = lba.checked_mul(sector).ok_or("is not on the disk")?;
    let mut block = vec![0; to_usize(sector)];
    read(image, offset, &mut block)?;
    let header = decode_header(&block, lba)?;
    let len = u64::from(header.number_of_partition_entries).saturating_mul(u64::from(header.size_of_partition_entry));
    if len > ARRAY_LEN_MAX {
        return Err("claims more entries than a table can have".to_owned());
    }
    let offset = header.partition_entry_lba.checked_mul(sector);
    let mut entries = vec![0; to_usize(len)];
    read(
        image,
        offset.ok_or("has its entries outside of the disk")?,
        &mut entries,
    )?;
    if crc32(&entries) != header.partition_entry_array_crc32 {
        return Err("has entries that fail their checksum".to_owned());
    }
    Ok(Copy { header, entries })
}

fn read(image: &dyn ReadAt, offset: u64, buf: &mut [u8]) -> Result<(), String> {
    image
        .read_at(offset, buf)
        .map_err(|error| format!("cannot be read: {error}"))
}

/// Decodes the header in its sector.
fn decode_header(block: &[u8], lba: u64) -> Result<Header, String> {
    if !block.starts_with(SIGNATURE) {
        return Err(NO_SIGNATURE.to_owned());
    }
    let fields = || {
        let header_size = to_usize(u64::from(le_u32(block, 12)?));
        let header_crc32 = le_u32(block, 16)?;
        let mut covered = block.get(..header_size).filter(|_| header_size >= HEADER_LEN)?.to_vec();
        covered.get_mut(16..20)?.fill(0);
        let my_lba = le_u64(block, 24)?;
        let header = Header {
            alternate_lba: le_u64(block, 32)?,
            partition_entry_lba: le_u64(block, 72)?,
            number_of_partition_entries: le_u32(block, 80)?,
            size_of_partition_entry: le_u32(block, 84)?,
            partition_entry_array_crc32: le_u32(block, 88)?,
        };
        Some((header, my_lba, crc32(&covered) == header_crc32))
    };
    let (header, my_lba, sound) = fields().ok_or("has a header of a wrong size")?;
    if !sound {
        return Err("has a header that fails its checksum".to_owned());
    }
    if my_lba != lba {
        return Err("has a header that belongs elsewhere".to_owned());
    }
    let size = header.size_of_partition_entry;
    if !(128..=ENTRY_LEN_MAX).contains(&size) || !size.is_power_of_two() {
        return Err(format!("has entries of {size} bytes"));
    }
    if header.number_of_partition_entries > ENTRIES_MAX {
        return Err(format!("claims {} entries", header.number_of_partition_entries));
    }
    Ok(header)
}

/// The partitions of a checked copy. Linux numbers them by the place of their entry.
fn table(copy: &Copy, sector: u64, problem: Option<String>) -> Table {
    let mut table = Table {
        partitions: Vec::new(),
        problems: problem.into_iter().collect(),
    };
    let len = to_usize(u64::from(copy.header.size_of_partition_entry)).max(128);
    for (entry, number) in copy.entries.chunks_exact(len).zip(1_u32..) {
        match decode_entry(entry, number, sector) {
            Ok(Some(partition)) => table.partitions.push(partition),
            Ok(None) => {}
            Err(why) => table.problems.push(format!("partition {number} {why}")),
        }
    }
    table
}

/// Decodes an entry; `None` if it is not used.
///
/// # Source
/// UEFI specification 2.10, section 5.3.3, `EFI_PARTITION_ENTRY`.
fn decode_entry(entry: &[u8], number: u32, sector: u64) -> Result<Option<Partition>, &'static str> {
    if text::guid(entry, 0).is_none() {
        return Ok(None);
    }
    let lbas = le_u64(entry, 32).zip(le_u64(entry, 40));
    let (starting_lba, ending_lba) = lbas.ok_or("has a short entry")?;
    let sectors = ending_lba
        .checked_sub(starting_lba)
        .and_then(|count| count.checked_add(1));
    let bytes = |count: u64| count.checked_mul(sector).ok_or("lies beyond 64 bits");
    Ok(Some(Partition {
        number,
        start: bytes(starting_lba)?,
        len: bytes(sectors.ok_or("ends before it starts")?)?,
        uuid: text::guid(entry, 16),
        label: entry.get(56..128).and_then(text::utf16),
    }))
}

/// Says whether the first sector marks the whole disk as GPT's.
///
/// # Source
/// UEFI specification 2.10, section 5.2.3, protective MBR.
pub(super) fn is_protected(sector: &[u8]) -> bool {
    sector.get(510..512) == Some(&[0x55, 0xaa])
        && (0..4_usize).any(|entry| sector.get(entry.saturating_mul(16).saturating_add(450)) == Some(&0xee))
}

/// Says whether the head of a volume has a header where 512-byte sectors put it.
pub(super) fn is_header(head: &[u8]) -> bool {
    head.get(512..).is_some_and(|rest| rest.starts_with(SIGNATURE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_no_table_has_are_refused_though_the_checksum_is_right() {
        let header = |count: u32, size: u32| {
            let mut block = vec![0; 512];
            block[..8].copy_from_slice(SIGNATURE);
            block[12..16].copy_from_slice(&92_u32.to_le_bytes());
            block[24] = 1;
            block[80..84].copy_from_slice(&count.to_le_bytes());
            block[84..88].copy_from_slice(&size.to_le_bytes());
            let crc = crc32(&block[..92]);
            block[16..20].copy_from_slice(&crc.to_le_bytes());
            block
        };
        assert!(decode_header(&header(128, 128), 1).is_ok());
        assert!(decode_header(&header(128, 128), 2).is_err());
        for (count, size) in [
            (u32::MAX, 128),
            (1025, 128),
            (128, 0),
            (128, 64),
            (128, 129),
            (128, 8192),
        ] {
            assert!(
                decode_header(&header(count, size), 1).is_err(),
                "{count} entries of {size}"
            );
        }
    }
}
