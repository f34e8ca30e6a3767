//! A vault with an earlier backup, a backup that is about to be disturbed, and what must hold afterwards.

use crate::common::program::{self, stderr, succeed, vaultfs};
use crate::common::{Random, copy_files, files, open, scratch, temporary_files};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;
use vaultfs::chunk::Reader;
use vaultfs::image::ReadAt;
use vaultfs::image::disk::DiskImage;
use vaultfs::vault::{Address, Vault};

const SMALL: usize = 300_000;

/// A vault to be copied, the disks of its backups by address, and the disk of the backup to be disturbed.
pub(crate) struct Scene {
    dir: TempDir,
    earlier: Vec<(Address, Vec<u8>)>,
    jobs: &'static str,
}

/// What was found after a disturbance.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Left {
    /// Packs and meta packs that are new.
    pub(crate) packs: usize,
    /// Indexes that are new.
    pub(crate) indexes: usize,
    /// Whether the disturbed backup is there.
    pub(crate) manifest: bool,
    /// Temporary files.
    pub(crate) temporary: usize,
}

/// Data of which each seed shares two thirds with every other: chunks that are found, and chunks that are new.
fn disk_bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = Random::quiet(1).bytes(len);
    let new = len / 3;
    bytes[new..2 * new].copy_from_slice(&Random::quiet(seed).bytes(new));
    bytes
}

/// Backs up a disk with these bytes.
#[track_caller]
pub(crate) fn back_up(vault: &Path, server: &str, point: &str, bytes: &[u8]) {
    let path = vault.with_extension("img");
    std::fs::write(&path, bytes).unwrap();
    let disk = format!("vda={}", path.display());
    let mut command = vaultfs(program::backup_words(vault, server, &disk));
    command.args(["--at", point]);
    succeed(command);
}

/// What every backup that a vault lists holds, by its address.
pub(crate) type Contents = BTreeMap<Address, Vec<u8>>;

/// Reads the disk of every backup that a vault lists; one that is there reads whole.
#[track_caller]
pub(crate) fn contents(vault: &Path) -> Contents {
    let vault = open(vault);
    let points = vault.catalogue().unwrap().into_iter();
    let addresses = points.flat_map(|(resource, points)| points.into_iter().map(move |point| resource.at(point)));
    let whole = |address: Address| match read(&vault, &address) {
        Ok(bytes) => (address, bytes),
        Err(error) => panic!("{address} is half there: {error}"),
    };
    addresses.map(whole).collect()
}

/// The objects of a vault by the first part of their keys, and their bytes; what was begun under a temporary name is none.
pub(crate) fn objects(vault: &Path) -> BTreeMap<String, BTreeMap<PathBuf, Vec<u8>>> {
    let mut objects = BTreeMap::<String, BTreeMap<PathBuf, Vec<u8>>>::new();
    for file in files(vault).into_iter().filter(|file| !is_temporary(file)) {
        let key = file.strip_prefix(vault).unwrap().to_owned();
        let kind = key.iter().next().unwrap().to_string_lossy().into_owned();
        objects
            .entry(kind)
            .or_default()
            .insert(key, std::fs::read(file).unwrap());
    }
    objects
}

/// How many objects a vault has by the first part of their keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Counts(BTreeMap<String, usize>);

impl Counts {
    pub(crate) fn of(vault: &Path) -> Self {
        let objects = objects(vault).into_iter();
        Self(objects.map(|(kind, objects)| (kind, objects.len())).collect())
    }

    pub(crate) fn number(&self, kind: &str) -> usize {
        self.0.get(kind).copied().unwrap_or(0)
    }
}

/// A stage of some work: its name, and how what a kill left tells that it fell into it.
pub(crate) type Stage<'a, T> = (&'a str, &'a dyn Fn(&T) -> bool);

/// Asserts that kills fell into each of these stages, and tells how many.
#[track_caller]
pub(crate) fn every_stage<T>(of: &str, left: &[T], stages: &[Stage<'_, T>]) {
    let count = |is_in: &dyn Fn(&T) -> bool| left.iter().filter(|left| is_in(left)).count();
    let counts: Vec<(&str, usize)> = stages.iter().map(|(name, is_in)| (*name, count(*is_in))).collect();
    println!("{of}: {} kills: {counts:?}", left.len());
    assert!(counts.iter().all(|(_, count)| *count > 0), "{of}: {counts:?}");
}

impl Scene {
    /// One earlier backup; the disturbed one changes a third of the disk.
    pub(crate) fn changed() -> Self {
        Self::new(1, 50, SMALL, "1")
    }

    /// The disturbed backup finds every chunk.
    pub(crate) fn unchanged() -> Self {
        Self::new(1, 2, SMALL, "1")
    }

    /// So many indexes that the disturbed backup merges them and deletes the merged ones.
    pub(crate) fn merging() -> Self {
        Self::new(12, 50, SMALL, "1")
    }

    /// A disk large enough to be killed anywhere in the work of several threads.
    pub(crate) fn large() -> Self {
        Self::new(1, 50, 24 << 20, "4")
    }

    fn new(backups: u64, seed: u64, len: usize, jobs: &'static str) -> Self {
        let dir = scratch();
        let vault = program::init(dir.path());
        let mut earlier = Vec::new();
        for number in 1..=backups {
            let bytes = disk_bytes(len, 1 + number);
            let point = format!("2026-01-{number:02}T00-00-00Z");
            back_up(&vault, "web", &point, &bytes);
            earlier.push((format!("servers/web/{point}").parse().unwrap(), bytes));
        }
        let scene = Self { dir, earlier, jobs };
        std::fs::write(scene.dir.path().join("vda.img"), disk_bytes(len, seed)).unwrap();
        scene
    }

    /// A copy of the vault to work on.
    pub(crate) fn desk(&self) -> Desk<'_> {
        let desk = Desk {
            dir: scratch(),
            scene: self,
        };
        copy_files(&self.dir.path().join("vault"), &desk.vault());
        desk
    }
}

