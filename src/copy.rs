//! Copies backups from one vault to another: chunks as they are stored, but for those that the other vault has, then maps and trees
//! with the places they have there, and the manifest last.
//!
//! A [`Plan`] says which backups, in order of time; [`run`] goes through it. Every backup is a session of its own and is visible when
//! it is whole. What an interrupted or damaged one has brought over stays and is found by the next.

mod compare;
mod crew;
mod disk;
mod plan;
mod seen;
mod session;
mod tree;

pub use plan::{Plan, Step, Work};

use crate::chunk::{self, Reader};
use crate::clock::{Clock, Point};
use crate::lease::{self, Lease};
use crate::monitor::Monitor;
use crate::store;
use crate::vault::{self, Address, Content, Manifest, ResourceName, Vault};
use crate::writer::{self, merge};
use parking_lot::Mutex;
use seen::Seen;
use session::{Base, Session};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Memory for pages and footers of each of the two vaults.
const READER_CACHE: u64 = 64 << 20;

/// Why a backup was not copied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Both vaults are one.
    #[error(
        "{from} and {to} are the same vault, {id}, or one is a copy of the other's files; copy into a vault of its own, made with: \
         vaultfs init"
    )]
    SameVault {
        /// The one.
        from: String,
        /// The other.
        to: String,
        /// The id of both.
        id: String,
    },
    /// A vault could not be opened, listed or written.
    #[error("vault {vault}")]
    Vault {
        /// The vault.
        vault: String,
        /// Why.
        #[source]
        source: vault::Error,
    },
    /// The manifest of a backup could not be read.
    #[error("{at}")]
    Manifest {
        /// The backup.
        at: Box<Place>,
        /// Why.
        #[source]
        source: vault::Error,
    },
    /// A part of a backup could not be read.
    #[error("{at}")]
    Read {
        /// Which part.
        at: Box<Place>,
        /// Why.
        #[source]
        source: chunk::Error,
    },
    /// The vault copied to could not be written.
    #[error("copying {at} failed")]
    Write {
        /// The backup, and the vault copied to.
        at: Box<Place>,
        /// Why.
        #[source]
        source: writer::Error,
    },
    /// There is another backup at the same address.
    #[error("vault {to} has another backup {address} than vault {from}: {what}; neither was changed")]
    Differs {
        /// The address.
        address: Address,
        /// What differs.
        what: String,
        /// The vault copied from.
        from: String,
        /// The vault copied to.
        to: String,
    },
    /// The user or the system asked to stop.
    #[error("interrupted in the copy of {address}, of which nothing is visible; copying again goes on from there")]
    Interrupted {
        /// The backup.
        address: Address,
    },
}

/// A backup in one of the two vaults, or a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The backup.
    pub address: Address,
    /// A disk or a file, and where in it; empty for the whole backup.
    pub part: String,
    /// The vault, in words.
    pub vault: String,
}

impl Place {
    fn new(address: &Address, part: String, vault: &Vault) -> Box<Self> {
        Box::new(Self {
            address: address.clone(),
            part,
            vault: vault.store().describe(),
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, part, vault } = self;
        let comma = if part.is_empty() { "" } else { ", " };
        write!(f, "backup {address}{comma}{part} (vault {vault})")
    }
}

impl Error {
    /// Says whether the other backups can be copied all the same.
    fn is_of_one_backup(&self) -> bool {
        let of_chunk =
            |error: &chunk::Error| matches!(error, chunk::Error::Corrupt { .. } | chunk::Error::Missing { .. });
        match self {
            Self::Manifest { source, .. } => !matches!(source, vault::Error::Store(_)),
            Self::Read { source, .. } => of_chunk(source),
            Self::Differs { .. } => true,
            _ => false,
        }
    }

    /// Says whether this error only reports that another thread failed.
    fn is_secondary(&self) -> bool {
        matches!(
            self,
            Self::Write {
                source: writer::Error::Stopped,
                ..
            }
        )
    }
}

/// The result of a copy.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What surrounds a copy: where progress goes, what the time is, whether to stop, and how many threads work.
#[derive(Clone, Copy)]
pub struct Environment<'a> {
    /// Receives progress.
    pub monitor: &'a dyn Monitor,
    /// Tells the time.
    pub clock: &'a dyn Clock,
    /// Set to stop the copy soon.
    pub cancel: &'a AtomicBool,
    /// Threads that read, check and write.
    pub jobs: usize,
}

