//! What a backup is asked to do, from the words of `backup VAULT server`, `backup VAULT disk` and `backup VAULT filesystem`.

use super::{DiskRequest, Usage, disks, single_disk, tags};
use crate::backup::{Excludes, Mounts, Rehash, Tag, TreeInput};
use crate::cli::args;
use crate::clock::Point;
use crate::vault::manifest::MAX_FACTS;
use crate::vault::tags::{SCHEDULE, Tags, check};
use crate::vault::{Consistency, ResourceKind, ResourceName};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// A checked request; no source has been opened yet.
#[derive(Debug)]
pub(in super::super) struct BackupRequest {
    pub(in super::super) resource: ResourceName,
    pub(in super::super) source: Source,
    pub(in super::super) facts: Option<String>,
    pub(in super::super) tags: Tags,
    pub(in super::super) consistency: Consistency,
    pub(in super::super) at: Option<Point>,
    pub(in super::super) level: Option<i32>,
    pub(in super::super) jobs: Option<u16>,
}

/// What a backup reads.
#[derive(Debug)]
pub(in super::super) enum Source {
    /// Disks, in the order of the command line.
    Disks(Vec<DiskRequest>),
    /// A directory tree.
    Tree(TreeInput),
}

/// Checks the words of one backup and reads the files of facts and patterns, the only files looked into here.
pub(in super::super) fn backup(resource: &args::Resource) -> Result<BackupRequest, Usage> {
    match resource {
        args::Resource::Server(server) => {
            let facts = server.facts.as_deref().map(facts).transpose()?;
            let source = Source::Disks(disks(server)?);
            let request = request(ResourceKind::Server, &server.name, source, &server.options)?;
            Ok(BackupRequest { facts, ..request })
        }
        args::Resource::Disk(disk) => {
            let source = Source::Disks(vec![single_disk(disk)?]);
            request(ResourceKind::Disk, &disk.name, source, &disk.options)
        }
        args::Resource::Filesystem(tree) => {
            let source = Source::Tree(tree_input(tree)?);
            request(ResourceKind::Filesystem, &tree.name, source, &tree.options)
        }
    }
}

fn request(
    kind: ResourceKind,
    name: &str,
    source: Source,
    options: &args::BackupOptions,
) -> Result<BackupRequest, Usage> {
    let consistency = match (options.consistency, kind) {
        (Some(args::Consistency::Application), _) => Consistency::Application,
        (Some(args::Consistency::None), _) | (None, ResourceKind::Filesystem) => Consistency::None,
        (Some(args::Consistency::Crash) | None, _) => Consistency::Crash,
    };
    Ok(BackupRequest {
        resource: ResourceName::new(kind, name).map_err(Usage)?,
        source,
        facts: None,
        tags: with_schedule(tags(&options.tags)?, options.schedule.as_deref())?,
        consistency,
        at: options.at,
        level: options.level,
        jobs: options.jobs,
    })
}

/// Adds the tag of the schedule.
fn with_schedule(mut tags: Tags, name: Option<&str>) -> Result<Tags, Usage> {
    let Some(name) = name else { return Ok(tags) };
    if name.is_empty() {
        return Err(Usage("--schedule takes the name of a schedule".to_owned()));
    }
    if tags.insert(SCHEDULE.to_owned(), name.to_owned()).is_some() {
        return Err(Usage(format!("--schedule is the tag {SCHEDULE}; give one of them")));
    }
    check(&tags).map_err(Usage)?;
    Ok(tags)
}

/// Puts the patterns and tags together; those of files come first, so that the command line has the last word.
fn tree_input(tree: &args::Filesystem) -> Result<TreeInput, Usage> {
    let mut files = Vec::new();
    for path in &tree.exclude_from {
        let name = path.display();
        let text =
            std::fs::read(path).map_err(|error| Usage(format!("the patterns in {name} cannot be read: {error}")))?;
        let text = String::from_utf8(text).map_err(|_| Usage(format!("the patterns in {name} are not valid UTF-8")))?;
        files.push((name.to_string(), text));
    }
    let of_files = files.iter().flat_map(|(name, text)| {
        (1..)
            .zip(text.lines())
            .map(move |(number, line): (u64, _)| (format!("{name}, line {number}"), line))
    });
    let of_words = tree.exclude.iter().map(|word| ("--exclude".to_owned(), word.as_str()));
    let mut tags = if tree.exclude_caches {
        vec![Tag::cache()]
    } else {
        Vec::new()
    };
    for word in &tree.exclude_if_present {
        tags.push(Tag::parse(word).map_err(|wrong| Usage(format!("--exclude-if-present {wrong}")))?);
    }
    Ok(TreeInput {
        path: tree.dir.clone(),
        excludes: Excludes::new(of_files.chain(of_words), tags).map_err(Usage)?,
        rehash: if tree.force_rehash {
            Rehash::All
        } else {
            Rehash::Changed
        },
        mounts: match tree.one_file_system {
            args::YesNo::Yes => Mounts::Keep,
            args::YesNo::No => Mounts::Cross,
        },
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
