//! Orders of operations: each actor stopped at each of its operations while the others go on, killed there, or forgotten for hours.

use crate::common::Random;
use crate::model::{AT_ONCE, DAY, HOUR, World, shuffle};
use std::thread::JoinHandle;
use vaultfs::store::Store;
use vaultfs::vault::Address;

const A: usize = 1;
const B: usize = 2;
const C: usize = 3;
const ALL: usize = usize::MAX;

/// A backup that stays, and one that was deleted and is marked: chunks that a writer finds in the index and must not rely on.
struct Scene {
    world: World,
    deleted: Address,
}

const DELETED: [u8; 4] = [1, 2, 3, 0];
const KEPT: [u8; 3] = [4, 5, 3];

impl Scene {
    /// Nothing is marked yet.
    fn unmarked() -> Self {
        let world = World::new();
        let deleted = world.hand().back_up("gone", &DELETED).unwrap();
        world.hand().back_up("kept", &KEPT).unwrap();
        world.hand().delete(&deleted).unwrap();
        world.clock.pass(HOUR);
        Self { world, deleted }
    }

    /// What nobody needs is marked.
    fn marked() -> Self {
        let scene = Self::unmarked();
        scene.world.hand().prune(AT_ONCE).unwrap();
        assert_eq!(scene.world.store.list("marks/").unwrap().len(), 1);
        scene.world.clock.pass(DAY);
        scene
    }

    fn fork(&self) -> Self {
        Self {
            world: self.world.fork(),
            deleted: self.deleted.clone(),
        }
    }
}

/// What a writer stores in these tests: chunks of the deleted backup, of the one that stays, and new ones.
const WRITTEN: [u8; 5] = [1, 2, 4, 7, 8];

fn writer(world: &World, actor: usize) -> JoinHandle<Option<bool>> {
    world.start(actor, move |hand| {
        hand.back_up(&format!("new-{actor}"), &WRITTEN).is_ok()
    })
}

/// So many prunes in a row that whatever is marked in the first is removed in the last.
fn pruner(world: &World, actor: usize) -> JoinHandle<Option<usize>> {
    world.start(actor, |hand| (0..3).filter(|_| hand.prune(AT_ONCE).is_ok()).count())
}

/// How many operations an actor does alone.
fn count(world: &World, actor: usize) -> usize {
    let mut count = 0;
    while world.run(actor, 1, &|| "alone".to_owned()) {
        count += 1;
    }
    count
}

/// Starts an actor.
type Start<'a> = dyn Fn(&Scene) + 'a;

/// Stops the first actor after each of its operations and the second after each of its own, then lets the first end, and the second.
/// `finish` gets the result of each order.
fn two_switches(
    base: &Scene,
    (first, second): (&Start<'_>, &Start<'_>),
    strides: (usize, usize),
    finish: &dyn Fn(&Scene, &dyn Fn() -> String),
) -> usize {
    let measure = |actor: &Start<'_>, number: usize| {
        let scene = base.fork();
        actor(&scene);
        count(&scene.world, number)
    };
    let (firsts, seconds) = (measure(first, A), measure(second, B));
    let mut orders = 0;
    for i in (0..=firsts).step_by(strides.0) {
        for j in (0..=seconds).step_by(strides.1) {
            let scene = base.fork();
            let story =
                || format!("{i} of {firsts} by the first, {j} of {seconds} by the second, then all of the first");
            first(&scene);
            second(&scene);
            scene.world.run(A, i, &story);
            scene.world.run(B, j, &story);
            scene.world.run(A, ALL, &story);
            scene.world.run(B, ALL, &story);
            finish(&scene, &story);
            orders += 1;
        }
    }
    orders
}

fn settle(scene: &Scene, story: &dyn Fn() -> String) {
    scene.world.check(story);
    scene.world.settle(story);
}

fn beside_a_removal(strides: (usize, usize)) -> usize {
    let base = Scene::marked();
    let write = |scene: &Scene| drop(writer(&scene.world, A));
    let prune = |scene: &Scene| drop(pruner(&scene.world, B));
    two_switches(&base, (&write, &prune), strides, &settle)
}

