//! A FAT image as bytes that a test edits: the table and directory entries, by what the test itself reads in the boot sector.

use std::ops::Range;

/// An image in memory.
pub struct Raw {
    pub bytes: Vec<u8>,
    /// Bits of a table's entry.
    width: u32,
}

impl Raw {
    pub fn new(bytes: Vec<u8>, width: u32) -> Self {
        Self { bytes, width }
    }

    fn u16(&self, at: usize) -> usize {
        usize::from(u16::from_le_bytes([self.bytes[at], self.bytes[at + 1]]))
    }

    fn sector(&self) -> usize {
        self.u16(11)
    }

    /// Where the first table begins, and its length.
    pub fn table(&self) -> (usize, usize) {
        let sectors = match self.u16(22) {
            0 => self.u16(36) | self.u16(38) << 16,
            short => short,
        };
        (self.u16(14) * self.sector(), sectors * self.sector())
    }

    /// Where the root directory of FAT12 and FAT16 begins; for FAT32 where the clusters do.
    pub fn root(&self) -> usize {
        let (start, len) = self.table();
        start + usize::from(self.bytes[16]) * len
    }

    fn heap(&self) -> usize {
        self.root() + (self.u16(17) * 32).div_ceil(self.sector()) * self.sector()
    }

    pub fn cluster_size(&self) -> usize {
        usize::from(self.bytes[13]) * self.sector()
    }

    pub fn cluster(&self, number: u32) -> usize {
        self.heap() + (number as usize - 2) * self.cluster_size()
    }

    /// What the test mutates: boot sectors, the first table, and the first clusters, in which the directories lie.
    pub fn metadata(&self) -> Vec<Range<usize>> {
        let (start, len) = self.table();
        let heap = self.heap();
        let first = heap..heap + 40 * self.cluster_size();
        vec![
            0..512,
            start..start + len.min(256),
            self.root()..self.root() + 512,
            first.clone(),
            first,
        ]
    }

    /// Sets the entry of a cluster in all tables.
    pub fn link(&mut self, cluster: u32, value: u32) {
        let (start, len) = self.table();
        for table in 0..usize::from(self.bytes[16]) {
            self.link_in(start + table * len, cluster as usize, value);
        }
    }

    fn link_in(&mut self, start: usize, cluster: usize, value: u32) {
        match self.width {
            12 => {
                let at = start + cluster * 3 / 2;
                let (old, value) = (self.u16(at), value as usize & 0xfff);
                let new = if cluster.is_multiple_of(2) {
                    old & 0xf000 | value
                } else {
                    old & 0xf | value << 4
                };
                self.bytes[at..at + 2].copy_from_slice(&(new as u16).to_le_bytes());
            }
            16 => self.bytes[start + cluster * 2..][..2].copy_from_slice(&(value as u16).to_le_bytes()),
            _ => self.bytes[start + cluster * 4..][..4].copy_from_slice(&value.to_le_bytes()),
        }
    }

    /// Byte of the short entry with these 11 bytes as name; the only one.
    pub fn entry(&self, name: &[u8; 11]) -> usize {
        let slots = self.bytes.chunks_exact(32).enumerate();
        let found: Vec<usize> = slots
            .filter(|(_, slot)| &slot[..11] == name)
            .map(|(number, _)| number * 32)
            .collect();
        assert_eq!(found.len(), 1, "{name:?}");
        found[0]
    }

    /// First cluster of the file at byte `entry`.
    pub fn first_cluster(&self, entry: usize) -> u32 {
        let high = if self.width == 32 { self.u16(entry + 20) } else { 0 };
        (self.u16(entry + 26) | high << 16) as u32
    }

    pub fn set_first_cluster(&mut self, entry: usize, cluster: u32) {
        self.bytes[entry + 26..][..2].copy_from_slice(&(cluster as u16).to_le_bytes());
        if self.width == 32 {
            self.bytes[entry + 20..][..2].copy_from_slice(&((cluster >> 16) as u16).to_le_bytes());
        }
    }

    pub fn set_size(&mut self, entry: usize, size: u32) {
        self.bytes[entry + 28..][..4].copy_from_slice(&size.to_le_bytes());
    }
}

/// The slots of an empty file with a long name, as the FAT specification describes them.
pub fn slots(short: &[u8; 11], long: &[u16]) -> Vec<u8> {
    let checksum = short
        .iter()
        .fold(0_u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
    let mut slots = Vec::new();
    let count = long.len().div_ceil(13);
    for number in (1..=count).rev() {
        let part = long[(number - 1) * 13..].iter().copied();
        let mut units = part.chain([0]).chain(std::iter::repeat(0xffff));
        let mut slot = [0; 32];
        slot[0] = number as u8 | if number == count { 0x40 } else { 0 };
        (slot[11], slot[13]) = (0x0f, checksum);
        for at in [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30] {
            slot[at..at + 2].copy_from_slice(&units.next().unwrap().to_le_bytes());
        }
        slots.extend_from_slice(&slot);
    }
    let mut slot = [0; 32];
    slot[..11].copy_from_slice(short);
    slot[11] = 0x20;
    // 2026-11-21 00:00
    for at in [16, 18, 24] {
        slot[at..at + 2].copy_from_slice(&(46_u16 << 9 | 11 << 5 | 21).to_le_bytes());
    }
    slots.extend_from_slice(&slot);
    slots
}
