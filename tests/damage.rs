//! Damage of every kind to every object of a small vault: what is read is identical or an error, never something else.
//!
//! A vault of all object types is built in memory; each mutant of one of its objects is read through the public interface, as a
//! mount does, by a fresh reader. How many mutants are found is asserted region by region, so that a check that is lost is
//! noticed even where the next one would still catch the damage.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod common;
#[path = "damage/exchange.rs"]
mod exchange;
#[path = "damage/flips.rs"]
mod flips;
#[path = "damage/kinds.rs"]
mod kinds;
#[path = "damage/sample.rs"]
mod sample;
#[path = "damage/whole.rs"]
mod whole;
