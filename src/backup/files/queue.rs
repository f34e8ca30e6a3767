//! Work for several threads, the newest first: a tree is walked into its depth, so that little of it waits at a time.

use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;

/// Work to be done: `T` may bring more work, `U` is urgent, brings none, and is what others wait for.
#[derive(Debug)]
pub(super) struct Queue<T, U> {
    /// Held only to put and take.
    state: Mutex<State<T, U>>,
    changed: Condvar,
    urgent_limit: usize,
}

#[derive(Debug)]
struct State<T, U> {
    waiting: Vec<T>,
    urgent: VecDeque<U>,
    /// Threads at work on a `T`, which may bring more.
    busy: usize,
    stopped: bool,
}

/// What a thread has to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Work<T, U> {
    /// Something that may bring more; [`Queue::done`] says that it has brought all.
    Task(T),
    /// Something that others wait for.
    Urgent(U),
}

impl<T, U> Queue<T, U> {
    /// Starts with one task; at most `urgent_limit` urgent pieces wait at a time.
    pub(super) fn new(first: T, urgent_limit: usize) -> Self {
        Self {
            state: Mutex::new(State {
                waiting: vec![first],
                urgent: VecDeque::new(),
                busy: 0,
                stopped: false,
            }),
            changed: Condvar::new(),
            urgent_limit,
        }
    }

    /// Adds tasks; the last of them is taken first.
    pub(super) fn add(&self, tasks: impl IntoIterator<Item = T>) {
        let mut state = self.state.lock();
        let before = state.waiting.len();
        state.waiting.extend(tasks);
        let more = state.waiting.len() > before.saturating_add(1);
        drop(state);
        if more {
            self.changed.notify_all();
        } else {
            self.changed.notify_one();
        }
    }

    /// Adds an urgent piece; gives it back if as many wait as may.
    pub(super) fn add_urgent(&self, piece: U) -> Result<(), U> {
        let mut state = self.state.lock();
        if state.urgent.len() >= self.urgent_limit {
            return Err(piece);
        }
        state.urgent.push_back(piece);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// An urgent piece, if one waits.
    pub(super) fn take_urgent(&self) -> Option<U> {
        self.state.lock().urgent.pop_front()
    }

    /// Waits for work; `None` when all is done, or after [`stop`](Self::stop).
    pub(super) fn take(&self) -> Option<Work<T, U>> {
        let mut state = self.state.lock();
        loop {
            if state.stopped {
                return None;
            }
            if let Some(piece) = state.urgent.pop_front() {
                return Some(Work::Urgent(piece));
            }
            if let Some(task) = state.waiting.pop() {
                state.busy = state.busy.saturating_add(1);
                return Some(Work::Task(task));
            }
            if state.busy == 0 {
                return None;
            }
            self.changed.wait(&mut state);
        }
    }

    /// Says that a task has brought all the work it brings.
    pub(super) fn done(&self) {
        let mut state = self.state.lock();
        state.busy = state.busy.saturating_sub(1);
        let ended = state.busy == 0 && state.waiting.is_empty();
        drop(state);
        if ended {
            self.changed.notify_all();
        }
    }

    /// Ends all waiting; what is left is not done.
    pub(super) fn stop(&self) {
        self.state.lock().stopped = true;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn all_work_is_done_once_whoever_does_it() {
        let queue: Queue<u32, u32> = Queue::new(14, 2);
        let (tasks, urgent) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while let Some(work) = queue.take() {
                        match work {
                            Work::Task(depth) => {
                                tasks.fetch_add(1, Ordering::Relaxed);
                                if queue.add_urgent(depth).is_err() {
                                    urgent.fetch_add(1, Ordering::Relaxed);
                                }
                                if let Some(below) = depth.checked_sub(1) {
                                    queue.add([below, below]);
                                }
                                queue.done();
                            }
                            Work::Urgent(_) => {
                                urgent.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    }
                });
            }
        });
        assert_eq!(tasks.into_inner(), (1 << 15) - 1);
        assert_eq!(urgent.into_inner(), (1 << 15) - 1);
    }

    #[test]
    fn stopping_wakes_those_who_wait() {
        let queue: Queue<(), ()> = Queue::new((), 1);
        assert_eq!(queue.take(), Some(Work::Task(())));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| queue.take());
            std::thread::sleep(std::time::Duration::from_millis(20));
            queue.stop();
            assert_eq!(waiting.join().unwrap(), None);
        });
    }
}
