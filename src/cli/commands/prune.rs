//! `prune`: removes what no backup needs, or says what it would remove and who is there.

use super::super::exit::Code;
use super::super::output::{self, Align};
use super::super::{Context, args};
use super::{exact_size, fields};
use crate::bytes::hex;
use crate::clock::{Clock, Seconds, System, rfc3339};
use crate::lease::Seen;
use crate::prune::{self, Environment, Mode, Report, Settings, Wait, Waiting};
use crate::vault::{Address, Vault};
use serde_json::{Value, json};
use std::time::Duration;

/// Prunes, and says what was done.
pub(in super::super) fn run(context: &Context, args: &args::Prune) -> anyhow::Result<Code> {
    if args.who {
        return who(context, &super::open(&args.vault)?);
    }
    let vault = super::open_persistently(&args.vault)?;
    let (cancel, _watch) = super::cancelled_by_signals()?;
    let monitor = context.monitor();
    let environment = Environment {
        monitor: &*monitor,
        clock: &System,
        cancel: &cancel,
    };
    let settings = Settings {
        grace: seconds(args.grace),
        keep_deleted: seconds(args.keep_deleted),
        repack_below: args.repack_below,
    };
    let mode = if args.dry_run { Mode::DryRun } else { Mode::Run };
    let ended = prune::run(&vault, settings, mode, environment);
    drop(monitor);
    let report = ended?;
    output::answer(context.form, || text(&report, mode), || json(&report, mode))?;
    Ok(Code::Done)
}

fn seconds(seconds: Seconds) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
}

fn text(report: &Report, mode: Mode) -> String {
    let (removed, marked) = match mode {
        Mode::Run => ("removed", "marked"),
        Mode::DryRun => ("would remove", "would mark"),
    };
    let amount = |amount: prune::Amount| format!("{} packs, {}", amount.objects, exact_size(amount.bytes));
    let mut lines = vec![
        ("backups that stay", report.kept.to_string()),
        (removed, amount(report.packs)),
        (marked, amount(report.marked)),
    ];
    if report.repacked.objects > 0 {
        let verb = if mode == Mode::Run { "repacked" } else { "would repack" };
        let text = format!(
            "{}, of which {} are needed",
            amount(report.repacked),
            exact_size(report.repacked_needed)
        );
        lines.push((verb, text));
    }
    if report.needed_again > 0 {
        lines.push(("needed again", format!("{} packs", report.needed_again)));
    }
    if report.indexes > 0 {
        lines.push(("indexes", format!("{} written anew", report.indexes)));
    }
    if report.litter > 0 {
        lines.push(("litter", format!("{} traces of killed programs", report.litter)));
    }
    let mut out = fields(&lines);
    let mut backups = |verb: &str, addresses: &[Address]| {
        for address in addresses {
            out.push_str(&format!("{verb} {address}\n"));
        }
    };
    backups(removed, &report.purged);
    backups(marked, &report.expired);
    for waiting in &report.waiting {
        out.push_str(&format!(
            "{} packs and {} deleted backups, marked {}, wait {}\n",
            waiting.packs,
            waiting.purge.len(),
            rfc3339(waiting.at),
            why(waiting)
        ));
    }
    out
}

fn why(waiting: &Waiting) -> String {
    match &waiting.wait {
        Wait::Grace { until } => format!("until {}", rfc3339(*until)),
        Wait::Writer(lease) => match &lease.record {
            None => "for a lease that cannot be read".to_owned(),
            Some(record) => format!(
                "for the end of a {} on {}, process {}, since {}",
                record.kind.word(),
                output::printable(&record.process.host),
                record.process.pid,
                rfc3339(record.started)
            ),
        },
    }
}

fn json(report: &Report, mode: Mode) -> Value {
    let texts = |addresses: &[Address]| addresses.iter().map(ToString::to_string).collect::<Vec<_>>();
    let amount = |amount: prune::Amount| json!({"packs": amount.objects, "bytes": amount.bytes});
    let waiting = |waiting: &Waiting| {
        let until = match &waiting.wait {
            Wait::Grace { until } => Some(rfc3339(*until)),
            Wait::Writer(_) => None,
        };
        json!({
            "mark": hex(&waiting.mark),
            "marked": rfc3339(waiting.at),
            "packs": waiting.packs,
            "backups": texts(&waiting.purge),
            "until": until,
            "for": until.is_none().then(|| why(waiting)),
        })
    };
    json!({
        "dry_run": mode == Mode::DryRun,
        "kept": report.kept,
        "removed": amount(report.packs),
        "removed_backups": texts(&report.purged),
        "needed_again": report.needed_again,
        "indexes": report.indexes,
        "marked": amount(report.marked),
        "marked_backups": texts(&report.expired),
        "waiting": report.waiting.iter().map(waiting).collect::<Vec<_>>(),
        "litter": report.litter,
        "repacked": amount(report.repacked),
        "repacked_needed_bytes": report.repacked_needed,
    })
}

/// Says who has a lease on the vault.
fn who(context: &Context, vault: &Vault) -> anyhow::Result<Code> {
    let found = prune::who(vault, System.now())?;
    let row = |(seen, life): &(Seen, prune::Life)| match &seen.record {
        Some(record) => vec![
            record.kind.word().to_owned(),
            output::printable(&record.process.host),
            record.process.pid.to_string(),
            rfc3339(record.started),
            rfc3339(record.renewed),
            life.word().to_owned(),
        ],
        None => ["unreadable", "", "", "", "", life.word()].map(str::to_owned).to_vec(),
    };
    let text = || {
        if found.is_empty() {
            return "nobody writes, copies, prunes or mounts this vault\n".to_owned();
        }
        let columns = ["WHAT", "HOST", "PROCESS", "SINCE", "RENEWED", "STATE"].map(|title| (title, Align::Left));
        output::table(&columns, &found.iter().map(row).collect::<Vec<_>>())
    };
    let json = || {
        let lease = |(seen, life): &(Seen, prune::Life)| {
            let record = seen.record.as_ref();
            json!({
                "id": hex(&seen.name.id),
                "kind": record.map(|record| record.kind.word()),
                "host": record.map(|record| &record.process.host),
                "pid": record.map(|record| record.process.pid),
                "started": record.map(|record| rfc3339(record.started)),
                "renewed": record.map(|record| rfc3339(record.renewed)),
                "state": life.word(),
            })
        };
        json!({ "leases": found.iter().map(lease).collect::<Vec<_>>() })
    };
    output::answer(context.form, text, json)?;
    Ok(Code::Done)
}
