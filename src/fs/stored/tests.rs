//! Stored trees made by hand: sound ones, and what a hostile writer could store.

mod hostile;

use std::collections::BTreeMap;

use super::*;
use crate::bytes::{to_u64, to_usize};
use crate::checksum::Digest;
use crate::fs::content::Content;
use crate::fs::{MAX_EXTENTS, Place};
use crate::image::ReadAt;
use crate::store::memory::MemoryStore;
use crate::vault::codec::Codec;
use crate::vault::item::{ChunkRef, State, chunk_key, owner_key};
use crate::vault::manifest::TreeStatistics;
use crate::vault::map::PageRef;
use crate::vault::object::{ObjectId, ObjectType};
use crate::vault::pack::Builder as Pack;
use crate::vault::tree_page::{Builder, Child, page_id};
use crate::vault::{self, ChunkId, Vault, pack_key};
use crate::volume::mapped::Mapped;

const PAGES: ObjectId = [7; 16];
const CHUNKS: ObjectId = [8; 16];
const ROOT: u64 = 1;

type Item = (Vec<u8>, Vec<u8>);

/// Items of a tree in the making, by key.
#[derive(Default)]
pub(crate) struct Maker {
    items: BTreeMap<Vec<u8>, Vec<u8>>,
    chunks: Vec<Vec<u8>>,
}

pub(crate) fn record(mode: u32, size: u64) -> InodeRecord {
    let time = |seconds| Time {
        seconds,
        nanos: 123_456_789,
    };
    InodeRecord {
        mode,
        uid: 1000,
        gid: 100,
        links: 1,
        size,
        blocks: 8,
        device: (0, 0),
        accessed: time(-1),
        modified: time(1_100_000_000),
        changed: time(1_200_000_000),
        created: None,
        flags: 0x10,
        state: State::default(),
        digest: Digest([0; 32]),
    }
}

impl Maker {
    pub(crate) fn new() -> Self {
        let mut maker = Self::default();
        maker.record(ROOT, &record(0o040_755, 4096));
        maker
    }

    pub(crate) fn item(&mut self, inode: u64, kind: Kind, rest: &[u8], value: &[u8]) {
        self.items.insert(Key { inode, kind, rest }.encode(), value.to_vec());
    }

    pub(crate) fn record(&mut self, inode: u64, record: &InodeRecord) {
        self.item(inode, Kind::Inode, b"", &record.encode());
    }

    /// Names a file that has its record already, or will.
    pub(crate) fn name(&mut self, directory: u64, name: &[u8], inode: u64, type_code: u8) {
        self.item(directory, Kind::Name, name, &NameTarget { inode, type_code }.encode());
    }

    pub(crate) fn file(&mut self, directory: u64, name: &[u8], inode: u64, size: u64) {
        self.name(directory, name, inode, 8);
        self.record(inode, &record(0o100_644, size));
    }

    pub(crate) fn link(&mut self, directory: u64, name: &[u8], inode: u64, target: &[u8]) {
        self.name(directory, name, inode, 10);
        self.record(inode, &record(0o120_777, to_u64(target.len())));
        self.item(inode, Kind::Data, b"", target);
    }

    pub(crate) fn chunk(&mut self, inode: u64, offset: u64, data: &[u8]) {
        let value = chunk_ref(data).encode();
        self.items.insert(chunk_key(inode, offset), value);
        self.chunks.push(data.to_vec());
    }

    fn sorted(&self) -> Vec<Item> {
        self.items.clone().into_iter().collect()
    }

    /// Stores it all in pages of `width` entries.
    pub(crate) fn store(&self, vault: &Vault, width: usize) -> Tree {
        let mut pages = Pack::new(vault.frame(ObjectType::MetaPack, PAGES));
        let tree = push_tree(&mut pages, &self.sorted(), width);
        self.put(vault, pages);
        tree
    }

