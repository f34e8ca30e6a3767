//! A vault in memory, actors on it, and what must be true after every operation: each backup that was committed and not deleted reads
//! back whole.

use crate::common::Random;
use crate::common::clock::Fake;
use crate::common::disks::{CHUNK, Sparse, length, new_vault};
use crate::steps::{Gate, Steps, Turn};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use vaultfs::backup::{self, DiskInput, Hooks, Input, OpenSource};
use vaultfs::chunk::Reader;
use vaultfs::clock::Clock;
use vaultfs::copy;
use vaultfs::image::ReadAt;
use vaultfs::image::disk::DiskImage;
use vaultfs::monitor::Silent;
use vaultfs::prune::{self, Mode, Report, Settings};
use vaultfs::store::memory::MemoryStore;
use vaultfs::store::record::{Call, RecordingStore};
use vaultfs::store::{Key, Store};
use vaultfs::vault::object::{ObjectId, ObjectType};
use vaultfs::vault::tags::Tags;
use vaultfs::vault::{Address, Change, Consistency, ResourceKind, ResourceName, Tombstone, Vault};

pub(crate) const HOUR: Duration = Duration::from_secs(3600);
pub(crate) const DAY: Duration = Duration::from_secs(86_400);

/// Nothing is waited for but what safety needs.
pub(crate) const AT_ONCE: Settings = Settings {
    grace: Duration::ZERO,
    keep_deleted: Duration::ZERO,
    repack_below: 50,
};

/// The backups that must read back whole, by the numbers of their chunks.
type Model = BTreeMap<Address, Vec<u8>>;

/// A vault and its model.
pub(crate) struct World<S = MemoryStore> {
    pub(crate) store: Arc<S>,
    pub(crate) clock: Arc<Fake>,
    pub(crate) model: Arc<Mutex<Model>>,
    pub(crate) steps: Arc<Steps>,
    /// What the bytes of each backup were read from.
    relied: Mutex<BTreeMap<Address, Relied>>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::in_store(MemoryStore::new())
    }

    /// The same world again, to be changed in another way.
    pub(crate) fn fork(&self) -> Self {
        let store = MemoryStore::new();
        for key in self.store.list("").unwrap() {
            store.put_new(&key, &self.store.get(&key, u64::MAX).unwrap()).unwrap();
        }
        Self {
            store: Arc::new(store),
            clock: Arc::new(self.clock.fork()),
            model: Arc::new(Mutex::new(self.model.lock().clone())),
            steps: Arc::default(),
            relied: Mutex::default(),
        }
    }

    /// The same world with the objects of another store.
    pub(crate) fn over(&self, store: &dyn Store) -> Self {
        let copy = MemoryStore::new();
        for key in store.list("").unwrap() {
            copy.put_new(&key, &store.get(&key, u64::MAX).unwrap()).unwrap();
        }
        Self {
            store: Arc::new(copy),
            ..self.fork()
        }
    }
}

