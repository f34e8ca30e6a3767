//! Arrays of Linux md: members by their superblocks, put together to one image.

pub(super) mod superblock;

use std::sync::Arc;

use crate::image::ReadAt;

/// A volume that is a member of an array.
pub(super) struct Member {}

impl Member {
    /// Opens a volume that has the signature of a member.
    pub(super) fn open(_name: &str, _image: &Arc<dyn ReadAt>) -> Option<Self> {
        None
    }
}

/// An array of members.
pub(super) struct Array {
    /// Linux's name: `md0`.
    pub(super) name: String,
    /// Bytes; 0 where unknown.
    pub(super) size: u64,
    /// Its bytes, or why they cannot be read.
    pub(super) data: Result<Arc<dyn ReadAt>, String>,
    /// Other names under `/dev`.
    pub(super) aliases: Vec<String>,
    /// What is odd but does no harm.
    pub(super) problems: Vec<String>,
}

/// Puts members together.
pub(super) fn assemble(_members: Vec<Member>) -> Vec<Array> {
    Vec::new()
}