/// What became of one backup.
#[derive(Debug)]
pub enum Outcome {
    /// It was copied.
    Copied,
    /// It was there.
    There,
    /// It was deleted there, and left alone.
    Deleted,
    /// It was not copied.
    Failed(Error),
}

/// Chunks that went over and chunks that need not, and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Chunks copied.
    pub copied_chunks: u64,
    /// Their plain bytes.
    pub copied_bytes: u64,
    /// Their stored bytes.
    pub stored_bytes: u64,
    /// Chunks of copied backups that the vault had.
    pub found_chunks: u64,
    /// Their plain bytes.
    pub found_bytes: u64,
}

#[derive(Default)]
struct Counts {
    copied_chunks: AtomicU64,
    copied_bytes: AtomicU64,
    stored_bytes: AtomicU64,
    found_chunks: AtomicU64,
    found_bytes: AtomicU64,
}

impl Counts {
    fn amounts(&self) -> Amounts {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Amounts {
            copied_chunks: of(&self.copied_chunks),
            copied_bytes: of(&self.copied_bytes),
            stored_bytes: of(&self.stored_bytes),
            found_chunks: of(&self.found_chunks),
            found_bytes: of(&self.found_bytes),
        }
    }
}

/// Says what is to be done for these backups: reads their manifests for their sizes, and lists the vault copied to.
///
/// # Errors
/// `SameVault`, `Vault`. A damaged manifest is a step all the same; [`run`] tells of it.
pub fn plan(from: &Vault, to: &Vault, addresses: Vec<Address>, jobs: usize) -> Result<Plan> {
    let of_vault = |vault: &Vault| {
        let vault = vault.store().describe();
        move |source| Error::Vault { vault, source }
    };
    if from.config().id == to.config().id {
        return Err(Error::SameVault {
            from: from.store().describe(),
            to: to.store().describe(),
            id: crate::bytes::hex(&from.config().id),
        });
    }
    to.check_writable().map_err(of_vault(to))?;
    let there = to.catalogue().map_err(of_vault(to))?;
    let deleted = to.deleted().map_err(of_vault(to))?;
    let sized = crew::each(&addresses, jobs, |address| match from.load(address) {
        Ok(manifest) => Ok((address.clone(), manifest.sizes().data)),
        Err(source @ vault::Error::Store(_)) => Err(of_vault(from)(source)),
        Err(_) => Ok((address.clone(), 0)),
    })?;
    Ok(plan::plan(sized, &there, &deleted))
}

/// Copies what the plan names and tells what became of each backup; returns how much was copied.
///
/// Whatever is wrong with one backup, the others are copied. An error that is about more than one backup ends the run, and the
/// steps after it are not told of.
pub fn run(
    from: &Vault,
    to: &Vault,
    plan: &Plan,
    environment: Environment<'_>,
    tell: &mut dyn FnMut(&Address, Outcome),
) -> Amounts {
    let copier = Copier {
        from: Reader::new(from.clone(), READER_CACHE),
        to: Reader::new(to.clone(), READER_CACHE),
        environment,
        counts: Counts::default(),
        lease: Mutex::default(),
        seen: Mutex::default(),
        resources: Mutex::default(),
    };
    environment.monitor.begin("copy", plan.data_bytes());
    for step in plan.steps() {
        let outcome = copier.step(step);
        let ends = matches!(&outcome, Outcome::Failed(error) if !error.is_of_one_backup());
        tell(&step.address, outcome);
        if ends {
            break;
        }
    }
    environment.monitor.end();
    copier.counts.amounts()
}

/// What all sessions of a run share.
struct Copier<'a> {
    from: Arc<Reader>,
    to: Arc<Reader>,
    environment: Environment<'a>,
    counts: Counts,
    /// One for the whole run, from the first backup that is copied on: pages copied for one are taken over for the next.
    lease: Mutex<Option<Arc<Lease>>>,
    /// Pages of which the other vault has a copy.
    seen: Mutex<Seen>,
    /// Resources of which something was copied, with their ids in the vault copied to.
    resources: Mutex<HashMap<ResourceName, [u8; 16]>>,
}

