//! `restore`: a disk of a backup to a file, a block device or a qcow2 image.

use super::super::exit::Code;
use super::super::{Context, args, output, request};
use crate::bytes::size_text;
use crate::chunk::Reader;
use crate::image::disk::DiskImage;
use crate::restore::{self, Existing, Options, Report, Target};
use crate::vault::{Address, Disk, Manifest};
use serde_json::json;
use std::sync::Arc;

/// Memory for decoded chunks; every chunk is wanted once.
const CACHE_BYTES: u64 = 64 << 20;

/// Restores one disk and verifies what was written.
pub(in super::super) fn run(context: &Context, args: &args::Restore) -> anyhow::Result<Code> {
    let spec = request::address(&args.address)?;
    let vault = super::open(&args.vault)?;
    let address = vault.resolve(&spec)?;
    let manifest = vault.load(&address)?;
    let disk = choose(&manifest, args.disk.as_deref())?;
    let image = DiskImage::open(&Reader::new(vault, CACHE_BYTES), &address, disk);
    let target = Target {
        path: args.to.clone(),
        format: args.format,
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
