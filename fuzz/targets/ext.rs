//! Whatever an ext2, ext3 or ext4 volume holds, it is refused or read within the contract of `FileSystem`: no panic, no hang.
//!
//! Most images have no checksums of metadata, which would stop nearly every patch at the door.

use vaultfs::fs::ext::Ext;

use super::file_system::{self, Images};
pub use super::image::seed;
use super::image::unpack;

static IMAGES: Images = Images::new(|| {
    unpack(&[
        include_bytes!("../images/ext2.zst"),
        include_bytes!("../images/ext4.zst"),
        include_bytes!("../images/ext4-inline.zst"),
        include_bytes!("../images/ext4-bigalloc.zst"),
        include_bytes!("../images/ext4-journal.zst"),
    ])
});

/// Walks a patched volume.
pub fn run(data: &[u8]) {
    file_system::run(&IMAGES, data, Ext::open);
}
