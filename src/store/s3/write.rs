//! Writing an object that must not be there yet, through lost answers and servers that keep two writers apart or do not.
//!
//! Every name is looked up before: a vault may have been moved to another server since it was found out what its server does. Where
//! that honours `If-None-Match: *` it decides, atomically. Where it does not, what was written is compared after: that finds every
//! writer but one who writes the same name in the same moment. Large objects go up in parts, which no condition covers
//! everywhere; they are packs and indexes, whose names are random.

use super::S3Store;
use super::patience::Patience;
use super::verdict::Verdict;
use crate::bytes::to_u64;
use crate::store::Exclusion;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{MultipartId, ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Objects above this go up in parts. Every object whose name two writers could choose alike (the vault object, a manifest) is
/// smaller: docs/format.md, sections 2, 3 and 8.
const MULTIPART_ABOVE: usize = (16 << 20) + 4096;
/// Bytes of a part.
const PART: usize = 8 << 20;
/// Parts on their way at once.
const PARTS_AT_ONCE: usize = 4;
/// Objects up to this are compared whole when they are read back.
const COMPARED_WHOLE: usize = 1 << 20;
/// How long the parts of a failed upload are tried to be removed.
const ABORT: Duration = Duration::from_secs(10);
/// Writers that race in a probe.
const RACERS: u8 = 8;

impl S3Store {
    fn patience(&self, len: usize) -> Patience {
        Patience::writing(self.write_patience, len)
    }

    /// Makes a new object; `Exists` if there is one, which stays as it is.
    pub(super) fn write(&self, path: &Path, data: &[u8]) -> Result<(), Verdict> {
        if self.is_there(path)? {
            return Err(Verdict::Exists);
        }
        if data.len() > MULTIPART_ABOVE {
            return self.put_parts(path, data);
        }
        self.put_whole(path, data)?;
        if self.exclusive.load(Ordering::Relaxed) && !self.unconditional.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.check(path, data)
    }

    /// Says whether there is an object, without asking for a second opinion.
    fn is_there(&self, path: &Path) -> Result<bool, Verdict> {
        self.insist(self.patience(0), async || {
            match self.ask(self.reader.head(path)).await {
                Ok(_) => Ok(true),
                Err(Verdict::Absent) => Ok(false),
                Err(other) => Err(other),
            }
        })
    }

    /// Writes in one request. An object found after an attempt whose answer was lost may be ours: its bytes tell.
    fn put_whole(&self, path: &Path, data: &[u8]) -> Result<(), Verdict> {
        let payload = PutPayload::from(data.to_vec());
        let mut earlier = false;
        self.insist(self.patience(data.len()), async || {
            let after_another = std::mem::replace(&mut earlier, true);
            match self.create(path, payload.clone()).await {
                Err(Verdict::Exists) if after_another => self.is_ours(path, data).await,
                other => other,
            }
        })
    }

    /// One request to make the object, with the condition that it is not there if the server knows conditions.
    async fn create(&self, path: &Path, payload: PutPayload) -> Result<(), Verdict> {
        if !self.unconditional.load(Ordering::Relaxed) {
            let put = self.writer.put_opts(path, payload.clone(), PutMode::Create.into());
            match self.ask(put).await {
                Err(Verdict::Unsupported) => self.unconditional.store(true, Ordering::Relaxed),
                other => return other.map(drop),
            }
        }
        let put = self.writer.put_opts(path, payload, PutMode::Overwrite.into());
        self.ask(put).await.map(drop)
    }

    async fn is_ours(&self, path: &Path, data: &[u8]) -> Result<(), Verdict> {
        match self.whole(path, to_u64(data.len())).await {
            Ok(found) if found == data => Ok(()),
            Ok(_) | Err(Verdict::TooLarge) => Err(Verdict::Exists),
            Err(other) => Err(other),
        }
    }

    /// Reads back what was written: whole if it is small, else its length.
    fn check(&self, path: &Path, data: &[u8]) -> Result<(), Verdict> {
        self.insist(self.patience(data.len().min(COMPARED_WHOLE)), async || {
            if data.len() <= COMPARED_WHOLE {
                return self.is_ours(path, data).await;
            }
            match self.size(path).await? {
                size if size == to_u64(data.len()) => Ok(()),
                _ => Err(Verdict::Exists),
            }
        })
    }

    fn put_parts(&self, path: &Path, data: &[u8]) -> Result<(), Verdict> {
        let start = async || self.ask(self.writer.create_multipart(path)).await;
        let upload = self.insist(self.patience(0), start)?;
        let sent = self.send_parts(path, &upload, data);
        let done = sent.and_then(|parts| self.complete(path, &upload, parts, data));
        if done.is_err() {
            self.abort(path, &upload);
        }
        done
    }

    /// Sends all parts, a few at once; after the first failure no further one is begun.
    fn send_parts(&self, path: &Path, upload: &MultipartId, data: &[u8]) -> Result<Vec<PartId>, Verdict> {
        let waiting = Mutex::new(data.chunks(PART).enumerate());
        let done = Mutex::new(Ok(BTreeMap::new()));
        std::thread::scope(|scope| {
            for _ in 0..PARTS_AT_ONCE {
                scope.spawn(|| {
                    loop {
                        let next = waiting.lock().next().filter(|_| done.lock().is_ok());
                        let Some((number, part)) = next else { return };
                        let sent = self.send_part(path, upload, number, part);
                        let mut done = done.lock();
                        match (sent, done.as_mut()) {
                            (Ok(part), Ok(parts)) => drop(parts.insert(number, part)),
                            (Err(verdict), Ok(_)) => *done = Err(verdict),
                            (_, Err(_)) => {}
                        }
                    }
                });
            }
        });
        done.into_inner().map(|parts| parts.into_values().collect())
    }

    fn send_part(&self, path: &Path, upload: &MultipartId, number: usize, part: &[u8]) -> Result<PartId, Verdict> {
        let payload = PutPayload::from(part.to_vec());
        self.insist(self.patience(part.len()), async || {
            let put = self.writer.put_part(path, upload, number, payload.clone());
            self.ask(put).await
        })
    }

    /// Makes the parts one object. When the upload is gone after a lost answer, the object tells whether it was done.
    fn complete(&self, path: &Path, upload: &MultipartId, parts: Vec<PartId>, data: &[u8]) -> Result<(), Verdict> {
        let mut earlier = false;
        self.insist(self.patience(data.len()), async || {
            let after_another = std::mem::replace(&mut earlier, true);
            let put = self.writer.complete_multipart(path, upload, parts.clone());
            match self.ask(put).await {
                Err(Verdict::NoUpload | Verdict::Absent) if after_another => Ok(()),
                other => other.map(drop),
            }
        })?;
        self.check(path, data)
    }

    /// Removes the parts of a failed upload, as far as the server can be reached.
    fn abort(&self, path: &Path, upload: &MultipartId) {
        let aborted = self.insist(Patience::writing(ABORT, 0), async || {
            match self.ask(self.writer.abort_multipart(path, upload)).await {
                Err(Verdict::NoUpload | Verdict::Absent) => Ok(()),
                other => other,
            }
        });
        if let Err(verdict) = aborted {
            let place = &self.place;
            log::warn!("{place}: the parts of the failed upload of {path} stay behind, unseen and paid for: {verdict}");
        }
    }

    /// Finds out whether the server keeps two writers of one name apart, first one after the other, then several at once.
    pub(super) fn probe(&self) -> Result<Exclusion, Verdict> {
        let mut id = [0; 16];
        crate::bytes::fill_random(&mut id).map_err(|error| Verdict::Failed(error.to_string()))?;
        let id = crate::bytes::hex(&id);
        let [one, many] = ["one", "many"].map(|kind| self.path(&format!("probe/{id}-{kind}")));
        let probed = match self.probe_one(&one) {
            Ok(Exclusion::Atomic) => self.probe_many(&many),
            other => other,
        };
        for name in [&one, &many] {
            let deleted = self.insist(self.patience(0), async || self.ask(self.writer.delete(name)).await);
            match deleted {
                Ok(()) | Err(Verdict::Absent) => {}
                Err(verdict) => log::warn!("{}: the probe {name} cannot be removed: {verdict}", self.place),
            }
        }
        probed
    }

    fn probe_one(&self, path: &Path) -> Result<Exclusion, Verdict> {
        self.put_whole(path, b"first")?;
        match self.try_create(path, b"second") {
            Err(Verdict::Exists) => Ok(Exclusion::Atomic),
            Ok(()) => Ok(Exclusion::Checked),
            Err(other) => Err(other),
        }
    }

    fn probe_many(&self, path: &Path) -> Result<Exclusion, Verdict> {
        let results: Vec<_> = std::thread::scope(|scope| {
            let race = |number| scope.spawn(move || self.try_create(path, &[number]));
            let racers: Vec<_> = (0..RACERS).map(race).collect();
            racers.into_iter().map(std::thread::ScopedJoinHandle::join).collect()
        });
        let mut winners = 0u8;
        for result in results {
            match result {
                Ok(Ok(())) => winners = winners.saturating_add(1),
                Ok(Err(Verdict::Exists)) => {}
                Ok(Err(other)) => return Err(other),
                Err(_) => return Err(Verdict::Failed("a thread of the probe panicked".to_owned())),
            }
        }
        Ok(if winners == 1 {
            Exclusion::Atomic
        } else {
            Exclusion::Checked
        })
    }

    fn try_create(&self, path: &Path, data: &[u8]) -> Result<(), Verdict> {
        let payload = PutPayload::from(data.to_vec());
        self.insist(self.patience(data.len()), async || {
            self.create(path, payload.clone()).await
        })
    }
}