    fn put(&self, vault: &Vault, pages: Pack) {
        let mut chunks = Pack::new(vault.frame(ObjectType::Pack, CHUNKS));
        for data in &self.chunks {
            chunks.push(ChunkId::of(data), Codec::Raw, data, data.len());
        }
        for (kind, id, pack) in [(ObjectType::MetaPack, PAGES, pages), (ObjectType::Pack, CHUNKS, chunks)] {
            let key = pack_key(kind, &id).unwrap();
            vault.store().put_new(&key, &pack.finish()).unwrap();
        }
    }

    fn open(&self, width: usize) -> Arc<Stored> {
        let vault = vault();
        let tree = self.store(&vault, width);
        open(&Reader::new(vault, 8 << 20), &tree)
    }
}

fn chunk_ref(data: &[u8]) -> ChunkRef {
    ChunkRef {
        id: ChunkId::of(data),
        pack: CHUNKS,
        len: u32::try_from(data.len()).unwrap(),
    }
}

fn vault() -> Vault {
    let config = vault::new_config("test", 1 << 16, &crate::clock::System).unwrap();
    Vault::create(Arc::new(MemoryStore::new()), config).unwrap()
}

fn open(reader: &Arc<Reader>, tree: &Tree) -> Arc<Stored> {
    let address = "filesystems/home/2026-11-20T03-00-00Z".parse().unwrap();
    Arc::new(Stored::open(reader, &address, tree))
}

fn push_page(pack: &mut Pack, encoded: &[u8]) -> PageRef {
    let id = page_id(encoded);
    pack.push(id, Codec::Raw, encoded, encoded.len());
    PageRef { id: id.0, pack: PAGES }
}

/// A tree of these items, sorted or not, in pages of `width` entries.
fn push_tree(pack: &mut Pack, items: &[Item], width: usize) -> Tree {
    let mut entries: Vec<(Vec<u8>, Vec<u8>, u64)> = items
        .iter()
        .map(|(key, value)| (key.clone(), value.clone(), 1))
        .collect();
    let mut height = 0;
    loop {
        let mut above = Vec::new();
        for group in entries.chunks(width) {
            let mut builder = Builder::default();
            group.iter().for_each(|(key, value, _)| builder.push(key, value));
            let page = push_page(pack, &builder.take(height));
            let items = group.iter().map(|(_, _, items)| items).sum();
            above.push((group[0].0.clone(), Child { page, items }.encode(), items));
        }
        if let [(_, value, items)] = &above[..] {
            return tree(Child::decode(value).unwrap().page, height, *items);
        }
        entries = above;
        height += 1;
    }
}

fn tree(root: PageRef, height: u8, items: u64) -> Tree {
    Tree {
        root,
        height,
        items,
        root_inode: ROOT,
        source: b"/srv/data".to_vec(),
        statistics: TreeStatistics {
            files: 3,
            directories: 2,
            others: 1,
            logical: 1 << 20,
            ..TreeStatistics::default()
        },
        unread: 2,
        problems: Vec::new(),
    }
}

const HOLE: u64 = 5000;
const PIECE: usize = 3000;

fn piece(seed: u8) -> Vec<u8> {
    (0..PIECE).map(|at| seed.wrapping_add(at.to_le_bytes()[0])).collect()
}

/// `a` inline, `b` of two chunks with holes around them, `l` a link, `d` a directory with a second name of `a`.
pub(crate) fn sample() -> Maker {
    let mut maker = Maker::new();
    maker.file(ROOT, b"a", 2, 5);
    maker.item(2, Kind::Data, b"", b"hello");
    let end = HOLE + 2 * to_u64(PIECE);
    maker.file(ROOT, b"b", 3, end + HOLE);
    maker.chunk(3, HOLE, &piece(1));
    maker.chunk(3, HOLE + to_u64(PIECE), &piece(2));
    maker.item(3, Kind::Xattr, b"user.origin", b"https://example.org");
    maker.item(3, Kind::Xattr, b"user.empty", b"");
    maker.link(ROOT, b"l", 4, b"b/c");
    maker.name(ROOT, b"d", 5, 4);
    maker.record(5, &record(0o040_700, 4096));
    maker.name(5, b"again", 2, 8);
    maker.items.insert(owner_key(Kind::User, 1000), b"ann".to_vec());
    maker.items.insert(owner_key(Kind::Group, 100), b"users".to_vec());
    maker
}

