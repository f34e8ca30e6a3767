//! A record of a lease that decodes is the one spelling of what it decodes to; all else is refused. So is every key that is no lease's.

use vaultfs::lease::{Kind, Name, Record, process::Process};
use vaultfs::store::Key;
use vaultfs::vault::record::{decode, encode};

/// Where the record of the seed lies.
const KEY: &str = "leases/0123456789abcdef0123456789abcdef-00000001";

/// Decodes the payload of a record of a lease, and takes the same bytes for the name of one.
pub fn run(data: &[u8]) {
    let key = Key::new(KEY).expect("a key");
    if let Ok(found) = decode::<Record>(&key, data) {
        assert_eq!(encode(&key, &found).expect("what was decoded encodes"), data);
    }
    let text = String::from_utf8_lossy(data);
    if let Ok(key) = Key::new(format!("leases/{text}"))
        && let Some(name) = Name::of(&key)
    {
        assert_eq!(name.key().expect("a lease has a key"), key);
    }
}

/// A lease with every member filled in.
pub fn seed() -> Vec<u8> {
    let key = Key::new(KEY).expect("a key");
    let record = Record {
        kind: Kind::Backup,
        process: Process {
            host: "web-01".to_owned(),
            boot: "0f0e0d0c-0b0a-4908-8706-050403020100".to_owned(),
            pid_namespace: "pid:[4026531836]".to_owned(),
            pid: 77,
            pid_start: 123_456,
        },
        started: 1_795_143_600,
        renewed: 1_795_143_660,
        seen: vec!["00112233445566778899aabbccddeeff".to_owned()],
    };
    encode(&key, &record).expect("a record within the limits")
}
