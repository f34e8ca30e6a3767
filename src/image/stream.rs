//! Which reads form a stream, and what to read ahead for it. Pure: positions in, a range of bytes out.

use std::ops::Range;

/// Window after the second read in a row.
const FIRST_WINDOW: u64 = 512 << 10;
/// How far behind the newest read another one may lie and still belong to the stream: the kernel's own read-ahead reaches
/// the daemon's threads out of order.
const SLACK: u64 = 2 << 20;

/// The reads of one open file so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stream {
    /// One past the furthest byte read.
    end: u64,
    /// Bytes to stay ahead of `end`; 0 while the reads are not a stream.
    window: u64,
    /// One past the furthest byte asked to be read ahead.
    ahead: u64,
}

impl Stream {
    /// Takes note of a read; returns the bytes that should be read ahead now, at most `max_window` past the read.
    pub fn note(&mut self, offset: u64, len: u64, max_window: u64) -> Option<Range<u64>> {
        let end = offset.saturating_add(len);
        let follows = offset <= self.end.max(self.ahead) && offset.saturating_add(SLACK) >= self.end && self.end > 0;
        if !follows {
            *self = Self {
                end,
                window: 0,
                ahead: end,
            };
            return None;
        }
        if end <= self.end {
            return None;
        }
        self.end = end;
        self.window = self
            .window
            .saturating_mul(2)
            .clamp(FIRST_WINDOW, max_window.max(FIRST_WINDOW));
        let start = self.ahead.max(end);
        let target = end.saturating_add(self.window);
        // Asking in halves of the window keeps the number of requests down.
        if target < start.saturating_add(self.window / 2) {
            return None;
        }
        self.ahead = target;
        Some(start..target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: u64 = 8 << 20;
    const STEP: u64 = 128 << 10;

    #[test]
    fn a_stream_is_read_ahead_once_and_without_gaps() {
        let mut stream = Stream::default();
        let mut ahead = STEP;
        for step in 0..1000 {
            if let Some(range) = stream.note(step * STEP, STEP, MAX) {
                assert!(step > 0 && range.start >= ahead && range.start <= ahead.max((step + 1) * STEP));
                assert!(range.end <= (step + 1) * STEP + MAX);
                ahead = range.end;
            }
        }
        assert!(ahead > 1000 * STEP + MAX / 2);
    }

    #[test]
    fn random_reads_ask_for_nothing() {
        let mut stream = Stream::default();
        for step in [7, 900, 33, 512, 4, 77, 640] {
            assert_eq!(stream.note(step << 30, 4096, MAX), None);
        }
    }

    #[test]
    fn reads_out_of_order_stay_one_stream() {
        let mut stream = Stream::default();
        for step in [0, 1, 3, 2, 5, 4, 7, 6] {
            stream.note(step * STEP, STEP, MAX);
        }
        assert!(stream.window > FIRST_WINDOW);
    }
}
