//! Metadata areas of physical volumes: a header, and a ring of texts of which one is in force.

use super::label::{Area, checksum};
use crate::bytes::{le_u32, le_u64, to_usize};
use crate::image::ReadAt;

/// Length of the header; the ring begins behind it.
const HEADER_LEN: u64 = 512;
/// Longest text that is read.
const TEXT_LEN_MAX: u64 = 16 << 20;
const MAGIC: &[u8] = b" LVM2 x[5A%r0N*>";

/// Where in the area the text in force lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Location {
    offset: u64,
    size: u64,
    checksum: u32,
}

/// Reads the text in force, and takes its length from `budget`. `None` if the area is not used.
///
/// # Errors
/// A clause about the metadata.
/// # Source
/// lvm2 lib/format_text/layout.h, `struct mda_header` and `struct raw_locn`.
pub(super) fn load(image: &dyn ReadAt, area: Area, budget: &mut u64) -> Result<Option<String>, String> {
    let mut header = vec![0; to_usize(HEADER_LEN)];
    read(image, area.offset, &mut header)?;
    let Some((size, location)) = decode(&header, area)? else {
        return Ok(None);
    };
    let Location { offset, size: len, .. } = location;
    if !(HEADER_LEN..size).contains(&offset) || len > TEXT_LEN_MAX || len > size.saturating_sub(HEADER_LEN) {
        return Err("lies outside of its area".to_owned());
    }
    let left = budget.checked_sub(len);
    *budget = left.ok_or("is not read: there is too much of it on the disks of this backup")?;
    let mut text = vec![0; to_usize(len)];
    // What does not fit before the end of the area goes on behind the header.
    let straight = to_usize(len.min(size.saturating_sub(offset)));
    let (before, after) = text.split_at_mut(straight);
    read(image, area.offset.saturating_add(offset), before)?;
    read(image, area.offset.saturating_add(HEADER_LEN), after)?;
    if checksum(&text) != location.checksum {
        return Err("fails its checksum".to_owned());
    }
    // The text ends with a zero, which is counted.
    if let Some(end) = text.iter().position(|byte| *byte == 0) {
        text.truncate(end);
    }
    String::from_utf8(text)
        .map(Some)
        .map_err(|_| "is not a text".to_owned())
}

fn read(image: &dyn ReadAt, offset: u64, buf: &mut [u8]) -> Result<(), String> {
    if buf.is_empty() {
        return Ok(());
    }
    image
        .read_at(offset, buf)
        .map_err(|error| format!("cannot be read: {error}"))
}

/// Decodes the header: the area's size, and where its text lies.
fn decode(header: &[u8], area: Area) -> Result<Option<(u64, Location)>, String> {
    let fields = || {
        let sound = checksum(header.get(4..)?) == le_u32(header, 0)?
            && header.get(4..20)? == MAGIC
            && le_u32(header, 20)? == 1
            && le_u64(header, 24)? == area.offset;
        let location = Location {
            offset: le_u64(header, 40)?,
            size: le_u64(header, 48)?,
            checksum: le_u32(header, 56)?,
        };
        let ignored = le_u32(header, 60)? & 1 != 0;
        Some((sound, le_u64(header, 32)?, location, ignored))
    };
    let (sound, size, location, ignored) = fields().ok_or("has a short header")?;
    if !sound {
        return Err("has a header that fails its checksum".to_owned());
    }
    let used = location.offset != 0 && location.size != 0 && !ignored;
    Ok(used.then_some((size, location)))
}
