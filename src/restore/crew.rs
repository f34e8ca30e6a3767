//! Threads that go through the pieces of a plan together; the first error stops all of them.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::{Job, Piece, Pieces, Report, Result};
use crate::bytes::to_usize;
use crate::monitor::Monitor;

/// Buffers a thread keeps from piece to piece.
#[derive(Default)]
pub(super) struct Buffers {
    image: Vec<u8>,
    target: Vec<u8>,
}

impl Buffers {
    /// Two buffers of `len` bytes, one for the image and one for the target; their content is left over.
    pub(super) fn of(&mut self, len: u64) -> (&mut [u8], &mut [u8]) {
        let len = to_usize(len);
        self.image.resize(len, 0);
        self.target.resize(len, 0);
        (&mut self.image, &mut self.target)
    }
}

/// Calls `work` once for each piece, from several threads, roughly in order, and adds up what it reports.
///
/// # Errors
/// The first error of any thread; pieces begun by others are finished, the rest is not begun.
pub(super) fn each_piece<W>(job: &Job, phase: &str, work: W) -> Result<Report>
where
    W: Fn(&Piece, &mut Buffers) -> Result<Report> + Sync,
{
    job.monitor.begin(phase, job.plan.disk_len());
    let queue = Queue {
        pieces: Mutex::new(job.plan.pieces()),
        stop: AtomicBool::new(false),
        outcome: Mutex::new(Ok(Report::default())),
    };
    std::thread::scope(|scope| {
        for _ in 0..job.workers.get() {
            scope.spawn(|| queue.serve(job.monitor, &work));
        }
    });
    job.monitor.end();
    queue.outcome.into_inner()
}

struct Queue<'a> {
    /// What is left to do.
    pieces: Mutex<Pieces<'a>>,
    stop: AtomicBool,
    /// The sum so far, or the first error. Never held together with `pieces`.
    outcome: Mutex<Result<Report>>,
}

impl Queue<'_> {
    fn serve(&self, monitor: &dyn Monitor, work: impl Fn(&Piece, &mut Buffers) -> Result<Report>) {
        let mut buffers = Buffers::default();
        let mut sum = Report::default();
        while !self.stop.load(Ordering::Relaxed) {
            let Some(piece) = self.pieces.lock().next() else { break };
            match work(&piece, &mut buffers) {
                Ok(done) => sum.add(&done),
                Err(error) => return self.fail(error),
            }
            monitor.advance(piece.range.len);
        }
        if let Ok(total) = &mut *self.outcome.lock() {
            total.add(&sum);
        }
    }

    fn fail(&self, error: super::Error) {
        self.stop.store(true, Ordering::Relaxed);
        let mut outcome = self.outcome.lock();
        if outcome.is_ok() {
            *outcome = Err(error);
        }
    }
}

impl Report {
    /// Adds the work on one more part of the disk; the size of the disk is not part of it.
    pub(super) fn add(&mut self, part: &Self) {
        self.written = self.written.saturating_add(part.written);
        self.unchanged = self.unchanged.saturating_add(part.unchanged);
        self.holes = self.holes.saturating_add(part.holes);
    }
}
