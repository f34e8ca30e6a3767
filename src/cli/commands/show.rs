//! `show`: everything known about one backup.

use super::super::exit::Code;
use super::super::output::{self, Align, Form};
use super::super::{Context, args, request};
use super::{complain, exact_size, fields, space, tags_text};
use crate::bytes::{size_text, to_u64};
use crate::chunk::Reader;
use crate::clock::{Clock, Point, System, rfc3339};
use crate::reach::Needed;
use crate::tree::Contents;
use crate::vault::manifest::Tree;
use crate::vault::{Disk, Manifest};
use serde_json::Value;

/// Memory for decoded chunks: tables of partitions and superblocks are few.
const CACHE_BYTES: u64 = 16 << 20;

/// Shows the backup; as JSON it is the `backup.json` of the mount.
pub(in super::super) fn run(context: &Context, args: &args::Show) -> anyhow::Result<Code> {
    let spec = request::address(&args.address)?;
    let vault = super::open(&args.vault)?;
    let address = vault.resolve(&spec)?;
    let manifest = vault.load(&address)?;
    let space = if args.space {
        Some(space::measure(&vault, &[(address.clone(), manifest.clone())])?)
    } else {
        None
    };
    let needed = space.as_ref().and_then(|space| space.needed.first());
    let reader = Reader::new(vault, CACHE_BYTES);
    let contents = Contents::load(&reader, &address, &manifest)?;
    let mut codes = Vec::new();
    match context.form {
        Form::Json => output::write(with_space(&contents.json, needed)?.as_bytes())?,
        Form::Text => {
            let json = serde_json::from_str(&contents.json).unwrap_or_default();
            // Whatever is wrong with a pin, the backup can be shown.
            let held = match reader.vault().protections_of_resource(&address.resource) {
                Ok(protections) => protections.why(&address, System.now()).unwrap_or_default(),
                Err(error) => {
                    codes.push(complain(&anyhow::Error::new(error)));
                    "unknown".to_owned()
                }
            };
            output::write(text(&address.to_string(), &manifest, &json, &held, needed).as_bytes())?;
        }
        Form::Silent => {}
    }
    let damaged = space.iter().flat_map(|space| &space.damaged);
    codes.extend(damaged.map(|(_, error)| complain(error)));
    Ok(codes.first().copied().unwrap_or(Code::Done))
}

/// The description with what the backup takes of the vault, if that is known.
fn with_space(json: &str, needed: Option<&Needed>) -> anyhow::Result<String> {
    let Some(needed) = needed else {
        return Ok(json.to_owned());
    };
    let mut value: Value = serde_json::from_str(json)?;
    if let Some(members) = value.as_object_mut() {
        members.insert("unique_bytes".to_owned(), needed.unique.into());
        members.insert("shared_bytes".to_owned(), needed.shared().into());
    }
    Ok(format!("{value:#}\n"))
}

fn text(address: &str, manifest: &Manifest, json: &Value, held: &str, needed: Option<&Needed>) -> String {
    let imported = if manifest.imported { " (given with --at)" } else { "" };
    let parent = manifest
        .parent
        .and_then(Point::from_seconds)
        .map(|point| point.to_string());
    let size = |bytes: Option<u64>| bytes.map(exact_size).unwrap_or_default();
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
        ("logical", exact_size(manifest.sizes().logical)),
        ("data", exact_size(manifest.sizes().data)),
        ("new", exact_size(manifest.sizes().new)),
        ("stored", exact_size(manifest.sizes().stored)),
        ("unique", size(needed.map(|needed| needed.unique))),
        ("shared", size(needed.map(Needed::shared))),
        ("held", held.to_owned()),
    ]);
    let content = match manifest.tree() {
        Some(tree) => files(tree),
        None => disks(manifest) + &volumes(json) + &root(json) + &problems(json),
    };
    head + "\n" + &content + &facts(manifest)
}

