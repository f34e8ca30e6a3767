//! Arguments of the commands that look after a vault: `verify` and `repair`.

use super::help;
use crate::bytes::parse_size;
use crate::verify::Slice;
use clap::Args as Group;
use std::ffi::OsString;

/// Arguments of `verify`.
#[derive(Debug, Group)]
#[command(after_help = help::VERIFY)]
pub(in super::super) struct Verify {
    /// The vault: a directory made by `vaultfs init`, or a bucket
    pub(in super::super) vault: OsString,
    /// Only these backups and the packs that they need: `servers/web-01/latest` [default: everything]
    #[arg(value_name = "ADDRESS", conflicts_with = "slice")]
    pub(in super::super) addresses: Vec<String>,
    /// Decode and hash every chunk, too; without it, all bytes are compared with the hashes of their objects
    #[arg(long)]
    pub(in super::super) data: bool,
    /// Only one part of the vault: 3/30 is the third of thirty, which together are the whole
    #[arg(long, value_name = "N/OF", value_parser = str::parse::<Slice>)]
    pub(in super::super) slice: Option<Slice>,
    /// Read at most so many bytes a second
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(in super::super) limit_rate: Option<u64>,
    /// Threads that read and check [default: one for each core, eight or more for a bucket]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(in super::super) jobs: Option<u16>,
}

/// Arguments of `repair`.
#[derive(Debug, Group)]
#[command(after_help = help::REPAIR)]
pub(in super::super) struct Repair {
    /// The vault: a directory made by `vaultfs init`, or a bucket
    pub(in super::super) vault: OsString,
    /// Another vault that may have whole copies: one that backups were copied to or from
    #[arg(long, value_name = "VAULT")]
    pub(in super::super) from: Option<OsString>,
    /// Do it; without this, only say what would be done
    #[arg(long)]
    pub(in super::super) apply: bool,
    /// Threads that look for copies [default: one for each core, eight or more for a bucket]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(in super::super) jobs: Option<u16>,
}
