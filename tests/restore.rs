//! Restore as a user sees it: what ends up in the target, what is refused, and what a failure leaves behind.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::as_conversions)]

mod restored;

use std::num::NonZeroUsize;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use restored::{Disk, Notes, names, options, target, to_new};
use vaultfs::image::{Error as ImageError, ReadAt, Result as ImageResult};
use vaultfs::restore::{Error, Existing, run};
use vaultfs::source::Format;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// 40 MiB with 3 MiB and a bit of data, the last byte included.
fn sample() -> Disk {
    Disk::new(
        40 * MIB + 777,
        &[
            (0, 512),
            (MIB + 5, MIB + 100 * KIB),
            (10 * MIB, 12 * MIB),
            (40 * MIB + 700, 40 * MIB + 777),
        ],
    )
}

#[test]
fn a_new_file_is_equal_private_and_as_sparse_as_the_image() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk.img");
    let (disk, notes) = (sample(), Notes::default());
    let report = run(Arc::new(disk.clone()), &to_new(&path), &options(), &notes).unwrap();
    assert!(std::fs::read(&path).unwrap() == disk.bytes());
    let found = std::fs::metadata(&path).unwrap();
    assert_eq!(found.permissions().mode() & 0o7777, 0o600);
    assert!(found.blocks() * 512 <= 3 * MIB, "{} blocks", found.blocks());
    assert_eq!(report.bytes, disk.len());
    assert_eq!(report.written + report.holes, disk.len());
    assert_eq!(report.written, 2 * MIB + 2 * 128 * KIB + 777);
    assert_eq!(names(dir.path()), ["disk.img"]);
    assert_eq!(
        notes.phases(),
        [("restore".into(), disk.len()), ("verify".into(), disk.len())]
    );
    assert_eq!(notes.advanced(), 2 * disk.len());
}

#[test]
fn an_empty_image_and_one_of_holes_are_restored() {
    let dir = tempfile::tempdir().unwrap();
    for len in [0, 1, 3 * MIB] {
        let path = dir.path().join(format!("{len}.img"));
        run(
            Arc::new(Disk::new(len, &[])),
            &to_new(&path),
            &options(),
            &Notes::default(),
        )
        .unwrap();
        let found = std::fs::metadata(&path).unwrap();
        assert_eq!((found.len(), found.blocks()), (len, 0));
    }
}

#[test]
fn an_existing_path_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk.img");
    std::fs::write(&path, "theirs").unwrap();
    for format in [Format::Raw, Format::Qcow2] {
        let to = target(&path, format, Existing::Refuse);
        let error = run(Arc::new(sample()), &to, &options(), &Notes::default()).unwrap_err();
        assert!(matches!(error, Error::Exists { .. }), "{error}");
        assert!(error.to_string().contains("add --force"), "{error}");
    }
    assert_eq!(std::fs::read(&path).unwrap(), b"theirs");
    let to = target(&path, Format::Qcow2, Existing::Overwrite);
    let error = run(Arc::new(sample()), &to, &options(), &Notes::default()).unwrap_err();
    assert!(error.to_string().contains("new file only"), "{error}");
    let to = target(dir.path(), Format::Raw, Existing::Overwrite);
    let error = run(Arc::new(sample()), &to, &options(), &Notes::default()).unwrap_err();
    assert!(matches!(error, Error::Unusable { .. }), "{error}");
    assert_eq!(names(dir.path()), ["disk.img"]);
}

#[test]
fn force_writes_only_the_chunks_that_differ() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk.img");
    let disk = sample();
    let mut old = disk.bytes();
    old[11 * MIB as usize + 3] ^= 1; // data that differs
    old[20 * MIB as usize] = 9; // a hole that holds something
    std::fs::write(&path, &old).unwrap();
    let to = target(&path, Format::Raw, Existing::Overwrite);
    let first = run(Arc::new(disk.clone()), &to, &options(), &Notes::default()).unwrap();
    assert!(std::fs::read(&path).unwrap() == disk.bytes());
    assert_eq!(first.written, 2 * 128 * KIB, "{first}");
    assert_eq!(first.unchanged, 2 * MIB + 128 * KIB + 777);
    let second = run(Arc::new(disk), &to, &options(), &Notes::default()).unwrap();
    assert_eq!((second.written, second.bytes), (0, 40 * MIB + 777));
}

