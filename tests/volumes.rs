//! Volumes on disks that real tools partitioned, formatted and striped, and on disks that nobody sane would make.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::as_conversions)]

mod common;
mod files;
mod hostile;

#[path = "volumes/disks.rs"]
mod disks;
#[path = "volumes/signatures.rs"]
mod signatures;
#[path = "volumes/tables.rs"]
mod tables;
