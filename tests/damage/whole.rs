//! A vault that holds every type of object, as programs write them; how it is read, verified and pruned.

use crate::common::Random;
use crate::common::clock::Fake;
use crate::common::disks::{self, CHUNK, Sparse, length};
use crate::common::packs::records;
use crate::common::stored::{Files, walk};
use crate::sample::Reading;
use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use vaultfs::backup::{Excludes, Input, Mounts, Rehash, Request as BackupRequest, TreeInput};
use vaultfs::chunk::Reader;
use vaultfs::clock::Clock;
use vaultfs::fs::FileSystem;
use vaultfs::fs::stored::Stored;
use vaultfs::image::ReadAt;
use vaultfs::image::disk::DiskImage;
use vaultfs::lease::{Kind, Lease};
use vaultfs::monitor::Silent;
use vaultfs::prune::{self, Mode, Settings};
use vaultfs::store::memory::MemoryStore;
use vaultfs::store::{Key, Store};
use vaultfs::vault::mark::sweep_key;
use vaultfs::vault::quarantine::Quarantine;
use vaultfs::vault::{Address, Consistency, Lock, Manifest, Pin, ResourceKind, ResourceName, Tombstone, Vault};
use vaultfs::verify::{self, Depth, Report, Slice};

const HOUR: Duration = Duration::from_secs(3600);

/// The vault, and everything that is to be read from it.
#[derive(Default)]
pub(crate) struct Whole {
    pub(crate) objects: BTreeMap<Key, Vec<u8>>,
    /// What time it is when the vault is looked at.
    clock: Fake,
    manifests: BTreeMap<Address, Manifest>,
    disks: BTreeMap<Address, Sparse>,
    files: Files,
    /// The backup that is deleted, marked, and about to be removed.
    gone: Option<Address>,
}

/// A chunk that is mostly one byte, so that the vault stays small, and begins like no other.
fn chunk(random: &mut Random, byte: u8) -> Vec<u8> {
    let mut bytes = random.bytes(200);
    bytes.resize(length(CHUNK), byte);
    bytes
}

fn write_tree(dir: &Path, random: &mut Random) {
    std::fs::create_dir(dir.join("docs")).unwrap();
    std::fs::write(dir.join("docs/report"), random.bytes(700)).unwrap();
    std::fs::write(dir.join("note"), b"small enough for its item").unwrap();
    std::fs::write(dir.join("long"), chunk(random, 7)).unwrap();
    symlink("docs/report", dir.join("link")).unwrap();
}

impl Whole {
    /// Backups of two servers and of a tree; one that is pinned, one that is locked; one that is deleted, which a mark lists and a sweep is
    /// about to remove; a chunk that was put into quarantine and stored again; and the lease of a writer that has seen the mark.
    pub(crate) fn new() -> Self {
        let mut random = Random::new(0xda3a_6e04);
        let dir = tempfile::tempdir().unwrap();
        write_tree(dir.path(), &mut random);
        let store = Arc::new(MemoryStore::new());
        let vault = disks::new_vault(Arc::<MemoryStore>::clone(&store));
        let clock = Fake::default();
        let mut whole = Self::default();
        let web = Sparse::new(
            4 * CHUNK + 99,
            vec![(0, chunk(&mut random, 1)), (4 * CHUNK, random.bytes(99))],
        );
        let db = Sparse::new(600, vec![(0, random.bytes(600))]);
        let gone = Sparse::new(CHUNK, vec![(0, chunk(&mut random, 2))]);
        whole.add(&vault, &disks::request("web", &[("vda", &web)]), &clock, Some(&web));
        let db = whole.add(&vault, &disks::request("db", &[("vda", &db)]), &clock, Some(&db));
        let home = whole.add(&vault, &tree_request(dir.path()), &clock, None);
        let gone = whole.add(&vault, &disks::request("gone", &[("vda", &gone)]), &clock, Some(&gone));
        let (at, by) = (clock.now(), "test".to_owned());
        let tombstone = Tombstone { at, by: by.clone() };
        vault.delete(&gone, &tombstone).unwrap();
        prune_at(&vault, &clock).unwrap();
        clock.pass(HOUR);
        let lease = Lease::take(&vault, Kind::Backup, &clock).unwrap();
        quarantine_and_heal(&vault, &web, |request| {
            whole.add(&vault, request, &clock, Some(&web));
        });
        let reason = "before the upgrade".to_owned();
        let until = Some(at + 86_400 * 365);
        let pin = Pin {
            at,
            by: by.clone(),
            reason,
            until,
        };
        vault.pin(&db, &pin).unwrap();
        let until = "2027-01-01T00-00-00Z".parse().unwrap();
        vault.lock(&home, until, &Lock { at, by }).unwrap();
        let mark = vault.marks().unwrap()[0];
        let intent = serde_json::json!({ "at": clock.now() });
        vault.put_record(&sweep_key(&mark).unwrap(), &intent).unwrap();
        (whole.clock, whole.gone) = (clock, Some(gone));
        let keys = store.list("").unwrap().into_iter();
        whole.objects = keys
            .map(|key| (key.clone(), store.get(&key, 1 << 20).unwrap()))
            .collect();
        drop(lease);
        whole.files = tree_as_stored(&vault, &home, dir.path());
        assert_eq!(whole.read(&whole.store()), Reading::Identical);
        whole
    }