impl<S: Store + 'static> World<S> {
    /// A new vault in an empty store.
    pub(crate) fn in_store(store: S) -> Self {
        let store = Arc::new(store);
        new_vault(Arc::<S>::clone(&store));
        Self {
            store,
            clock: Arc::default(),
            model: Arc::default(),
            steps: Arc::default(),
            relied: Mutex::default(),
        }
    }

    /// Another vault, on the same clock.
    pub(crate) fn elsewhere(&self) -> World {
        World {
            clock: Arc::clone(&self.clock),
            ..World::new()
        }
    }

    /// The vault, past all turns.
    pub(crate) fn vault(&self) -> Vault {
        Vault::open(Arc::<S>::clone(&self.store)).unwrap()
    }

    pub(crate) fn hand(&self) -> Hand {
        Hand {
            vault: self.vault(),
            clock: Arc::clone(&self.clock),
            model: Arc::clone(&self.model),
        }
    }

    /// Starts an actor; nothing of what it does on the vault happens without a turn.
    pub(crate) fn start<T: Send + 'static>(
        &self,
        actor: usize,
        work: impl FnOnce(&Hand) -> T + Send + 'static,
    ) -> std::thread::JoinHandle<Option<T>> {
        self.steps.enter(actor);
        let gate = Gate {
            inner: Arc::clone(&self.store),
            steps: Arc::clone(&self.steps),
            actor,
        };
        let (steps, clock, model) = (
            Arc::clone(&self.steps),
            Arc::clone(&self.clock),
            Arc::clone(&self.model),
        );
        std::thread::spawn(move || {
            let _end = End(&steps, actor);
            // One that is killed before it has begun does nothing.
            let vault = Vault::open(Arc::new(gate)).ok()?;
            Some(work(&Hand { vault, clock, model }))
        })
    }

    /// Gives turns to an actor, at most `most`; `false` if it has ended. Looks at every backup after each operation that could harm one.
    pub(crate) fn run(&self, actor: usize, most: usize, story: &dyn Fn() -> String) -> bool {
        let mut left = most;
        while left > 0 {
            match self.steps.turns(actor, left) {
                Turn::Ended => return false,
                Turn::Did(count, deleted) => {
                    left = left.saturating_sub(count);
                    if let Some(key) = deleted {
                        self.check_without(&key, &|| format!("{}, after {key} was deleted", story()));
                    }
                }
            }
        }
        true
    }

    /// Reads every backup that must be there.
    pub(crate) fn check(&self, story: &dyn Fn() -> String) {
        self.relied.lock().clear();
        self.check_new(story);
    }

    /// Reads every backup that must be there and was read from an object that is gone, or was not read yet. Objects never change: what
    /// was read from others only reads as it did.
    fn check_without(&self, gone: &Key, story: &dyn Fn() -> String) {
        self.relied.lock().retain(|_, relied| !relied.on(gone));
        self.check_new(story);
    }

    fn check_new(&self, story: &dyn Fn() -> String) {
        let (model, mut relied) = (self.model.lock(), self.relied.lock());
        let store = Arc::new(RecordingStore::new(Arc::clone(&self.store)));
        let vault = Vault::open(Arc::<RecordingStore<Arc<S>>>::clone(&store)).unwrap();
        for (address, chunks) in model
            .iter()
            .filter(|(address, _)| !relied.contains_key(*address))
            .collect::<Vec<_>>()
        {
            store.take_calls();
            let read = read(&vault, address).unwrap_or_else(|error| panic!("{}: {address}: {error}", story()));
            assert!(read == content(chunks), "{}: {address} has changed", story());
            relied.insert(address.clone(), Relied::of(store.take_calls()));
        }
    }

    /// Prunes until nothing is left to do, and makes sure that nothing but what is needed is left.
    pub(crate) fn settle(&self, story: &dyn Fn() -> String) {
        for round in 0.. {
            self.clock.pass(2 * HOUR);
            let ended = self.hand().prune(AT_ONCE);
            let report = ended.unwrap_or_else(|error| panic!("{}: the prune after it fails: {error}", story()));
            self.check(story);
            if round >= 3 && is_idle(&report) {
                break;
            }
            assert!(round < 9, "{}: prunes find work for ever: {report:?}", story());
        }
        let left = |prefix: &str| self.store.list(prefix).unwrap();
        for prefix in ["leases/", "marks/", "sweeps/", "deleted/"] {
            assert_eq!(left(prefix), Vec::<Key>::new(), "{}", story());
        }
        let vault = self.vault();
        let packs: BTreeSet<String> = left("packs/").iter().map(|key| key.as_str()[9..].to_owned()).collect();
        let mut needed = self.needed(&vault);
        // As long as a pack is needed, those stay that chunks of it were stored in again.
        let moved: Vec<(String, String)> = left("moved/").iter().map(old_and_new).collect();
        while moved
            .iter()
            .any(|(old, new)| needed.contains(old) && packs.contains(new) && needed.insert(new.clone()))
        {}
        let backups: BTreeSet<Address> = self.model.lock().keys().cloned().collect();
        let there: BTreeSet<Address> = addresses(&vault);
        assert!(there.is_superset(&backups), "{}", story());
        if there == backups {
            assert_eq!(packs, needed, "{}: packs that nobody needs are left", story());
        }
    }

    fn needed(&self, vault: &Vault) -> BTreeSet<String> {
        let reader = Reader::new(vault.clone(), 0);
        let types = [ObjectType::Pack, ObjectType::MetaPack];
        let is_there = |pack: &ObjectId| types.iter().any(|kind| reader.footer(*kind, pack).is_ok());
        let mut needed = BTreeSet::new();
        for address in addresses(vault) {
            let manifest = vault.load(&address).unwrap();
            for disk in manifest.disks() {
                let image = DiskImage::open(&reader, &address, disk);
                for number in 0..image.layout().chunks() {
                    if let vaultfs::image::disk::Place::Chunk(entry) = image.place(number).unwrap() {
                        // Where a repack has put it, if one has.
                        let mut again = vault.moved_from(&entry.pack).unwrap();
                        // Those last that were themselves stored again.
                        again.sort_by_key(|pack| vault.moved_from(pack).unwrap().iter().any(is_there));
                        let has = |pack: &ObjectId| {
                            let footer = reader.footer(ObjectType::Pack, pack);
                            footer.is_ok_and(|footer| footer.find(&entry.id).is_some())
                        };
                        let pack = again.into_iter().find(has).unwrap_or(entry.pack);
                        needed.insert(vaultfs::bytes::hex(&pack));
                    }
                }
            }
        }
        needed
    }
}