#[test]
fn a_backup_beside_a_prune_that_removes_is_whole_in_every_order() {
    let orders = beside_a_removal((2, 6));
    println!("{orders} orders");
    assert!(orders > 150, "{orders}");
}

fn beside_a_marking(strides: (usize, usize)) -> usize {
    let base = Scene::unmarked();
    let write = |scene: &Scene| drop(writer(&scene.world, B));
    let prune = |scene: &Scene| drop(pruner(&scene.world, A));
    two_switches(&base, (&prune, &write), strides, &settle)
}

#[test]
fn a_backup_beside_a_prune_that_marks_is_whole_in_every_order() {
    let orders = beside_a_marking((6, 2));
    println!("{orders} orders");
    assert!(orders > 150, "{orders}");
}

#[test]
#[ignore = "soak: every order of two switches"]
fn soak_a_backup_beside_a_prune_is_whole_in_every_order() {
    println!("{} and {} orders", beside_a_removal((1, 1)), beside_a_marking((1, 1)));
}

#[test]
fn a_backup_that_slept_for_hours_while_a_prune_went_on_is_whole_or_was_never_there() {
    let base = Scene::unmarked();
    let alone = {
        let scene = base.fork();
        let _ = writer(&scene.world, A);
        count(&scene.world, A)
    };
    let (mut committed, mut refused) = (0, 0);
    for first in 0..=alone {
        // Asleep before the mark is made, or between the mark and the removal.
        for prunes in 1..=3 {
            let scene = base.fork();
            let story =
                || format!("asleep after {first} of {alone} operations, {prunes} prunes before and the rest after it");
            let written = writer(&scene.world, A);
            scene.world.run(A, first, &story);
            for _ in 0..prunes {
                scene.world.clock.pass(2 * HOUR);
                scene.world.hand().prune(AT_ONCE).unwrap();
                scene.world.check(&story);
            }
            let _ = pruner(&scene.world, B);
            scene.world.run(B, 40, &story);
            scene.world.run(A, ALL, &story);
            scene.world.run(B, ALL, &story);
            if written.join().unwrap() == Some(true) {
                committed += 1;
            } else {
                refused += 1;
            }
            settle(&scene, &story);
        }
    }
    println!("{committed} committed, {refused} refused");
    assert!(
        committed > 20 && refused > 5,
        "{committed} committed, {refused} refused"
    );
}

#[test]
fn a_sleeping_writer_and_a_prune_at_every_operation_of_its_removal() {
    // The writer has not seen the mark, and its lease is taken away from it: it must notice, whenever it wakes.
    let base = Scene::unmarked();
    let alone = {
        let scene = base.fork();
        let _ = writer(&scene.world, A);
        count(&scene.world, A)
    };
    let mut orders = 0;
    // The last operations of a backup are those that decide.
    for first in alone.saturating_sub(14)..=alone {
        for second in (0..90).step_by(5) {
            let scene = base.fork();
            let story =
                || format!("asleep after {first} of {alone}, awake after {second} operations of the second prune");
            let _ = writer(&scene.world, A);
            scene.world.run(A, first, &story);
            scene.world.hand().prune(AT_ONCE).unwrap();
            scene.world.clock.pass(2 * HOUR);
            let _ = pruner(&scene.world, B);
            scene.world.run(B, second, &story);
            scene.world.run(A, ALL, &story);
            scene.world.run(B, ALL, &story);
            settle(&scene, &story);
            orders += 1;
        }
    }
    println!("{orders} orders");
}

#[test]
fn a_backup_brought_back_beside_a_prune_is_whole_or_was_not_brought_back() {
    for base in [Scene::unmarked(), Scene::marked()] {
        let undelete = |scene: &Scene| {
            let address = scene.deleted.clone();
            drop(
                scene
                    .world
                    .start(A, move |hand| hand.undelete(&address, &DELETED).is_ok()),
            );
        };
        let prune = |scene: &Scene| drop(pruner(&scene.world, B));
        let orders = two_switches(&base, (&undelete, &prune), (1, 3), &settle);
        println!("{orders} orders");
        assert!(orders > 100, "{orders}");
    }
}

