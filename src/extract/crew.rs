//! Threads that copy contents, which is where the work is: fetching, decoding, writing. The walk feeds them in its order.

use std::num::NonZeroUsize;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::attributes::{self, Copied};
use super::content::{self, Copy};
use super::place::Dir;
use super::{Error, Job};
use crate::tree::held::Held;

/// Files that wait for a thread; each keeps its directory open.
const QUEUE: usize = 64;

/// Runs `walk` with a crew that takes what it sends; returns when all is copied.
pub(super) fn with_crew<'a>(job: &Job<'a>, walk: impl FnOnce(Sender<Copy<'a>>)) {
    let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    // Two threads for each core: while one waits for the store or the target, another one decodes.
    let workers = job
        .options
        .workers
        .unwrap_or(cores.saturating_mul(NonZeroUsize::MIN.saturating_add(1)));
    let (queue, work) = bounded(QUEUE);
    std::thread::scope(|scope| {
        for _ in 0..workers.get() {
            let work = work.clone();
            scope.spawn(move || serve(job, &work));
        }
        drop(work);
        walk(queue);
    });
}

fn serve<'a>(job: &Job<'a>, work: &Receiver<Copy<'a>>) {
    for copy in work {
        let copied = if job.stopped() {
            Err(Error::Interrupted)
        } else {
            content::copy(job, &copy)
        };
        if let Some(path) = &copy.first_name {
            job.links.settle(copy.held.ino(), copied.is_ok().then(|| path.clone()));
        }
        if let Err(error) = copied {
            job.fail(error);
        }
        drop(copy.held);
        release(job, copy.dir);
    }
}

/// Lets a directory go; whoever lets it go last gives it its attributes, for everything in it is done.
pub(super) fn release<'a>(job: &Job<'a>, dir: Arc<Dir<'a>>) {
    let mut next = Some(dir);
    while let Some(dir) = next.take().and_then(Arc::into_inner) {
        if let Some((held, path)) = &dir.copy_of
            && !job.stopped()
        {
            finish(job, held, &dir, path);
        }
        next = dir.parent;
    }
}

fn finish(job: &Job<'_>, held: &Held<'_>, dir: &Dir<'_>, path: &[u8]) {
    match attributes::apply(job, held, Copied::Open(dir.fd()), path) {
        Ok(()) => job.tally.add(job.environment.monitor, |report| {
            report.directories = report.directories.saturating_add(1);
        }),
        Err(error) => job.fail(error),
    }
}
