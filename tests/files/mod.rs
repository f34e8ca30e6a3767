//! What a reader says of a file system against what the kernel says of it: both sides as a map from path to facts.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::as_conversions,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vaultfs::fs::content::Content;
use vaultfs::fs::{DeviceNumber, FileSystem, FileType, Inode, Timestamp};
use vaultfs::image::ReadAt;
use vaultfs::source::raw::RawDisk;

/// Everything that a reader must tell as the kernel does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    pub file_type: FileType,
    pub permissions: u16,
    pub owner: (u32, u32),
    pub size: Option<u64>,
    pub blocks: Option<u64>,
    pub links: u32,
    pub device: DeviceNumber,
    pub modified: Timestamp,
    pub changed: Timestamp,
    pub accessed: Timestamp,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub target: Option<Vec<u8>>,
    pub content: Option<String>,
    /// Paths with the same inode have the same number here; a hard link shows as the first path of its group.
    pub same_as: Option<PathBuf>,
}

/// Path from the root of the file system to facts; the root is the empty path.
pub type Tree = BTreeMap<PathBuf, Facts>;

/// An image file as what readers read.
pub fn volume(path: &Path) -> Arc<dyn ReadAt> {
    Arc::new(RawDisk::open(path).unwrap())
}

/// Walks a reader. Fails on an error anywhere: sound images have none.
pub fn tree_of(fs: &Arc<dyn FileSystem>, volume: &Arc<dyn ReadAt>) -> Tree {
    let mut tree = Tree::new();
    let mut first = BTreeMap::new();
    let mut waiting = vec![(PathBuf::new(), fs.root())];
    while let Some((path, inode)) = waiting.pop() {
        let facts = facts_of(fs, volume, inode, &path);
        if facts.file_type == FileType::Directory {
            for (name, child) in names_of(fs, inode) {
                assert_eq!(
                    fs.lookup(inode, &name).unwrap(),
                    Some(child),
                    "lookup of {name:?} in {path:?}"
                );
                waiting.push((path.join(OsStr::from_bytes(&name)), child));
            }
            let absent = fs.lookup(inode, b"no such name, ever").unwrap();
            assert_eq!(absent, None, "in {path:?}");
        }
        let group: &mut Vec<PathBuf> = first.entry(inode).or_default();
        group.push(path.clone());
        assert!(tree.insert(path, facts).is_none(), "a path is there twice");
    }
    link(&mut tree, first.into_values());
    tree
}

/// All names of a directory, by requests that end after 100 names each, as the kernel's do.
pub fn names_of(fs: &Arc<dyn FileSystem>, directory: Inode) -> Vec<(Vec<u8>, Inode)> {
    let mut names = Vec::new();
    let mut cookie = 0;
    loop {
        let before = names.len();
        fs.read_dir(directory, cookie, &mut |entry| {
            assert!(entry.next > cookie, "a cookie that does not grow");
            cookie = entry.next;
            names.push((entry.name.to_vec(), entry.inode));
            names.len() < before + 100
        })
        .unwrap();
        if names.len() < before + 100 {
            return names;
        }
    }
}

fn facts_of(fs: &Arc<dyn FileSystem>, volume: &Arc<dyn ReadAt>, inode: Inode, path: &Path) -> Facts {
    let attr = fs
        .attr(inode)
        .unwrap_or_else(|error| panic!("attr of {path:?}: {error:?}"));
    let target = (attr.file_type == FileType::Symlink).then(|| fs.read_link(inode).unwrap());
    let content = (attr.file_type == FileType::File).then(|| {
        let content = Content::open(Arc::clone(fs), Arc::clone(volume), inode).unwrap();
        let mut hash = Hash::default();
        let mut buf = vec![0; 1 << 20];
        // Whole holes are passed as holes: a sparse file of terabytes must not take hours.
        let mut at = 0;
        while at < content.size() {
            let data = content.next_data(at).unwrap().unwrap_or(content.size());
            assert!(data >= at);
            at = data;
            let hole = if at < content.size() {
                content.next_hole(at).unwrap()
            } else {
                at
            };
            while at < hole {
                let len = usize::try_from((hole - at).min(1 << 20)).unwrap();
                content
                    .read(at, &mut buf[..len])
                    .unwrap_or_else(|error| panic!("{path:?} at {at}: {error:?}"));
                hash.data(at, &buf[..len]);
                at += len as u64;
            }
        }
        hash.end(content.size())
    });
    Facts {
        file_type: attr.file_type,
        permissions: attr.permissions,
        owner: (attr.uid, attr.gid),
        size: (attr.file_type != FileType::Directory).then_some(attr.size),
        blocks: Some(attr.blocks),
        links: attr.links,
        device: attr.device,
        modified: attr.modified,
        changed: attr.changed,
        accessed: attr.accessed,
        xattrs: fs
            .xattrs(inode)
            .unwrap_or_else(|error| panic!("xattrs of {path:?}: {error:?}")),
        target,
        content,
        same_as: None,
    }
}

