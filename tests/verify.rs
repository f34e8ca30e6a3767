//! Verifying, quarantine, healing and repair: damage of every kind is found and named, never made up, and comes back whole.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

#[path = "verify/commands.rs"]
mod commands;
mod common;
#[path = "verify/faults.rs"]
mod faults;
#[path = "verify/finds.rs"]
mod finds;
#[path = "verify/heals.rs"]
mod heals;
#[path = "verify/scene.rs"]
mod scene;