#[test]
fn force_gives_an_existing_file_the_exact_size() {
    let dir = tempfile::tempdir().unwrap();
    let disk = sample();
    for old in [0, 100, 50 * MIB as usize] {
        let path = dir.path().join(format!("{old}.img"));
        std::fs::write(&path, vec![7; old]).unwrap();
        let to = target(&path, Format::Raw, Existing::Overwrite);
        let report = run(Arc::new(disk.clone()), &to, &options(), &Notes::default()).unwrap();
        assert!(std::fs::read(&path).unwrap() == disk.bytes(), "{old}");
        assert_eq!(report.written + report.unchanged + report.holes, disk.len());
    }
}

#[test]
fn any_number_of_workers_and_any_chunk_size_give_the_same_file() {
    let dir = tempfile::tempdir().unwrap();
    let disk = sample();
    for workers in [1, 2, 7] {
        for chunk_size in [0, 64 * KIB, 4 * MIB] {
            let path = dir.path().join(format!("{workers}-{chunk_size}.img"));
            let mut options = options();
            options.workers = NonZeroUsize::new(workers);
            options.chunk_size = chunk_size;
            run(Arc::new(disk.clone()), &to_new(&path), &options, &Notes::default()).unwrap();
            assert!(std::fs::read(&path).unwrap() == disk.bytes());
        }
    }
}

/// Fails, or lies, from the given number of reads on.
struct Faulty {
    disk: Disk,
    reads: AtomicU64,
    after: u64,
    fault: Fault,
}

#[derive(Clone, Copy, PartialEq)]
enum Fault {
    Error,
    OtherBytes,
}

impl ReadAt for Faulty {
    fn len(&self) -> u64 {
        self.disk.len()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> ImageResult<()> {
        self.disk.read_at(offset, buf)?;
        match self.reads.fetch_add(1, Ordering::Relaxed) < self.after {
            true => Ok(()),
            false if self.fault == Fault::OtherBytes => {
                buf[0] ^= 1;
                Ok(())
            }
            false => Err(ImageError::Corrupt {
                what: "chunk 3f2a".into(),
                at: offset,
            }),
        }
    }
    fn next_data(&self, offset: u64) -> ImageResult<Option<u64>> {
        self.disk.next_data(offset)
    }
    fn next_hole(&self, offset: u64) -> ImageResult<u64> {
        self.disk.next_hole(offset)
    }
}

fn faulty(after: u64, fault: Fault) -> Arc<Faulty> {
    Arc::new(Faulty {
        disk: Disk::new(16 * MIB, &[(0, 16 * MIB)]),
        reads: AtomicU64::new(0),
        after,
        fault,
    })
}

#[test]
fn an_image_that_fails_at_any_read_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk.img");
    // 16 pieces are read to be written, 16 again to be compared.
    for after in [0, 5, 15, 16, 31] {
        for format in [Format::Raw, Format::Qcow2] {
            let to = target(&path, format, Existing::Refuse);
            let error = run(faulty(after, Fault::Error), &to, &options(), &Notes::default()).unwrap_err();
            assert!(matches!(error, Error::Image(_)), "{error}");
            assert!(names(dir.path()).is_empty(), "{:?}", names(dir.path()));
        }
    }
}

#[test]
fn a_target_that_differs_after_writing_is_an_error_with_the_offset() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk.img");
    let mut options = options();
    options.workers = NonZeroUsize::new(1);
    for format in [Format::Raw, Format::Qcow2] {
        let to = target(&path, format, Existing::Refuse);
        let error = run(faulty(18, Fault::OtherBytes), &to, &options, &Notes::default()).unwrap_err();
        assert!(matches!(error, Error::Mismatch { at, .. } if at == 2 * MIB), "{error}");
        assert!(names(dir.path()).is_empty());
    }
}

