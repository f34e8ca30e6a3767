//! Real threads on one vault, while the clock runs hours a second: two write, one copies, one deletes and brings back, one prunes, and
//! eight read as a mount does, with images that stay open.

use crate::common::Random;
use crate::model::{HOUR, World, causes, content, is_taken_back};
use crate::program::scratch;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use vaultfs::chunk::Reader;
use vaultfs::clock::{Clock, Seconds};
use vaultfs::copy::Outcome;
use vaultfs::image::ReadAt;
use vaultfs::image::disk::DiskImage;
use vaultfs::prune::{Error, Settings};
use vaultfs::store::Store;
use vaultfs::store::local::LocalStore;
use vaultfs::store::memory::MemoryStore;
use vaultfs::vault::{Address, Change, Vault};

const WRITERS: u64 = 2;
const READERS: u64 = 8;
/// Images that a reader keeps open.
const OPEN: usize = 3;
/// Backups that there are at once, about.
const BACKUPS: usize = 24;
/// Different chunks.
const CHUNKS: u64 = 40;
/// What passes on the clock in each millisecond: two hours a second.
const TICK: Duration = Duration::from_secs(7);
const SETTINGS: Settings = Settings {
    grace: HOUR.saturating_mul(2),
    keep_deleted: HOUR.saturating_mul(2),
    repack_below: 80,
};
/// When a backup was deleted that was brought back.
const NEVER: Seconds = Seconds::MAX;
/// When a test gives up that waits for enough to happen.
const STUCK: Duration = Duration::from_secs(300);

/// What has happened.
#[derive(Default, Debug)]
struct Tally {
    backups: AtomicU64,
    /// Writers that were taken for dead, and noticed.
    refused: AtomicU64,
    copies: AtomicU64,
    deletions: AtomicU64,
    brought_back: AtomicU64,
    prunes: AtomicU64,
    /// Prunes that met a trace from after they had looked at the clock, or a backup that was brought back.
    stopped: AtomicU64,
    removing: AtomicU64,
    repacking: AtomicU64,
    opened: AtomicU64,
    reads: AtomicU64,
    /// Reads of backups that were deleted and removed while they were open.
    too_late: AtomicU64,
    /// Reads that failed by what a reader had remembered for longer than the grace time.
    stale: AtomicU64,
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl Tally {
    /// Says whether enough has happened for the test to mean something.
    fn is_enough(&self) -> bool {
        let wanted = [
            (&self.backups, 40),
            (&self.refused, 1),
            (&self.copies, 5),
            (&self.deletions, 20),
            (&self.brought_back, 3),
            (&self.prunes, 10),
            (&self.removing, 4),
            (&self.repacking, 2),
            (&self.opened, 50),
            (&self.reads, 400),
            (&self.too_late, 1),
        ];
        wanted.iter().all(|(counter, least)| get(counter) >= *least)
    }
}

/// What all threads share.
struct Stage<S> {
    world: World<S>,
    /// When each backup was deleted, each time; [`NEVER`] if it was brought back since.
    deletions: Mutex<BTreeMap<Address, Vec<Seconds>>>,
    ended: AtomicBool,
    tally: Tally,
}

impl<S: Store + 'static> Stage<S> {
    fn goes_on(&self) -> bool {
        !self.ended.load(Ordering::Relaxed)
    }

    fn now(&self) -> Seconds {
        self.world.clock.now()
    }

    fn deletions(&self, address: &Address) -> usize {
        self.deletions.lock().get(address).map_or(0, Vec::len)
    }

    /// Says whether a prune may have removed a backup that had been deleted `before` times when it was there.
    fn may_be_gone(&self, address: &Address, before: usize) -> bool {
        let times = self.deletions.lock();
        let keep = i64::try_from((SETTINGS.keep_deleted + SETTINGS.grace).as_secs()).unwrap();
        let mut since = times.get(address).into_iter().flatten().skip(before);
        since.any(|at| at.saturating_add(keep) <= self.now())
    }

    fn write(&self, number: u64, seed: u64) {
        let mut random = Random::quiet(seed);
        let hand = self.world.hand();
        while self.goes_on() {
            let chunks = chunks(&mut random);
            // Some are suspended between their reading and their commit, for longer than a lease is believed.
            let sleeps = random.below(12) == 0;
            match hand.back_up_after(&format!("server-{number}"), &chunks, sleeps.then_some("sleep 0.8")) {
                Ok(_) => add(&self.tally.backups),
                Err(error) => {
                    let text = causes(&error);
                    assert!(text.contains("no sign of life"), "{text}");
                    add(&self.tally.refused);
                }
            }
            while self.goes_on() && self.world.model.lock().len() > 2 * BACKUPS {
                pause(10);
            }
        }
    }

