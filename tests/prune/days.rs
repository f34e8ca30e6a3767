//! Days of a vault that several machines use at once: two back up, one copies, one deletes and prunes, some read, all in random orders of
//! their operations, while the clock goes on.

use crate::common::Random;
use crate::model::{DAY, HOUR, Hand, World, causes, content, is_taken_back, shuffle};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use vaultfs::chunk::Reader;
use vaultfs::copy;
use vaultfs::image::ReadAt;
use vaultfs::image::disk::DiskImage;
use vaultfs::prune::{self, Settings};
use vaultfs::vault::{Address, Disk, Vault};

const DAYS: u64 = 14;
const READERS: usize = 8;
const PATIENT: Settings = Settings {
    grace: DAY,
    keep_deleted: DAY,
    repack_below: 80,
};

/// What has happened in all the days.
#[derive(Default, Debug)]
struct Tally {
    backups: AtomicU64,
    /// Writers that a prune took for dead, and that noticed.
    refused: AtomicU64,
    copies: AtomicU64,
    deletions: AtomicU64,
    prunes: AtomicU64,
    /// Backups and packs that prunes removed.
    purged: AtomicU64,
    removed: AtomicU64,
    repacked: AtomicU64,
    /// Looks at images that were open before the prune.
    looks: AtomicU64,
    /// Such looks that needed a reader that remembers nothing.
    forgetful: AtomicU64,
}

impl Tally {
    fn pruned(&self, report: &prune::Report) {
        add(&self.prunes, 1);
        add(&self.purged, report.purged.len());
        self.removed.fetch_add(report.packs.objects, Ordering::Relaxed);
        self.repacked.fetch_add(report.repacked.objects, Ordering::Relaxed);
    }
}

