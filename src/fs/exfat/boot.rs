//! The boot region of an exFAT volume: main or backup, checked against its checksum, as places on the volume.

use super::super::fat::corrupt;
use super::super::{Error, Result};
use crate::bytes::{field, is_zero, le_u16, le_u32, le_u64, to_usize};
use crate::image::ReadAt;

/// The layout of an exFAT volume, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Boot {
    /// Where the table in use begins.
    pub(crate) table: u64,
    /// Where cluster 2, the first, begins.
    pub(crate) heap: u64,
    /// Bytes of a cluster.
    pub(crate) cluster_size: u64,
    /// `ClusterCount`.
    pub(crate) clusters: u32,
    /// `FirstClusterOfRootDirectory`.
    pub(crate) root: u32,
    /// `VolumeLength`, in bytes.
    pub(crate) size: u64,
    /// `PercentInUse`; `None` if it is not kept.
    pub(crate) percent: Option<u8>,
    /// Bit `VolumeDirty` of `VolumeFlags`.
    pub(crate) is_dirty: bool,
    /// Bit `MediaFailure` of `VolumeFlags`.
    pub(crate) has_failed: bool,
    /// Says whether it comes from the backup because the main region is damaged.
    pub(crate) is_backup: bool,
}

/// Sectors of a boot region.
///
/// # Source
/// exFAT specification, section 3 "Main and Backup Boot Regions".
const REGION_SECTORS: u64 = 12;

/// Sizes of sectors, as powers of two.
const SHIFTS: std::ops::RangeInclusive<u8> = 9..=12;

const NAME: &[u8; 8] = b"EXFAT   ";

/// Most clusters: 2^32 - 11.
const MOST_CLUSTERS: u32 = 0xffff_fff5;

impl Boot {
    /// Reads the main boot region, or the backup if the main one is damaged.
    ///
    /// The backup counts only where the main region has the name of exFAT or nothing at all: it survives when a volume is formatted anew
    /// with a file system that begins elsewhere.
    ///
    /// # Errors
    /// `Corrupt` if there is no sound region; `Unsupported` for a revision other than 1; as the volume's.
    pub(crate) fn read(volume: &dyn ReadAt) -> Result<Self> {
        let mut first = [0; 512];
        volume.read_at(0, &mut first)?;
        let is_exfat = field(&first, 3) == Some(*NAME);
        let failed = match field(&first, 108) {
            Some([shift]) if is_exfat => match Self::region(volume, 0, shift) {
                Ok(boot) => return Ok(boot),
                Err(error) => error,
            },
            _ => corrupt("the exFAT boot sector", 0),
        };
        if !is_exfat && !is_zero(&first) || matches!(failed, Error::Unsupported { .. }) {
            return Err(failed);
        }
        for shift in SHIFTS {
            if let Ok(boot) = Self::region(volume, REGION_SECTORS << shift, shift) {
                let is_backup = true;
                return Ok(Self { is_backup, ..boot });
            }
        }
        Err(failed)
    }

    /// Reads the boot region at byte `at`, whose sectors have 2 to the power of `shift` bytes.
    fn region(volume: &dyn ReadAt, at: u64, shift: u8) -> Result<Self> {
        let wrong = |what: &str| corrupt(format!("the exFAT boot region ({what})"), at);
        if !SHIFTS.contains(&shift) {
            return Err(wrong("the size of sectors"));
        }
        let sector = 1_u64 << shift;
        let mut region = vec![0; to_usize(REGION_SECTORS << shift)];
        volume.read_at(at, &mut region)?;
        let (sectors, checksums) = region.split_at(to_usize(sector.saturating_mul(11)));
        let sum = checksum(sectors);
        if !checksums
            .as_chunks::<4>()
            .0
            .iter()
            .all(|kept| u32::from_le_bytes(*kept) == sum)
        {
            return Err(wrong("its checksum"));
        }
        if field(sectors, 104).is_some_and(|[_, major]: [u8; 2]| major != 1) {
            let feature = "a revision of exFAT other than 1".to_owned();
            return Err(Error::Unsupported { feature });
        }
        Self::decode(sectors, shift).ok_or_else(|| wrong("its fields"))
    }

    /// Decodes a boot sector.
    ///
    /// # Source
    /// exFAT specification, section 3.1 "Main and Backup Boot Sector Sub-regions".
    fn decode(sector: &[u8], shift: u8) -> Option<Self> {
        let file_system_name: [u8; 8] = field(sector, 3)?;
        let must_be_zero: [u8; 53] = field(sector, 11)?;
        let volume_length = le_u64(sector, 72)?;
        let [fat_offset, fat_length, cluster_heap_offset] =
            [le_u32(sector, 80)?, le_u32(sector, 84)?, le_u32(sector, 88)?];
        let cluster_count = le_u32(sector, 92)?;
        let first_cluster_of_root_directory = le_u32(sector, 96)?;
        let volume_flags = le_u16(sector, 106)?;
        let [bytes_per_sector_shift, sectors_per_cluster_shift, number_of_fats] = field(sector, 108)?;
        let [percent_in_use] = field(sector, 112)?;
        let bytes = |sectors: u32| u64::from(sectors) << shift;
        let fats = bytes(fat_length).checked_mul(u64::from(number_of_fats))?;
        let entries = u64::from(cluster_count).checked_add(2)?;
        let is_sound = file_system_name == *NAME
            && must_be_zero == [0; 53]
            && le_u16(sector, 510)? == 0xaa55
            && bytes_per_sector_shift == shift
            && sectors_per_cluster_shift <= 25_u8.checked_sub(shift)?
            && matches!(number_of_fats, 1 | 2)
            && fat_offset >= 24
            && bytes(fat_length) >= entries.checked_mul(4)?
            && bytes(cluster_heap_offset) >= bytes(fat_offset).checked_add(fats)?
            && (1..=MOST_CLUSTERS).contains(&cluster_count);
        // Only TexFAT has a second table, and a flag that says which one counts.
        let is_second = number_of_fats == 2 && volume_flags & 1 != 0;
        let before = if is_second { bytes(fat_length) } else { 0 };
        is_sound.then_some(Self {
            table: bytes(fat_offset).checked_add(before)?,
            heap: bytes(cluster_heap_offset),
            cluster_size: 1 << shift.checked_add(sectors_per_cluster_shift)?,
            clusters: cluster_count,
            root: first_cluster_of_root_directory,
            size: volume_length.checked_mul(1 << shift)?,
            percent: (percent_in_use <= 100).then_some(percent_in_use),
            is_dirty: volume_flags & 2 != 0,
            has_failed: volume_flags & 4 != 0,
            is_backup: false,
        })
    }
}

/// The checksum of the first eleven sectors of a region, without the fields that change in use.
///
/// # Source
/// exFAT specification, section 3.4 "Main and Backup Boot Checksum Sub-regions".
fn checksum(sectors: &[u8]) -> u32 {
    let bytes = (0_u32..)
        .zip(sectors)
        .filter(|(place, _)| !matches!(place, 106 | 107 | 112));
    bytes.fold(0, |sum, (_, byte)| add(sum, *byte))
}

/// Adds a byte to a checksum of 32 bits, as boot regions and up-case tables have them.
pub(crate) fn add(sum: u32, byte: u8) -> u32 {
    sum.rotate_right(1).wrapping_add(u32::from(byte))
}
