//! `retain`: delete the backups of schedules that no rule keeps, and say of each why it stays.

use super::super::exit::{self, Code};
use super::super::output::{self, Align};
use super::super::request::{Filter, Usage};
use super::super::{Context, args};
use super::{complain, each};
use crate::clock::{Clock, Seconds, System, Zone};
use crate::retain::{self, Candidate, Maker, Reason, Rules};
use crate::vault::tags::SCHEDULE;
use crate::vault::{self, Address, Change, Protections, Tombstone, Vault};
use serde_json::json;

/// Applies the rules to every resource that is meant.
pub(in super::super) fn run(context: &Context, args: &args::Retain) -> anyhow::Result<Code> {
    let rules = rules(args)?;
    let filter = Filter::parse(args.prefix.as_deref().unwrap_or_default())?;
    if filter.names_points() {
        return Err(
            Usage("the rules are about all backups of a resource; give no more than its address".to_owned()).into(),
        );
    }
    let vault = super::open_persistently(&args.vault)?;
    vault.check_writable()?;
    let now = System.now();
    let (mut lines, mut failed) = planned(&vault, &rules, &filter, now)?;
    if !args.dry_run {
        for line in lines.iter_mut().filter(|line| line.reasons.is_empty()) {
            if let Err(error) = line.delete(&vault) {
                failed.push(complain(&error));
            }
        }
    }
    let text = || text(&lines, args.dry_run);
    output::answer(context.form, text, || json(&vault, &rules, &lines, args.dry_run))?;
    Ok(each::code(lines.len(), &failed))
}

fn rules(args: &args::Retain) -> Result<Rules, Usage> {
    let words = &args.rules;
    let rules = Rules {
        number: words.number,
        age: words.age,
        periods: [words.day, words.week, words.month, words.year],
        zone: words.timezone.clone().unwrap_or_else(Zone::utc),
        schedule: args.schedule.clone(),
    };
    if rules.is_empty() {
        return Err(Usage(
            "without a rule only the newest backups would stay; give --number, --age, --day, --week, --month or --year"
                .to_owned(),
        ));
    }
    Ok(rules)
}

/// One backup, and what becomes of it.
struct Line {
    address: Address,
    reasons: Vec<String>,
    result: &'static str,
}

impl Line {
    /// Deletes the backup; one that was pinned or locked since it was looked at stays, and says so.
    fn delete(&mut self, vault: &Vault) -> anyhow::Result<()> {
        let tombstone = Tombstone {
            at: System.now(),
            by: format!("{} (retain)", each::author()),
        };
        match vault.delete(&self.address, &tombstone) {
            Ok(Change::Done | Change::Already) => self.result = "deleted",
            Err(vault::Error::Held { why, .. }) => {
                self.reasons.push(why);
                self.result = "stays";
            }
            Err(error) => {
                self.result = "failed";
                return Err(anyhow::Error::new(error).context(format!("deleting {}", self.address)));
            }
        }
        Ok(())
    }
}

/// What becomes of every backup that is meant, by resource and time; and the codes for those that cannot be read.
fn planned(vault: &Vault, rules: &Rules, filter: &Filter, now: Seconds) -> anyhow::Result<(Vec<Line>, Vec<Code>)> {
    let catalogue = vault.catalogue()?;
    let protections = vault.protections()?;
    let (mut lines, mut failed) = (Vec::new(), Vec::new());
    for (resource, points) in catalogue {
        let addresses: Vec<Address> = points.into_iter().map(|point| resource.at(point)).collect();
        if !addresses.first().is_some_and(|address| filter.takes(address)) {
            continue;
        }
        let mut candidates = Vec::with_capacity(addresses.len());
        for address in &addresses {
            let maker = maker(vault, address).or_else(|error| {
                // One that nobody can read stays; a store that does not answer says nothing about any backup.
                let code = exit::code_of(&error);
                if code == Code::Unreachable {
                    return Err(error);
                }
                failed.push(complain(&error));
                Ok(Maker::Unknown)
            })?;
            candidates.push(candidate(address, maker, &protections, now));
        }
        let reasons = retain::plan(rules, now, &candidates);
        lines.extend(addresses.into_iter().zip(reasons).map(|(address, reasons)| Line {
            address,
            result: if reasons.is_empty() { "goes" } else { "stays" },
            reasons: reasons.iter().map(Reason::text).collect(),
        }));
    }
    if lines.is_empty() && !filter.takes_all() {
        let address = filter.to_string();
        return Err(vault::Error::NoBackup { address }.into());
    }
    Ok((lines, failed))
}

fn maker(vault: &Vault, address: &Address) -> anyhow::Result<Maker> {
    let manifest = vault.load(address);
    let manifest = manifest.map_err(|error| anyhow::Error::new(error).context(address.to_string()))?;
    Ok(manifest
        .tags
        .get(SCHEDULE)
        .map_or(Maker::Hand, |name| Maker::Schedule(name.clone())))
}

fn candidate(address: &Address, maker: Maker, protections: &Protections, now: Seconds) -> Candidate {
    Candidate {
        point: address.point,
        maker,
        pinned: protections.pin(address, now).is_some(),
        locked: protections.lock(address, now).is_some(),
    }
}

fn text(lines: &[Line], dry_run: bool) -> String {
    let columns = [
        ("ADDRESS", Align::Left),
        (if dry_run { "WOULD" } else { "RESULT" }, Align::Left),
        ("BY", Align::Left),
    ];
    let row = |line: &Line| {
        let word = match line.result {
            "stays" if dry_run => "stay",
            "goes" if dry_run => "go",
            other => other,
        };
        vec![
            line.address.to_string(),
            word.to_owned(),
            output::printable(&line.reasons.join(", ")),
        ]
    };
    output::table(&columns, &lines.iter().map(row).collect::<Vec<_>>())
}

fn json(vault: &Vault, rules: &Rules, lines: &[Line], dry_run: bool) -> serde_json::Value {
    let line =
        |line: &Line| json!({ "address": line.address.to_string(), "result": line.result, "reasons": line.reasons });
    let lines: Vec<_> = lines.iter().map(line).collect();
    json!({
        "vault": { "id": crate::bytes::hex(&vault.config().id), "name": vault.config().name },
        "dry_run": dry_run,
        "timezone": rules.zone.name(),
        "backups": lines,
    })
}
