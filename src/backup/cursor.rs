//! Hands out the chunks of a disk in order, in batches, jumping over the holes of its source.

use crate::bytes::to_u64;
use crate::image::{ReadAt, Result};
use crate::vault::map::{Layout, PAGE_CHUNKS};
use std::ops::Range;

/// Chunks to read, and the hole chunks passed on the way to them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    /// Chunks that are holes in the source.
    pub(super) holes: Range<u64>,
    /// Chunks to read, all of one page; empty at the end of the disk.
    pub(super) chunks: Range<u64>,
}

/// Where the reading of a disk is.
#[derive(Debug)]
pub(super) struct Cursor {
    layout: Layout,
    batch: u64,
    next: u64,
    /// First chunk after the current run of data that lies wholly in a hole.
    data_end: u64,
}

impl Cursor {
    /// Starts at the first chunk; batches are of about `batch_bytes`.
    pub(super) fn new(layout: Layout, batch_bytes: u64) -> Self {
        let batch = (batch_bytes / u64::from(layout.chunk_size)).max(1);
        Self {
            layout,
            batch,
            next: 0,
            data_end: 0,
        }
    }

    /// The next step; `None` at the end of the disk.
    ///
    /// # Errors
    /// As the source's `next_data` and `next_hole`.
    pub(super) fn next(&mut self, source: &dyn ReadAt) -> Result<Option<Step>> {
        let chunks = self.layout.chunks();
        if self.next >= chunks {
            return Ok(None);
        }
        let start = self.next;
        if self.next >= self.data_end {
            self.find_data(source)?;
        }
        let page_end = (self.next / to_u64(PAGE_CHUNKS) + 1).saturating_mul(to_u64(PAGE_CHUNKS));
        let end = self
            .next
            .saturating_add(self.batch)
            .min(self.data_end)
            .min(page_end)
            .min(chunks);
        let step = Step {
            holes: start..self.next,
            chunks: self.next..end.max(self.next),
        };
        self.next = step.chunks.end;
        Ok(Some(step))
    }

    /// Moves to the chunk of the next data; to the end of the disk if there is none.
    fn find_data(&mut self, source: &dyn ReadAt) -> Result<()> {
        let size = u64::from(self.layout.chunk_size);
        match source.next_data(self.next.saturating_mul(size))? {
            None => {
                self.next = self.layout.chunks();
                self.data_end = self.next;
            }
            Some(data) => {
                self.next = self.next.max(data / size);
                let hole = source.next_hole(data)?;
                self.data_end = hole.div_ceil(size).max(self.next.saturating_add(1));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::tests::Memory;

    const CHUNK: u64 = 1 << 16;

    fn steps(size: u64, data: &[Range<u64>]) -> Vec<Step> {
        let source = Memory::sparse(size, data);
        let mut cursor = Cursor::new(
            Layout {
                size,
                chunk_size: 1 << 16,
            },
            4 * CHUNK,
        );
        std::iter::from_fn(|| cursor.next(&source).unwrap()).collect()
    }

    #[test]
    fn every_chunk_is_handed_out_once_as_hole_or_data() {
        let cases: [(u64, Vec<Range<u64>>); 6] = [
            (0, vec![]),
            (1, vec![]),
            (
                10 * CHUNK + 1,
                vec![0..1, 3 * CHUNK - 1..3 * CHUNK + 1, 10 * CHUNK..10 * CHUNK + 1],
            ),
            (3000 * CHUNK, vec![0..3000 * CHUNK]),
            (3000 * CHUNK, vec![1023 * CHUNK..1025 * CHUNK]),
            (5 * CHUNK, vec![CHUNK..CHUNK + 5, CHUNK + 9..CHUNK + 12]),
        ];
        for (size, data) in cases {
            let mut next = 0;
            for step in steps(size, &data) {
                assert_eq!(step.holes.start, next);
                assert_eq!(step.holes.end, step.chunks.start);
                assert!(step.chunks.end - step.chunks.start <= 4);
                assert!(step.chunks.is_empty() || step.chunks.start / 1024 == (step.chunks.end - 1) / 1024);
                let touches =
                    |range: &Range<u64>| range.start < step.holes.end * CHUNK && range.end > step.holes.start * CHUNK;
                assert!(step.holes.is_empty() || !data.iter().any(touches), "{step:?}");
                next = step.chunks.end;
            }
            assert_eq!(next, size.div_ceil(CHUNK));
        }
    }
}
