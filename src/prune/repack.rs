//! Packs of which little is needed: what is needed is stored again in new packs, and `moved/` records lead there.
//!
//! Nothing is removed here. Since a record leads away from it, the old pack is needed for nothing that was needed when it was repacked;
//! it is marked by the next prune and goes as every other pack does. Until then it is read as before.
//!
//! A writer may have come to rely on a chunk of the old pack that nobody needed before, and that is not in the new one: then the old
//! pack is needed for it, and stays. Deciding chunk by chunk (`needs`) is what makes this right.

use super::gather::Facts;
use super::listing::Listing;
use super::{Amount, Error, Prune, Result};
use crate::bytes::to_usize;
use crate::chunk::{self, Reader};
use crate::lease::{Kind, Lease};
use crate::reach::Object;
use crate::vault::map::{Entry, PageRef};
use crate::vault::object::{ObjectId, ObjectType};
use crate::vault::pack::Record;
use crate::vault::pack_key;
use crate::writer::{Encoded, Writer};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

/// Memory for pages.
const CACHE_BYTES: u64 = 32 << 20;
/// Stored bytes read at a time.
const BATCH_BYTES: u64 = 8 << 20;
/// Packs that lead to so many others already stay as they are: a reader looks into a bounded number.
const MAX_LED_TO: usize = 32;

/// A pack to be repacked.
struct Candidate {
    object: Object,
    /// The records that are needed.
    needed: Vec<Record>,
}

/// What there is to repack.
pub(super) struct Plan {
    candidates: Vec<Candidate>,
    reader: Arc<Reader>,
    /// The packs, as they are.
    pub(super) packs: Amount,
    /// Stored bytes of what is needed of them.
    pub(super) needed_bytes: u64,
}

/// Finds the packs of which less than `percent` of the stored bytes is needed by any backup that is there after this run; `None` where
/// nothing is to be repacked, or not everything is known.
pub(super) fn plan(prune: &Prune<'_>, facts: &Facts, percent: u8) -> Option<Plan> {
    let used = facts.used.as_ref().filter(|_| percent > 0)?;
    let reader = Reader::new(prune.vault.clone(), CACHE_BYTES);
    let mut plan = Plan {
        candidates: Vec::new(),
        reader: Arc::clone(&reader),
        packs: Amount::default(),
        needed_bytes: 0,
    };
    let listing = &facts.listing;
    let doomed = doomed(facts);
    let damaged: BTreeSet<&ObjectId> = listing.quarantine.iter().map(|(pack, _)| pack).collect();
    for ((object_type, pack), uses) in used {
        let is_fit = listing.packs_of(*object_type).contains(pack)
            && !doomed.contains(&(*object_type, *pack))
            && !damaged.contains(pack)
            && !uses.is_needed_whole()
            && listing.moved_from(pack).count() < MAX_LED_TO;
        if !is_fit || uses.needed_records() == 0 {
            continue;
        }
        let Ok(footer) = reader.footer(*object_type, pack) else {
            continue;
        };
        let total: u64 = footer.records().iter().map(|record| u64::from(record.stored_len)).sum();
        if uses.needed_bytes().saturating_mul(100) >= total.saturating_mul(u64::from(percent)) {
            continue;
        }
        let numbered = footer.records().iter().enumerate();
        let needed = numbered
            .filter(|(number, _)| uses.is_needed(*number))
            .map(|(_, record)| *record);
        plan.needed_bytes = plan.needed_bytes.saturating_add(uses.needed_bytes());
        plan.packs.add(total);
        plan.candidates.push(Candidate {
            object: (*object_type, *pack),
            needed: needed.collect(),
        });
    }
    // In an order that does not depend on where a table happened to put them.
    plan.candidates.sort_unstable_by_key(|candidate| candidate.object.1);
    Some(plan)
}

/// Where chunks of each pack were stored again, as far as those packs are there. The first that has a chunk is the one that counts, so
/// that those which were themselves stored again come last: else such a pack would be needed, and repacked, again and again.
pub(super) fn moves(listing: &Listing) -> BTreeMap<ObjectId, Vec<ObjectId>> {
    let mut moves = BTreeMap::<ObjectId, Vec<ObjectId>>::new();
    for (old, new) in &listing.moved {
        if listing.packs.contains(new) || listing.meta_packs.contains(new) {
            moves.entry(*old).or_default().push(*new);
        }
    }
    let led_on: BTreeSet<ObjectId> = moves.keys().copied().collect();
    for packs in moves.values_mut() {
        packs.sort_by_key(|pack| led_on.contains(pack));
    }
    moves
}

/// Packs that are marked, or removed by this run.
fn doomed(facts: &Facts) -> HashSet<Object> {
    let marks = facts.marks.good.values().chain([&facts.mark]);
    let of_type = |object_type: ObjectType| {
        let packs = marks.clone().flat_map(move |mark| mark.packs_of(object_type));
        packs.map(move |pack| (object_type, *pack))
    };
    of_type(ObjectType::Pack).chain(of_type(ObjectType::MetaPack)).collect()
}

