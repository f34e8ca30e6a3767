//! `backup`: one backup of a server, a disk or a file system.

use super::super::exit::Code;
use super::super::output;
use super::super::request::{self, BackupRequest, Boot, DiskRequest, Source};
use super::super::{Context, args};
use super::{exact_size, fields};
use crate::backup::{self, DiskInput, Environment, Hooks, Input};
use crate::vault::{Manifest, Vault};
use crate::{clock, source};
use std::num::NonZero;

/// zstd's own default, and the best trade on disks (docs/performance.md).
const DEFAULT_LEVEL: i32 = 3;

/// Makes the backup and says what it took.
pub(in super::super) fn run(context: &Context, args: &args::Backup) -> anyhow::Result<Code> {
    let checked = request::backup(&args.resource)?;
    let vault = super::open_persistently(&args.vault)?;
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
            answer(context, &report.manifest, report.excluded)?;
            Ok(code_for(&report.manifest))
        }
        Err(error) => after_commit(context, &vault, error),
    }
}

/// A backup that lacks files is not what was asked for, and still worth having.
fn code_for(manifest: &Manifest) -> Code {
    match manifest.tree() {
        Some(tree) if !tree.is_complete() => Code::Partial,
        _ => Code::Done,
    }
}

/// A backup that is committed is shown, even if the command after it failed.
fn after_commit(context: &Context, vault: &Vault, error: backup::Error) -> anyhow::Result<Code> {
    if let backup::Error::AfterCommit { address, .. } = &error {
        answer(context, &vault.load(address)?, 0)?;
    }
    Err(error.into())
}

fn with_hooks(checked: BackupRequest, resource: &args::Resource) -> backup::Request {
    let options = match resource {
        args::Resource::Server(server) => &server.options,
        args::Resource::Disk(disk) => &disk.options,
        args::Resource::Filesystem(tree) => &tree.options,
    };
    // Two threads for each core: while one waits for the source, another one compresses.
    let threads = std::thread::available_parallelism()
        .map_or(1, NonZero::get)
        .saturating_mul(2);
    backup::Request {
        resource: checked.resource,
        input: match checked.source {
            Source::Disks(disks) => Input::Disks(disks.into_iter().map(input).collect()),
            Source::Tree(tree) => Input::Tree(tree),
        },
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

fn answer(context: &Context, manifest: &Manifest, excluded: u64) -> anyhow::Result<()> {
    output::answer(
        context.form,
        || text(manifest, excluded),
        || {
            let mut json = manifest.to_json();
            if let Some(tree) = json.get_mut("tree").and_then(serde_json::Value::as_object_mut) {
                tree.insert("excluded".to_owned(), excluded.into());
            }
            json
        },
    )
}

fn text(manifest: &Manifest, excluded: u64) -> String {
    let json = manifest.to_json();
    let address = json
        .get("address")
        .and_then(serde_json::Value::as_str)
        .unwrap_or_default();
    let sizes = manifest.sizes();
    let mut lines = vec![("backup", address.to_owned())];
    if let Some(tree) = manifest.tree() {
        let counts = &tree.statistics;
        lines.push(("files", counts.files.to_string()));
        lines.push(("directories", counts.directories.to_string()));
        lines.push(("others", counts.others.to_string()));
        lines.push(("excluded", excluded.to_string()));
        lines.push(("not stored", tree.unread.to_string()));
    }
    lines.push(("logical", exact_size(sizes.logical)));
    lines.push(("data", exact_size(sizes.data)));
    lines.push(("new", exact_size(sizes.new)));
    lines.push(("stored", exact_size(sizes.stored)));
    fields(&lines)
}
