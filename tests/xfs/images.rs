//! Images made by mkfs.xfs, and the reader opened on them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use vaultfs::fs::FileSystem;
use vaultfs::fs::xfs::Xfs;
use vaultfs::image::ReadAt;

use crate::files::{self, LoopMount, Tree};

/// A file system of its own directory; both go with the value.
pub struct Image {
    dir: tempfile::TempDir,
}

impl Image {
    /// Makes a file system of `mib` MiB with options of mkfs.xfs.
    pub fn new(mib: u64, options: &str) -> Self {
        let image = Self { dir: scratch() };
        let file = std::fs::File::create(image.path()).unwrap();
        file.set_len(mib << 20).unwrap();
        let path = image.path();
        // Without the last, sizes below those of today's servers are refused.
        let mut words = vec!["mkfs.xfs", "-q", "-f", "--unsupported"];
        words.extend(options.split_whitespace());
        words.push(path.to_str().unwrap());
        files::run(&words);
        image
    }

    /// A copy of the image as it is now.
    pub fn copy(&self) -> Self {
        let copy = Self { dir: scratch() };
        let (from, to) = (self.path(), copy.path());
        files::run(&["cp", "--sparse=always", from.to_str().unwrap(), to.to_str().unwrap()]);
        copy
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join("xfs.img")
    }

    /// Lets the kernel write to it.
    pub fn fill(&self, fill: impl FnOnce(&Path)) {
        let mount = LoopMount::new(&self.path(), "rw,nouuid");
        fill(mount.path());
        mount.unmount();
    }

    /// Runs xfs_db, with leave to write.
    pub fn db(&self, commands: &[&str]) -> String {
        let path = self.path();
        let mut words = vec!["xfs_db", "-x"];
        for command in commands {
            words.extend(["-c", command]);
        }
        words.push(path.to_str().unwrap());
        files::run(&words)
    }
}

/// A directory in memory where there is one: what is tested here is not the host's disk, which takes five times as long.
pub fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

/// The reader on an image file, and the volume below it.
pub fn open(path: &Path) -> (Arc<dyn FileSystem>, Arc<dyn ReadAt>) {
    let volume = files::volume(path);
    let fs: Arc<dyn FileSystem> = Arc::new(Xfs::open(Arc::clone(&volume)).unwrap());
    (fs, volume)
}

/// What the reader shows of an image file.
pub fn ours(path: &Path) -> Tree {
    let (fs, volume) = open(path);
    files::tree_of(&fs, &volume)
}

/// What the kernel shows of it without replaying its log.
pub fn kernels(path: &Path) -> Tree {
    let mount = LoopMount::new(path, "ro,norecovery,nouuid,noatime");
    files::tree_of_directory(mount.path())
}

/// Writes the checksum at `crc_at` that fits the rest of a structure.
pub fn seal(structure: &mut [u8], crc_at: usize) {
    structure[crc_at..crc_at + 4].fill(0);
    let crc = !vaultfs::checksum::crc32c(!0, structure);
    structure[crc_at..crc_at + 4].copy_from_slice(&crc.to_le_bytes());
}
