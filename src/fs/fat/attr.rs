//! What stat(2) tells of a file on FAT or exFAT, neither of which keeps modes, owners or numbers of blocks.

use super::super::{Attr, DeviceNumber, FileType, Timestamp};

/// What an entry stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File { is_read_only: bool },
    Directory { subdirectories: u32 },
}

/// The times of an entry; those of a root directory, which has none, are 1970.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Times {
    pub(crate) accessed: Timestamp,
    pub(crate) modified: Timestamp,
    pub(crate) created: Option<Timestamp>,
}

/// The attributes as Linux's drivers show them with their defaults: everything is root's, and takes whole clusters.
pub(crate) fn of(kind: Kind, size: u64, cluster_size: u64, times: Times) -> Attr {
    let (file_type, permissions, links) = match kind {
        Kind::File { is_read_only: true } => (FileType::File, 0o555, 1),
        Kind::File { is_read_only: false } => (FileType::File, 0o755, 1),
        Kind::Directory { subdirectories } => (FileType::Directory, 0o755, subdirectories.saturating_add(2)),
    };
    Attr {
        file_type,
        permissions,
        uid: 0,
        gid: 0,
        size,
        blocks: size.div_ceil(cluster_size).saturating_mul(cluster_size / 512),
        links,
        device: DeviceNumber::default(),
        accessed: times.accessed,
        modified: times.modified,
        changed: times.modified,
        created: times.created,
    }
}
