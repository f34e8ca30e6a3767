//! What a hostile writer could store: errors on the inodes it concerns, no panic, no listing without an end.

use super::*;
use crate::vault::tree_page::MAX_HEIGHT;

#[test]
fn hostile_items_are_errors_on_their_inode_only() {
    let value = |len| ChunkRef { len, ..chunk_ref(b"x") }.encode();
    let chunks: [&[(u64, Vec<u8>)]; 5] = [
        &[(0, value(100)), (99, value(1))],
        &[(0, value(1001))],
        &[(999, value(2))],
        &[(u64::MAX, value(1))],
        &[(0, vec![0; 52])],
    ];
    for items in chunks {
        let mut maker = sample();
        maker.file(ROOT, b"bad", 9, 1000);
        items.iter().for_each(|(offset, value)| {
            maker.items.insert(chunk_key(9, *offset), value.clone());
        });
        let stored = maker.open(3);
        assert!(matches!(bytes(&stored, 9), Err(Error::Stored { .. })));
        assert_eq!(bytes(&stored, 2).unwrap(), b"hello");
        assert_eq!(bytes(&stored, 3).unwrap().len(), 16000);
    }
    type Hostile = (u32, u64, Kind, &'static [u8], &'static [u8]);
    let hostile: [Hostile; 5] = [
        (0o170_000, 0, Kind::Data, b"", b"no type"),
        (0o100_644, 1 << 63, Kind::Data, b"", b"no size"),
        (0o100_644, 7, Kind::Data, b"", b"another size"),
        (0o120_777, 4, Kind::Data, b"", b"a\0b"),
        (0o120_777, 4, Kind::Data, b"", &[b'x'; 4096]),
    ];
    for (mode, size, kind, rest, value) in hostile {
        let mut maker = sample();
        maker.file(ROOT, b"bad", 9, 0);
        maker.record(9, &record(mode, size));
        maker.item(9, kind, rest, value);
        let stored = maker.open(100);
        let failed = stored.read_link(Inode(9)).is_err() && stored.extents(Inode(9), 0..1).is_err();
        assert!(failed, "{mode:o} {size}");
        assert_eq!(names(&stored, ROOT).unwrap().len(), 5);
        assert_eq!(bytes(&stored, 3).unwrap().len(), 16000);
    }
    let mut maker = sample();
    maker.item(5, Kind::Name, b"up", &NameTarget { inode: 1, type_code: 4 }.encode());
    maker.item(5, Kind::Name, b"zero", &[0; 9]);
    maker.item(3, Kind::Xattr, b"user.long", &[0; (1 << 16) + 1]);
    let stored = maker.open(100);
    assert!(matches!(names(&stored, 5), Err(Error::Stored { .. })));
    assert!(matches!(stored.lookup(Inode(5), b"zero"), Err(Error::Stored { .. })));
    assert_eq!(stored.lookup(Inode(5), b"up").unwrap(), Some(Inode(1)));
    assert!(matches!(stored.xattrs(Inode(3)), Err(Error::Stored { .. })));
}

/// Asks everything of every inode; answers by inode, errors as nothing.
fn everything(stored: &Arc<Stored>) -> Vec<Option<String>> {
    (0..8)
        .map(|inode| {
            let at = Inode(inode);
            let attr = stored.attr(at).ok()?;
            let all = match attr.file_type {
                FileType::Directory => format!("{:?}", names(stored, inode).ok()?),
                FileType::Symlink => format!("{:?}", stored.read_link(at).ok()?),
                FileType::File => format!("{:?}", bytes(stored, inode).ok()?),
                other => other.to_string(),
            };
            Some(format!("{attr:?} {all} {:?}", stored.xattrs(at).ok()?))
        })
        .collect()
}

