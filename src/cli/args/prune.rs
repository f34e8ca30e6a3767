//! Arguments of `prune`.

use crate::clock::{Seconds, parse_span};
use clap::Args as Group;
use std::ffi::OsString;

/// Arguments of `prune`.
#[derive(Debug, Group)]
pub(in super::super) struct Prune {
    /// The vault: a directory made by `vaultfs init`
    pub(in super::super) vault: OsString,
    /// Change nothing; say what would be removed and marked, in bytes
    #[arg(long)]
    pub(in super::super) dry_run: bool,
    /// How long what no backup needs stays after it was marked, for those who read it now
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = span)]
    pub(in super::super) grace: Seconds,
    /// How long deleted backups can be brought back before they are marked
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = span)]
    pub(in super::super) keep_deleted: Seconds,
    /// Store again what is needed of packs of which less than this share is, in per cent; 0 leaves them as they are
    #[arg(long, value_name = "PERCENT", default_value_t = 30, value_parser = clap::value_parser!(u8).range(0..=90))]
    pub(in super::super) repack_below: u8,
    /// Only say who writes, copies, prunes and mounts the vault now
    #[arg(long, conflicts_with = "dry_run")]
    pub(in super::super) who: bool,
}

/// A stretch of time, or none.
fn span(text: &str) -> Result<Seconds, String> {
    if text == "0" { Ok(0) } else { parse_span(text) }
}
