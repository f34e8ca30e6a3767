//! What `cp` and `restore` say of the files they copied.

use super::super::exit::Code;
use crate::bytes::size_text;
use crate::extract::Report;
use serde_json::{Map, Value, json};

/// Damage and silence of the vault have their codes; anything else that was not copied leaves the work done in part.
pub(super) fn code_of(report: &Report) -> Code {
    let failures = &report.failures;
    match (failures.damaged, failures.unreachable, failures.other) {
        (0, 0, 0) => Code::Done,
        (0, 0, _) => Code::Partial,
        (0, _, _) => Code::Unreachable,
        _ => Code::Damaged,
    }
}

/// The counts in a sentence that begins with `done`, and a line for each thing that is not as it should be.
pub(super) fn text(done: &str, report: &Report) -> String {
    let counts = [
        (report.files, "files"),
        (report.directories, "directories"),
        (report.symlinks, "symbolic links"),
        (report.hard_links, "hard links"),
        (report.specials, "devices, pipes and sockets"),
    ];
    let counts = counts.iter().filter(|(count, _)| *count > 0);
    let counts: Vec<String> = counts.map(|(count, what)| format!("{count} {what}")).collect();
    let copied = if counts.is_empty() {
        "nothing".into()
    } else {
        counts.join(", ")
    };
    let mut text = format!("{done} {copied}; {} of data\n", size_text(report.bytes));
    let others = [
        (report.mended, "mended"),
        (report.unchanged, "unchanged"),
        (report.removed, "removed"),
    ];
    let others: Vec<String> = others
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    if !others.is_empty() {
        text.push_str(&format!("{}\n", others.join(", ")));
    }
    for (kind, count) in &report.not_kept {
        text.push_str(&format!("{kind} not kept: {count}\n"));
    }
    let failures = &report.failures;
    for (count, what) in [
        (failures.damaged, "damaged in the vault"),
        (failures.unreachable, "not delivered by the vault"),
        (failures.other, "for other reasons"),
    ] {
        if count > 0 {
            text.push_str(&format!("not copied, {what}: {count}\n"));
        }
    }
    text
}

/// The counts as fields.
pub(super) fn json(report: &Report) -> Map<String, Value> {
    let fields = json!({
        "files": report.files,
        "directories": report.directories,
        "symlinks": report.symlinks,
        "hard_links": report.hard_links,
        "specials": report.specials,
        "bytes": report.bytes,
        "not_kept": report.not_kept,
        "errors": {
            "damaged": report.failures.damaged,
            "unreachable": report.failures.unreachable,
            "other": report.failures.other,
        },
    });
    match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}
