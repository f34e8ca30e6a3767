//! Images that the kernel makes only by special ways: encrypted, with orphans, without case, large directories; and what reading costs.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::print_stderr,
    unreachable_pub
)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::Command;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use vaultfs::fs::ext::Ext;
use vaultfs::fs::{Error, FileSystem, FileType};
use vaultfs::image::{ReadAt, Result};

use crate::files::{self, LoopMount, can_loop_mount, names_of, run};
use crate::images::{Image, compare, open};

#[test]
fn encrypted_names_are_those_of_the_kernel_without_the_key() {
    let works = Path::new("/sys/fs/ext4/features/test_dummy_encryption_v2").exists();
    if !can_loop_mount() || !works {
        eprintln!("SKIPPED: this kernel cannot make encrypted files for tests");
        return;
    }
    for options in [
        "-t ext4 -b 4096 -O encrypt",
        "-t ext4 -b 1024 -O encrypt,^dir_index",
        "-t ext4 -b 1024 -O encrypt",
    ] {
        let image = Image::new(32 << 20, options);
        let mount = LoopMount::new(&image.path, "noatime,test_dummy_encryption");
        let root = mount.path().join("secret");
        fs::create_dir_all(root.join("many")).unwrap();
        for len in [1, 10, 100, 149, 150, 160, 200, 255] {
            fs::write(root.join("n".repeat(len)), "content").unwrap();
            symlink("t".repeat(len), root.join(format!("link {len}"))).unwrap();
        }
        for index in 0..300 {
            File::create(root.join(format!("many/{index} {}", "x".repeat(index % 200)))).unwrap();
        }
        mount.unmount();
        let mount = LoopMount::new(&image.path, "ro,noatime");
        let fs = open(&image.path);
        let mut waiting = vec![(mount.path().to_path_buf(), fs.root())];
        let mut seen = 0;
        while let Some((path, inode)) = waiting.pop() {
            let ours: BTreeMap<_, _> = names_of(&fs, inode).into_iter().collect();
            let kernels: Vec<_> = fs::read_dir(&path)
                .unwrap()
                .map(|entry| entry.unwrap().file_name())
                .collect();
            assert_eq!(ours.len(), kernels.len(), "{options} {path:?}");
            for name in kernels {
                let child = *ours
                    .get(name.as_bytes())
                    .unwrap_or_else(|| panic!("{options}: {path:?} has no {name:?}"));
                assert_eq!(fs.lookup(inode, name.as_bytes()).unwrap(), Some(child));
                let path = path.join(&name);
                let (attr, metadata) = (fs.attr(child).unwrap(), fs::symlink_metadata(&path).unwrap());
                assert_eq!(
                    (child.0, u32::from(attr.permissions)),
                    (metadata.ino(), metadata.mode() & 0o7777)
                );
                seen += 1;
                match attr.file_type {
                    FileType::Directory => waiting.push((path, child)),
                    FileType::Symlink => {
                        let target = fs::read_link(&path).unwrap();
                        assert_eq!(fs.read_link(child).unwrap(), target.as_os_str().as_bytes());
                        assert_eq!(attr.size, metadata.len());
                    }
                    _ => {
                        assert_eq!(attr.size, metadata.len());
                        assert!(fs::read(&path).is_err());
                        assert!(matches!(fs.extents(child, 0..1), Err(Error::Encrypted { .. })));
                    }
                }
            }
        }
        assert!(seen > 310, "{seen}");
    }
}

/// Changes an image with debugfs, a command a line.
fn debugfs(image: &Path, commands: &str) {
    let file = image.with_extension("commands");
    fs::write(&file, commands).unwrap();
    run(&["debugfs", "-w", "-f", file.to_str().unwrap(), image.to_str().unwrap()]);
}

