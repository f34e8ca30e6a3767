//! The plan of a restore: which ranges of the disk are data and which are holes. Pure; knows no target.

use std::fmt;

use crate::bytes::size_text;
use crate::image::{ReadAt, Result};

/// Smallest alignment: also the cluster size of the qcow2 images we write.
pub(super) const CHUNK_MIN: u64 = 64 << 10;
const CHUNK_MAX: u64 = 4 << 20;
/// Longest piece of data: large enough that system calls do not count, small enough to spread over threads.
const DATA_STEP: u64 = 1 << 20;
/// Longest piece of hole.
const HOLE_STEP: u64 = 64 << 20;

/// Bytes `offset..offset + len` of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// First byte.
    pub offset: u64,
    /// Number of bytes, never 0.
    pub len: u64,
}

impl Range {
    /// First byte behind the range.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.len)
    }
}

/// What a piece of the disk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// May hold anything.
    Data,
    /// Zeros that are not stored.
    Hole,
}

/// A part of the disk that one thread handles at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Where.
    pub range: Range,
    /// What.
    pub kind: Kind,
}

/// The ranges of data of a disk, aligned to chunks, in order, none touching the next; all between them is hole.
///
/// Takes 16 bytes of memory per range of data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    len: u64,
    chunk: u64,
    data: Vec<Range>,
}

impl Plan {
    /// Asks an image for its map; reads no data.
    ///
    /// `chunk` is rounded up to a power of two and kept from 64 KiB to 4 MiB.
    ///
    /// # Errors
    /// As the image reports for its map.
    pub fn of(image: &dyn ReadAt, chunk: u64) -> Result<Self> {
        let mut plan = Self {
            len: image.len(),
            chunk: chunk.clamp(CHUNK_MIN, CHUNK_MAX).next_power_of_two(),
            data: Vec::new(),
        };
        let mut at = 0;
        while let Some(start) = image.next_data(at)? {
            let end = image.next_hole(start)?;
            at = plan.add(start, end);
            if at >= plan.len {
                break;
            }
        }
        Ok(plan)
    }

    /// Adds data at or after everything added so far; returns its aligned end, which lies behind `start`.
    fn add(&mut self, start: u64, end: u64) -> u64 {
        let offset = start - start % self.chunk;
        let end = end.max(start.saturating_add(1));
        let end = end
            .checked_next_multiple_of(self.chunk)
            .unwrap_or(self.len)
            .min(self.len);
        match self.data.last_mut() {
            Some(last) if last.end() >= offset => last.len = end.saturating_sub(last.offset),
            _ if end > offset => self.data.push(Range {
                offset,
                len: end - offset,
            }),
            _ => {}
        }
        end
    }

    /// Size of the disk.
    #[must_use]
    pub fn disk_len(&self) -> u64 {
        self.len
    }

    /// Alignment of all ranges.
    #[must_use]
    pub fn chunk(&self) -> u64 {
        self.chunk
    }

    /// The ranges of data.
    #[must_use]
    pub fn data(&self) -> &[Range] {
        &self.data
    }

    /// Bytes of data.
    #[must_use]
    pub fn data_bytes(&self) -> u64 {
        self.data.iter().map(|range| range.len).sum()
    }

    /// The whole disk in order, cut into pieces of at most 1 MiB or one chunk of data, or 64 MiB of hole.
    #[must_use]
    pub fn pieces(&self) -> Pieces<'_> {
        Pieces {
            plan: self,
            next: 0,
            at: 0,
        }
    }
}

/// Iterates over [`Plan::pieces`].
#[derive(Debug)]
pub struct Pieces<'a> {
    plan: &'a Plan,
    /// Index of the range of data at or after `at`.
    next: usize,
    at: u64,
}

impl Iterator for Pieces<'_> {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        let len = self.plan.len;
        if self.at >= len {
            return None;
        }
        let (start, data_end) = match self.plan.data.get(self.next) {
            Some(range) => (range.offset, range.end()),
            None => (len, len),
        };
        let (kind, end) = if self.at < start {
            (Kind::Hole, start.min(self.at.saturating_add(HOLE_STEP)))
        } else {
            let step = DATA_STEP.max(self.plan.chunk);
            (Kind::Data, data_end.min(self.at.saturating_add(step)))
        };
        if kind == Kind::Data && end == data_end {
            self.next = self.next.saturating_add(1);
        }
        let range = Range {
            offset: self.at,
            len: end - self.at,
        };
        self.at = end;
        Some(Piece { range, kind })
    }
}

