//! Random reads where readers go wrong: around the edges of chunks, of holes and of the file.

use super::Random;
use super::disks::{CHUNK, Sparse, length, size};
use vaultfs::image::ReadAt;

/// Longest read.
const LONGEST: u64 = 2 << 20;

/// A disk with runs of data and holes that begin and end everywhere but at the edges of chunks, and at them; noise, text and
/// zeros written out.
pub fn disk(random: &mut Random) -> Sparse {
    let runs = [
        (0, 512),
        (3 * CHUNK - 1, 2),
        (5 * CHUNK, CHUNK),
        (7 * CHUNK + 1, 4 * CHUNK),
        (15 * CHUNK + 4095, 40 * CHUNK),
        (80 * CHUNK, 3 * CHUNK - 1),
        (120 * CHUNK, 100 * CHUNK + 17),
        (300 * CHUNK + 4096, 1),
    ];
    let end = 320 * CHUNK + 4097;
    let mut pieces: Vec<(u64, Vec<u8>)> = runs.iter().map(|(at, len)| (*at, random.bytes(length(*len)))).collect();
    // Zeros that are written, not a hole of the source: a whole chunk of them is a hole of the backup.
    pieces[6].1[length(2 * CHUNK) - 5..length(4 * CHUNK) + 9].fill(0);
    pieces[4].1[length(CHUNK)..length(9 * CHUNK)].fill(b'x');
    pieces.push((end - 1, vec![0xfe]));
    Sparse::new(end, pieces)
}

/// Chooses ranges to read.
#[derive(Debug, Clone)]
pub struct Ranges {
    random: Random,
    edges: Vec<u64>,
    end: u64,
}

impl Ranges {
    /// Ranges of this disk; the generator is seeded by the caller.
    pub fn of(model: &Sparse, random: Random) -> Self {
        let end = model.len();
        let mut edges = vec![0, end, end / CHUNK * CHUNK];
        for data in model.data_chunks(CHUNK) {
            edges.extend([data.start, data.end]);
        }
        edges.extend((0..40).map(|number| number * 8 * CHUNK));
        Self { random, edges, end }
    }

    /// An offset near an edge, mostly within a few bytes of it; at times anywhere. May lie past the end of the file.
    pub fn offset(&mut self) -> u64 {
        let edge = *self.random.pick(&self.edges);
        let spread = *self.random.pick(&[1, 3, 3, 4097, CHUNK + 2, LONGEST]);
        if self.random.below(10) == 0 {
            return self.random.below(self.end + CHUNK);
        }
        (edge + self.random.below(spread)).saturating_sub(spread / 2)
    }

    /// A start and a length of 1 byte to 2 MiB, mostly short, often such that the end is at an edge too.
    pub fn next_range(&mut self) -> (u64, usize) {
        let start = self.offset();
        let bits = self.random.below(22);
        let len = match self.random.below(8) {
            0 => self.offset().saturating_sub(start),
            1 => *self
                .random
                .pick(&[1, 511, 512, 4095, 4096, 4097, CHUNK - 1, CHUNK, CHUNK + 1, LONGEST]),
            _ => self.random.below(1 << bits) + 1,
        };
        (start, length(len.clamp(1, LONGEST)))
    }
}

/// What a read of `len` bytes at `start` must return: all of it, or as much as there is up to the end of the file.
pub fn expected(bytes: &[u8], start: u64, len: usize) -> &[u8] {
    let from = length(start).min(bytes.len());
    &bytes[from..(from + len).min(bytes.len())]
}

/// Compares a read with the model: the length first, for a short read is how data is lost without an error.
#[track_caller]
pub fn compare(read: &[u8], bytes: &[u8], start: u64, len: usize) {
    let expected = expected(bytes, start, len);
    assert_eq!(
        read.len(),
        expected.len(),
        "length of {len} bytes at {start} of {}",
        bytes.len()
    );
    if read != expected {
        let at = read
            .iter()
            .zip(expected)
            .position(|(read, wanted)| read != wanted)
            .unwrap();
        panic!("{len} bytes at {start}: wrong at byte {}", start + size(at));
    }
}
