//! Arrays of LVM2, which are dm-raid's: which images count, and how bytes are spread over them.

use std::sync::Arc;

use crate::bytes::{le_u32, le_u64, to_u64};
use crate::image::ReadAt;
use crate::volume::mapped::{Mapped, Target};
use crate::volume::parity::Parity;
use crate::volume::rebuilt::complete;

/// What the metadata volume of an image says.
///
/// # Source
/// Linux drivers/md/dm-raid.c, `struct dm_raid_superblock`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    events: u64,
    failed_devices: u64,
    disk_recovery_offset: u64,
}

impl State {
    /// Reads the state; `None` if there is none yet, as in an array that never ran.
    pub(super) fn load(image: &dyn ReadAt) -> Option<Self> {
        let mut block = [0; 64];
        image.read_at(0, &mut block).ok()?;
        (le_u32(&block, 0)? == 0x6452_6d44).then_some(Self {
            events: le_u64(&block, 16)?,
            failed_devices: le_u64(&block, 24)?,
            disk_recovery_offset: le_u64(&block, 32)?,
        })
    }
}

/// A member of an array.
pub(super) struct Image {
    /// What it says of itself and of the others.
    pub(super) state: Option<State>,
    /// Its bytes, or why there are none.
    pub(super) data: Result<Arc<dyn ReadAt>, String>,
}

/// Appends an array of `len` bytes to `mapped`; gives the images that were left out because they are not up to date.
///
/// # Errors
/// A sentence: the level is not supported, or data is missing.
pub(super) fn push(
    level: &str,
    chunk: u64,
    mut images: Vec<Image>,
    len: u64,
    mapped: &mut Mapped,
) -> Result<Vec<usize>, String> {
    let stale = leave_out_stale(&mut images);
    let data: Vec<_> = images.into_iter().map(|image| image.data).collect();
    match level {
        "raid0" | "raid0_meta" => {
            let targets = data.into_iter().map(target).collect::<Result<_, _>>()?;
            mapped.push_striped(targets, chunk, len)?;
        }
        "raid1" => {
            let first = first_of(data)?;
            mapped.push_linear(target(Ok(first))?, len)?;
        }
        "raid10" | "raid10_near" => {
            // Copies lie side by side: chunk 0 on the first two images, chunk 1 on the next two.
            let (pairs, rest) = data.as_chunks::<2>();
            if !rest.is_empty() {
                return Err(format!("{level} on an odd number of images is not supported"));
            }
            let pair = |pair: &[Result<_, String>; 2]| target(first_of(pair.to_vec()));
            let targets = pairs.iter().map(pair).collect::<Result<_, _>>()?;
            mapped.push_striped(targets, chunk, len)?;
        }
        _ => {
            let parity = algorithm(level).and_then(|(md_level, algorithm)| {
                let devices = to_u64(data.len());
                Parity::new(md_level, algorithm, devices)
            });
            let parity = parity.ok_or_else(|| format!("{level} on {} images is not supported", data.len()))?;
            let why = data
                .iter()
                .find_map(|image| image.as_ref().err().cloned())
                .unwrap_or_default();
            let members = data.into_iter().map(|image| target(image).ok()).collect();
            let targets = complete(members, parity.parities(), |_| why.clone())?;
            mapped.push_parity(targets, parity, chunk, len)?;
        }
    }
    Ok(stale)
}

fn target(image: Result<Arc<dyn ReadAt>, String>) -> Result<Target, String> {
    Ok(Target {
        image: image?,
        offset: 0,
    })
}

fn first_of(images: Vec<Result<Arc<dyn ReadAt>, String>>) -> Result<Arc<dyn ReadAt>, String> {
    let mut why = "it has no images".to_owned();
    for image in images {
        match image {
            Ok(image) => return Ok(image),
            Err(error) => why = error,
        }
    }
    Err(why)
}

/// Takes away the data of images that the freshest state counts as failed, that missed changes, or that were being rebuilt.
fn leave_out_stale(images: &mut [Image]) -> Vec<usize> {
    let states = || images.iter().filter_map(|image| image.state);
    let Some(newest) = states().max_by_key(|state| state.events) else {
        return Vec::new();
    };
    // Where no image is whole, all are as good: an array that was never in sync reads from its first.
    let is_whole = |state: &State| state.events == newest.events && state.disk_recovery_offset == u64::MAX;
    if !states().any(|state| is_whole(&state)) {
        return Vec::new();
    }
    let mut stale = Vec::new();
    for (index, image) in images.iter_mut().enumerate() {
        let failed = u32::try_from(index)
            .ok()
            .and_then(|index| newest.failed_devices.checked_shr(index));
        let failed = failed.is_some_and(|bits| bits & 1 == 1);
        if failed || image.state.is_some_and(|state| !is_whole(&state)) {
            image.data = Err("an image of its array is out of date or was being rebuilt".to_owned());
            stale.push(index);
        }
    }
    stale
}

/// md's level and algorithm for dm-raid's word.
///
/// # Source
/// Linux drivers/md/dm-raid.c, `raid_types`.
fn algorithm(level: &str) -> Option<(u32, u32)> {
    Some(match level {
        "raid4" => (5, 4),
        "raid5_n" => (5, 5),
        "raid5" | "raid5_ls" => (5, 2),
        "raid5_rs" => (5, 3),
        "raid5_la" => (5, 0),
        "raid5_ra" => (5, 1),
        "raid6" | "raid6_zr" => (6, 8),
        "raid6_nr" => (6, 9),
        "raid6_nc" => (6, 10),
        "raid6_n_6" => (6, 5),
        "raid6_ls_6" => (6, 18),
        "raid6_rs_6" => (6, 19),
        "raid6_la_6" => (6, 16),
        "raid6_ra_6" => (6, 17),
        _ => return None,
    })
}
