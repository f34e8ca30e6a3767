//! What a prune must never do: remove something of a backup that is there. Writers, prunes, deletions and copies are stepped through
//! their operations on one store in memory, one operation at a time, in many orders, killed and suspended in between.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod common;
#[path = "prune/days.rs"]
mod days;
#[path = "prune/facts.rs"]
mod facts;
mod files;
#[path = "prune/full.rs"]
mod full;
#[path = "prune/looks.rs"]
mod looks;
#[path = "prune/model.rs"]
mod model;
#[path = "prune/pages.rs"]
mod pages;
#[path = "prune/program.rs"]
mod program;
#[path = "prune/races.rs"]
mod races;
#[path = "prune/steps.rs"]
mod steps;
#[path = "prune/threads.rs"]
mod threads;
