//! Walks of small vaults put together by hand, so that every stored byte is known.

use super::uses::Use;
use super::*;
use crate::bytes::to_u64;
use crate::store::memory::MemoryStore;
use crate::vault::codec::Codec;
use crate::vault::item::{ChunkRef, Kind as ItemKind, chunk_key, first_key};
use crate::vault::manifest::{Tree, TreeStatistics, tests::sample};
use crate::vault::map::{Entry, LIST_PAGES, PAGE_CHUNKS, Page, PageList, PageRef, page_id};
use crate::vault::pack::Builder;
use crate::vault::quarantine::WHOLE;
use crate::vault::tree_page::{self, Child};
use crate::vault::{Content, Disk, ResourceKind, Statistics, Vault, new_config};

const DATA: ObjectId = [1; 16];
const OTHER: ObjectId = [2; 16];
const META: ObjectId = [9; 16];
const CHUNK: u32 = 1 << 16;
const CACHE: u64 = 8 << 20;

/// A vault with its packs still open.
struct Build {
    vault: Vault,
    packs: HashMap<Object, Builder>,
}

impl Build {
    fn new() -> Self {
        let config = new_config("test", CHUNK, &crate::clock::System).unwrap();
        let vault = Vault::create(Arc::new(MemoryStore::new()), config).unwrap();
        let packs = HashMap::new();
        Self { vault, packs }
    }

    fn push(&mut self, object: Object, id: ChunkId, plain: &[u8]) -> u64 {
        let frame = self.vault.frame(object.0, object.1);
        let pack = self.packs.entry(object).or_insert_with(|| Builder::new(frame));
        pack.push(id, Codec::Raw, plain, plain.len());
        to_u64(plain.len())
    }

    /// Stores a chunk of `number` + 100 bytes.
    fn chunk(&mut self, number: u8, pack: ObjectId) -> Entry {
        let plain = vec![number; usize::from(number) + 100];
        let id = ChunkId::of(&plain);
        self.push((ObjectType::Pack, pack), id, &plain);
        Entry { id, pack }
    }

    fn page(&mut self, count: usize, entries: &[Entry]) -> (PageRef, u64) {
        let mut all = vec![None; count];
        for (place, entry) in all.iter_mut().zip(entries) {
            *place = Some(*entry);
        }
        self.meta(page_id, &Page::new(all).encode())
    }

    fn meta(&mut self, id_of: fn(&[u8]) -> ChunkId, encoded: &[u8]) -> (PageRef, u64) {
        let id = id_of(encoded);
        let len = self.push((ObjectType::MetaPack, META), id, encoded);
        (PageRef { id: id.0, pack: META }, len)
    }

    fn leaf(&mut self, inode: u64, chunks: &[Entry]) -> (PageRef, u64, Vec<u8>) {
        let mut page = tree_page::Builder::default();
        let first = first_key(inode, ItemKind::Inode);
        page.push(&first, &[0; 128]);
        for (offset, chunk) in (0..).zip(chunks) {
            let value = ChunkRef {
                id: chunk.id,
                pack: chunk.pack,
                len: 100,
            };
            page.push(&chunk_key(inode, offset * 100), &value.encode());
        }
        let (place, len) = self.meta(tree_page::page_id, &page.take(0));
        (place, len, first)
    }

    fn reader(&mut self) -> Arc<Reader> {
        for ((kind, id), pack) in self.packs.drain() {
            let key = pack_key(kind, &id).unwrap();
            self.vault.store().put_new(&key, &pack.finish()).unwrap();
        }
        Reader::new(self.vault.clone(), CACHE)
    }
}

fn disk(chunks: u64, levels: u8, roots: Vec<PageRef>) -> Manifest {
    let disk = Disk {
        name: "vda".to_owned(),
        size: chunks * u64::from(CHUNK),
        bootable: true,
        chunk_size: CHUNK,
        levels,
        roots,
        statistics: Statistics::default(),
    };
    Manifest {
        content: Content::Disks(vec![disk]),
        ..sample()
    }
}

fn tree(root: PageRef, height: u8) -> Manifest {
    let tree = Tree {
        root,
        height,
        items: 2,
        root_inode: 2,
        source: b"/".to_vec(),
        statistics: TreeStatistics::default(),
        unread: 0,
        problems: Vec::new(),
    };
    Manifest {
        kind: ResourceKind::Filesystem,
        content: Content::Tree(tree),
        ..sample()
    }
}

