//! `restore`: a disk of a backup to a file, a block device or a qcow2 image, the tree of a file system to a directory.

mod files;

use super::super::exit::Code;
use super::super::{Context, args, output, request};
use crate::bytes::size_text;
use crate::chunk::Reader;
use crate::image::disk::DiskImage;
use crate::restore::{self, Existing, Options, Report, Target};
use crate::source::Format;
use crate::vault::{Address, AddressSpec, Disk, Manifest, ResourceKind};
use serde_json::json;
use std::sync::Arc;

/// Memory for decoded chunks; every chunk is wanted once.
const CACHE_BYTES: u64 = 64 << 20;

/// Restores what the address names: both kinds of content are put back by this one command.
pub(in super::super) fn run(context: &Context, args: &args::Restore) -> anyhow::Result<Code> {
    let spec = request::address(&args.address)?;
    if spec.resource().kind == ResourceKind::Filesystem {
        refuse_for_files(args)?;
        return files::run(context, args, &spec);
    }
    refuse_for_disks(args)?;
    disk(context, args, &spec)
}

/// Refuses what only a disk has a meaning for.
fn refuse_for_files(args: &args::Restore) -> Result<(), request::Usage> {
    let given = [
        ("--disk", args.disk.name.is_some()),
        ("--format", args.disk.format.is_some()),
    ];
    match given.iter().find(|(_, given)| *given) {
        Some((option, _)) => Err(request::Usage(format!(
            "{} is a file system: files in a directory, no disk; leave out {option}",
            args.address
        ))),
        None => Ok(()),
    }
}

/// Refuses what only the tree of a file system has a meaning for.
fn refuse_for_disks(args: &args::Restore) -> Result<(), request::Usage> {
    let tree = &args.tree;
    let given = [
        ("--dry-run", tree.dry_run),
        ("--include", !tree.include.is_empty()),
        ("--delete", tree.delete),
        ("--checksum", tree.checksum),
        ("--owners", tree.owners.is_some()),
    ];
    match given.iter().find(|(_, given)| *given) {
        Some((option, _)) => Err(request::Usage(format!(
            "{option} is for file systems, and {} holds disks, which are restored whole; for files in them there is \
             vaultfs cp",
            args.address
        ))),
        None => Ok(()),
    }
}

/// Restores one disk and verifies what was written.
fn disk(context: &Context, args: &args::Restore, spec: &AddressSpec) -> anyhow::Result<Code> {
    let vault = super::open(&args.vault)?;
    let address = vault.resolve(spec)?;
    let manifest = vault.load(&address)?;
    let disk = choose(&manifest, args.disk.name.as_deref())?;
    let image = DiskImage::open(&Reader::new(vault, CACHE_BYTES), &address, disk);
    let target = Target {
        path: args.to.clone(),
        format: args.disk.format.unwrap_or(Format::Raw),
        existing: if args.force {
            Existing::Overwrite
        } else {
            Existing::Refuse
        },
    };
    let options = Options {
        chunk_size: u64::from(disk.chunk_size),
        workers: None,
    };
    let monitor = context.monitor();
    let report = restore::run(Arc::new(image), &target, &options, &*monitor)?;
    drop(monitor);
    output::answer(
        context.form,
        || text(&address, disk, &target, &report),
        || json(&address, disk, &target, &report),
    )?;
    Ok(Code::Done)
}

/// The disk that is meant: the named one, or the only one.
fn choose<'a>(manifest: &'a Manifest, name: Option<&str>) -> Result<&'a Disk, request::Usage> {
    let names = || {
        manifest
            .disks()
            .iter()
            .map(|disk| disk.name.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    };
    match (name, manifest.disks()) {
        (Some(name), _) => {
            let wrong = || request::Usage(format!("the backup has no disk {name}; it has {}", names()));
            manifest.disk(name).ok_or_else(wrong)
        }
        (None, [disk]) => Ok(disk),
        (None, _) => Err(request::Usage(format!(
            "the backup has several disks: add --disk with one of {}",
            names()
        ))),
    }
}

fn text(address: &Address, disk: &Disk, target: &Target, report: &Report) -> String {
    let to = target.path.display();
    let what = format!("restored {address} disk {} to {to}", disk.name);
    let [written, unchanged, holes] = [report.written, report.unchanged, report.holes].map(size_text);
    format!(
        "{what}\n{} verified: {written} written, {unchanged} unchanged, {holes} of holes\n",
        size_text(report.bytes)
    )
}

fn json(address: &Address, disk: &Disk, target: &Target, report: &Report) -> serde_json::Value {
    json!({
        "address": address.to_string(),
        "disk": disk.name,
        "to": target.path.to_string_lossy(),
        "format": target.format.to_string(),
        "bytes": report.bytes,
        "written_bytes": report.written,
        "unchanged_bytes": report.unchanged,
        "hole_bytes": report.holes,
        "verified": true,
    })
}
