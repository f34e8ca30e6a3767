//! `.vaultfs/status`: what a mount has asked of a store over a network, and what it had already; for people and jq.

use crate::bytes::{to_u64, to_usize};
use crate::chunk::Reader;
use serde_json::{Value, json};

/// Size of the file whatever it says, so that it need not be made to be looked at.
pub(super) const STATUS_BYTES: u64 = 1024;

/// The text of the file now: JSON, then spaces up to its size.
pub(super) fn text(reader: &Reader) -> String {
    let memory = reader.cache().counters();
    let mut status = json!({
        "memory": {
            "hits": memory.hits,
            "loads": memory.loads,
            "bytes": to_u64(reader.cache().used()),
            "limit_bytes": to_u64(reader.cache().limit()),
        },
    });
    if let (Some(object), Some(local)) = (status.as_object_mut(), reader.vault().local()) {
        let traffic = &local.traffic;
        let store = json!({
            "reach": local.reach.word(),
            "requests": traffic.requests(),
            "failures": traffic.failures(),
            "fetched_bytes": traffic.bytes(),
            "max_egress_bytes": traffic.most_bytes(),
            "round_trip_seconds": traffic.round_trip().as_secs_f64(),
        });
        object.insert("store".into(), store);
        let cache = local.kept.as_ref().map(|kept| {
            let (hits, misses) = kept.counters();
            json!({ "hits": hits, "misses": misses })
        });
        object.insert("cache_directory".into(), cache.unwrap_or(Value::Null));
    }
    let width = to_usize(STATUS_BYTES).saturating_sub(1);
    format!("{:<width$}\n", format!("{status:#}"))
}