/// One line; with `{:#}` also every range of data.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let data = self.data_bytes();
        write!(
            f,
            "disk of {}: {} of data in {} ranges, {} of holes",
            size_text(self.len),
            size_text(data),
            self.data.len(),
            size_text(self.len.saturating_sub(data)),
        )?;
        if f.alternate() {
            for range in &self.data {
                write!(f, "\ndata {}..{}", range.offset, range.end())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk that knows only its map.
    struct Map(u64, Vec<(u64, u64)>);

    impl ReadAt for Map {
        fn len(&self) -> u64 {
            self.0
        }
        fn read_at(&self, _: u64, _: &mut [u8]) -> Result<()> {
            unreachable!("a plan reads no data")
        }
        fn next_data(&self, offset: u64) -> Result<Option<u64>> {
            let mut ends = self.1.iter().filter(|(_, end)| *end > offset);
            Ok(ends.next().map(|(start, _)| offset.max(*start)))
        }
        fn next_hole(&self, offset: u64) -> Result<u64> {
            let mut inside = self.1.iter().filter(|(start, end)| (*start..*end).contains(&offset));
            Ok(inside.next().map_or(offset, |(_, end)| *end))
        }
    }

    const K: u64 = 1024;

    #[test]
    fn data_is_aligned_outwards_and_touching_ranges_are_one() {
        let map = Map(
            1000 * K + 7,
            vec![(1, 2), (65 * K, 66 * K), (300 * K, 301 * K), (999 * K, 1000 * K + 7)],
        );
        let plan = Plan::of(&map, 64 * K).unwrap();
        let ranges: Vec<_> = plan.data().iter().map(|range| (range.offset, range.end())).collect();
        assert_eq!(ranges, [(0, 128 * K), (256 * K, 320 * K), (960 * K, 1000 * K + 7)]);
        assert_eq!(
            plan.to_string(),
            "disk of 1000.0 KiB: 232.0 KiB of data in 3 ranges, 768.0 KiB of holes"
        );
        assert!(format!("{plan:#}").ends_with("\ndata 262144..327680\ndata 983040..1024007"));
    }

    #[test]
    fn pieces_cover_the_disk_once_and_in_order() {
        let cases = [
            Map(0, vec![]),
            Map(1, vec![]),
            Map(1 << 40, vec![]),
            Map(5 << 20, vec![(0, 5 << 20)]),
            Map(
                (3 << 30) + 5,
                vec![(1 << 30, (1 << 30) + 3_000_000), ((3 << 30) + 4, (3 << 30) + 5)],
            ),
        ];
        for map in cases {
            for chunk in [0, 64 * K, 128 * K, 4 << 20, u64::MAX] {
                let plan = Plan::of(&map, chunk).unwrap();
                let mut at = 0;
                let mut data = 0;
                for piece in plan.pieces() {
                    assert_eq!(piece.range.offset, at);
                    assert!(piece.range.len > 0);
                    at = piece.range.end();
                    data += if piece.kind == Kind::Data { piece.range.len } else { 0 };
                }
                assert_eq!((at, data), (map.0, plan.data_bytes()));
            }
        }
    }

    #[test]
    fn a_map_that_makes_no_progress_still_ends() {
        struct Stuck;
        impl ReadAt for Stuck {
            fn len(&self) -> u64 {
                1 << 20
            }
            fn read_at(&self, _: u64, _: &mut [u8]) -> Result<()> {
                Ok(())
            }
            fn next_data(&self, offset: u64) -> Result<Option<u64>> {
                Ok(Some(offset))
            }
            fn next_hole(&self, offset: u64) -> Result<u64> {
                Ok(offset)
            }
        }
        assert_eq!(Plan::of(&Stuck, 64 * K).unwrap().data_bytes(), 1 << 20);
    }
}
