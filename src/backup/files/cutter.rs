//! Where the content of a file is cut into chunks: FastCDC, so that what is inserted moves few cuts; the only file that names it.

use fastcdc::v2020::{Normalization, cut, select_masks};

/// Shortest chunk, but for the last of a run.
const MIN: usize = 128 << 10;
/// Length of most chunks, about.
const AVERAGE: usize = 512 << 10;
/// Longest chunk.
pub(super) const MAX: usize = 2 << 20;

/// Length of the first chunk of `data`, which holds at least [`MAX`] bytes unless the run ends with it.
///
/// 0 only if there are no bytes.
#[must_use]
pub(super) fn first_chunk(data: &[u8]) -> usize {
    if data.len() <= MIN {
        return data.len();
    }
    let (mask_s, mask_l) = select_masks(AVERAGE, Normalization::Level1);
    let (_, len) = cut(data, MIN, AVERAGE, MAX, mask_s, mask_l, mask_s << 1, mask_l << 1);
    len.clamp(1, data.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(len: usize) -> Vec<u8> {
        let mut state = 0x1234_5678_9abc_def1u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[0]
        };
        (0..len).map(|_| next()).collect()
    }

    fn cuts(mut data: &[u8]) -> Vec<&[u8]> {
        let mut chunks = Vec::new();
        while !data.is_empty() {
            let (chunk, rest) = data.split_at(first_chunk(data));
            chunks.push(chunk);
            data = rest;
        }
        chunks
    }

    #[test]
    fn chunks_keep_their_bounds_and_lose_nothing() {
        for len in [0, 1, MIN - 1, MIN, MIN + 1, MAX, MAX + 1, 20 << 20] {
            let data = noise(len);
            let chunks = cuts(&data);
            assert_eq!(chunks.concat(), data);
            for chunk in chunks.iter().rev().skip(1) {
                assert!((MIN..=MAX).contains(&chunk.len()), "{}", chunk.len());
            }
        }
        assert!(cuts(&vec![0; 9 << 20]).iter().all(|chunk| chunk.len() <= MAX));
        let average = (20 << 20) / cuts(&noise(20 << 20)).len();
        assert!((AVERAGE / 2..AVERAGE * 2).contains(&average), "{average}");
    }

    #[test]
    fn an_inserted_byte_changes_few_chunks() {
        let data = noise(20 << 20);
        let mut changed = data.clone();
        changed.insert(1000, 7);
        let before: std::collections::HashSet<_> = cuts(&data).into_iter().collect();
        let new = cuts(&changed)
            .into_iter()
            .filter(|chunk| !before.contains(chunk))
            .count();
        assert!((1..=3).contains(&new), "{new}");
    }
}
