//! Every record of an index against the footer it names.

use super::Job;
use crate::chunk;
use crate::store::Key;
use crate::vault::index;
use crate::vault::object::{ObjectId, ObjectType};
use crate::vault::{self};
use std::collections::HashMap;

/// Most problems of one index that are told.
const MAX_TOLD: usize = 16;

/// What is wrong with an index; a record that names a pack that is not there is not: such an index was written ahead.
///
/// # Errors
/// `Store` if a footer cannot be read.
pub(super) fn check(job: &Job<'_>, key: &Key, payload: &[u8]) -> vault::Result<Vec<String>> {
    let Some(mut records) = index::decode(payload) else {
        return Ok(vec!["it does not have the form of an index".to_owned()]);
    };
    let mut problems = Vec::new();
    if !index::is_canonical(payload, &records) {
        problems.push("its records are not in order, or its table does not find them".to_owned());
    }
    // Pack by pack, so that each footer is read once.
    records.sort_unstable_by_key(|record| (record.pack, record.id));
    let mut there: HashMap<ObjectId, bool> = HashMap::new();
    for group in records.chunk_by(|a, b| a.pack == b.pack) {
        let Some(first) = group.first() else { continue };
        let footer = match job.reader.footer(ObjectType::Pack, &first.pack) {
            Ok(footer) => footer,
            // A damaged pack is told of by itself.
            Err(chunk::Error::Missing { .. } | chunk::Error::Corrupt { .. }) => continue,
            Err(chunk::Error::Unavailable { object, source }) => {
                job.notes.unreachable(&object, &source);
                continue;
            }
            Err(error) => {
                job.notes.unreachable(key.as_str(), &error);
                continue;
            }
        };
        there.insert(first.pack, true);
        for record in group {
            let agrees = footer.find(&record.id).is_some_and(|found| {
                (found.offset, found.stored_len, found.plain_len)
                    == (record.offset, record.stored_len, record.plain_len)
            });
            if !agrees && problems.len() < MAX_TOLD {
                let pack = crate::bytes::hex(&record.pack);
                problems.push(format!(
                    "its record of chunk {} does not agree with pack {pack}",
                    record.id
                ));
            }
        }
    }
    job.notes.listed(there.into_keys());
    Ok(problems)
}