/// A copy of a scene's vault.
pub(crate) struct Desk<'a> {
    dir: TempDir,
    scene: &'a Scene,
}

impl Desk<'_> {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn vault(&self) -> PathBuf {
        self.path("vault")
    }

    /// The backup that is to be disturbed.
    pub(crate) fn backup(&self) -> Command {
        let disk = format!("vda={}", self.scene.dir.path().join("vda.img").display());
        let vault = self.vault();
        let mut words = program::backup_words(&vault, "web", &disk);
        *words.last_mut().unwrap() = self.scene.jobs.as_ref();
        let mut command = vaultfs(words);
        command.args(["--at", "2026-02-01T00-00-00Z"]);
        command
    }

    /// Writes a disk; returns it as `--disk` wants it.
    pub(crate) fn write_disk(&self, name: &str, seed: u64) -> String {
        let path = self.path(name);
        std::fs::write(&path, disk_bytes(SMALL, seed)).unwrap();
        format!("vda={}", path.display())
    }

    /// What `vaultfs cat` writes of a backup's disk.
    pub(crate) fn cat(&self, address: &str) -> Vec<u8> {
        let image = OsString::from(format!("{address}/disks/vda.img"));
        succeed(vaultfs(["cat".into(), self.vault().into_os_string(), image]))
    }

    /// Checks that every backup that is listed reads whole, that every earlier one is among them with its bytes, and that the
    /// disturbed one is there whole or not at all.
    #[track_caller]
    pub(crate) fn check(&self, what: &str) -> Left {
        let listed = contents(&self.vault());
        let disturbed: Address = "servers/web/2026-02-01T00-00-00Z".parse().unwrap();
        if let Some(bytes) = listed.get(&disturbed) {
            let source = std::fs::read(self.scene.dir.path().join("vda.img")).unwrap();
            assert!(*bytes == source, "{what}: {disturbed} is not what was backed up");
        }
        for (address, bytes) in &self.scene.earlier {
            assert!(
                listed.get(address) == Some(bytes),
                "{what}: {address} is lost or changed"
            );
        }
        let (here, there) = (objects(&self.vault()), objects(&self.scene.dir.path().join("vault")));
        let nothing = BTreeMap::new();
        let count = |kind: &str| {
            let old = there.get(kind).unwrap_or(&nothing);
            let objects = here.get(kind).unwrap_or(&nothing);
            objects.keys().filter(|key| !old.contains_key(*key)).count()
        };
        Left {
            packs: count("packs") + count("meta"),
            indexes: count("index"),
            manifest: listed.contains_key(&disturbed),
            temporary: temporary_files(&self.vault()).len(),
        }
    }

    /// Makes the next backup with the program, at once, and reads it and an earlier one back with the program.
    #[track_caller]
    pub(crate) fn next_backup_succeeds(&self, what: &str) {
        let disk = self.write_disk("next.img", 99);
        let vault = self.vault();
        let mut command = vaultfs(program::backup_words(&vault, "web", &disk));
        let output = command.args(["--at", "2026-03-01T00-00-00Z"]).output().unwrap();
        assert!(
            output.status.success(),
            "{what}: the next backup failed: {}",
            stderr(&output)
        );
        assert!(
            self.cat("servers/web/2026-03-01T00-00-00Z") == disk_bytes(SMALL, 99),
            "{what}"
        );
        let (address, bytes) = &self.scene.earlier[0];
        assert!(
            self.cat(&address.to_string()) == *bytes,
            "{what}: {address} changed by the next backup"
        );
    }
}

fn is_temporary(path: &Path) -> bool {
    path.file_name().unwrap().to_string_lossy().starts_with(".tmp-")
}

/// Reads the disk of a backup by a fresh reader.
fn read(vault: &Vault, address: &Address) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let manifest = vault.load(address)?;
    let disk = manifest.disk("vda").ok_or("it has no vda")?;
    let image = DiskImage::open(&Reader::new(vault.clone(), 0), address, disk);
    let mut bytes = vec![0; usize::try_from(image.len())?];
    image.read_at(0, &mut bytes)?;
    Ok(bytes)
}
