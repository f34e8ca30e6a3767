//! Whatever a qcow2 image holds, it is refused or every byte of it is given or refused: no panic, no hang.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use rustix::fs::{MemfdFlags, memfd_create};
use vaultfs::image::ReadAt;
use vaultfs::source::qcow2::Qcow2;
use vaultfs::source::raw::RawDisk;

use super::file_system::Images;
pub use super::image::seed;
use super::image::{Patched, unpack};

static IMAGES: Images = Images::new(|| {
    unpack(&[
        include_bytes!("../images/qcow2-plain.zst"),
        include_bytes!("../images/qcow2-compressed.zst"),
    ])
});

/// Opens a patched image without a chain, and reads here and there.
pub fn run(data: &[u8]) {
    let Some(patched) = Patched::decode(&IMAGES, data) else {
        return;
    };
    let mut file = File::from(memfd_create("fuzz", MemfdFlags::CLOEXEC).expect("a file in memory"));
    file.write_all(&patched.bytes()).expect("memory");
    let disk = RawDisk::from_file(file, Path::new("fuzz")).expect("a regular file");
    let Ok(image) = Qcow2::from_raw(disk, &[]) else { return };
    let len = image.len();
    let mut buf = [0; 4096];
    for at in [0, len / 3, len / 2, len.saturating_sub(4096)] {
        let part = (len - at).min(4096) as usize;
        let _ = image.read_at(at, &mut buf[..part]);
        if let Ok(Some(data)) = image.next_data(at) {
            assert!((at..len).contains(&data));
            let _ = image.next_hole(data).map(|hole| assert!((data..=len).contains(&hole)));
        }
    }
}
