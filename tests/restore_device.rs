//! Restore onto block devices, played by loop devices; needs root and loop devices.
//!
//! Without them each test says aloud that it is skipped; with VAULTFS_REQUIRE_FUSE=1 it fails instead.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::print_stderr
)]

mod restored;

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use restored::{Disk, Notes, options, target};
use vaultfs::image::ReadAt;
use vaultfs::restore::{Error, Existing, Report, run};
use vaultfs::source::raw::RawDisk;
use vaultfs::source::{DiskSource, Format, open};

const MIB: u64 = 1 << 20;

struct Loop {
    device: PathBuf,
    file: tempfile::NamedTempFile,
    /// Bytes that had been written to the device of this number before.
    before: u64,
}

impl Loop {
    /// A loop device of `len` bytes, each of them `fill`.
    fn new(len: u64, fill: u8) -> Option<Self> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), vec![fill; len as usize]).unwrap();
        let out = Command::new("losetup").args(["-f", "--show"]).arg(file.path()).output();
        let why = match out {
            Ok(out) if out.status.success() => {
                let device = PathBuf::from(String::from_utf8(out.stdout).unwrap().trim());
                let before = bytes_written(&device);
                return Some(Self { device, file, before });
            }
            Ok(out) => String::from_utf8_lossy(&out.stderr).into_owned(),
            Err(error) => error.to_string(),
        };
        assert!(
            std::env::var("VAULTFS_REQUIRE_FUSE").as_deref() != Ok("1"),
            "no loop device: {why}"
        );
        eprintln!("SKIPPED: this test needs root and a loop device: {why}");
        None
    }

    fn restore(&self, disk: &Disk, notes: &Notes) -> Result<Report, Error> {
        let to = target(&self.device, Format::Raw, Existing::Overwrite);
        run(Arc::new(disk.clone()), &to, &options(), notes)
    }

    fn content(&self) -> Vec<u8> {
        std::fs::read(&self.device).unwrap()
    }

    /// Bytes written to the device since it was made.
    fn written(&self) -> u64 {
        bytes_written(&self.device) - self.before
    }
}

/// The kernel's count of bytes written to a device; it survives detaching.
fn bytes_written(device: &Path) -> u64 {
    let name = device.file_name().unwrap().to_str().unwrap();
    let stat = std::fs::read_to_string(format!("/sys/block/{name}/stat")).unwrap();
    stat.split_whitespace().nth(6).unwrap().parse::<u64>().unwrap() * 512
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("-d").arg(&self.device).status();
    }
}

fn sample() -> Disk {
    Disk::new(
        24 * MIB,
        &[(0, 3 * MIB), (10 * MIB + 5, 11 * MIB), (24 * MIB - 1, 24 * MIB)],
    )
}

#[test]
fn a_device_takes_the_image_and_then_only_what_differs() {
    let Some(device) = Loop::new(24 * MIB, 0x77) else {
        return;
    };
    let disk = sample();
    let notes = Notes::default();
    let first = device.restore(&disk, &notes).unwrap();
    assert!(device.content() == disk.bytes());
    assert!(std::fs::read(device.file.path()).unwrap() == disk.bytes());
    assert_eq!((first.bytes, first.written), (24 * MIB, 24 * MIB));
    assert!(notes.warnings().is_empty(), "{:?}", notes.warnings());

    let before = device.written();
    let second = device.restore(&disk, &notes).unwrap();
    assert_eq!(second.written, 0, "{second}");
    assert_eq!(device.written(), before, "nothing reaches an equal device");

    let mut changed = disk.clone();
    changed.clear(MIB, 2 * MIB);
    let third = device.restore(&changed, &notes).unwrap();
    assert!(device.content() == changed.bytes());
    assert_eq!(third.written, MIB);
}

#[test]
fn a_larger_device_keeps_its_tail_and_is_spoken_of() {
    let Some(device) = Loop::new(30 * MIB, 0x77) else {
        return;
    };
    let notes = Notes::default();
    device.restore(&sample(), &notes).unwrap();
    let content = device.content();
    assert!(content[..24 * MIB as usize] == sample().bytes());
    assert!(content[24 * MIB as usize..].iter().all(|byte| *byte == 0x77));
    assert!(notes.warnings()[0].contains("6.0 MiB larger"), "{:?}", notes.warnings());
}

#[test]
fn a_smaller_device_is_refused_before_a_byte_is_written() {
    let Some(device) = Loop::new(24 * MIB - 512, 0x77) else {
        return;
    };
    let error = device.restore(&sample(), &Notes::default()).unwrap_err();
    assert!(
        matches!(error, Error::TooSmall { size, .. } if size == 24 * MIB - 512),
        "{error}"
    );
    assert!(device.content().iter().all(|byte| *byte == 0x77));
    assert_eq!(device.written(), 0);
}

#[test]
fn a_device_is_not_overwritten_without_force() {
    let Some(device) = Loop::new(24 * MIB, 0x77) else {
        return;
    };
    let to = target(&device.device, Format::Raw, Existing::Refuse);
    let error = run(Arc::new(sample()), &to, &options(), &Notes::default()).unwrap_err();
    assert!(matches!(error, Error::Exists { .. }), "{error}");
    assert_eq!(device.written(), 0);
}

