//! Pushes small files into the kernel's page cache ahead of a reader: who copies a directory then asks for few of its files.
//!
//! What is read next is guessed from what was listed with attributes: readers take the files of a directory in the order in which
//! they were listed, or in that of their inode numbers. A listing alone pushes nothing, and what is pushed grows only as reads
//! prove the guess: `find` and `ls` cost no more than before, and who reads one file here and there soon gets no more than that.

use std::collections::VecDeque;

use crossbeam_channel::{Receiver, Sender};
use fuser::INodeNo;
use parking_lot::Mutex;

use super::Notifier;
use crate::bytes::to_usize;
use crate::tree::{Ino, Tree};

/// Larger files are not pushed: their one request is a small part of the work.
pub(super) const SMALL_BYTES: u64 = 64 << 10;
/// Listings that are remembered: those of a path and some beside it.
const LISTINGS: usize = 16;
/// Files remembered of one listing.
const FILES: usize = 4096;
/// Files pushed after the first two that were read one after the other.
const FIRST_WINDOW: usize = 4;
/// Most files and bytes pushed at once.
const MAX_WINDOW: usize = 64;
const MAX_WINDOW_BYTES: u64 = 2 << 20;
/// Windows that wait to be pushed; further ones are dropped.
const WAITING: usize = 4;

/// A file worth pushing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Small {
    pub(super) ino: Ino,
    pub(super) size_bytes: u64,
}

/// Watches listings and reads, and has the files pushed that are likely to be read next.
pub(super) struct Pusher {
    /// Never held while anything is read or sent.
    guess: Mutex<Guess>,
    /// Closing it ends the thread.
    windows: Sender<Vec<Small>>,
}

impl Pusher {
    /// A pusher and what its thread is to push.
    pub(super) fn new() -> (Self, Receiver<Vec<Small>>) {
        let (windows, waiting) = crossbeam_channel::bounded(WAITING);
        let guess = Mutex::new(Guess::default());
        (Self { guess, windows }, waiting)
    }

    /// Notes what a directory's listing showed from place `offset` on.
    pub(super) fn listed(&self, directory: Ino, offset: u64, files: Vec<Small>) {
        self.guess.lock().listed(directory, offset, files);
    }

    /// Notes that the kernel had to ask for the bytes of a small file.
    pub(super) fn read(&self, ino: Ino) {
        let window = self.guess.lock().read(ino);
        if !window.is_empty() {
            // A thread that is behind gets no more: the reader is faster.
            let _ = self.windows.try_send(window);
        }
    }
}

/// Pushes windows until nobody asks for them any more. For a thread that serves no request: the kernel may make it wait for one.
pub(super) fn run(tree: &Tree, notifier: &Notifier, windows: &Receiver<Vec<Small>>) {
    for window in windows {
        let pushed = window.iter().take_while(|file| push(tree, notifier, **file)).count();
        log::debug!("pushed {pushed} of {} small files", window.len());
    }
}

/// Pushes one file; says whether it makes sense to go on. Whatever fails is met again, and reported, by who reads the file.
fn push(tree: &Tree, notifier: &Notifier, file: Small) -> bool {
    let Ok(opened) = tree.open_file(file.ino) else {
        return false;
    };
    // The whole file or nothing: the kernel fills the last page with zeros only if the file ends there.
    let whole = opened.size_bytes() == file.size_bytes;
    let bytes = opened.read(0, to_usize(file.size_bytes)).ok().filter(|_| whole);
    bytes.is_some_and(|bytes| notifier.0.store(INodeNo(file.ino.0), 0, &bytes).is_ok())
}

