//! Which reads form a stream, and what to read ahead for it. Pure: positions in, a range of bytes out.

use std::ops::Range;

/// Window after the second read in a row.
const FIRST_WINDOW: u64 = 512 << 10;
/// How far behind the newest read another one may lie and still belong to the stream: the kernel's own read-ahead reaches
/// the daemon's threads out of order.
const SLACK: u64 = 2 << 20;

/// Streams of one file that are told apart: several readers share a file, and the kernel does not say which of them asks.
const STREAMS: usize = 8;

/// The reads of one file so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Streams {
    slots: [Stream; STREAMS],
    /// The slot that is given up next if no other is free.
    oldest: usize,
}

impl Streams {
    /// Takes note of a read; returns the bytes that should be read ahead now, at most `max_window` past the read.
    pub fn note(&mut self, offset: u64, len: u64, max_window: u64) -> Option<Range<u64>> {
        let follows = self.slots.iter().position(|stream| stream.is_followed_by(offset));
        // A read that follows no stream may begin one; it takes the place of another such read before that of a stream.
        let slot = follows.unwrap_or_else(|| {
            self.oldest = (self.oldest + 1) % STREAMS;
            let from_oldest = (0..STREAMS).map(|step| (self.oldest + step) % STREAMS);
            let mut idle = from_oldest.filter(|slot| self.slots.get(*slot).is_some_and(|stream| stream.window == 0));
            idle.next().unwrap_or(self.oldest)
        });
        self.slots.get_mut(slot)?.note(offset, len, max_window)
    }
}

/// Reads that follow each other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Stream {
    /// One past the furthest byte read.
    end: u64,
    /// Bytes to stay ahead of `end`; 0 while the reads are not a stream.
    window: u64,
    /// One past the furthest byte asked to be read ahead.
    ahead: u64,
}

impl Stream {
    fn is_followed_by(&self, offset: u64) -> bool {
        offset <= self.end.max(self.ahead) && offset.saturating_add(SLACK) >= self.end && self.end > 0
    }

    fn note(&mut self, offset: u64, len: u64, max_window: u64) -> Option<Range<u64>> {
        let end = offset.saturating_add(len);
        if !self.is_followed_by(offset) {
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

    #[test]
    fn two_streams_and_random_reads_in_one_file_do_not_hide_each_other() {
        let mut streams = Streams::default();
        let mut asked = [0_u64; 2];
        for step in 0..100 {
            for (stream, base) in [0, 1 << 40].into_iter().enumerate() {
                let ahead = streams.note(base + step * STEP, STEP, MAX);
                asked[stream] += ahead.map_or(0, |range| range.end - range.start);
            }
            for random in 0..5 {
                assert_eq!(streams.note((step * 5 + random + 7) << 30, 4096, MAX), None);
            }
        }
        assert!(asked.iter().all(|bytes| *bytes > 50 * STEP), "{asked:?}");
    }
}
