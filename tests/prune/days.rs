//! Days of a vault that several machines use at once: two back up, one copies, one deletes and prunes, some read, all in random orders of
//! their operations, while the clock goes on.

use crate::common::Random;
use crate::model::{DAY, HOUR, Hand, World, content, shuffle};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use vaultfs::chunk::Reader;
use vaultfs::copy;
use vaultfs::image::ReadAt;
use vaultfs::image::disk::DiskImage;
use vaultfs::monitor::Silent;
use vaultfs::prune::{self, Settings};
use vaultfs::vault::{Address, Vault};

const DAYS: u64 = 14;
const READERS: usize = 8;
const PATIENT: Settings = Settings {
    grace: DAY,
    keep_deleted: DAY,
    repack_below: 60,
};

/// Somebody who has an image open, as a mount has, with hardly any memory of its own.
struct Open {
    address: Address,
    image: DiskImage,
    bytes: Vec<u8>,
}

impl Open {
    fn new(world: &World, address: &Address, chunks: &[u8]) -> Self {
        let vault = world.vault();
        let manifest = vault.load(address).unwrap();
        let reader = Reader::new(vault, 0);
        Self {
            address: address.clone(),
            image: DiskImage::open(&reader, address, manifest.disk("vda").unwrap()),
            bytes: content(chunks),
        }
    }

    fn check(&self, story: &dyn Fn() -> String) {
        let mut bytes = vec![0; self.bytes.len()];
        let read = self.image.read_at(0, &mut bytes);
        read.unwrap_or_else(|error| panic!("{}: an open image of {}: {error}", story(), self.address));
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
    (0..len).map(|_| u8::try_from(random.below(14)).unwrap()).collect()
}

/// Backs up; the one thing that may come between is that a prune went on without this writer, and then there is no backup.
fn back_up(hand: &Hand, name: &str, chunks: &[u8]) {
    if let Err(error) = hand.back_up(name, chunks) {
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        assert!(text.contains("no sign of life"), "{text}");
    }
}

/// Copies everything that there is.
fn copy_all(from: &Vault, hand: &Hand, contents: &BTreeMap<Address, Vec<u8>>) {
    let cancel = AtomicBool::new(false);
    let environment = copy::Environment {
        monitor: &Silent,
        clock: &*hand.clock,
        cancel: &cancel,
        jobs: 1,
    };
    // What was deleted where it is copied to stays deleted, and is named.
    let Ok(plan) = copy::plan(from, &hand.vault, contents.keys().cloned().collect(), 1) else {
        return;
    };
    copy::run(from, &hand.vault, &plan, environment, &mut |address, outcome| {
        if matches!(outcome, copy::Outcome::Copied) {
            hand.expect(address, &contents[address]);
        }
    });
}

fn live_through(seed: u64) {
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
            actors.push(actor);
            threads.push(world.start(actor, move |hand| {
                let name = format!("server-{actor}");
                back_up(hand, &name, &first);
                // Longer than a lease lasts unrenewed: a prune may take the next writer for dead, or the copier.
                hand.clock.pass(HOUR + HOUR / 2);
                back_up(hand, &name, &second);
            }));
        }
        if day % 3 == 1 {
            let (from, contents) = (elsewhere.vault(), elsewhere_holds.clone());
            actors.push(2);
            threads.push(world.start(2, move |hand| copy_all(&from, hand, &contents)));
        }
        let there: Vec<Address> = world.model.lock().keys().cloned().collect();
        let doomed: Vec<Address> = there.iter().filter(|_| random.below(4) == 0).cloned().collect();
        actors.push(3);
        threads.push(world.start(3, move |hand| {
            for address in &doomed {
                hand.delete(address).unwrap();
            }
            // To a prune that looked at the clock before it jumped, a lease from after that is from the future.
            match hand.prune(PATIENT) {
                Ok(_) | Err(prune::Error::Skew { .. }) => {}
                Err(error) => panic!("{error}"),
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
        open.iter().for_each(|open| open.check(&story));
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
    open.iter()
        .for_each(|open| open.check(&|| format!("SEED={seed}, at the very end")));
}

fn live_through_many(first: u64, count: u64) {
    let next = Arc::new(std::sync::atomic::AtomicU64::new(first));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if seed >= first + count {
                        return;
                    }
                    live_through(seed);
                }
            });
        }
    });
}

#[test]
fn fourteen_days_of_backups_copies_deletions_prunes_and_readers_lose_nothing() {
    live_through_many(0xda_0000, 8);
}

#[test]
#[ignore = "soak: a thousand times fourteen days"]
fn soak_fourteen_days_a_thousand_times_lose_nothing() {
    live_through_many(0xdb_0000, 1000);
}