/// What was listed lately, and how well guesses went.
#[derive(Debug, Default)]
struct Guess {
    /// The newest last.
    listings: VecDeque<Listing>,
    order: Order,
    /// Files to push on the first read in a directory: halved with each, until reads prove the guess again.
    trust: usize,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Order {
    /// As `cp` does.
    #[default]
    Inode,
    Listing,
}

impl Order {
    fn other(self) -> Self {
        match self {
            Self::Inode => Self::Listing,
            Self::Listing => Self::Inode,
        }
    }
}

#[derive(Debug)]
struct Listing {
    directory: Ino,
    files: Vec<Small>,
    /// The same by inode number; empty until somebody reads one of them.
    by_ino: Vec<Small>,
    /// The order in which they are read.
    order: Order,
    /// The last one that was asked for, and how many were pushed after it.
    last: Option<(Ino, usize)>,
    window: usize,
}

impl Guess {
    fn listed(&mut self, directory: Ino, offset: u64, files: Vec<Small>) {
        let mut listings = self.listings.iter_mut();
        let known = listings.find(|listing| listing.directory == directory);
        if let Some(listing) = known.filter(|_| offset > 0) {
            let room = FILES.saturating_sub(listing.files.len());
            listing.files.extend(files.into_iter().take(room));
            return;
        }
        self.listings.retain(|listing| listing.directory != directory);
        if files.is_empty() {
            return;
        }
        if self.listings.len() >= LISTINGS {
            self.listings.pop_front();
        }
        self.listings.push_back(Listing {
            directory,
            files,
            by_ino: Vec::new(),
            order: Order::default(),
            last: None,
            window: 0,
        });
    }

    /// Files to push now that one was asked for.
    fn read(&mut self, ino: Ino) -> Vec<Small> {
        let mut newest_first = self.listings.iter_mut().rev();
        let Some(listing) = newest_first.find_map(|listing| listing.holds(ino).then_some(listing)) else {
            return Vec::new();
        };
        match listing.step(ino) {
            Step::First => {
                listing.order = self.order;
                listing.window = self.trust;
            }
            Step::Pushed => return Vec::new(),
            Step::Next(order) => {
                listing.order = order;
                self.order = order;
                listing.window = listing.window.saturating_mul(2).clamp(FIRST_WINDOW, MAX_WINDOW);
                self.trust = listing.window;
            }
            Step::Jump => listing.window /= 2,
        }
        let window = listing.after(ino);
        if listing.last.is_none() && !window.is_empty() {
            self.trust /= 2;
        }
        listing.last = Some((ino, window.len()));
        window
    }
}

/// How a read follows the one before in the same directory.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// There was none.
    First,
    /// It is of what was pushed: the reader is as fast as we are.
    Pushed,
    /// It is the next one after all that was pushed, in this order.
    Next(Order),
    Jump,
}

impl Listing {
    fn in_order(&self, order: Order) -> &[Small] {
        match order {
            Order::Inode => &self.by_ino,
            Order::Listing => &self.files,
        }
    }

    fn place_in(&self, order: Order, ino: Ino) -> Option<usize> {
        match order {
            Order::Inode => self.by_ino.binary_search_by_key(&ino.0, |file| file.ino.0).ok(),
            Order::Listing => self.files.iter().position(|file| file.ino == ino),
        }
    }

    /// Says whether it has listed this file.
    fn holds(&mut self, ino: Ino) -> bool {
        if self.by_ino.len() != self.files.len() {
            self.by_ino.clone_from(&self.files);
            self.by_ino.sort_unstable_by_key(|file| file.ino.0);
        }
        self.place_in(Order::Inode, ino).is_some()
    }

    fn step(&self, ino: Ino) -> Step {
        let Some((last, pushed)) = self.last else {
            return Step::First;
        };
        let distance = |order| {
            let (from, to) = (self.place_in(order, last)?, self.place_in(order, ino)?);
            to.checked_sub(from)
        };
        if let Some(distance) = distance(self.order) {
            if distance <= pushed {
                return Step::Pushed;
            }
            if distance == pushed.saturating_add(1) {
                return Step::Next(self.order);
            }
        }
        let other = self.order.other();
        if distance(other) == Some(1) {
            Step::Next(other)
        } else {
            Step::Jump
        }
    }

