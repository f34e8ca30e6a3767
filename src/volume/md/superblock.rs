//! The superblock of a member of an array, versions 0.90 and 1.x: bytes to checked values.

use crate::bytes::{field, le_u32, le_u64, to_usize};
use crate::image::{ReadAt, Result};
use crate::volume::scan::read_block;
use crate::volume::{Holds, Signature, text};

const MAGIC: u32 = 0xa92b_4efc;
/// Length of a superblock with all its roles, and of the places where one may lie.
const LEN: u64 = 4096;
/// What 0.90 keeps free at the end, and rounds to.
const RESERVED: u64 = 64 << 10;
const SECTOR: u64 = 512;
const FIXED_LEN: usize = 256;
/// Most members that version 1 has a role for in 4 KiB.
const MAX_DEV: u32 = 1920;

/// Where the data of a member goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::volume) enum Role {
    /// The member of this number.
    Active(u32),
    /// None: a spare, a journal, or a device that has failed.
    None,
}

/// A superblock whose checksum is right; sizes are in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::volume) struct Superblock {
    /// Identifier of the array.
    pub(in crate::volume) set_uuid: [u8; 16],
    /// Its name; of version 0.90 the number that it would like to have.
    pub(in crate::volume) name: Name,
    /// RAID level; -1 is linear.
    pub(in crate::volume) level: i32,
    /// Arrangement within the level.
    pub(in crate::volume) layout: u32,
    /// Says whether `layout` means anything at level 0.
    pub(in crate::volume) has_raid0_layout: bool,
    /// Bytes of each member that are in use; 0 where each has its own size.
    pub(in crate::volume) size: u64,
    /// Bytes of a chunk.
    pub(in crate::volume) chunk: u64,
    /// Members of the whole array.
    pub(in crate::volume) raid_disks: u32,
    /// First byte of data on this member.
    pub(in crate::volume) data_offset: u64,
    /// Bytes of data on this member.
    pub(in crate::volume) data_size: u64,
    /// Counts changes: the member with the highest is the freshest.
    pub(in crate::volume) events: u64,
    /// What this member is.
    pub(in crate::volume) role: Role,
    /// Number of this member in `roles`.
    pub(in crate::volume) dev_number: u32,
    /// What this member knows of all, by their numbers.
    pub(in crate::volume) roles: Vec<Role>,
    /// Bytes of data that are valid if the member was being rebuilt.
    pub(in crate::volume) recovered: Option<u64>,
    /// The members were being rearranged.
    pub(in crate::volume) is_reshaping: bool,
}

/// What an array is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::volume) enum Name {
    /// As its superblock says, `host:data`.
    Text(Vec<u8>),
    /// `md` and this number.
    Number(u32),
}

impl Superblock {
    /// What it says of the volume.
    pub(in crate::volume) fn signature(&self) -> Signature {
        Signature {
            holds: Holds::RaidMember,
            uuid: text::uuid(&self.set_uuid, 0),
            label: match &self.name {
                Name::Text(name) if !name.is_empty() => Some(name.clone()),
                _ => None,
            },
        }
    }

    /// Says whether only its place tells what it belongs to: version 0.90 does not say where it should be.
    pub(in crate::volume) fn is_told_by_place(&self) -> bool {
        matches!(self.name, Name::Number(_))
    }
}

/// Looks for a superblock in all places where one may lie.
///
/// # Errors
/// As the volume's [`read_at`](ReadAt::read_at).
pub(in crate::volume) fn find(volume: &dyn ReadAt) -> Result<Option<Superblock>> {
    let size = volume.len();
    let at_end = (size / SECTOR)
        .checked_sub(16)
        .map(|sector| (sector & !7).saturating_mul(SECTOR));
    for offset in [Some(4096), Some(0), at_end].into_iter().flatten() {
        if let Some(block) = read_block(volume, offset, LEN)?
            && let Some(superblock) = decode_1(&block, offset, size)
        {
            return Ok(Some(superblock));
        }
    }
    if let Some(offset) = (size / RESERVED)
        .checked_sub(1)
        .map(|count| count.saturating_mul(RESERVED))
        && let Some(block) = read_block(volume, offset, LEN)?
    {
        return Ok(decode_0(&block, offset));
    }
    Ok(None)
}

/// Adds up little-endian words, the checksum's own left out, and folds the sum.
fn checksum(data: &[u8], own_at: usize) -> u32 {
    let mut sum: u64 = 0;
    let mut at: usize = 0;
    for word in data.chunks(4) {
        let value = match word {
            _ if at == own_at => 0,
            [a, b, c, d] => u32::from_le_bytes([*a, *b, *c, *d]),
            [a, b, ..] => u32::from(u16::from_le_bytes([*a, *b])),
            _ => 0,
        };
        sum = sum.saturating_add(u64::from(value));
        at = at.saturating_add(4);
    }
    let folded = (sum & 0xffff_ffff).wrapping_add(sum >> 32) & 0xffff_ffff;
    u32::try_from(folded).unwrap_or_default()
}

