//! One suite of promises that every store keeps, and what the local store does beside them: no litter, modes, syncing.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;
#[path = "store/local.rs"]
mod local;
#[path = "objects/mod.rs"]
mod objects;
#[path = "store/s3.rs"]
mod s3;

use std::sync::{Arc, Barrier};
use tempfile::TempDir;
use vaultfs::store::fault::{Fault, FaultStore, When};
use vaultfs::store::local::LocalStore;
use vaultfs::store::memory::MemoryStore;
use vaultfs::store::record::{Call, RecordingStore};
use vaultfs::store::{Error, Key, Store};

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

/// Runs every fact of the suite on a fresh store, and names the one that fails.
macro_rules! conformance {
    ($($store:ident: $make:expr;)*) => {$(
        mod $store {
            use super::*;
            facts! { $make;
                an_object_reads_back_as_it_was_written
                put_new_never_overwrites
                of_many_writers_of_one_key_exactly_one_wins
                a_range_is_exact_or_an_error
                what_is_not_there_is_not_found
                a_prefix_of_keys_is_no_object
                an_object_above_the_limit_is_not_read
                a_listing_is_sorted_and_complete
                a_listing_shows_each_acknowledged_object_while_others_are_written
                a_deleted_object_is_gone_and_its_name_is_free
            }
        }
    )*};
}

macro_rules! facts {
    ($make:expr; $($fact:ident)*) => {$(
        #[test]
        fn $fact() {
            let (_guard, store) = $make;
            super::$fact(&store);
        }
    )*};
}

conformance! {
    directory: { let dir = TempDir::new().unwrap(); let store = LocalStore::open(dir.path()).unwrap(); (dir, store) };
    memory: ((), MemoryStore::new());
    recording: ((), RecordingStore::new(MemoryStore::new()));
    faulty_without_a_plan: ((), FaultStore::new(MemoryStore::new()));
    recording_directory: {
        let dir = TempDir::new().unwrap();
        let store: Arc<dyn Store> = Arc::new(RecordingStore::new(LocalStore::open(dir.path()).unwrap()));
        (dir, store)
    };
}

fn an_object_reads_back_as_it_was_written(store: &dyn Store) {
    for (name, data) in [
        ("empty", Vec::new()),
        ("one", vec![7]),
        ("packs/0a/0a1b", vec![1, 2, 3]),
        ("large", (0..3_000_000u32).map(|at| at.to_le_bytes()[1]).collect()),
    ] {
        store.put_new(&key(name), &data).unwrap();
        let len = u64::try_from(data.len()).unwrap();
        assert_eq!(store.head(&key(name)).unwrap(), len);
        assert_eq!(store.get(&key(name), len).unwrap(), data);
        assert_eq!(store.get_range(&key(name), 0, data.len()).unwrap(), data);
    }
    assert!(!store.describe().is_empty());
}

fn put_new_never_overwrites(store: &dyn Store) {
    store.put_new(&key("a/b"), b"first").unwrap();
    for other in [b"second".as_slice(), b"", b"first"] {
        let refused = store.put_new(&key("a/b"), other);
        assert!(matches!(refused, Err(Error::AlreadyExists { key }) if key == "a/b"));
        assert_eq!(store.get(&key("a/b"), 100).unwrap(), b"first");
    }
    assert_eq!(store.list("").unwrap(), [key("a/b")]);
}

