//! Repairs a vault: finds another whole copy of what backups have lost, in other packs or in another vault, and makes indexes anew.
//!
//! A [`Plan`] says what can be done; [`Repair::run`] does it. New objects are written, and a record says where a chunk is now; of what is there
//! only an index is removed that is damaged and has been replaced, which no backup needs.

mod copies;
mod indexes;

use crate::chunk::{self, Reader};
use crate::lease::{self, Lease};
use crate::store;
use crate::vault::map::{Entry, PageRef};
use crate::vault::object::{ObjectId, ObjectType};
use crate::vault::{self, ChunkId, Vault};
use crate::verify::{self, Environment, HurtBackup, Lost};
use crate::writer::{self, Encoded, Writer};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Memory for pages and footers of each vault.
const READER_CACHE: u64 = 64 << 20;

/// Why a vault was not repaired.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What is lost could not be found out.
    #[error(transparent)]
    Verify(#[from] verify::Error),
    /// The vault could not be listed or written.
    #[error(transparent)]
    Vault(#[from] vault::Error),
    /// A chunk or a footer could not be read.
    #[error("{vault} could not be read")]
    Read {
        /// The vault.
        vault: String,
        /// Why.
        #[source]
        source: chunk::Error,
    },
    /// What was found could not be stored.
    #[error("the vault could not be written")]
    Write(#[from] writer::Error),
    /// The vault with the copies is the damaged one.
    #[error("{path} is the vault to be repaired; name another one that has copies of its backups")]
    SameVault {
        /// The vault.
        path: String,
    },
    /// The store did not give everything, so that nobody knows what is lost.
    #[error(
        "{count} objects could not be looked at, the first of them {object} ({what}); repair when the store answers"
    )]
    Unreachable {
        /// How many.
        count: u64,
        /// The first.
        object: String,
        /// What the store said.
        what: String,
    },
    /// The lease under which this relied on packs could not be had.
    #[error(transparent)]
    Lease(#[from] lease::Error),
    /// The lease was lost, and a prune may have removed what was relied on.
    #[error("this machine gave no sign of life for so long that a prune may have gone on without it; repair again")]
    Lapsed,
    /// The user or the system asked to stop.
    #[error("interrupted; what was repaired stays repaired, and repairing again goes on from there")]
    Interrupted,
}

/// The result of a repair.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Where a whole copy of a lost chunk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copy {
    /// In this pack of the same vault.
    Here(ObjectId),
    /// In the same pack, which is damaged elsewhere.
    Same,
    /// In this pack of the other vault.
    There(ObjectId),
}

/// A lost chunk that can be had again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The chunk.
    pub lost: Lost,
    /// Where a copy is.
    pub copy: Copy,
}

/// What can be repaired.
#[derive(Debug, Default)]
pub struct Plan {
    /// Lost chunks that can be had again.
    pub steps: Vec<Step>,
    /// Lost chunks without any copy.
    pub hopeless: Vec<Lost>,
    /// Backups that have lost something.
    pub hurt: Vec<HurtBackup>,
    /// Indexes that are damaged.
    pub bad_indexes: Vec<store::Key>,
    /// Packs that no index lists.
    pub unlisted: Vec<ObjectId>,
}

impl Plan {
    /// Says whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.bad_indexes.is_empty() && self.unlisted.is_empty()
    }
}

/// A vault to be repaired, and one that may have copies.
pub struct Repair<'a> {
    reader: Arc<Reader>,
    from: Option<Arc<Reader>>,
    jobs: usize,
    environment: Environment<'a>,
}

impl<'a> Repair<'a> {
    /// Looks at nothing yet.
    ///
    /// # Errors
    /// `SameVault`.
    pub fn new(vault: &Vault, from: Option<&Vault>, jobs: usize, environment: Environment<'a>) -> Result<Self> {
        if let Some(from) = from.filter(|from| from.config().id == vault.config().id) {
            let path = from.store().describe();
            return Err(Error::SameVault { path });
        }
        Ok(Self {
            reader: Reader::new(vault.clone(), READER_CACHE),
            from: from.map(|from| Reader::new(from.clone(), READER_CACHE)),
            jobs,
            environment,
        })
    }

    fn check(&self) -> Result<()> {
        if self.environment.cancel.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        Ok(())
    }

