//! One file for each command; each takes its raw arguments, resolves them, does the work and answers.

pub(super) mod backup;
pub(super) mod bench;
pub(super) mod cat;
pub(super) mod house;
pub(super) mod init;
pub(super) mod list;
pub(super) mod mount;
pub(super) mod restore;
pub(super) mod show;
pub(super) mod umount;

use super::request;
use crate::bytes::size_text;
use crate::store::local::LocalStore;
use crate::vault::tags::Tags;
use crate::vault::{Manifest, Vault};
use std::ffi::OsStr;
use std::sync::Arc;

/// Opens the vault that the command line names.
fn open(word: &OsStr) -> anyhow::Result<Vault> {
    let store = LocalStore::open(&request::vault_dir(word)?)?;
    Ok(Vault::open(Arc::new(store))?)
}

/// Tags in one word: `env=prod,owner=ops`, sorted by key.
fn tags_text(tags: &Tags) -> String {
    let pairs: Vec<String> = tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(",")
}

/// Renders fields one to a line, values in one column; empty values are left out.
fn fields(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let shown = pairs.iter().filter(|(_, value)| !value.is_empty());
    shown.fold(String::new(), |text, (name, value)| {
        text + &format!("{name:<width$}  {}\n", super::output::printable(value))
    })
}

/// The content of `backup.json`, here as in the mount.
fn description(manifest: &Manifest) -> String {
    format!("{:#}\n", manifest.to_json())
}

/// A size for people with the exact number behind it.
fn exact_size(bytes: u64) -> String {
    format!("{} ({bytes} bytes)", size_text(bytes))
}
