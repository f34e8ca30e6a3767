//! A volume group as its text describes it, in bytes and checked names.

use std::collections::BTreeMap;

use super::config::{Section, Value, parse};

/// Most logical volumes, hidden ones too.
const LOGICAL_MAX: usize = 16 << 10;
/// Most visible logical volumes.
pub(super) const VISIBLE_MAX: usize = 4096;
const SECTOR: u64 = 512;

/// A volume group.
#[derive(Debug)]
pub(super) struct Group {
    /// Its name.
    pub(super) name: String,
    /// Its identifier.
    pub(super) id: String,
    /// Counts changes.
    pub(super) seqno: u64,
    /// Bytes of an extent; not 0.
    pub(super) extent: u64,
    /// Physical volumes by the names that segments call them.
    pub(super) physical: BTreeMap<String, PhysicalVolume>,
    /// Logical volumes by name.
    pub(super) logical: BTreeMap<String, LogicalVolume>,
}

/// A physical volume, as the group knows it.
#[derive(Debug)]
pub(super) struct PhysicalVolume {
    /// The UUID in its label.
    pub(super) uuid: String,
    /// First byte of its extents.
    pub(super) pe_start: u64,
    /// Extents.
    pub(super) pe_count: u64,
}

/// A logical volume.
#[derive(Debug)]
pub(super) struct LogicalVolume {
    /// Not one that others are made of.
    pub(super) visible: bool,
    /// In order and without gaps, or why there are none.
    pub(super) segments: Result<Vec<Segment>, String>,
}

/// A run of extents of a logical volume.
#[derive(Debug)]
pub(super) struct Segment {
    /// Extents.
    pub(super) count: u64,
    /// Where they lie.
    pub(super) kind: Kind,
}

/// An extent of a physical or another logical volume: its name, and the extent's number there.
pub(super) type Place = (String, u64);

/// How a segment is made.
#[derive(Debug)]
pub(super) enum Kind {
    /// In stripes of this many bytes; linear if there is one place.
    Striped(u64, Vec<Place>),
    /// The same at each place.
    Mirror(Vec<Place>),
    /// On images in an array.
    Raid(Raid),
    /// All zeros.
    Zero,
    /// A volume in a thin pool.
    Thin {
        /// The pool.
        pool: String,
        /// The volume's number there.
        device_id: u64,
        /// Where blocks come from that the pool does not have.
        external_origin: Option<String>,
    },
    /// A thin pool.
    ThinPool {
        /// Volume with the maps.
        metadata: String,
        /// Volume with the blocks.
        data: String,
    },
    /// The same as another volume, which a cache holds nothing back from.
    Same(String),
    /// A snapshot; the name is that of the volume that keeps its exceptions.
    Snapshot(String),
    /// Not readable here.
    Unsupported(String),
}

/// An array of hidden logical volumes.
#[derive(Debug)]
pub(super) struct Raid {
    /// `raid5_ls`.
    pub(super) level: String,
    /// Bytes of a chunk.
    pub(super) chunk: u64,
    /// Image, and the volume that keeps its state where there is one.
    pub(super) images: Vec<(Option<String>, String)>,
}

/// Decodes the one group of a text.
///
/// # Errors
/// A clause about the metadata.
pub(super) fn decode(text: &str) -> Result<Group, String> {
    let root = parse(text)?;
    let (name, section) = root.sections().next().ok_or("has no volume group")?;
    if !is_name(name) {
        return Err(format!("has a volume group with the name {name:?}"));
    }
    let extent = section
        .number("extent_size")
        .and_then(|sectors| sectors.checked_mul(SECTOR));
    let mut group = Group {
        name: name.to_owned(),
        id: section.text("id").unwrap_or_default().to_owned(),
        seqno: section.number("seqno").unwrap_or(0),
        extent: extent.filter(|extent| *extent > 0).ok_or("has extents of no size")?,
        physical: BTreeMap::new(),
        logical: BTreeMap::new(),
    };
    for (name, section) in section
        .section("physical_volumes")
        .iter()
        .flat_map(|all| all.sections())
    {
        group.physical.insert(name.to_owned(), physical(section)?);
    }
    let logical = section.section("logical_volumes");
    for (name, section) in logical.iter().flat_map(|all| all.sections()).take(LOGICAL_MAX) {
        let segments = if is_name(name) {
            segments(section)
        } else {
            continue;
        };
        let visible = section.has("status", "VISIBLE");
        group
            .logical
            .insert(name.to_owned(), LogicalVolume { visible, segments });
    }
    Ok(group)
}

/// LVM2 allows these characters only; others would be directories or worse.
fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_.+-".contains(c);
    !name.is_empty() && name.len() <= 128 && name != "." && name != ".." && name.chars().all(allowed)
}

