//! One backup end to end against stores in memory: content, increments, holes, faults.

use super::*;
use crate::bytes::{to_u64, to_usize};
use crate::clock::Seconds;
use crate::image::handle::{Handle, ReadAhead};
use crate::monitor::Silent;
use crate::store::fault::{Fault, FaultStore, When};
use crate::store::memory::MemoryStore;
use crate::store::record::{Call, RecordingStore};
use crate::store::{Key, Store};
use std::ops::Range;
use std::sync::atomic::{AtomicI64, Ordering};

/// A disk in memory whose holes are exactly its runs of zeros given at creation.
#[derive(Clone)]
pub(crate) struct Memory {
    bytes: Arc<Vec<u8>>,
    data: Vec<Range<u64>>,
}

impl Memory {
    /// Data of a fixed pattern in `data`, holes elsewhere.
    pub(crate) fn sparse(size: u64, data: &[Range<u64>]) -> Self {
        let mut bytes = vec![0; to_usize(size.min(64 << 20))];
        for range in data {
            for at in range.clone() {
                if let Some(byte) = bytes.get_mut(to_usize(at)) {
                    *byte = (at % 251).to_le_bytes()[0] + 1;
                }
            }
        }
        Self {
            bytes: Arc::new(bytes),
            data: data.to_vec(),
        }
    }

    /// All data.
    fn dense(bytes: Vec<u8>) -> Self {
        let data = vec![0..to_u64(bytes.len())];
        Self {
            bytes: Arc::new(bytes),
            data,
        }
    }
}

