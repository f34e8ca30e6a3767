//! The vault that is damaged, how it is read, and what a reading is worth.

use crate::common::Random;
use crate::common::disks::{self, CHUNK, Sparse, Ticking, length};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use vaultfs::chunk::Reader;
use vaultfs::image::ReadAt;
use vaultfs::image::disk::DiskImage;
use vaultfs::store::memory::MemoryStore;
use vaultfs::store::{Key, Store};
use vaultfs::vault::{Address, Manifest, Vault};

/// A disk of a backup and what it held.
pub(crate) struct Image {
    pub(crate) address: Address,
    pub(crate) disk: String,
    pub(crate) model: Sparse,
    /// The data of the model, chunk by chunk.
    pub(crate) chunks: Vec<(Range<u64>, Vec<u8>)>,
    /// Runs of data chunks.
    data: Vec<Range<u64>>,
}

/// A vault, and everything that is to be read from it.
pub(crate) struct Sample {
    pub(crate) objects: BTreeMap<Key, Vec<u8>>,
    pub(crate) images: Vec<Image>,
    manifests: BTreeMap<Address, Manifest>,
}

/// What reading a whole vault came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Every byte is there and right.
    Identical,
    /// Whatever was delivered is right, and these parts failed: `vault`, `catalogue`, a backup, or a chunk of a disk.
    Failed(Vec<String>),
}

impl Reading {
    pub(crate) fn found(&self) -> bool {
        *self != Self::Identical
    }
}

/// Goes through a list on all cores, each with a state of its own; the results are in the order of the list.
pub(crate) fn on_all_cores<M: Sync, S, T: Send>(
    mutants: &[M],
    state: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, &M) -> T + Sync,
) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let thread = || {
        let (mut state, mut results) = (state(), Vec::new());
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(mutant) = mutants.get(number) else {
                return results;
            };
            results.push((number, work(&mut state, mutant)));
        }
    };
    let cores = std::thread::available_parallelism().unwrap().get();
    let mut results: Vec<(usize, T)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(thread)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    results.sort_unstable_by_key(|(number, _)| *number);
    assert_eq!(results.len(), mutants.len());
    results.into_iter().map(|(_, result)| result).collect()
}

/// Data that compresses to about half, different in each run of 4 KiB.
fn half(random: &mut Random, len: usize) -> Vec<u8> {
    let mut bytes = random.bytes(len);
    for block in bytes.chunks_mut(4096).step_by(2) {
        block
            .iter_mut()
            .enumerate()
            .for_each(|(at, byte)| *byte = (at % 7).to_le_bytes()[0] + 1);
    }
    bytes
}

impl Sample {
    /// Two backups of a server with three disks: one of data, holes and a short last chunk; one so small that its only chunk is
    /// stored as it is; one so large and empty that its map has page lists. And a second server that shares a chunk. No object is
    /// there twice, so that one reader for all of it meets every one.
    pub(crate) fn new() -> Self {
        let mut random = Random::new(0xda3a_6e01);
        let chunk = length(CHUNK);
        let text = vec![b'a'; 3 * chunk];
        let data = half(&mut random, chunk);
        let end = random.bytes(777);
        let vda = |data: &[u8]| {
            let pieces = vec![(0, text.clone()), (5 * CHUNK, data.to_vec()), (7 * CHUNK, end.clone())];
            Sparse::new(7 * CHUNK + 777, pieces)
        };
        let small = random.bytes(1500);
        let vdb = Sparse::new(1500, vec![(0, small.clone())]);
        let shared = Sparse::new(CHUNK + 1500, vec![(CHUNK, small)]);
        // One chunk, in a page of its own after 257 pages of holes.
        let pages = 257 * 1024 * CHUNK;
        let vdc = Sparse::new(pages + 100, vec![(pages, vec![7; 100])]);
        let mut changed = data.clone();
        changed[chunk - 1] ^= 1;
        changed.truncate(20_000);
        let (first, second) = (vda(&data), vda(&changed));
        let store = Arc::new(MemoryStore::new());
        let vault = disks::new_vault(Arc::<MemoryStore>::clone(&store));
        let clock = Ticking::default();
        let backups = [
            ("web", vec![("vda", &first), ("vdb", &vdb), ("vdc", &vdc)]),
            ("web", vec![("vda", &second), ("vdb", &vdb), ("vdc", &vdc)]),
            ("db", vec![("disk", &shared)]),
        ];
        let (mut images, mut manifests) = (Vec::new(), BTreeMap::new());
        for (server, inputs) in &backups {
            let report = disks::back_up(&vault, &disks::request(server, inputs), &clock).unwrap();
            for (name, model) in inputs {
                let data = model.data_chunks(CHUNK);
                let starts = data.iter().flat_map(|range| {
                    let (end, last) = (range.end, range.end.div_ceil(CHUNK));
                    (range.start / CHUNK..last).map(move |number| number * CHUNK..end.min((number + 1) * CHUNK))
                });
                images.push(Image {
                    address: report.address.clone(),
                    disk: (*name).to_owned(),
                    model: (*model).clone(),
                    chunks: starts.map(|range| (range.clone(), model.bytes(range))).collect(),
                    data,
                });
            }
            manifests.insert(report.address, report.manifest);
        }
        assert_eq!(manifests.first_key_value().unwrap().1.disks().len(), 1);
        let page_lists = manifests
            .values()
            .flat_map(Manifest::disks)
            .filter(|disk| disk.levels == 1);
        assert_eq!(page_lists.count(), 2, "disks with page lists");
        let keys = store.list("").unwrap().into_iter();
        let objects: BTreeMap<Key, Vec<u8>> = keys
            .map(|key| (key.clone(), store.get(&key, 1 << 20).unwrap()))
            .collect();
        let sample = Self {
            objects,
            images,
            manifests,
        };
        assert_eq!(sample.read(&sample.store()), Reading::Identical);
        sample
    }

