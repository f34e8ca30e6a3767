//! Commands that do one thing to each of several backups: one that fails does not keep the others from it.

use super::super::exit::Code;
use super::super::output;
use super::super::{Context, request};
use super::complain;
use crate::vault::{Address, AddressSpec, Change};
use serde_json::json;

/// The words for what was done, and for what was so already.
#[derive(Debug, Clone, Copy)]
pub(super) struct Words<'a> {
    pub(super) done: &'a str,
    pub(super) already: &'a str,
}

/// The addresses of a command that takes `latest`, too.
pub(super) fn specs(words: &[String]) -> Result<Vec<AddressSpec>, request::Usage> {
    words.iter().map(|word| request::address(word)).collect()
}

/// The addresses of a command for which `latest` would not say what is meant.
pub(super) fn points(words: &[String]) -> Result<Vec<AddressSpec>, request::Usage> {
    let specs = specs(words)?;
    specs.iter().try_for_each(|spec| exact(spec).map(drop))?;
    Ok(specs)
}

/// The address of a backup that was named by its point.
pub(super) fn exact(spec: &AddressSpec) -> Result<Address, request::Usage> {
    match spec {
        AddressSpec::Exact(address) => Ok(address.clone()),
        AddressSpec::Latest(resource) => Err(request::Usage(format!(
            "{resource}/latest is another backup tomorrow; name it by its point, as `vaultfs list VAULT {resource}` shows it"
        ))),
    }
}

/// Acts on each backup, tells what became of it, and gives the code for all.
pub(super) fn act(
    context: &Context,
    specs: &[AddressSpec],
    words: Words<'_>,
    act: impl Fn(&AddressSpec) -> anyhow::Result<(Address, Change)>,
) -> anyhow::Result<Code> {
    let mut lines = String::new();
    let mut results = Vec::new();
    let mut failed = Vec::new();
    for spec in specs {
        match act(spec) {
            Ok((address, change)) => {
                let (word, result) = match change {
                    Change::Done => (words.done, "done"),
                    Change::Already => (words.already, "already"),
                };
                lines.push_str(&format!("{address} {word}\n"));
                results.push(json!({ "address": address.to_string(), "result": result }));
            }
            Err(error) if specs.len() == 1 => return Err(error),
            Err(error) => {
                failed.push(complain(&error));
                let address = match spec {
                    AddressSpec::Exact(address) => address.to_string(),
                    AddressSpec::Latest(resource) => format!("{resource}/latest"),
                };
                results.push(json!({ "address": address, "result": "failed", "error": format!("{error:#}") }));
            }
        }
    }
    output::answer(context.form, || lines, || json!({ "backups": results }))?;
    Ok(code(specs.len(), &failed))
}

/// Damage and silence have their codes; otherwise what failed leaves the rest done.
pub(super) fn code(tried: usize, failed: &[Code]) -> Code {
    match failed.iter().find(|code| **code != Code::Failed).or(failed.first()) {
        None => Code::Done,
        Some(Code::Failed) if failed.len() < tried => Code::Partial,
        Some(code) => *code,
    }
}

/// Who asks, for the records of a vault: `ann@desk`.
pub(super) fn author() -> String {
    let named = |variable| std::env::var(variable).ok().filter(|name: &String| !name.is_empty());
    let user = named("SUDO_USER")
        .or_else(|| named("LOGNAME"))
        .or_else(|| named("USER"));
    let uid = rustix::process::getuid();
    let nameless = || {
        if uid.is_root() {
            "root".to_owned()
        } else {
            format!("uid {}", uid.as_raw())
        }
    };
    let user = user.unwrap_or_else(nameless);
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    // A variable may hold anything; a record is to stay small.
    format!("{user}@{}", host.trim()).chars().take(200).collect()
}
