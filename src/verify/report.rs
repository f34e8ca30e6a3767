//! What a verification found: collected from many threads, told at the end.

use super::walk::Lost;
use super::{Damage, Request, Slice};
use crate::store::Key;
use crate::vault::object::{ObjectId, ObjectType};
use crate::vault::{Address, ChunkId};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Most findings, and most objects that could not be read, that are told one by one; more are counted.
const MAX_TOLD: usize = 10_000;
/// After so many objects a store over a network is given up.
const PATIENCE: usize = 8;
/// Most lost chunks that are kept for a repair.
const MAX_LOST: usize = 1 << 22;

/// A promise of the format, by its name in `docs/format.md`, section "Invariants".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// Every object satisfies its frame.
    Frame,
    /// Every footer describes its pack gaplessly.
    Footer,
    /// Every record of a footer decodes to a chunk with its id.
    Chunk,
    /// Every reference of a chunk map leads to what it says.
    Map,
    /// Every manifest describes the backup its key names.
    Address,
    /// Every page of a tree is one, and every chunk of a file is where its item says.
    Tree,
    /// Every record of an index agrees with the footer it names.
    Index,
    /// Every record has the one form of its kind.
    Record,
}

impl Invariant {
    /// Its name.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Frame => "frame",
            Self::Footer => "footer",
            Self::Chunk => "chunk",
            Self::Map => "map",
            Self::Address => "address",
            Self::Tree => "tree",
            Self::Index => "index",
            Self::Record => "record",
        }
    }
}

/// What a finding means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// Bytes are lost, or may be.
    Lost,
    /// The object is not as it was written, but every chunk in it can be read, or it holds none.
    Harmless,
    /// What is lost here has been stored again elsewhere and is read there.
    Healed,
}

impl Fate {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Harmless => "harmless",
            Self::Healed => "healed",
        }
    }
}

/// A promise that an object breaks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// What it means.
    pub fate: Fate,
    /// Key of the object.
    pub object: String,
    /// The promise.
    pub invariant: Invariant,
    /// What is wrong.
    pub what: String,
}

/// An object that the store did not give.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Trouble {
    /// Its key.
    pub object: String,
    /// What the store said.
    pub what: String,
}

/// A part of a disk that is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HurtDisk {
    /// The disk.
    pub name: String,
    /// Lost ranges of its bytes, in order.
    pub ranges: Vec<Range<u64>>,
}

/// A file of which something is lost.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HurtFile {
    /// Its path below the backup, as `vaultfs ls` takes it.
    pub path: Vec<u8>,
    /// What of it, in words.
    pub what: String,
}

/// A backup of which something is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HurtBackup {
    /// The backup.
    pub address: Address,
    /// What is lost of its disks.
    pub disks: Vec<HurtDisk>,
    /// Files of which something is lost.
    pub files: Vec<HurtFile>,
    /// What else is to be said, in sentences.
    pub notes: Vec<String>,
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Which part of the vault was looked at.
    pub slice: Slice,
    /// Objects that were checked now.
    pub objects: u64,
    /// Objects that an earlier run had checked.
    pub resumed: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Chunks that were decoded and hashed.
    pub chunks: u64,
    /// Plain bytes of these.
    pub plain_bytes: u64,
    /// Backups that were walked.
    pub backups: u64,
    /// References of theirs that were looked up.
    pub references: u64,
    /// What is wrong, the worst first.
    pub findings: Vec<Finding>,
    /// Findings beyond those listed.
    pub more_findings: u64,
    /// What backups have lost.
    pub hurt: Vec<HurtBackup>,
    /// What the store did not give.
    pub unreachable: Vec<Trouble>,
    /// Objects beyond those listed, or that were not asked for after the store had failed so often.
    pub more_unreachable: u64,
    /// Chunks and packs that are in quarantine since this run.
    pub quarantined: u64,
    /// Packs that no index lists: their chunks are stored again when they come again.
    pub unlisted_packs: u64,
    /// Objects that the format does not know.
    pub foreign: Vec<String>,
}

impl Report {
    /// Says whether anything is damaged that has not been healed.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.findings.iter().any(|finding| finding.fate != Fate::Healed) || !self.hurt.is_empty()
    }

    /// Says whether everything that was asked for could be looked at.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.unreachable.is_empty() && self.more_unreachable == 0
    }
}

#[derive(Default)]
struct Collected {
    findings: BTreeSet<Finding>,
    more_findings: u64,
    unreachable: BTreeSet<Trouble>,
    more_unreachable: u64,
    damage: Damage,
    /// Chunks that backups refer to and cannot be had, with the packs that should hold them.
    lost: BTreeMap<(ChunkId, ObjectId), Lost>,
    /// Packs that an index names.
    listed: HashSet<ObjectId>,
    unlisted_packs: u64,
    foreign: Vec<String>,
}

