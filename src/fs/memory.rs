//! A file system made by hand, for tests of what stands above readers: sound, damaged and hostile.

use std::collections::BTreeMap;
use std::ops::Range;

use super::{
    Attr, DirEntry, Error, Extent, FileSystem, FileType, Inode, MAX_EXTENTS, Place, Result, Summary, Timestamp, Xattr,
};
use crate::bytes::to_u64;

/// Files by inode number; 1 is the root.
#[derive(Clone)]
pub(crate) struct Memory {
    files: BTreeMap<u64, File>,
    /// Names of users and groups by number.
    pub(crate) users: BTreeMap<u32, Vec<u8>>,
    pub(crate) groups: BTreeMap<u32, Vec<u8>>,
}

/// One file.
#[derive(Clone)]
pub(crate) struct File {
    pub(crate) attr: Attr,
    pub(crate) names: Vec<(Vec<u8>, Inode)>,
    pub(crate) pieces: Vec<Extent>,
    pub(crate) target: Vec<u8>,
    pub(crate) xattrs: Vec<Xattr>,
    pub(crate) flags: u32,
    /// Its inode cannot be read.
    pub(crate) damaged: bool,
}

impl Memory {
    pub(crate) fn new() -> Self {
        let (users, groups) = (BTreeMap::new(), BTreeMap::new());
        let files = BTreeMap::new();
        let mut memory = Self { files, users, groups };
        memory.make(FileType::Directory, 0o755);
        memory
    }

    pub(crate) fn make(&mut self, file_type: FileType, permissions: u16) -> Inode {
        let inode = to_u64(self.files.len()) + 1;
        let time = |seconds| Timestamp {
            seconds,
            nanos: 123_456_789,
        };
        let attr = Attr {
            file_type,
            permissions,
            uid: 0,
            gid: 0,
            size: 0,
            blocks: 0,
            links: 1,
            device: super::DeviceNumber::default(),
            accessed: time(1_000_000_000),
            modified: time(1_100_000_000),
            changed: time(1_200_000_000),
            created: None,
        };
        let file = File {
            attr,
            names: Vec::new(),
            pieces: Vec::new(),
            target: Vec::new(),
            xattrs: Vec::new(),
            flags: 0,
            damaged: false,
        };
        self.files.insert(inode, file);
        Inode(inode)
    }

    pub(crate) fn edit(&mut self, inode: Inode) -> &mut File {
        self.files.get_mut(&inode.0).unwrap()
    }

    /// Puts a name into a directory, whatever both may be.
    pub(crate) fn name(&mut self, directory: Inode, name: &[u8], inode: Inode) {
        self.edit(directory).names.push((name.to_vec(), inode));
    }

    pub(crate) fn directory(&mut self, parent: Inode, name: &[u8]) -> Inode {
        let inode = self.make(FileType::Directory, 0o755);
        self.name(parent, name, inode);
        inode
    }

    pub(crate) fn file(&mut self, parent: Inode, name: &[u8], data: &[u8]) -> Inode {
        let inode = self.make(FileType::File, 0o644);
        self.edit(inode).attr.size = to_u64(data.len());
        self.piece(inode, 0, data);
        self.name(parent, name, inode);
        inode
    }

    /// Appends bytes that begin at `start`, a hole before them.
    pub(crate) fn piece(&mut self, inode: Inode, start: u64, data: &[u8]) {
        let place = Place::Inline(data.into());
        self.extent(inode, start, to_u64(data.len()), place);
    }

    pub(crate) fn extent(&mut self, inode: Inode, start: u64, len: u64, place: Place) {
        let file = self.edit(inode);
        if len > 0 {
            file.pieces.push(Extent { start, len, place });
        }
        file.attr.size = file.attr.size.max(start + len);
    }

    pub(crate) fn link(&mut self, parent: Inode, name: &[u8], target: &[u8]) -> Inode {
        let inode = self.make(FileType::Symlink, 0o777);
        self.edit(inode).target = target.to_vec();
        self.edit(inode).attr.size = to_u64(target.len());
        self.name(parent, name, inode);
        inode
    }

    fn get(&self, inode: Inode) -> Result<&File> {
        let file = self.files.get(&inode.0).ok_or(Error::NoInode { inode })?;
        if file.damaged {
            let what = format!("inode {}", inode.0);
            return Err(Error::Corrupt { what, at: 4096 });
        }
        Ok(file)
    }

    fn of_type(&self, inode: Inode, wanted: FileType) -> Result<&File> {
        let file = self.get(inode)?;
        if file.attr.file_type == wanted {
            Ok(file)
        } else {
            Err(Error::WrongType { inode, wanted })
        }
    }
}

impl FileSystem for Memory {
    fn root(&self) -> Inode {
        Inode(1)
    }

    fn lookup(&self, directory: Inode, name: &[u8]) -> Result<Option<Inode>> {
        let mut names = self.of_type(directory, FileType::Directory)?.names.iter();
        Ok(names.find(|(known, _)| known == name).map(|(_, inode)| *inode))
    }

    fn read_dir(&self, directory: Inode, cookie: u64, visit: &mut dyn FnMut(DirEntry<'_>) -> bool) -> Result<()> {
        let names = self.of_type(directory, FileType::Directory)?.names.iter();
        for ((name, inode), next) in names.zip(1..).skip_while(|(_, next)| *next <= cookie) {
            let file_type = None;
            let inode = *inode;
            if !visit(DirEntry {
                name,
                inode,
                file_type,
                next,
            }) {
                break;
            }
        }
        Ok(())
    }

    fn attr(&self, inode: Inode) -> Result<Attr> {
        Ok(self.get(inode)?.attr)
    }

    fn read_link(&self, inode: Inode) -> Result<Vec<u8>> {
        Ok(self.of_type(inode, FileType::Symlink)?.target.clone())
    }

    fn xattrs(&self, inode: Inode) -> Result<Vec<Xattr>> {
        Ok(self.get(inode)?.xattrs.clone())
    }

    fn extents(&self, inode: Inode, range: Range<u64>) -> Result<Vec<Extent>> {
        let file = self.of_type(inode, FileType::File)?;
        let mut all = Vec::new();
        let mut at = 0;
        let place = Place::Zeros;
        for piece in &file.pieces {
            if piece.start > at {
                let len = piece.start - at;
                all.push(Extent {
                    start: at,
                    len,
                    place: place.clone(),
                });
            }
            all.push(piece.clone());
            at = piece.start + piece.len;
        }
        if at < file.attr.size {
            let len = file.attr.size - at;
            all.push(Extent { start: at, len, place });
        }
        all.retain(|extent| extent.start + extent.len > range.start && extent.start < range.end);
        all.truncate(MAX_EXTENTS);
        Ok(all)
    }

    fn summary(&self) -> Summary {
        Summary::default()
    }

    fn flags(&self, inode: Inode) -> Result<u32> {
        Ok(self.get(inode)?.flags)
    }

    fn user_name(&self, uid: u32) -> Result<Option<Vec<u8>>> {
        Ok(self.users.get(&uid).cloned())
    }

    fn group_name(&self, gid: u32) -> Result<Option<Vec<u8>>> {
        Ok(self.groups.get(&gid).cloned())
    }
}
