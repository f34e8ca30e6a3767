//! Each object by itself: read whole, checked, and read again if it is bad; only the same bad bytes twice are damage.

use super::examine::{self, Examined};
use super::plan::{Object, Plan};
use super::report::{Fate, Finding, Invariant};
use super::state::State;
use super::{Job, Result, crew, indexes};
use crate::bytes::{to_u64, to_usize};
use crate::checksum::Digest;
use crate::store::{self, again};
use crate::vault::index::MAX_INDEX;
use crate::vault::manifest::MAX_MANIFEST;
use crate::vault::mark::{MAX_MARK, Mark};
use crate::vault::object::{FRAME_LEN, ObjectId, ObjectType};
use crate::vault::pack::MAX_PACK;
use crate::vault::quarantine::{Quarantine, WHOLE};
use crate::vault::record::MAX_RECORD;
use crate::vault::{self, Address, ChunkId, Manifest};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Different bad bytes in a row that are put up with.
const MAX_DIFFERENT: usize = 6;
/// Bytes that are asked for at once: over a network, more would not come within the time of one request.
const PIECE: usize = 4 << 20;
/// Objects between two looks at whether to keep how far this came.
const GROUP: usize = 256;

/// Buffers of one thread.
#[derive(Default)]
pub(super) struct Buffers {
    object: Vec<u8>,
    plain: Vec<u8>,
}

/// What is wrong with an object, for good.
enum Verdict {
    /// It is gone since it was listed.
    Gone,
    Good,
    Bad(Examined),
}

/// Checks all objects of a plan; returns which are good.
pub(super) fn check_all(job: &Job<'_>, plan: &Plan) -> Result<State> {
    let state = Mutex::new(State::load(job));
    let (indexes, others): (Vec<&Object>, Vec<&Object>) = plan
        .objects
        .iter()
        .partition(|object| object.frame.object_type == ObjectType::Index);
    let monitor = job.environment.monitor;
    monitor.begin("verify objects", 0);
    let (done, all) = (AtomicU64::new(0), plan.objects.len());
    let fatal = Mutex::new(None);
    let one = |buffers: &mut Buffers, object: &&Object| {
        if job.is_cancelled() || fatal.lock().is_some() {
            return;
        }
        if state.lock().has(&object.frame) {
            job.notes.resumed.fetch_add(1, Ordering::Relaxed);
        } else {
            match check(job, object, buffers) {
                Ok(true) => state.lock().add(&object.frame),
                Ok(false) => {}
                Err(error) => *fatal.lock() = Some(error),
            }
        }
        let count = done.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        monitor.count(&format!("{count} of {all} objects"));
    };
    for group in others.chunks(GROUP) {
        crew::each(group, job.request.jobs, Buffers::default, one);
        state.lock().save_if_due(job);
    }
    // One after the other: an index is large, and what it is compared with comes from everywhere.
    crew::each(&indexes, 1, Buffers::default, one);
    monitor.end();
    if let Some(error) = fatal.into_inner() {
        return Err(error);
    }
    let (state, left) = (state.into_inner(), to_u64(all).saturating_sub(done.into_inner()));
    if job.notes.gave_up() {
        job.notes.skipped(left);
    } else if left > 0 {
        return Err(state.interrupted(job));
    }
    Ok(state)
}

/// Checks one object; says whether it is good.
fn check(job: &Job<'_>, object: &Object, buffers: &mut Buffers) -> Result<bool> {
    let verdict = match settle(job, object, buffers) {
        Ok(verdict) => verdict,
        Err(vault::Error::Store(error)) => {
            job.notes.unreachable(object.key.as_str(), &error);
            return Ok(false);
        }
        Err(error) => return Err(error.into()),
    };
    match verdict {
        Verdict::Gone => Ok(true),
        Verdict::Good => {
            job.notes.objects.fetch_add(1, Ordering::Relaxed);
            Ok(true)
        }
        Verdict::Bad(examined) => {
            job.notes.objects.fetch_add(1, Ordering::Relaxed);
            note(job, object, examined);
            Ok(false)
        }
    }
}