/// All names of a directory, each asked for by itself.
fn names(stored: &Stored, directory: u64) -> Result<Vec<(Vec<u8>, u64)>> {
    let (mut names, mut cookie) = (Vec::new(), 0);
    loop {
        let before = names.len();
        stored.read_dir(Inode(directory), cookie, &mut |entry| {
            assert!(entry.next > cookie);
            cookie = entry.next;
            names.push((entry.name.to_vec(), entry.inode.0));
            false
        })?;
        if names.len() == before {
            return Ok(names);
        }
        assert!(names.len() < 1000, "a listing without an end");
    }
}

fn content(stored: &Arc<Stored>, inode: u64) -> Result<Content> {
    let file_system: Arc<dyn FileSystem> = Arc::<Stored>::clone(stored);
    Content::open(file_system, Arc::new(Mapped::default()), Inode(inode))
}

fn bytes(stored: &Arc<Stored>, inode: u64) -> Result<Vec<u8>> {
    let content = content(stored, inode)?;
    let mut bytes = vec![1; to_usize(content.size().min(1 << 20))];
    content.read(0, &mut bytes)?;
    Ok(bytes)
}

#[test]
fn files_are_told_as_they_were_stored() {
    for width in [3, 5, 100] {
        let stored = sample().open(width);
        let named = |names: &[(&[u8], u64)]| -> Vec<(Vec<u8>, u64)> {
            names.iter().map(|(name, inode)| (name.to_vec(), *inode)).collect()
        };
        assert_eq!(
            names(&stored, ROOT).unwrap(),
            named(&[(b"a", 2), (b"b", 3), (b"d", 5), (b"l", 4)])
        );
        assert_eq!(names(&stored, 5).unwrap(), named(&[(b"again", 2)]));
        assert_eq!(stored.lookup(Inode(ROOT), b"d").unwrap(), Some(Inode(5)));
        for absent in [&b"c"[..], b"", b".", b"..", b"a/b", &[b'x'; 300]] {
            assert_eq!(stored.lookup(Inode(ROOT), absent).unwrap(), None);
        }
        let attr = stored.attr(Inode(3)).unwrap();
        assert_eq!(
            (attr.file_type, attr.permissions, attr.uid),
            (FileType::File, 0o644, 1000)
        );
        assert_eq!((attr.accessed.seconds, attr.accessed.nanos), (-1, 123_456_789));
        assert_eq!(stored.read_link(Inode(4)).unwrap(), b"b/c");
        let xattrs = stored.xattrs(Inode(3)).unwrap();
        let wanted = [("user.empty", ""), ("user.origin", "https://example.org")];
        let wanted = wanted.map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        assert_eq!(xattrs, wanted);
        assert!(stored.xattrs(Inode(2)).unwrap().is_empty());
        assert_eq!(stored.flags(Inode(2)).unwrap(), 0x10);
        assert_eq!(stored.user_name(1000).unwrap(), Some(b"ann".to_vec()));
        assert_eq!(stored.group_name(1000).unwrap(), None);
        assert_eq!(bytes(&stored, 2).unwrap(), b"hello");
    }
}

#[test]
fn what_is_another_type_or_not_there_is_said() {
    let stored = sample().open(4);
    assert!(matches!(stored.lookup(Inode(2), b"x"), Err(Error::WrongType { .. })));
    assert!(matches!(names(&stored, 3), Err(Error::WrongType { .. })));
    assert!(matches!(stored.read_link(Inode(3)), Err(Error::WrongType { .. })));
    assert!(matches!(stored.extents(Inode(4), 0..1), Err(Error::WrongType { .. })));
    for none in [0, 6, u64::MAX] {
        assert!(matches!(stored.attr(Inode(none)), Err(Error::NoInode { .. })));
        assert!(matches!(stored.xattrs(Inode(none)), Err(Error::NoInode { .. })));
    }
    let summary = stored.summary();
    assert_eq!((summary.size, summary.files), (1 << 20, 6));
    assert_eq!(
        summary.notes,
        ["2 files could not be stored as they are: see backup.json"]
    );
}