#[test]
fn orphans_are_cut_to_their_size() {
    if !can_loop_mount() {
        return;
    }
    for options in [
        "-t ext4 -b 4096",
        "-t ext4 -b 1024 -O ^metadata_csum",
        "-t ext3 -b 1024",
    ] {
        let image = Image::new(32 << 20, options);
        let mount = LoopMount::new(&image.path, "noatime");
        for (name, size) in [("small", 300_000), ("large", 9_000_000)] {
            fs::write(mount.path().join(name), vec![5; size]).unwrap();
        }
        let many = File::create(mount.path().join("many")).unwrap();
        for index in 0..900_u64 {
            std::os::unix::fs::FileExt::write_all_at(&many, &[1], index * 12_288).unwrap();
        }
        drop(many);
        let numbers: Vec<u64> = ["small", "large", "many"]
            .map(|name| fs::metadata(mount.path().join(name)).unwrap().ino())
            .to_vec();
        mount.unmount();
        let [small, large, many] = numbers[..] else {
            unreachable!()
        };
        debugfs(
            &image.path,
            &format!(
                "set_super_value last_orphan {small}\n\
                 set_inode_field <{small}> dtime {large}\nset_inode_field <{small}> size 5000\n\
                 set_inode_field <{large}> dtime {many}\nset_inode_field <{large}> size 400000\n\
                 set_inode_field <{many}> dtime 0\nset_inode_field <{many}> size 1500000\n"
            ),
        );
        let fs = open(&image.path);
        let recovered = image.dir.path().join("recovered");
        fs::copy(&image.path, &recovered).unwrap();
        let mount = LoopMount::new(&recovered, "noatime");
        for (name, number) in ["small", "large", "many"].iter().zip(&numbers) {
            let attr = fs.attr(vaultfs::fs::Inode(*number)).unwrap();
            let metadata = fs::metadata(mount.path().join(name)).unwrap();
            assert_eq!(
                (attr.size, attr.blocks),
                (metadata.len(), metadata.blocks()),
                "{options}: {name}"
            );
        }
        mount.unmount();
    }
}

#[test]
fn space_counted_in_blocks_and_old_device_numbers_are_as_the_kernel_shows_them() {
    if !can_loop_mount() {
        return;
    }
    let image = Image::filled(64 << 20, "-t ext4 -b 4096 -O huge_file,^metadata_csum");
    // EXT4_HUGE_FILE_FL beside EXT4_EXTENTS_FL; a device number whose old field is not zero but its new one is.
    debugfs(
        &image.path,
        "set_inode_field sizes/100000 flags 0xc0000\n\
         set_inode_field special/disk block[0] 0x0305\nset_inode_field special/disk block[1] 0\n\
         set_inode_field special/null block[0] 0\nset_inode_field special/null block[1] 0x12345678\n",
    );
    compare(&image.path, "changed by debugfs");
}

#[test]
fn names_without_case_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir_all(root.join("dir")).unwrap();
    for name in ["README", "ünïcödé", "straße"] {
        fs::write(root.join("dir").join(name), name).unwrap();
    }
    let image = Image::new(
        8 << 20,
        &format!("-t ext4 -O casefold -E encoding=utf8 -d {}", root.display()),
    );
    debugfs(&image.path, "set_inode_field dir flags 0x40080000\n");
    let fs = open(&image.path);
    let dir = fs.lookup(fs.root(), b"dir").unwrap().unwrap();
    let find = |name: &str| fs.lookup(dir, name.as_bytes()).unwrap();
    assert!(find("README").is_some());
    assert_eq!(find("readme"), find("README"));
    assert_eq!(find("ÜNÏCÖDÉ"), find("ünïcödé"));
    assert_eq!(find("README2"), None);
    assert_eq!(
        fs.lookup(fs.root(), b"DIR").unwrap(),
        None,
        "a directory that does not fold"
    );
}

