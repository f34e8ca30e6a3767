//! The scene of the test: a real server, two backups of it with a day's work between, their vault mounted, and the disks as
//! they were at each point.

use super::tools::{Loop, run};
use crate::common::mounted::Mount;
use crate::common::program::{succeed, vaultfs};
use crate::common::{can_mount, have, skip};
use serde_json::Value;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

pub(crate) const DISKS: [&str; 2] = ["vda", "vdb"];

/// One backup and what it is of.
pub(crate) struct Point {
    /// What `show --json` prints.
    pub(crate) manifest: Value,
    /// Where the disks are as they were.
    sources: PathBuf,
}

impl Point {
    pub(crate) fn address(&self) -> &str {
        self.manifest["address"].as_str().unwrap()
    }

    /// The disk as it was when it was backed up.
    pub(crate) fn source(&self, disk: &str) -> PathBuf {
        self.sources.join(format!("{disk}.img"))
    }

    /// A figure of the backup.
    pub(crate) fn figure(&self, name: &str) -> u64 {
        self.manifest[name].as_u64().unwrap()
    }

    /// A figure of one disk.
    pub(crate) fn disk_figure(&self, disk: &str, name: &str) -> u64 {
        let mut disks = self.manifest["disks"].as_array().unwrap().iter();
        let found = disks.find(|entry| entry["name"] == disk).unwrap();
        found[name].as_u64().unwrap()
    }
}

/// The server, the vault and the mount; all of it goes when this is dropped.
pub(crate) struct Scene {
    // Dropped in this order: the mount before the directory it is in.
    pub(crate) mount: Mount,
    pub(crate) points: [Point; 2],
    pub(crate) vault: PathBuf,
    /// How many bytes the second backup made the vault larger.
    pub(crate) growth: u64,
    dir: tempfile::TempDir,
}

impl Scene {
    /// Makes everything; `None`, said aloud, where that cannot be.
    pub(crate) fn new(test: &str) -> Option<Self> {
        let tools = [
            "debootstrap",
            "sfdisk",
            "mkfs.vfat",
            "mcopy",
            "mkfs.ext4",
            "mkfs.xfs",
            "qemu-img",
        ];
        if !can_mount(test) || !tools.iter().all(|tool| have(test, tool)) {
            return None;
        }
        if let Err(why) = Loop::possible() {
            skip(test, &format!("no loop devices: {why}"));
            return None;
        }
        // Gigabytes: /tmp may be memory.
        let place = std::env::var_os("TMPDIR").unwrap_or_else(|| "/var/tmp".into());
        let dir = tempfile::Builder::new()
            .prefix("vaultfs-server-")
            .tempdir_in(place)
            .unwrap();
        let [vault, server, kept] = ["vault", "server", "first"].map(|name| dir.path().join(name));
        script("make-server", &[OsStr::new("--small"), server.as_os_str()]);
        succeed(vaultfs([OsStr::new("init"), vault.as_os_str()]));

        let first = back_up(&vault, &server);
        std::fs::create_dir(&kept).unwrap();
        for disk in DISKS.map(|disk| format!("{disk}.img")) {
            let (from, to) = (server.join(&disk), kept.join(&disk));
            run("cp", ["--sparse=always".as_ref(), from.as_os_str(), to.as_os_str()]);
        }
        let size = size_of(&vault);
        script("change-server", &[server.as_os_str()]);
        let second = back_up(&vault, &server);
        let growth = size_of(&vault) - size;

        let mount = Mount::new(dir.path(), &vault, "");
        let point = |manifest, sources| Point { manifest, sources };
        Some(Self {
            mount,
            points: [point(first, kept), point(second, server)],
            vault,
            growth,
            dir,
        })
    }

    /// A disk's image in the mount.
    pub(crate) fn image(&self, point: &Point, disk: &str) -> PathBuf {
        self.mount.path(&format!("{}/disks/{disk}.img", point.address()))
    }

    /// All images of both points, each with its source.
    pub(crate) fn images(&self) -> Vec<Image<'_>> {
        let of = |point| {
            DISKS.map(|disk| Image {
                point,
                disk,
                path: self.image(point, disk),
                source: point.source(disk),
            })
        };
        self.points.iter().flat_map(of).collect()
    }

    /// A new path outside the mount.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// An image in the mount.
pub(crate) struct Image<'a> {
    pub(crate) point: &'a Point,
    pub(crate) disk: &'static str,
    pub(crate) path: PathBuf,
    pub(crate) source: PathBuf,
}

/// Runs one of the project's scripts.
#[track_caller]
fn script(name: &str, words: &[&OsStr]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(name);
    run(path.to_str().unwrap(), words);
}

/// Backs up the server's disks and returns the manifest.
#[track_caller]
fn back_up(vault: &Path, server: &Path) -> Value {
    let disks = DISKS.map(|disk| format!("--disk={disk}={}", server.join(format!("{disk}.img")).display()));
    let facts = format!("--facts={}", server.join("server.json").display());
    let words = ["backup", vault.to_str().unwrap(), "server", "web-01"].into_iter();
    let words = words
        .chain(disks.iter().map(String::as_str))
        .chain([facts.as_str(), "--json"]);
    let done: Value = serde_json::from_slice(&succeed(vaultfs(words))).unwrap();
    let address = done["address"].as_str().unwrap();
    let shown = succeed(vaultfs(["show", vault.to_str().unwrap(), address, "--json"]));
    serde_json::from_slice(&shown).unwrap()
}

/// The bytes of all files below `dir`.
fn size_of(dir: &Path) -> u64 {
    let files = crate::common::files(dir);
    files.iter().map(|file| file.metadata().unwrap().len()).sum()
}

/// Calls `see` with the range and the bytes of each chunk of a disk.
pub(crate) fn for_each_chunk(disk: &Path, chunk: u64, mut see: impl FnMut((u64, u64), &[u8])) {
    let file = File::open(disk).unwrap();
    let (len, mut at) = (file.metadata().unwrap().len(), 0);
    let mut buf = vec![0; usize::try_from(chunk).unwrap()];
    while at < len {
        let end = len.min(at + chunk);
        let bytes = &mut buf[..usize::try_from(end - at).unwrap()];
        file.read_exact_at(bytes, at).unwrap();
        see((at, end), bytes);
        at = end;
    }
}
