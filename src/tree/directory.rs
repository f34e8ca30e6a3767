//! Open directories: of the catalogue, as they were when they were opened, or inside an image, which never change.

use super::place::Inside;
use super::{Error, Ino, Lasting, Node, Tree};
use crate::bytes::{to_u64, to_usize};

/// A directory that somebody reads.
#[derive(Debug)]
pub struct Directory {
    /// Its number.
    pub own: Ino,
    /// Number of the directory that holds it; its own inside an image, where a directory does not know its parent.
    pub parent: Ino,
    /// How long its names stay true.
    pub lasts: Lasting,
    names: Names,
}

#[derive(Debug)]
enum Names {
    Catalogue(Vec<(String, Node)>),
    Inside(Inside),
}

/// One name of a directory.
#[derive(Debug)]
pub struct Listed<'a> {
    /// The name; never `.` or `..`, never empty, without `/` and NUL.
    pub name: &'a [u8],
    /// What it stands for.
    pub node: Node,
    /// Where to go on after it.
    pub next: u64,
}

impl Directory {
    /// Says whether it lies inside an image, where its attributes cost more than its names.
    #[must_use]
    pub fn is_inside(&self) -> bool {
        matches!(self.names, Names::Inside(_))
    }
}

impl Tree {
    /// Opens a directory for one reader.
    ///
    /// # Errors
    /// `WrongType` if it is no directory; as loading a manifest below a point.
    pub fn open_directory(&self, ino: Ino) -> Result<Directory, Error> {
        let node = self.table.get(ino)?;
        let (names, parent) = match &node {
            Node::Inside(file) if file.file_type == crate::fs::FileType::Directory => {
                (Names::Inside(file.clone()), ino)
            }
            other => (Names::Catalogue(self.children(other)?), other.parent().ino()),
        };
        Ok(Directory {
            own: ino,
            parent,
            lasts: node.content_lasts(),
            names,
        })
    }

    /// Gives the names from place `from` on (0 at first, then a name's `next`) to `visit`, until it returns `false`.
    ///
    /// # Errors
    /// `File` inside an image; names before the damage have been given.
    pub fn visit(
        &self,
        directory: &Directory,
        from: u64,
        visit: &mut dyn FnMut(Listed<'_>) -> bool,
    ) -> Result<(), Error> {
        match &directory.names {
            Names::Catalogue(names) => {
                for (place, (name, node)) in names.iter().enumerate().skip(to_usize(from)) {
                    let listed = Listed {
                        name: name.as_bytes(),
                        node: node.clone(),
                        next: to_u64(place).saturating_add(1),
                    };
                    if !visit(listed) {
                        break;
                    }
                }
                Ok(())
            }
            Names::Inside(file) => {
                self.visit_inside(file, from, &mut |name, node, next| visit(Listed { name, node, next }))
            }
        }
    }
}
