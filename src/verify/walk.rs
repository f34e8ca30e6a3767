//! Every reference of every backup, against footers and against what was found bad among the objects.
//!
//! A page that backups share is looked at once. What it has lost is remembered, so that every backup that it belongs to is told of.

use super::objects::quarantine;
use super::report::{Fate, Finding, HurtBackup, Invariant};
use super::{Damage, Error, Job, Result, Slice, inside, maps, names, trees};
use crate::bytes::{hex, to_usize};
use crate::chunk;
use crate::chunk::cache::Chunk;
use crate::store::Key;
use crate::vault::map::{Entry, PageRef};
use crate::vault::object::{ObjectId, ObjectType};
use crate::vault::pack::Footer;
use crate::vault::quarantine::WHOLE;
use crate::vault::{self, Address, ChunkId, Content, ResourceName, pack_key};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Backups of one resource, the newest of those that have lost something, whose files are looked for by name inside disks: each costs
/// reading all metadata of its file systems.
const NAMED_BACKUPS: usize = 3;

/// A chunk or page that a backup refers to and that cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    /// Whether it is a chunk of data or a page.
    pub kind: ObjectType,
    /// Its id.
    pub id: ChunkId,
    /// The pack that should hold it.
    pub pack: ObjectId,
    /// Its plain bytes; 0 for a page, which does not tell.
    pub plain_len: usize,
}

/// A page of a chunk map, and what its place demands of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct MapPage {
    pub(super) id: [u8; 32],
    pub(super) count: usize,
    pub(super) chunk_size: u32,
    pub(super) last_len: usize,
}

/// A page of a tree: its id and its level.
pub(super) type TreePage = ([u8; 32], u8);

/// One walk over many backups.
pub(super) struct Walk<'a> {
    pub(super) job: &'a Job<'a>,
    damage: Damage,
    slice: Slice,
    /// What each page that was looked at has lost.
    pub(super) maps: Mutex<HashMap<MapPage, Arc<maps::Losses>>>,
    pub(super) trees: Mutex<HashMap<TreePage, Arc<trees::Below>>>,
    /// Packs and manifests that the backups need, if that is what is wanted.
    needed: Option<Mutex<HashSet<(ObjectType, ObjectId)>>>,
}

/// A backup under way.
pub(super) struct Backup {
    key: Key,
    /// It was removed while it was walked: what it refers to may go.
    is_gone: AtomicBool,
}

/// A page that was asked for.
pub(super) enum Got {
    /// Its bytes, which match its id.
    Data(Chunk),
    /// It cannot be had any more.
    Lost,
    /// The store did not say, or the backup is gone.
    Unknown,
}

/// The footers that a page needs: neighbours lie in few packs.
pub(super) type Footers = HashMap<ObjectId, Option<Arc<Footer>>>;

/// The packs and manifests that some backups need.
pub(super) fn needed(job: &Job<'_>, addresses: &[Address]) -> Result<HashSet<(ObjectType, ObjectId)>> {
    let walk = Walk {
        needed: Some(Mutex::default()),
        ..Walk::new(job, Damage::default(), Slice::WHOLE)
    };
    job.environment.monitor.begin("list what is needed", 0);
    for address in addresses {
        if let Some(frame) = job.vault().frame_of(&manifest_key(address)?) {
            walk.need(frame.object_type, frame.object_id);
        }
        walk.backup(address)?;
    }
    job.environment.monitor.end();
    Ok(walk.needed.map(Mutex::into_inner).unwrap_or_default())
}

/// Walks backups; tells of each that has lost something, with the names of its files.
pub(super) fn check_all(job: &Job<'_>, addresses: &[Address]) -> Result<Vec<HurtBackup>> {
    let damage = job.notes.damage();
    // What was found bad may be named by pages of any slice.
    let slice = if damage.is_empty() {
        job.request.slice
    } else {
        Slice::WHOLE
    };
    let walk = Walk::new(job, damage, slice);
    job.environment.monitor.begin("verify backups", 0);
    let mut hurt = Vec::new();
    for (number, address) in addresses.iter().enumerate() {
        if let Some(found) = walk.backup(address)? {
            hurt.push(found);
        }
        let text = format!("{} of {} backups", number.saturating_add(1), addresses.len());
        job.environment.monitor.count(&text);
    }
    job.environment.monitor.end();
    walk.name_files(hurt)
}

