//! `copy`: backups into another vault.

use super::super::exit::{self, Code};
use super::super::output;
use super::super::request;
use super::super::{Context, args};
use super::{cancelled_by_signals, exact_size, fields};
use crate::clock::System;
use crate::copy::{self, Amounts, Environment, Outcome, Plan, Work};
use crate::store::s3;
use crate::vault::{self, Address, Vault};
use serde_json::json;
use std::ffi::OsStr;
use std::num::NonZero;

/// How the variables begin that are only about the vault copied to.
const TARGET_PREFIX: &str = "TO_AWS_";

/// Threads where a network is between: while one waits for it, others work.
const NETWORK_JOBS: usize = 8;

/// Copies what the words name, says what became of each backup, and how much went over.
pub(in super::super) fn run(context: &Context, args: &args::Copy) -> anyhow::Result<Code> {
    let request = request::copy(args)?;
    let (from, to) = (super::open_persistently(&args.vault)?, open_target(request.to)?);
    let catalogue = from.catalogue()?;
    let chosen = request
        .choose(&catalogue)
        .map_err(|address| vault::Error::NoBackup { address })?;
    let jobs = args.jobs.map_or_else(|| jobs(&from, &to), usize::from);
    let plan = copy::plan(&from, &to, chosen, jobs)?;
    if args.dry_run {
        output::answer(context.form, || planned(&plan), || planned_json(&plan, &from, &to))?;
        return Ok(Code::Done);
    }
    let (cancel, _watch) = cancelled_by_signals()?;
    let monitor = context.monitor();
    let mut ended = Ended::default();
    let environment = Environment {
        monitor: &*monitor,
        clock: &System,
        cancel: &cancel,
        jobs,
    };
    let amounts = copy::run(&from, &to, &plan, environment, &mut |address, outcome| {
        let error = ended.add(address, outcome);
        if let Some(error) = error {
            monitor.fail(&error);
        }
    });
    drop(monitor);
    let rest = plan.steps().len().saturating_sub(ended.backups.len());
    output::answer(
        context.form,
        || ended.text(&amounts, rest),
        || ended.json(&amounts, rest, &from, &to),
    )?;
    Ok(ended.code(rest))
}

/// Opens the vault copied to: with settings of its own where `TO_AWS_...` variables give any, else with those of the other one.
///
/// Never with some of both, so that the keys for one server are not sent to another.
fn open_target(word: &OsStr) -> anyhow::Result<Vault> {
    let settings = || {
        let is_own = std::env::vars_os().any(|(name, _)| name.to_string_lossy().starts_with(TARGET_PREFIX));
        let lookup = |name: &str| {
            let own = format!("TO_{name}");
            let name = if is_own && own.starts_with(TARGET_PREFIX) {
                own.as_str()
            } else {
                name
            };
            std::env::var(name).ok()
        };
        Ok(s3::Settings::from_lookup(lookup)?.persistent())
    };
    Ok(Vault::open(request::location(word)?.open(settings)?)?)
}

fn jobs(from: &Vault, to: &Vault) -> usize {
    let threads = std::thread::available_parallelism()
        .map_or(1, NonZero::get)
        .saturating_mul(2);
    if from.store().is_remote() || to.store().is_remote() {
        threads.max(NETWORK_JOBS)
    } else {
        threads
    }
}

/// What became of the backups so far.
#[derive(Default)]
struct Ended {
    backups: Vec<serde_json::Value>,
    copied: usize,
    there: usize,
    deleted: usize,
    codes: Vec<Code>,
}

impl Ended {
    /// Takes note of one backup; returns what is wrong with it.
    fn add(&mut self, address: &Address, outcome: Outcome) -> Option<String> {
        let (result, error) = match outcome {
            Outcome::Copied => {
                self.copied = self.copied.saturating_add(1);
                ("copied", None)
            }
            Outcome::There => {
                self.there = self.there.saturating_add(1);
                ("there", None)
            }
            Outcome::Deleted => {
                self.deleted = self.deleted.saturating_add(1);
                ("deleted", None)
            }
            Outcome::Failed(error) => {
                let error = anyhow::Error::new(error);
                self.codes.push(exit::code_of(&error));
                ("failed", Some(format!("{error:#}")))
            }
        };
        self.backups
            .push(json!({ "address": address.to_string(), "result": result, "error": error }));
        error
    }

    /// What ended the run, damage before anything else; some backups that fail do not make the others fail.
    fn code(&self, rest: usize) -> Code {
        match self.codes.last() {
            None => Code::Done,
            Some(last) if rest > 0 => *last,
            Some(_) if self.codes.contains(&Code::Damaged) => Code::Damaged,
            Some(last) if self.codes.len() == 1 && self.backups.len() == 1 => *last,
            Some(_) => Code::Partial,
        }
    }

    fn text(&self, amounts: &Amounts, rest: usize) -> String {
        let some = |count: usize| if count > 0 { count.to_string() } else { String::new() };
        let chunks = |chunks: u64, bytes: u64| format!("{chunks} chunks, {}", exact_size(bytes));
        fields(&[
            ("copied", self.copied.to_string()),
            ("there already", self.there.to_string()),
            ("deleted there", some(self.deleted)),
            ("failed", some(self.codes.len())),
            ("not tried", some(rest)),
            ("transferred", chunks(amounts.copied_chunks, amounts.copied_bytes)),
            ("stored", exact_size(amounts.stored_bytes)),
            ("found there", chunks(amounts.found_chunks, amounts.found_bytes)),
        ])
    }

    fn json(&self, amounts: &Amounts, rest: usize, from: &Vault, to: &Vault) -> serde_json::Value {
        json!({
            "from": vault_json(from),
            "to": vault_json(to),
            "backups": self.backups,
            "copied": self.copied,
            "there": self.there,
            "deleted": self.deleted,
            "failed": self.codes.len(),
            "not_tried": rest,
            "copied_chunks": amounts.copied_chunks,
            "copied_bytes": amounts.copied_bytes,
            "stored_bytes": amounts.stored_bytes,
            "found_chunks": amounts.found_chunks,
            "found_bytes": amounts.found_bytes,
        })
    }
}

fn vault_json(vault: &Vault) -> serde_json::Value {
    json!({ "id": crate::bytes::hex(&vault.config().id), "name": vault.config().name })
}

fn word(work: Work) -> &'static str {
    match work {
        Work::Copy => "copy",
        Work::Compare => "compare",
        Work::Leave => "leave: deleted there",
    }
}

fn planned(plan: &Plan) -> String {
    use output::Align::{Left, Right};
    let row = |step: &copy::Step| {
        let size = crate::bytes::size_text(step.data_bytes);
        vec![step.address.to_string(), word(step.work).to_owned(), size]
    };
    let rows: Vec<Vec<String>> = plan.steps().iter().map(row).collect();
    output::table(&[("ADDRESS", Left), ("WORK", Left), ("DATA", Right)], &rows)
}

fn planned_json(plan: &Plan, from: &Vault, to: &Vault) -> serde_json::Value {
    let step = |step: &copy::Step| {
        let address = step.address.to_string();
        json!({ "address": address, "work": word(step.work), "data_bytes": step.data_bytes })
    };
    let steps: Vec<_> = plan.steps().iter().map(step).collect();
    json!({ "from": vault_json(from), "to": vault_json(to), "dry_run": true, "backups": steps })
}
