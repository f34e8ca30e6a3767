//! One file for each command; each takes its raw arguments, resolves them, does the work and answers.

pub(super) mod backup;
pub(super) mod bench;
pub(super) mod cat;
mod copied;
pub(super) mod copy;
pub(super) mod cp;
pub(super) mod delete;
mod each;
pub(super) mod house;
pub(super) mod init;
pub(super) mod list;
pub(super) mod ls;
pub(super) mod mount;
pub(super) mod pin;
pub(super) mod prune;
pub(super) mod repair;
pub(super) mod restore;
pub(super) mod retain;
pub(super) mod show;
mod space;
pub(super) mod umount;
pub(super) mod verify;

use super::exit::{self, Code};
use super::{output, request};
use crate::bytes::size_text;
use crate::chunk::Reader;
use crate::clock::{Clock, System};
use crate::image::handle::ReadAhead;
use crate::mount::signals;
use crate::store::s3;
use crate::tree::{Content, LinkTargets, Owner, Owners, Settings, Tree};
use crate::vault::Vault;
use crate::vault::access::{self, Access};
use crate::vault::tags::Tags;
use anyhow::Context as _;
use std::ffi::OsStr;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Memory for decoded chunks: enough to keep all cores ahead of the one who reads.
const CACHE_BYTES: u64 = 64 << 20;

/// Threads where a network is between, at least.
const NETWORK_JOBS: usize = 8;

/// Opens the vault that the command line names.
fn open(word: &OsStr) -> anyhow::Result<Vault> {
    Ok(access::open(&request::location(word)?, &Access::default())?)
}

/// The same for a command that runs by itself, at night: it outlasts a store that is away for a while.
fn open_persistently(word: &OsStr) -> anyhow::Result<Vault> {
    let store = request::location(word)?.open(|| Ok(s3::Settings::from_environment()?.persistent()))?;
    Ok(Vault::open(store)?)
}

/// The tree of a vault as a mount would show it, for one command.
fn tree(word: &OsStr) -> anyhow::Result<Tree> {
    let reader = Reader::new(open(word)?, CACHE_BYTES);
    let read_ahead = ReadAhead::of(&reader).context("starting threads failed")?;
    let content = Content {
        reader,
        read_ahead: Arc::new(read_ahead),
    };
    let settings = Settings {
        owner: Owner {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
        },
        owners: Owners::Image,
        link_targets: LinkTargets::AsStored,
        root_attributes: Vec::new(),
        mounted_at: System.now(),
    };
    Ok(Tree::open(content, settings)?)
}

/// Threads for work on whole objects: more where a network is between, because while one waits for it, others work.
fn jobs_for(vault: &Vault) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    if vault.store().is_remote() {
        cores.saturating_mul(2).max(NETWORK_JOBS)
    } else {
        cores
    }
}

/// A flag that is set when the user or the system asks the command to end, as long as the watch lives.
fn cancelled_by_signals() -> anyhow::Result<(Arc<AtomicBool>, signals::Watch)> {
    let cancel = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&cancel);
    let watch = signals::catch().and_then(|caught| caught.watch(move || stop.store(true, Ordering::Relaxed)));
    Ok((cancel, watch.context("catching signals failed")?))
}

/// Tells of one of several things that failed, and gives the code for it.
fn complain(error: &anyhow::Error) -> Code {
    output::say(&format!("error: {}", output::printable(&format!("{error:#}"))));
    exit::code_of(error)
}

/// Tags in one word: `env=prod,owner=ops`, sorted by key.
fn tags_text(tags: &Tags) -> String {
    let pairs: Vec<String> = tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(",")
}

/// Renders fields one to a line, values in one column; empty values are left out.
fn fields(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let shown = pairs.iter().filter(|(_, value)| !value.is_empty());
    shown.fold(String::new(), |text, (name, value)| {
        text + &format!("{name:<width$}  {}\n", output::printable(value))
    })
}

/// A size for people with the exact number behind it.
fn exact_size(bytes: u64) -> String {
    format!("{} ({bytes} bytes)", size_text(bytes))
}
