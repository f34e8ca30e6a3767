//! Files inside images: looking up, listing and describing them through their file system's reader.

use std::sync::Arc;

use super::attributes::{Attributes, Owner};
use super::contents::Contents;
use super::escape;
use super::held::Whose;
use super::place::{Inside, Opened, Place, View};
use super::{Error, LinkTargets, Node, Owners, Tree};
use crate::fs::content::Content;
use crate::fs::handle::FileHandle;
use crate::fs::{self, Attr, FileType, Inode, Xattr};
use crate::vault::Address;

impl Tree {
    /// What is on the disks of a backup.
    pub(super) fn contents(&self, address: &Address) -> Result<Arc<Contents>, Error> {
        let backup = self.backup(address)?;
        if let Some(contents) = backup.contents.get() {
            return Ok(Arc::clone(contents));
        }
        let (loaded, opened) = Contents::load_open(&self.content.reader, address, &backup.manifest)?;
        self.open_volumes.keep(&loaded, opened);
        // Whoever came first; both say the same.
        Ok(Arc::clone(backup.contents.get_or_init(|| Arc::new(loaded))))
    }

    /// The file system of a place.
    pub(super) fn opened(&self, place: &Place) -> Result<Arc<Opened>, Error> {
        self.open_volumes.get(place, || self.contents(&place.address))
    }

    pub(super) fn child_inside(&self, directory: &Inside, name: &[u8]) -> Result<Option<Inside>, Error> {
        let opened = self.opened(&directory.place)?;
        // `.` and `..` are the kernel's own; on the volume they would lead around a mount.
        if matches!(name, b"." | b"..") {
            return Ok(None);
        }
        let mut found = opened.file_system.lookup(directory.inode, name)?;
        if let (None, Some(raw)) = (found, escape::hidden_behind(name)) {
            found = opened.file_system.lookup(directory.inode, &raw)?;
        }
        let Some(inode) = found else { return Ok(None) };
        if let Some(crossed) = self.crossed(&directory.place, inode)? {
            return Ok(Some(crossed));
        }
        let file_type = opened.file_system.attr(inode)?.file_type;
        Ok(Some(Inside {
            place: Arc::clone(&directory.place),
            inode,
            file_type,
        }))
    }

    /// The root of the mount that covers a directory, if one does.
    fn crossed(&self, place: &Place, inode: Inode) -> Result<Option<Inside>, Error> {
        let Some(number) = place.crossings.get(&inode) else {
            return Ok(None);
        };
        let contents = self.contents(&place.address)?;
        Ok(contents.mounts.get(*number).map(Inside::root))
    }

    /// Gives the names of a directory after `cookie` to `visit`, each with the cookie to go on from; until it returns `false`.
    pub(super) fn visit_inside(
        &self,
        directory: &Inside,
        cookie: u64,
        visit: &mut dyn FnMut(&[u8], Node, u64) -> bool,
    ) -> Result<(), Error> {
        let opened = self.opened(&directory.place)?;
        let mut directories = Vec::new();
        let mut failed = None;
        let listed = opened.file_system.read_dir(directory.inode, cookie, &mut |entry| {
            if entry.file_type == Some(FileType::Directory) && directories.len() < DIRECTORIES_AHEAD {
                directories.push(entry.inode);
            }
            let child = match self.crossed(&directory.place, entry.inode) {
                Ok(Some(crossed)) => crossed,
                Ok(None) => Inside {
                    place: Arc::clone(&directory.place),
                    inode: entry.inode,
                    file_type: listed_type(&opened, entry),
                },
                Err(error) => {
                    failed = Some(error);
                    return false;
                }
            };
            visit(&escape::shown(entry.name), Node::Inside(child), entry.next)
        });
        self.read_ahead(&opened, directories);
        match failed {
            Some(error) => Err(error),
            None => Ok(listed?),
        }
    }

