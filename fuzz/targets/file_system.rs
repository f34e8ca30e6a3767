//! Asks a file system everything that a mount can ask, and holds the answers to the contract of `vaultfs::fs::FileSystem`.

use std::collections::HashSet;
use std::sync::{Arc, LazyLock};

use vaultfs::fs::content::Content;
use vaultfs::fs::{self, FileSystem, FileType, Inode};
use vaultfs::image::ReadAt;

use super::image::Patched;

/// The images of a target, unpacked when they are first used.
pub type Images = LazyLock<Vec<Arc<[u8]>>>;

/// Opens the image that an input stands for, and walks it.
pub fn run<F: FileSystem + 'static>(images: &Images, data: &[u8], open: impl Fn(Arc<dyn ReadAt>) -> fs::Result<F>) {
    if let Some(patched) = Patched::decode(images, data) {
        open_and_walk(patched, open);
    }
}

/// Opens an image and walks it.
pub fn open_and_walk<F: FileSystem + 'static>(image: Patched, open: impl Fn(Arc<dyn ReadAt>) -> fs::Result<F>) {
    let volume: Arc<dyn ReadAt> = Arc::new(image);
    if let Ok(opened) = open(Arc::clone(&volume)) {
        walk(&(Arc::new(opened) as Arc<dyn FileSystem>), &volume);
    }
}

/// Most files that are visited, and names that are taken from one directory.
const VISITS: usize = 200;
const NAMES: usize = 100;

/// Errors are expected everywhere; what is given as an answer must keep the contract.
fn walk(fs: &Arc<dyn FileSystem>, volume: &Arc<dyn ReadAt>) {
    let mut seen = HashSet::new();
    let mut waiting = vec![fs.root()];
    let _ = fs.summary();
    while let Some(inode) = waiting.pop() {
        if seen.len() >= VISITS || !seen.insert(inode) {
            continue;
        }
        let _ = fs.xattrs(inode);
        let Ok(attr) = fs.attr(inode) else { continue };
        assert!(attr.permissions <= 0o7777 && attr.links > 0 && attr.modified.nanos < 1_000_000_000);
        assert_eq!(attr.file_type == FileType::Directory, list(fs, inode, &mut waiting));
        if attr.file_type == FileType::Symlink {
            assert!(fs.read_link(inode).is_ok_and(|target| target.len() <= 4095) || fs.read_link(inode).is_err());
        }
        if attr.file_type == FileType::File {
            let _ = read(fs, volume, inode, attr.size);
        }
    }
    // Numbers that no directory gave.
    for number in [0, 1, 2, 3, 1 << 20, u64::MAX] {
        let _ = fs.attr(Inode(number));
        let _ = fs.extents(Inode(number), 0..u64::MAX);
    }
}

/// Lists a directory in two requests and looks up what is there; says whether it is a directory at all.
fn list(fs: &Arc<dyn FileSystem>, inode: Inode, waiting: &mut Vec<Inode>) -> bool {
    let mut names = Vec::new();
    let mut cookie = 0;
    for most in [NAMES / 2, NAMES] {
        let listed = fs.read_dir(inode, cookie, &mut |entry| {
            assert!(entry.next > cookie, "a cookie that does not grow");
            assert!(!matches!(entry.name, b"." | b".."), "a name that is never listed");
            cookie = entry.next;
            waiting.push(entry.inode);
            names.push(entry.name.to_vec());
            names.len() < most
        });
        if matches!(listed, Err(fs::Error::WrongType { .. })) {
            return false;
        }
    }
    for name in names.iter().take(4) {
        let _ = fs.lookup(inode, name);
    }
    let _ = fs.lookup(inode, b"nothing of this name");
    true
}

fn read(fs: &Arc<dyn FileSystem>, volume: &Arc<dyn ReadAt>, inode: Inode, size: u64) -> fs::Result<()> {
    let extents = fs.extents(inode, 0..size)?;
    assert!(extents.len() <= fs::MAX_EXTENTS);
    assert_eq!(extents.is_empty(), size == 0, "no extent holds the first byte");
    let content = Content::open(Arc::clone(fs), Arc::clone(volume), inode)?;
    assert_eq!(content.size(), size, "the size is not that of the attributes");
    let mut buf = [0; 1024];
    for at in [0, size / 2, size.saturating_sub(1024)] {
        let len = (size - at).min(1024) as usize;
        content.read(at, &mut buf[..len])?;
    }
    let data = content.next_data(size / 3)?;
    data.map_or(Ok(0), |data| content.next_hole(data)).map(|_| ())
}
