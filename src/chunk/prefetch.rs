//! Work ahead of readers: a few threads, a bounded queue, and the rule that demand goes before prefetch.
//!
//! A job that finds the queue full is dropped: its bytes are then read when they are asked for.

use crossbeam_channel::{Sender, TrySendError, bounded};
use std::thread::JoinHandle;

/// Jobs that may wait.
const QUEUE: usize = 256;

type Job = Box<dyn FnOnce() + Send>;

/// Threads that run jobs; they end when the pool is dropped.
pub struct Pool {
    queue: Option<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    /// Starts `threads` threads.
    ///
    /// # Errors
    /// As the system reports if a thread cannot be started.
    pub fn new(threads: usize) -> std::io::Result<Self> {
        let (queue, jobs) = bounded::<Job>(QUEUE);
        let start = |_| {
            let jobs = jobs.clone();
            let run = move || {
                for job in jobs {
                    // A panic must not cost the pool a thread; the reader that needs the bytes meets the cause itself.
                    if std::panic::catch_unwind(std::panic::AssertUnwindSafe(job)).is_err() {
                        log::error!("a prefetch job panicked; this is a defect of vaultfs");
                    }
                }
            };
            std::thread::Builder::new().name("prefetch".to_owned()).spawn(run)
        };
        let threads = (0..threads).map(start).collect::<std::io::Result<_>>()?;
        Ok(Self {
            queue: Some(queue),
            threads,
        })
    }

    /// Queues a job; `false` if the queue is full and the job was dropped.
    pub fn offer(&self, job: impl FnOnce() + Send + 'static) -> bool {
        let sent = self.queue.as_ref().map(|queue| queue.try_send(Box::new(job)));
        !matches!(
            sent,
            None | Some(Err(TrySendError::Full(_) | TrySendError::Disconnected(_)))
        )
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.queue = None;
        for thread in self.threads.drain(..) {
            // Only a panic outside the jobs could fail the join, and there is nobody left to tell.
            let _ = thread.join();
        }
    }
}