/// Looks again at what is in quarantine: what has no whole copy elsewhere and is bad still counts as damaged.
pub(super) fn check_quarantined(job: &Job<'_>) -> Result<()> {
    for (pack, ids) in job.vault().quarantined()?.packs() {
        let reader = &job.reader;
        let kinds = [ObjectType::Pack, ObjectType::MetaPack];
        let footers = kinds.map(|kind| (kind, reader.footer(kind, pack)));
        let Some((kind, footer)) = footers
            .into_iter()
            .find_map(|(kind, footer)| Some((kind, footer.ok()?)))
        else {
            // Which kind of pack it was nobody knows any more; the walk meets it.
            continue;
        };
        if ids.contains(&WHOLE) {
            // The pack is damaged somewhere, and its chunks may all be there: they are stored again, so that nothing needs it any more.
            for record in footer.records() {
                if reader
                    .whole_copy(kind, &record.id, pack)
                    .map_err(Error::Read)?
                    .is_none()
                {
                    job.notes.note_lost(Lost {
                        kind,
                        id: record.id,
                        pack: *pack,
                        plain_len: to_usize(u64::from(record.plain_len)),
                    });
                }
            }
        }
        for id in ids.iter().filter(|id| footer.find(id).is_some()) {
            if !reader.is_whole(kind, id, pack).map_err(Error::Read)? {
                job.notes.damaged(kind, *pack, Some(*id));
            }
        }
    }
    Ok(())
}

fn manifest_key(address: &Address) -> Result<Key> {
    Ok(Key::new(format!("backups/{address}")).map_err(vault::Error::from)?)
}

fn key_text(kind: ObjectType, pack: &ObjectId) -> String {
    pack_key(kind, pack).map_or_else(|_| hex(pack), |key| key.to_string())
}

/// Tries again what came damaged: memory or a cable may have been to blame, and a record is for ever.
fn twice<T>(mut read: impl FnMut() -> chunk::Result<T>) -> chunk::Result<T> {
    match read() {
        Err(error) if error.is_loss() => read(),
        other => other,
    }
}

impl<'a> Walk<'a> {
    fn new(job: &'a Job<'a>, damage: Damage, slice: Slice) -> Self {
        Self {
            job,
            damage,
            slice,
            maps: Mutex::default(),
            trees: Mutex::default(),
            needed: None,
        }
    }

    fn need(&self, kind: ObjectType, id: ObjectId) {
        if let Some(needed) = &self.needed {
            needed.lock().insert((kind, id));
        }
    }

    /// Says whether a page is looked at in this run.
    pub(super) fn wants(&self, place: &PageRef) -> bool {
        self.slice.has(&place.pack)
    }

    pub(super) fn check_cancelled(&self) -> Result<()> {
        if self.job.environment.cancel.load(Ordering::Relaxed) {
            return Err(Error::Interrupted {
                objects: self.job.notes.objects.load(Ordering::Relaxed),
                next: "the next run walks the backups anew",
            });
        }
        Ok(())
    }

