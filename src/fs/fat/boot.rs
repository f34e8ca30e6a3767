//! The boot sector of a FAT volume: what it says, checked, as places on the volume.

use super::super::{Error, Result};
use super::corrupt;
use super::table::Width;
use crate::bytes::{field, le_u16, le_u32};

/// Length of the part of the boot sector that is read; the smallest sector.
pub(crate) const BOOT_LEN: usize = 512;

/// Where the root directory lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Root {
    /// FAT12 and FAT16: so many slots from this byte of the volume on.
    Fixed {
        /// Byte of the volume.
        offset: u64,
        /// Slots.
        slots: u64,
    },
    /// FAT32: a chain that begins at this cluster.
    Chain(u32),
}

/// The layout of a FAT volume, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Boot {
    /// Kind of table, and so of the whole file system.
    pub(crate) width: Width,
    /// Where the table in use begins.
    pub(crate) table: u64,
    /// Root directory.
    pub(crate) root: Root,
    /// Where cluster 2, the first, begins.
    pub(crate) heap: u64,
    /// Bytes of a cluster.
    pub(crate) cluster_size: u64,
    /// Clusters.
    pub(crate) clusters: u32,
    /// Size of the file system.
    pub(crate) size: u64,
    /// Where the FSInfo sector lies, which FAT32 has.
    pub(crate) info: Option<u64>,
    /// Says whether a system has marked the volume as in use and not taken the mark away.
    pub(crate) is_dirty: bool,
}

/// Fields of the BIOS parameter block under their names in the specification, checked one by one.
struct Parameters {
    bytes_per_sector: u64,
    sectors_per_cluster: u64,
    reserved_sectors: u64,
    fats: u64,
    root_entries: u64,
    total_sectors: u64,
    fat_sectors: u64,
}

impl Parameters {
    /// # Source
    /// Microsoft FAT specification, section 3.1 "BPB structure common to FAT12, FAT16, and FAT32 implementations".
    fn decode(sector: &[u8]) -> Option<Self> {
        let [bpb_sec_per_clus] = field(sector, 13)?;
        let [bpb_num_fats] = field(sector, 16)?;
        let [bpb_media] = field(sector, 21)?;
        let or = |short: u16, long: u32| if short == 0 { u64::from(long) } else { u64::from(short) };
        let this = Self {
            bytes_per_sector: u64::from(le_u16(sector, 11)?),
            sectors_per_cluster: u64::from(bpb_sec_per_clus),
            reserved_sectors: u64::from(le_u16(sector, 14)?),
            fats: u64::from(bpb_num_fats),
            root_entries: u64::from(le_u16(sector, 17)?),
            total_sectors: or(le_u16(sector, 19)?, le_u32(sector, 32)?),
            fat_sectors: or(le_u16(sector, 22)?, le_u32(sector, 36)?),
        };
        let sound = le_u16(sector, 510)? == 0xaa55
            && matches!(this.bytes_per_sector, 512 | 1024 | 2048 | 4096)
            && this.sectors_per_cluster.is_power_of_two()
            && this.reserved_sectors > 0
            && this.fats > 0
            && this.fat_sectors > 0
            && (bpb_media == 0xf0 || bpb_media >= 0xf8);
        sound.then_some(this)
    }

    /// First sector of the fixed root directory.
    fn root_sector(&self) -> u64 {
        let fats = self.fats.saturating_mul(self.fat_sectors);
        self.reserved_sectors.saturating_add(fats)
    }

    fn bytes(&self, sectors: u64) -> u64 {
        sectors.saturating_mul(self.bytes_per_sector)
    }
}

/// Most clusters of FAT12, FAT16 and FAT32.
///
/// # Source
/// Microsoft FAT specification, section 3.5 "Determination of FAT type when mounting the volume".
const MOST: [u64; 3] = [4084, 65_524, 0x0fff_fff4];