#[test]
fn any_bit_of_a_page_may_be_hostile() {
    let maker = sample();
    let items = maker.sorted();
    for width in [100, 4] {
        let vault = vault();
        let mut pack = Pack::new(vault.frame(ObjectType::MetaPack, PAGES));
        let good = push_tree(&mut pack, &items, width);
        // The last page of the tree, which is the root, with each of its bits turned round.
        let mut builder = Builder::default();
        let mut groups = Vec::new();
        if width == 100 {
            items.iter().for_each(|(key, value)| builder.push(key, value));
        } else {
            let mut level: Vec<(Vec<u8>, Vec<u8>, u64)> = items
                .iter()
                .map(|(key, value)| (key.clone(), value.clone(), 1))
                .collect();
            for height in 0..good.height {
                groups = level
                    .chunks(width)
                    .map(|group| {
                        let mut page = Builder::default();
                        group.iter().for_each(|(key, value, _)| page.push(key, value));
                        let items = group.iter().map(|(_, _, items)| items).sum();
                        let id = page_id(&page.take(height)).0;
                        let page = PageRef { id, pack: PAGES };
                        (group[0].0.clone(), Child { page, items }.encode(), items)
                    })
                    .collect();
                level = groups.clone();
            }
            groups.iter().for_each(|(key, value, _)| builder.push(key, value));
        }
        let root = builder.take(good.height);
        assert_eq!(page_id(&root).0, good.root.id);
        let variants: Vec<(usize, Tree)> = (0..root.len() * 8)
            .map(|bit| {
                let mut page = root.clone();
                page[bit / 8] ^= 1 << (bit % 8);
                let root = push_page(&mut pack, &page);
                (bit / 8, tree(root, good.height, good.items))
            })
            .collect();
        maker.put(&vault, pack);
        let reader = Reader::new(vault, 8 << 20);
        let sound = everything(&open(&reader, &good));
        assert_eq!(sound.iter().flatten().count(), 5);
        let heap = 12 + 4 * items.len();
        for (at, variant) in variants {
            let stored = open(&reader, &variant);
            let answers = everything(&stored);
            let _ = (stored.user_name(1000), stored.group_name(100));
            let touched = answers.iter().zip(&sound).filter(|(now, before)| now != before).count();
            if width == 100 && at >= heap && is_value(&items, heap, at) {
                assert!(touched <= 1, "byte {at} changed {touched} inodes");
            }
        }
    }
}

/// Says whether byte `at` of the leaf of all `items` lies in a value.
fn is_value(items: &[Item], heap: usize, at: usize) -> bool {
    let mut start = heap;
    for (key, value) in items {
        let (begin, end) = (start + 2 + key.len(), start + 2 + key.len() + value.len());
        if (begin..end).contains(&at) {
            return true;
        }
        start = end;
    }
    false
}

#[test]
fn a_tree_that_leads_to_the_same_names_again_and_again_is_an_error_and_no_endless_listing() {
    let vault = vault();
    let mut pack = Pack::new(vault.frame(ObjectType::MetaPack, PAGES));
    let maker = sample();
    let mut page = Builder::default();
    maker.items.iter().for_each(|(key, value)| page.push(key, value));
    let mut child = Child {
        page: push_page(&mut pack, &page.take(0)),
        items: to_u64(maker.items.len()),
    };
    let first = maker.items.keys().next().unwrap().clone();
    let mut trees = Vec::new();
    for level in 1..MAX_HEIGHT {
        for honest in [true, false] {
            let mut page = Builder::default();
            for number in 0..200_u64 {
                let key = first_key(number, Kind::User);
                page.push(if honest || number == 0 { &first } else { &key }, &child.encode());
            }
            let items = child.items.saturating_mul(200);
            let root = push_page(&mut pack, &page.take(level));
            trees.push(tree(root, level, items));
            if honest {
                child = Child { page: root, items };
            }
        }
    }
    maker.put(&vault, pack);
    let reader = Reader::new(vault, 8 << 20);
    for tree in trees {
        let stored = open(&reader, &tree);
        assert!(names(&stored, ROOT).map_or(true, |names| names.len() < 5));
        let _ = everything(&stored);
        let far = stored.read_dir(Inode(ROOT), tree.items - 1, &mut |_| true);
        assert!(far.is_err() || tree.items < 100);
    }
}

#[test]
fn counts_that_lie_end_a_listing_with_an_error() {
    let maker = sample();
    let items = maker.sorted();
    let vault = vault();
    let mut pack = Pack::new(vault.frame(ObjectType::MetaPack, PAGES));
    let halves = items.split_at(9);
    let mut trees = Vec::new();
    for (claimed, total) in [(1, 10), (1 << 40, 1 << 41), (u64::MAX, u64::MAX)] {
        let mut root = Builder::default();
        for half in [halves.0, halves.1] {
            let mut page = Builder::default();
            half.iter().for_each(|(key, value)| page.push(key, value));
            let page = push_page(&mut pack, &page.take(0));
            root.push(&half[0].0, &Child { page, items: claimed }.encode());
        }
        trees.push(tree(push_page(&mut pack, &root.take(1)), 1, total));
    }
    maker.put(&vault, pack);
    let reader = Reader::new(vault, 8 << 20);
    for tree in trees {
        let stored = open(&reader, &tree);
        let _ = names(&stored, ROOT);
        let _ = everything(&stored);
        assert_eq!(stored.lookup(Inode(ROOT), b"b").unwrap(), Some(Inode(3)));
    }
}
