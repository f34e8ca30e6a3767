//! One file of the tree for a reader that is no kernel: `ls`, `cat` and `cp` ask it everything, and its reference is given back
//! when it is dropped.

use super::attributes::Attributes;
use super::files::OpenFile;
use super::node::{Ino, Node};
use super::{Directory, Error, Found, Tree};
use crate::fs::{FileType, Xattr};

/// A file that somebody looks at; while it lives the tree knows its number.
///
/// A walk over millions of files holds those of its path only.
pub struct Held<'a> {
    tree: &'a Tree,
    /// What stat(2) would tell.
    pub attributes: Attributes,
}

impl Tree {
    /// The directory of all.
    ///
    /// # Errors
    /// As [`enter`](Self::enter).
    pub fn hold_root(&self) -> Result<Held<'_>, Error> {
        self.hold(&Node::Root)
    }

    /// A file that a directory has listed.
    ///
    /// # Errors
    /// As [`enter`](Self::enter): its attributes cannot be read.
    pub fn hold(&self, node: &Node) -> Result<Held<'_>, Error> {
        let entry = self.enter(node)?;
        Ok(Held {
            tree: self,
            attributes: entry.attributes,
        })
    }
}

impl<'a> Held<'a> {
    /// Its number.
    #[must_use]
    pub fn ino(&self) -> Ino {
        self.attributes.ino
    }

    /// The file of this name in the directory.
    ///
    /// # Errors
    /// As [`Tree::lookup`].
    pub fn lookup(&self, name: &[u8]) -> Result<Option<Held<'a>>, Error> {
        Ok(match self.tree.lookup(self.ino(), name)? {
            Found::Here(entry) => Some(Held {
                tree: self.tree,
                attributes: entry.attributes,
            }),
            Found::Missing(_) => None,
        })
    }

    /// Opens the directory, to be read by [`Tree::visit`].
    ///
    /// # Errors
    /// As [`Tree::open_directory`].
    pub fn directory(&self) -> Result<Directory, Error> {
        self.tree.open_directory(self.ino())
    }

    /// Opens the regular file.
    ///
    /// # Errors
    /// As [`Tree::open_file`].
    pub fn file(&self) -> Result<OpenFile, Error> {
        self.tree.open_file(self.ino())
    }

    /// Text of the symbolic link.
    ///
    /// # Errors
    /// As [`Tree::link_target`].
    pub fn link_target(&self) -> Result<Vec<u8>, Error> {
        self.tree.link_target(self.ino())
    }

    /// All extended attributes with their values.
    ///
    /// # Errors
    /// As [`Tree::xattr`].
    pub fn xattrs(&self) -> Result<Vec<Xattr>, Error> {
        if let Node::Inside(file) = &self.tree.table.get(self.ino())? {
            return Ok(self.tree.xattrs_inside(file)?.to_vec());
        }
        let names = self.tree.xattr_names(self.ino())?;
        let value = |name: Vec<u8>| Ok((name.clone(), self.tree.xattr(self.ino(), &name)?));
        names.into_iter().map(value).collect()
    }

    /// Flags as `FS_IOC_GETFLAGS` gives them; 0 where they are not known.
    ///
    /// # Errors
    /// As the file system reports them.
    pub fn flags(&self) -> Result<u32, Error> {
        match &self.tree.table.get(self.ino())? {
            Node::Inside(file) => self.tree.flags_inside(file),
            _ => Ok(0),
        }
    }

    /// The name that a user or group had where the file comes from, if the backup tells.
    ///
    /// # Errors
    /// As the file system reports them.
    pub fn owner_name(&self, whose: Whose) -> Result<Option<Vec<u8>>, Error> {
        match &self.tree.table.get(self.ino())? {
            Node::Inside(file) => self.tree.name_inside(file, whose),
            _ => Ok(None),
        }
    }

    /// Which part of the tree it is.
    #[must_use]
    pub fn part(&self) -> Part {
        match self.tree.table.get(self.ino()) {
            Ok(Node::Inside(_)) => Part::Inside,
            Ok(Node::Image(..)) => Part::Image,
            _ => Part::Catalogue,
        }
    }

    /// Says whether it is a directory.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.attributes.file_type == FileType::Directory
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.tree.forget(self.ino(), 1);
    }
}

/// A number of an owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Whose {
    /// Of a user.
    User(u32),
    /// Of a group.
    Group(u32),
}

/// Parts of the tree: ours, the image of a disk, and what lies inside one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Directories of the vault, descriptions, `latest`.
    Catalogue,
    /// The image of a disk.
    Image,
    /// A file inside an image: names, links and owners are those of another machine.
    Inside,
}