impl Copier<'_> {
    fn step(&self, step: &Step) -> Outcome {
        let done = match step.work {
            Work::Copy => self.copy(&step.address),
            Work::Compare => self.compare(&step.address).map(|()| Outcome::There),
            Work::Leave => Ok(Outcome::Deleted),
        };
        done.unwrap_or_else(Outcome::Failed)
    }

    fn load(&self, reader: &Reader, address: &Address) -> Result<Manifest> {
        reader.vault().load(address).map_err(|source| Error::Manifest {
            at: Place::new(address, String::new(), reader.vault()),
            source,
        })
    }

    /// Makes sure that the backup that is there is the same.
    fn compare(&self, address: &Address) -> Result<()> {
        let (ours, theirs) = (self.load(&self.from, address)?, self.load(&self.to, address)?);
        compare::compare(self, address, &ours, &theirs)
    }

    fn copy(&self, address: &Address) -> Result<Outcome> {
        let source = self.load(&self.from, address)?;
        let base = self.base(address, source.parent)?;
        let session = Session::open(self, address)?;
        let lease = Arc::clone(session.lease());
        let content = session.copy(&source, base.near.as_ref());
        let (content, seen) = session.end(content)?;
        self.seen.lock().add(seen);
        let resource_id = self.resource_id(&address.resource, &source, &base);
        let manifest = Manifest {
            content,
            resource_id,
            parent: source.parent.filter(|_| base.has_parent),
            ..source
        };
        let to = self.to.vault();
        match lease.commit(&manifest) {
            Ok(()) => {}
            // Somebody else copied it in the same moment.
            Err(lease::Error::Vault(vault::Error::Store(store::Error::AlreadyExists { .. }))) => {
                return self.compare(address).map(|()| Outcome::There);
            }
            Err(error) => return Err(self.unwritable(address, error.into())),
        }
        if let Err(error) = merge::merge_indexes(to) {
            let text = format!("small indexes were not merged: {error}");
            self.environment.monitor.warn(&text);
        }
        Ok(Outcome::Copied)
    }

    /// The lease of this run on the vault copied to.
    fn lease(&self, address: &Address) -> Result<Arc<Lease>> {
        let mut lease = self.lease.lock();
        if let Some(lease) = &*lease {
            return Ok(Arc::clone(lease));
        }
        let taken = Lease::take(self.to.vault(), lease::Kind::Copy, self.environment.clock);
        let taken = Arc::new(taken.map_err(|error| self.unwritable(address, error.into()))?);
        Ok(Arc::clone(lease.insert(taken)))
    }

    fn unwritable(&self, address: &Address, source: writer::Error) -> Error {
        let at = Place::new(address, String::new(), self.to.vault());
        Error::Write { at, source }
    }

    /// What the vault copied to has of the resource.
    fn base(&self, address: &Address, parent: Option<i64>) -> Result<Base> {
        let vault = self.to.vault();
        let of_vault = |source| Error::Vault {
            vault: vault.store().describe(),
            source,
        };
        let points = vault.points(&address.resource).map_err(of_vault)?;
        let has_parent = points.iter().any(|point| Some(point.seconds()) == parent);
        let (before, after): (Vec<Point>, Vec<Point>) = points.into_iter().partition(|point| *point < address.point);
        for point in before.into_iter().rev().chain(after) {
            let near = address.resource.at(point);
            match vault.load(&near) {
                Ok(manifest) => {
                    let near = Some((near, manifest));
                    return Ok(Base { near, has_parent });
                }
                Err(source @ vault::Error::Store(_)) => return Err(of_vault(source)),
                // It only helps to find what is there.
                Err(error) => log::debug!("{near} cannot be compared with: {error}"),
            }
        }
        let near = None;
        Ok(Base { near, has_parent })
    }

    /// The id of the backup's resource: in one vault all its backups have the same.
    fn resource_id(&self, resource: &ResourceName, source: &Manifest, base: &Base) -> [u8; 16] {
        let near = base.near.as_ref().map(|(_, manifest)| manifest.resource_id);
        let id = near.unwrap_or(source.resource_id);
        let known = self.resources.lock().insert(resource.clone(), id);
        if known.is_none() && id != source.resource_id {
            let (from, to) = (self.from.vault().store().describe(), self.to.vault().store().describe());
            self.environment.monitor.warn(&format!(
                "{resource} was backed up to {from} and to {to} apart; if these are two different machines, their backups are now \
                 under one name in {to}"
            ));
        }
        id
    }
}

/// The disks or the tree of a manifest in one word, for messages.
fn kind_of(content: &Content) -> &'static str {
    match content {
        Content::Disks(_) => "disks",
        Content::Tree(_) => "a tree",
    }
}
