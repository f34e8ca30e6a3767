//! From disks to volumes: what lies on what, and under which name.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::mapped::Mapped;
use super::partition::{Partition, Table};
use super::signature::probe;
use super::{Discovery, Disk, Holds, Signature, Volume, gpt, lvm, mbr, md};
use crate::bytes::to_usize;
use crate::image::{Error, ReadAt};

/// Arrays of arrays are looked into this deep.
const ARRAY_DEPTH: usize = 4;
/// Most volumes of one backup.
const VOLUMES_MAX: usize = 8 << 10;

/// What was found so far.
#[derive(Default)]
pub(super) struct Scan {
    found: Discovery,
    names: BTreeSet<String>,
    /// Volumes that are members of arrays, not yet put together.
    members: Vec<md::Member>,
    /// Volumes that are physical volumes of LVM2.
    physical: Vec<lvm::Physical>,
}

/// Where a partitioned device may be looked into.
pub(super) struct Device {
    /// Its name.
    pub(super) name: String,
    /// Its bytes.
    pub(super) image: Arc<dyn ReadAt>,
    /// Its other names.
    pub(super) aliases: Vec<String>,
    /// Images that it is made of.
    pub(super) parts: u64,
}

impl Scan {
    /// Looks at all disks, then at what they form together.
    pub(super) fn run(disks: &[Disk]) -> Discovery {
        let mut scan = Self::default();
        for disk in disks {
            scan.device(Device {
                name: disk.name.clone(),
                image: Arc::clone(&disk.image),
                aliases: Vec::new(),
                parts: 1,
            });
        }
        for _ in 0..ARRAY_DEPTH {
            let members = std::mem::take(&mut scan.members);
            if members.is_empty() {
                break;
            }
            scan.arrays(members);
        }
        let physical = std::mem::take(&mut scan.physical);
        scan.groups(physical);
        scan.found.volumes.sort_by(|a, b| a.name.cmp(&b.name));
        scan.found
    }

    /// Looks at a device that may have partitions: a disk or an array.
    fn device(&mut self, device: Device) {
        let mut sector = [0; 512];
        let readable = device.image.len() < 512 || device.image.read_at(0, &mut sector).is_ok();
        let signature = match probe(&*device.image) {
            Ok(signature) => signature,
            Err(error) => {
                self.problem(format!(
                    "{}: its signature cannot be read: {}",
                    device.name,
                    words(&error)
                ));
                Signature::of(Holds::Unknown)
            }
        };
        match table_of(&device, &sector, signature.holds) {
            Some(table) if !table.partitions.is_empty() => self.partitions(&device, table),
            table => {
                for problem in table.into_iter().flat_map(|table| table.problems) {
                    self.problem(format!("{}: {problem}", device.name));
                }
                let size = device.image.len();
                let whole = volume(device.name, size, device.aliases, Ok(device.image));
                let problem = (!readable).then(|| "its first bytes cannot be read".to_owned());
                let whole = Volume {
                    signature,
                    problem,
                    ..whole
                };
                self.add(whole, device.parts);
            }
        }
    }

    fn partitions(&mut self, device: &Device, table: Table) {
        for (first, second) in table.overlaps() {
            self.problem(format!("{}: partitions {first} and {second} overlap", device.name));
        }
        for problem in &table.problems {
            self.problem(format!("{}: {problem}", device.name));
        }
        for partition in table.partitions {
            self.partition(device, partition);
        }
    }

    fn partition(&mut self, device: &Device, partition: Partition) {
        let name = partition_name(&device.name, partition.number);
        let size = device.image.len();
        let inside = partition.len.min(size.saturating_sub(partition.start));
        let mut volume = Volume {
            data: None,
            size: inside,
            signature: Signature::of(Holds::Unknown),
            part_uuid: partition.uuid,
            part_label: partition.label,
            aliases: device
                .aliases
                .iter()
                .map(|alias| partition_name(alias, partition.number))
                .collect(),
            problem: None,
            name,
        };
        if inside < partition.len {
            let beyond = partition.len.saturating_sub(inside);
            let name = &volume.name;
            self.problem(format!(
                "{name}: {beyond} of its {} bytes lie past the end of {}",
                partition.len, device.name
            ));
        }
        match Mapped::slice(&device.image, partition.start.min(size), inside) {
            Ok(data) if inside > 0 => volume.data = Some(Arc::new(data)),
            _ => volume.problem = Some(format!("it lies past the end of {}", device.name)),
        }
        self.add_probed(volume, device.parts);
    }

    /// Adds a volume after a look at its signature.
    fn add_probed(&mut self, mut volume: Volume, parts: u64) {
        if let Some(data) = &volume.data {
            match probe(&**data) {
                Ok(signature) => volume.signature = signature,
                Err(error) => self.problem(format!(
                    "{}: its signature cannot be read: {}",
                    volume.name,
                    words(&error)
                )),
            }
        }
        self.add(volume, parts);
    }

