//! Tells others who look at the vault that it is mounted. Nothing relies on that: where nothing may be written, nobody is told.

use crate::clock::System;
use crate::lease::{Kind, Lease};
use crate::vault::Vault;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::time::Duration;

/// How long the end of a mount waits until nobody is told any more.
const PATIENCE: Duration = Duration::from_secs(2);

/// A lease that is held by a thread of its own, for a store may take long to answer.
pub(super) struct Presence {
    stop: Option<Sender<()>>,
    stopped: Receiver<()>,
}

impl Presence {
    /// Takes the lease when the store lets it.
    pub(super) fn show(vault: Vault) -> Self {
        let (stop, wanted) = bounded::<()>(0);
        let (ended, stopped) = bounded::<()>(1);
        let hold = move || {
            match Lease::take(&vault, Kind::Mount, &System) {
                // Until the other end is dropped.
                Ok(_lease) => drop(wanted.recv()),
                Err(error) => log::debug!("no lease tells of this mount: {error}"),
            }
            drop(ended);
        };
        if let Err(error) = std::thread::Builder::new().name("presence".to_owned()).spawn(hold) {
            log::debug!("no lease tells of this mount: {error}");
        }
        Self {
            stop: Some(stop),
            stopped,
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.stop = None;
        // Ends when the thread drops its end, or it is too slow.
        let _ = self.stopped.recv_timeout(PATIENCE);
    }
}
