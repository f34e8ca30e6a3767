//! Arguments of the commands about what becomes of backups: `delete`, `undelete`, `pin`, `unpin`, `lock`, `retain`.

use crate::clock::{Point, Seconds, Zone, parse_span};
use clap::Args as Group;
use std::ffi::OsString;

/// Arguments of `delete`.
#[derive(Debug, Group)]
pub(in super::super) struct Delete {
    /// The vault: a directory made by `vaultfs init`
    pub(in super::super) vault: OsString,
    /// Backups by their points: `servers/web-01/2026-11-20T03-00-00Z`; not `latest`
    #[arg(value_name = "ADDRESS", required = true)]
    pub(in super::super) addresses: Vec<String>,
    /// Change nothing; say what would be deleted and what may not be
    #[arg(long)]
    pub(in super::super) dry_run: bool,
}

/// Arguments of `undelete`.
#[derive(Debug, Group)]
pub(in super::super) struct Undelete {
    /// The vault: a directory made by `vaultfs init`
    pub(in super::super) vault: OsString,
    /// Deleted backups, as `vaultfs list --deleted` shows them
    #[arg(value_name = "ADDRESS", required = true)]
    pub(in super::super) addresses: Vec<String>,
}

/// Arguments of `pin`.
#[derive(Debug, Group)]
pub(in super::super) struct Pin {
    /// The vault: a directory made by `vaultfs init`
    pub(in super::super) vault: OsString,
    /// Backups: `servers/web-01/2026-11-20T03-00-00Z` or `servers/web-01/latest`
    #[arg(value_name = "ADDRESS", required = true)]
    pub(in super::super) addresses: Vec<String>,
    /// Why: shown to whoever wants to delete them
    #[arg(long, value_name = "TEXT")]
    pub(in super::super) reason: String,
    /// When the pin ends by itself: 2026-11-20T03-00-00Z, RFC 3339 or @seconds [default: never]
    #[arg(long, value_name = "TIME", value_parser = Point::parse_user)]
    pub(in super::super) until: Option<Point>,
}

/// Arguments of `unpin`.
#[derive(Debug, Group)]
pub(in super::super) struct Unpin {
    /// The vault: a directory made by `vaultfs init`
    pub(in super::super) vault: OsString,
    /// Pinned backups: `servers/web-01/2026-11-20T03-00-00Z` or `servers/web-01/latest`
    #[arg(value_name = "ADDRESS", required = true)]
    pub(in super::super) addresses: Vec<String>,
}

/// Arguments of `lock`.
#[derive(Debug, Group)]
pub(in super::super) struct Lock {
    /// The vault: a directory made by `vaultfs init`
    pub(in super::super) vault: OsString,
    /// Backups: `servers/web-01/2026-11-20T03-00-00Z` or `servers/web-01/latest`
    #[arg(value_name = "ADDRESS", required = true)]
    pub(in super::super) addresses: Vec<String>,
    /// Until when nobody can delete them: 2027-11-20T03-00-00Z, RFC 3339 or @seconds; can be made later, never earlier
    #[arg(long, value_name = "TIME", value_parser = Point::parse_user)]
    pub(in super::super) until: Point,
}

/// Arguments of `retain`.
#[derive(Debug, Group)]
pub(in super::super) struct Retain {
    /// The vault: a directory made by `vaultfs init`
    pub(in super::super) vault: OsString,
    /// Only these resources: `servers`, `servers/web-01` [default: all]
    #[arg(value_name = "ADDRESS-PREFIX")]
    pub(in super::super) prefix: Option<String>,
    #[command(flatten)]
    pub(in super::super) rules: Rules,
    /// Only backups that were made with this --schedule; those of others stay
    #[arg(long, value_name = "NAME")]
    pub(in super::super) schedule: Option<String>,
    /// Change nothing; tell of each backup whether it stays, and by which rule
    #[arg(long)]
    pub(in super::super) dry_run: bool,
}

/// What `retain` keeps of each resource: what any of these rules keeps.
#[derive(Debug, Group)]
#[command(next_help_heading = "Rules, at least one: what any of them keeps stays")]
pub(in super::super) struct Rules {
    /// So many of the newest backups
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=99_999))]
    pub(in super::super) number: Option<u32>,
    /// Backups younger than this: 36h, 30d, 8w; a number alone means days
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    pub(in super::super) age: Option<Seconds>,
    /// The last backup of each of the last N days with backups
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true,
          value_parser = clap::value_parser!(u32).range(0..=99_999))]
    pub(in super::super) day: u32,
    /// The same for weeks, from Monday to Sunday
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true,
          value_parser = clap::value_parser!(u32).range(0..=99_999))]
    pub(in super::super) week: u32,
    /// The same for months
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true,
          value_parser = clap::value_parser!(u32).range(0..=99_999))]
    pub(in super::super) month: u32,
    /// The same for years
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true,
          value_parser = clap::value_parser!(u32).range(0..=99_999))]
    pub(in super::super) year: u32,
    /// Whose days these are: Europe/Berlin, UTC+01:00 [default: UTC]
    #[arg(long, value_name = "ZONE", value_parser = Zone::parse)]
    pub(in super::super) timezone: Option<Zone>,
}
