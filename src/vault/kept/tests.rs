//! The cache directory alone: what it gives back, and what it makes of damage, strangers, little room and many users.

use super::*;
use std::os::unix::fs::PermissionsExt;
use tempfile::TempDir;

const VAULT: VaultId = [7; 16];

fn kept(root: &Path, limit: u64) -> Kept {
    Kept::of_vault(root, &VAULT, Scope::Data, limit)
}

fn take(kept: &Kept, name: &[u8]) -> Option<Vec<u8>> {
    kept.find(Kind::Page, name, |bytes| Some(bytes.to_vec()))
}

/// The files of all entries.
fn entries(kept: &Kept) -> Vec<PathBuf> {
    kept.files().into_iter().map(|file| file.path).collect()
}

#[test]
fn an_entry_comes_back_as_it_was_put_also_to_another_process() {
    let root = TempDir::new().unwrap();
    kept(root.path(), 1 << 20).put(Kind::Page, b"name", &[b"one", b"", b"two"]);
    let later = kept(root.path(), 1 << 20);
    assert_eq!(take(&later, b"name").unwrap(), b"onetwo");
    assert_eq!(later.find(Kind::Chunk, b"name", |_| Some(())), None);
    assert_eq!(take(&later, b"nam"), None);
    assert_eq!(later.counters(), (1, 2));
    later.forget(Kind::Page, b"name");
    assert_eq!(take(&later, b"name"), None);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(later.directory()), 0o700);
}

#[test]
fn a_damaged_entry_is_no_entry_and_is_replaced() {
    let root = TempDir::new().unwrap();
    let kept = kept(root.path(), 1 << 20);
    kept.put(Kind::Page, b"name", &[b"payload"]);
    let path = entries(&kept).pop().unwrap();
    let good = std::fs::read(&path).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        std::fs::write(&path, &bad).unwrap();
        assert_eq!(take(&kept, b"name"), None, "byte {at}");
        assert!(!path.exists());
        std::fs::write(&path, &good[..at]).unwrap();
        assert_eq!(take(&kept, b"name"), None, "length {at}");
    }
    kept.put(Kind::Page, b"name", &[b"payload"]);
    assert_eq!(take(&kept, b"name").unwrap(), b"payload");
}

#[test]
fn an_entry_of_another_vault_or_name_is_no_entry() {
    let root = TempDir::new().unwrap();
    let ours = kept(root.path(), 1 << 20);
    let theirs = Kept::of_vault(root.path(), &[8; 16], Scope::Data, 1 << 20);
    theirs.put(Kind::Page, b"name", &[b"theirs"]);
    ours.put(Kind::Page, b"other", &[b"other"]);
    let path = ours.path(Kind::Page, b"name");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    for foreign in [theirs.path(Kind::Page, b"name"), ours.path(Kind::Page, b"other")] {
        std::fs::copy(foreign, &path).unwrap();
        assert_eq!(take(&ours, b"name"), None);
    }
    std::os::unix::fs::symlink(ours.path(Kind::Page, b"other"), &path).unwrap();
    assert_eq!(take(&ours, b"name"), None);
}

#[test]
fn what_its_reader_refuses_is_removed() {
    let root = TempDir::new().unwrap();
    let kept = kept(root.path(), 1 << 20);
    kept.put(Kind::Page, b"name", &[b"payload"]);
    assert_eq!(kept.find(Kind::Page, b"name", |_| None::<()>), None);
    assert_eq!(entries(&kept), Vec::<PathBuf>::new());
}

#[test]
fn the_longest_unused_entries_go_when_there_are_too_many_bytes() {
    let root = TempDir::new().unwrap();
    let kept = kept(root.path(), 100_000);
    let now = SystemTime::now();
    for number in 0..300u32 {
        let name = number.to_le_bytes();
        kept.put(Kind::Page, &name, &[&[1; 1000]]);
        // Each a second younger than the one before, all of them old; the first is used all the time.
        if let Ok(file) = File::options().write(true).open(kept.path(Kind::Page, &name)) {
            file.set_modified(now - Duration::from_secs(10_000 - u64::from(number)))
                .unwrap();
        }
        assert!(take(&kept, &0u32.to_le_bytes()).is_some(), "{number}");
        let total = kept.files().iter().map(|file| file.len).sum::<u64>();
        assert!(total <= 108_000, "{total} after {number}");
    }
    assert!(take(&kept, &299u32.to_le_bytes()).is_some());
    assert!(take(&kept, &150u32.to_le_bytes()).is_none());
}

#[test]
fn a_directory_that_cannot_be_written_fails_nothing() {
    let root = TempDir::new().unwrap();
    std::fs::write(root.path().join("file"), b"").unwrap();
    let kept = kept(&root.path().join("file"), 1 << 20);
    kept.put(Kind::Page, b"name", &[b"payload"]);
    assert_eq!(take(&kept, b"name"), None);
    let full = Kept::of_vault(Path::new("/dev/full"), &VAULT, Scope::Data, 1 << 20);
    full.put(Kind::Page, b"name", &[b"payload"]);
}

#[test]
fn temporary_files_of_the_dead_go_and_those_of_the_living_stay() {
    let root = TempDir::new().unwrap();
    let kept = kept(root.path(), 100_000);
    kept.put(Kind::Page, b"name", &[b"payload"]);
    let fan = entries(&kept).pop().unwrap().parent().unwrap().to_owned();
    let [dead, alive] = [".tmp-1", ".tmp-2"].map(|name| fan.join(name));
    for path in [&dead, &alive] {
        std::fs::write(path, b"").unwrap();
    }
    let old = SystemTime::now() - ABANDONED - Duration::from_secs(5);
    File::options()
        .write(true)
        .open(&dead)
        .unwrap()
        .set_modified(old)
        .unwrap();
    kept.sweep();
    assert_eq!((dead.exists(), alive.exists()), (false, true));
}

#[test]
fn many_writers_and_readers_of_one_entry_see_it_whole_or_not_at_all() {
    let root = TempDir::new().unwrap();
    let kept = kept(root.path(), 1 << 20);
    std::thread::scope(|scope| {
        for writer in 0..4u8 {
            let kept = &kept;
            scope.spawn(move || {
                for _ in 0..200 {
                    kept.put(Kind::Page, b"name", &[&[writer; 5000]]);
                    let found = take(kept, b"name").unwrap();
                    assert!(found.len() == 5000 && found.iter().all(|byte| *byte == found[0]));
                }
            });
        }
    });
}