/// Reads an object until it is good or the same bad bytes came twice.
fn settle(job: &Job<'_>, object: &Object, buffers: &mut Buffers) -> vault::Result<Verdict> {
    let mut seen: Vec<Digest> = Vec::new();
    loop {
        let (examined, digest) = match read(job, object, buffers)? {
            None => return Ok(Verdict::Gone),
            Some(Ok(())) => {
                let examined = examine(job, object, buffers)?;
                if examined.problems.is_empty() {
                    let notes = &job.notes;
                    notes.chunks.fetch_add(examined.chunks, Ordering::Relaxed);
                    notes.plain_bytes.fetch_add(examined.plain_bytes, Ordering::Relaxed);
                    return Ok(Verdict::Good);
                }
                (examined, Digest::of(&buffers.object))
            }
            Some(Err(what)) => {
                let digest = Digest::of(what.as_bytes());
                let problems = vec![(Invariant::Frame, what)];
                (
                    Examined {
                        problems,
                        ..Examined::default()
                    },
                    digest,
                )
            }
        };
        if seen.contains(&digest) {
            return Ok(Verdict::Bad(examined));
        }
        if seen.len() >= MAX_DIFFERENT {
            return Err(again::unsteady(object.key.as_str()).into());
        }
        if !seen.is_empty() {
            log::warn!("{} came damaged in different ways", object.key);
        }
        seen.push(digest);
    }
}

