//! Logical volumes of LVM2: physical volumes by their labels, groups by their newest metadata, volumes as mapped images.

mod area;
mod config;
mod group;
pub(super) mod label;
mod raid;
mod resolve;
mod thin;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use self::group::{Group, Kind, LogicalVolume};
use self::resolve::{Part, Resolver};
use crate::bytes::to_usize;
use crate::image::ReadAt;

/// Bytes in which the label lies.
const LABEL_LEN: u64 = 2048;

/// Bytes of metadata that may still be read: partitions can overlap, and a thousand of them could show the same megabytes.
pub(super) struct Budget(u64);

impl Default for Budget {
    fn default() -> Self {
        Self(32 << 20)
    }
}

/// A volume that is a physical volume.
pub(super) struct Physical {
    /// The volume's name, for messages.
    name: String,
    image: Arc<dyn ReadAt>,
    parts: u64,
    uuid: String,
    /// Copies of its group's metadata, those that are sound.
    texts: Vec<String>,
    problems: Vec<String>,
}

impl Physical {
    /// Opens a volume that has the label of a physical volume and is made of so many parts. What is read of its metadata is
    /// taken from `budget`.
    pub(super) fn open(name: &str, image: &Arc<dyn ReadAt>, parts: u64, budget: &mut Budget) -> Option<Self> {
        let mut head = vec![0; to_usize(image.len().min(LABEL_LEN))];
        image.read_at(0, &mut head).ok()?;
        let label = label::decode(&head)?;
        let mut physical = Self {
            name: name.to_owned(),
            image: Arc::clone(image),
            parts,
            uuid: label.uuid,
            texts: Vec::new(),
            problems: Vec::new(),
        };
        for area in label.metadata {
            match area::load(&**image, area, &mut budget.0) {
                Ok(text) => physical.texts.extend(text),
                Err(why) => physical.problems.push(format!("{name}: its metadata of LVM2 {why}")),
            }
        }
        Some(physical)
    }
}

/// A logical volume.
pub(super) struct Logical {
    /// device-mapper's name: `vg0-root`.
    pub(super) name: String,
    /// Bytes.
    pub(super) size: u64,
    /// Its bytes, or why they cannot be read.
    pub(super) data: Result<Arc<dyn ReadAt>, String>,
    /// Other names under `/dev`.
    pub(super) aliases: Vec<String>,
}

/// What physical volumes form together.
#[derive(Default)]
pub(super) struct Groups {
    /// All visible logical volumes.
    pub(super) volumes: Vec<Logical>,
    /// Damage and oddities, in sentences.
    pub(super) problems: Vec<String>,
}

/// Puts physical volumes together.
pub(super) fn assemble(physical: Vec<Physical>) -> Groups {
    let mut found = Groups::default();
    let newest = newest(&physical, &mut found.problems);
    let mut images = BTreeMap::new();
    for volume in physical {
        let Physical {
            name,
            uuid,
            image,
            parts,
            ..
        } = volume;
        match images.entry(uuid) {
            Entry::Vacant(entry) => {
                entry.insert(Part { image, parts });
            }
            Entry::Occupied(entry) => {
                let uuid = entry.key();
                found.problems.push(format!(
                    "{name} is a copy of the physical volume {uuid}, and is not read"
                ));
            }
        }
        found.problems.extend(volume.problems);
    }
    for group in newest.values() {
        if found.volumes.len() > group::VISIBLE_MAX {
            found.problems.push(format!(
                "{}: there are too many logical volumes; its own are left out",
                group.name
            ));
            continue;
        }
        add(group, &images, &mut found);
    }
    found
}

/// The newest description of each group, by its identifier.
fn newest(physical: &[Physical], problems: &mut Vec<String>) -> BTreeMap<String, Group> {
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    // Most copies are the same text, which is parsed once.
    let mut seen: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for volume in physical {
        for text in &volume.texts {
            seen.entry(text).or_default().push(&volume.name);
        }
    }
    let mut older = Vec::new();
    for (text, holders) in seen {
        match group::decode(text) {
            Ok(group) => {
                older.push((group.id.clone(), group.name.clone(), group.seqno, holders));
                let newest = groups.get(&group.id).is_none_or(|known| known.seqno < group.seqno);
                if newest {
                    groups.insert(group.id.clone(), group);
                }
            }
            Err(why) => problems.push(format!("{}: its metadata of LVM2 {why}", holders.join(", "))),
        }
    }
    for (id, name, seqno, holders) in older {
        if let Some(newest) = groups
            .get(&id)
            .map(|group| group.seqno)
            .filter(|newest| *newest > seqno)
        {
            let holders = holders.join(", ");
            problems.push(format!(
                "{holders}: the metadata of {name} is older ({seqno}) than elsewhere ({newest}), which is used"
            ));
        }
    }
    groups
}

/// Adds the visible volumes of a group.
fn add(group: &Group, images: &BTreeMap<String, Part>, found: &mut Groups) {
    for volume in group
        .physical
        .values()
        .filter(|volume| !images.contains_key(&volume.uuid))
    {
        let name = &group.name;
        found
            .problems
            .push(format!("{name}: the physical volume {} is missing", volume.uuid));
    }
    let snapshots = snapshot_stores(group);
    let mut resolver = Resolver::new(group, images);
    // Stores of snapshots are hidden in the metadata, and shown by all tools.
    let is_shown = |name: &str, volume: &LogicalVolume| volume.visible || snapshots.contains(name);
    let visible = group.logical.iter().filter(|(name, volume)| is_shown(name, volume));
    for (name, volume) in visible.take(group::VISIBLE_MAX) {
        let data = if snapshots.contains(&**name) {
            Err("snapshots of LVM are not supported; their origins are".to_owned())
        } else {
            resolver.logical(name)
        };
        let mapper = format!("{}-{}", doubled(&group.name), doubled(name));
        found.volumes.push(Logical {
            size: size_of(group, volume),
            data,
            aliases: vec![format!("/dev/mapper/{mapper}"), format!("/dev/{}/{name}", group.name)],
            name: mapper,
        });
    }
    let problems = std::mem::take(&mut resolver.problems);
    found
        .problems
        .extend(problems.into_iter().map(|problem| format!("{}: {problem}", group.name)));
}

fn size_of(group: &Group, volume: &LogicalVolume) -> u64 {
    let segments = volume.segments.iter().flatten();
    let extents = segments.fold(0_u64, |sum, segment| sum.saturating_add(segment.count));
    extents.saturating_mul(group.extent)
}

/// Volumes that hold the exceptions of snapshots: their own bytes are no file system.
fn snapshot_stores(group: &Group) -> BTreeSet<&str> {
    let segments = group
        .logical
        .values()
        .flat_map(|volume| volume.segments.iter().flatten());
    segments
        .filter_map(|segment| match &segment.kind {
            Kind::Snapshot(store) => Some(&**store),
            _ => None,
        })
        .collect()
}

/// device-mapper doubles hyphens, so that the one between group and volume is found again.
fn doubled(name: &str) -> String {
    name.replace('-', "--")
}
