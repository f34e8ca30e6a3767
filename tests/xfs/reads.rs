//! What questions cost in reads of the volume, and what becomes of reads that fail.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use vaultfs::fs::xfs::Xfs;
use vaultfs::fs::{Error, FileSystem};
use vaultfs::image::{self, ReadAt};

use crate::common::Random;
use crate::damage::with_log;
use crate::files::can_loop_mount;
use crate::fill;
use crate::hostile::Patched;
use crate::images::Image;

/// A volume that counts what is read, and fails after a number of reads.
struct Counted {
    memory: Arc<Patched>,
    reads: AtomicU64,
    bytes: AtomicU64,
    limit: AtomicU64,
}

impl Counted {
    fn load(path: &Path) -> Arc<Self> {
        Arc::new(Self {
            memory: Patched::load(path),
            reads: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            limit: AtomicU64::new(u64::MAX),
        })
    }

    /// Reads and bytes since the last time.
    fn take(&self) -> (u64, u64) {
        (
            self.reads.swap(0, Ordering::Relaxed),
            self.bytes.swap(0, Ordering::Relaxed),
        )
    }
}

impl ReadAt for Counted {
    fn len(&self) -> u64 {
        self.memory.len()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> image::Result<()> {
        if self.reads.fetch_add(1, Ordering::Relaxed) >= self.limit.load(Ordering::Relaxed) {
            return Err(image::Error::Missing {
                what: "a chunk".to_owned(),
            });
        }
        self.bytes.fetch_add(buf.len() as u64, Ordering::Relaxed);
        self.memory.read_at(offset, buf)
    }
    fn next_data(&self, offset: u64) -> image::Result<Option<u64>> {
        self.memory.next_data(offset)
    }
    fn next_hole(&self, offset: u64) -> image::Result<u64> {
        self.memory.next_hole(offset)
    }
}

#[test]
fn questions_cost_few_reads() {
    if !can_loop_mount() {
        return;
    }
    let image = Image::new(120, "");
    image.fill(|root| fill::names(&root.join("names"), 20_000));
    let volume = Counted::load(&image.path());
    let fs = Xfs::open(Arc::clone(&volume) as Arc<dyn ReadAt>).unwrap();
    let (reads, bytes) = volume.take();
    assert!(
        reads < 40 && bytes < 400 << 10,
        "opening takes {reads} reads of {bytes} bytes"
    );
    let dir = fs.lookup(fs.root(), b"names").unwrap().unwrap();
    volume.take();
    fs.attr(dir).unwrap();
    assert_eq!(volume.take(), (1, 512), "an inode is one read");
    // Inode, extents of the leaf, node, leaf, extents of the name, its block.
    for index in [0, 9999, 19_999] {
        assert!(fs.lookup(dir, fill::name(index).as_bytes()).unwrap().is_some());
        let (reads, bytes) = volume.take();
        assert!(
            reads <= 10 && bytes < 50 << 10,
            "a lookup takes {reads} reads of {bytes} bytes"
        );
    }
    let mut names = 0;
    fs.read_dir(dir, 0, &mut |_| {
        names += 1;
        true
    })
    .unwrap();
    let (reads, bytes) = volume.take();
    assert_eq!(names, 20_000);
    assert!(reads < 120, "a listing of {names} takes {reads} reads of {bytes} bytes");
}

#[test]
fn a_read_that_fails_is_neither_damage_nor_absence() {
    if !can_loop_mount() {
        return;
    }
    let image = with_log();
    let volume = Counted::load(&image.path());
    let mut random = Random::new(17);
    let failed = |error: Option<Error>, what: &str| {
        assert!(matches!(error, None | Some(Error::Image(_))), "{what}: {error:?}");
    };
    for limit in 0..60 {
        volume.take();
        volume.limit.store(limit, Ordering::Relaxed);
        failed(Xfs::open(Arc::clone(&volume) as Arc<dyn ReadAt>).err(), "open");
        volume.limit.store(u64::MAX, Ordering::Relaxed);
    }
    let fs = Xfs::open(Arc::clone(&volume) as Arc<dyn ReadAt>).unwrap();
    let mut inodes = Vec::new();
    fs.read_dir(fs.root(), 0, &mut |entry| {
        inodes.push(entry.inode);
        true
    })
    .unwrap();
    for _ in 0..2000 {
        volume.take();
        volume.limit.store(random.below(12), Ordering::Relaxed);
        let inode = *random.pick(&inodes);
        let is_other_type = |error: &Error| matches!(error, Error::WrongType { .. });
        let answers = [
            fs.attr(inode).err(),
            fs.xattrs(inode).err(),
            fs.extents(inode, 0..1 << 50).err(),
            fs.read_link(inode).err(),
            fs.lookup(inode, fill::name(77).as_bytes()).err(),
            fs.read_dir(inode, 0, &mut |_| true).err(),
        ];
        for error in answers.into_iter().flatten().filter(|error| !is_other_type(error)) {
            failed(Some(error), "a question");
        }
    }
}