    /// Finds out what backups have lost, as far as their references, footers and quarantine tell, and where copies are. Writes nothing.
    ///
    /// # Errors
    /// `Verify`, `Unreachable`, `Read`, `Vault`, `Interrupted`.
    pub fn plan(&self) -> Result<Plan> {
        let vault = self.reader.vault();
        let request = verify::Request {
            backups: None,
            depth: verify::Depth::Stored,
            slice: verify::Slice::WHOLE,
            jobs: self.jobs,
            rate: None,
            state: None,
            by: None,
        };
        let (report, lost) = verify::lost(vault, &request, self.environment)?;
        if let Some(first) = report.unreachable.first() {
            let count = report.more_unreachable;
            return Err(Error::Unreachable {
                count: count.saturating_add(crate::bytes::to_u64(report.unreachable.len())),
                object: first.object.clone(),
                what: first.what.clone(),
            });
        }
        let (steps, hopeless) = copies::find(self, lost)?;
        let indexes::State { bad, unlisted } = indexes::look(self)?;
        Ok(Plan {
            steps,
            hopeless,
            hurt: report.hurt,
            bad_indexes: bad,
            unlisted,
        })
    }

    /// Carries a plan out.
    ///
    /// # Errors
    /// `Read`, `Write`, `Vault`, `Interrupted`; what was repaired before stays repaired.
    pub fn run(&self, plan: &Plan) -> Result<()> {
        let vault = self.reader.vault();
        vault.check_writable()?;
        let lease = Arc::new(Lease::take(vault, lease::Kind::Repair, &crate::clock::System)?);
        let there = |step: &&Step| !matches!(step.copy, Copy::Here(_));
        if plan.steps.iter().any(|step| there(&step)) {
            let writer = Writer::open(&self.reader, &lease)?;
            self.environment.monitor.begin("store again", 0);
            for step in plan.steps.iter().filter(there) {
                self.check()?;
                self.store(&writer, step)?;
            }
            self.environment.monitor.end();
            writer.finish()?;
        }
        let moves: BTreeSet<(ObjectId, ObjectId)> = plan
            .steps
            .iter()
            .filter_map(|step| match step.copy {
                Copy::Here(pack) => Some((step.lost.pack, pack)),
                Copy::Same | Copy::There(_) => None,
            })
            .collect();
        for (old, new) in moves {
            // A prune is going to remove it, and nobody may begin to rely on it.
            if lease.is_marked(&new) {
                let new = crate::bytes::hex(&new);
                let text = format!("the copy in pack {new} is about to be pruned; repair again when that has happened");
                self.environment.monitor.warn(&text);
                continue;
            }
            vault.put_moved(&old, &new)?;
        }
        if !lease.is_whole()? {
            return Err(Error::Lapsed);
        }
        indexes::rebuild(self, &plan.unlisted, &plan.bad_indexes)
    }

    /// Stores a chunk again, from the pack where it is whole.
    fn store(&self, writer: &Writer, step: &Step) -> Result<()> {
        let Lost { kind, id, pack, .. } = step.lost;
        let (reader, from_pack) = match (step.copy, &self.from) {
            (Copy::There(there), Some(from)) => (from, there),
            (Copy::Here(here), _) => (&self.reader, here),
            _ => (&self.reader, pack),
        };
        let failed = |source| Error::Read {
            vault: reader.vault().store().describe(),
            source,
        };
        if kind == ObjectType::MetaPack {
            let place = PageRef {
                id: id.0,
                pack: from_pack,
            };
            let page = reader.any_page(&place).map_err(failed)?;
            writer.note_lost(&id, &pack);
            writer.add_any_page(&page, &id)?;
            return Ok(());
        }
        let entry = Entry { id, pack: from_pack };
        let (_, record) = reader.locate(kind, &id, &from_pack).map_err(failed)?;
        let plain_len = crate::bytes::to_usize(u64::from(record.plain_len));
        let fetched = reader.fetch_stored(&[(entry, plain_len)]);
        let fetched = fetched.map_err(|(_, source)| failed(source))?;
        writer.note_lost(&id, &pack);
        for stored in &fetched {
            writer.add(&Encoded {
                id,
                codec: stored.codec,
                stored: &stored.bytes,
                plain_len,
            })?;
        }
        self.environment.monitor.advance(u64::from(record.plain_len));
        Ok(())
    }
}

/// A lost chunk in words, for messages.
#[must_use]
pub fn name(kind: ObjectType, id: &ChunkId) -> String {
    match kind {
        ObjectType::MetaPack => format!("page {id}"),
        _ => format!("chunk {id}"),
    }
}