fn add(counter: &AtomicU64, more: usize) {
    counter.fetch_add(u64::try_from(more).unwrap(), Ordering::Relaxed);
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// Somebody who has an image open, as a mount has, with hardly any memory of its own.
struct Open {
    address: Address,
    vault: Vault,
    disk: Disk,
    image: DiskImage,
    bytes: Vec<u8>,
}

impl Open {
    fn new(world: &World, address: &Address, chunks: &[u8]) -> Self {
        let vault = world.vault();
        let manifest = vault.load(address).unwrap();
        let disk = manifest.disk("vda").unwrap().clone();
        Self {
            address: address.clone(),
            image: DiskImage::open(&Reader::new(vault.clone(), 0), address, &disk),
            vault,
            disk,
            bytes: content(chunks),
        }
    }

    fn check(&mut self, story: &dyn Fn() -> String, tally: &Tally) {
        let mut bytes = vec![0; self.bytes.len()];
        let mut read = self.image.read_at(0, &mut bytes);
        if read.is_err() {
            // For a minute of the system's time a reader remembers where chunks were stored again; here days pass in that.
            add(&tally.forgetful, 1);
            self.image = DiskImage::open(&Reader::new(self.vault.clone(), 0), &self.address, &self.disk);
            read = self.image.read_at(0, &mut bytes);
        }
        read.unwrap_or_else(|error| panic!("{}: an open image of {}: {}", story(), self.address, causes(&error)));
        assert!(
            bytes == self.bytes,
            "{}: an open image of {} has changed",
            story(),
            self.address
        );
    }
}

fn chunks(random: &mut Random) -> Vec<u8> {
    let len = 2 + random.below(6);
    (0..len).map(|_| u8::try_from(random.below(30)).unwrap()).collect()
}

/// Backs up; the one thing that may come between is that a prune went on without this writer, and then there is no backup.
fn back_up(hand: &Hand, name: &str, chunks: &[u8], tally: &Tally) {
    match hand.back_up(name, chunks) {
        Ok(_) => add(&tally.backups, 1),
        Err(error) => {
            let text = causes(&error);
            assert!(text.contains("no sign of life"), "{text}");
            add(&tally.refused, 1);
        }
    }
}

/// Copies everything that there is.
fn copy_all(from: &Vault, hand: &Hand, contents: &BTreeMap<Address, Vec<u8>>, tally: &Tally) {
    hand.copy_from(from, contents, &mut |_, outcome| {
        add(&tally.copies, usize::from(matches!(outcome, copy::Outcome::Copied)));
    });
}

fn live_through(seed: u64, tally: &Arc<Tally>) {
    let mut random = Random::quiet(seed);
    let (world, elsewhere) = (World::new(), World::new());
    let mut elsewhere_holds = BTreeMap::new();
    let mut open: Vec<Open> = Vec::new();
    for day in 0..DAYS {
        let story = || format!("SEED={seed}, day {day}");
        elsewhere.clock.pass(DAY);
        let more = chunks(&mut random);
        let address = elsewhere.hand().back_up("elsewhere", &more).unwrap();
        elsewhere_holds.insert(address, more);
        let (mut actors, mut threads) = (Vec::new(), Vec::new());
        for actor in 0..2 {
            let (first, second) = (chunks(&mut random), chunks(&mut random));
            let tally = Arc::clone(tally);
            actors.push(actor);
            threads.push(world.start(actor, move |hand| {
                let name = format!("server-{actor}");
                back_up(hand, &name, &first, &tally);
                // Longer than a lease lasts unrenewed: a prune may take the next writer for dead, or the copier.
                hand.clock.pass(HOUR + HOUR / 2);
                back_up(hand, &name, &second, &tally);
            }));
        }
        if day % 3 == 1 {
            let (from, contents) = (elsewhere.vault(), elsewhere_holds.clone());
            let tally = Arc::clone(tally);
            actors.push(2);
            threads.push(world.start(2, move |hand| copy_all(&from, hand, &contents, &tally)));
        }
        let there: Vec<Address> = world.model.lock().keys().cloned().collect();
        let doomed: Vec<Address> = there.iter().filter(|_| random.below(4) == 0).cloned().collect();
        let counts = Arc::clone(tally);
        actors.push(3);
        threads.push(world.start(3, move |hand| {
            for address in &doomed {
                hand.delete(address).unwrap();
            }
            add(&counts.deletions, doomed.len());
            // The second time, whoever writes since before the first looks as if it had gone.
            for _ in 0..2 {
                match hand.prune(PATIENT) {
                    Ok(report) => counts.pruned(&report),
                    // To a prune that looked at the clock before it jumped, a lease from after that is from the future.
                    Err(prune::Error::Skew { .. }) => {}
                    Err(error) if is_taken_back(&error) => {}
                    Err(error) => panic!("{}", causes(&error)),
                }
                hand.clock.pass(HOUR + HOUR / 2);
            }
        }));
        shuffle(&world, &mut random, &actors, &story);
        for thread in threads {
            assert!(
                thread.join().is_ok_and(|done| done.is_some()),
                "{}: an actor failed",
                story()
            );
        }
        world.check(&story);
        // Open images are read for a day after their backup was deleted, and for as long as it is there.
        open.retain(|open| open.address.point.seconds() > 0 && world.model.lock().contains_key(&open.address));
        open.iter_mut().for_each(|open| open.check(&story, tally));
        add(&tally.looks, open.len());
        let model = world.model.lock().clone();
        let addresses: Vec<&Address> = model.keys().collect();
        while open.len() < READERS && !addresses.is_empty() {
            let address = *random.pick(&addresses);
            open.push(Open::new(&world, address, &model[address]));
        }
        world.clock.pass(DAY);
    }
    world.settle(&|| format!("SEED={seed}, at the end"));
    open.retain(|open| world.model.lock().contains_key(&open.address));
    open.iter_mut()
        .for_each(|open| open.check(&|| format!("SEED={seed}, at the very end"), tally));
}

fn live_through_many(first: u64, count: u64) {
    let (next, tally) = (AtomicU64::new(first), Arc::new(Tally::default()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        return;
                    }
                    live_through(seed, &tally);
                }
            });
        }
    });
    println!("{count} seeds: {tally:?}");
    let at_least = |counter: &AtomicU64, of_one: u64| {
        let counted = get(counter);
        assert!(
            counted >= of_one * count,
            "{counted} of {count} seeds are too few: {tally:?}"
        );
    };
    at_least(&tally.backups, 50);
    at_least(&tally.prunes, 10);
    at_least(&tally.deletions, 20);
    at_least(&tally.purged, 10);
    at_least(&tally.removed, 10);
    at_least(&tally.repacked, 2);
    at_least(&tally.copies, 4);
    at_least(&tally.looks, 50);
    // In few days there may be none.
    assert!(get(&tally.refused) >= count / 20, "{tally:?}");
    assert!(get(&tally.forgetful) * 20 < get(&tally.looks), "{tally:?}");
}

#[test]
fn fourteen_days_of_backups_copies_deletions_prunes_and_readers_lose_nothing() {
    live_through_many(0xda_0000, 8);
}

#[test]
#[ignore = "long: two hundred times fourteen days"]
fn fourteen_days_two_hundred_times_lose_nothing() {
    live_through_many(0xdc_0000, 200);
}

#[test]
#[ignore = "soak: two thousand times fourteen days"]
fn soak_fourteen_days_two_thousand_times_lose_nothing() {
    live_through_many(0xdb_0000, 2000);
}
