//! Finds a file by its path as in the mount. Symbolic links of an image lead to files of the same tree only: absolute ones start
//! at the top of their `root` or `volumes/NAME`, and no `..` leads above it. Nothing of this host is ever looked at.

use super::held::{Held, Part};
use super::{Error as TreeError, Tree};
use crate::fs::FileType;

/// What to do with a symbolic link that a path ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastLink {
    /// Go where it leads.
    Follow,
    /// The link itself is meant; `latest` is followed all the same, being a name for a backup.
    Keep,
}

/// Why a path leads nowhere.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A directory on the way has no such name.
    #[error("there is no {name} in {directory}; {there}")]
    Missing {
        /// The name that is missing.
        name: String,
        /// Where it was looked for.
        directory: String,
        /// What is there, shortly, as a clause.
        there: String,
    },
    /// A path goes through, or ends in a slash after, something that is no directory.
    #[error("{path} is a {file_type}, not a directory")]
    NotDirectory {
        /// What was taken for a directory.
        path: String,
        /// What it is.
        file_type: FileType,
    },
    /// Links that lead to each other, or too many of them.
    #[error("{path} leads through more than {MAX_LINKS} symbolic links")]
    TooManyLinks {
        /// The path asked for.
        path: String,
    },
    /// A directory or link on the way cannot be read.
    #[error("{path} cannot be looked up")]
    Unreadable {
        /// What was looked up.
        path: String,
        /// The tree's own words.
        #[source]
        source: TreeError,
    },
}

/// Most symbolic links of one path, as in the kernel.
pub const MAX_LINKS: usize = 40;
/// Names listed when one is missing.
const NAMES_TOLD: usize = 8;

/// A file and the way to it.
pub struct Found<'a> {
    /// The file.
    pub held: Held<'a>,
    /// Its path from the top, without any link.
    pub names: Vec<Vec<u8>>,
}

/// A directory on the way.
struct Step<'a> {
    name: Vec<u8>,
    held: Held<'a>,
    part: Part,
}

/// A walk: the directories passed, and the names still to go, the next one last.
struct Walk<'a> {
    root: Held<'a>,
    steps: Vec<Step<'a>>,
    pending: Vec<Vec<u8>>,
    links: usize,
}

impl Tree {
    /// Finds the file at `path`, which is that of the mount; slashes at its ends and doubled ones do not matter, but one at
    /// the end asks for a directory.
    ///
    /// References on the way are given back; that of the answer when it is dropped.
    ///
    /// # Errors
    /// Every variant of [`Error`].
    pub fn resolve(&self, path: &[u8], last: LastLink) -> Result<Found<'_>, Error> {
        let root = self.hold_root().map_err(|source| unreadable("the vault", source))?;
        let mut walk = Walk {
            root,
            steps: Vec::new(),
            pending: Vec::new(),
            links: 0,
        };
        walk.push(path);
        let wants_directory = path.ends_with(b"/") || path.ends_with(b"/.");
        let last = if wants_directory { LastLink::Follow } else { last };
        while let Some(name) = walk.pending.pop() {
            walk.step(self, name, last, path)?;
        }
        let names: Vec<Vec<u8>> = walk.steps.iter().map(|step| step.name.clone()).collect();
        let held = walk.steps.pop().map_or(walk.root, |step| step.held);
        if wants_directory && !held.is_directory() {
            return Err(Error::NotDirectory {
                path: shown(&names),
                file_type: held.attributes.file_type,
            });
        }
        Ok(Found { held, names })
    }
}

impl<'a> Walk<'a> {
    /// Puts the names of a path before all that are still to go.
    fn push(&mut self, path: &[u8]) {
        let names = path.rsplit(|byte| *byte == b'/');
        let names = names.filter(|name| !name.is_empty() && *name != b".");
        self.pending.extend(names.map(<[u8]>::to_vec));
    }

    fn here(&self) -> &Held<'a> {
        self.steps.last().map_or(&self.root, |step| &step.held)
    }

    fn path(&self) -> String {
        let names: Vec<&[u8]> = self.steps.iter().map(|step| step.name.as_slice()).collect();
        shown(&names)
    }

    /// How many steps lead to the top of the image's tree that the walk is in; 0 outside images.
    fn top(&self) -> usize {
        let first = self.steps.iter().position(|step| step.part == Part::Inside);
        first.map_or(0, |index| index.saturating_add(1))
    }

    fn step(&mut self, tree: &'a Tree, name: Vec<u8>, last: LastLink, asked: &[u8]) -> Result<(), Error> {
        if !self.here().is_directory() {
            return Err(Error::NotDirectory {
                path: self.path(),
                file_type: self.here().attributes.file_type,
            });
        }
        if name == b".." {
            if self.steps.len() > self.top() {
                self.steps.pop();
            }
            return Ok(());
        }
        let whole = String::from_utf8_lossy(&[self.path().as_bytes(), &name].join(&b'/')).into_owned();
        let looked_up = self.here().lookup(&name);
        let Some(held) = looked_up.map_err(|source| unreadable(&whole, source))? else {
            return Err(self.missing(tree, &name));
        };
        let part = held.part();
        let kept = last == LastLink::Keep && self.pending.is_empty() && part == Part::Inside;
        if held.attributes.file_type != FileType::Symlink || kept {
            self.steps.push(Step { name, held, part });
            return Ok(());
        }
        self.links = self.links.saturating_add(1);
        if self.links > MAX_LINKS {
            let path = String::from_utf8_lossy(asked).into_owned();
            return Err(Error::TooManyLinks { path });
        }
        let target = held.link_target().map_err(|source| unreadable(&whole, source))?;
        if target.starts_with(b"/") {
            self.steps.truncate(self.top());
        }
        self.push(&target);
        Ok(())
    }

    fn missing(&self, tree: &Tree, name: &[u8]) -> Error {
        let directory = if self.steps.is_empty() {
            "the vault".into()
        } else {
            self.path()
        };
        Error::Missing {
            name: String::from_utf8_lossy(name).into_owned(),
            directory,
            there: there(tree, self.here()),
        }
    }
}

/// What a directory holds, shortly.
fn there(tree: &Tree, directory: &Held<'_>) -> String {
    let mut names = Vec::new();
    let mut more = false;
    let listed = directory.directory().and_then(|opened| {
        tree.visit(&opened, 0, &mut |listed| {
            more = names.len() == NAMES_TOLD;
            if !more {
                names.push(String::from_utf8_lossy(listed.name).into_owned());
            }
            !more
        })
    });
    match (listed, names.as_slice()) {
        (Err(_), []) => "what is there cannot be read".into(),
        (Ok(()), []) => "it is empty".into(),
        _ => format!("it has {}{}", names.join(", "), if more { " and more" } else { "" }),
    }
}

fn unreadable(path: &str, source: TreeError) -> Error {
    let path = path.to_owned();
    Error::Unreadable { path, source }
}

fn shown<N: AsRef<[u8]>>(names: &[N]) -> String {
    let names: Vec<&[u8]> = names.iter().map(AsRef::as_ref).collect();
    String::from_utf8_lossy(&names.join(&b'/')).into_owned()
}

#[cfg(test)]
mod tests;