impl Boot {
    /// Decodes the first 512 bytes of a volume.
    ///
    /// The type of table comes from the number of clusters. A volume without a 16-bit table size can only be FAT32, and is so however
    /// few clusters it has: `mkfs.fat -F 32` and many EFI system partitions are made that way, and Linux reads them.
    ///
    /// # Errors
    /// `Corrupt` if this is no FAT volume; `Unsupported` for a version of FAT32 that is not 0.0.
    pub(crate) fn decode(sector: &[u8]) -> Result<Self> {
        let parameters = Parameters::decode(sector).ok_or_else(|| corrupt("the FAT boot sector", 0))?;
        let is_32 = le_u16(sector, 22) == Some(0);
        let root_len = parameters.root_entries.saturating_mul(32);
        let root_sectors = root_len.div_ceil(parameters.bytes_per_sector);
        let first_data = parameters.root_sector().saturating_add(root_sectors);
        let data = parameters.total_sectors.saturating_sub(first_data);
        let count = data / parameters.sectors_per_cluster;
        let (width, most) = match (is_32, MOST) {
            (true, [_, _, most]) => (Width::Fat32, most),
            (false, [most, _, _]) if count <= most => (Width::Fat12, most),
            (false, [_, most, _]) => (Width::Fat16, most),
        };
        // A table that is too short for the volume ends it, as in Linux.
        let entries = parameters.bytes(parameters.fat_sectors).saturating_mul(8) / bits(width);
        let clusters = count.min(entries.saturating_sub(2));
        let clusters = u32::try_from(clusters)
            .ok()
            .filter(|_| (1..=most).contains(&count) && clusters > 0);
        let clusters = clusters.ok_or_else(|| corrupt(format!("the FAT boot sector ({count} clusters)"), 0))?;
        let mut boot = Self {
            width,
            table: parameters.bytes(parameters.reserved_sectors),
            root: Root::Fixed {
                offset: parameters.bytes(parameters.root_sector()),
                slots: parameters.root_entries,
            },
            heap: parameters.bytes(first_data),
            cluster_size: parameters.bytes(parameters.sectors_per_cluster),
            clusters,
            size: parameters.bytes(parameters.total_sectors),
            info: None,
            is_dirty: field(sector, 37).is_some_and(|[flags]: [u8; 1]| flags & 1 != 0),
        };
        if is_32 {
            boot.decode_32(sector, &parameters)?;
        }
        Ok(boot)
    }

    /// # Source
    /// Microsoft FAT specification, section 3.3 "Extended BPB structure for FAT32 volumes".
    fn decode_32(&mut self, sector: &[u8], parameters: &Parameters) -> Result<()> {
        let wrong = || corrupt("the FAT32 boot sector", 0);
        let bpb_ext_flags = le_u16(sector, 40).ok_or_else(wrong)?;
        let bpb_fs_ver = le_u16(sector, 42).ok_or_else(wrong)?;
        let bpb_root_clus = le_u32(sector, 44).ok_or_else(wrong)?;
        let bpb_fs_info = le_u16(sector, 48).ok_or_else(wrong)?;
        if bpb_fs_ver != 0 {
            let [minor, major] = bpb_fs_ver.to_le_bytes();
            let feature = format!("FAT32 of version {major}.{minor}");
            return Err(Error::Unsupported { feature });
        }
        // Bit 7: the tables are no mirrors of each other, and only the one of this number is kept.
        if bpb_ext_flags & 0x80 != 0 {
            let active = u64::from(bpb_ext_flags & 15);
            if active >= parameters.fats {
                return Err(corrupt(format!("the FAT32 boot sector (table {active} is active)"), 40));
            }
            let before = parameters.bytes(active.saturating_mul(parameters.fat_sectors));
            self.table = self.table.saturating_add(before);
        }
        self.root = Root::Chain(bpb_root_clus);
        self.is_dirty = field(sector, 65).is_some_and(|[flags]: [u8; 1]| flags & 1 != 0);
        let has_info = bpb_fs_info != 0 && u64::from(bpb_fs_info) < parameters.reserved_sectors;
        self.info = has_info.then(|| parameters.bytes(u64::from(bpb_fs_info)));
        Ok(())
    }
}

/// Bits of a table's entry.
fn bits(width: Width) -> u64 {
    match width {
        Width::Fat12 => 12,
        Width::Fat16 => 16,
        Width::Fat32 | Width::Exfat => 32,
    }
}

/// The number of free clusters that an FSInfo sector gives; `None` if it is none or does not know.
///
/// # Source
/// Microsoft FAT specification, section 5 "File System Information (FSInfo) Structure".
pub(crate) fn free_clusters(sector: &[u8]) -> Option<u64> {
    let fsi_lead_sig = le_u32(sector, 0)?;
    let fsi_struc_sig = le_u32(sector, 484)?;
    let fsi_free_count = le_u32(sector, 488)?;
    let is_sound = fsi_lead_sig == 0x4161_5252 && fsi_struc_sig == 0x6141_7272 && fsi_free_count != u32::MAX;
    is_sound.then_some(u64::from(fsi_free_count))
}