    /// The window of files after one.
    fn after(&self, ino: Ino) -> Vec<Small> {
        let files = self.in_order(self.order);
        let first = self
            .place_in(self.order, ino)
            .map_or(files.len(), |at| at.saturating_add(1));
        let mut left = MAX_WINDOW_BYTES;
        let fits = |file: &&Small| {
            let rest = left.checked_sub(file.size_bytes);
            left = rest.unwrap_or(left);
            rest.is_some()
        };
        files
            .iter()
            .skip(first)
            .take(self.window)
            .take_while(fits)
            .copied()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIRECTORY: Ino = Ino(7);

    fn files(numbers: impl IntoIterator<Item = u64>) -> Vec<Small> {
        let small = |ino| Small {
            ino: Ino(ino),
            size_bytes: 100,
        };
        numbers.into_iter().map(small).collect()
    }

    /// Reads files in this order as a kernel that keeps all that is pushed; gives those it asks for, and the number of those pushed.
    fn reads(guess: &mut Guess, order: impl IntoIterator<Item = u64>) -> (Vec<u64>, usize) {
        let (mut asked, mut pushed) = (Vec::new(), Vec::new());
        for ino in order {
            if !pushed.contains(&ino) {
                asked.push(ino);
                pushed.extend(guess.read(Ino(ino)).iter().map(|file| file.ino.0));
            }
        }
        (asked, pushed.len())
    }

    #[test]
    fn a_listing_or_one_read_pushes_nothing() {
        let mut guess = Guess::default();
        guess.listed(DIRECTORY, 0, files(100..200));
        assert_eq!(guess.read(Ino(150)), []);
        assert_eq!(guess.read(Ino(5)), []);
    }

    #[test]
    fn reads_in_order_are_pushed_ahead_more_and_more() {
        let mut guess = Guess::default();
        guess.listed(DIRECTORY, 0, files((100..200).rev()));
        let (asked, pushed) = reads(&mut guess, 100..200);
        assert_eq!(asked, [100, 101, 106, 115, 132, 165]);
        assert_eq!(pushed, 94);
    }

    #[test]
    fn reads_in_the_order_of_the_listing_are_followed_too() {
        let mut guess = Guess::default();
        let scattered = |number: u64| 1 + number * 37 % 101;
        guess.listed(DIRECTORY, 0, files((0..50).map(scattered)));
        guess.listed(DIRECTORY, 9, files((50..100).map(scattered)));
        let (asked, _) = reads(&mut guess, (0..100).map(scattered));
        assert_eq!(asked, [0, 1, 6, 15, 32, 65].map(scattered));
    }

    #[test]
    fn a_copy_of_many_directories_asks_for_few_files() {
        let mut guess = Guess::default();
        let mut all = 0;
        for directory in 1..=100 {
            let first = directory * 1000;
            guess.listed(Ino(directory), 0, files(first..first + 50));
            all += reads(&mut guess, first..first + 50).0.len();
        }
        assert!(all < 200, "{all} of 5000");
    }

    #[test]
    fn one_file_of_each_directory_soon_pushes_nothing() {
        let mut guess = Guess::default();
        guess.listed(DIRECTORY, 0, files(100..300));
        reads(&mut guess, 100..300);
        let mut pushed = 0;
        for directory in 10..100 {
            let first = directory * 1000;
            guess.listed(Ino(directory), 0, files(first..first + 100));
            pushed += reads(&mut guess, [first]).1;
        }
        assert_eq!(pushed, 64 + 32 + 16 + 8 + 4 + 2 + 1);
    }

    #[test]
    fn reads_without_an_order_push_little() {
        let mut guess = Guess::default();
        guess.listed(DIRECTORY, 0, files(0..1000));
        let (asked, pushed) = reads(&mut guess, (0..1000).map(|number| number * 367 % 1000));
        assert!(pushed < asked.len() / 10, "{pushed} beside {}", asked.len());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut guess = Guess::default();
        for piece in 0..20 {
            guess.listed(DIRECTORY, piece, files(piece * 1000..(piece + 1) * 1000));
        }
        assert_eq!(guess.listings.back().map(|listing| listing.files.len()), Some(FILES));
        for directory in 100..200 {
            guess.listed(Ino(directory), 0, files([directory * 10]));
        }
        assert_eq!(guess.listings.len(), LISTINGS);
    }

    #[test]
    fn windows_are_bounded_in_bytes() {
        let mut guess = Guess::default();
        let large = (0..100).map(|ino| Small {
            ino: Ino(ino),
            size_bytes: SMALL_BYTES,
        });
        guess.listed(DIRECTORY, 0, large.collect());
        let windows = (0..100).map(|ino| guess.read(Ino(ino)).len());
        assert_eq!(windows.max(), Some(32));
    }
}
