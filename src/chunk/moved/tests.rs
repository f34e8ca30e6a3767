//! Damaged, missing and moved chunks, read by every way there is.

use super::*;
use crate::chunk::run::Wanted;
use crate::store::fault::{Fault, FaultStore, When};
use crate::store::memory::MemoryStore;
use crate::store::record::{Call, RecordingStore};
use crate::store::{Key, Store};
use crate::vault::codec::Codec;
use crate::vault::map::{Entry, PageRef, page_id};
use crate::vault::pack::Builder;
use crate::vault::{self, Vault, pack_key};

const OLD: ObjectId = [1; 16];
const NEW: ObjectId = [2; 16];
const NEWER: ObjectId = [3; 16];
const FIRST: &[u8] = b"the first chunk";
const SECOND: &[u8] = b"the second chunk";

struct Scene {
    memory: Arc<MemoryStore>,
    vault: Vault,
}

fn key(kind: ObjectType, pack: &ObjectId) -> Key {
    pack_key(kind, pack).unwrap()
}

impl Scene {
    fn new() -> Self {
        let memory = Arc::new(MemoryStore::new());
        let store: Arc<dyn Store> = memory.clone();
        let vault = Vault::create(
            store,
            vault::new_config("test", 1 << 16, &crate::clock::System).unwrap(),
        )
        .unwrap();
        Self { memory, vault }
    }

    fn pack(&self, kind: ObjectType, pack: ObjectId, chunks: &[&[u8]], id_of: fn(&[u8]) -> ChunkId) {
        let mut builder = Builder::new(self.vault.frame(kind, pack));
        for plain in chunks {
            builder.push(id_of(plain), Codec::Raw, plain, plain.len());
        }
        self.memory.put_new(&key(kind, &pack), &builder.finish()).unwrap();
    }

    fn data(&self, pack: ObjectId, chunks: &[&[u8]]) {
        self.pack(ObjectType::Pack, pack, chunks, ChunkId::of);
    }

    /// Flips a byte of the first chunk of a pack.
    fn damage(&self, kind: ObjectType, pack: &ObjectId) {
        let mut object = self.memory.get(&key(kind, pack), 1 << 20).unwrap();
        object[64] ^= 1;
        self.memory.overwrite(&key(kind, pack), object);
    }

    fn remove(&self, pack: &ObjectId) {
        self.memory.delete(&key(ObjectType::Pack, pack)).unwrap();
    }

    fn reader(&self) -> Arc<Reader> {
        Reader::new(self.vault.clone(), 8 << 20)
    }
}

fn entry(plain: &[u8]) -> Entry {
    let (id, pack) = (ChunkId::of(plain), OLD);
    Entry { id, pack }
}

/// Reads both chunks by every way there is.
fn read_all(reader: &Reader) -> Vec<Result<Vec<u8>>> {
    let mut results = Vec::new();
    for plain in [FIRST, SECOND] {
        let mut buffer = Vec::new();
        let fetched = reader.fetch(&entry(plain), plain.len(), &mut buffer);
        results.push(fetched.map(|()| buffer));
        results.push(reader.chunk(&entry(plain), plain.len()).map(|chunk| chunk.to_vec()));
    }
    let (mut first, mut second) = (vec![0; FIRST.len()], vec![0; SECOND.len()]);
    let mut wanted = [(FIRST, &mut first), (SECOND, &mut second)].map(|(plain, buffer)| Wanted {
        entry: entry(plain),
        plain: buffer,
    });
    let many = reader.fetch_many(&mut wanted).map_err(|(_, error)| error);
    results.push(many.map(|()| [first, second].concat()));
    let wanted = [FIRST, SECOND].map(|plain| (entry(plain), plain.len()));
    let stored = reader.fetch_stored(&wanted).map_err(|(_, error)| error);
    results.push(stored.map(|stored| stored.into_iter().flat_map(|chunk| chunk.bytes).collect()));
    results
}

fn all() -> Vec<Vec<u8>> {
    let both = [FIRST, SECOND].concat();
    [FIRST, FIRST, SECOND, SECOND, &both, &both]
        .map(<[u8]>::to_vec)
        .to_vec()
}

fn assert_whole(reader: &Reader) {
    let read: Vec<Vec<u8>> = read_all(reader).into_iter().map(Result::unwrap).collect();
    assert_eq!(read, all());
}

#[test]
fn a_damaged_chunk_is_read_where_it_was_stored_again() {
    let scene = Scene::new();
    scene.data(OLD, &[FIRST, SECOND]);
    scene.damage(ObjectType::Pack, &OLD);
    assert!(read_all(&scene.reader()).iter().take(2).all(Result::is_err));
    scene.data(NEW, &[FIRST]);
    scene.vault.put_moved(&OLD, &NEW).unwrap();
    let reader = scene.reader();
    assert_whole(&reader);
    // And now that it is known where the pack was stored again.
    assert_whole(&reader);
}