fn physical(section: &Section<'_>) -> Result<PhysicalVolume, String> {
    let fields = || {
        Some(PhysicalVolume {
            uuid: section.text("id")?.to_owned(),
            pe_start: section.number("pe_start")?.checked_mul(SECTOR)?,
            pe_count: section.number("pe_count")?,
        })
    };
    fields().ok_or_else(|| "has a physical volume without its sizes".to_owned())
}

/// The segments of a volume, put in order and checked to leave no gaps.
fn segments(section: &Section<'_>) -> Result<Vec<Segment>, String> {
    let mut sections: Vec<_> = section
        .sections()
        .map(|(_, section)| (section.number("start_extent").unwrap_or(u64::MAX), section))
        .collect();
    sections.sort_by_key(|(start, _)| *start);
    let mut next = 0_u64;
    let mut segments = Vec::new();
    for (start, section) in sections {
        let count = section.number("extent_count").unwrap_or(0);
        let end = next.checked_add(count).filter(|_| start == next && count > 0);
        next = end.ok_or("its segments overlap or leave gaps")?;
        segments.push(Segment {
            count,
            kind: kind(section)?,
        });
    }
    if segments.is_empty() {
        return Err("it has no segments".to_owned());
    }
    Ok(segments)
}

/// What a segment says of itself.
///
/// # Source
/// lvm2 lib/striped, lib/mirror, lib/raid, lib/thin, lib/snapshot and lib/cache_segtype: their `text_import`.
fn kind(section: &Section<'_>) -> Result<Kind, String> {
    let stripe = || {
        let sectors = section.number("stripe_size").unwrap_or(0);
        sectors.checked_mul(SECTOR).ok_or("its stripes overflow")
    };
    let name_of = |key: &str| section.text(key).map(str::to_owned).ok_or("a segment lacks a name");
    // A type may carry flags behind a `+`.
    let word = section.text("type").unwrap_or_default();
    let (word, flags) = word.split_once('+').unwrap_or((word, ""));
    Ok(match word {
        "striped" | "linear" => Kind::Striped(stripe()?, places(section.list("stripes"))?),
        "mirror" => Kind::Mirror(places(section.list("mirrors"))?),
        "zero" => Kind::Zero,
        "thin" => Kind::Thin {
            pool: name_of("thin_pool")?,
            device_id: section.number("device_id").ok_or("a thin volume lacks its number")?,
            external_origin: section.text("external_origin").map(str::to_owned),
        },
        "thin-pool" => Kind::ThinPool {
            metadata: name_of("metadata")?,
            data: name_of("pool")?,
        },
        "snapshot" => Kind::Snapshot(name_of("cow_store").or_else(|_| name_of("merging_store"))?),
        // Only a cache that keeps back nothing may be looked past.
        "cache" if section.text("cache_mode") == Some("writethrough") && flags.is_empty() => {
            Kind::Same(name_of("origin")?)
        }
        "raid0" => Kind::Raid(Raid {
            level: word.to_owned(),
            chunk: stripe()?,
            images: texts(section.list("raid0_lvs"))
                .map(|image| (None, image.to_owned()))
                .collect(),
        }),
        _ if word.starts_with("raid") && section.number("data_offset").unwrap_or(0) <= 1 => Kind::Raid(Raid {
            level: word.to_owned(),
            chunk: stripe()?,
            images: pairs(section),
        }),
        _ => Kind::Unsupported(word.to_owned()),
    })
}

fn texts<'a>(values: &'a [Value<'_>]) -> impl Iterator<Item = &'a str> {
    values.iter().filter_map(|value| match value {
        Value::Text(text) => Some(*text),
        _ => None,
    })
}

/// Images with the volumes of their state before them.
fn pairs(section: &Section<'_>) -> Vec<(Option<String>, String)> {
    let names: Vec<&str> = texts(section.list("raids")).collect();
    let (pairs, _) = names.as_chunks::<2>();
    pairs
        .iter()
        .map(|[state, image]| (Some((*state).to_owned()), (*image).to_owned()))
        .collect()
}

/// Names and numbers in turn.
fn places(values: &[Value<'_>]) -> Result<Vec<Place>, String> {
    let (pairs, rest) = values.as_chunks::<2>();
    let place = |pair: &[Value<'_>; 2]| match pair {
        [Value::Text(name), Value::Number(extent)] => {
            let extent = u64::try_from(*extent).map_err(|_| "a place is negative")?;
            Ok((str::to_owned(name), extent))
        }
        _ => Err("a segment has no places".to_owned()),
    };
    if pairs.is_empty() || !rest.is_empty() {
        return Err("a segment has no places".to_owned());
    }
    pairs.iter().map(place).collect()
}
