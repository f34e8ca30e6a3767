//! The fuzz targets on a stable compiler: their corpus, and inputs from printed seeds. cargo-fuzz finds more.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::as_conversions,
    unreachable_pub
)]

mod common;
#[path = "../fuzz/targets/mod.rs"]
mod targets;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use common::Random;
use targets::Target;

/// A run that takes longer is a failure: cargo-fuzz would call it a hang, too.
const LONGEST: Duration = Duration::from_secs(2);

/// The inputs kept for a target: what it once failed on, and what opens new paths.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let files = common::files(&dir);
    assert!(!files.is_empty(), "{} is empty", dir.display());
    files.into_iter().map(|path| fs::read(path).unwrap()).collect()
}

fn run(name: &str, target: fn(&[u8]), input: &[u8]) {
    let began = Instant::now();
    target(input);
    assert!(
        began.elapsed() < LONGEST,
        "{name} takes {:?} for {input:02x?}",
        began.elapsed()
    );
}

#[test]
fn every_target_survives_its_corpus() {
    for Target { name, run: target, .. } in targets::ALL {
        for input in corpus(name) {
            run(name, target, &input);
            // Cut short anywhere, too.
            for len in (0..input.len()).step_by(input.len() / 50 + 1) {
                run(name, target, &input[..len]);
            }
        }
    }
}

#[test]
fn every_target_survives_inputs_from_nowhere() {
    for Target { name, run: target, .. } in targets::ALL {
        let (mut random, began) = (Random::new(2026), Instant::now());
        let corpus = corpus(name);
        for _ in 0..2000 {
            let mut input = random.pick(&corpus).clone();
            // Image targets read this as patches, the others as damage in what they decode.
            for _ in 0..random.below(8) {
                let offset = (random.next() as u32 | u32::from(random.below(4) > 0) << 31).to_le_bytes();
                let len = random.below(9) as usize;
                let bytes = match random.below(4) {
                    0 => vec![0xff; len],
                    1 => vec![0; len],
                    _ => random.bytes(len),
                };
                if random.below(2) == 0 || input.is_empty() {
                    input.extend_from_slice(&offset);
                    input.push(len as u8);
                    input.extend_from_slice(&bytes);
                } else {
                    let at = random.below(input.len() as u64) as usize;
                    input.splice(at..at, bytes.iter().copied().take(len / 4));
                    let end = input.len();
                    input[at.min(end - 1)] ^= 1 << random.below(8);
                }
            }
            run(name, target, &input);
        }
        eprintln!("{name}: 2000 inputs in {:?}", began.elapsed());
    }
}

#[test]
fn every_seed_is_in_the_corpus() {
    for Target { name, seed, .. } in targets::ALL {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("fuzz/corpus")
            .join(name)
            .join("seed");
        if fs::read(&path).ok() != Some(seed()) {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, seed()).unwrap();
            panic!("{} was missing or old, and is written now: commit it", path.display());
        }
    }
}
