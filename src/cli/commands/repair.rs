//! `repair`: what is lost comes back from other copies, and indexes are made anew.

use super::super::exit::Code;
use super::super::{Context, args, output};
use super::verify::hurt_json;
use super::{fields, jobs_for};
use crate::bytes::{hex, to_u64};
use crate::clock::System;
use crate::repair::{Copy, Plan, Repair, Step, name};
use crate::vault::pack_key;
use crate::verify::{Environment, Lost};
use serde_json::{Value, json};

/// Steps that are written out for people; JSON has all.
const SHOWN: usize = 20;

/// Says what can be repaired, and does it if told to.
pub(in super::super) fn run(context: &Context, args: &args::Repair) -> anyhow::Result<Code> {
    let vault = super::open_persistently(&args.vault)?;
    let from = args.from.as_deref().map(super::open_persistently).transpose()?;
    if args.apply {
        vault.check_writable()?;
    }
    let (cancel, _watch) = super::cancelled_by_signals()?;
    let monitor = context.monitor();
    let environment = Environment {
        monitor: &*monitor,
        clock: &System,
        cancel: &cancel,
    };
    let jobs = args.jobs.map_or_else(|| jobs_for(&vault), usize::from);
    let repair = Repair::new(&vault, from.as_ref(), jobs, environment)?;
    let plan = repair.plan()?;
    if args.apply {
        repair.run(&plan)?;
    }
    drop(monitor);
    output::answer(context.form, || text(&plan, args.apply), || to_json(&plan, args.apply))?;
    Ok(if plan.hopeless.is_empty() {
        Code::Done
    } else {
        Code::Damaged
    })
}

fn place(lost: &Lost) -> String {
    pack_key(lost.kind, &lost.pack).map_or_else(|_| hex(&lost.pack), |key| key.to_string())
}

fn copy_text(step: &Step) -> String {
    let pack = |pack| pack_key(step.lost.kind, pack).map_or_else(|_| hex(pack), |key| key.to_string());
    match &step.copy {
        Copy::Here(other) => format!("is whole in {}", pack(other)),
        Copy::Same => "can be read, and is stored again".to_owned(),
        Copy::There(other) => format!("is whole in {} of the other vault", pack(other)),
    }
}

fn text(plan: &Plan, done: bool) -> String {
    let mut text = String::new();
    for step in plan.steps.iter().take(SHOWN) {
        let Lost { kind, id, .. } = &step.lost;
        let (what, pack, copy) = (name(*kind, id), place(&step.lost), copy_text(step));
        text.push_str(&format!("{what} of {pack} {copy}\n"));
    }
    for lost in plan.hopeless.iter().take(SHOWN) {
        let (what, pack) = (name(lost.kind, &lost.id), place(lost));
        text.push_str(&format!("{what} of {pack} has no copy\n"));
    }
    for key in &plan.bad_indexes {
        text.push_str(&format!("{key} is damaged and is replaced\n"));
    }
    let some = |count: usize| if count > 0 { count.to_string() } else { String::new() };
    let verb = if done { "repaired" } else { "can be repaired" };
    let next = match (done, plan.is_empty(), plan.hopeless.is_empty()) {
        (false, false, _) => "nothing was changed; say --apply to repair",
        (true, false, true) => "done; vaultfs verify shows what is left",
        (_, _, false) => {
            "what has no copy comes back with the next backup of the same data, if it is there still, or from another vault"
        }
        (_, true, true) => "nothing to repair",
    };
    text + &fields(&[
        (verb, plan.steps.len().to_string()),
        ("without a copy", some(plan.hopeless.len())),
        ("damaged indexes", some(plan.bad_indexes.len())),
        ("packs listed anew", some(plan.unlisted.len())),
        ("damaged backups", some(plan.hurt.len())),
        ("next", next.to_owned()),
    ])
}

fn to_json(plan: &Plan, done: bool) -> Value {
    let lost = |lost: &Lost| json!({ "id": lost.id.to_string(), "object": place(lost) });
    let step = |step: &Step| {
        let (copy, pack) = match &step.copy {
            Copy::Here(pack) => ("here", Some(pack)),
            Copy::Same => ("same", None),
            Copy::There(pack) => ("from", Some(pack)),
        };
        json!({ "id": step.lost.id.to_string(), "object": place(&step.lost), "copy": copy, "pack": pack.map(|pack| hex(pack)) })
    };
    json!({
        "applied": done,
        "chunks": plan.steps.iter().map(step).collect::<Vec<_>>(),
        "without_copy": plan.hopeless.iter().map(lost).collect::<Vec<_>>(),
        "bad_indexes": plan.bad_indexes.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "packs_listed_anew": to_u64(plan.unlisted.len()),
        "backups": plan.hurt.iter().map(hurt_json).collect::<Vec<_>>(),
    })
}