#[test]
fn a_journal_on_another_volume_is_told() {
    let journal = Image::new(8 << 20, "-O journal_dev -b 4096");
    let Err(error) = Ext::open(files::volume(&journal.path)) else {
        panic!("a journal is no file system")
    };
    assert!(matches!(error, Error::Unsupported { .. }), "{error:?}");
    let image = Image::new(8 << 20, "-t ext4 -b 4096");
    debugfs(
        &image.path,
        "feature needs_recovery\nset_super_value journal_inum 0\nset_super_value journal_dev 0x700\n",
    );
    let notes = open(&image.path).summary().notes;
    assert!(notes.iter().any(|note| note.contains("another volume")), "{notes:?}");
}

#[test]
fn what_the_superblock_says_of_its_state_is_told() {
    if !can_loop_mount() {
        return;
    }
    let image = Image::new(8 << 20, "-t ext2 -b 1024");
    let mount = LoopMount::new(&image.path, "noatime");
    fs::write(mount.path().join("file"), "content").unwrap();
    rustix::fs::syncfs(File::open(mount.path()).unwrap()).unwrap();
    let copy = image.dir.path().join("copy");
    fs::copy(&image.path, &copy).unwrap();
    mount.unmount();
    let notes = open(&copy).summary().notes;
    assert!(notes.len() == 1 && notes[0].contains("no journal"), "{notes:?}");
    assert_eq!(open(&image.path).summary().notes, [""; 0]);
    debugfs(&image.path, "set_super_value state 3\n");
    let notes = open(&image.path).summary().notes;
    assert!(notes.len() == 1 && notes[0].contains("errors"), "{notes:?}");
}

#[test]
fn names_without_case_are_found_by_their_hash() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir_all(root.join("dir")).unwrap();
    let name = |index: u32| format!("A File of Number {index} and some more");
    for index in 0..300 {
        File::create(root.join("dir").join(name(index))).unwrap();
    }
    let image = Image::new(
        8 << 20,
        &format!("-t ext4 -b 1024 -O casefold -E encoding=utf8 -d {}", root.display()),
    );
    debugfs(&image.path, "set_inode_field dir flags 0x40080000\n");
    // Builds the trees of hashes; its exit code says that it changed something.
    Command::new("e2fsck").arg("-fyD").arg(&image.path).output().unwrap();
    let counted = Arc::new(Counted::new(&image.path));
    let fs = Ext::open(Arc::<Counted>::clone(&counted)).unwrap();
    let dir = fs.lookup(fs.root(), b"dir").unwrap().unwrap();
    let size = fs.attr(dir).unwrap().size;
    for index in 0..300 {
        let found = fs.lookup(dir, name(index).as_bytes()).unwrap();
        counted.taken();
        assert!(found.is_some());
        assert_eq!(fs.lookup(dir, name(index).to_uppercase().as_bytes()).unwrap(), found);
        let (_, bytes) = counted.taken();
        assert!(bytes < size / 2, "{bytes} of {size} bytes were read: not by the tree");
    }
    assert_eq!(fs.lookup(dir, b"absent").unwrap(), None);
}

/// Makes a directory of many files and compares it whole; gives how long a lookup and the listing take.
fn large_directory(count: u64, size: u64, options: &str) {
    let image = Image::new(size, options);
    let mount = LoopMount::new(&image.path, "noatime");
    let dir = mount.path().join("dir");
    fs::create_dir(&dir).unwrap();
    File::create(dir.join("0")).unwrap();
    for index in 1..count {
        // Links to a few files: inodes would cost more time than entries.
        let target = index / 20_000 * 20_000;
        if index == target {
            File::create(dir.join(index.to_string())).unwrap();
        } else {
            fs::hard_link(dir.join(target.to_string()), dir.join(index.to_string())).unwrap();
        }
    }
    mount.unmount();
    let fs = open(&image.path);
    let dir = fs.lookup(fs.root(), b"dir").unwrap().unwrap();
    let began = Instant::now();
    let names = names_of(&fs, dir);
    let listed = began.elapsed();
    assert_eq!(names.len() as u64, count);
    let began = Instant::now();
    for (name, inode) in &names {
        assert_eq!(fs.lookup(dir, name).unwrap(), Some(*inode), "{name:?}");
    }
    let found = began.elapsed();
    assert_eq!(fs.lookup(dir, b"absent").unwrap(), None);
    eprintln!("{options}: {count} names listed in {listed:?}, found in {found:?}");
    let names: std::collections::BTreeSet<_> = names.into_iter().map(|(name, _)| name).collect();
    let mount = LoopMount::new(&image.path, "ro,noatime");
    let kernels = fs::read_dir(mount.path().join("dir")).unwrap();
    let kernels: std::collections::BTreeSet<_> = kernels
        .map(|entry| entry.unwrap().file_name().as_bytes().to_vec())
        .collect();
    assert!(names == kernels);
}

