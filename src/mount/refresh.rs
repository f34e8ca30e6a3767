//! Live refresh: looks for new and deleted backups every few seconds and tells the kernel.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, Sender};

use crate::fuse::Notifier;
use crate::store::Store;
use crate::tree::Tree;

/// Shortest time between two looks.
const PAUSE: Duration = Duration::from_secs(2);
/// The same over a network, where each look is a request that may be paid for.
const REMOTE_PAUSE: Duration = Duration::from_secs(10);
/// A vault whose listing takes long is looked at less often: looking takes at most one fiftieth of the time.
const RATIO: u32 = 50;
/// Time between two looks at a vault that cannot be listed: how long it took says nothing then.
const RETRY: Duration = Duration::from_secs(10);
/// How long the end of a mount waits for a look that is going on.
const GRACE: Duration = Duration::from_millis(500);

/// Refreshes a tree until dropped.
pub(super) struct Refresher {
    /// Closing it ends the thread.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Refresher {
    /// Starts with a time between two looks of at least `least`.
    pub(super) fn start(tree: Arc<Tree>, notifier: Notifier, least: Duration) -> std::io::Result<Self> {
        let (stop, stopped) = crossbeam_channel::bounded::<()>(0);
        let thread = std::thread::Builder::new().name("refresh".into()).spawn(move || {
            let mut pause = least;
            let mut failing = false;
            while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                let began = Instant::now();
                let refreshed = tree.refresh();
                pause = pause_after(least, began.elapsed());
                match refreshed {
                    Ok(changes) => {
                        if failing {
                            log::info!("the vault can be listed again");
                        }
                        failing = false;
                        notifier.tell(&changes);
                    }
                    // Said once: the mount goes on with the backups that it knows.
                    Err(error) if !failing => {
                        log::warn!("new backups cannot be looked for: {error}");
                        failing = true;
                        pause = RETRY;
                    }
                    Err(_) => pause = RETRY,
                }
            }
        })?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

/// Gives a thread that was told to stop a moment to do so.
fn ends_soon(thread: &JoinHandle<()>) -> bool {
    let deadline = Instant::now() + GRACE;
    while !thread.is_finished() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
    thread.is_finished()
}

/// The shortest time between two looks at a vault in `store`.
pub(super) fn pause_for(store: &dyn Store) -> Duration {
    if store.is_remote() { REMOTE_PAUSE } else { PAUSE }
}

fn pause_after(least: Duration, took: Duration) -> Duration {
    least.max(took.saturating_mul(RATIO))
}

impl Drop for Refresher {
    fn drop(&mut self) {
        drop(self.stop.take());
        // A look at a store that does not answer may last; the end of a mount does not wait for it.
        let thread = self.thread.take().filter(ends_soon);
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            log::error!("the refresh thread panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_vaults_are_looked_at_less_often() {
        assert_eq!(pause_after(PAUSE, Duration::from_millis(3)), PAUSE);
        assert_eq!(pause_after(PAUSE, Duration::from_millis(200)), Duration::from_secs(10));
    }
}
