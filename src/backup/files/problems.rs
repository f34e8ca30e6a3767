//! What could not be stored as it is: told at once, counted, and the first of it kept for the manifest.

use crate::monitor::Monitor;
use crate::vault::Problem;
use crate::vault::manifest::{MAX_PROBLEM_BYTES, MAX_PROBLEMS};
use parking_lot::Mutex;
use rustix::io::Errno;
use std::io;

/// Stands for what was cut off a text that is too long.
const CUT: &str = "...";

/// The problems of one backup.
#[derive(Debug, Default)]
pub(super) struct Problems {
    found: Mutex<Found>,
}

#[derive(Debug, Default)]
struct Found {
    count: u64,
    first: Vec<Problem>,
}

impl Problems {
    /// Takes note of a problem, and tells the user while there are not too many.
    pub(super) fn add(&self, monitor: &dyn Monitor, mut path: Vec<u8>, why: &str) {
        let shown = if path.is_empty() { b"." } else { path.as_slice() };
        let message = format!("{}: {why}", String::from_utf8_lossy(shown));
        if path.len() > MAX_PROBLEM_BYTES {
            // The end of a path tells more than its beginning.
            path.drain(..path.len().saturating_sub(MAX_PROBLEM_BYTES).saturating_add(CUT.len()));
            path.splice(..0, CUT.bytes());
        }
        let mut found = self.found.lock();
        found.count = found.count.saturating_add(1);
        let room = found.first.len() < MAX_PROBLEMS;
        if room {
            let why = why.chars().take(MAX_PROBLEM_BYTES / 4).collect();
            found.first.push(Problem { path, why });
        }
        drop(found);
        if room {
            monitor.fail(&message);
        }
    }

    /// The number of problems, and the first of them in the order of their paths.
    pub(super) fn finish(self, monitor: &dyn Monitor) -> (u64, Vec<Problem>) {
        let Found { count, mut first } = self.found.into_inner();
        if count > crate::bytes::to_u64(first.len()) {
            monitor.warn(&format!(
                "{count} files were not stored as they are; the first {MAX_PROBLEMS} are named"
            ));
        }
        first.sort_by(|one, other| one.path.cmp(&other.path));
        (count, first)
    }
}

/// Says whether an error means that the file is not there any more, or is another one.
pub(super) fn is_gone(error: &io::Error) -> bool {
    [Errno::NOENT, Errno::NOTDIR, Errno::STALE, Errno::LOOP]
        .iter()
        .any(|gone| error.raw_os_error() == Some(gone.raw_os_error()))
}

/// Why a file is not in the backup, in words.
pub(super) fn reason(doing: &str, error: &io::Error) -> String {
    if is_gone(error) {
        "it vanished before it was read".to_owned()
    } else {
        format!("{doing} failed: {error}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::Silent;

    #[test]
    fn problems_are_bounded_and_their_number_is_exact() {
        let problems = Problems::default();
        for number in 0..1500 {
            problems.add(&Silent, vec![b'a'; number * 10], &"why ".repeat(2000));
        }
        let (count, first) = problems.finish(&Silent);
        assert_eq!((count, first.len()), (1500, MAX_PROBLEMS));
        assert!(first.iter().all(|problem| problem.path.len() <= MAX_PROBLEM_BYTES));
        assert!(first.iter().all(|problem| problem.why.len() <= MAX_PROBLEM_BYTES));
        assert!(first.iter().any(|problem| problem.path.starts_with(b"...")));
    }
}