    /// A fresh copy of the vault's objects.
    pub(crate) fn store(&self) -> Arc<MemoryStore> {
        let store = Arc::new(MemoryStore::new());
        self.objects
            .iter()
            .for_each(|(key, data)| store.overwrite(key, data.clone()));
        store
    }

    /// The keys that start with `prefix`.
    pub(crate) fn keys(&self, prefix: &str) -> Vec<Key> {
        self.objects
            .keys()
            .filter(|key| key.as_str().starts_with(prefix))
            .cloned()
            .collect()
    }

    /// Reads everything there is by a fresh vault and reader; panics if anything wrong is delivered.
    pub(crate) fn read(&self, store: &Arc<MemoryStore>) -> Reading {
        let Ok(vault) = Vault::open(Arc::<MemoryStore>::clone(store)) else {
            return Reading::Failed(vec!["vault".to_owned()]);
        };
        let mut failed = Vec::new();
        let mut listed = Vec::new();
        for (resource, points) in vault.catalogue().unwrap() {
            listed.extend(points.into_iter().map(|point| resource.at(point)));
        }
        let mut loaded = BTreeMap::new();
        for address in listed {
            match vault.load(&address) {
                Ok(manifest) => {
                    assert_eq!(Some(&manifest), self.manifests.get(&address), "{address}");
                    loaded.insert(address, manifest);
                }
                Err(_) => failed.push(address.to_string()),
            }
        }
        let reader = Reader::new(vault, 0);
        for image in &self.images {
            match loaded
                .get(&image.address)
                .and_then(|manifest| manifest.disk(&image.disk))
            {
                Some(disk) => image.read(&DiskImage::open(&reader, &image.address, disk), &mut failed),
                None => failed.push(image.address.to_string()),
            }
        }
        if failed.is_empty() {
            Reading::Identical
        } else {
            Reading::Failed(failed)
        }
    }

    /// Reads every mutant that `mutants` names, on all cores; `apply` puts it into the store and `undo` is done by copying the
    /// object back. Returns each mutant's reading.
    pub(crate) fn read_mutants<M: Sync + std::fmt::Debug>(
        &self,
        key: &Key,
        mutants: &[M],
        mutate: impl Fn(&[u8], &M) -> Vec<u8> + Sync,
    ) -> Vec<bool> {
        let original = &self.objects[key];
        on_all_cores(
            mutants,
            || self.store(),
            |store, mutant| {
                let data = mutate(original, mutant);
                assert_ne!(&data, original, "{mutant:?} is no mutant");
                store.overwrite(key, data);
                let read = std::panic::AssertUnwindSafe(|| self.read(store));
                let reading = std::panic::catch_unwind(read);
                let reading = reading.unwrap_or_else(|_| panic!("{key}: wrong bytes or a panic at {mutant:?}"));
                reading.found()
            },
        )
    }
}

impl Image {
    /// Reads the whole image and compares it with the model; what fails is named in `failed`.
    fn read(&self, image: &DiskImage, failed: &mut Vec<String>) {
        let name = |at: u64| format!("{}/{}@{at}", self.address, self.disk);
        assert_eq!(image.len(), self.model.len());
        for (range, expected) in &self.chunks {
            let mut bytes = vec![0xee; expected.len()];
            match image.read_at(range.start, &mut bytes) {
                Ok(()) => assert!(bytes == *expected, "wrong bytes at {}", name(range.start)),
                Err(_) => failed.push(name(range.start)),
            }
        }
        // The map from end to end: data and holes must alternate as in the model, until an error.
        let mut at = 0;
        for data in &self.data {
            match image.next_data(at) {
                Ok(found) => assert_eq!(found, Some(data.start), "{}", name(at)),
                Err(_) => return failed.push(name(at)),
            }
            match image.next_hole(data.start) {
                Ok(found) => assert_eq!(found, data.end, "{}", name(data.start)),
                Err(_) => return failed.push(name(data.start)),
            }
            // The bytes around both edges, where a hole meets data.
            for edge in [data.start, data.end] {
                let around = edge.saturating_sub(10)..(edge + 10).min(image.len());
                let mut bytes = vec![0xee; length(around.end - around.start)];
                match image.read_at(around.start, &mut bytes) {
                    Ok(()) => assert!(
                        bytes == self.model.bytes(around.clone()),
                        "wrong bytes at {}",
                        name(edge)
                    ),
                    Err(_) => failed.push(name(edge)),
                }
            }
            at = data.end;
        }
        match image.next_data(at) {
            Ok(found) => assert_eq!(found, None, "{}", name(at)),
            Err(_) => failed.push(name(at)),
        }
    }
}
