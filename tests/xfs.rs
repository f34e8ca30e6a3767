//! The XFS reader against the kernel's own driver: every feature set that it mounts here, dirty logs, and damaged images.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::as_conversions
)]

#[path = "xfs/cases.rs"]
mod cases;
mod common;
#[path = "xfs/damage.rs"]
mod damage;
#[path = "xfs/differential.rs"]
mod differential;
#[path = "xfs/features.rs"]
mod features;
mod files;
#[path = "xfs/fill.rs"]
mod fill;
mod hostile;
#[path = "xfs/images.rs"]
mod images;
#[path = "xfs/log.rs"]
mod log;
#[path = "xfs/reads.rs"]
mod reads;
#[path = "xfs/version4.rs"]
mod version4;
