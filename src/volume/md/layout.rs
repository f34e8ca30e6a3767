//! How the bytes of an array are spread over its members.

use std::sync::Arc;

use super::Member;
use super::superblock::Superblock;
use crate::bytes::{to_u64, to_usize};
use crate::volume::mapped::{Mapped, Target};
use crate::volume::parity::Parity;
use crate::volume::rebuilt::complete;

/// Most sizes that the members of one RAID 0 may have.
const ZONES_MAX: usize = 64;

/// Members by their number; `None` where one is missing.
type Slots<'a> = [Option<&'a Member>];

/// Maps an array.
///
/// # Errors
/// A sentence: the level is not supported, or data is missing.
pub(super) fn map(array: &Superblock, slots: &Slots<'_>, problems: &mut Vec<String>) -> Result<Mapped, String> {
    let mut mapped = Mapped::default();
    match array.level {
        -1 => linear(array, slots, &mut mapped)?,
        0 => raid0(array, slots, &mut mapped, problems)?,
        1 => raid1(array, slots, &mut mapped)?,
        4..=6 => parity(array, slots, &mut mapped)?,
        10 => raid10(array, slots, &mut mapped)?,
        level => return Err(format!("arrays of level {level} are not supported")),
    }
    if slots.iter().any(Option::is_none) {
        let there = slots.iter().flatten().count();
        problems.push(format!("{there} of {} members are there and up to date", slots.len()));
    }
    Ok(mapped)
}

fn target(member: &Member, offset: u64) -> Target {
    Target {
        image: Arc::clone(&member.image),
        offset: member.superblock.data_offset.saturating_add(offset),
    }
}

/// All members, or which of them is missing.
fn all<'a>(slots: &Slots<'a>) -> Result<Vec<&'a Member>, String> {
    let numbered = slots.iter().zip(0_usize..);
    numbered
        .map(|(slot, number)| slot.ok_or_else(|| missing(number)))
        .collect()
}

fn missing(number: usize) -> String {
    format!("its member {number} is missing or out of date")
}

/// The length rounded down to whole chunks.
fn whole_chunks(len: u64, chunk: u64) -> u64 {
    len.checked_rem(chunk).map_or(len, |rest| len.saturating_sub(rest))
}

fn linear(array: &Superblock, slots: &Slots<'_>, mapped: &mut Mapped) -> Result<(), String> {
    for member in all(slots)? {
        let len = whole_chunks(member.superblock.data_size, array.chunk);
        mapped.push_linear(target(member, 0), len)?;
    }
    Ok(())
}

/// Any member that is there has everything.
fn raid1(array: &Superblock, slots: &Slots<'_>, mapped: &mut Mapped) -> Result<(), String> {
    let best = slots
        .iter()
        .flatten()
        .rev()
        .max_by_key(|member| member.superblock.events);
    let member = best.ok_or("none of its members is up to date")?;
    Ok(mapped.push_linear(target(member, 0), array.size)?)
}

/// Stripes over all members as far as the smallest goes, then over the rest as far as the next goes, and so on.
///
/// # Source
/// Linux drivers/md/raid0.c, `create_strip_zones` and `map_sector`.
fn raid0(array: &Superblock, slots: &Slots<'_>, mapped: &mut Mapped, problems: &mut Vec<String>) -> Result<(), String> {
    let chunk = array.chunk;
    if chunk == 0 {
        return Err("its chunks have no size".to_owned());
    }
    let members = all(slots)?;
    let size_of = |member: &Member| whole_chunks(member.superblock.data_size, chunk);
    let mut ends: Vec<u64> = members
        .iter()
        .map(|member| size_of(member))
        .filter(|size| *size > 0)
        .collect();
    ends.sort_unstable();
    ends.dedup();
    if ends.len() > ZONES_MAX {
        return Err(format!("its members have {} sizes", ends.len()));
    }
    if ends.len() > 1 && !array.has_raid0_layout {
        problems
            .push("members differ in size and the layout is not told; that of Linux 3.14 and later is read".to_owned());
    }
    let mut start = 0;
    for end in ends {
        let mut targets: Vec<Target> = members
            .iter()
            .filter(|member| size_of(member) > start)
            .map(|member| target(member, start))
            .collect();
        let count = to_u64(targets.len());
        if is_original(array) {
            // Before Linux 3.14 the turn went on from zone to zone.
            let turn = (crate::image::ReadAt::len(mapped) / chunk)
                .checked_rem(count)
                .unwrap_or(0);
            targets.rotate_left(to_usize(turn));
        }
        let len = end
            .saturating_sub(start)
            .checked_mul(count)
            .ok_or("its size does not fit into 64 bits")?;
        mapped.push_striped(targets, chunk, len)?;
        start = end;
    }
    Ok(())
}

fn is_original(array: &Superblock) -> bool {
    array.has_raid0_layout && array.layout == 1
}

fn parity(array: &Superblock, slots: &Slots<'_>, mapped: &mut Mapped) -> Result<(), String> {
    let level = array.level.cast_unsigned();
    let layout = Parity::new(level, array.layout, to_u64(slots.len()));
    let layout = layout.ok_or_else(|| format!("layout {} of level {level} is not supported", array.layout))?;
    let members = slots.iter().map(|slot| slot.map(|member| target(member, 0))).collect();
    let targets = complete(members, layout.parities(), missing)?;
    let len = whole_chunks(array.size, array.chunk).checked_mul(layout.data_devices());
    Ok(mapped.push_parity(
        targets,
        layout,
        array.chunk,
        len.ok_or("its size does not fit into 64 bits")?,
    )?)
}

/// Near copies lie side by side in a row; the first of far copies is a RAID 0 in the first part of each member.
///
/// # Source
/// Linux drivers/md/raid10.c, `setup_geo` and `__raid10_find_phys`.
fn raid10(array: &Superblock, slots: &Slots<'_>, mapped: &mut Mapped) -> Result<(), String> {
    let near = to_usize(u64::from(array.layout & 0xff));
    let far = u64::from(array.layout >> 8 & 0xff);
    let plain = array.layout >> 16 == 0;
    if !plain || near == 0 || far == 0 || !slots.len().is_multiple_of(near) || near > 1 && far > 1 {
        return Err(format!(
            "layout {:#x} of level 10 on {} members is not supported",
            array.layout,
            slots.len()
        ));
    }
    let copies = slots.chunks(near).map(|copies| {
        let best = copies
            .iter()
            .flatten()
            .rev()
            .max_by_key(|member| member.superblock.events);
        best.map(|member| target(member, 0))
            .ok_or_else(|| "all copies of a part are missing or out of date".to_owned())
    });
    let targets: Vec<Target> = copies.collect::<Result<_, _>>()?;
    let len = whole_chunks(array.size.checked_div(far).unwrap_or(0), array.chunk).checked_mul(to_u64(targets.len()));
    Ok(mapped.push_striped(targets, array.chunk, len.ok_or("its size does not fit into 64 bits")?)?)
}