/// Walks a directory that the kernel (or we) mounted, without crossing into another mount.
pub fn tree_of_directory(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut groups: BTreeMap<u64, Vec<PathBuf>> = BTreeMap::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(path) = waiting.pop() {
        let full = if path.as_os_str().is_empty() {
            root.to_path_buf()
        } else {
            root.join(&path)
        };
        let metadata = fs::symlink_metadata(&full).unwrap_or_else(|error| panic!("{full:?}: {error}"));
        let kind = metadata.file_type();
        let file_type = FileType::from_mode(u16::try_from(metadata.mode() & 0xf000).unwrap()).unwrap();
        let time = |seconds, nanos: i64| Timestamp {
            seconds,
            nanos: u32::try_from(nanos).unwrap(),
        };
        let is_device = kind.is_char_device() || kind.is_block_device();
        let facts = Facts {
            file_type,
            permissions: u16::try_from(metadata.mode() & 0o7777).unwrap(),
            owner: (metadata.uid(), metadata.gid()),
            size: (!kind.is_dir()).then_some(metadata.len()),
            blocks: Some(metadata.blocks()),
            links: u32::try_from(metadata.nlink()).unwrap(),
            device: DeviceNumber {
                major: if is_device {
                    rustix::fs::major(metadata.rdev())
                } else {
                    0
                },
                minor: if is_device {
                    rustix::fs::minor(metadata.rdev())
                } else {
                    0
                },
            },
            modified: time(metadata.mtime(), metadata.mtime_nsec()),
            changed: time(metadata.ctime(), metadata.ctime_nsec()),
            accessed: time(metadata.atime(), metadata.atime_nsec()),
            xattrs: xattrs_of(&full),
            target: kind
                .is_symlink()
                .then(|| fs::read_link(&full).unwrap().into_os_string().as_bytes().to_vec()),
            content: kind.is_file().then(|| hash_file(&full)),
            same_as: None,
        };
        if kind.is_dir() {
            for entry in fs::read_dir(&full).unwrap() {
                waiting.push(path.join(entry.unwrap().file_name()));
            }
        }
        groups.entry(metadata.ino()).or_default().push(path.clone());
        tree.insert(path, facts);
    }
    link(&mut tree, groups.into_values());
    tree
}

fn link(tree: &mut Tree, groups: impl Iterator<Item = Vec<PathBuf>>) {
    for mut group in groups.filter(|group| group.len() > 1) {
        group.sort();
        for path in &group[1..] {
            tree.get_mut(path).unwrap().same_as = Some(group[0].clone());
        }
    }
}

fn xattrs_of(path: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut list = vec![0; 64 << 10];
    let len = rustix::fs::llistxattr(path, &mut list[..]).unwrap();
    let mut xattrs = Vec::new();
    for name in list[..len].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 64 << 10];
        let len = rustix::fs::lgetxattr(path, OsStr::from_bytes(name), &mut value[..]).unwrap();
        xattrs.push((name.to_vec(), value[..len].to_vec()));
    }
    xattrs.sort();
    xattrs
}

fn hash_file(path: &Path) -> String {
    let mut file = fs::File::open(path).unwrap();
    let size = file.metadata().unwrap().len();
    let mut hash = Hash::default();
    let mut buf = vec![0; 1 << 20];
    let mut at = 0;
    while at < size {
        use rustix::fs::SeekFrom;
        let Ok(data) = rustix::fs::seek(&file, SeekFrom::Data(at)) else {
            break;
        };
        let hole = rustix::fs::seek(&file, SeekFrom::Hole(data)).unwrap();
        rustix::fs::seek(&file, SeekFrom::Start(data)).unwrap();
        at = data;
        while at < hole {
            let len = usize::try_from((hole - at).min(1 << 20)).unwrap();
            file.read_exact(&mut buf[..len]).unwrap();
            hash.data(at, &buf[..len]);
            at += len as u64;
        }
    }
    hash.end(size)
}

/// A hash of content in which a hole and zeros are the same, however the runs are cut.
#[derive(Default)]
struct Hash {
    hasher: blake3::Hasher,
}

impl Hash {
    fn data(&mut self, at: u64, bytes: &[u8]) {
        for (piece, index) in bytes.chunks(512).zip(0_u64..) {
            // Runs begin at multiples of 512 in every file system here, or in inline data at 0.
            if piece.iter().any(|byte| *byte != 0) {
                let len = piece.len() - piece.iter().rev().take_while(|byte| **byte == 0).count();
                self.hasher.update(&(at + index * 512).to_le_bytes());
                self.hasher.update(&piece[..len]);
            }
        }
    }

    fn end(&self, size: u64) -> String {
        let mut hasher = self.hasher.clone();
        hasher.update(&size.to_le_bytes());
        hasher.finalize().to_hex().to_string()
    }
}

