//! Whatever an XFS volume holds, it is refused or read within the contract of `FileSystem`: no panic, no hang.
//!
//! Checksums would stop nearly every patch of version 5 at the door: each input is tried with those that it has, and with right ones
//! wherever a patch lies.

use vaultfs::checksum::crc32c;
use vaultfs::fs::xfs::Xfs;

use super::file_system::{self, Images};
use super::image::{Patched, unpack};

static IMAGES: Images = Images::new(|| {
    unpack(&[
        include_bytes!("../images/xfs4.zst"),
        include_bytes!("../images/xfs5.zst"),
        include_bytes!("../images/xfs5-log.zst"),
    ])
});

/// The image without checksums.
const VERSION_4: usize = 0;

/// The first image with a patch that changes nothing.
pub fn seed() -> Vec<u8> {
    vec![0, 0, 0, 0, 0, 1, b'X']
}

/// Walks a patched volume, one of version 5 twice.
pub fn run(data: &[u8]) {
    file_system::run(&IMAGES, data, Xfs::open);
    if let Some(mut patched) = Patched::decode(&IMAGES, data)
        && usize::from(data[0]) % IMAGES.len() != VERSION_4
    {
        seal(&mut patched);
        file_system::open_and_walk(patched, Xfs::open);
    }
}

/// Magic numbers of structures, their sizes in these images, and where they have their checksum.
///
/// # Source
/// XFS Algorithms and Data Structures, 3rd edition, chapters 11 to 20; Linux fs/xfs/libxfs/xfs_format.h.
const STRUCTURES: [(usize, &[u8], usize, usize); 15] = [
    (0, b"XFSB", 512, 224),
    (0, b"XAGF", 512, 216),
    (0, b"XAGI", 512, 312),
    (0, b"IN", 512, 100),
    (0, b"XDB3", 1024, 4),
    (0, b"XDD3", 1024, 4),
    (0, b"XDF3", 1024, 4),
    (8, b"\x3d\xf1", 1024, 12),
    (8, b"\x3d\xff", 1024, 12),
    (8, b"\x3e\xbe", 1024, 12),
    (8, b"\x3b\xee", 1024, 12),
    (0, b"BMA3", 1024, 64),
    (0, b"IAB3", 1024, 52),
    (0, b"XARM", 1024, 12),
    (0, b"XSLM", 1024, 12),
];

/// Makes the checksums of the structures right that patches lie in.
fn seal(patched: &mut Patched) {
    let mut patched_sectors: Vec<u64> = patched.patched_blocks(512);
    // A block of two sectors begins at an even one.
    patched_sectors.extend(patched_sectors.clone().iter().map(|sector| sector & !1));
    patched_sectors.sort_unstable();
    patched_sectors.dedup();
    for sector in patched_sectors {
        let mut bytes = patched.range(sector * 512, 1024);
        for (at, magic, size, crc_at) in STRUCTURES {
            if bytes[at..].starts_with(magic) && bytes.len() >= size && (size == 512 || sector % 2 == 0) {
                bytes[crc_at..crc_at + 4].fill(0);
                let crc = !crc32c(!0, &bytes[..size]);
                patched.push(sector * 512 + crc_at as u64, &crc.to_le_bytes());
                break;
            }
        }
    }
}