    fn copy(&self, seed: u64) {
        let mut random = Random::quiet(seed);
        let (elsewhere, hand) = (self.world.elsewhere(), self.world.hand());
        let mut contents = BTreeMap::new();
        while self.goes_on() {
            if contents.len() < 2 * BACKUPS {
                let chunks = chunks(&mut random);
                contents.insert(elsewhere.hand().back_up("elsewhere", &chunks).unwrap(), chunks);
            }
            hand.copy_from(&elsewhere.vault(), &contents, &mut |address, outcome| match outcome {
                Outcome::Copied => add(&self.tally.copies),
                Outcome::There | Outcome::Deleted => {}
                // It was there when the copy was planned, and removed before it was compared.
                Outcome::Failed(error) => {
                    let text = causes(&error);
                    let is_gone = self.may_be_gone(address, 0);
                    assert!(text.contains("no sign of life") || is_gone, "{text}");
                }
            });
            pause(100);
        }
    }

    fn delete(&self, seed: u64) {
        let mut random = Random::quiet(seed);
        let hand = self.world.hand();
        let mut deleted: Vec<(Address, Vec<u8>)> = Vec::new();
        while self.goes_on() {
            pause(10);
            let there: Vec<(Address, Vec<u8>)> = self.world.model.lock().clone().into_iter().collect();
            if there.len() > BACKUPS / 2 && (there.len() > BACKUPS || random.below(3) == 0) {
                let (address, chunks) = random.pick(&there).clone();
                self.deletions
                    .lock()
                    .entry(address.clone())
                    .or_default()
                    .push(self.now());
                hand.delete(&address).unwrap();
                deleted.push((address, chunks));
                add(&self.tally.deletions);
            }
            if deleted.len() > 40 {
                deleted.remove(0);
            }
            if !deleted.is_empty() && random.below(20) == 0 {
                let at = usize::try_from(random.below(u64::try_from(deleted.len()).unwrap())).unwrap();
                let (address, chunks) = deleted.swap_remove(at);
                // One that was removed and copied again is there without this.
                if hand
                    .undelete(&address, &chunks)
                    .is_ok_and(|change| change == Change::Done)
                {
                    *self.deletions.lock().get_mut(&address).unwrap().last_mut().unwrap() = NEVER;
                    add(&self.tally.brought_back);
                }
            }
        }
    }

    fn prune(&self) {
        let hand = self.world.hand();
        while self.goes_on() {
            match hand.prune(SETTINGS) {
                Ok(report) => {
                    add(&self.tally.prunes);
                    self.tally
                        .removing
                        .fetch_add(u64::from(report.packs.objects > 0), Ordering::Relaxed);
                    self.tally
                        .repacking
                        .fetch_add(u64::from(report.repacked.objects > 0), Ordering::Relaxed);
                }
                Err(Error::Skew { .. } | Error::Changed { .. }) => add(&self.tally.stopped),
                Err(error) if is_taken_back(&error) => add(&self.tally.stopped),
                Err(error) => panic!("{}", causes(&error)),
            }
            pause(5);
        }
    }

    fn read(&self, seed: u64) {
        let mut random = Random::quiet(seed);
        let vault = self.world.vault();
        let mut open: Vec<Open> = Vec::new();
        while self.goes_on() {
            if open.is_empty() || open.len() < OPEN && random.below(4) == 0 {
                open.extend(self.open(&vault, &mut random));
            }
            let Some(at) = (!open.is_empty()).then(|| random.below(u64::try_from(open.len()).unwrap())) else {
                pause(1);
                continue;
            };
            let at = usize::try_from(at).unwrap();
            if !self.look(&vault, &open[at], &mut random) || random.below(400) == 0 {
                open.swap_remove(at);
            }
            pause(2);
        }
        open.iter().for_each(|open| {
            let _ = self.look(&vault, open, &mut random);
        });
    }

    /// Opens a backup that is there.
    fn open(&self, vault: &Vault, random: &mut Random) -> Option<Open> {
        let (address, chunks, before) = {
            let model = self.world.model.lock();
            let there: Vec<_> = model.iter().collect();
            let (address, chunks) = *(!there.is_empty()).then(|| random.pick(&there))?;
            (address.clone(), chunks.clone(), self.deletions(address))
        };
        match vault.load(&address) {
            Ok(manifest) => {
                add(&self.tally.opened);
                let image = DiskImage::open(&Reader::new(vault.clone(), 0), &address, manifest.disk("vda").unwrap());
                let bytes = content(&chunks);
                Some(Open {
                    address,
                    before,
                    image,
                    bytes,
                })
            }
            Err(error) => {
                assert!(self.may_be_gone(&address, before), "{address}: {}", causes(&error));
                None
            }
        }
    }

