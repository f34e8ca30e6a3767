//! Volumes on disks that real tools partitioned, formatted and striped, and on disks that nobody sane would make.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::print_stderr
)]

mod common;
mod files;
mod hostile;

#[path = "volumes/disks.rs"]
mod disks;
#[path = "volumes/lvm.rs"]
mod lvm;
#[path = "volumes/lvm_hostile.rs"]
mod lvm_hostile;
#[path = "volumes/lvm_types.rs"]
mod lvm_types;
#[path = "volumes/mapped.rs"]
mod mapped;
#[path = "volumes/md.rs"]
mod md;
#[path = "volumes/mutations.rs"]
mod mutations;
#[path = "volumes/signatures.rs"]
mod signatures;
#[path = "volumes/tables.rs"]
mod tables;
#[path = "volumes/thin.rs"]
mod thin;
