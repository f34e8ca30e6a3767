//! Turns termination signals into calls; the only file that names signal-hook.

use std::thread::JoinHandle;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

/// Signals that are caught from its creation on, so that none is lost while a mount comes up.
pub struct Caught(Signals);

/// Calls on each signal until dropped.
pub struct Watch {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

/// Catches SIGTERM, SIGINT and SIGHUP.
///
/// # Errors
/// As sigaction(2).
pub fn catch() -> std::io::Result<Caught> {
    Signals::new([SIGTERM, SIGINT, SIGHUP]).map(Caught)
}

impl Caught {
    /// Calls `act` on a thread of its own for each signal, also those that came before.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn watch(mut self, act: impl Fn() + Send + 'static) -> std::io::Result<Watch> {
        let handle = self.0.handle();
        let thread = std::thread::Builder::new().name("signals".into()).spawn(move || {
            for _ in self.0.forever() {
                act();
            }
        })?;
        Ok(Watch {
            handle,
            thread: Some(thread),
        })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the signal thread panicked");
        }
    }
}