/// Objects and listings that something was read from.
struct Relied {
    objects: BTreeSet<String>,
    listings: Vec<String>,
}

impl Relied {
    fn of(calls: Vec<Call>) -> Self {
        let (mut objects, mut listings) = (BTreeSet::new(), Vec::new());
        for call in calls {
            match call {
                Call::Get(key) | Call::ReadRange(key, ..) | Call::ReadTail(key, _) | Call::Head(key) => {
                    objects.insert(key);
                }
                Call::List(prefix) => listings.push(prefix),
                other => panic!("a reader does not {other:?}"),
            }
        }
        Self { objects, listings }
    }

    fn on(&self, key: &Key) -> bool {
        let listed = |prefix: &String| key.as_str().starts_with(prefix);
        // Who lists backups and tombstones looks for a name of its own: it is among the objects, and others may go.
        let is_moved = key.as_str().starts_with("moved/");
        self.objects.contains(key.as_str()) || is_moved && self.listings.iter().any(listed)
    }
}

struct End<'a>(&'a Steps, usize);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.end(self.1);
    }
}

/// Says whether a prune found nothing to do.
fn is_idle(report: &Report) -> bool {
    let packs = [report.packs, report.marked, report.repacked];
    packs.iter().all(|amount| amount.objects == 0) && report.purged.is_empty() && report.expired.is_empty()
}

/// The two packs that a record in `moved/` names.
fn old_and_new(key: &Key) -> (String, String) {
    let mut names = key.as_str().split('/').skip(1).map(str::to_owned);
    (names.next().unwrap(), names.next().unwrap())
}

/// The backups that are not deleted.
pub(crate) fn addresses(vault: &Vault) -> BTreeSet<Address> {
    let catalogue = vault.catalogue().unwrap();
    let points = catalogue.iter();
    points
        .flat_map(|(resource, points)| points.iter().map(|point| resource.at(*point)))
        .collect()
}

/// A disk of chunks with these numbers; 0 is a hole. Each chunk is like no other, and small once it is compressed.
pub(crate) fn content(chunks: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in chunks {
        bytes.resize(bytes.len() + length(CHUNK), *number);
    }
    bytes
}

/// Reads the disk of a backup.
pub(crate) fn read(vault: &Vault, address: &Address) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    if !vault.points(&address.resource)?.contains(&address.point) {
        return Err("it is not listed".into());
    }
    let manifest = vault.load(address)?;
    let disk = manifest.disk("vda").ok_or("it has no vda")?;
    let image = DiskImage::open(&Reader::new(vault.clone(), 0), address, disk);
    let mut bytes = vec![0; length(image.len())];
    image.read_at(0, &mut bytes)?;
    Ok(bytes)
}

/// What an actor does.
pub(crate) struct Hand {
    pub(crate) vault: Vault,
    pub(crate) clock: Arc<Fake>,
    model: Arc<Mutex<Model>>,
}

impl Hand {
    /// Backs up chunks; the backup must be there from the moment this returns.
    pub(crate) fn back_up(&self, server: &str, chunks: &[u8]) -> Result<Address, backup::Error> {
        self.back_up_after(server, chunks, None)
    }