fn address() -> Address {
    sample().address().unwrap()
}

fn full() -> u64 {
    crate::bytes::to_u64(PAGE_CHUNKS)
}

#[test]
fn what_one_group_needs_alone_is_told_from_what_several_need() {
    let mut build = Build::new();
    let [one, two, three, four] = [1, 2, 3, 4].map(|number| build.chunk(number, DATA));
    build.chunk(50, DATA);
    let (both, both_len) = build.page(PAGE_CHUNKS, &[one, two, one]);
    let (only_a, a_len) = build.page(3, &[three, one]);
    let (only_b, b_len) = build.page(3, &[four, two]);
    let a = disk(full() + 3, 0, vec![both, only_a]);
    let b = disk(full() + 3, 0, vec![both, only_b]);
    let reader = build.reader();

    let mut walk = Walk::new(&reader);
    walk.backup(&address(), &a, Doubt::Refuse).unwrap();
    assert_eq!(walk.begin_group(), 1);
    walk.backup(&address(), &b, Doubt::Refuse).unwrap();
    let common = both_len + 101 + 102;
    let expected = [
        Needed {
            total: common + a_len + 103,
            unique: a_len + 103,
        },
        Needed {
            total: common + b_len + 104,
            unique: b_len + 104,
        },
    ];
    assert_eq!(walk.groups(), expected);
    assert_eq!(walk.groups()[0].shared(), common);

    let data = walk.uses(&(ObjectType::Pack, DATA)).unwrap();
    assert_eq!(
        (data.records(), data.needed_records(), data.needed_bytes()),
        (5, 4, 410)
    );
    let footer = reader.footer(ObjectType::Pack, &DATA).unwrap();
    let needed = |entry: &Entry| data.is_needed(footer.position(&entry.id).unwrap());
    assert!([one, two, three, four].iter().all(needed));
    let unneeded = (0..5).filter(|number| !data.is_needed(*number));
    assert_eq!(unneeded.count(), 1, "the chunk that no page names");

    walk.begin_group();
    walk.backup(&address(), &a, Doubt::Refuse).unwrap();
    assert_eq!(walk.groups()[0].unique, 0, "another backup needs the same");
    assert_eq!(walk.groups()[2].total, walk.groups()[0].total);
}

#[test]
fn a_record_costs_eight_bytes() {
    assert_eq!(size_of::<Use>(), 8, "eight megabytes for a million chunks");
}

#[test]
fn backups_of_one_group_count_as_one() {
    let mut build = Build::new();
    let [one, two] = [1, 2].map(|number| build.chunk(number, DATA));
    let (first, first_len) = build.page(2, &[one]);
    let (second, second_len) = build.page(2, &[one, two]);
    let reader = build.reader();
    let mut walk = Walk::new(&reader);
    for page in [first, second, first] {
        walk.backup(&address(), &disk(2, 0, vec![page]), Doubt::Refuse).unwrap();
    }
    let all = first_len + second_len + 101 + 102;
    assert_eq!(
        walk.groups(),
        [Needed {
            total: all,
            unique: all
        }]
    );
}

#[test]
fn a_chunk_is_needed_in_the_pack_that_its_page_names() {
    let mut build = Build::new();
    let here = build.chunk(1, DATA);
    build.chunk(1, OTHER);
    let (page, _) = build.page(1, &[here]);
    let reader = build.reader();
    let mut walk = Walk::new(&reader);
    walk.backup(&address(), &disk(1, 0, vec![page]), Doubt::Refuse).unwrap();
    assert!(walk.uses(&(ObjectType::Pack, DATA)).is_some());
    assert!(walk.uses(&(ObjectType::Pack, OTHER)).is_none());
    assert_eq!(walk.objects().len(), 2, "one pack and one meta pack");
}