#[test]
fn holes_are_given_whole_and_pieces_where_they_lie() {
    let stored = sample().open(3);
    let size = stored.attr(Inode(3)).unwrap().size;
    let data = to_u64(PIECE);
    let starts = [0, HOLE, HOLE + data, HOLE + 2 * data, size];
    for at in (0..size).step_by(7) {
        for len in [1, 2, data, size] {
            let extents = stored.extents(Inode(3), at..at + len).unwrap();
            assert!(extents[0].start <= at && extents.iter().all(|extent| starts.contains(&extent.start)));
            for (extent, next) in extents.iter().zip(extents.iter().skip(1)) {
                assert_eq!(extent.start + extent.len, next.start);
            }
            let last = extents.last().unwrap();
            assert!(last.start + last.len >= (at + len).min(size) && last.start < at + len);
        }
    }
    assert!(stored.extents(Inode(3), size..u64::MAX).unwrap().is_empty());
    let content = content(&stored, 3).unwrap();
    assert_eq!(content.next_data(0).unwrap(), Some(HOLE));
    assert_eq!(content.next_hole(HOLE).unwrap(), HOLE + 2 * data);
    assert_eq!(content.next_data(HOLE + 2 * data).unwrap(), None);
    let mut wanted = vec![0; to_usize(size)];
    wanted[5000..8000].copy_from_slice(&piece(1));
    wanted[8000..11000].copy_from_slice(&piece(2));
    for (at, len) in [
        (0, 16000),
        (5000, 3000),
        (5001, 2999),
        (7000, 2000),
        (8000, 1),
        (10_999, 2),
    ] {
        let mut read = vec![9; len];
        content.read(to_u64(at), &mut read).unwrap();
        assert_eq!(read, wanted[at..at + len]);
        let slice = content.slice(to_u64(at), len).unwrap();
        assert!(slice.is_none_or(|slice| *slice == wanted[at..at + len]));
    }
}

#[test]
fn a_file_of_very_many_pieces_is_told_in_parts() {
    let mut maker = Maker::new();
    let count = to_u64(MAX_EXTENTS) * 2;
    maker.file(ROOT, b"many", 2, count * 20);
    for number in 0..count {
        maker.chunk(2, number * 20 + 10, &number.to_le_bytes());
    }
    let stored = maker.open(50);
    let extents = stored.extents(Inode(2), 0..u64::MAX).unwrap();
    assert!(extents.len() <= MAX_EXTENTS && extents.len() >= MAX_EXTENTS - 1);
    let content = content(&stored, 2).unwrap();
    let mut last = [0; 10];
    content.read((count - 1) * 20 + 10, &mut last[..8]).unwrap();
    assert_eq!(last[..8], (count - 1).to_le_bytes());
    let sought = std::iter::successors(Some(0), |at| {
        let data = content.next_data(*at).unwrap()?;
        Some(content.next_hole(data).unwrap())
    });
    assert_eq!(to_u64(sought.count()), count + 1);
}

#[test]
fn a_missing_chunk_is_an_error_where_it_is_read() {
    let mut maker = sample();
    maker.chunks.remove(1);
    let stored = maker.open(5);
    let content = content(&stored, 3).unwrap();
    let mut part = [0; 100];
    content.read(HOLE, &mut part).unwrap();
    let lost = content.read(HOLE + to_u64(PIECE), &mut part).unwrap_err();
    assert!(
        matches!(&lost, Error::Image(crate::image::Error::Missing { what })
        if what.contains("backup filesystems/home/") && what.contains("byte 8000")),
        "{lost:?}"
    );
    let piece = stored.extents(Inode(3), HOLE..HOLE + 1).unwrap();
    let Place::Piece(piece) = &piece[0].place else {
        panic!("{piece:?}");
    };
    let mut whole = vec![0; PIECE];
    piece.read_at(0, &mut whole).unwrap();
    assert_eq!(whole, self::piece(1));
    assert_eq!(
        (piece.next_data(5).unwrap(), piece.next_hole(5).unwrap()),
        (Some(5), 3000)
    );
}
