//! `verify`: is everything in the vault as it was written, and what is lost if not.

use super::super::exit::Code;
use super::super::names::quoted;
use super::super::{Context, args, output, request};
use super::{exact_size, fields, jobs_for};
use crate::bytes::{hex, to_u64};
use crate::clock::System;
use crate::vault::access::CacheDirectory;
use crate::vault::{Address, Vault};
use crate::verify::{self, Depth, Environment, Fate, HurtBackup, HurtDisk, HurtFile, Report, Request, Slice};
use serde_json::{Value, json};

/// By whom damage is put into quarantine.
const BY: &str = concat!("vaultfs ", env!("CARGO_PKG_VERSION"), " verify");
/// Lost ranges of a disk, and files of a backup, that are written out for people; JSON has all.
const SHOWN: usize = 20;

/// Verifies what the words name and tells what was found.
pub(in super::super) fn run(context: &Context, args: &args::Verify) -> anyhow::Result<Code> {
    let specs: Vec<_> = args
        .addresses
        .iter()
        .map(|text| request::address(text))
        .collect::<Result<_, _>>()?;
    let vault = super::open_persistently(&args.vault)?;
    let mut addresses: Vec<Address> = specs.iter().map(|spec| vault.resolve(spec)).collect::<Result<_, _>>()?;
    addresses.sort_unstable();
    addresses.dedup();
    for address in &addresses {
        // One that is not there is a slip, and no damage.
        if !vault.points(&address.resource)?.contains(&address.point) {
            let address = address.to_string();
            return Err(crate::vault::Error::NoBackup { address }.into());
        }
    }
    let request = Request {
        state: if addresses.is_empty() { state_directory() } else { None },
        backups: Some(addresses).filter(|addresses| !addresses.is_empty()),
        depth: if args.data { Depth::Data } else { Depth::Stored },
        slice: args.slice.unwrap_or(Slice::WHOLE),
        jobs: args.jobs.map_or_else(|| jobs_for(&vault), usize::from),
        rate: args.limit_rate,
        by: vault.check_writable().is_ok().then(|| BY.to_owned()),
    };
    let (cancel, _watch) = super::cancelled_by_signals()?;
    let monitor = context.monitor();
    let environment = Environment {
        monitor: &*monitor,
        clock: &System,
        cancel: &cancel,
    };
    let report = verify::run(&vault, &request, environment)?;
    drop(monitor);
    output::answer(context.form, || text(&report), || to_json(&report, &request, &vault))?;
    Ok(code_of(&report))
}

/// Where how far a run came is kept: beside what is cached of vaults.
fn state_directory() -> Option<std::path::PathBuf> {
    Some(CacheDirectory::Usual.of_user()?.join("verify"))
}

/// Damage counts for more than what could not be looked at.
fn code_of(report: &Report) -> Code {
    if report.is_damaged() {
        Code::Damaged
    } else if report.is_complete() {
        Code::Done
    } else {
        Code::Unreachable
    }
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    for finding in &report.findings {
        let (fate, invariant) = (finding.fate.word(), finding.invariant.word());
        let line = format!("{fate}: {}: {} ({invariant})", finding.object, finding.what);
        text.push_str(&output::printable(&line));
        text.push('\n');
    }
    for backup in &report.hurt {
        text.push_str(&backup_text(backup));
    }
    for trouble in &report.unreachable {
        let line = format!("unreachable: {}: {}", trouble.object, trouble.what);
        text.push_str(&output::printable(&line));
        text.push('\n');
    }
    let some = |count: u64| if count > 0 { count.to_string() } else { String::new() };
    let count = |fate| to_u64(report.findings.iter().filter(|finding| finding.fate == fate).count());
    let unreachable = to_u64(report.unreachable.len()).saturating_add(report.more_unreachable);
    let slice = if report.slice.is_whole() {
        String::new()
    } else {
        report.slice.to_string()
    };
    text + &fields(&[
        ("slice", slice),
        ("objects", report.objects.to_string()),
        ("checked before", some(report.resumed)),
        ("stored", exact_size(report.bytes)),
        ("chunks decoded", some(report.chunks)),
        ("backups", report.backups.to_string()),
        ("references", report.references.to_string()),
        ("lost", some(count(Fate::Lost))),
        ("harmless damage", some(count(Fate::Harmless))),
        ("healed", some(count(Fate::Healed))),
        ("more findings", some(report.more_findings)),
        ("damaged backups", some(to_u64(report.hurt.len()))),
        ("quarantined now", some(report.quarantined)),
        ("unreachable", some(unreachable)),
        ("packs in no index", some(report.unlisted_packs)),
        ("foreign objects", some(to_u64(report.foreign.len()))),
        ("verdict", verdict(report).to_owned()),
    ])
}

