//! Guesses whether who lists a directory will ask for the attributes too.
//!
//! The kernel asks for names with attributes whenever somebody begins to list a directory. `find` and shell patterns want names only:
//! then reading every inode, and having the kernel make one, is most of the work. `ls -l`, `du` and `cp -a` want attributes: then a
//! request for each file is most of the work. What came after the last listings tells which of the two is at work.

use std::sync::atomic::{AtomicU32, Ordering};

/// The most that is believed ahead: this many times [`ENTRIES`] names.
const MAX_CREDIT: u32 = 64;
/// Names listed with attributes for each file that was asked for by its name.
const ENTRIES: u32 = 64;

/// What has been asked for lately.
#[derive(Debug, Default)]
pub(super) struct Advice {
    /// Names that will be listed with attributes before it is tried without them again.
    credit: AtomicU32,
}

impl Advice {
    /// Notes that somebody asked for a file that is no directory by its name: a listing with attributes would have saved that.
    pub(super) fn looked_up(&self) {
        let more = |credit: u32| Some(credit.saturating_add(ENTRIES).min(MAX_CREDIT * ENTRIES));
        // Only a guess hangs on it; racing threads do no harm.
        let _ = self.credit.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    /// Notes that `names` were listed with attributes.
    pub(super) fn listed(&self, names: u32) {
        let less = |credit: u32| Some(credit.saturating_sub(names));
        let _ = self.credit.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// Says whether attributes are likely to be wanted.
    pub(super) fn wants_attributes(&self) -> bool {
        self.credit.load(Ordering::Relaxed) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_listed_while_they_are_asked_for() {
        let advice = Advice::default();
        assert!(!advice.wants_attributes());
        advice.looked_up();
        assert!(advice.wants_attributes());
        advice.listed(ENTRIES);
        assert!(!advice.wants_attributes());
        for _ in 0..10 * MAX_CREDIT {
            advice.looked_up();
        }
        advice.listed(MAX_CREDIT * ENTRIES - 1);
        assert!(advice.wants_attributes());
        advice.listed(1000);
        assert!(!advice.wants_attributes());
    }
}