#[test]
fn a_backup_deleted_and_brought_back_beside_a_prune_keeps_its_time() {
    let base = Scene::marked();
    let again = |scene: &Scene| {
        let address = scene.deleted.clone();
        drop(scene.world.start(A, move |hand| {
            let back = hand.undelete(&address, &DELETED).is_ok();
            hand.clock.pass(HOUR);
            back && hand.delete(&address).is_ok() && hand.undelete(&address, &DELETED).is_ok()
        }));
    };
    let prune = |scene: &Scene| drop(pruner(&scene.world, B));
    two_switches(&base, (&again, &prune), (2, 5), &settle);
}

#[test]
fn two_prunes_at_once_remove_nothing_that_is_needed() {
    let base = Scene::marked();
    let first = |scene: &Scene| drop(pruner(&scene.world, A));
    let second = |scene: &Scene| drop(pruner(&scene.world, B));
    let orders = two_switches(&base, (&first, &second), (9, 9), &settle);
    println!("{orders} orders");
}

#[test]
fn a_prune_killed_at_any_operation_is_finished_by_the_next() {
    for base in [Scene::unmarked(), Scene::marked()] {
        let alone = {
            let scene = base.fork();
            let _ = pruner(&scene.world, A);
            count(&scene.world, A)
        };
        for at in 0..alone {
            let scene = base.fork();
            let story = || format!("killed after {at} of {alone} operations");
            let killed = pruner(&scene.world, A);
            scene.world.run(A, at, &story);
            scene.world.steps.kill(A);
            killed.join().unwrap();
            scene.world.check(&story);
            // A writer that comes between the two.
            scene.world.hand().back_up("between", &WRITTEN).unwrap();
            settle(&scene, &story);
        }
        println!("{alone} kills");
    }
}

#[test]
fn a_backup_killed_at_any_operation_leaves_nothing_behind_for_ever() {
    let base = Scene::marked();
    let alone = {
        let scene = base.fork();
        let _ = writer(&scene.world, A);
        count(&scene.world, A)
    };
    for at in 0..alone {
        let scene = base.fork();
        let story = || format!("killed after {at} of {alone} operations");
        let killed = writer(&scene.world, A);
        scene.world.run(A, at, &story);
        scene.world.steps.kill(A);
        killed.join().unwrap();
        settle(&scene, &story);
    }
}

/// Two writers, a prune, and somebody who deletes and brings back, in random orders, with time passing.
fn crowd(seed: u64, rounds: u64) {
    let mut random = Random::new(seed);
    let base = Scene::unmarked();
    for round in 0..rounds {
        let mut random = Random::quiet(random.next() ^ round);
        let scene = if random.below(2) == 0 {
            base.fork()
        } else {
            Scene::marked()
        };
        let story = || format!("SEED={seed}, round {round}");
        let world = &scene.world;
        let chunks: Vec<Vec<u8>> = (0..2)
            .map(|_| (0..4).map(|_| u8::try_from(random.below(9)).unwrap()).collect())
            .collect();
        for (actor, chunks) in [A, B].into_iter().zip(chunks) {
            let _ = world.start(actor, move |hand| {
                let name = format!("crowd-{actor}");
                let first = hand.back_up(&name, &chunks);
                hand.clock.pass(HOUR / 2);
                // What was just written is deleted, and written again.
                first.is_ok_and(|address| hand.delete(&address).is_ok()) && hand.back_up(&name, &chunks).is_ok()
            });
        }
        let _ = world.start(C, |hand| {
            for _ in 0..4 {
                hand.clock.pass(HOUR / 3);
                let _ = hand.prune(AT_ONCE);
            }
        });
        let address = scene.deleted.clone();
        let _ = world.start(4, move |hand| {
            let back = hand.undelete(&address, &DELETED).is_ok();
            back && hand.delete(&address).is_ok()
        });
        shuffle(world, &mut random, &[A, B, C, 4], &story);
        settle(&scene, &story);
    }
}

#[test]
fn writers_a_prune_and_deletions_in_random_orders_lose_nothing() {
    crowd(6_001, 30);
}

#[test]
#[ignore = "soak: searches for rare orders"]
fn soak_writers_a_prune_and_deletions_in_random_orders_lose_nothing() {
    for seed in 0..200 {
        crowd(70_000 + seed, 50);
    }
}
