//! The reader of ext2, ext3 and ext4: against the kernel on images of many kinds, with dirty journals, and with damage.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::print_stderr
)]

mod common;
#[path = "ext/content.rs"]
mod content;
#[path = "ext/crafted.rs"]
mod crafted;
#[path = "ext/damage.rs"]
mod damage;
mod files;
mod hostile;
#[path = "ext/images.rs"]
mod images;
#[path = "ext/journals.rs"]
mod journals;
#[path = "ext/special.rs"]
mod special;
