//! Logical volumes of LVM2: physical volumes by their labels, groups by their newest metadata, volumes as mapped images.

pub(super) mod label;

use std::sync::Arc;

use crate::image::ReadAt;

/// A volume that is a physical volume.
pub(super) struct Physical {}

impl Physical {
    /// Opens a volume that has the label of a physical volume.
    pub(super) fn open(_name: &str, _image: &Arc<dyn ReadAt>) -> Option<Self> {
        None
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
pub(super) fn assemble(_physical: Vec<Physical>) -> Groups {
    Groups::default()
}