#[test]
fn a_pack_that_is_gone_is_followed_through_every_repack() {
    let scene = Scene::new();
    scene.data(NEWER, &[b"another", SECOND, FIRST]);
    scene.vault.put_moved(&OLD, &NEW).unwrap();
    scene.vault.put_moved(&NEW, &NEWER).unwrap();
    assert_whole(&scene.reader());
}

#[test]
fn a_pack_that_goes_while_its_footer_is_known_is_followed_too() {
    let scene = Scene::new();
    scene.data(OLD, &[FIRST, SECOND]);
    let reader = scene.reader();
    reader.footer(ObjectType::Pack, &OLD).unwrap();
    scene.remove(&OLD);
    scene.data(NEW, &[SECOND, FIRST]);
    scene.vault.put_moved(&OLD, &NEW).unwrap();
    assert_whole(&reader);
}

#[test]
fn a_chunk_that_is_whole_in_its_old_pack_is_read_there_when_its_copy_is_damaged() {
    let scene = Scene::new();
    scene.data(OLD, &[SECOND, FIRST]);
    scene.damage(ObjectType::Pack, &OLD);
    scene.data(NEW, &[FIRST, SECOND]);
    scene.damage(ObjectType::Pack, &NEW);
    scene.vault.put_moved(&OLD, &NEW).unwrap();
    let reader = scene.reader();
    assert_whole(&reader);
    assert_whole(&reader);
}

#[test]
fn records_in_a_circle_end_with_the_first_error() {
    let scene = Scene::new();
    scene.data(NEW, &[SECOND]);
    for (old, new) in [(OLD, NEW), (NEW, NEWER), (NEWER, OLD), (NEWER, NEW)] {
        scene.vault.put_moved(&old, &new).unwrap();
    }
    let mut buffer = Vec::new();
    let error = scene
        .reader()
        .fetch(&entry(FIRST), FIRST.len(), &mut buffer)
        .unwrap_err();
    assert!(matches!(&error, Error::Missing { object, .. } if *object == key(ObjectType::Pack, &OLD).to_string()));
}

#[test]
fn a_damaged_page_is_read_where_it_was_stored_again() {
    let scene = Scene::new();
    let page = b"not looked at here".as_slice();
    scene.pack(ObjectType::MetaPack, OLD, &[page], page_id);
    scene.damage(ObjectType::MetaPack, &OLD);
    let (id, pack) = (page_id(page).0, OLD);
    assert!(matches!(
        scene.reader().page(&PageRef { id, pack }),
        Err(Error::Corrupt { .. })
    ));
    scene.pack(ObjectType::MetaPack, NEW, &[page], page_id);
    scene.vault.put_moved(&OLD, &NEW).unwrap();
    assert_eq!(*scene.reader().page(&PageRef { id, pack }).unwrap(), *page);
}

#[test]
fn records_are_listed_once_and_never_for_what_is_whole() {
    let scene = Scene::new();
    scene.data(OLD, &[FIRST, SECOND]);
    let recording = Arc::new(RecordingStore::new(Arc::clone(&scene.memory)));
    let behind: Arc<dyn Store> = recording.clone();
    let vault = Vault::open(behind).unwrap();
    let reader = Reader::new(vault, 8 << 20);
    let lists = || {
        let calls = recording.take_calls();
        calls.iter().filter(|call| matches!(call, Call::List(_))).count()
    };
    assert_whole(&reader);
    assert_eq!(lists(), 0);
    scene.remove(&OLD);
    scene.data(NEW, &[FIRST, SECOND]);
    scene.vault.put_moved(&OLD, &NEW).unwrap();
    for _ in 0..5 {
        assert_whole(&reader);
    }
    assert_eq!(lists(), 1);
}

#[test]
fn a_store_that_fails_to_list_makes_no_damage() {
    let scene = Scene::new();
    scene.data(OLD, &[FIRST]);
    scene.damage(ObjectType::Pack, &OLD);
    let store = Arc::new(FaultStore::new(Arc::clone(&scene.memory)));
    let behind: Arc<dyn Store> = store.clone();
    let vault = Vault::open(behind).unwrap();
    let reader = Reader::new(vault, 8 << 20);
    reader.footer(ObjectType::Pack, &OLD).unwrap();
    // The read of the chunk comes first, then the listing.
    store.plan(When::From(1), Fault::Error(std::io::ErrorKind::TimedOut));
    let mut buffer = Vec::new();
    let error = reader.fetch(&entry(FIRST), FIRST.len(), &mut buffer).unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    store.heal();
    let error = reader.fetch(&entry(FIRST), FIRST.len(), &mut buffer).unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
}
