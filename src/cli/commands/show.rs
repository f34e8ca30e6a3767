//! `show`: everything known about one backup.

use super::super::exit::Code;
use super::super::output::{self, Align};
use super::super::{Context, args, request};
use super::{exact_size, fields, tags_text};
use crate::bytes::size_text;
use crate::clock::{Point, rfc3339};
use crate::vault::{Disk, Manifest};

/// Shows the backup; as JSON it is the `backup.json` of the mount.
pub(in super::super) fn run(context: &Context, args: &args::Show) -> anyhow::Result<Code> {
    let spec = request::address(&args.address)?;
    let vault = super::open(&args.vault)?;
    let address = vault.resolve(&spec)?;
    let manifest = vault.load(&address)?;
    output::answer(
        context.form,
        || text(&address.to_string(), &manifest),
        || manifest.to_json(),
    )?;
    Ok(Code::Done)
}

fn text(address: &str, manifest: &Manifest) -> String {
    let imported = if manifest.imported { " (given with --at)" } else { "" };
    let parent = manifest
        .parent
        .and_then(Point::from_seconds)
        .map(|point| point.to_string());
    let head = fields(&[
        ("address", address.to_owned()),
        ("time", rfc3339(manifest.point) + imported),
        ("started", rfc3339(manifest.started)),
        ("finished", rfc3339(manifest.finished)),
        ("consistency", manifest.consistency.word().to_owned()),
        (
            "compared with",
            parent.unwrap_or_else(|| "nothing: it is the first".to_owned()),
        ),
        ("tags", tags_text(&manifest.tags)),
        ("made by", manifest.tool.clone()),
        ("logical", exact_size(manifest.total(|disk| disk.size))),
        ("data", exact_size(manifest.total(|disk| disk.statistics.data))),
        ("new", exact_size(manifest.total(|disk| disk.statistics.new))),
        ("stored", exact_size(manifest.total(|disk| disk.statistics.stored))),
    ]);
    head + "\n" + &disks(manifest) + &facts(manifest)
}

fn disks(manifest: &Manifest) -> String {
    let columns = [
        ("DISK", Align::Left),
        ("BOOT", Align::Left),
        ("LOGICAL", Align::Right),
        ("DATA", Align::Right),
        ("NEW", Align::Right),
        ("STORED", Align::Right),
        ("CHUNKS", Align::Right),
        ("IMAGE", Align::Left),
    ];
    let row = |disk: &Disk| {
        vec![
            disk.name.clone(),
            if disk.bootable { "yes" } else { "" }.to_owned(),
            size_text(disk.size),
            size_text(disk.statistics.data),
            size_text(disk.statistics.new),
            size_text(disk.statistics.stored),
            size_text(u64::from(disk.chunk_size)),
            manifest.image_path(disk),
        ]
    };
    output::table(&columns, &manifest.disks().iter().map(row).collect::<Vec<_>>())
}

/// The facts, laid out for reading; as they are if they are not JSON after all.
fn facts(manifest: &Manifest) -> String {
    let Some(facts) = &manifest.facts else {
        return String::new();
    };
    let laid_out = serde_json::from_str::<serde_json::Value>(facts).map(|value| format!("{value:#}"));
    let lines = laid_out.unwrap_or_else(|_| facts.clone());
    let lines: Vec<String> = lines.lines().map(output::printable).collect();
    format!("\nfacts\n{}\n", lines.join("\n"))
}