/// Files that could not be stored of which the text tells.
const UNREAD_TOLD: usize = 20;

/// What a file system's backup holds, and what it does not.
fn files(tree: &Tree) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let numbers = tree.statistics;
    let mut told = fields(&[
        ("source", text(&tree.source)),
        ("files", numbers.files.to_string()),
        ("directories", numbers.directories.to_string()),
        ("links, devices, pipes and sockets", numbers.others.to_string()),
        (
            "not stored as they are",
            if tree.is_complete() {
                String::new()
            } else {
                tree.unread.to_string()
            },
        ),
    ]);
    let problems = tree.problems.iter().take(UNREAD_TOLD);
    let line = |path: &[u8], why: &str| output::printable(&format!("{}: {why}", text(path)));
    let lines: Vec<String> = problems
        .map(|problem| line(&problem.path, &problem.why) + "\n")
        .collect();
    if !lines.is_empty() {
        told.push('\n');
        told.push_str(&lines.concat());
    }
    let more = tree.unread.saturating_sub(to_u64(lines.len()));
    if more > 0 {
        let listed = tree.problems.len();
        let which = if to_u64(listed) < tree.unread {
            format!("the first {listed}")
        } else {
            "them".into()
        };
        told.push_str(&format!("and {more} more; --json lists {which}\n"));
    }
    told
}

/// Text from the disks of a backup, safe to show; nothing for null.
fn word(value: &Value, key: &str) -> String {
    let text = value.get(key).and_then(Value::as_str).unwrap_or_default();
    output::printable(text)
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// What the disks hold: each volume with the path of its files, or why they cannot be shown.
fn volumes(json: &Value) -> String {
    let columns = [
        ("VOLUME", Align::Left),
        ("SIZE", Align::Right),
        ("HOLDS", Align::Left),
        ("LABEL", Align::Left),
        ("UUID", Align::Left),
        ("FILES", Align::Left),
    ];
    let row = |volume: &Value| {
        let path = word(volume, "path");
        let problem = word(volume, "problem");
        let size = volume.get("logical_bytes").and_then(Value::as_u64);
        // The first of the dashes is enough to tell volumes apart; --json has the whole.
        let uuid = word(volume, "uuid");
        let short = uuid.split('-').next().unwrap_or_default();
        vec![
            word(volume, "name"),
            size.map(size_text).unwrap_or_default(),
            word(volume, "holds"),
            word(volume, "label"),
            if uuid.len() > 9 { short.to_owned() } else { uuid },
            if path.is_empty() { problem } else { path },
        ]
    };
    let rows: Vec<Vec<String>> = list(json, "volumes").iter().map(row).collect();
    if rows.is_empty() {
        return String::new();
    }
    format!("\n{}", output::table(&columns, &rows))
}

/// The server's own tree: what is mounted where, and what fstab asks for in vain.
fn root(json: &Value) -> String {
    let Some(root) = json.get("root").filter(|root| !root.is_null()) else {
        return String::new();
    };
    let columns = [("ROOT", Align::Left), ("VOLUME", Align::Left), ("MISSING", Align::Left)];
    let mounted = list(root, "mounts").iter();
    let mounted = mounted.map(|mount| vec![word(mount, "path"), word(mount, "volume"), String::new()]);
    let missing = list(root, "missing").iter();
    let missing = missing.map(|line| vec![word(line, "path"), word(line, "spec"), word(line, "why")]);
    format!(
        "\n{}",
        output::table(&columns, &mounted.chain(missing).collect::<Vec<_>>())
    )
}

fn problems(json: &Value) -> String {
    let problems = list(json, "problems").iter().filter_map(Value::as_str);
    let lines: Vec<String> = problems
        .map(|text| format!("problem: {}\n", output::printable(text)))
        .collect();
    if lines.is_empty() {
        return String::new();
    }
    format!("\n{}", lines.concat())
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
