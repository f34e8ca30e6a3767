//! Damaged qcow2 images: whatever the bytes say, the reader answers in bounded time and never panics.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::as_conversions)]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use vaultfs::image::ReadAt;
use vaultfs::source::qcow2::Qcow2;

const SEED: u64 = 0x71c0_2026;
const ROUNDS: usize = 3_000;

/// splitmix64.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Small images of every kind: standard, compressed both ways, extended entries, version 2.
fn sound_images(dir: &Path) -> Vec<Vec<u8>> {
    let raw = dir.join("source.img");
    let mut disk = vec![0; 1 << 20];
    for (number, chunk) in disk.chunks_mut(24 * 1024).enumerate() {
        match number % 3 {
            0 => chunk
                .iter_mut()
                .enumerate()
                .for_each(|(i, byte)| *byte = (i / 97) as u8),
            1 => chunk[5] = 1,
            _ => {}
        }
    }
    std::fs::write(&raw, disk).unwrap();
    let kinds: [&[&str]; 5] = [
        &["-o", "cluster_size=4k"],
        &["-c", "-o", "cluster_size=4k,compression_type=zlib"],
        &["-c", "-o", "cluster_size=64k,compression_type=zstd"],
        &["-o", "cluster_size=16k,extended_l2=on"],
        &["-o", "cluster_size=512,compat=0.10"],
    ];
    let image = dir.join("sound.qcow2");
    let convert = |options: &&[&str]| {
        let mut command = Command::new("qemu-img");
        command.args(["convert", "-O", "qcow2"]).args(*options);
        assert!(command.arg(&raw).arg(&image).status().unwrap().success());
        std::fs::read(&image).unwrap()
    };
    kinds.iter().map(convert).collect()
}

/// Changes a few bytes, mostly where the header and the tables are.
fn mutate(image: &mut Vec<u8>, seed: &mut u64) {
    for _ in 0..=random(seed) % 4 {
        let reach = [128, 1024, 96 * 1024, u64::MAX][(random(seed) % 4) as usize];
        let at = (random(seed) % reach.min(image.len() as u64)) as usize;
        match random(seed) % 5 {
            0 => image[at] = 0xff,
            1 => image[at] ^= 1 << (random(seed) % 8),
            2 => image[at] = random(seed) as u8,
            3 => {
                let (from, to) = ((random(seed) % image.len() as u64) as usize & !7, at & !7);
                let len = 8.min(image.len() - from.max(to));
                image.copy_within(from..from + len, to);
            }
            _ if random(seed).is_multiple_of(8) => image.truncate(at.max(1)),
            _ => image[at] = image[at].wrapping_add(1),
        }
    }
}

/// Walks the map and reads what a mutated image claims to be; says whether all of it could be read.
fn exercise(disk: &dyn ReadAt, seed: &mut u64) -> bool {
    let mut at = 0;
    for _ in 0..10_000 {
        let Ok(Some(data)) = disk.next_data(at) else { break };
        let Ok(hole) = disk.next_hole(data) else { break };
        assert!(data >= at && hole >= data && hole <= disk.len());
        at = hole.max(data + 1);
    }
    let mut buf = vec![0; 65_536];
    let mut intact = true;
    for n in 0..48 {
        let offset = if n < 16 {
            n * 65_536
        } else {
            random(seed) % disk.len().max(1)
        };
        let len = disk.len().saturating_sub(offset).min(65_536);
        intact &= len == 0 || disk.read_at(offset, &mut buf[..len as usize]).is_ok();
    }
    intact
}

#[test]
fn mutated_images_end_in_an_answer_never_in_a_panic_or_a_hang() {
    let dir = tempfile::tempdir().unwrap();
    let sound = sound_images(dir.path());
    println!("seed {SEED:#x}, {ROUNDS} mutants");
    let mut seed = SEED;
    let path = dir.path().join("mutant.qcow2");
    let (mut opened, mut intact, mut slowest) = (0, 0, Duration::ZERO);
    for round in 0..ROUNDS {
        let mut image = sound[round % sound.len()].clone();
        mutate(&mut image, &mut seed);
        std::fs::write(&path, &image).unwrap();
        let start = Instant::now();
        if let Ok(disk) = Qcow2::open(&path, &[]) {
            opened += 1;
            intact += usize::from(exercise(&disk, &mut seed));
        }
        slowest = slowest.max(start.elapsed());
        assert!(start.elapsed() < Duration::from_secs(10), "round {round} hangs");
    }
    println!("{opened} opened, {intact} read without error, slowest {slowest:?}");
    assert!(
        opened > 300 && opened < ROUNDS,
        "the mutations reach both sides: {opened}"
    );
}
