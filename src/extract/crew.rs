//! Threads that copy contents, which is where the work is: fetching, decoding, writing. The walk feeds them in its order.

use std::num::NonZeroUsize;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::content::{self, Copy, Names};
use super::links::First;
use super::place::{Dir, Origin, Original, Wanted};
use super::{Error, Existing, Extra, Job, attributes, remove};

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
        if copy.names == Names::FirstOfSeveral {
            let first = copied.as_ref().ok().map(|identity| First {
                below: copy.below.clone(),
                identity: *identity,
            });
            job.links.settle(copy.held.ino(), first);
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
        if let Some(original) = &dir.original
            && !job.stopped()
        {
            finish(job, original, &dir);
        }
        next = dir.parent;
    }
}

fn finish(job: &Job<'_>, original: &Original<'_>, dir: &Dir<'_>) {
    if job.options.extra == Extra::Remove && original.wanted == Wanted::Whole {
        remove::extras(job, dir, original);
    }
    let done = match dir.origin {
        Origin::Found(_) if original.wanted == Wanted::Way => return,
        Origin::Found(now) if matches!(job.options.existing, Existing::Update(_)) => {
            attributes::mend_directory(job, &original.held, dir.fd(), &now, &original.path).map(Some)
        }
        _ if job.plans() => Ok(None),
        _ => attributes::apply_directory(job, &original.held, dir.fd(), &original.path).map(|()| None),
    };
    match done {
        Ok(Some(mended)) => job.kept(mended, &original.below),
        Ok(None) => job.tally.add(job.environment.monitor, |report| {
            report.directories = report.directories.saturating_add(1);
        }),
        Err(error) => job.fail(error),
    }
}
