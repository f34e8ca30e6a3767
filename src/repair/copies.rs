//! Looks for whole copies of lost chunks: through the footers of all packs, which nothing but the packs themselves can contradict.

use super::{Copy, Error, Repair, Result, Step};
use crate::chunk::{self, Reader};
use crate::vault::ChunkId;
use crate::vault::object::{ObjectId, ObjectType};
use crate::verify::{Lost, each};
use std::collections::{HashMap, HashSet};

/// Packs that are tried for one chunk.
const MAX_TRIED: usize = 8;

/// Where chunks are said to be.
type Found = HashMap<(ObjectType, ChunkId), Vec<ObjectId>>;

/// Tells lost chunks that can be had again from those that cannot.
pub(super) fn find(repair: &Repair<'_>, lost: Vec<Lost>) -> Result<(Vec<Step>, Vec<Lost>)> {
    let (mut steps, mut left) = (Vec::new(), Vec::new());
    if lost.is_empty() {
        return Ok((steps, left));
    }
    let here = packs(repair, &repair.reader, &lost)?;
    for lost in lost {
        repair.check()?;
        match choose(&repair.reader, &here, &lost)? {
            Some(pack) if pack == lost.pack => steps.push(Step { lost, copy: Copy::Same }),
            Some(pack) => steps.push(Step {
                lost,
                copy: Copy::Here(pack),
            }),
            None => left.push(lost),
        }
    }
    let (Some(from), false) = (&repair.from, left.is_empty()) else {
        return Ok((steps, left));
    };
    let there = packs(repair, from, &left)?;
    let mut hopeless = Vec::new();
    for lost in left {
        repair.check()?;
        match choose(from, &there, &lost)? {
            Some(pack) => steps.push(Step {
                lost,
                copy: Copy::There(pack),
            }),
            None => hopeless.push(lost),
        }
    }
    Ok((steps, hopeless))
}

/// The packs of a vault whose footers list any of these chunks.
fn packs(repair: &Repair<'_>, reader: &Reader, lost: &[Lost]) -> Result<Found> {
    let wanted: HashSet<(ObjectType, ChunkId)> = lost.iter().map(|lost| (lost.kind, lost.id)).collect();
    let kinds: HashSet<ObjectType> = lost.iter().map(|lost| lost.kind).collect();
    let mut names = Vec::new();
    for kind in kinds {
        names.extend(reader.vault().packs(kind)?.into_iter().map(|pack| (kind, pack)));
    }
    let listed = each(
        &names,
        repair.jobs,
        || (),
        |(), (kind, pack)| {
            if repair.check().is_err() {
                return Ok(Vec::new());
            }
            match reader.footer(*kind, pack) {
                Ok(footer) => {
                    let ids = footer.records().iter().map(|record| (*kind, record.id));
                    Ok(ids.filter(|name| wanted.contains(name)).collect::<Vec<_>>())
                }
                // What cannot be read has no copies.
                Err(error) if error.is_loss() => Ok(Vec::new()),
                Err(error) => Err(failed(reader, error)),
            }
        },
    );
    repair.check()?;
    let mut found = Found::new();
    for ((_, pack), chunks) in names.iter().zip(listed) {
        for name in chunks? {
            found.entry(name).or_default().push(*pack);
        }
    }
    Ok(found)
}

/// A pack that gives a chunk whole; another one than that which lost it, if there is.
fn choose(reader: &Reader, found: &Found, lost: &Lost) -> Result<Option<ObjectId>> {
    let mut packs = found.get(&(lost.kind, lost.id)).cloned().unwrap_or_default();
    packs.sort_by_key(|pack| *pack == lost.pack);
    let own = packs.last().copied().filter(|pack| *pack == lost.pack);
    packs.truncate(MAX_TRIED);
    for pack in packs.iter().chain(own.iter()) {
        let is_whole = reader.is_whole(lost.kind, &lost.id, pack);
        if is_whole.map_err(|error| failed(reader, error))? {
            return Ok(Some(*pack));
        }
    }
    Ok(None)
}

fn failed(reader: &Reader, source: chunk::Error) -> Error {
    Error::Read {
        vault: reader.vault().store().describe(),
        source,
    }
}
