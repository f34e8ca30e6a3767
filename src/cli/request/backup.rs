//! What a backup is asked to do, from the words of `backup VAULT server` and `backup VAULT disk`.

use super::{DiskRequest, Usage, disks, single_disk, tags};
use crate::cli::args;
use crate::clock::Point;
use crate::vault::manifest::MAX_FACTS;
use crate::vault::tags::Tags;
use crate::vault::{Consistency, ResourceKind, ResourceName};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// A checked request; no source has been opened yet.
#[derive(Debug)]
pub(in super::super) struct BackupRequest {
    pub(in super::super) resource: ResourceName,
    pub(in super::super) disks: Vec<DiskRequest>,
    pub(in super::super) facts: Option<String>,
    pub(in super::super) tags: Tags,
    pub(in super::super) consistency: Consistency,
    pub(in super::super) at: Option<Point>,
    pub(in super::super) level: Option<i32>,
    pub(in super::super) jobs: Option<u16>,
}

/// Checks the words of one backup and reads the facts file, the only file looked into here.
pub(in super::super) fn backup(resource: &args::Resource) -> Result<BackupRequest, Usage> {
    match resource {
        args::Resource::Server(server) => {
            let facts = server.facts.as_deref().map(facts).transpose()?;
            let request = request(ResourceKind::Server, &server.name, disks(server)?, &server.options)?;
            Ok(BackupRequest { facts, ..request })
        }
        args::Resource::Disk(disk) => request(ResourceKind::Disk, &disk.name, vec![single_disk(disk)?], &disk.options),
    }
}

fn request(
    kind: ResourceKind,
    name: &str,
    disks: Vec<DiskRequest>,
    options: &args::BackupOptions,
) -> Result<BackupRequest, Usage> {
    Ok(BackupRequest {
        resource: ResourceName::new(kind, name).map_err(Usage)?,
        disks,
        facts: None,
        tags: tags(&options.tags)?,
        consistency: match options.consistency {
            args::Consistency::Crash => Consistency::Crash,
            args::Consistency::Application => Consistency::Application,
            args::Consistency::None => Consistency::None,
        },
        at: options.at,
        level: options.level,
        jobs: options.jobs,
    })
}

/// Reads a file of facts: JSON of any shape, at most [`MAX_FACTS`] bytes, kept as it is written.
fn facts(path: &Path) -> Result<String, Usage> {
    let name = path.display();
    let limit = crate::bytes::to_u64(MAX_FACTS);
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(limit.saturating_add(1)).read_to_string(&mut text));
    read.map_err(|error| Usage(format!("the facts in {name} cannot be read: {error}")))?;
    if text.len() > MAX_FACTS {
        return Err(Usage(format!(
            "the facts in {name} are larger than {}",
            crate::bytes::size_text(limit)
        )));
    }
    serde_json::from_str::<serde::de::IgnoredAny>(&text)
        .map_err(|error| Usage(format!("{name} is not JSON: {error}")))?;
    Ok(text)
}
