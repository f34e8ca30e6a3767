//! What a session stores, and when.

use super::*;
use crate::store::memory::MemoryStore;

fn lease(vault: &Vault) -> Arc<Lease> {
    Arc::new(Lease::take(vault, lease::Kind::Backup, &crate::clock::System).unwrap())
}

#[test]
fn chunks_written_out_early_are_found_again() {
    let config = vault::new_config("test", 1 << 16, &crate::clock::System).unwrap();
    let vault = Vault::create(Arc::new(MemoryStore::new()), config).unwrap();
    let reader = Reader::new(vault.clone(), 8 << 20);
    let lease = lease(&vault);
    let mut writer = Writer::open(&reader, &lease).unwrap();
    writer.fresh_limit = 4;
    let plain = |number: u32| vec![number.to_le_bytes()[0] + 1; 1 << 16];
    for number in 0..10 {
        let plain = plain(number);
        let id = ChunkId::of(&plain);
        let chunk = Encoded {
            id,
            codec: Codec::Raw,
            stored: &plain,
            plain_len: plain.len(),
        };
        writer.add(&chunk).unwrap();
        assert!(writer.fresh.lock().len() < 4);
    }
    writer.finish().unwrap();
    assert_eq!(vault.store().list("index/").unwrap().len(), 3);
    let next = Writer::open(&reader, &lease).unwrap();
    for number in 0..10 {
        let found = next.find(&ChunkId::of(&plain(number)), 1 << 16, None).unwrap();
        assert!(found.is_some(), "chunk {number}");
    }
    assert_eq!(next.find(&ChunkId::of(b"other"), 5, None).unwrap(), None);
}

#[test]
fn chunks_of_a_session_that_never_ended_are_found_by_its_checkpoint() {
    let config = vault::new_config("test", 1 << 16, &crate::clock::System).unwrap();
    let vault = Vault::create(Arc::new(MemoryStore::new()), config).unwrap();
    let reader = Reader::new(vault.clone(), 8 << 20);
    let lease = lease(&vault);
    let writer = Writer::open(&reader, &lease).unwrap();
    let plain = |number: u32| [number.to_le_bytes(); 1 << 14].concat();
    let add = |number| {
        let (plain, codec) = (plain(number), Codec::Raw);
        let (id, stored, plain_len) = (ChunkId::of(&plain), &plain[..], plain.len());
        let chunk = Encoded {
            id,
            codec,
            stored,
            plain_len,
        };
        writer.add(&chunk).unwrap();
    };
    // The first pack is full and on its way, the second is not.
    (1..300).for_each(add);
    writer.checkpoint().unwrap();
    (300..600).for_each(add);
    writer.checkpoint().unwrap();
    assert_eq!(vault.store().list("index/").unwrap().len(), 1);
    while vault.store().list("packs/").unwrap().len() < 2 {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let next = Writer::open(&reader, &lease).unwrap();
    let found = |number| next.find(&ChunkId::of(&plain(number)), 1 << 16, None).unwrap();
    assert!(found(1).is_some() && found(257).is_some());
    assert_eq!(found(599), None, "its pack was never stored");
    writer.finish().unwrap();
    assert_eq!(vault.store().list("index/").unwrap().len(), 1);
    assert!(
        Writer::open(&Reader::new(vault, 8 << 20), &lease)
            .unwrap()
            .find(&ChunkId::of(&plain(599)), 1 << 16, None)
            .unwrap()
            .is_some()
    );
}
