//! From raw words to what a command works with: pure checks, each failing with a sentence that names the cure.

use super::args;
use crate::source::{Backing, DiskSource, Format};
use crate::store::location::Location;
use crate::vault::tags::{self, Tags};
use crate::vault::{AddressSpec, check_name};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

mod backup;
mod copy;
mod file;
mod filter;
pub(super) use backup::{BackupRequest, Source, backup};
pub(super) use copy::copy;
pub(super) use file::{BackupFile, inside};
pub(super) use filter::Filter;

/// The command line asks for something that cannot be meant; nothing has been done.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Usage(pub(super) String);

/// Chunk size of a vault whose maker does not say: what one FUSE read asks for (docs/performance.md).
pub(super) const DEFAULT_CHUNK_SIZE: u64 = 64 << 10;

/// One disk of a backup, in the order of the command line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DiskRequest {
    /// Name in the backup.
    pub(super) name: String,
    /// Where its bytes come from.
    pub(super) source: DiskSource,
    /// Whether the server boots from it.
    pub(super) boot: Boot,
}

/// Whether a disk is the one its server boots from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Boot {
    /// The boot disk.
    Yes,
    /// Any other disk.
    No,
}

/// Where a vault is: a directory or a bucket.
pub(super) fn location(word: &OsStr) -> Result<Location, Usage> {
    Location::parse(word).map_err(|error| Usage(error.to_string()))
}

/// A backup's address, `latest` included.
pub(super) fn address(text: &str) -> Result<AddressSpec, Usage> {
    text.parse().map_err(Usage)
}

/// All `--tag` arguments together; a key given twice is a slip.
pub(super) fn tags(words: &[String]) -> Result<Tags, Usage> {
    let mut all = Tags::new();
    for word in words {
        let (key, value) = tags::parse(word).map_err(Usage)?;
        if all.insert(key.clone(), value).is_some() {
            return Err(Usage(format!("tag {key} is given twice")));
        }
    }
    tags::check(&all).map_err(Usage)?;
    Ok(all)
}

/// Puts `--disk`, `--format`, `--backing` and `--boot` together; disks keep the order of the command line.
pub(super) fn disks(server: &args::Server) -> Result<Vec<DiskRequest>, Usage> {
    let mut formats = formats(server)?;
    let mut backing = backing(server)?;
    let mut disks: Vec<DiskRequest> = Vec::new();
    for word in &server.disks {
        let (name, path) = pair("--disk", word)?;
        check_name(&name).map_err(Usage)?;
        if disks.iter().any(|disk| disk.name == name) {
            return Err(Usage(format!(
                "--disk {name} is given twice; every disk needs a name of its own"
            )));
        }
        let source = DiskSource {
            path: path.into(),
            format: formats.remove(&name).unwrap_or_default(),
            backing: backing.remove(&name).unwrap_or_default(),
        };
        backing_fits(&name, &source)?;
        let boot = Boot::No;
        disks.push(DiskRequest { name, source, boot });
    }
    if let Some(name) = formats.keys().chain(backing.keys()).next() {
        return Err(Usage(format!(
            "--format or --backing names disk {name}, but there is no --disk {name}=PATH"
        )));
    }
    choose_boot(&mut disks, server.boot.as_deref())?;
    Ok(disks)
}

/// Marks the disk that `--boot` names, or the first.
fn choose_boot(disks: &mut [DiskRequest], named: Option<&str>) -> Result<(), Usage> {
    let chosen = disks.iter_mut().find(|disk| named.is_none_or(|name| disk.name == name));
    match (chosen, named) {
        (Some(disk), _) => disk.boot = Boot::Yes,
        (None, Some(name)) => {
            return Err(Usage(format!(
                "--boot names disk {name}, but there is no --disk {name}=PATH"
            )));
        }
        (None, None) => return Err(Usage("a server has at least one --disk NAME=PATH".into())),
    }
    Ok(())
}

/// The one disk of `backup VAULT disk`; it is called `disk` in the backup.
pub(super) fn single_disk(disk: &args::Disk) -> Result<DiskRequest, Usage> {
    let source = DiskSource {
        path: disk.path.clone(),
        format: disk.format,
        backing: disk.backing.iter().cloned().map(Backing::from).collect(),
    };
    backing_fits("disk", &source)?;
    Ok(DiskRequest {
        name: "disk".into(),
        source,
        boot: Boot::No,
    })
}

/// A raw disk has no backing file: naming one is a slip.
fn backing_fits(name: &str, source: &DiskSource) -> Result<(), Usage> {
    if source.format == Format::Raw && !source.backing.is_empty() {
        return Err(Usage(format!(
            "disk {name} is raw and has no backing file; say --format qcow2 if it is one"
        )));
    }
    Ok(())
}

fn formats(server: &args::Server) -> Result<BTreeMap<String, Format>, Usage> {
    let mut formats = BTreeMap::new();
    for word in &server.formats {
        let (name, text) = pair("--format", OsStr::new(word))?;
        let wrong = |_| Usage(format!("--format {word}: write {name}=raw or {name}=qcow2"));
        let format = text.to_string_lossy().parse().map_err(wrong)?;
        if formats.insert(name.clone(), format).is_some() {
            return Err(Usage(format!("--format of disk {name} is given twice")));
        }
    }
    Ok(formats)
}

fn backing(server: &args::Server) -> Result<BTreeMap<String, Vec<Backing>>, Usage> {
    let mut backing: BTreeMap<String, Vec<Backing>> = BTreeMap::new();
    for word in &server.backing {
        let (name, path) = pair("--backing", word)?;
        backing.entry(name).or_default().push(path.into());
    }
    Ok(backing)
}

/// Splits `NAME=VALUE` at the first `=`; neither side may be empty.
fn pair(option: &str, word: &OsStr) -> Result<(String, OsString), Usage> {
    let bytes = word.as_bytes();
    let wrong = || {
        Usage(format!(
            "{option} {}: write NAME=VALUE, for example vda=/dev/vg0/web-01",
            word.display()
        ))
    };
    let at = bytes.iter().position(|byte| *byte == b'=').ok_or_else(wrong)?;
    let (name, value) = bytes.split_at_checked(at).ok_or_else(wrong)?;
    let value = value
        .strip_prefix(b"=")
        .filter(|value| !value.is_empty())
        .ok_or_else(wrong)?;
    let name = std::str::from_utf8(name)
        .ok()
        .filter(|name| !name.is_empty())
        .ok_or_else(wrong)?;
    Ok((name.into(), OsString::from_vec(value.to_vec())))
}

#[cfg(test)]
mod tests;