#[test]
fn page_lists_and_their_pages_are_walked_and_holes_are_not() {
    let mut build = Build::new();
    let [one, two] = [1, 2].map(|number| build.chunk(number, DATA));
    let (page, page_len) = build.page(PAGE_CHUNKS, &[one]);
    let (last, last_len) = build.page(7, &[two]);
    let mut first = vec![PageRef::HOLE; LIST_PAGES];
    first[5] = page;
    let (first, first_len) = build.meta(page_id, &PageList(first).encode());
    let (second, second_len) = build.meta(page_id, &PageList(vec![page, last]).encode());
    let reader = build.reader();
    let chunks = (crate::bytes::to_u64(LIST_PAGES) + 1) * full() + 7;
    let mut walk = Walk::new(&reader);
    walk.backup(&address(), &disk(chunks, 1, vec![first, second]), Doubt::Refuse)
        .unwrap();
    let total = page_len + last_len + first_len + second_len + 101 + 102;
    assert_eq!(walk.groups()[0].total, total);
}

#[test]
fn trees_are_walked_down_to_the_chunks_of_their_files() {
    let mut build = Build::new();
    let [one, two, three] = [1, 2, 3].map(|number| build.chunk(number, DATA));
    let (left, left_len, left_key) = build.leaf(2, &[one, two]);
    let (right, right_len, right_key) = build.leaf(3, &[two, three]);
    let mut root = tree_page::Builder::default();
    for (key, page) in [(left_key, left), (right_key, right)] {
        root.push(&key, &Child { page, items: 3 }.encode());
    }
    let (root, root_len) = build.meta(tree_page::page_id, &root.take(1));
    let reader = build.reader();
    let mut walk = Walk::new(&reader);
    walk.backup(&address(), &tree(root, 1), Doubt::Refuse).unwrap();
    assert_eq!(
        walk.groups()[0].total,
        left_len + right_len + root_len + 101 + 102 + 103
    );
    let level = Walk::new(&reader).backup(&address(), &tree(root, 2), Doubt::Refuse);
    assert!(matches!(reason(level), chunk::Error::Corrupt { .. }));
}

/// Why a backup was not walked.
fn reason<T: std::fmt::Debug>(walked: Result<T>) -> chunk::Error {
    match walked.unwrap_err() {
        Error::Unreadable { address: whose, source } if whose == address() => source,
        other => panic!("{other}"),
    }
}

#[test]
fn what_is_not_there_or_not_readable_is_an_error_and_never_passed_over() {
    let stray = Entry {
        id: ChunkId([7; 32]),
        pack: DATA,
    };
    let nowhere = Entry { pack: OTHER, ..stray };
    for bad in [stray, nowhere] {
        let mut build = Build::new();
        let good = build.chunk(1, DATA);
        let (page, _) = build.page(2, &[good, bad]);
        let reader = build.reader();
        let failed = Walk::new(&reader).backup(&address(), &disk(2, 0, vec![page]), Doubt::Refuse);
        assert!(matches!(reason(failed), chunk::Error::Missing { .. }));
    }
    let mut build = Build::new();
    let good = build.chunk(1, DATA);
    let (page, _) = build.page(2, &[good]);
    let reader = build.reader();
    let other_count = Walk::new(&reader).backup(&address(), &disk(3, 0, vec![page]), Doubt::Refuse);
    assert!(matches!(reason(other_count), chunk::Error::Corrupt { .. }));
    let mut lost = page;
    lost.id = [3; 32];
    let no_page = Walk::new(&reader).backup(&address(), &disk(2, 0, vec![lost]), Doubt::Refuse);
    assert!(matches!(reason(no_page), chunk::Error::Missing { .. }));
}

#[test]
fn a_pack_whose_footer_does_not_tell_of_a_chunk_is_needed_as_a_whole_if_that_is_wanted() {
    let mut build = Build::new();
    let good = build.chunk(1, DATA);
    let other = build.chunk(2, DATA);
    let (stray, nowhere) = (ChunkId([7; 32]), ChunkId([8; 32]));
    let entries = [
        good,
        Entry { id: stray, pack: DATA },
        Entry {
            id: nowhere,
            pack: OTHER,
        },
    ];
    let (page, _) = build.page(3, &entries);
    let (harmless, _) = build.page(3, &[good, other]);
    let reader = build.reader();
    let mut walk = Walk::new(&reader);
    let passed = walk.backup(&address(), &disk(3, 0, vec![harmless]), Doubt::KeepPacks);
    assert!(passed.unwrap().is_none());
    let whole = |walk: &Walk<'_>, pack| walk.uses(&(ObjectType::Pack, pack)).map(Uses::is_needed_whole);
    assert_eq!((whole(&walk, DATA), whole(&walk, OTHER)), (Some(false), None));
    let passed = walk.backup(&address(), &disk(3, 0, vec![page]), Doubt::KeepPacks);
    assert!(passed.unwrap().is_none());
    assert_eq!((whole(&walk, DATA), whole(&walk, OTHER)), (Some(true), Some(true)));
    let (objects, named) = walk.into_parts();
    assert_eq!(objects[&(ObjectType::Pack, DATA)].needed_records(), 2);
    assert_eq!(named, HashSet::from([DATA, OTHER, META]));
}