    /// Walks a backup; `None` if nothing of it is lost.
    fn backup(&self, address: &Address) -> Result<Option<HurtBackup>> {
        self.check_cancelled()?;
        if self.job.notes.gave_up() {
            self.job.notes.skipped(1);
            return Ok(None);
        }
        let backup = Backup {
            key: manifest_key(address)?,
            is_gone: AtomicBool::new(false),
        };
        let mut hurt = HurtBackup {
            address: address.clone(),
            disks: Vec::new(),
            files: Vec::new(),
            notes: Vec::new(),
        };
        let loaded = match self.job.vault().load(address) {
            Err(vault::Error::Corrupt { .. }) => self.job.vault().load(address),
            other => other,
        };
        let manifest = match loaded {
            Ok(manifest) => manifest,
            Err(vault::Error::NoBackup { .. }) => return Ok(None),
            Err(vault::Error::Corrupt { object, what }) => {
                self.job.notes.finding(Finding {
                    fate: Fate::Lost,
                    object,
                    invariant: Invariant::Frame,
                    what: what.clone(),
                });
                hurt.notes
                    .push(format!("its manifest is damaged ({what}): nothing of it can be read"));
                return Ok(Some(hurt));
            }
            Err(vault::Error::Store(error)) => {
                self.job.notes.unreachable(backup.key.as_str(), &error);
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        match &manifest.content {
            Content::Disks(disks) => {
                for disk in disks {
                    let lost = maps::disk(self, &backup, disk)?;
                    hurt.disks.extend(lost);
                }
            }
            Content::Tree(tree) => {
                let lost = trees::tree(self, &backup, tree)?;
                if !lost.is_empty() {
                    names::tell(self, tree, &lost, &mut hurt)?;
                }
            }
        }
        let is_hurt = !(hurt.disks.is_empty() && hurt.files.is_empty() && hurt.notes.is_empty());
        Ok(is_hurt.then_some(hurt))
    }

    /// Loads a page of a map or a tree.
    pub(super) fn page(
        &self,
        backup: &Backup,
        place: &PageRef,
        invariant: Invariant,
        load: impl Fn(&PageRef) -> chunk::Result<Chunk>,
    ) -> Got {
        self.need(ObjectType::MetaPack, place.pack);
        let error = match twice(|| load(place)) {
            Ok(data) => return Got::Data(data),
            Err(error) => error,
        };
        let page = Lost {
            kind: ObjectType::MetaPack,
            id: ChunkId(place.id),
            pack: place.pack,
            plain_len: 0,
        };
        if self.failed(backup, page, invariant, &error) {
            Got::Lost
        } else {
            Got::Unknown
        }
    }

    /// Tells of a page whose bytes are what was written, and that breaks its format.
    pub(super) fn malformed(&self, place: &PageRef, invariant: Invariant) {
        self.job.notes.finding(Finding {
            fate: Fate::Lost,
            object: key_text(ObjectType::MetaPack, &place.pack),
            invariant,
            what: format!("page {} breaks its format", ChunkId(place.id)),
        });
    }

    /// Looks a chunk of data up that a page refers to; says whether it is lost.
    pub(super) fn is_lost(
        &self,
        backup: &Backup,
        (entry, len): (&Entry, usize),
        invariant: Invariant,
        footers: &mut Footers,
    ) -> bool {
        self.job.notes.references.fetch_add(1, Ordering::Relaxed);
        self.need(ObjectType::Pack, entry.pack);
        if self.needed.is_some() {
            return false;
        }
        let reader = &self.job.reader;
        let chunk = Lost {
            kind: ObjectType::Pack,
            id: entry.id,
            pack: entry.pack,
            plain_len: len,
        };
        let fits = |plain_len: u32| usize::try_from(plain_len) == Ok(len);
        if !self.damage.has(ObjectType::Pack, &entry.pack, &entry.id) {
            let footer = footers
                .entry(entry.pack)
                .or_insert_with(|| reader.footer(ObjectType::Pack, &entry.pack).ok());
            let record = footer.as_ref().and_then(|footer| footer.find(&entry.id));
            if record.is_some_and(|record| fits(record.plain_len)) {
                return false;
            }
        }
        // It is damaged in its pack, or not there: read from wherever it is, it shows whether it is lost.
        match twice(|| reader.fetch(entry, len, &mut Vec::new())) {
            Ok(()) => false,
            Err(error) => self.failed(backup, chunk, invariant, &error),
        }
    }

    /// Takes note of what could not be had; says whether it is lost.
    fn failed(&self, backup: &Backup, chunk: Lost, invariant: Invariant, error: &chunk::Error) -> bool {
        let notes = &self.job.notes;
        if !error.is_loss() {
            notes.unreachable(&key_text(chunk.kind, &chunk.pack), error);
            return false;
        }
        if self.needed.is_some() || self.is_gone(backup) {
            return false;
        }
        notes.note_lost(chunk);
        if !self.damage.has(chunk.kind, &chunk.pack, &chunk.id) {
            notes.finding(Finding {
                fate: Fate::Lost,
                object: key_text(chunk.kind, &chunk.pack),
                invariant,
                what: error.to_string(),
            });
            let whole = self
                .job
                .reader
                .footer(chunk.kind, &chunk.pack)
                .is_err_and(|error| error.is_loss());
            let id = if whole { WHOLE } else { chunk.id };
            quarantine(self.job, &chunk.pack, &id, &error.to_string());
        }
        true
    }

    /// Says whether a backup has been removed since it was listed.
    fn is_gone(&self, backup: &Backup) -> bool {
        let gone = || matches!(self.job.vault().store().head(&backup.key), Err(error) if error.is_not_found());
        if backup.is_gone.load(Ordering::Relaxed) || gone() {
            backup.is_gone.store(true, Ordering::Relaxed);
            return true;
        }
        false
    }

    /// Looks for the files inside disks that have lost something.
    fn name_files(&self, mut hurt: Vec<HurtBackup>) -> Result<Vec<HurtBackup>> {
        let mut named: HashMap<ResourceName, usize> = HashMap::new();
        // The newest first: points of one resource are in order.
        for backup in hurt.iter_mut().rev().filter(|backup| !backup.disks.is_empty()) {
            self.check_cancelled()?;
            let count = named.entry(backup.address.resource.clone()).or_default();
            *count = count.saturating_add(1);
            if *count > NAMED_BACKUPS {
                backup.notes.push(format!(
                    "files are named for the newest {NAMED_BACKUPS} damaged backups of {} only; verify this address to see its own",
                    backup.address.resource
                ));
                continue;
            }
            // It was loaded a moment ago; if it cannot be now, its disks are told without files.
            if let Ok(manifest) = self.job.vault().load(&backup.address) {
                inside::name(self, &manifest, backup);
            }
        }
        Ok(hurt)
    }
}