/// Reads a whole object; `None` if it is gone, words if it does not have the length of one.
fn read(job: &Job<'_>, object: &Object, buffers: &mut Buffers) -> vault::Result<Option<Result<(), String>>> {
    let (store, key) = (job.vault().store(), &object.key);
    let framed = |payload: usize| to_u64(payload.saturating_add(FRAME_LEN));
    let limit = match object.frame.object_type {
        ObjectType::Pack | ObjectType::MetaPack => MAX_PACK,
        ObjectType::Index => MAX_INDEX,
        ObjectType::Manifest => framed(MAX_MANIFEST),
        ObjectType::Mark => framed(MAX_MARK),
        _ => framed(MAX_RECORD),
    };
    let len = match store.head(key) {
        Ok(len) => len,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if len > limit {
        return Ok(Some(Err(format!("it has {len} bytes, more than its kind may have"))));
    }
    // Memory of an earlier, larger object is used again.
    buffers.object.resize(to_usize(len), 0);
    let mut offset = 0u64;
    for piece in buffers.object.chunks_mut(PIECE) {
        let piece_len = to_u64(piece.len());
        job.rate.take(piece_len, job.environment.cancel);
        match store.read_range(key, offset, piece) {
            Ok(()) => {}
            Err(error) if error.is_not_found() => return Ok(None),
            Err(store::Error::Short { .. }) => return Ok(Some(Err("it ends before its own end".to_owned()))),
            Err(error) => return Err(error.into()),
        }
        offset = offset.saturating_add(piece_len);
    }
    job.notes.bytes.fetch_add(len, Ordering::Relaxed);
    job.environment.monitor.advance(len);
    Ok(Some(Ok(())))
}

fn examine(job: &Job<'_>, object: &Object, buffers: &mut Buffers) -> vault::Result<Examined> {
    let Object { key, frame } = object;
    let bytes = &buffers.object;
    let of = |invariant, what: String| Examined {
        problems: vec![(invariant, what)],
        ..Examined::default()
    };
    if matches!(frame.object_type, ObjectType::Pack | ObjectType::MetaPack) {
        return examine::pack(frame, bytes, key, job.request.depth, &mut buffers.plain);
    }
    let payload = match examine::frame(frame, bytes, key)? {
        Ok(payload) => payload,
        Err(what) => return Ok(of(Invariant::Frame, what)),
    };
    Ok(match frame.object_type {
        ObjectType::Index => {
            let problems = indexes::check(job, key, payload)?;
            Examined {
                problems: problems.into_iter().map(|what| (Invariant::Index, what)).collect(),
                ..Examined::default()
            }
        }
        ObjectType::Manifest => match address_of(key).map(|address| Manifest::decode(payload, &address)) {
            None | Some(Ok(_)) => Examined::default(),
            Some(Err(vault::Error::Corrupt { what, .. })) => of(Invariant::Address, what),
            Some(Err(error)) => return Err(error),
        },
        ObjectType::Mark if Mark::decode(payload).is_some() => Examined::default(),
        ObjectType::Mark => of(Invariant::Record, "it is not spelled as marks are".to_owned()),
        // One form for all kinds: JSON in its one spelling.
        _ => match job.vault().record::<serde_json::Value>(key) {
            Ok(_) => Examined::default(),
            Err(vault::Error::Corrupt { what, .. }) => of(Invariant::Record, what),
            // Renewed or given back in between, as leases are.
            Err(vault::Error::Store(error)) if error.is_not_found() => Examined::default(),
            Err(error) => return Err(error),
        },
    })
}

/// The backup that the key of a manifest names.
pub(super) fn address_of(key: &store::Key) -> Option<Address> {
    key.as_str().split_once('/')?.1.parse().ok()
}

/// Tells of a bad object, and puts into quarantine what of it is lost.
fn note(job: &Job<'_>, object: &Object, examined: Examined) {
    let (kind, id) = (object.frame.object_type, object.frame.object_id);
    let object = object.key.to_string();
    let tell = |fate, (invariant, what)| {
        let object = object.clone();
        job.notes.finding(Finding {
            fate,
            object,
            invariant,
            what,
        });
    };
    if !matches!(kind, ObjectType::Pack | ObjectType::MetaPack) {
        let fate = match kind {
            ObjectType::Manifest => Fate::Lost,
            _ => Fate::Harmless,
        };
        return examined.problems.into_iter().for_each(|problem| tell(fate, problem));
    }
    let mut chunks = Vec::new();
    for bad in &examined.bad_chunks {
        let fate = if is_healed(job, kind, &id, bad) {
            Fate::Healed
        } else {
            job.notes.damaged(kind, id, Some(*bad));
            quarantine(job, &id, bad, "its bytes are damaged");
            Fate::Lost
        };
        chunks.push(fate);
    }
    let pack = match (&examined.footer, chunks.iter().min()) {
        // Who knows of no chunk can only see that the pack has been stored again; the walk misses what has not.
        (None, _) => {
            job.notes.damaged(kind, id, None);
            quarantine(job, &id, &WHOLE, "its footer is damaged");
            let places = job.vault().moved_from(&id);
            match places.is_ok_and(|places| !places.is_empty()) {
                true => Fate::Healed,
                false => Fate::Lost,
            }
        }
        (Some(_), Some(worst)) => *worst,
        (Some(footer), None)
            if footer
                .records()
                .iter()
                .all(|record| is_healed(job, kind, &id, &record.id)) =>
        {
            Fate::Healed
        }
        (Some(_), None) => {
            quarantine(
                job,
                &id,
                &WHOLE,
                "its header or its hash is damaged, its chunks can be read",
            );
            Fate::Harmless
        }
    };
    let mut chunks = chunks.into_iter();
    for problem in examined.problems {
        let fate = match problem.0 {
            Invariant::Chunk => chunks.next().unwrap_or(pack),
            _ => pack,
        };
        tell(fate, problem);
    }
}

/// Says whether a chunk was stored again elsewhere and is whole there; a store that does not answer makes it lost only if no other thing
/// says so, and is told.
pub(super) fn is_healed(job: &Job<'_>, kind: ObjectType, pack: &ObjectId, id: &ChunkId) -> bool {
    match job.reader.whole_copy(kind, id, pack) {
        Ok(copy) => copy.is_some(),
        Err(error) => {
            job.notes.unreachable(&format!("chunk {id}"), &error);
            false
        }
    }
}

/// Records that a chunk is damaged; a vault that cannot be written to is verified all the same.
pub(super) fn quarantine(job: &Job<'_>, pack: &ObjectId, id: &ChunkId, what: &str) {
    let Some(by) = &job.request.by else { return };
    let found = Quarantine {
        at: job.environment.clock.now(),
        by: by.clone(),
        what: what.to_owned(),
    };
    match job.vault().put_quarantine(pack, id, &found) {
        Ok(true) => {
            job.notes.quarantined.fetch_add(1, Ordering::Relaxed);
        }
        Ok(false) => {}
        Err(error) => {
            if !job.notes.cannot_write.swap(true, Ordering::Relaxed) {
                let text = "what is damaged cannot be put into quarantine, so that later backups go on to rely on it";
                job.environment.monitor.warn(&format!("{text}: {error}"));
            }
        }
    }
}