fn of_many_writers_of_one_key_exactly_one_wins(store: &dyn Store) {
    const WRITERS: u8 = 8;
    for round in 0..20 {
        let name = key(&format!("race/{round}"));
        let barrier = Barrier::new(WRITERS.into());
        let content = |writer: u8| vec![writer; 10_000 + usize::from(writer)];
        let put = |writer| {
            barrier.wait();
            (writer, store.put_new(&name, &content(writer)))
        };
        let results: Vec<_> = std::thread::scope(|scope| {
            let put = &put;
            let threads: Vec<_> = (0..WRITERS).map(|writer| scope.spawn(move || put(writer))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let winners: Vec<u8> = results
            .iter()
            .filter(|(_, put)| put.is_ok())
            .map(|(writer, _)| *writer)
            .collect();
        assert_eq!(winners.len(), 1, "{results:?}");
        let lost = |(_, put): &&(u8, Result<(), Error>)| matches!(put, Err(Error::AlreadyExists { .. }));
        assert_eq!(results.iter().filter(lost).count(), 7, "{results:?}");
        assert_eq!(store.get(&name, 1 << 20).unwrap(), content(winners[0]));
    }
}

fn a_range_is_exact_or_an_error(store: &dyn Store) {
    let data: Vec<u8> = (0..=255).collect();
    store.put_new(&key("a"), &data).unwrap();
    for (offset, len) in [(0, 0), (0, 256), (0, 1), (255, 1), (256, 0), (100, 56)] {
        let start = usize::try_from(offset).unwrap();
        assert_eq!(
            store.get_range(&key("a"), offset, len).unwrap(),
            data[start..start + len]
        );
    }
    for most in [1, 100, 256, 1000] {
        let tail = store.read_tail(&key("a"), most).unwrap();
        assert_eq!(tail, (256, data[256 - most.min(256)..].to_vec()), "{most}");
    }
    for (offset, len) in [
        (0, 257),
        (255, 2),
        (256, 1),
        (1 << 40, 1),
        (u64::MAX, 1),
        (u64::MAX - 1, 2),
    ] {
        let refused = store.get_range(&key("a"), offset, len);
        assert!(refused.is_err(), "{offset} {len}: {refused:?}");
        if offset < 1 << 60 {
            assert!(
                matches!(refused, Err(Error::Short { .. })),
                "{offset} {len}: {refused:?}"
            );
        }
    }
}

fn is_absent<T: std::fmt::Debug>(name: &str, result: Result<T, Error>) {
    assert!(
        matches!(&result, Err(Error::NotFound { key }) if key == name),
        "{result:?}"
    );
}

fn what_is_not_there_is_not_found(store: &dyn Store) {
    store.put_new(&key("file"), b"x").unwrap();
    // The last one lies below an object, where a local store finds a file in place of a directory.
    for name in ["missing", "no/such/object", "file/below"] {
        is_absent(name, store.get(&key(name), 10));
        is_absent(name, store.get_range(&key(name), 0, 1));
        is_absent(name, store.get_range(&key(name), 0, 0));
        is_absent(name, store.head(&key(name)));
        is_absent(name, store.delete(&key(name)));
    }
    assert!(store.list("missing/").unwrap().is_empty());
}

fn a_prefix_of_keys_is_no_object(store: &dyn Store) {
    store.put_new(&key("a/b/c"), b"x").unwrap();
    for name in ["a", "a/b"] {
        is_absent(name, store.get(&key(name), 1 << 20));
        is_absent(name, store.get(&key(name), 1));
        is_absent(name, store.get_range(&key(name), 0, 1));
        is_absent(name, store.head(&key(name)));
        is_absent(name, store.delete(&key(name)));
    }
    assert_eq!(store.get(&key("a/b/c"), 1).unwrap(), b"x");
}

fn an_object_above_the_limit_is_not_read(store: &dyn Store) {
    store.put_new(&key("a"), &[1; 100]).unwrap();
    assert_eq!(store.get(&key("a"), 100).unwrap().len(), 100);
    let refused = store.get(&key("a"), 99);
    assert!(matches!(&refused, Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::InvalidData));
}

fn a_listing_is_sorted_and_complete(store: &dyn Store) {
    assert!(store.list("").unwrap().is_empty());
    // Sorted by bytes of the whole key: `a-b` and `a.b` come before `a/b`, though a walk of directories meets them apart.
    let mut names: Vec<String> = ["a-b", "a.b", "a/b", "a/b.c", "a/b-c", "a0", "A", "ab/c", "_"]
        .map(str::to_owned)
        .into();
    names.extend((0..300).map(|number| format!("packs/{:02x}/{number}", number % 17)));
    for name in names.iter().rev() {
        store.put_new(&key(name), b"").unwrap();
    }
    names.sort_unstable();
    let texts = |prefix: &str| -> Vec<String> {
        let keys = store.list(prefix).unwrap();
        keys.iter().map(|key| key.as_str().to_owned()).collect()
    };
    assert_eq!(texts(""), names);
    for prefix in ["a/", "packs/", "packs/0a/", "ab/", "none/", "A/"] {
        let expected: Vec<_> = names.iter().filter(|name| name.starts_with(prefix)).cloned().collect();
        assert_eq!(texts(prefix), expected, "{prefix}");
    }
}

fn a_listing_shows_each_acknowledged_object_while_others_are_written(store: &dyn Store) {
    const COUNT: usize = 200;
    let done = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..COUNT {
                store
                    .put_new(&key(&format!("n/{}/{number}", number % 5)), b"x")
                    .unwrap();
                done.store(number + 1, std::sync::atomic::Ordering::SeqCst);
            }
        });
        loop {
            let before = done.load(std::sync::atomic::Ordering::SeqCst);
            let listed = store.list("").unwrap();
            for number in 0..before {
                assert!(
                    listed.contains(&key(&format!("n/{}/{number}", number % 5))),
                    "{number} of {before}"
                );
            }
            assert!(listed.iter().all(|key| key.as_str().starts_with("n/")), "{listed:?}");
            if before == COUNT {
                break;
            }
        }
    });
}

