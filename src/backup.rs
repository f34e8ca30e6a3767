//! One backup end to end: hooks, sources, disks, packs, index, and the manifest last.

mod cursor;
mod disk;
mod files;
mod hooks;
mod pages;
mod prepared;
mod readback;

pub use crate::monitor::Environment;
pub use files::{Excludes, Mounts, Rehash, Tag, TreeInput};
pub use hooks::Hooks;

use crate::chunk::Reader;
use crate::clock::{Clock, Point};
use crate::image::disk::DiskImage;
use crate::image::{self, ReadAt};
use crate::lease::{self, Lease};
use crate::monitor::Monitor;
use crate::store;
use crate::vault::map::Layout;
use crate::vault::tags::Tags;
use crate::vault::{
    self, Address, Consistency, Content, Disk, Manifest, ResourceKind, ResourceName, Statistics, Vault, random_id,
};
use crate::writer::{self, Writer, merge};
use readback::ReadBack;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// Memory for pages and footers of the parent.
const READER_CACHE: u64 = 16 << 20;
/// Memory for pages and footers of the parent of a tree: footers of small files are long, and asked for in any order.
const TREE_READER_CACHE: u64 = 64 << 20;

/// Why a backup was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The vault could not be read or written.
    #[error(transparent)]
    Vault(#[from] vault::Error),
    /// Chunks could not be written.
    #[error(transparent)]
    Write(#[from] writer::Error),
    /// The lease was lost, and with it something that the backup needs.
    #[error(transparent)]
    Lease(#[from] lease::Error),
    /// A source could not be read.
    #[error(transparent)]
    Source(#[from] image::Error),
    /// The directory to back up could not be opened.
    #[error("{path} cannot be opened")]
    Tree {
        /// The directory.
        path: String,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// The list of files did not fit into memory, and a temporary file for it failed.
    #[error("the temporary file for the list of files failed; is there space where TMPDIR says, or in /var/tmp?")]
    Sort {
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// What was stored a moment ago does not come back.
    #[error("{whose} was stored and cannot be read back; nothing was committed")]
    ReadBack {
        /// A disk or a file.
        whose: String,
        /// What came instead.
        #[source]
        source: image::Error,
    },
    /// A hook failed.
    #[error("the --{which} command {command:?} failed ({why})")]
    Hook {
        /// `before` or `after`.
        which: &'static str,
        /// The command.
        command: String,
        /// How it ended.
        why: String,
    },
    /// The backup is committed, and then the `--after` command failed.
    #[error("backup {address} is committed, but the --after command failed; check that nothing stayed frozen")]
    AfterCommit {
        /// The backup.
        address: Address,
        /// The hook's error.
        #[source]
        source: Box<Error>,
    },
    /// What was asked for breaks a limit of the format.
    #[error("{what}")]
    Invalid {
        /// A sentence saying which.
        what: String,
    },
    /// A disk is larger than the format allows at this chunk size.
    #[error("a disk of {size} bytes is too large for this vault's chunk size; make a vault with a larger --chunk-size")]
    DiskTooLarge {
        /// Bytes of the disk.
        size: u64,
    },
    /// The user or the system asked to stop.
    #[error("interrupted; nothing was committed")]
    Interrupted,
    /// There is a backup of that resource at that time.
    #[error("there is already a backup {address}; give another time with --at")]
    Exists {
        /// The backup.
        address: Address,
    },
}

impl Error {
    /// Says whether this error only reports that another thread failed.
    fn is_secondary(&self) -> bool {
        matches!(self, Self::Write(writer::Error::Stopped))
    }
}

/// The result of a backup.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Opens the source of a disk; called after the `--before` hook, which may have made it.
pub type OpenSource = Box<dyn Fn() -> image::Result<Arc<dyn ReadAt>> + Send + Sync>;

/// One disk to back up.
pub struct DiskInput {
    /// Its name in the backup.
    pub name: String,
    /// Whether the server boots from it.
    pub bootable: bool,
    /// Opens it.
    pub open: OpenSource,
}

/// What is read.
pub enum Input {
    /// Disks, in the order they are to be shown.
    Disks(Vec<DiskInput>),
    /// A directory tree.
    Tree(TreeInput),
}

/// What to back up and how.
pub struct Request {
    /// The resource.
    pub resource: ResourceName,
    /// What is read of it.
    pub input: Input,
    /// Tags of the backup.
    pub tags: Tags,
    /// Facts about the server, JSON text.
    pub facts: Option<String>,
    /// What the user says about consistency.
    pub consistency: Consistency,
    /// The time of the backup, if it is not now.
    pub at: Option<Point>,
    /// zstd level.
    pub level: i32,
    /// Threads.
    pub jobs: usize,
    /// Commands before and after.
    pub hooks: Hooks,
}

/// What the threads of a backup share.
struct Context<'a> {
    writer: Writer,
    monitor: &'a dyn Monitor,
    cancel: &'a AtomicBool,
    level: i32,
    jobs: usize,
}

/// A committed backup.
#[derive(Debug, Clone)]
pub struct Report {
    /// Where it is.
    pub address: Address,
    /// Its manifest.
    pub manifest: Manifest,
    /// Files and directories of a tree that were left out because the request says so; what is in such a directory is not counted.
    pub excluded: u64,
}

/// Makes one backup; when this returns `Ok`, it is committed and durable.
///
/// # Errors
/// As [`Error`]; nothing is committed but for `AfterCommit`.
pub fn run(vault: &Vault, request: &Request, environment: Environment<'_>) -> Result<Report> {
    check(request)?;
    vault.check_writable()?;
    if let Some(point) = request.at {
        let address = request.resource.at(point);
        // Told before hours of reading; the commit decides in the end.
        if vault.points(&request.resource)?.contains(&point) {
            return Err(Error::Exists { address });
        }
        if vault.deleted_of(&request.resource)?.contains(&address) {
            let address = address.to_string();
            return Err(vault::Error::Deleted { address }.into());
        }
    }
    let resource = request.resource.to_string();
    let variables = |status| [("VAULTFS_RESOURCE", resource.as_str()), ("VAULTFS_STATUS", status)];
    let read_in = request
        .hooks
        .before
        .as_ref()
        .map_or(Ok(()), |command| hooks::run("before", command, &variables("before")))
        .and_then(|()| read_again(vault, request, environment));
    let status = if read_in.is_ok() { "ok" } else { "failed" };
    let after = request
        .hooks
        .after
        .as_ref()
        .map_or(Ok(()), |command| hooks::run("after", command, &variables(status)));
    if let (Err(_), Err(error)) = (&read_in, &after) {
        environment.monitor.warn(&error.to_string());
    }
    let report = commit(read_in?, request.at, environment.clock)?;
    if let Err(error) = merge::merge_indexes(vault) {
        environment
            .monitor
            .warn(&format!("small indexes were not merged: {error}"));
    }
    match after {
        Ok(()) => Ok(report),
        Err(error) => Err(Error::AfterCommit {
            address: report.address,
            source: Box::new(error),
        }),
    }
}

/// Refuses what the format would refuse, before any work is done.
fn check(request: &Request) -> Result<()> {
    let invalid = |what: String| Error::Invalid { what };
    // A manifest with empty content has the same limits as the one to come.
    let content = match &request.input {
        Input::Disks(disks) => {
            if request.resource.kind == ResourceKind::Disk && disks.len() != 1 {
                return Err(invalid("a disk resource has exactly one disk".to_owned()));
            }
            let chunk_size = *vault::CHUNK_SIZES.start();
            let disk = |input| empty_disk(input, Layout { size: 0, chunk_size });
            Content::Disks(disks.iter().map(disk).collect())
        }
        Input::Tree(_) if request.resource.kind == ResourceKind::Filesystem => return Ok(()),
        Input::Tree(_) => return Err(invalid("only a filesystem resource holds a directory tree".to_owned())),
    };
    let point = request
        .at
        .unwrap_or(Point::from_seconds(0).ok_or_else(|| invalid("no time".to_owned()))?);
    manifest(request, content, point).check().map_err(invalid)
}

fn empty_disk(input: &DiskInput, layout: Layout) -> Disk {
    Disk {
        name: input.name.clone(),
        size: layout.size,
        bootable: input.bootable,
        chunk_size: layout.chunk_size,
        levels: 0,
        roots: Vec::new(),
        statistics: Statistics::default(),
    }
}

fn manifest(request: &Request, content: Content, point: Point) -> Manifest {
    Manifest {
        kind: request.resource.kind,
        name: request.resource.name.clone(),
        resource_id: [0; 16],
        point: point.seconds(),
        started: point.seconds(),
        finished: point.seconds(),
        imported: request.at.is_some(),
        parent: None,
        consistency: request.consistency,
        content,
        facts: request.facts.clone(),
        tags: request.tags.clone(),
        tool: concat!("vaultfs ", env!("CARGO_PKG_VERSION")).to_owned(),
    }
}

/// What was read and stored; it lacks only its commit.
struct Read {
    manifest: Manifest,
    excluded: u64,
    lease: Arc<Lease>,
}

/// As [`read`]; once more if what was stored came back damaged: it is in quarantine by then, and is stored anew.
fn read_again(vault: &Vault, request: &Request, environment: Environment<'_>) -> Result<Read> {
    match read(vault, request, environment) {
        Err(Error::ReadBack {
            whose,
            source: source @ (image::Error::Corrupt { .. } | image::Error::Missing { .. }),
        }) => {
            environment.monitor.warn(&format!(
                "{whose} was stored and cannot be read back ({source}); the source is read again"
            ));
            read(vault, request, environment)
        }
        other => other,
    }
}

/// Reads and stores what the request names.
fn read(vault: &Vault, request: &Request, environment: Environment<'_>) -> Result<Read> {
    let now = || Point::from_seconds(environment.clock.now());
    let started = now().ok_or_else(|| Error::Invalid {
        what: "the clock of this machine is wrong".to_owned(),
    })?;
    let cache = match &request.input {
        Input::Disks(_) => READER_CACHE,
        Input::Tree(_) => TREE_READER_CACHE,
    };
    // Before anything is looked at that the backup will rely on.
    let lease = Arc::new(Lease::take(vault, lease::Kind::Backup, environment.clock)?);
    let reader = Reader::new(vault.clone(), cache);
    let parent = newest(vault, &request.resource, environment.monitor)?;
    let open = || -> Result<Context<'_>> {
        Ok(Context {
            writer: Writer::open(&reader, &lease)?,
            monitor: environment.monitor,
            cancel: environment.cancel,
            level: request.level,
            jobs: request.jobs.max(1),
        })
    };
    let mut sources = Vec::new();
    let (context, content, excluded) = match &request.input {
        Input::Disks(inputs) => {
            for input in inputs {
                sources.push((input, (input.open)()?));
            }
            let context = open()?;
            let disks = read_disks(&context, &reader, &sources, parent.as_ref())?;
            (context, Content::Disks(disks), 0)
        }
        Input::Tree(input) => {
            let context = open()?;
            let old = parent
                .as_ref()
                .and_then(|(address, manifest)| Some((address, manifest.tree()?)));
            let stored = files::store(&context, environment.clock, input, (old, &reader))?;
            (context, Content::Tree(stored.tree), stored.excluded)
        }
    };
    context.writer.finish()?;
    let mut manifest = manifest(request, content, request.at.unwrap_or(started));
    let address = manifest.address()?;
    let read_back = ReadBack::new(vault, &address, environment.monitor, started.seconds());
    match &manifest.content {
        Content::Disks(disks) => {
            let mut pairs = disks.iter().zip(&sources);
            pairs.try_for_each(|(disk, (_, source))| read_back.disk(disk, source))?;
        }
        Content::Tree(tree) => read_back.tree(tree)?,
    }
    manifest.started = started.seconds();
    manifest.parent = parent.as_ref().map(|(address, _)| address.point.seconds());
    manifest.resource_id = match &parent {
        Some((_, parent)) => parent.resource_id,
        None => random_id()?,
    };
    Ok(Read {
        manifest,
        excluded,
        lease,
    })
}

/// Reads and stores every disk.
fn read_disks(
    context: &Context<'_>,
    reader: &Arc<Reader>,
    sources: &[(&DiskInput, Arc<dyn ReadAt>)],
    parent: Option<&(Address, Manifest)>,
) -> Result<Vec<Disk>> {
    let mut disks = Vec::new();
    for (input, source) in sources {
        let layout = Layout {
            size: source.len(),
            chunk_size: reader.vault().config().chunk_size,
        };
        let before =
            parent.and_then(|(address, manifest)| Some(DiskImage::open(reader, address, manifest.disk(&input.name)?)));
        context.monitor.begin(&format!("backup {}", input.name), layout.size);
        let stored = disk::store(context, source.as_ref(), before.as_ref(), layout);
        context.monitor.end();
        let disk::Stored {
            levels,
            roots,
            statistics,
        } = stored?;
        disks.push(Disk {
            levels,
            roots,
            statistics,
            ..empty_disk(input, layout)
        });
    }
    Ok(disks)
}

/// The newest backup of a resource that can be read; a damaged one costs comparing with it, never the new backup.
fn newest(vault: &Vault, resource: &ResourceName, monitor: &dyn Monitor) -> Result<Option<(Address, Manifest)>> {
    for point in vault.points(resource)?.into_iter().rev() {
        let address = resource.at(point);
        match vault.load(&address) {
            Ok(manifest) => return Ok(Some((address, manifest))),
            Err(error @ (vault::Error::Corrupt { .. } | vault::Error::NoBackup { .. })) => {
                monitor.warn(&format!("{address} cannot be compared with: {error}"));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

/// Commits; if another writer took the same second, the next one is taken, unless the user gave the time.
fn commit(read: Read, at: Option<Point>, clock: &dyn Clock) -> Result<Report> {
    let Read {
        mut manifest,
        excluded,
        lease,
    } = read;
    loop {
        manifest.finished = clock.now();
        let address = manifest.address()?;
        match lease.commit(&manifest) {
            Ok(()) => {
                return Ok(Report {
                    address,
                    manifest,
                    excluded,
                });
            }
            Err(lease::Error::Vault(vault::Error::Store(store::Error::AlreadyExists { .. }))) if at.is_some() => {
                return Err(Error::Exists { address });
            }
            Err(lease::Error::Vault(vault::Error::Store(store::Error::AlreadyExists { .. }))) => {
                // A point never lies in the future: the second it names has to come first.
                manifest.point = manifest.point.saturating_add(1);
                while clock.now() < manifest.point {
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