impl ReadAt for Memory {
    fn len(&self) -> u64 {
        to_u64(self.bytes.len())
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> image::Result<()> {
        image::check_range(offset, buf.len(), self.len())?;
        buf.copy_from_slice(&self.bytes[to_usize(offset)..][..buf.len()]);
        Ok(())
    }
    fn next_data(&self, offset: u64) -> image::Result<Option<u64>> {
        Ok(self
            .data
            .iter()
            .find(|range| range.end > offset)
            .map(|range| range.start.max(offset)))
    }
    fn next_hole(&self, offset: u64) -> image::Result<u64> {
        Ok(self
            .data
            .iter()
            .find(|range| range.contains(&offset))
            .map_or(offset, |range| range.end))
    }
}

/// A clock that moves by a second each time it is read.
struct Ticking(AtomicI64);

impl Clock for Ticking {
    fn now(&self) -> Seconds {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

fn ticking() -> Ticking {
    Ticking(AtomicI64::new(1_795_143_600))
}

fn new_vault<S: Store + 'static>(store: &Arc<S>) -> Vault {
    let store: Arc<dyn Store> = Arc::<S>::clone(store);
    Vault::create(store, vault::new_config("test", 1 << 16, &ticking()).unwrap()).unwrap()
}

fn request(name: &str, disks: &[(&str, &Memory)]) -> Request {
    let input = |(name, source): &(&str, &Memory)| {
        let source = (*source).clone();
        let open: OpenSource = Box::new(move || Ok(Arc::new(source.clone())));
        DiskInput {
            name: (*name).to_owned(),
            bootable: false,
            open,
        }
    };
    Request {
        resource: ResourceName::new(ResourceKind::Server, name).unwrap(),
        input: Input::Disks(disks.iter().map(input).collect()),
        tags: Tags::new(),
        facts: None,
        consistency: Consistency::Crash,
        at: None,
        level: 3,
        jobs: 3,
        hooks: Hooks::default(),
    }
}

fn back_up(vault: &Vault, request: &Request, clock: &dyn Clock) -> Result<Report> {
    let cancel = AtomicBool::new(false);
    run(
        vault,
        request,
        Environment {
            monitor: &Silent,
            clock,
            cancel: &cancel,
        },
    )
}

fn open(vault: &Vault, report: &Report, disk: &str) -> DiskImage {
    let reader = Reader::new(vault.clone(), 64 << 20);
    let manifest = vault.load(&report.address).unwrap();
    DiskImage::open(&reader, &report.address, manifest.disk(disk).unwrap())
}

fn content(image: &DiskImage) -> Vec<u8> {
    let mut bytes = vec![0xee; to_usize(image.len())];
    image.read_at(0, &mut bytes).unwrap();
    bytes
}

/// Half compressible, half noise, never all zero in a chunk.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..len)
        .map(|at| {
            if at / 4096 % 2 == 0 {
                (at % 7).to_le_bytes()[0] + 1
            } else {
                next().to_le_bytes()[0]
            }
        })
        .collect()
}

#[test]
fn disks_come_back_as_they_were_with_holes_where_they_were() {
    let vault = new_vault(&Arc::new(MemoryStore::new()));
    let size = (200 << 16) + 777;
    let vda = Memory::sparse(size, &[5..6, (3 << 16)..(9 << 16) + 1, size - 1..size]);
    let vdb = Memory::dense(noise(1, 3_000_001));
    let empty = Memory::dense(Vec::new());
    let report = back_up(
        &vault,
        &request("web", &[("vda", &vda), ("vdb", &vdb), ("vdc", &empty)]),
        &ticking(),
    )
    .unwrap();
    for (name, source) in [("vda", &vda), ("vdb", &vdb), ("vdc", &empty)] {
        assert_eq!(&content(&open(&vault, &report, name)), source.bytes.as_ref());
    }
    let image = open(&vault, &report, "vda");
    assert_eq!(image.next_data(0).unwrap(), Some(0));
    assert_eq!(image.next_hole(0).unwrap(), 1 << 16);
    assert_eq!(image.next_data(1 << 16).unwrap(), Some(3 << 16));
    assert_eq!(image.next_hole(3 << 16).unwrap(), 10 << 16);
    assert_eq!(image.next_data(10 << 16).unwrap(), Some(200 << 16));
    assert_eq!(image.next_hole(200 << 16).unwrap(), size);
    assert_eq!(image.next_data(size).unwrap(), None);
    assert_eq!(report.manifest.disk("vda").unwrap().statistics.data, (8 << 16) + 777);
}

/// The directories of the objects that were written since the last look, in order.
fn written(store: &RecordingStore<MemoryStore>) -> Vec<String> {
    let put = |call| match call {
        Call::PutNew(key, _) => key.split('/').next().map(str::to_owned),
        _ => None,
    };
    store.take_calls().into_iter().filter_map(put).collect()
}

#[test]
fn a_second_backup_stores_little_more_than_what_changed() {
    let store = Arc::new(RecordingStore::new(MemoryStore::new()));
    let (vault, clock) = (new_vault(&store), ticking());
    let mut bytes = noise(2, 300 << 16);
    back_up(
        &vault,
        &request("web", &[("vda", &Memory::dense(bytes.clone()))]),
        &clock,
    )
    .unwrap();
    bytes[150 << 16] ^= 1;
    let changed = Memory::dense(bytes);
    let second = back_up(&vault, &request("web", &[("vda", &changed)]), &clock).unwrap();
    assert_eq!(second.manifest.disks()[0].statistics.new, 1 << 16);
    assert_eq!(&content(&open(&vault, &second, "vda")), changed.bytes.as_ref());
    store.take_calls();
    let third = back_up(&vault, &request("web", &[("vda", &changed)]), &clock).unwrap();
    assert_eq!(third.manifest.disks()[0].statistics.stored, 0);
    assert_eq!(written(&store), ["leases", "backups"]);
}

#[test]
fn the_manifest_is_written_last() {
    let store = Arc::new(RecordingStore::new(MemoryStore::new()));
    let vault = new_vault(&store);
    store.take_calls();
    back_up(
        &vault,
        &request("web", &[("vda", &Memory::dense(noise(3, 40 << 20)))]),
        &ticking(),
    )
    .unwrap();
    let puts = written(&store);
    let (packs, rest) = puts[1..].split_at(puts.len() - 3);
    assert_eq!(puts[0], "leases");
    assert!(
        packs.len() > 2 && packs.iter().all(|dir| dir == "packs" || dir == "meta"),
        "{puts:?}"
    );
    assert_eq!(rest, ["index", "backups"]);
}

#[test]
fn the_same_content_in_other_resources_costs_nothing() {
    let (vault, clock) = (new_vault(&Arc::new(MemoryStore::new())), ticking());
    let disk = Memory::dense(noise(4, 20 << 16));
    back_up(&vault, &request("a", &[("vda", &disk)]), &clock).unwrap();
    let other = back_up(&vault, &request("b", &[("x", &disk), ("y", &disk)]), &clock).unwrap();
    assert_eq!(other.manifest.sizes().new, 0);
    assert_eq!(&content(&open(&vault, &other, "y")), disk.bytes.as_ref());
}

#[test]
fn a_lost_or_damaged_pack_is_healed_by_the_next_backup() {
    let (store, clock) = (Arc::new(MemoryStore::new()), ticking());
    let vault = new_vault(&store);
    let disk = Memory::dense(noise(5, 20 << 16));
    back_up(&vault, &request("a", &[("vda", &disk)]), &clock).unwrap();
    for key in store.list("packs/").unwrap() {
        store.delete(&key).unwrap();
    }
    let healed = back_up(&vault, &request("a", &[("vda", &disk)]), &clock).unwrap();
    assert_eq!(&content(&open(&vault, &healed, "vda")), disk.bytes.as_ref());
}

#[test]
fn every_failing_operation_fails_the_backup_and_leaves_the_earlier_one() {
    for fault in [Fault::Error(std::io::ErrorKind::StorageFull), Fault::LostAnswer] {
        for number in 0..200 {
            let store = Arc::new(FaultStore::new(MemoryStore::new()));
            let (vault, clock) = (new_vault(&store), ticking());
            let first = Memory::dense(noise(6, 30 << 16));
            let earlier = back_up(&vault, &request("a", &[("vda", &first)]), &clock).unwrap();
            store.plan(When::From(number), fault);
            let second = Memory::dense(noise(7, 30 << 16));
            let outcome = back_up(&vault, &request("a", &[("vda", &second)]), &clock);
            let hits = store.hits();
            store.heal();
            assert_eq!(&content(&open(&vault, &earlier, "vda")), first.bytes.as_ref());
            for (resource, points) in vault.catalogue().unwrap() {
                for point in points {
                    assert!(vault.load(&resource.at(point)).is_ok());
                }
            }
            match outcome {
                Ok(report) => assert_eq!(&content(&open(&vault, &report, "vda")), second.bytes.as_ref()),
                Err(_) => assert!(hits > 0),
            }
            if hits == 0 {
                assert!(number > 8, "the fault was planned past the end at once");
                break;
            }
        }
    }
}

#[test]
fn the_same_second_goes_to_one_writer_and_the_next_to_the_other() {
    struct Still(AtomicI64);
    impl Clock for Still {
        fn now(&self) -> Seconds {
            // Stands still for a while, as a clock does between two calls.
            1_795_143_600 + self.0.fetch_add(1, Ordering::Relaxed) / 8
        }
    }
    let vault = new_vault(&Arc::new(MemoryStore::new()));
    let disk = Memory::dense(noise(8, 100));
    let clock = Still(AtomicI64::new(0));
    let one = back_up(&vault, &request("a", &[("vda", &disk)]), &clock).unwrap();
    let two = back_up(&vault, &request("a", &[("vda", &disk)]), &clock).unwrap();
    assert!(two.address.point > one.address.point);
    let mut fixed = request("a", &[("vda", &disk)]);
    fixed.at = Some(one.address.point);
    assert!(matches!(back_up(&vault, &fixed, &clock), Err(Error::Exists { .. })));
}

#[test]
fn after_hook_runs_also_on_failure_and_before_hook_stops_the_backup() {
    let dir = tempfile::tempdir().unwrap();
    let vault = new_vault(&Arc::new(MemoryStore::new()));
    let mark = dir.path().join("mark");
    let mut failing = request("a", &[("vda", &Memory::dense(vec![1; 10]))]);
    failing.hooks = Hooks {
        before: Some("exit 3".to_owned()),
        after: Some(format!("echo $VAULTFS_STATUS $VAULTFS_RESOURCE > {}", mark.display())),
    };
    assert!(matches!(
        back_up(&vault, &failing, &ticking()),
        Err(Error::Hook { which: "before", .. })
    ));
    assert_eq!(std::fs::read_to_string(&mark).unwrap(), "failed servers/a\n");
    assert!(vault.catalogue().unwrap().is_empty());
    failing.hooks.before = None;
    back_up(&vault, &failing, &ticking()).unwrap();
    assert_eq!(std::fs::read_to_string(&mark).unwrap(), "ok servers/a\n");
}

#[test]
fn interrupting_commits_nothing() {
    let vault = new_vault(&Arc::new(MemoryStore::new()));
    let cancel = AtomicBool::new(true);
    let request = request("a", &[("vda", &Memory::dense(noise(9, 1 << 20)))]);
    let environment = Environment {
        monitor: &Silent,
        clock: &ticking(),
        cancel: &cancel,
    };
    assert!(matches!(run(&vault, &request, environment), Err(Error::Interrupted)));
    assert!(vault.catalogue().unwrap().is_empty());
}

#[test]
fn sequential_read_fetches_each_chunk_once() {
    let store = Arc::new(RecordingStore::new(MemoryStore::new()));
    let vault = new_vault(&store);
    let disk = Memory::dense(noise(10, 200 << 16));
    let report = back_up(&vault, &request("a", &[("vda", &disk)]), &ticking()).unwrap();
    let image = Arc::new(open(&vault, &report, "vda"));
    let read_ahead = Arc::new(ReadAhead::of(image.reader()).unwrap());
    let handle = Handle::new(Arc::clone(&image), read_ahead);
    store.take_calls();
    let mut bytes = Vec::new();
    while let Some(part) = Some(handle.read(to_u64(bytes.len()), 1 << 16).unwrap()).filter(|part| !part.is_empty()) {
        bytes.extend_from_slice(&part);
    }
    assert_eq!(&bytes, disk.bytes.as_ref());
    let counters = image.reader().cache().counters();
    assert_eq!(counters.loads, 200 + 1, "each chunk, and one page");
}

/// A disk of 16 TiB and a byte: two chunks of data, one of them the last, and nothing between.
struct Huge;

impl ReadAt for Huge {
    fn len(&self) -> u64 {
        (1 << 44) + 1
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> image::Result<()> {
        image::check_range(offset, buf.len(), self.len())?;
        buf.fill(if offset < 1 << 40 { 0 } else { 7 });
        Ok(())
    }
    fn next_data(&self, offset: u64) -> image::Result<Option<u64>> {
        Ok([1 << 40, 1 << 44].into_iter().find(|at| *at >= offset))
    }
    fn next_hole(&self, offset: u64) -> image::Result<u64> {
        Ok((offset + 1).min(self.len()))
    }
}

/// The request of a backup of [`Huge`].
fn huge_request() -> Request {
    let mut request = request("a", &[]);
    request.input = Input::Disks(vec![DiskInput {
        name: "vda".to_owned(),
        bootable: false,
        open: Box::new(|| Ok(Arc::new(Huge))),
    }]);
    request
}

#[test]
fn an_unchanged_disk_of_many_pages_stores_nothing() {
    let store = Arc::new(RecordingStore::new(MemoryStore::new()));
    let (vault, clock) = (new_vault(&store), ticking());
    let first = back_up(&vault, &huge_request(), &clock).unwrap();
    store.take_calls();
    let second = back_up(&vault, &huge_request(), &clock).unwrap();
    assert_eq!(second.manifest.disks()[0].roots, first.manifest.disks()[0].roots);
    assert_eq!(second.manifest.disks()[0].statistics.stored, 0);
    assert_eq!(written(&store), ["leases", "backups"]);
}

#[test]
fn a_disk_of_many_pages_has_page_lists_and_its_holes_cost_nothing() {
    let store = Arc::new(MemoryStore::new());
    let vault = new_vault(&store);
    let report = back_up(&vault, &huge_request(), &ticking()).unwrap();
    assert_eq!(report.manifest.disk("vda").unwrap().levels, 1);
    let image = open(&vault, &report, "vda");
    assert_eq!(image.next_data(0).unwrap(), Some(1 << 40));
    assert_eq!(image.next_data((1 << 40) + (1 << 16)).unwrap(), Some(1 << 44));
    let total: u64 = store
        .list("")
        .unwrap()
        .iter()
        .map(|key: &Key| store.head(key).unwrap())
        .sum();
    assert!(total < 64 << 10, "{total} bytes for a few chunks");
}