    /// As [`back_up`](Self::back_up), with a command between the reading and the commit.
    pub(crate) fn back_up_after(
        &self,
        server: &str,
        chunks: &[u8],
        command: Option<&str>,
    ) -> Result<Address, backup::Error> {
        let data: Vec<(u64, Vec<u8>)> = (0u64..)
            .zip(chunks)
            .filter(|(_, number)| **number > 0)
            .map(|(at, number)| (at * CHUNK, content(&[*number])))
            .collect();
        let disk = Sparse::new(u64::try_from(chunks.len()).unwrap() * CHUNK, data);
        let open: OpenSource = Box::new(move || Ok(Arc::new(disk.clone())));
        let request = backup::Request {
            resource: ResourceName::new(ResourceKind::Server, server).unwrap(),
            input: Input::Disks(vec![DiskInput {
                name: "vda".to_owned(),
                bootable: false,
                open,
            }]),
            tags: Tags::new(),
            facts: None,
            consistency: Consistency::Crash,
            at: None,
            level: 1,
            jobs: 1,
            hooks: Hooks {
                before: None,
                after: command.map(str::to_owned),
            },
        };
        let environment = backup::Environment {
            monitor: &Silent,
            clock: &*self.clock,
            cancel: &AtomicBool::new(false),
        };
        let report = backup::run(&self.vault, &request, environment)?;
        self.model.lock().insert(report.address.clone(), chunks.to_vec());
        Ok(report.address)
    }

    /// Deletes a backup; it need not be there from the moment this is called.
    pub(crate) fn delete(&self, address: &Address) -> Result<Change, vaultfs::vault::Error> {
        self.model.lock().remove(address);
        self.vault.delete(address, &self.tombstone())
    }

    /// Brings a backup back; if that succeeds it must be whole.
    pub(crate) fn undelete(&self, address: &Address, chunks: &[u8]) -> Result<Change, vaultfs::vault::Error> {
        let change = self.vault.undelete(address, &self.tombstone())?;
        self.model.lock().insert(address.clone(), chunks.to_vec());
        Ok(change)
    }

    fn tombstone(&self) -> Tombstone {
        Tombstone {
            at: self.clock.now(),
            by: "test".to_owned(),
        }
    }

    /// Copies everything that there is in another vault; what came over must be there from now on.
    pub(crate) fn copy_from(
        &self,
        from: &Vault,
        contents: &BTreeMap<Address, Vec<u8>>,
        tell: &mut dyn FnMut(&Address, copy::Outcome),
    ) {
        let cancel = AtomicBool::new(false);
        let environment = copy::Environment {
            monitor: &Silent,
            clock: &*self.clock,
            cancel: &cancel,
            jobs: 1,
        };
        // What was deleted where it is copied to stays deleted, and is named.
        let Ok(plan) = copy::plan(from, &self.vault, contents.keys().cloned().collect(), 1) else {
            return;
        };
        copy::run(from, &self.vault, &plan, environment, &mut |address, outcome| {
            if matches!(outcome, copy::Outcome::Copied) {
                self.model.lock().insert(address.clone(), contents[address].clone());
            }
            tell(address, outcome);
        });
    }

    pub(crate) fn prune(&self, settings: Settings) -> Result<Report, prune::Error> {
        self.prune_as(settings, Mode::Run)
    }

    pub(crate) fn prune_as(&self, settings: Settings, mode: Mode) -> Result<Report, prune::Error> {
        let environment = prune::Environment {
            monitor: &Silent,
            clock: &*self.clock,
            cancel: &AtomicBool::new(false),
        };
        prune::run(&self.vault, settings, mode, environment)
    }
}

/// An error with all its causes.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Gives turns to all actors in a random order until all have ended.
pub(crate) fn shuffle(world: &World, random: &mut Random, actors: &[usize], story: &dyn Fn() -> String) {
    let mut left = actors.to_vec();
    while !left.is_empty() {
        let actor = *random.pick(&left);
        // Runs of different lengths: some orders come from long ones only.
        let most = usize::try_from(1 << random.below(6)).unwrap();
        if !world.run(actor, most, story) {
            left.retain(|other| *other != actor);
        }
    }
}