    /// Makes a backup that must be there from now on.
    fn add(&mut self, vault: &Vault, request: &BackupRequest, clock: &Fake, disk: Option<&Sparse>) -> Address {
        clock.pass(HOUR);
        let report = disks::back_up(vault, request, clock).unwrap();
        self.manifests.insert(report.address.clone(), report.manifest);
        self.disks
            .extend(disk.map(|disk| (report.address.clone(), disk.clone())));
        report.address
    }

    /// Says whether this is the manifest of the backup that is deleted.
    pub(crate) fn is_gone(&self, key: &Key) -> bool {
        let gone = self.gone.as_ref().map(|gone| format!("backups/{gone}"));
        gone.as_deref() == Some(key.as_str())
    }

    /// A fresh copy of the vault's objects.
    pub(crate) fn store(&self) -> Arc<MemoryStore> {
        let store = Arc::new(MemoryStore::new());
        let objects = self.objects.iter();
        objects.for_each(|(key, data)| store.overwrite(key, data.clone()));
        store
    }

    /// Reads every backup by a fresh vault and reader; panics if anything wrong is delivered. `Failed` names what is not there, and the
    /// deleted backup if it is.
    pub(crate) fn read(&self, store: &Arc<MemoryStore>) -> Reading {
        let Ok(vault) = Vault::open(Arc::<MemoryStore>::clone(store)) else {
            return Reading::Failed(vec!["vault".to_owned()]);
        };
        let mut failed = Vec::new();
        let catalogue = vault.catalogue().unwrap();
        let reader = Reader::new(vault.clone(), 0);
        for (address, expected) in &self.manifests {
            let points = catalogue.get(&address.resource);
            let is_there = points.is_some_and(|points| points.contains(&address.point));
            if is_there == (self.gone.as_ref() == Some(address)) {
                failed.push(format!("{address} is there: {is_there}"));
            }
            if !is_there {
                continue;
            }
            let Ok(manifest) = vault.load(address) else {
                failed.push(address.to_string());
                continue;
            };
            assert_eq!(&manifest, expected, "{address}");
            match (manifest.tree(), self.disks.get(address)) {
                (Some(tree), None) => {
                    let stored = Stored::open(&reader, address, tree);
                    let read = self.read_files(Arc::new(stored));
                    failed.extend(read.err().map(|what| format!("{address}: {what}")));
                }
                (None, Some(disk)) => {
                    let image = DiskImage::open(&reader, address, &manifest.disks()[0]);
                    failed.extend(read_disk(&image, disk).into_iter().map(|at| format!("{address}@{at}")));
                }
                _ => panic!("{address} is of another kind"),
            }
        }
        if failed.is_empty() {
            Reading::Identical
        } else {
            Reading::Failed(failed)
        }
    }

    /// Reads every file, and compares it with what it was; what fails is returned.
    fn read_files(&self, tree: Arc<dyn FileSystem>) -> Result<(), String> {
        let (found, failed) = walk(&tree);
        for (path, file) in &found {
            assert_eq!(Some(file), self.files.get(path), "{}", path.escape_ascii());
        }
        if failed.is_empty() {
            assert_eq!(found.len(), self.files.len(), "a file is not listed");
            return Ok(());
        }
        Err(failed.join(", "))
    }

