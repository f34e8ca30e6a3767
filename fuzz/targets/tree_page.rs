//! Pages of a stored tree that are canonical are built again byte for byte, searching them agrees with listing them, and their items decode to
//! what encodes to the same bytes; pages that are not are searched within their bounds.

use vaultfs::vault::item::{ChunkRef, InodeRecord, Key, Kind, NameTarget, first_key};
use vaultfs::vault::map::PageRef;
use vaultfs::vault::tree_page::{Builder, Child, Page};

/// Reads bytes as a page, as a file system does and as a check does.
pub fn run(data: &[u8]) {
    let Some(page) = Page::parse(data) else {
        return;
    };
    for probe in 0..4 {
        let _ = page.lower_bound(&first_key(probe, Kind::Name));
        let _ = page.entry(usize::MAX);
    }
    if !page.is_canonical() {
        return;
    }
    let mut builder = Builder::default();
    for number in 0..page.count() {
        let (key, value) = page.entry(number).expect("a canonical page is whole");
        assert_eq!(page.lower_bound(key), Some(number));
        builder.push(key, value);
        if page.level() > 0 {
            let child = page.child(number).expect("a canonical page has children");
            assert_eq!(child.encode(), value);
        } else {
            item(key, value);
        }
    }
    assert_eq!(page.entry(page.count()), None);
    assert_eq!(builder.take(page.level()), data);
}

fn item(key: &[u8], value: &[u8]) {
    let key = Key::decode(key).expect("a canonical page has keys of the format");
    assert_eq!(Key::decode(&key.encode()), Some(key));
    match key.kind {
        Kind::Inode => InodeRecord::decode(value).map(|record| assert_eq!(record.encode(), value)),
        Kind::Name => NameTarget::decode(value).map(|target| assert_eq!(target.encode(), value)),
        Kind::Chunk => ChunkRef::decode(value).map(|chunk| assert_eq!(chunk.encode(), value)),
        Kind::Data | Kind::Xattr | Kind::User | Kind::Group => None,
    };
}

/// A leaf with an item of each kind; pages above are two bits away.
pub fn seed() -> Vec<u8> {
    let key = |inode, kind, rest| Key { inode, kind, rest }.encode();
    let target = NameTarget { inode: 2, type_code: 8 };
    let page = PageRef {
        id: [1; 32],
        pack: [2; 16],
    };
    let child = Child { page, items: 7 }.encode();
    let mut builder = Builder::default();
    for (key, value) in [
        (key(0, Kind::User, &[0; 4]), b"root".to_vec()),
        (key(0, Kind::Group, &[0; 4]), b"root".to_vec()),
        (key(1, Kind::Inode, b""), vec![0; 128]),
        (key(1, Kind::Name, b"a"), target.encode()),
        (key(2, Kind::Data, b""), child),
        (key(2, Kind::Xattr, b"user.x"), Vec::new()),
        (
            key(2, Kind::Chunk, &[0; 8]),
            [[3; 48].as_slice(), &9_u32.to_le_bytes()].concat(),
        ),
    ] {
        builder.push(&key, &value);
    }
    builder.take(0)
}