/// What the threads of a verification have found so far.
pub(super) struct Notes {
    /// Held to add, never across I/O.
    collected: Mutex<Collected>,
    gave_up: AtomicBool,
    is_remote: bool,
    pub(super) objects: AtomicU64,
    pub(super) resumed: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) chunks: AtomicU64,
    pub(super) plain_bytes: AtomicU64,
    pub(super) references: AtomicU64,
    pub(super) quarantined: AtomicU64,
    /// A quarantine record could not be written, and that was said.
    pub(super) cannot_write: AtomicBool,
}

impl Notes {
    pub(super) fn new(is_remote: bool) -> Self {
        Self {
            collected: Mutex::default(),
            gave_up: AtomicBool::new(false),
            is_remote,
            objects: AtomicU64::new(0),
            resumed: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            chunks: AtomicU64::new(0),
            plain_bytes: AtomicU64::new(0),
            references: AtomicU64::new(0),
            quarantined: AtomicU64::new(0),
            cannot_write: AtomicBool::new(false),
        }
    }

    pub(super) fn finding(&self, finding: Finding) {
        let mut collected = self.collected.lock();
        if collected.findings.len() < MAX_TOLD {
            collected.findings.insert(finding);
        } else if !collected.findings.contains(&finding) {
            collected.more_findings = collected.more_findings.saturating_add(1);
        }
    }

    /// Takes note of an object that the store did not give; a store over a network that does so often is given up.
    pub(super) fn unreachable(&self, object: &str, error: &dyn std::error::Error) {
        let trouble = Trouble {
            object: object.to_owned(),
            what: chain(error),
        };
        let mut collected = self.collected.lock();
        if collected.unreachable.len() < MAX_TOLD {
            collected.unreachable.insert(trouble);
        } else {
            collected.more_unreachable = collected.more_unreachable.saturating_add(1);
        }
        if self.is_remote && collected.unreachable.len() >= PATIENCE {
            self.gave_up.store(true, Ordering::Relaxed);
        }
    }

    /// Says whether the store has been given up.
    pub(super) fn gave_up(&self) -> bool {
        self.gave_up.load(Ordering::Relaxed)
    }

    /// Takes note of objects that were not looked at because the store was given up.
    pub(super) fn skipped(&self, count: u64) {
        let mut collected = self.collected.lock();
        collected.more_unreachable = collected.more_unreachable.saturating_add(count);
    }

    /// Takes note of a chunk that is damaged in a pack; `None` for all of them.
    pub(super) fn damaged(&self, kind: ObjectType, pack: ObjectId, id: Option<ChunkId>) {
        self.collected.lock().damage.add(kind, pack, id);
    }

    /// What is damaged so far.
    pub(super) fn damage(&self) -> Damage {
        self.collected.lock().damage.clone()
    }

    /// Takes note of a chunk that a backup refers to and that cannot be had.
    pub(super) fn note_lost(&self, chunk: Lost) {
        let mut collected = self.collected.lock();
        if collected.lost.len() < MAX_LOST {
            collected.lost.insert((chunk.id, chunk.pack), chunk);
        }
    }

    /// All chunks that backups refer to and that cannot be had.
    pub(super) fn lost(&self) -> Vec<Lost> {
        self.collected.lock().lost.values().copied().collect()
    }

    /// Takes note of packs that an index names.
    pub(super) fn listed(&self, packs: impl IntoIterator<Item = ObjectId>) {
        self.collected.lock().listed.extend(packs);
    }

    /// Counts those of all packs that no index names.
    pub(super) fn count_unlisted(&self, packs: &HashSet<ObjectId>) {
        let mut collected = self.collected.lock();
        let unlisted = packs.difference(&collected.listed).count();
        collected.unlisted_packs = crate::bytes::to_u64(unlisted);
    }

    pub(super) fn foreign(&self, keys: &[Key]) {
        self.collected.lock().foreign = keys.iter().take(MAX_TOLD).map(Key::to_string).collect();
    }

    pub(super) fn into_report(self, request: &Request, backups: u64, hurt: Vec<HurtBackup>) -> Report {
        let Collected {
            findings,
            more_findings,
            unreachable,
            more_unreachable,
            unlisted_packs,
            foreign,
            ..
        } = self.collected.into_inner();
        Report {
            slice: request.slice,
            objects: self.objects.into_inner(),
            resumed: self.resumed.into_inner(),
            bytes: self.bytes.into_inner(),
            chunks: self.chunks.into_inner(),
            plain_bytes: self.plain_bytes.into_inner(),
            backups,
            references: self.references.into_inner(),
            findings: findings.into_iter().collect(),
            more_findings,
            hurt,
            unreachable: unreachable.into_iter().collect(),
            more_unreachable,
            quarantined: self.quarantined.into_inner(),
            unlisted_packs,
            foreign,
        }
    }
}

/// An error with all its causes in one sentence.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