    /// Has directories made ready by other threads: who lists one often goes on with those in it, and each lies somewhere else.
    fn read_ahead(&self, opened: &Arc<Opened>, directories: Vec<Inode>) {
        for directory in directories {
            let opened = Arc::clone(opened);
            // A failure is met again, and reported, by whoever lists it.
            let job = move || drop(opened.file_system.read_dir(directory, 0, &mut |_| false));
            if !self.content.read_ahead.offer(DIRECTORY_BYTES, job) {
                break;
            }
        }
    }

    pub(super) fn attr_inside(&self, file: &Inside) -> Result<Attr, Error> {
        Ok(self.opened(&file.place)?.file_system.attr(file.inode)?)
    }

    pub(super) fn attributes_inside(&self, file: &Inside) -> Result<Attributes, Error> {
        let attr = self.attr_inside(file)?;
        let owner = match self.settings.owners {
            Owners::Image => Owner {
                uid: attr.uid,
                gid: attr.gid,
            },
            Owners::Fixed(owner) => owner,
        };
        Ok(Attributes {
            ino: file.ino(),
            file_type: attr.file_type,
            size_bytes: attr.size,
            blocks: attr.blocks,
            accessed: attr.accessed,
            modified: attr.modified,
            changed: attr.changed,
            created: attr.created.unwrap_or_default(),
            mode: attr.permissions,
            links: attr.links.max(1),
            owner,
            device: attr.device,
            block_bytes: BLOCK_BYTES,
        })
    }

    pub(super) fn link_inside(&self, file: &Inside) -> Result<Vec<u8>, Error> {
        let target = self.opened(&file.place)?.file_system.read_link(file.inode)?;
        match &self.settings.link_targets {
            LinkTargets::Within(mount_point) if target.starts_with(b"/") => {
                let place = &file.place;
                let base = match place.view {
                    View::Volume => format!("{}/volumes/{}", place.address, place.volume),
                    View::Mount(_) => format!("{}/root", place.address),
                    View::Tree => format!("{}/tree", place.address),
                };
                let mut within = mount_point.clone();
                within.push(b'/');
                within.extend(base.as_bytes());
                within.extend(&target);
                Ok(within)
            }
            LinkTargets::Within(_) | LinkTargets::AsStored => Ok(target),
        }
    }

    pub(super) fn xattrs_inside(&self, file: &Inside) -> Result<Arc<[Xattr]>, Error> {
        Ok(self.opened(&file.place)?.xattrs(file.inode)?)
    }

    /// Flags as `FS_IOC_GETFLAGS` gives them.
    pub(super) fn flags_inside(&self, file: &Inside) -> Result<u32, Error> {
        Ok(self.opened(&file.place)?.file_system.flags(file.inode)?)
    }

    /// The name that a user, or a group, had where a file comes from.
    pub(super) fn name_inside(&self, file: &Inside, whose: Whose) -> Result<Option<Vec<u8>>, Error> {
        let file_system = &self.opened(&file.place)?.file_system;
        Ok(match whose {
            Whose::User(uid) => file_system.user_name(uid)?,
            Whose::Group(gid) => file_system.group_name(gid)?,
        })
    }

    pub(super) fn open_inside(&self, file: &Inside) -> Result<FileHandle, Error> {
        let opened = self.opened(&file.place)?;
        let volume = Arc::clone(opened.neighbourhood.volume());
        let content = Content::open(Arc::clone(&opened.file_system), volume, file.inode)?;
        let read_ahead = Arc::clone(&self.content.read_ahead);
        Ok(FileHandle::new(content, Arc::clone(&opened.neighbourhood), read_ahead))
    }
}

/// As most file systems tell it: programs take a buffer of at least this for each file, and most files are small.
const BLOCK_BYTES: u32 = 4096;

/// Directories of one answer that are made ready.
const DIRECTORIES_AHEAD: usize = 64;
/// What making a directory ready reads, about.
const DIRECTORY_BYTES: u64 = 64 << 10;

/// The type for a listing; where the directory does not tell it and the inode cannot be read, a guess that nothing rests on.
fn listed_type(opened: &Opened, entry: fs::DirEntry<'_>) -> FileType {
    let asked = || opened.file_system.attr(entry.inode).map(|attr| attr.file_type);
    entry.file_type.map_or_else(asked, Ok).unwrap_or(FileType::File)
}