/// Decodes version 1 found at `offset`.
///
/// # Source
/// Linux include/uapi/linux/raid/md_p.h, `struct mdp_superblock_1`.
fn decode_1(block: &[u8], offset: u64, volume_size: u64) -> Option<Superblock> {
    const RECOVERY_OFFSET: u32 = 2;
    const RESHAPE_ACTIVE: u32 = 4;
    const RAID0_LAYOUT: u32 = 4096;
    let (magic, major_version) = (le_u32(block, 0)?, le_u32(block, 4)?);
    let super_offset = le_u64(block, 144)?;
    let max_dev = le_u32(block, 220).filter(|max_dev| *max_dev <= MAX_DEV)?;
    if magic != MAGIC || major_version != 1 || super_offset.checked_mul(SECTOR)? != offset {
        return None;
    }
    let covered = FIXED_LEN.checked_add(to_usize(u64::from(max_dev)).checked_mul(2)?)?;
    if checksum(block.get(..covered)?, 216) != le_u32(block, 216)? {
        return None;
    }
    let feature_map = le_u32(block, 8)?;
    let dev_number = le_u32(block, 160)?;
    let (dev_roles, _) = block.get(FIXED_LEN..covered)?.as_chunks::<2>();
    let roles: Vec<Role> = dev_roles.iter().map(|role| role_1(u16::from_le_bytes(*role))).collect();
    let bytes = |at| le_u64(block, at)?.checked_mul(SECTOR);
    let data_offset = bytes(128)?;
    Some(Superblock {
        set_uuid: field(block, 16)?,
        name: Name::Text(text::label(block, 32, 32).unwrap_or_default()),
        level: le_u32(block, 72)?.cast_signed(),
        layout: le_u32(block, 76)?,
        has_raid0_layout: feature_map & RAID0_LAYOUT != 0,
        size: bytes(80)?,
        chunk: u64::from(le_u32(block, 88)?).checked_mul(SECTOR)?,
        raid_disks: le_u32(block, 92)?,
        data_offset,
        // What lies past the end of a clipped volume is found missing when the array is put together.
        data_size: bytes(136)?.min(volume_size.saturating_sub(data_offset)),
        events: le_u64(block, 200)?,
        role: roles
            .get(to_usize(u64::from(dev_number)))
            .copied()
            .unwrap_or(Role::None),
        dev_number,
        roles,
        recovered: bytes(152).filter(|_| feature_map & RECOVERY_OFFSET != 0),
        is_reshaping: feature_map & RESHAPE_ACTIVE != 0,
    })
}

/// Numbers from 0xff00 on are spares, journals and what has failed.
fn role_1(number: u16) -> Role {
    if number < 0xff00 {
        Role::Active(u32::from(number))
    } else {
        Role::None
    }
}

/// Decodes version 0.90 found at `offset`; the data lies before it.
///
/// # Source
/// Linux include/uapi/linux/raid/md_p.h, `struct mdp_superblock_s`.
fn decode_0(block: &[u8], offset: u64) -> Option<Superblock> {
    let word = |index: usize| le_u32(block, index.checked_mul(4)?);
    let minor_version = word(2)?;
    if word(0)? != MAGIC || word(1)? != 0 || !matches!(minor_version, 90 | 91) {
        return None;
    }
    if checksum(block, 38 * 4) != word(38)? {
        return None;
    }
    let mut set_uuid = [0; 16];
    for (bytes, index) in set_uuid.chunks_exact_mut(4).zip([5, 13, 14, 15]) {
        bytes.copy_from_slice(&word(index)?.to_be_bytes());
    }
    let role = |at: usize| {
        const DISK_SYNC: u32 = 1 << 2;
        let (raid_disk, state) = (word(at.checked_add(3)?)?, word(at.checked_add(4)?)?);
        let in_sync = state & DISK_SYNC != 0;
        Some(if in_sync { Role::Active(raid_disk) } else { Role::None })
    };
    let disks: Option<Vec<Role>> = (0..27_usize)
        .map(|disk| role(disk.checked_mul(32)?.checked_add(128)?))
        .collect();
    let level = word(7)?.cast_signed();
    let size = u64::from(word(8)?).checked_mul(1024)?;
    Some(Superblock {
        set_uuid,
        name: Name::Number(word(11)?),
        level,
        layout: word(64)?,
        has_raid0_layout: false,
        size: if matches!(level, 0 | -1) { 0 } else { size },
        chunk: u64::from(word(65)?),
        raid_disks: word(10).filter(|disks| *disks <= 27)?,
        data_offset: 0,
        data_size: offset,
        events: u64::from(word(40)?) << 32 | u64::from(word(39)?),
        role: role(992)?,
        dev_number: word(992)?,
        roles: disks?,
        recovered: None,
        is_reshaping: minor_version == 91,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_folds_its_carry_and_takes_a_half_word_at_the_end() {
        assert_eq!(checksum(&[0xff; 8], 100), 0xffff_ffff);
        assert_eq!(checksum(&[1, 0, 0, 0, 9, 9, 9, 9, 2, 0], 4), 3);
        assert_eq!(u64::try_from(FIXED_LEN).unwrap() + 2 * u64::from(MAX_DEV), LEN);
    }
}
