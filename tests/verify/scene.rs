//! A small vault with every type of object, in memory, and how it is verified.

use crate::common::Random;
use crate::common::disks::{self, CHUNK, Sparse, Ticking, length};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tempfile::TempDir;
use vaultfs::backup::{Excludes, Hooks, Input, Mounts, Rehash, Report as Backup, Request as BackupRequest, TreeInput};
use vaultfs::chunk::Reader;
use vaultfs::image::ReadAt;
use vaultfs::image::disk::DiskImage;
use vaultfs::monitor::Silent;
use vaultfs::repair::{Plan, Repair};
use vaultfs::store::memory::MemoryStore;
use vaultfs::store::{Key, Store};
use vaultfs::vault::tags::Tags;
use vaultfs::vault::{Address, Consistency, ResourceKind, ResourceName, Vault};
use vaultfs::verify::{self, Depth, Environment, Report, Request, Slice};

pub(crate) struct Scene {
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) vault: Vault,
    pub(crate) clock: Ticking,
    pub(crate) dir: TempDir,
    pub(crate) disk: Sparse,
}

/// A request for everything.
pub(crate) fn everything(depth: Depth) -> Request {
    Request {
        backups: None,
        depth,
        slice: Slice::WHOLE,
        jobs: 2,
        rate: None,
        state: None,
        by: Some("test".to_owned()),
    }
}

/// Verifies a vault that may have any store behind it.
pub(crate) fn verify_vault(vault: &Vault, request: &Request) -> verify::Result<Report> {
    let cancel = AtomicBool::new(false);
    let environment = Environment {
        monitor: &Silent,
        clock: &Ticking::default(),
        cancel: &cancel,
    };
    verify::run(vault, request, environment)
}

impl Scene {
    /// One backup of a server with a disk, and one of a tree with a large file, a small one, and one in a directory.
    pub(crate) fn new() -> Self {
        let scene = Self::empty(7);
        scene.back_up_disk();
        scene.back_up_tree();
        scene
    }

    /// The same disk and tree, and no backups yet.
    pub(crate) fn empty(seed: u64) -> Self {
        let mut random = Random::quiet(seed);
        let store = Arc::new(MemoryStore::new());
        let vault = disks::new_vault(Arc::<MemoryStore>::clone(&store));
        let dir = tempfile::tempdir_in(trees()).unwrap();
        let tree = dir.path().join("tree");
        std::fs::create_dir_all(tree.join("docs/deep")).unwrap();
        std::fs::write(tree.join("large.bin"), random.bytes(3 << 20)).unwrap();
        std::fs::write(tree.join("note.txt"), b"a small file").unwrap();
        std::fs::write(tree.join("docs/deep/report.odt"), random.bytes(30_000)).unwrap();
        let pieces = (0..6)
            .map(|number| (number * 2 * CHUNK, random.bytes(length(CHUNK))))
            .collect();
        Self {
            store,
            vault,
            clock: Ticking::default(),
            dir,
            disk: Sparse::new(1100 * CHUNK, pieces),
        }
    }

    pub(crate) fn back_up_disk(&self) -> Backup {
        disks::back_up(&self.vault, &disks::request("web", &[("vda", &self.disk)]), &self.clock).unwrap()
    }

    pub(crate) fn back_up_tree(&self) -> Backup {
        let request = BackupRequest {
            resource: ResourceName::new(ResourceKind::Filesystem, "home").unwrap(),
            input: Input::Tree(TreeInput {
                path: self.dir.path().join("tree"),
                excludes: Excludes::nothing(),
                rehash: Rehash::Changed,
                mounts: Mounts::Keep,
            }),
            tags: Tags::new(),
            facts: None,
            consistency: Consistency::None,
            at: None,
            level: 3,
            jobs: 1,
            hooks: Hooks::default(),
        };
        disks::back_up(&self.vault, &request, &self.clock).unwrap()
    }

    pub(crate) fn keys(&self, prefix: &str) -> Vec<Key> {
        self.store.list(prefix).unwrap()
    }

    pub(crate) fn object(&self, key: &Key) -> Vec<u8> {
        self.store.get(key, 1 << 30).unwrap()
    }

    /// Flips one bit of an object.
    pub(crate) fn flip(&self, key: &Key, at: usize) {
        let mut object = self.object(key);
        object[at] ^= 1;
        self.store.overwrite(key, object);
    }

    pub(crate) fn verify(&self, depth: Depth) -> Report {
        verify_vault(&self.vault, &everything(depth)).unwrap()
    }

    /// All objects, to be put back.
    pub(crate) fn objects(&self) -> BTreeMap<Key, Vec<u8>> {
        self.keys("")
            .into_iter()
            .map(|key| (key.clone(), self.object(&key)))
            .collect()
    }

    /// Makes the store what it was.
    pub(crate) fn put_back(&self, objects: &BTreeMap<Key, Vec<u8>>) {
        for key in self.keys("").iter().filter(|key| !objects.contains_key(key)) {
            self.store.delete(key).unwrap();
        }
        objects
            .iter()
            .for_each(|(key, object)| self.store.overwrite(key, object.clone()));
    }

    /// Reads a disk of a backup through a fresh reader and compares it with what was backed up.
    pub(crate) fn reads_whole(&self, address: &Address) -> bool {
        let manifest = self.vault.load(address).unwrap();
        let reader = Reader::new(self.vault.clone(), 8 << 20);
        let image = DiskImage::open(&reader, address, &manifest.disks()[0]);
        let mut bytes = vec![0; length(self.disk.len())];
        image.read_at(0, &mut bytes).is_ok() && bytes == self.disk.bytes(0..self.disk.len())
    }

    /// What can be repaired; and repairs it if `apply` says so.
    pub(crate) fn repair(&self, from: Option<&Vault>, apply: bool) -> Plan {
        let cancel = AtomicBool::new(false);
        let environment = Environment {
            monitor: &Silent,
            clock: &self.clock,
            cancel: &cancel,
        };
        let repair = Repair::new(&self.vault, from, 2, environment).unwrap();
        let plan = repair.plan().unwrap();
        if apply {
            repair.run(&plan).unwrap();
        }
        plan
    }
}

/// Where trees lie: files there keep their times and blocks.
fn trees() -> PathBuf {
    std::env::temp_dir()
}
