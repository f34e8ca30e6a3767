//! How far a run came, in a file of the user, so that the next run goes on from there.
//!
//! Only objects that were found good are remembered, by their ids. A file that is damaged, old, or of another vault or another kind of run is as
//! good as none.

use super::plan::rank;
use super::{Depth, Error, Job};
use crate::bytes::{field, hex, to_u64};
use crate::checksum::Digest;
use crate::clock::Seconds;
use crate::vault::object::{Frame, ObjectId};
use std::collections::HashSet;
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const MAGIC: [u8; 8] = *b"VFSVRFY\x01";
/// Magic, scope, and when the run began.
const HEAD: usize = 48;
const RECORD: usize = 17;
/// Largest file that is read: four million objects.
const MAX_FILE: u64 = 72 << 20;
/// What was checked longer ago is checked again.
const MAX_AGE: Seconds = 7 * 86_400;
/// How often a run keeps how far it came.
const DUE: Duration = Duration::from_secs(30);

/// The objects that were found good.
pub(super) struct State {
    good: HashSet<(u8, ObjectId)>,
    began: Seconds,
    saved: Instant,
}

/// What a run must have in common with the one before.
fn scope(job: &Job<'_>) -> Digest {
    let depth = match job.request.depth {
        Depth::Stored => "stored",
        Depth::Data => "data",
    };
    Digest::of(format!("{} {depth} {}", hex(&job.vault().config().id), job.request.slice).as_bytes())
}

fn path(job: &Job<'_>) -> Option<PathBuf> {
    let name = hex(scope(job).0.get(..16).unwrap_or_default());
    job.request.state.as_ref().map(|directory| directory.join(name))
}

impl State {
    /// What an earlier run left, or nothing.
    pub(super) fn load(job: &Job<'_>) -> Self {
        let now = job.environment.clock.now();
        let found = path(job).and_then(|path| decode(&read(&path)?, &scope(job)));
        let fresh = |(began, _): &(Seconds, _)| (0..MAX_AGE).contains(&now.saturating_sub(*began));
        let (began, good) = found.filter(fresh).unwrap_or((now, HashSet::new()));
        Self {
            good,
            began,
            saved: Instant::now(),
        }
    }

    /// Says whether an object was found good.
    pub(super) fn has(&self, frame: &Frame) -> bool {
        self.good.contains(&(rank(frame.object_type), frame.object_id))
    }

    /// Takes note of a good object.
    pub(super) fn add(&mut self, frame: &Frame) {
        self.good.insert((rank(frame.object_type), frame.object_id));
    }

    /// Keeps how far the run came if that was long ago.
    pub(super) fn save_if_due(&mut self, job: &Job<'_>) {
        if self.saved.elapsed() >= DUE {
            self.save(job);
            self.saved = Instant::now();
        }
    }

    /// Keeps how far the run came, and tells what that is good for.
    pub(super) fn interrupted(&self, job: &Job<'_>) -> Error {
        Error::Interrupted {
            objects: job.notes.objects.load(Ordering::Relaxed),
            next: if self.save(job) {
                "the same command again goes on from there"
            } else {
                "the next run begins anew: there is no place to keep how far this one came"
            },
        }
    }

    /// Keeps how far the run came; says whether there is a place for it.
    fn save(&self, job: &Job<'_>) -> bool {
        let Some(path) = path(job) else { return false };
        let saved = write(&path, &encode(&self.good, self.began, &scope(job)));
        if let Err(error) = &saved {
            log::warn!("{}: how far this run came cannot be kept: {error}", path.display());
        }
        saved.is_ok()
    }

    /// Forgets the run: it came to its end.
    pub(super) fn remove(&self, job: &Job<'_>) {
        if let Some(path) = path(job)
            && let Err(error) = std::fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            log::warn!("{} cannot be removed: {error}", path.display());
        }
    }
}

fn encode(good: &HashSet<(u8, ObjectId)>, began: Seconds, scope: &Digest) -> Vec<u8> {
    let mut out = Vec::with_capacity(good.len().saturating_mul(RECORD).saturating_add(HEAD + Digest::LEN));
    out.extend(MAGIC);
    out.extend(scope.0);
    out.extend(began.to_le_bytes());
    for (kind, id) in good {
        out.push(*kind);
        out.extend(id);
    }
    let digest = Digest::of(&out);
    out.extend(digest.0);
    out
}

fn decode(file: &[u8], wanted: &Digest) -> Option<(Seconds, HashSet<(u8, ObjectId)>)> {
    let (body, digest) = file.split_at_checked(file.len().checked_sub(Digest::LEN)?)?;
    let (head, records) = body.split_at_checked(HEAD)?;
    let sound = Digest::of(body).0 == digest && head.starts_with(&MAGIC) && field(head, 8)? == wanted.0;
    let (records, rest) = records.as_chunks::<RECORD>();
    let good = records
        .iter()
        .filter_map(|record| Some((*record.first()?, field(record, 1)?)));
    (sound && rest.is_empty()).then(|| Some((Seconds::from_le_bytes(field(head, 40)?), good.collect())))?
}

fn read(path: &Path) -> Option<Vec<u8>> {
    let file = std::fs::File::open(path).ok()?;
    let mut data = Vec::new();
    let len = file.take(MAX_FILE.saturating_add(1)).read_to_end(&mut data).ok()?;
    (to_u64(len) <= MAX_FILE).then_some(data)
}

fn write(path: &Path, data: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or(path);
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    // Always the same name, so that what a killed run leaves is written over. Two runs at once spoil each other's at worst: its hash tells.
    let temporary = path.with_extension("partial");
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)
        .and_then(|mut file| file.write_all(data))
        .and_then(|()| std::fs::rename(&temporary, path));
    written.inspect_err(|_| {
        // It may not be there; the error that counts is told.
        let _ = std::fs::remove_file(&temporary);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_is_found_again_and_nothing_that_was_changed() {
        let scope = Digest::of(b"scope");
        let good: HashSet<_> = [(1, [1; 16]), (2, [7; 16])].into();
        let file = encode(&good, 99, &scope);
        assert_eq!(decode(&file, &scope), Some((99, good)));
        assert_eq!(decode(&file, &Digest::of(b"other")), None);
        for at in 0..file.len() {
            let mut bad = file.clone();
            bad[at] ^= 1;
            assert_eq!(decode(&bad, &scope), None, "byte {at}");
            assert_eq!(decode(&file[..at], &scope), None, "length {at}");
        }
    }
}
