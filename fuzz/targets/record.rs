//! A record that decodes is the one spelling of what it decodes to; all else is refused.

use vaultfs::store::Key;
use vaultfs::vault::record::{decode, encode};
use vaultfs::vault::{Lock, Pin, Tombstone};

/// Decodes the payload of a record as each kind that there is.
pub fn run(data: &[u8]) {
    let key = Key::new("pins/servers/web-01/2026-11-20T03-00-00Z").expect("a key");
    if let Ok(found) = decode::<Pin>(&key, data) {
        assert_eq!(encode(&key, &found).expect("what was decoded encodes"), data);
    }
    if let Ok(found) = decode::<Tombstone>(&key, data) {
        assert_eq!(encode(&key, &found).expect("what was decoded encodes"), data);
    }
    if let Ok(found) = decode::<Lock>(&key, data) {
        assert_eq!(encode(&key, &found).expect("what was decoded encodes"), data);
    }
}

/// A pin with every member filled in.
pub fn seed() -> Vec<u8> {
    let key = Key::new("pins/servers/web-01/2026-11-20T03-00-00Z").expect("a key");
    let pin = Pin {
        at: 1_795_143_600,
        by: "ann@desk".to_owned(),
        reason: "before the upgrade".to_owned(),
        until: Some(1_826_679_600),
    };
    encode(&key, &pin).expect("a record within the limits")
}