#[test]
fn a_lost_page_is_passed_over_only_if_what_is_there_is_enough() {
    let mut build = Build::new();
    let good = build.chunk(1, DATA);
    let (page, _) = build.page(2, &[good]);
    let reader = build.reader();
    let (mut gone, mut elsewhere) = (page, page);
    gone.id = [3; 32];
    (elsewhere.id, elsewhere.pack) = ([4; 32], OTHER);
    for lost in [gone, elsewhere] {
        // Two pages of a chunk each, of which one is there.
        let chunks = to_u64(PAGE_CHUNKS) + 2;
        let manifest = disk(chunks, 0, vec![lost, page]);
        let strict = Walk::new(&reader).backup(&address(), &manifest, Doubt::KeepPacks);
        assert!(matches!(reason(strict), chunk::Error::Missing { .. }));
        let mut walk = Walk::new(&reader);
        let passed = walk.backup(&address(), &manifest, Doubt::KeepWhatIsThere).unwrap();
        assert!(matches!(passed, Some(chunk::Error::Missing { .. })));
        let meta = walk.uses(&(ObjectType::MetaPack, lost.pack)).unwrap();
        assert!(meta.is_needed_whole());
        assert_eq!(walk.uses(&(ObjectType::Pack, DATA)).unwrap().needed_records(), 1);
    }
}

#[test]
fn a_walk_that_is_called_off_ends() {
    let mut build = Build::new();
    let good = build.chunk(1, DATA);
    let (page, _) = build.page(2, &[good]);
    let reader = build.reader();
    let cancel = AtomicBool::new(true);
    let walked = Walk::new(&reader)
        .until(&cancel)
        .backup(&address(), &disk(2, 0, vec![page]), Doubt::KeepPacks);
    assert!(matches!(walked, Err(Error::Interrupted)));
}

#[test]
fn what_was_stored_again_is_needed_where_it_is_now_and_nowhere_else() {
    let mut build = Build::new();
    let here = build.chunk(1, DATA);
    let again = build.chunk(1, OTHER);
    assert_eq!(here.id, again.id);
    let (page, _) = build.page(2, &[here]);
    let reader = build.reader();
    let mut walk = Walk::new(&reader).following(BTreeMap::from([(DATA, vec![OTHER])]));
    walk.backup(&address(), &disk(2, 0, vec![page]), Doubt::KeepPacks)
        .unwrap();
    let needed: HashSet<&Object> = walk.objects().keys().collect();
    assert_eq!(
        needed,
        HashSet::from([&(ObjectType::Pack, OTHER), &(ObjectType::MetaPack, META)])
    );
}

#[test]
fn a_copy_that_is_known_to_be_damaged_counts_only_if_there_is_no_other() {
    let mut build = Build::new();
    let both = build.chunk(1, DATA);
    build.chunk(1, OTHER);
    let here = build.chunk(2, DATA);
    let (page, _) = build.page(2, &[both, here]);
    let reader = build.reader();
    for (damaged, expected) in [
        (vec![], (1, 1)),
        (vec![(OTHER, both.id)], (2, 0)),
        (vec![(OTHER, WHOLE)], (2, 0)),
        (vec![(OTHER, both.id), (DATA, both.id)], (1, 1)),
        (vec![(DATA, here.id)], (1, 1)),
    ] {
        let walk = Walk::new(&reader).following(BTreeMap::from([(DATA, vec![OTHER])]));
        let mut walk = walk.avoiding(damaged.iter().copied().collect());
        walk.backup(&address(), &disk(2, 0, vec![page]), Doubt::KeepPacks)
            .unwrap();
        let needed = |pack| walk.uses(&(ObjectType::Pack, pack)).map_or(0, Uses::needed_records);
        assert_eq!((needed(DATA), needed(OTHER)), expected, "{damaged:?}");
    }
}
