//! `backup`: one backup of a server or a disk.

use super::super::exit::Code;
use super::super::output;
use super::super::request::{self, BackupRequest, Boot, DiskRequest};
use super::super::{Context, args};
use super::{exact_size, fields};
use crate::backup::{self, DiskInput, Environment, Hooks};
use crate::vault::{Manifest, Vault};
use crate::{clock, source};
use std::num::NonZero;

/// zstd's own default, and the best trade on disks (docs/performance.md).
const DEFAULT_LEVEL: i32 = 3;

/// Makes the backup and says what it took.
pub(in super::super) fn run(context: &Context, args: &args::Backup) -> anyhow::Result<Code> {
    let checked = request::backup(&args.resource)?;
    let vault = super::open(&args.vault)?;
    // The --after command must run on Ctrl-C, too: it may be what thaws the source.
    let (cancel, _watch) = super::cancelled_by_signals()?;
    let monitor = context.monitor();
    let environment = Environment {
        monitor: &*monitor,
        clock: &clock::System,
        cancel: &cancel,
    };
    let ended = backup::run(&vault, &with_hooks(checked, &args.resource), environment);
    drop(monitor);
    match ended {
        Ok(report) => {
            answer(context, &report.manifest)?;
            Ok(Code::Done)
        }
        Err(error) => after_commit(context, &vault, error),
    }
}

/// A backup that is committed is shown, even if the command after it failed.
fn after_commit(context: &Context, vault: &Vault, error: backup::Error) -> anyhow::Result<Code> {
    if let backup::Error::AfterCommit { address, .. } = &error {
        answer(context, &vault.load(address)?)?;
    }
    Err(error.into())
}

fn with_hooks(checked: BackupRequest, resource: &args::Resource) -> backup::Request {
    let options = match resource {
        args::Resource::Server(server) => &server.options,
        args::Resource::Disk(disk) => &disk.options,
    };
    // Two threads for each core: while one waits for the source, another one compresses.
    let threads = std::thread::available_parallelism()
        .map_or(1, NonZero::get)
        .saturating_mul(2);
    backup::Request {
        resource: checked.resource,
        disks: checked.disks.into_iter().map(input).collect(),
        tags: checked.tags,
        facts: checked.facts,
        consistency: checked.consistency,
        at: checked.at,
        level: checked.level.unwrap_or(DEFAULT_LEVEL),
        jobs: checked.jobs.map_or(threads, usize::from),
        hooks: Hooks {
            before: options.before.clone(),
            after: options.after.clone(),
        },
    }
}

/// The source is opened by the backup, after `--before`, which may have made it.
fn input(disk: DiskRequest) -> DiskInput {
    DiskInput {
        name: disk.name,
        bootable: disk.boot == Boot::Yes,
        open: Box::new(move || source::open(&disk.source)),
    }
}

fn answer(context: &Context, manifest: &Manifest) -> anyhow::Result<()> {
    output::answer(context.form, || text(manifest), || manifest.to_json())
}

fn text(manifest: &Manifest) -> String {
    let json = manifest.to_json();
    let address = json
        .get("address")
        .and_then(serde_json::Value::as_str)
        .unwrap_or_default();
    fields(&[
        ("backup", address.to_owned()),
        ("logical", exact_size(manifest.total(|disk| disk.size))),
        ("data", exact_size(manifest.total(|disk| disk.statistics.data))),
        ("new", exact_size(manifest.total(|disk| disk.statistics.new))),
        ("stored", exact_size(manifest.total(|disk| disk.statistics.stored))),
    ])
}
