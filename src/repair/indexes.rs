//! Makes indexes anew from the footers of packs.

use super::{Error, Repair, Result};
use crate::bytes::{hex, to_u64};
use crate::chunk;
use crate::store::Key;
use crate::vault::index::{self, MAX_INDEX, Record};
use crate::vault::object::{ObjectId, ObjectType};
use crate::vault::{self, index_key, random_id};
use std::collections::HashSet;

/// Records of one new index: far below what one may have, so that it can be merged.
const MAX_RECORDS: usize = 1 << 19;

/// What is wrong with the indexes of a vault.
pub(super) struct State {
    /// Damaged ones.
    pub(super) bad: Vec<Key>,
    /// Packs that no good one lists.
    pub(super) unlisted: Vec<ObjectId>,
}

/// Reads every index and compares what they list with the packs that there are.
pub(super) fn look(repair: &Repair<'_>) -> Result<State> {
    let vault = repair.reader.vault();
    // Packs first: one that comes later has an index of its own that comes later still.
    let mut left: HashSet<ObjectId> = vault.packs(ObjectType::Pack)?.into_iter().collect();
    let mut bad = Vec::new();
    for key in vault.store().list("index/").map_err(vault::Error::from)? {
        repair.check()?;
        let object = match vault.store().get(&key, MAX_INDEX) {
            Err(error) if error.is_not_found() => continue,
            Err(crate::store::Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::InvalidData => {
                bad.push(key);
                continue;
            }
            other => other.map_err(vault::Error::from)?,
        };
        let frame = vault.frame_of(&key);
        let payload = frame.and_then(|frame| frame.open(&object, key.as_str()).ok());
        match payload.and_then(|payload| Some((payload, index::decode(payload)?))) {
            Some((payload, records)) if index::is_canonical(payload, &records) => {
                records.iter().for_each(|record| _ = left.remove(&record.pack));
            }
            _ if frame.is_some() => bad.push(key),
            _ => {}
        }
    }
    let mut unlisted = Vec::new();
    for pack in left {
        repair.check()?;
        match repair.reader.footer(ObjectType::Pack, &pack) {
            Ok(_) => unlisted.push(pack),
            // Nothing of it can be listed.
            Err(error) if error.is_loss() => {}
            Err(source) => return Err(failed(repair, source)),
        }
    }
    unlisted.sort_unstable();
    Ok(State { bad, unlisted })
}

/// Lists packs in new indexes; then removes the damaged ones that these replace.
pub(super) fn rebuild(repair: &Repair<'_>, unlisted: &[ObjectId], bad: &[Key]) -> Result<()> {
    let vault = repair.reader.vault();
    let mut records: Vec<Record> = Vec::new();
    for pack in unlisted {
        repair.check()?;
        let footer = match repair.reader.footer(ObjectType::Pack, pack) {
            Ok(footer) => footer,
            Err(error) if error.is_loss() => continue,
            Err(source) => return Err(failed(repair, source)),
        };
        records.extend(footer.records().iter().map(|record| Record {
            id: record.id,
            pack: *pack,
            offset: record.offset,
            stored_len: record.stored_len,
            plain_len: record.plain_len,
        }));
        if records.len() >= MAX_RECORDS {
            put(repair, std::mem::take(&mut records))?;
        }
    }
    put(repair, records)?;
    for key in bad {
        match vault.store().delete(key) {
            Err(error) if !error.is_not_found() => return Err(vault::Error::from(error).into()),
            _ => {}
        }
    }
    Ok(())
}

fn put(repair: &Repair<'_>, records: Vec<Record>) -> Result<()> {
    if records.is_empty() {
        return Ok(());
    }
    let vault = repair.reader.vault();
    let id = random_id()?;
    let count = to_u64(records.len());
    let object = vault.frame(ObjectType::Index, id).seal(&index::encode(records));
    vault
        .store()
        .put_new(&index_key(&id)?, &object)
        .map_err(vault::Error::from)?;
    log::info!("index {} lists {count} chunks anew", hex(&id));
    Ok(())
}

fn failed(repair: &Repair<'_>, source: chunk::Error) -> Error {
    Error::Read {
        vault: repair.reader.vault().store().describe(),
        source,
    }
}