#[test]
fn a_failed_overwrite_says_that_the_target_is_half_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk.img");
    std::fs::write(&path, "old").unwrap();
    let notes = Notes::default();
    let to = target(&path, Format::Raw, Existing::Overwrite);
    assert!(run(faulty(3, Fault::Error), &to, &options(), &notes).is_err());
    assert!(
        notes.warnings()[0].contains("partly overwritten"),
        "{:?}",
        notes.warnings()
    );
}

#[test]
fn a_directory_that_is_not_there_is_named() {
    let path = Path::new("/nonexistent/disk.img");
    let error = run(Arc::new(sample()), &to_new(path), &options(), &Notes::default()).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/disk.img"), "{error}");
}

fn qemu_img(args: &[&str]) {
    let out = Command::new("qemu-img").args(args).output();
    let out = out.unwrap_or_else(|error| panic!("qemu-img is needed (apt-get install qemu-utils): {error}"));
    let said = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "qemu-img {args:?}: {said}");
}

/// Restores as qcow2 and as raw, and has QEMU check the one and compare both.
fn assert_qemu_accepts(disk: &Disk, dir: &Path) -> u64 {
    let (qcow2, raw) = (dir.join("disk.qcow2"), dir.join("disk.raw"));
    let to = target(&qcow2, Format::Qcow2, Existing::Refuse);
    let report = run(Arc::new(disk.clone()), &to, &options(), &Notes::default()).unwrap();
    assert_eq!(report.written + report.holes, disk.len());
    run(Arc::new(disk.clone()), &to_new(&raw), &options(), &Notes::default()).unwrap();
    let (qcow2, raw) = (qcow2.to_str().unwrap(), raw.to_str().unwrap());
    qemu_img(&["check", "-f", "qcow2", qcow2]);
    qemu_img(&["compare", "-f", "qcow2", "-F", "raw", qcow2, raw]);
    let used = std::fs::metadata(qcow2).unwrap().blocks() * 512;
    std::fs::remove_file(qcow2).unwrap();
    std::fs::remove_file(raw).unwrap();
    used
}

#[test]
fn a_qcow2_passes_the_check_of_qemu_and_compares_equal() {
    let dir = tempfile::tempdir().unwrap();
    let gib = 1 << 30;
    let mut odd = sample();
    odd.round_up_to_sectors();
    let disks = [
        odd,
        Disk::new(0, &[]),
        Disk::new(512, &[(0, 512)]),
        Disk::new(3 * gib, &[]),
        Disk::new(64 * MIB, &[(0, 64 * MIB)]),
        // Data over the border of two second-level tables, a table skipped, and the very end.
        Disk::new(
            gib << 10,
            &[
                (gib / 2 - MIB, gib / 2 + MIB),
                (700 * gib, 700 * gib + 1),
                ((gib << 10) - 5, gib << 10),
            ],
        ),
    ];
    for disk in disks {
        assert_qemu_accepts(&disk, dir.path());
    }
}

#[test]
fn a_qcow2_with_several_refcount_blocks_is_sound() {
    let dir = tempfile::tempdir().unwrap();
    // A refcount block covers 2 GiB. Zeros that are called data have clusters and refcounts and cost no space.
    let disk = Disk::zeros_called_data((2 << 30) + MIB);
    let used = assert_qemu_accepts(&disk, dir.path());
    assert!(used < 4 * MIB, "{used}");
}

#[test]
fn a_disk_too_large_for_qcow2_is_refused_before_a_file_is_filled() {
    let dir = tempfile::tempdir().unwrap();
    let to = target(&dir.path().join("disk.qcow2"), Format::Qcow2, Existing::Refuse);
    let error = run(Arc::new(Disk::new(1 << 52, &[])), &to, &options(), &Notes::default()).unwrap_err();
    assert!(error.to_string().contains("at most 2 PiB"), "{error}");
    assert!(names(dir.path()).is_empty());
}
