//! Whatever an exFAT volume holds, it is refused or read within the contract of `FileSystem`: no panic, no hang.
//!
//! Checksums would stop nearly every patch at the door: each input is tried with those that it has, and with right ones.

use vaultfs::fs::exfat::Exfat;

use super::file_system::{self, Images};
pub use super::image::seed;
use super::image::{Patched, unpack};

static IMAGES: Images = Images::new(|| unpack(&[include_bytes!("../images/exfat.zst")]));

/// Bytes of the image in which checksums are made right: beyond it lies what the files hold.
const SEALED: usize = 1 << 20;

/// Walks a patched exFAT volume twice.
pub fn run(data: &[u8]) {
    file_system::run(&IMAGES, data, Exfat::open);
    if let Some(mut patched) = Patched::decode(&IMAGES, data) {
        let bytes = patched.bytes();
        seal_boot(&bytes, &mut patched);
        seal_sets(&bytes, &mut patched);
        file_system::open_and_walk(patched, Exfat::open);
    }
}

/// # Source
/// exFAT specification, section 3.4 "Main and Backup Boot Checksum Sub-regions"; the image has sectors of 512 bytes.
fn seal_boot(bytes: &[u8], patched: &mut Patched) {
    let kept = bytes[..11 * 512]
        .iter()
        .enumerate()
        .filter(|(at, _)| !matches!(at, 106 | 107 | 112));
    let sum = kept.fold(0_u32, |sum, (_, byte)| {
        sum.rotate_right(1).wrapping_add(u32::from(*byte))
    });
    patched.push(11 * 512, &sum.to_le_bytes().repeat(128));
}

/// # Source
/// exFAT specification, section 6.3.3 "SetChecksum Field".
fn seal_sets(bytes: &[u8], patched: &mut Patched) {
    for at in (0..bytes.len().min(SEALED)).step_by(32) {
        let end = at + (1 + usize::from(bytes[at + 1])) * 32;
        if bytes[at] == 0x85 && end <= bytes.len() {
            let kept = bytes[at..end].iter().enumerate().filter(|(at, _)| !matches!(at, 2 | 3));
            let sum = kept.fold(0_u16, |sum, (_, byte)| {
                sum.rotate_right(1).wrapping_add(u16::from(*byte))
            });
            patched.push(at as u64 + 2, &sum.to_le_bytes());
        }
    }
}