fn a_deleted_object_is_gone_and_its_name_is_free(store: &dyn Store) {
    store.put_new(&key("a/b"), b"old").unwrap();
    store.put_new(&key("a/c"), b"other").unwrap();
    // Read once by range: a store that keeps files open must not read the old one afterwards.
    assert_eq!(store.get_range(&key("a/b"), 0, 3).unwrap(), b"old");
    store.delete(&key("a/b")).unwrap();
    is_absent("a/b", store.get(&key("a/b"), 10));
    is_absent("a/b", store.get_range(&key("a/b"), 0, 1));
    is_absent("a/b", store.delete(&key("a/b")));
    assert_eq!(store.list("").unwrap(), [key("a/c")]);
    store.put_new(&key("a/b"), b"newer").unwrap();
    assert_eq!(store.get_range(&key("a/b"), 0, 5).unwrap(), b"newer");
}

#[test]
fn a_planned_fault_is_hit_and_counted() {
    let store = FaultStore::new(MemoryStore::new());
    store.put_new(&key("a"), b"data").unwrap();
    store.plan(When::Once(1), Fault::FlipBit);
    assert_eq!(store.get(&key("a"), 10).unwrap(), b"data");
    assert_ne!(store.get(&key("a"), 10).unwrap(), b"data");
    assert_eq!(store.get(&key("a"), 10).unwrap(), b"data");
    assert_eq!((store.hits(), store.operations()), (1, 3));
    store.plan(When::From(0), Fault::Error(std::io::ErrorKind::StorageFull));
    assert!(matches!(store.put_new(&key("b"), b"x"), Err(Error::Io { .. })));
    assert!(matches!(store.list(""), Err(Error::Io { .. })));
    store.heal();
    is_absent("b", store.head(&key("b")));
    store.plan(When::Once(0), Fault::LostAnswer);
    assert!(matches!(store.put_new(&key("b"), b"x"), Err(Error::Io { .. })));
    assert_eq!(store.get(&key("b"), 1).unwrap(), b"x");
}

#[test]
fn every_call_is_recorded_in_order() {
    let store = RecordingStore::new(MemoryStore::new());
    store.put_new(&key("a"), b"data").unwrap();
    store.get(&key("a"), 10).unwrap();
    store.get_range(&key("a"), 1, 2).unwrap();
    store.head(&key("a")).unwrap();
    store.list("x/").unwrap();
    store.delete(&key("a")).unwrap();
    let expected = [
        Call::PutNew("a".into(), 4),
        Call::Get("a".into()),
        Call::ReadRange("a".into(), 1, 2),
        Call::Head("a".into()),
        Call::List("x/".into()),
        Call::Delete("a".into()),
    ];
    assert_eq!(store.take_calls(), expected);
    assert!(store.take_calls().is_empty());
}