#[test]
fn a_device_held_by_somebody_is_refused() {
    let Some(device) = Loop::new(24 * MIB, 0x77) else {
        return;
    };
    let exclusive = rustix::fs::OFlags::EXCL.bits() as i32;
    let _held = OpenOptions::new()
        .read(true)
        .custom_flags(exclusive)
        .open(&device.device)
        .unwrap();
    let error = device.restore(&sample(), &Notes::default()).unwrap_err();
    assert!(matches!(error, Error::Busy { .. }), "{error}");
    assert_eq!(device.written(), 0);
}

/// A mounted ext4 on a device.
struct Mounted<'a>(&'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

fn must(program: &str, args: &[&Path]) {
    let status = Command::new(program)
        .args(args)
        .stdout(std::process::Stdio::null())
        .status();
    assert!(status.unwrap().success(), "{program} {args:?}");
}

#[test]
fn a_mounted_device_is_refused_with_the_place_it_is_mounted_on() {
    let Some(device) = Loop::new(24 * MIB, 0) else { return };
    let dir = tempfile::tempdir().unwrap();
    must("mkfs.ext4", &[Path::new("-q"), &device.device]);
    must("mount", &[&device.device, dir.path()]);
    let mounted = Mounted(dir.path());
    let error = device.restore(&sample(), &Notes::default()).unwrap_err();
    assert!(matches!(error, Error::Busy { .. }), "{error}");
    let point = dir.path().to_str().unwrap();
    assert!(error.to_string().contains(&format!("umount {point}")), "{error}");
    drop(mounted);
    device.restore(&sample(), &Notes::default()).unwrap();
}

#[test]
fn a_device_with_a_mounted_partition_is_refused() {
    let Some(device) = Loop::new(24 * MIB, 0) else { return };
    // Made by hand, as its node: not every system that runs tests scans for partitions or has udev.
    must(
        "addpart",
        &[&device.device, Path::new("1"), Path::new("2048"), Path::new("40960")],
    );
    let name = format!("{}p1", device.device.file_name().unwrap().to_str().unwrap());
    let sys = format!("/sys/class/block/{name}/dev");
    let numbers = std::fs::read_to_string(sys).unwrap();
    let (major, minor) = numbers.trim().split_once(':').unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (node, point) = (dir.path().join("node"), dir.path().join("with blank"));
    std::fs::create_dir(&point).unwrap();
    must("mknod", &[&node, Path::new("b"), Path::new(major), Path::new(minor)]);
    must("mkfs.ext4", &[Path::new("-q"), &node]);
    must("mount", &[&node, &point]);
    let mounted = Mounted(&point);
    let error = device.restore(&sample(), &Notes::default()).unwrap_err();
    assert!(matches!(error, Error::Busy { .. }), "{error}");
    let said = format!("{name} is mounted on {}", point.display());
    assert!(error.to_string().contains(&said), "{error}");
    drop(mounted);
    device.restore(&sample(), &Notes::default()).unwrap();
    must("delpart", &[&device.device, Path::new("1")]);
}

#[test]
fn a_write_protected_device_is_refused_before_anything_is_tried() {
    let Some(device) = Loop::new(24 * MIB, 0x77) else {
        return;
    };
    must("blockdev", &[Path::new("--setro"), &device.device]);
    let error = device.restore(&sample(), &Notes::default()).unwrap_err();
    // The flag would outlive the loop device.
    must("blockdev", &[Path::new("--setrw"), &device.device]);
    assert!(matches!(error, Error::Unusable { .. }), "{error}");
    assert!(error.to_string().contains("blockdev --setrw"), "{error}");
}

#[test]
fn a_device_that_is_not_there_is_no_new_file() {
    for existing in [Existing::Refuse, Existing::Overwrite] {
        let to = target(Path::new("/dev/no-such-disk"), Format::Raw, existing);
        let error = run(Arc::new(sample()), &to, &options(), &Notes::default()).unwrap_err();
        assert!(error.to_string().contains("no such device"), "{error}");
    }
    assert!(!Path::new("/dev/no-such-disk").exists());
}

#[test]
fn a_device_is_read_as_a_source_with_its_exact_size_and_no_holes() {
    let Some(device) = Loop::new(5 * MIB + 512, 0x42) else {
        return;
    };
    let disk = open(&DiskSource {
        path: device.device.clone(),
        ..DiskSource::default()
    })
    .unwrap();
    assert_eq!(disk.len(), 5 * MIB + 512);
    assert_eq!(disk.next_data(4096).unwrap(), Some(4096));
    assert_eq!(disk.next_hole(4096).unwrap(), 5 * MIB + 512);
    let mut all = vec![0; 5 * MIB as usize + 512];
    disk.read_at(0, &mut all).unwrap();
    assert!(all.iter().all(|byte| *byte == 0x42));
}

#[test]
fn a_device_without_a_medium_is_an_empty_device() {
    let Some(device) = Loop::new(512, 0) else { return };
    let empty = device.device.clone();
    drop(device);
    // Detached, the node stays and has no bytes, like a card reader without a card.
    if let Err(error) = RawDisk::open(&empty) {
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(
            source.contains("empty") || source.contains("No such device"),
            "{source}"
        );
    }
}