fn verdict(report: &Report) -> &'static str {
    match code_of(report) {
        Code::Damaged if report.hurt.is_empty() => "damaged, but no backup has lost anything",
        Code::Damaged => "damaged: the next backup of the same data heals it, or see vaultfs repair",
        Code::Unreachable => "nothing damaged, but not everything could be looked at; try again",
        _ => "good",
    }
}

fn backup_text(backup: &HurtBackup) -> String {
    let mut text = format!("damaged backup {}\n", backup.address);
    for disk in &backup.disks {
        let bytes = disk.ranges.iter().fold(0u64, |sum, range| {
            sum.saturating_add(range.end.saturating_sub(range.start))
        });
        text.push_str(&format!("  disk {}: {} lost, in\n", disk.name, exact_size(bytes)));
        for range in disk.ranges.iter().take(SHOWN) {
            text.push_str(&format!("    bytes {} to {}\n", range.start, range.end));
        }
        text.push_str(&rest(disk.ranges.len(), "ranges"));
    }
    for file in backup.files.iter().take(SHOWN) {
        let line = format!("  {}/{}: {}", backup.address, quoted(&file.path), file.what);
        text.push_str(&output::printable(&line));
        text.push('\n');
    }
    text.push_str(&rest(backup.files.len(), "files"));
    for note in backup.notes.iter().take(SHOWN) {
        text.push_str(&output::printable(&format!("  {note}")));
        text.push('\n');
    }
    text
}

fn rest(all: usize, what: &str) -> String {
    match all.checked_sub(SHOWN) {
        Some(more) if more > 0 => format!("    and {more} more {what}; --json tells all\n"),
        _ => String::new(),
    }
}

/// A damaged backup as JSON.
pub(super) fn hurt_json(backup: &HurtBackup) -> Value {
    let disk = |disk: &HurtDisk| {
        let ranges: Vec<_> = disk
            .ranges
            .iter()
            .map(|range| json!([range.start, range.end]))
            .collect();
        json!({ "name": disk.name, "lost": ranges })
    };
    let file = |file: &HurtFile| {
        let mut object = serde_json::Map::new();
        output::bytes(&mut object, "path", &file.path);
        object.insert("what".to_owned(), file.what.clone().into());
        Value::Object(object)
    };
    json!({
        "address": backup.address.to_string(),
        "disks": backup.disks.iter().map(disk).collect::<Vec<_>>(),
        "files": backup.files.iter().map(file).collect::<Vec<_>>(),
        "notes": backup.notes,
    })
}

fn to_json(report: &Report, request: &Request, vault: &Vault) -> Value {
    let findings: Vec<_> = report
        .findings
        .iter()
        .map(|finding| {
            json!({
                "state": finding.fate.word(),
                "invariant": finding.invariant.word(),
                "object": finding.object,
                "what": finding.what,
            })
        })
        .collect();
    let unreachable: Vec<_> = report
        .unreachable
        .iter()
        .map(|trouble| json!({ "object": trouble.object, "what": trouble.what }))
        .collect();
    json!({
        "vault": { "id": hex(&vault.config().id), "name": vault.config().name },
        "data": request.depth == Depth::Data,
        "slice": report.slice.to_string(),
        "damaged": report.is_damaged(),
        "complete": report.is_complete(),
        "objects": report.objects,
        "objects_checked_before": report.resumed,
        "stored_bytes": report.bytes,
        "chunks_decoded": report.chunks,
        "chunk_bytes": report.plain_bytes,
        "backups_walked": report.backups,
        "references": report.references,
        "damage": findings,
        "damage_not_listed": report.more_findings,
        "backups": report.hurt.iter().map(hurt_json).collect::<Vec<_>>(),
        "unreachable": unreachable,
        "unreachable_not_listed": report.more_unreachable,
        "quarantined": report.quarantined,
        "packs_in_no_index": report.unlisted_packs,
        "foreign": report.foreign,
    })
}
