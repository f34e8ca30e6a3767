//! DOS partition tables: four entries in the first sector, and the chain of extended boot records.

use super::partition::{Partition, Table};
use crate::bytes::{field, le_u32};
use crate::image::ReadAt;

/// The table counts in these, whatever the disk's sectors are: nearly all that are met do.
const SECTOR: u64 = 512;
/// Most records of logical partitions, so that every chain ends.
const RECORDS_MAX: usize = 256;
/// First number of a logical partition.
const FIRST_LOGICAL: u32 = 5;

/// An entry of a table, by its fields on the disk.
///
/// # Source
/// UEFI specification 2.10, section 5.2.1, legacy MBR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    boot_indicator: u8,
    os_type: u8,
    starting_lba: u64,
    size_in_lba: u64,
}

impl Entry {
    fn is_used(&self) -> bool {
        self.os_type != 0 && self.size_in_lba != 0
    }

    fn is_extended(&self) -> bool {
        matches!(self.os_type, 0x05 | 0x0f | 0x85)
    }
}

/// Decodes the table of a sector; `None` if the sector has no signature or an entry is impossible.
fn entries(sector: &[u8]) -> Option<[Entry; 4]> {
    if sector.get(510..512)? != [0x55, 0xaa] {
        return None;
    }
    let entry = |at: usize| {
        let entry = Entry {
            boot_indicator: *sector.get(at)?,
            os_type: *sector.get(at.checked_add(4)?)?,
            starting_lba: u64::from(le_u32(sector, at.checked_add(8)?)?),
            size_in_lba: u64::from(le_u32(sector, at.checked_add(12)?)?),
        };
        // Code of a boot sector where entries would be shows here.
        (entry.boot_indicator & 0x7f == 0).then_some(entry)
    };
    Some([entry(446)?, entry(462)?, entry(478)?, entry(494)?])
}

/// Finds a table with partitions; `None` if the first sector has none.
///
/// In a sector that begins a file system, every entry has to lie on the disk: it may be code.
pub(super) fn find(image: &dyn ReadAt, sector: &[u8], kind: FirstSector) -> Option<Table> {
    let entries = entries(sector)?;
    let mut used = entries.iter().filter(|entry| entry.is_used());
    if !used.clone().any(|entry| entry.starting_lba > 0) {
        return None;
    }
    let sectors = image.len() / SECTOR;
    let fits = |entry: &Entry| {
        let end = entry.starting_lba.saturating_add(entry.size_in_lba);
        entry.starting_lba > 0 && end <= sectors
    };
    if kind == FirstSector::OfFileSystem && !used.all(fits) {
        return None;
    }
    let mut table = Table::default();
    let id = le_u32(sector, 440)?;
    for (entry, number) in entries.iter().zip(1_u32..).filter(|(entry, _)| entry.is_used()) {
        if entry.is_extended() {
            logical(image, entry, id, &mut table);
        } else {
            table
                .partitions
                .push(partition(number, entry.starting_lba, entry.size_in_lba, id));
        }
    }
    table.partitions.sort_by_key(|partition| partition.number);
    Some(table)
}

/// What is known of the sector that may hold a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FirstSector {
    /// Nothing.
    Plain,
    /// It has the signature of a file system that begins there, as FAT and NTFS do.
    OfFileSystem,
}

fn partition(number: u32, start: u64, sectors: u64, id: u32) -> Partition {
    Partition {
        number,
        start: start.saturating_mul(SECTOR),
        len: sectors.saturating_mul(SECTOR),
        uuid: (id != 0).then(|| format!("{id:08x}-{number:02x}")),
        label: None,
    }
}

/// Follows the chain that begins at an extended partition: each record has one logical partition, and a link to the next.
///
/// Links count from the start of the extended partition, logical partitions from their record. A record that was seen ends the chain.
fn logical(image: &dyn ReadAt, extended: &Entry, id: u32, table: &mut Table) {
    let mut seen = Vec::new();
    let mut number = FIRST_LOGICAL;
    let mut next = Some(extended.starting_lba);
    while let Some(record) = next.take() {
        let entries = if seen.contains(&record) {
            Err("comes back to itself".to_owned())
        } else if seen.len() >= RECORDS_MAX {
            Err(format!("has more than {RECORDS_MAX} records"))
        } else {
            seen.push(record);
            load(image, record)
        };
        let entries = match entries {
            Ok(entries) => entries,
            Err(why) => return table.problems.push(format!("the chain of logical partitions {why}")),
        };
        for entry in entries.iter().filter(|entry| entry.is_used()) {
            if entry.is_extended() {
                next = next.or(Some(extended.starting_lba.saturating_add(entry.starting_lba)));
            } else {
                let start = record.saturating_add(entry.starting_lba);
                table.partitions.push(partition(number, start, entry.size_in_lba, id));
                number = number.saturating_add(1);
            }
        }
    }
}

/// Reads an extended boot record; an error goes on from "the chain".
fn load(image: &dyn ReadAt, record: u64) -> Result<[Entry; 4], String> {
    let mut sector = [0; 512];
    image
        .read_at(record.saturating_mul(SECTOR), &mut sector)
        .map_err(|error| format!("cannot be read: {error}"))?;
    entries(&sector).ok_or_else(|| format!("leads to sector {record}, which has no record"))
}

/// Says whether the sector has the fields of a table at all: signature and possible entries, used or not.
pub(super) fn is_table(sector: &[u8]) -> bool {
    entries(sector).is_some() && field::<4>(sector, 440).is_some()
}
