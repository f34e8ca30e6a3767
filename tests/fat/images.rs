//! FAT images made by mkfs.fat and filled by mtools from a directory, which stays to be compared with.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use vaultfs::fs::fat::Fat;
use vaultfs::fs::{FileSystem, Inode};
use vaultfs::image::ReadAt;

use crate::common::Random;
use crate::files;
use crate::kept::{Kept, kept, same};

/// A FAT image and the directory that it was filled from.
pub struct Disk {
    at: tempfile::TempDir,
    pub name: String,
}

/// Runs an mtools command on an image; times are UTC and names UTF-8.
pub fn mtools(image: &Path, words: &[&str], more: &[&Path]) -> String {
    let done = Command::new(words[0])
        .arg("-i")
        .arg(image)
        .args(&words[1..])
        .args(more)
        .env("TZ", "UTC")
        .env("LC_ALL", "C.UTF-8")
        .env("MTOOLSRC", "/dev/null")
        .env("MTOOLS_SKIP_CHECK", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{words:?}: {said}");
    String::from_utf8_lossy(&done.stdout).into_owned()
}

impl Disk {
    /// An empty image of `kib` KiB and an empty directory.
    pub fn new(kib: u64, mkfs: &str) -> Self {
        let at = tempfile::tempdir().unwrap();
        let this = Self {
            at,
            name: format!("mkfs.fat {mkfs} of {kib} KiB"),
        };
        fs::create_dir(this.source()).unwrap();
        fs::File::create(this.image()).unwrap().set_len(kib << 10).unwrap();
        let image = this.image();
        let mut words = vec!["mkfs.fat", "-i", "deadbeef", "-n", "VOLUME"];
        words.extend(mkfs.split_whitespace());
        words.push(image.to_str().unwrap());
        files::run(&words);
        this
    }

    pub fn image(&self) -> PathBuf {
        self.at.path().join("image")
    }

    /// The directory that the image is filled from.
    pub fn source(&self) -> PathBuf {
        self.at.path().join("source")
    }

    /// Writes a file into the directory; its time is one that FAT can keep.
    pub fn file(&self, path: &str, content: &[u8], modified: u64) {
        let path = self.source().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(modified & !1);
        fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(time)
            .unwrap();
    }

    /// Copies all that is in the directory to the image.
    pub fn fill(&self) {
        let mut entries: Vec<PathBuf> = fs::read_dir(self.source())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        entries.sort();
        let mut more: Vec<&Path> = entries.iter().map(PathBuf::as_path).collect();
        more.push(Path::new("::/"));
        mtools(&self.image(), &["mcopy", "-s", "-m", "-n", "-o"], &more);
    }

    /// Deletes a file from the image and the directory.
    pub fn delete(&self, path: &str) {
        mtools(&self.image(), &["mdel", &format!("::/{path}")], &[]);
        fs::remove_file(self.source().join(path)).unwrap();
    }

    pub fn bytes(&self) -> Vec<u8> {
        fs::read(self.image()).unwrap()
    }

    pub fn set_bytes(&self, bytes: &[u8]) {
        fs::write(self.image(), bytes).unwrap();
    }

    pub fn volume(&self) -> Arc<dyn ReadAt> {
        files::volume(&self.image())
    }

    pub fn open(&self) -> Arc<dyn FileSystem> {
        Arc::new(Fat::open(self.volume()).unwrap_or_else(|error| panic!("{}: {error:?}", self.name)))
    }

    /// Finds a file by path.
    pub fn find(&self, fs: &Arc<dyn FileSystem>, path: &str) -> Inode {
        path.split('/').fold(fs.root(), |inode, name| {
            fs.lookup(inode, name.as_bytes())
                .unwrap()
                .unwrap_or_else(|| panic!("{}: {path:?} is not there", self.name))
        })
    }

    /// Makes a FAT32 of so many sectors, where nothing lies after them: mkfs.fat makes such ones too, but mtools takes them for FAT12.
    pub fn shrink(&self, sectors: u32) {
        let mut bytes = self.bytes();
        bytes.truncate(sectors as usize * 512);
        for boot in [0, 6 * 512] {
            bytes[boot + 32..boot + 36].copy_from_slice(&sectors.to_le_bytes());
        }
        // FSInfo: the number of free clusters is not known.
        bytes[512 + 488..512 + 492].fill(0xff);
        self.set_bytes(&bytes);
    }

    /// Compares the reader with the directory and with what mtools gets out of the image; gives the number of paths.
    pub fn check(&self) -> usize {
        self.check_without_mtools();
        let ours = kept(&files::tree_of(&self.open(), &self.volume()));
        let out = tempfile::tempdir().unwrap();
        mtools(&self.image(), &["mcopy", "-s", "-m", "-n", "::/"], &[out.path()]);
        // mtools takes 2100 for a leap year when it reads.
        let until_2100 = |mut tree: BTreeMap<PathBuf, Kept>| {
            for kept in tree.values_mut() {
                kept.modified = kept.modified.filter(|modified| *modified < 4_107_542_400);
            }
            tree
        };
        let theirs = until_2100(kept(&files::tree_of_directory(out.path())));
        let ours = until_2100(ours);
        same(&ours, &theirs, &self.name, "mtools");
        ours.len()
    }

    /// Compares the reader with the directory, and asks fsck.fat whether the image is sound.
    pub fn check_without_mtools(&self) -> usize {
        let checked = Command::new("fsck.fat")
            .args(["-n", "-v"])
            .arg(self.image())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&checked.stdout).into_owned();
        assert!(checked.status.success(), "{}: {said}", self.name);
        let ours = kept(&files::tree_of(&self.open(), &self.volume()));
        same(
            &ours,
            &kept(&files::tree_of_directory(&self.source())),
            &self.name,
            "the directory",
        );
        ours.len()
    }
}

/// Times that FAT can keep: the first and last, leap days, and now.
pub const TIMES: [u64; 6] = [
    315_532_800,
    951_782_400 + 86_398,
    1_795_219_200,
    4_107_542_399,
    4_354_732_800,
    4_354_819_198,
];

/// Puts into the directory what an ordinary volume has: short, long and Unicode names, depth, sizes around a cluster's.
pub fn ordinary(disk: &Disk, random: &mut Random, cluster: usize) {
    let names = [
        "README.TXT",
        "lower.txt",
        "MiXeD.Txt",
        "no-extension",
        "two.dots.in.name",
        "with blank and [brackets] + plus",
        "Ünïcödé ÄÖÜ ß.txt",
        "ελληνικά.txt",
        "中文文件名.dat",
        "snow ☃ and — dash.bin",
        ".hidden",
        "trailing~1",
        "ABCDEFGH.IJK",
        "exactly13char",
        "exactly26characters in all",
    ];
    for (name, time) in names.iter().zip(TIMES.iter().cycle()) {
        let len = usize::try_from(random.below(3000)).unwrap();
        disk.file(name, &random.bytes(len), *time);
    }
    for len in [0, 1, cluster - 1, cluster, cluster + 1, 3 * cluster] {
        disk.file(&format!("sizes/{len} bytes"), &random.bytes(len), TIMES[2]);
    }
    disk.file(&format!("{}.long", "n".repeat(250)), b"the longest name", TIMES[2]);
    let deep: String = (0..12).map(|level| format!("level {level}/")).collect();
    disk.file(&format!("{deep}leaf"), b"deep", TIMES[2]);
    fs::create_dir(disk.source().join("empty directory")).unwrap();
}
