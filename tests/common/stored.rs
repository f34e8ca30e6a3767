//! All files of a file system at once.

use super::disks::{Sparse, length};
use std::collections::BTreeMap;
use std::sync::Arc;
use vaultfs::fs::content::Content;
use vaultfs::fs::{Attr, FileSystem, FileType, Inode, Xattr};

/// A file as it is read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// What stat(2) tells.
    pub attr: Attr,
    /// Extended attributes.
    pub xattrs: Vec<Xattr>,
    /// Target of a link, bytes of a file.
    pub content: Vec<u8>,
}

/// Path, from `/` on and empty for the root, to file.
pub type Files = BTreeMap<Vec<u8>, File>;

/// Every file that can be read, by its path, and what cannot.
pub fn walk(tree: &Arc<dyn FileSystem>) -> (Files, Vec<String>) {
    let (mut files, mut failed, mut waiting) = (Files::new(), Vec::new(), vec![(Vec::new(), tree.root())]);
    while let Some((path, inode)) = waiting.pop() {
        let read = file(tree, inode).and_then(|file| {
            if file.attr.file_type == FileType::Directory {
                tree.read_dir(inode, 0, &mut |entry| {
                    waiting.push(([path.as_slice(), b"/", entry.name].concat(), entry.inode));
                    true
                })?;
            }
            Ok(file)
        });
        match read {
            Ok(file) => drop(files.insert(path, file)),
            Err(error) => failed.push(error.to_string()),
        }
    }
    (files, failed)
}

fn file(tree: &Arc<dyn FileSystem>, inode: Inode) -> vaultfs::fs::Result<File> {
    let attr = tree.attr(inode)?;
    let content = match attr.file_type {
        FileType::Symlink => tree.read_link(inode)?,
        FileType::File => {
            let nothing = Sparse::new(0, Vec::new());
            let content = Content::open(Arc::clone(tree), Arc::new(nothing), inode)?;
            let mut bytes = vec![0xee; length(content.size())];
            content.read(0, &mut bytes)?;
            bytes
        }
        _ => Vec::new(),
    };
    let xattrs = tree.xattrs(inode)?;
    Ok(File { attr, xattrs, content })
}
