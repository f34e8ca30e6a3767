//! A vault with an earlier backup, a backup that is about to be disturbed, and what must hold afterwards.

use crate::common::program::{self, stderr, succeed, vaultfs};
use crate::common::{Random, files, temporary_files};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;
use vaultfs::chunk::Reader;
use vaultfs::image::ReadAt;
use vaultfs::image::disk::DiskImage;
use vaultfs::store::local::LocalStore;
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

/// In memory where the system has such a directory: kills are what is tested, not the speed of a disk.
fn scratch() -> TempDir {
    let shared = Path::new("/dev/shm");
    let in_memory = tempfile::Builder::new().prefix("vaultfs-test-").tempdir_in(shared);
    in_memory.unwrap_or_else(|_| TempDir::new().unwrap())
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
            std::fs::write(dir.path().join("earlier.img"), &bytes).unwrap();
            let point = format!("2026-01-{number:02}T00-00-00Z");
            let disk = format!("vda={}", dir.path().join("earlier.img").display());
            let mut command = vaultfs(program::backup_words(&vault, "web", &disk));
            command.args(["--at", &point]);
            succeed(command);
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
        let from = self.dir.path().join("vault");
        for file in files(&from) {
            let to = desk.vault().join(file.strip_prefix(&from).unwrap());
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::copy(file, to).unwrap();
        }
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

    /// The words of the backup that is to be disturbed.
    pub(crate) fn backup_words(&self) -> Vec<OsString> {
        let disk = format!("vda={}", self.scene.dir.path().join("vda.img").display());
        let vault = self.vault();
        let mut words: Vec<OsString> = program::backup_words(&vault, "web", &disk)
            .iter()
            .map(OsString::from)
            .collect();
        *words.last_mut().unwrap() = self.scene.jobs.into();
        words.extend(["--at", "2026-02-01T00-00-00Z"].map(OsString::from));
        words
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
        let vault = Vault::open(Arc::new(LocalStore::open(&self.vault()).unwrap())).unwrap();
        let mut listed = Vec::new();
        for (resource, points) in vault.catalogue().unwrap() {
            listed.extend(points.into_iter().map(|point| resource.at(point)));
        }
        let disturbed: Address = "servers/web/2026-02-01T00-00-00Z".parse().unwrap();
        for address in &listed {
            let bytes =
                read(&vault, address).unwrap_or_else(|error| panic!("{what}: {address} is half there: {error}"));
            if *address == disturbed {
                let source = std::fs::read(self.scene.dir.path().join("vda.img")).unwrap();
                assert!(bytes == source, "{what}: {address} is not what was backed up");
            }
        }
        for (address, bytes) in &self.scene.earlier {
            assert!(listed.contains(address), "{what}: {address} is lost");
            assert!(read(&vault, address).unwrap() == *bytes, "{what}: {address} changed");
        }
        let count = |dir: &str| {
            let here = self.vault().join(dir);
            let there = self.scene.dir.path().join("vault").join(dir);
            let old: Vec<PathBuf> = files(&there)
                .iter()
                .map(|file| file.strip_prefix(&there).unwrap().to_owned())
                .collect();
            let is_new = |file: &&PathBuf| !old.contains(&file.strip_prefix(&here).unwrap().to_owned());
            let objects = files(&here);
            objects.iter().filter(is_new).filter(|file| !is_temporary(file)).count()
        };
        Left {
            packs: count("packs") + count("meta"),
            indexes: count("index"),
            manifest: listed.contains(&disturbed),
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
