//! Kills and failures of the real program by strace, at every call that an undisturbed run makes, one after the other.

use super::program::{stderr, traced};
use super::trace::{self, Call};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A call to be disturbed at: its name, and which one of its thread.
pub type Place = (String, u32);

/// How a process ended that was killed.
pub const KILLED: Option<i32> = Some(9);

/// The same command of the program under strace with these options, the trace in `log`.
pub fn under_strace(command: &Command, log: &Path, options: &[&str]) -> Command {
    let mut strace = traced(log, options, command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => strace.env(name, value),
            None => strace.env_remove(name),
        };
    }
    strace
}

/// The calls of an undisturbed run, which must end with this code.
#[track_caller]
pub fn calls(command: &Command, code: i32) -> Vec<Call> {
    let log = tempfile::NamedTempFile::new().unwrap();
    let output = under_strace(command, log.path(), &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{command:?}: {}", stderr(&output));
    trace::parse(&std::fs::read_to_string(log.path()).unwrap())
}

/// Where those calls can be disturbed that `is_one` chooses: by their numbers among the calls of their name and thread, which is how
/// strace counts.
pub fn places(calls: &[Call], is_one: impl Fn(&Call) -> bool) -> Vec<Place> {
    let mut counts: BTreeMap<(&str, u32), u32> = BTreeMap::new();
    let mut places = BTreeSet::new();
    for call in calls {
        let count = counts.entry((&call.name, call.thread)).or_default();
        *count += 1;
        if is_one(call) {
            places.insert((call.name.clone(), *count));
        }
    }
    places.into_iter().collect()
}

/// At most `most` places of each name, which is more than one, from the first to the last.
pub fn spread(places: &[Place], most: usize) -> Vec<Place> {
    let of_a_name = places.chunk_by(|one, next| one.0 == next.0);
    let some_of = |places: &[Place]| {
        let count = places.len().min(most);
        let chosen = (0..count).map(|number| number * (places.len() - 1) / (count - 1).max(1));
        chosen.map(|number| places[number].clone()).collect::<Vec<_>>()
    };
    of_a_name.flat_map(some_of).collect()
}

/// Says whether a call names or uses something below a directory.
pub fn is_below(call: &Call, dir: &Path) -> bool {
    call.paths().iter().any(|path| Path::new(path).starts_with(dir))
}

/// Runs a command that is killed before a call; says whether it was. Threads share the work anew each time: the call may not come,
/// and then the command must end with this code.
#[track_caller]
pub fn kill(command: &Command, (name, number): &Place, code: i32) -> bool {
    let inject = format!("inject={name}:signal=KILL:when={number}");
    let trace = format!("trace={name}");
    let options = ["-e", trace.as_str(), "-e", inject.as_str()];
    let output = under_strace(command, Path::new("/dev/null"), &options)
        .output()
        .unwrap();
    let killed = output.status.signal() == KILLED;
    assert!(
        killed || output.status.code() == Some(code),
        "{inject}: {:?}: {}",
        output.status,
        stderr(&output)
    );
    killed
}

/// A run of which calls failed.
pub struct Faulted {
    /// How it ended.
    pub output: Output,
    /// The calls that were made to fail.
    pub injected: Vec<Call>,
}

impl Faulted {
    /// The calls below a directory that were made to fail.
    pub fn hits(&self, dir: &Path) -> Vec<&Call> {
        self.injected.iter().filter(|call| is_below(call, dir)).collect()
    }
}

/// Runs a command of which calls fail: `fsync:error=EIO`, and which ones of their thread.
pub fn fail(command: &Command, fault: &str, when: &str) -> Faulted {
    let log = tempfile::NamedTempFile::new().unwrap();
    let inject = format!("inject={fault}:when={when}");
    let output = under_strace(command, log.path(), &["-e", &inject]).output().unwrap();
    let mut injected = trace::parse(&std::fs::read_to_string(log.path()).unwrap());
    injected.retain(|call| call.result.contains("(INJECTED)"));
    // A panic is no error that is told.
    assert!(
        output.status.code().is_some_and(|code| code != 101),
        "{inject}: {}",
        stderr(&output)
    );
    Faulted { output, injected }
}

/// Does `work` with each item, by two threads.
pub fn for_each<T: Sync>(items: &[T], work: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    work(item);
                }
            });
        }
    });
}