/// What a restored tree must have in common with its source: not the time of the last change of attributes, which nobody can
/// set, and not the space taken.
pub fn restorable(mut tree: Tree) -> Tree {
    for facts in tree.values_mut() {
        facts.changed = Timestamp::default();
        facts.blocks = None;
    }
    tree
}

/// Says in full where two trees differ, the first ten places; nothing if they do not.
pub fn assert_same(ours: &Tree, kernels: &Tree, image: &str) {
    let mut lines = Vec::new();
    for path in ours
        .keys()
        .chain(kernels.keys())
        .collect::<std::collections::BTreeSet<_>>()
    {
        match (ours.get(path), kernels.get(path)) {
            (Some(ours), Some(kernels)) if ours == kernels => {}
            (ours, kernels) => lines.push(format!("{}\n  ours:   {ours:?}\n  kernel: {kernels:?}", path.display())),
        }
    }
    let count = lines.len();
    lines.truncate(10);
    assert!(
        lines.is_empty(),
        "{image}: {count} of {} paths differ:\n{}",
        kernels.len(),
        lines.join("\n")
    );
}

/// An image mounted by the kernel through a loop device; unmounted when it is dropped.
pub struct LoopMount {
    at: tempfile::TempDir,
    image: PathBuf,
    /// Where the kernel tells which file the device of the mount has.
    backing_file: PathBuf,
    has_ended: bool,
}

/// How long an unmount is tried: children of other tests may hold what they inherited for a moment, and whoever looks at a
/// new device (udev does) puts its end off.
const UNMOUNT_TIMEOUT: Duration = Duration::from_secs(10);

impl LoopMount {
    /// Mounts `image` with `-o loop,` and `options`; needs root.
    #[track_caller]
    pub fn new(image: &Path, options: &str) -> Self {
        let at = tempfile::tempdir().unwrap();
        let options = format!("loop,{options}");
        let [image_text, at_text] = [image, at.path()].map(|path| path.to_str().unwrap());
        run(&["mount", "-o", &options, image_text, at_text]);
        let device = fs::metadata(at.path()).unwrap().dev();
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        Self {
            backing_file: format!("/sys/dev/block/{major}:{minor}/loop/backing_file").into(),
            image: image.canonicalize().unwrap(),
            at,
            has_ended: false,
        }
    }

    /// Mounts the file system that begins at byte `offset` of `image` and has `len` bytes, 0 for all up to the end; read-only.
    #[track_caller]
    pub fn of_range(image: &Path, (offset, len): (u64, u64), options: &str) -> Self {
        Self::new(image, &format!("ro,offset={offset},sizelimit={len},{options}"))
    }

    pub fn path(&self) -> &Path {
        self.at.path()
    }

    /// Unmounts for certain, and waits until the image is complete and nobody's.
    #[track_caller]
    pub fn unmount(mut self) {
        assert!(self.end(), "{} stays mounted", self.image.display());
    }

    /// Says whether all came about that [`unmount`](Self::unmount) promises.
    fn end(&mut self) -> bool {
        self.has_ended = true;
        let umount = || {
            let done = Command::new("umount").arg(self.at.path()).output();
            done.is_ok_and(|done| done.status.success())
        };
        let is_detached = || {
            let file = fs::read_to_string(&self.backing_file).unwrap_or_default();
            Path::new(file.trim_end()) != self.image
        };
        soon(umount) && soon(is_detached)
    }
}

/// Asks again and again whether something has come about, until [`UNMOUNT_TIMEOUT`].
fn soon(is_done: impl Fn() -> bool) -> bool {
    let began = Instant::now();
    while !is_done() {
        if began.elapsed() > UNMOUNT_TIMEOUT {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

impl Drop for LoopMount {
    fn drop(&mut self) {
        if !self.has_ended && !self.end() {
            let _ = Command::new("umount").arg("-l").arg(self.at.path()).status();
        }
    }
}

/// Says whether loop mounts can be made here; where they cannot, says so aloud, and fails if VAULTFS_REQUIRE_FUSE=1.
pub fn can_loop_mount() -> bool {
    if rustix::process::geteuid().is_root() && Path::new("/dev/loop-control").exists() {
        return true;
    }
    let why = "this test needs root and loop devices";
    assert!(std::env::var("VAULTFS_REQUIRE_FUSE").as_deref() != Ok("1"), "{why}");
    eprintln!("SKIPPED: {why}");
    false
}

/// Runs a tool and fails with its words if it fails.
pub fn run(words: &[&str]) -> String {
    let done = Command::new(words[0]).args(&words[1..]).output();
    let done = done.unwrap_or_else(|error| panic!("{}: {error}", words[0]));
    assert!(
        done.status.success(),
        "{words:?}: {}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
    String::from_utf8_lossy(&done.stdout).into_owned()
}
