//! One directory tree of a backup: walk, read, cut, hash, deduplicate, sort, and build the tree of pages.

mod cutter;
mod exclude;
mod numbers;
mod queue;
mod sorter;

pub use exclude::{Excludes, Tag};