    /// Adds a volume under its name, or a name like it if that is taken; remembers it if it is a part of something larger.
    fn add(&mut self, mut volume: Volume, parts: u64) {
        if self.found.volumes.len() >= VOLUMES_MAX {
            return;
        }
        volume.name = self.free_name(&volume.name);
        if let Some(data) = &volume.data {
            match volume.signature.holds {
                Holds::RaidMember => self.members.extend(md::Member::open(&volume.name, data, parts)),
                Holds::LvmMember => self.physical.extend(lvm::Physical::open(&volume.name, data, parts)),
                _ => {}
            }
        }
        self.found.volumes.push(volume);
    }

    fn free_name(&mut self, name: &str) -> String {
        let mut free = name.to_owned();
        let mut count = 1_u32;
        while !self.names.insert(free.clone()) {
            count = count.saturating_add(1);
            free = format!("{name}~{count}");
        }
        if count > 1 {
            self.problem(format!("there is more than one {name}; the next is shown as {free}"));
        }
        free
    }

    /// Puts arrays together, and looks at each as at a disk.
    fn arrays(&mut self, members: Vec<md::Member>) {
        for array in md::assemble(members) {
            for problem in array.problems {
                self.problem(format!("{}: {problem}", array.name));
            }
            match array.data {
                Ok(image) => self.device(Device {
                    name: array.name,
                    image,
                    aliases: array.aliases,
                    parts: array.parts,
                }),
                Err(problem) => {
                    let volume = volume(array.name, array.size, array.aliases, Err(problem));
                    self.add(volume, array.parts);
                }
            }
        }
    }

    /// Adds the logical volumes of all volume groups.
    fn groups(&mut self, physical: Vec<lvm::Physical>) {
        let groups = lvm::assemble(physical);
        for problem in groups.problems {
            self.problem(problem);
        }
        for logical in groups.volumes {
            let volume = volume(logical.name, logical.size, logical.aliases, logical.data);
            // Nothing is put together from logical volumes.
            self.add_probed(volume, 1);
        }
    }

    fn problem(&mut self, problem: String) {
        if self.found.problems.len() < VOLUMES_MAX {
            self.found.problems.push(problem);
        }
    }
}

/// A volume that is no partition.
fn volume(name: String, size: u64, aliases: Vec<String>, data: Result<Arc<dyn ReadAt>, String>) -> Volume {
    let (data, problem) = match data {
        Ok(data) => (Some(data), None),
        Err(problem) => (None, Some(problem)),
    };
    Volume {
        name,
        data,
        size,
        signature: Signature::of(Holds::Unknown),
        part_uuid: None,
        part_label: None,
        aliases,
        problem,
    }
}

/// The table of a device, where it counts for more than the signature.
///
/// A table written after a file system leaves most of the file system's signature, and the other way round most of the table goes.
fn table_of(device: &Device, sector: &[u8], holds: Holds) -> Option<Table> {
    let image = &*device.image;
    if holds == Holds::RaidMember {
        return table_around_superblock(image, sector);
    }
    if gpt::is_protected(sector)
        && let Some(table) = gpt::find(image)
    {
        return Some(table);
    }
    let begins_here = matches!(
        holds,
        Holds::Fat | Holds::Ntfs | Holds::Exfat | Holds::Luks | Holds::Xfs
    );
    let kind = if begins_here {
        mbr::FirstSector::OfFileSystem
    } else {
        mbr::FirstSector::Plain
    };
    if !gpt::is_protected(sector)
        && let Some(table) = mbr::find(image, sector, kind)
    {
        return Some(table);
    }
    let unclaimed = matches!(holds, Holds::Nothing | Holds::Unknown | Holds::PartitionTable);
    let mut table = gpt::find(image).filter(|_| unclaimed)?;
    table.problems.push("the protective MBR is missing".to_owned());
    Some(table)
}

/// The table of a disk whose last partition ends with a superblock of version 0.90, which looks like one of the whole disk.
///
/// In an array of whole disks no partition reaches the superblock, because the array ends before it.
fn table_around_superblock(image: &dyn ReadAt, sector: &[u8]) -> Option<Table> {
    let superblock = md::superblock::find(image).ok()??;
    if !superblock.is_told_by_place() {
        return None;
    }
    let table = if gpt::is_protected(sector) {
        gpt::find(image)
    } else {
        mbr::find(image, sector, mbr::FirstSector::OfFileSystem)
    };
    table.filter(|table| {
        let mut ends = table
            .partitions
            .iter()
            .map(|partition| partition.start.saturating_add(partition.len));
        ends.any(|end| end > superblock.data_size && end <= image.len())
    })
}

/// Linux's name of a partition: a `p` goes between a digit and the number.
fn partition_name(device: &str, number: u32) -> String {
    let separator = if device.ends_with(|last: char| last.is_ascii_digit()) {
        "p"
    } else {
        ""
    };
    format!("{device}{separator}{number}")
}

/// An error with its causes.
fn words(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Bytes of a small structure at `offset`; `None` where it ends past the end of the image.
pub(super) fn read_block(image: &dyn ReadAt, offset: u64, len: u64) -> crate::image::Result<Option<Vec<u8>>> {
    if offset.checked_add(len).is_none_or(|end| end > image.len()) {
        return Ok(None);
    }
    let mut block = vec![0; to_usize(len)];
    image.read_at(offset, &mut block)?;
    Ok(Some(block))
}
