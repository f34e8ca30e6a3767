//! What the first and last bytes of a volume say that it holds.
//!
//! A volume can carry more than one signature: what came later seldom wipes all of what was there before. Members of arrays and of
//! volume groups go first (their content begins elsewhere), then what has a long magic, last what is known by a few bits only.

mod fat;
mod filesystem;

use super::{Holds, Signature, lvm, md};
use crate::bytes::{is_zero, to_u64, to_usize};
use crate::image::{ReadAt, Result};

/// Bytes at the start that hold every signature that is looked for, except those at the end of the volume.
const HEAD_LEN: u64 = 68 << 10;

impl Signature {
    /// A signature without UUID and label.
    #[must_use]
    pub fn of(holds: Holds) -> Self {
        Self {
            holds,
            uuid: None,
            label: None,
        }
    }
}

/// Reads the places where signatures lie, some tens of KiB, and says what they tell.
///
/// # Errors
/// As the volume's [`read_at`](ReadAt::read_at).
pub fn probe(volume: &dyn ReadAt) -> Result<Signature> {
    let mut head = vec![0; to_usize(volume.len().min(HEAD_LEN))];
    volume.read_at(0, &mut head)?;
    if let Some(superblock) = md::superblock::find(volume)? {
        return Ok(superblock.signature());
    }
    if let Some(label) = lvm::label::decode(&head) {
        return Ok(label.signature());
    }
    if let Some(signature) = filesystem::decode(&head) {
        return Ok(signature);
    }
    if let Some(mut signature) = fat::decode(&head) {
        if let Some(label) = fat::root_label(volume, &head)? {
            signature.label = Some(label);
        }
        return Ok(signature);
    }
    if super::mbr::is_table(&head) || super::gpt::is_header(&head) {
        return Ok(Signature::of(Holds::PartitionTable));
    }
    let tail = tail(volume)?;
    Ok(Signature::of(if is_zero(&head) && is_zero(&tail) {
        Holds::Nothing
    } else {
        filesystem::decode_tail(&tail).unwrap_or(Holds::Unknown)
    }))
}

/// The last 4 KiB, or less of a small volume.
fn tail(volume: &dyn ReadAt) -> Result<Vec<u8>> {
    let len = volume.len().min(4096);
    let mut tail = vec![0; to_usize(len)];
    volume.read_at(volume.len().saturating_sub(to_u64(tail.len())), &mut tail)?;
    Ok(tail)
}