    /// Verifies everything that there is, and writes nothing; `None` if there is no vault any more.
    pub(crate) fn verify(&self, store: &Arc<MemoryStore>) -> Option<Report> {
        let vault = Vault::open(Arc::<MemoryStore>::clone(store)).ok()?;
        let request = verify::Request {
            backups: None,
            depth: Depth::Data,
            slice: Slice::WHOLE,
            jobs: 1,
            rate: None,
            state: None,
            by: None,
        };
        let environment = verify::Environment {
            monitor: &Silent,
            clock: &self.clock,
            cancel: &AtomicBool::new(false),
        };
        Some(verify::run(&vault, &request, environment).unwrap())
    }

    /// Prunes, an hour later.
    pub(crate) fn prune(&self, store: &Arc<MemoryStore>) -> Result<prune::Report, prune::Error> {
        let clock = self.clock.fork();
        clock.pass(HOUR / 2);
        prune_at(&Vault::open(Arc::<MemoryStore>::clone(store)).unwrap(), &clock)
    }
}

fn prune_at(vault: &Vault, clock: &Fake) -> Result<prune::Report, prune::Error> {
    let settings = Settings {
        grace: Duration::ZERO,
        keep_deleted: Duration::ZERO,
        repack_below: 30,
    };
    let environment = prune::Environment {
        monitor: &Silent,
        clock,
        cancel: &AtomicBool::new(false),
    };
    prune::run(vault, settings, Mode::Run, environment)
}

fn tree_request(path: &Path) -> BackupRequest {
    BackupRequest {
        resource: ResourceName::new(ResourceKind::Filesystem, "home").unwrap(),
        input: Input::Tree(TreeInput {
            path: path.to_owned(),
            excludes: Excludes::nothing(),
            rehash: Rehash::Changed,
            mounts: Mounts::Keep,
        }),
        consistency: Consistency::None,
        ..disks::request("home", &[])
    }
}

/// Puts a chunk of the first pack into quarantine, as if it had been damaged for a while, and backs the disk up again.
fn quarantine_and_heal(vault: &Vault, disk: &Sparse, back_up: impl FnOnce(&BackupRequest)) {
    let first = vaultfs::vault::ChunkId::of(&disk.bytes(0..CHUNK));
    let holds = |key: &Key| {
        let object = vault.store().get(key, 1 << 20).unwrap();
        records(vault, key, &object).iter().any(|record| record.id == first)
    };
    let packs = vault.store().list("packs/").unwrap();
    let pack = packs.into_iter().find(holds).unwrap();
    let id = vault.frame_of(&pack).unwrap().object_id;
    let found = Quarantine {
        at: disks::START,
        by: "test".to_owned(),
        what: "its bytes are damaged".to_owned(),
    };
    assert!(vault.put_quarantine(&id, &first, &found).unwrap());
    back_up(&disks::request("web", &[("vda", disk)]));
    assert_eq!(vault.moved_from(&id).unwrap().len(), 1);
}

/// Reads an image; returns where it fails.
fn read_disk(image: &DiskImage, model: &Sparse) -> Vec<u64> {
    assert_eq!(image.len(), model.len());
    let starts = (0..model.len()).step_by(length(CHUNK));
    let fails = |start: &u64| {
        let range = *start..(start + CHUNK).min(model.len());
        let mut bytes = vec![0xee; length(range.end - range.start)];
        let read = image.read_at(*start, &mut bytes);
        assert!(read.is_err() || bytes == model.bytes(range), "wrong bytes at {start}");
        read.is_err()
    };
    starts.filter(fails).collect()
}

/// The files of a sound backup, their content and paths held against the directory that it was made of.
fn tree_as_stored(vault: &Vault, address: &Address, dir: &Path) -> Files {
    let manifest = vault.load(address).unwrap();
    let reader = Reader::new(vault.clone(), 0);
    let stored: Arc<dyn FileSystem> = Arc::new(Stored::open(&reader, address, manifest.tree().unwrap()));
    let (files, failed) = walk(&stored);
    assert_eq!(failed, Vec::<String>::new());
    for name in ["docs/report", "note", "long"] {
        let path = format!("/{name}");
        assert!(files[path.as_bytes()].content == std::fs::read(dir.join(name)).unwrap());
    }
    assert_eq!(files[b"/link".as_slice()].content, b"docs/report");
    assert_eq!(files.len(), 6, "with the root and one directory");
    files
}