/// Stores again what is needed of the packs of a plan.
pub(super) fn run(prune: &Prune<'_>, facts: &Facts, plan: &Plan) -> Result<()> {
    if plan.candidates.is_empty() {
        return Ok(());
    }
    let monitor = prune.environment.monitor;
    let lease = Arc::new(Lease::take(prune.vault, Kind::Repack, prune.environment.clock)?);
    let writer = Writer::open(&plan.reader, &lease)?;
    monitor.begin("repacking", plan.needed_bytes);
    let mut led = BTreeMap::<ObjectId, BTreeSet<ObjectId>>::new();
    for candidate in &plan.candidates {
        let (object_type, pack) = candidate.object;
        let to = led.entry(pack).or_default();
        for batch in batches(&candidate.needed) {
            prune.check()?;
            let copied = match object_type {
                ObjectType::MetaPack => copy_pages(plan, &writer, pack, batch, to),
                _ => copy(plan, &writer, pack, batch, to),
            };
            copied?;
            monitor.advance(batch.iter().map(|record| u64::from(record.stored_len)).sum());
        }
    }
    writer.finish()?;
    monitor.end();
    // The new packs are there. Whoever took this program for dead may have taken them for nobody's.
    if !lease.is_whole()? {
        return Err(Error::Lost);
    }
    for (old, new) in &led {
        // Who was led to the old pack is led on at once: a reader does not go many steps.
        let leading = facts
            .listing
            .moved
            .iter()
            .filter(|(_, led_to)| led_to == old)
            .map(|(before, _)| before);
        for before in leading.chain([old]) {
            for new in new {
                prune.vault.put_moved(before, new)?;
            }
        }
    }
    Ok(())
}

/// Records in groups of bounded size.
fn batches(records: &[Record]) -> impl Iterator<Item = &[Record]> {
    let mut rest = records;
    std::iter::from_fn(move || {
        let mut bytes = 0_u64;
        let fits = |record: &&Record| {
            bytes = bytes.saturating_add(u64::from(record.stored_len));
            bytes <= BATCH_BYTES
        };
        let count = rest.iter().take_while(fits).count().max(1);
        let (batch, after) = rest.split_at(count.min(rest.len()));
        rest = after;
        (!batch.is_empty()).then_some(batch)
    })
}

/// Reads and checks chunks of a pack, and adds them as they are stored; notes where they are now.
fn copy(plan: &Plan, writer: &Writer, pack: ObjectId, batch: &[Record], to: &mut BTreeSet<ObjectId>) -> Result<()> {
    let plain_len = |record: &Record| to_usize(u64::from(record.plain_len));
    let wanted: Vec<(Entry, usize)> = batch
        .iter()
        .map(|record| (Entry { id: record.id, pack }, plain_len(record)))
        .collect();
    let fetched = plan.reader.fetch_stored(&wanted);
    let chunks = fetched.map_err(|(_, source)| unreadable((ObjectType::Pack, pack), source))?;
    for (record, chunk) in batch.iter().zip(&chunks) {
        let (new, _) = writer.add(&Encoded {
            id: record.id,
            codec: chunk.codec,
            stored: &chunk.bytes,
            plain_len: plain_len(record),
        })?;
        to.insert(new);
    }
    Ok(())
}

/// As [`copy`], for pages.
fn copy_pages(
    plan: &Plan,
    writer: &Writer,
    pack: ObjectId,
    batch: &[Record],
    to: &mut BTreeSet<ObjectId>,
) -> Result<()> {
    for record in batch {
        let place = PageRef { id: record.id.0, pack };
        let page = plan.reader.any_page(&place);
        let page = page.map_err(|source| unreadable((ObjectType::MetaPack, pack), source))?;
        let (new, _) = writer.add_any_page(&page, &record.id)?;
        to.insert(new.pack);
    }
    Ok(())
}

fn unreadable((object_type, pack): Object, source: chunk::Error) -> Error {
    let key = pack_key(object_type, &pack).map_or_else(|_| crate::bytes::hex(&pack), |key| key.to_string());
    Error::Repack { key, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pack_that_was_itself_stored_again_counts_after_those_that_were_not() {
        let [old, first, second, third, gone] = [9, 1, 2, 3, 4].map(|name| [name; 16]);
        let listing = Listing {
            packs: BTreeSet::from([first, second, third]),
            moved: BTreeSet::from([(old, first), (old, second), (old, third), (old, gone), (first, third)]),
            ..Listing::default()
        };
        let expected = [(old, vec![second, third, first]), (first, vec![third])];
        assert_eq!(moves(&listing), BTreeMap::from(expected));
    }
}
