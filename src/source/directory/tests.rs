//! Directories of a real file system: deep, wide, changed while they are looked at.

use super::listing::{Hint, Listing, Names};
use super::*;
use attributes::Kind;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;

fn names_of(directory: &Directory) -> Vec<(String, Hint)> {
    let (mut found, mut listing) = (Vec::new(), Listing::new(directory).unwrap());
    loop {
        let mut names = Names::default();
        let more = listing.read(&mut names).unwrap();
        for number in 0..names.len() {
            let (name, hint) = names.get(number).unwrap();
            found.push((name.to_str().unwrap().to_owned(), hint));
        }
        if !more {
            found.sort_by(|a, b| a.0.cmp(&b.0));
            return found;
        }
    }
}

#[test]
fn every_name_is_listed_once_in_batches() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected: Vec<_> = (0..5000).map(|number| format!("file-{number:05}")).collect();
    for name in &expected {
        std::fs::write(dir.path().join(name), "").unwrap();
    }
    std::fs::create_dir(dir.path().join("sub")).unwrap();
    expected.push("sub".to_owned());
    let (root, attributes) = Directory::open_root(dir.path()).unwrap();
    assert_eq!(attributes.kind, Kind::Directory);
    for _ in 0..2 {
        let found = names_of(&root);
        let names: Vec<_> = found.iter().map(|(name, _)| name.clone()).collect();
        assert_eq!(names, expected);
        assert!(matches!(found.last().unwrap().1, Hint::Directory | Hint::Unknown));
    }
}

#[test]
fn a_tree_deeper_than_paths_are_long_is_walked_with_few_descriptors() {
    const DEPTH: usize = 1500;
    let dir = tempfile::tempdir().unwrap();
    let name = CString::new("d".repeat(20)).unwrap();
    let mut fd = rustix::fs::open(dir.path(), DIRECTORY, Mode::empty()).unwrap();
    for _ in 0..DEPTH {
        rustix::fs::mkdirat(&fd, name.as_c_str(), Mode::from_raw_mode(0o755)).unwrap();
        fd = rustix::fs::openat(&fd, name.as_c_str(), DIRECTORY, Mode::empty()).unwrap();
    }
    let (root, _) = Directory::open_root(dir.path()).unwrap();
    let mut chain = vec![root];
    for _ in 0..DEPTH {
        let above = chain.last().unwrap();
        let found = above.attributes(&name).unwrap();
        let (child, _) = above.open_child(&name, found.id).unwrap();
        chain.push(child);
        assert!(chain[0].descriptors.open.lock().len() <= KEPT_OPEN);
    }
    assert_eq!(chain.last().unwrap().path_of(b"x").len(), DEPTH * 21 + 1);
    // From the bottom up: each is found again though its descriptor was closed.
    for directory in chain.iter().rev() {
        let found = attributes_of_open(directory.descriptor().unwrap().as_fd()).unwrap();
        assert_eq!(found.id, directory.id());
    }
    let last = chain.pop().unwrap();
    drop(chain);
    drop(last);
    std::process::Command::new("rm")
        .arg("-rf")
        .arg(dir.path())
        .status()
        .unwrap();
}

#[test]
fn what_took_the_place_of_something_else_is_not_read_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::create_dir(at("a")).unwrap();
    std::fs::write(at("f"), "secret").unwrap();
    let (root, _) = Directory::open_root(dir.path()).unwrap();
    let (a, f) = (root.attributes(c"a").unwrap(), root.attributes(c"f").unwrap());
    let (child, _) = root.open_child(c"a", a.id).unwrap();
    std::fs::rename(at("a"), at("b")).unwrap();
    std::os::unix::fs::symlink("/etc", at("a")).unwrap();
    assert!(root.open_child(c"a", a.id).is_err(), "a link is not followed");
    child.close();
    assert!(child.descriptor().is_err(), "nor when a directory is opened again");
    std::fs::remove_file(at("f")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        at("f").as_os_str().as_bytes(),
        rustix::fs::FileType::Fifo,
        Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    assert!(
        file::File::open(&root, c"f", &f).is_err(),
        "and a FIFO does not hold it up"
    );
}

#[test]
fn holes_are_told_and_reads_end_with_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(dir.path().join("f")).unwrap();
    file.set_len(1 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[7; 4096], 512 << 10).unwrap();
    let (root, _) = Directory::open_root(dir.path()).unwrap();
    let seen = root.attributes(c"f").unwrap();
    let (open, now) = file::File::open(&root, c"f", &seen).unwrap();
    assert!(!seen.content_differs(&now));
    let data = open.next_data(0, 1 << 20).unwrap().unwrap();
    assert!(data.contains(&(512 << 10)), "{data:?}");
    let mut buf = vec![0; 8192];
    assert_eq!(open.read_at((1 << 20) - 5, &mut buf).unwrap(), 5);
    assert_eq!(open.read_at(512 << 10, &mut buf).unwrap(), 8192);
    assert_eq!((buf[0], buf[4095], buf[4096]), (7, 7, 0));
    assert_eq!(open.next_data(1 << 20, 1 << 20).unwrap(), None);
}