#[test]
fn a_directory_of_20_000_names_is_listed_and_searched() {
    if can_loop_mount() {
        large_directory(20_000, 64 << 20, "-t ext4 -b 1024 -O large_dir");
        large_directory(20_000, 64 << 20, "-t ext4 -b 4096");
    }
}

#[test]
#[ignore = "long: directories of 200,000 names"]
fn a_directory_of_200_000_names_is_listed_and_searched() {
    if can_loop_mount() {
        large_directory(200_000, 256 << 20, "-t ext4 -b 1024 -O large_dir");
        large_directory(200_000, 256 << 20, "-t ext4 -b 4096");
        large_directory(40_000, 64 << 20, "-t ext4 -b 4096 -O ^dir_index");
    }
}

/// A volume that counts what is read.
struct Counted {
    inner: Arc<dyn ReadAt>,
    reads: AtomicU64,
    bytes: AtomicU64,
}

impl Counted {
    fn new(path: &Path) -> Self {
        Self {
            inner: files::volume(path),
            reads: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    /// Reads and bytes since the last time.
    fn taken(&self) -> (u64, u64) {
        (
            self.reads.swap(0, Ordering::Relaxed),
            self.bytes.swap(0, Ordering::Relaxed),
        )
    }
}

impl ReadAt for Counted {
    fn len(&self) -> u64 {
        self.inner.len()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(buf.len() as u64, Ordering::Relaxed);
        self.inner.read_at(offset, buf)
    }
    fn next_data(&self, offset: u64) -> Result<Option<u64>> {
        self.inner.next_data(offset)
    }
    fn next_hole(&self, offset: u64) -> Result<u64> {
        self.inner.next_hole(offset)
    }
}

#[test]
fn opening_reads_the_superblock_and_attr_reads_one_inode() {
    let image = Image::new(32 << 20, "-t ext4 -b 4096");
    let counted = Arc::new(Counted::new(&image.path));
    let fs = Ext::open(Arc::<Counted>::clone(&counted)).unwrap();
    assert_eq!(counted.taken(), (1, 1024));
    fs.attr(fs.root()).unwrap();
    assert_eq!(counted.taken(), (2, 4096 + 256), "the descriptors once");
    fs.attr(fs.root()).unwrap();
    assert_eq!(counted.taken(), (1, 256));
}

#[test]
fn images_made_from_a_directory_are_read() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("sub")).unwrap();
    fs::write(dir.path().join("sub/file"), "content").unwrap();
    let large_blocks = Image::new(64 << 20, &format!("-t ext4 -b 65536 -d {}", dir.path().display()));
    let fs = open(&large_blocks.path);
    let sub = fs.lookup(fs.root(), b"sub").unwrap().unwrap();
    assert!(fs.lookup(sub, b"file").unwrap().is_some());
    let image = Image::new(16 << 20, &format!("-t ext4 -b 4096 -d {}", dir.path().display()));
    if can_loop_mount() {
        compare(&image.path, "-d");
    }
}