    /// Reads a part of an image; `false` if it is gone.
    fn look(&self, vault: &Vault, open: &Open, random: &mut Random) -> bool {
        let chunk = content(&[1]).len();
        let from = usize::try_from(random.below(u64::try_from(open.bytes.len() / chunk).unwrap())).unwrap() * chunk;
        let mut bytes = vec![0; open.bytes.len() - from];
        let offset = u64::try_from(from).unwrap();
        let Err(error) = open.image.read_at(offset, &mut bytes) else {
            assert!(
                bytes == open.bytes[from..],
                "an open image of {} has changed",
                open.address
            );
            add(&self.tally.reads);
            return true;
        };
        if self.may_be_gone(&open.address, open.before) {
            add(&self.tally.too_late);
            return false;
        }
        // A reader remembers for a minute where chunks were stored again, which is longer here than a pack lives that nobody needs.
        let fresh = self.fresh(vault, open, offset, &mut bytes);
        if self.may_be_gone(&open.address, open.before) {
            return false;
        }
        fresh.unwrap_or_else(|again| panic!("{}: {}, and again: {again}", open.address, causes(&error)));
        assert!(bytes == open.bytes[from..], "{} has changed", open.address);
        add(&self.tally.stale);
        false
    }

    fn fresh(&self, vault: &Vault, open: &Open, offset: u64, bytes: &mut [u8]) -> Result<(), String> {
        let manifest = vault.load(&open.address).map_err(|error| causes(&error))?;
        let reader = Reader::new(vault.clone(), 0);
        let image = DiskImage::open(&reader, &open.address, manifest.disk("vda").unwrap());
        image.read_at(offset, bytes).map_err(|error| causes(&error))
    }
}

/// An image that is read while its backup may be deleted.
struct Open {
    address: Address,
    /// How often it had been deleted when it was there.
    before: usize,
    image: DiskImage,
    bytes: Vec<u8>,
}

fn chunks(random: &mut Random) -> Vec<u8> {
    let len = 2 + random.below(7);
    (0..len).map(|_| u8::try_from(random.below(CHUNKS)).unwrap()).collect()
}

fn pause(milliseconds: u64) {
    std::thread::sleep(Duration::from_millis(milliseconds));
}

/// Lets all threads work for so long, and on until enough has happened; then everything must be whole, and nothing left over.
fn work<S: Store + 'static>(store: S, time: Duration, seed: u64) {
    let mut random = Random::new(seed);
    let mut seed = || random.next();
    let stage = Stage {
        world: World::in_store(store),
        deletions: Mutex::default(),
        ended: AtomicBool::new(false),
        tally: Tally::default(),
    };
    let start = Instant::now();
    std::thread::scope(|scope| {
        let stage = &stage;
        let mut threads = vec![scope.spawn(|| {
            while stage.goes_on() {
                stage.world.clock.pass(TICK);
                pause(1);
            }
        })];
        for number in 0..WRITERS {
            let seed = seed();
            threads.push(scope.spawn(move || stage.write(number, seed)));
        }
        let (copier, deleter) = (seed(), seed());
        threads.push(scope.spawn(move || stage.copy(copier)));
        threads.push(scope.spawn(move || stage.delete(deleter)));
        threads.push(scope.spawn(|| stage.prune()));
        for _ in 0..READERS {
            let seed = seed();
            threads.push(scope.spawn(move || stage.read(seed)));
        }
        let failed = || threads.iter().any(|thread| thread.is_finished());
        while !failed() && (start.elapsed() < time || !stage.tally.is_enough() && start.elapsed() < STUCK) {
            pause(50);
        }
        stage.ended.store(true, Ordering::Relaxed);
    });
    println!("{:?}: {:?}", start.elapsed(), stage.tally);
    assert!(stage.tally.is_enough(), "{:?}", stage.tally);
    stage.world.settle(&|| "at the end".to_owned());
}

#[test]
#[ignore = "long: twenty seconds of real threads"]
fn threads_that_write_copy_delete_prune_and_read_at_once_lose_nothing() {
    work(MemoryStore::new(), Duration::from_secs(20), 7_001);
}

#[test]
#[ignore = "long: ten seconds of real threads"]
fn threads_on_files_that_write_copy_delete_prune_and_read_at_once_lose_nothing() {
    let dir = scratch();
    let store = LocalStore::create(&dir.path().join("vault")).unwrap();
    work(store, Duration::from_secs(10), 7_002);
}

#[test]
#[ignore = "soak: minutes of real threads"]
fn soak_threads_that_write_copy_delete_prune_and_read_at_once_lose_nothing() {
    for seed in 7_100..7_104 {
        work(MemoryStore::new(), Duration::from_secs(60), seed);
    }
}
