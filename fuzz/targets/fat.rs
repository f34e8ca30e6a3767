//! Whatever a FAT volume holds, it is refused or read within the contract of `FileSystem`: no panic, no hang.

use vaultfs::fs::fat::Fat;

use super::file_system::{self, Images};
pub use super::image::seed;
use super::image::unpack;

static IMAGES: Images = Images::new(|| {
    unpack(&[
        include_bytes!("../images/fat12.zst"),
        include_bytes!("../images/fat16.zst"),
        include_bytes!("../images/fat32.zst"),
    ])
});

/// Walks a patched FAT volume.
pub fn run(data: &[u8]) {
    file_system::run(&IMAGES, data, Fat::open);
}
