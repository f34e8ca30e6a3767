//! Verifies a vault: every object, every chunk, every reference, and what of which backup is lost if something is damaged.
//!
//! First the objects, each by itself: frame, footer, the chunks in it, the records of an index. Then the backups: every page and every
//! reference of theirs, against the footers and against what was found bad. What is damaged is quarantined by a record, and never
//! deleted; a store that does not answer is never taken for damage.
//!
//! # Source
//! `docs/format.md`, section "Invariants".

mod crew;
mod examine;
mod indexes;
mod inside;
mod maps;
mod names;
mod objects;
mod plan;
mod rate;
mod report;
mod state;
mod trees;
mod walk;

pub use crate::monitor::Environment;
pub(crate) use crew::each;
pub use plan::Slice;
pub use report::{Fate, Finding, HurtBackup, HurtDisk, HurtFile, Invariant, Report, Trouble};
pub use walk::Lost;

use crate::bytes::to_u64;
use crate::chunk::{self, Reader};
use crate::vault::object::{ObjectId, ObjectType};
use crate::vault::{self, Address, ChunkId, Vault};
use rate::Rate;
use report::Notes;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Memory for pages and footers.
const READER_CACHE: u64 = 64 << 20;

/// Why a vault was not verified.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The vault could not be listed, or was written by a newer program.
    #[error(transparent)]
    Vault(#[from] vault::Error),
    /// What is in quarantine could not be looked at again.
    #[error("what is in quarantine cannot be looked at")]
    Read(#[source] chunk::Error),
    /// The user or the system asked to stop.
    #[error("interrupted after {objects} objects; {next}")]
    Interrupted {
        /// Objects that were checked.
        objects: u64,
        /// What the next run will do.
        next: &'static str,
    },
}

/// The result of a verification.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// How much is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// All bytes as they are stored, by the hashes of their objects, and the content of pages.
    Stored,
    /// Every chunk, too, decoded and hashed.
    Data,
}

/// What to verify and how.
#[derive(Debug, Clone)]
pub struct Request {
    /// Only these backups and the packs that they need; all if `None`.
    pub backups: Option<Vec<Address>>,
    /// How much is looked at.
    pub depth: Depth,
    /// Which part of the vault.
    pub slice: Slice,
    /// Threads.
    pub jobs: usize,
    /// Most bytes a second.
    pub rate: Option<u64>,
    /// Where to keep how far a run came.
    pub state: Option<PathBuf>,
    /// By whom what is damaged is quarantined, in words; `None` to write nothing.
    pub by: Option<String>,
}

/// Packs and chunks that are damaged and not healed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Damage(HashMap<(ObjectType, ObjectId), Bad>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Bad {
    Whole,
    Chunks(HashSet<ChunkId>),
}

impl Damage {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn add(&mut self, kind: ObjectType, pack: ObjectId, id: Option<ChunkId>) {
        let bad = self
            .0
            .entry((kind, pack))
            .or_insert_with(|| Bad::Chunks(HashSet::new()));
        match (id, bad) {
            (Some(id), Bad::Chunks(chunks)) => {
                chunks.insert(id);
            }
            (None, bad) => *bad = Bad::Whole,
            (Some(_), Bad::Whole) => {}
        }
    }

    fn has(&self, kind: ObjectType, pack: &ObjectId, id: &ChunkId) -> bool {
        match self.0.get(&(kind, *pack)) {
            None => false,
            Some(Bad::Whole) => true,
            Some(Bad::Chunks(chunks)) => chunks.contains(id),
        }
    }
}

/// What the steps of a verification share.
struct Job<'a> {
    reader: Arc<Reader>,
    request: &'a Request,
    environment: Environment<'a>,
    rate: Rate,
    notes: Notes,
}

impl<'a> Job<'a> {
    fn new(vault: &Vault, request: &'a Request, environment: Environment<'a>) -> Self {
        Self {
            reader: Reader::new(vault.clone(), READER_CACHE),
            request,
            environment,
            rate: Rate::new(request.rate),
            notes: Notes::new(vault.store().is_remote()),
        }
    }
}

impl Job<'_> {
    fn vault(&self) -> &Vault {
        self.reader.vault()
    }

    fn is_cancelled(&self) -> bool {
        self.environment.cancel.load(Ordering::Relaxed) || self.notes.gave_up()
    }

    /// All backups to be walked, deleted ones that have not been removed among them.
    fn addresses(&self) -> Result<Vec<Address>> {
        if let Some(chosen) = &self.request.backups {
            return Ok(chosen.clone());
        }
        let mut all: BTreeSet<Address> = self.vault().deleted()?.into_iter().collect();
        for (resource, points) in self.vault().catalogue()? {
            all.extend(points.into_iter().map(|point| resource.at(point)));
        }
        Ok(all.into_iter().collect())
    }
}

/// Verifies a vault; what is damaged is in the report, and no error.
///
/// # Errors
/// `Vault` if its objects cannot be listed, `Interrupted`.
pub fn run(vault: &Vault, request: &Request, environment: Environment<'_>) -> Result<Report> {
    let job = Job::new(vault, request, environment);
    let addresses = job.addresses()?;
    let chosen = match &request.backups {
        Some(_) => Some(walk::needed(&job, &addresses)?),
        None => None,
    };
    let keys = vault.store().list("").map_err(vault::Error::from)?;
    let plan = plan::plan(vault, keys, request.slice, chosen.as_ref());
    let state = objects::check_all(&job, &plan)?;
    let backups = walk::check_all(&job, &addresses).map_err(|error| match error {
        Error::Interrupted { .. } => state.interrupted(&job),
        other => other,
    })?;
    if job.notes.gave_up() {
        // The next run goes on as after an interruption, whatever it is told.
        drop(state.interrupted(&job));
    } else {
        state.remove(&job);
    }
    if request.backups.is_none() && request.slice.is_whole() {
        job.notes.count_unlisted(&plan.packs);
    }
    job.notes.foreign(&plan.foreign);
    let walked = to_u64(addresses.len());
    Ok(job.notes.into_report(request, walked, backups))
}

/// Walks all backups and looks up what they refer to, reading no data: what is gone, and what was quarantined before and has no other
/// copy.
///
/// # Errors
/// As [`run`].
pub fn lost(vault: &Vault, request: &Request, environment: Environment<'_>) -> Result<(Report, Vec<Lost>)> {
    let job = Job::new(vault, request, environment);
    let addresses = job.addresses()?;
    walk::check_quarantined(&job)?;
    let backups = walk::check_all(&job, &addresses)?;
    let lost = job.notes.lost();
    let walked = to_u64(addresses.len());
    Ok((job.notes.into_report(request, walked, backups), lost))
}
