//! What a manifest says of a backup of files: where its tree of items is, and what was not stored.

use serde::{Deserialize, Serialize};

use super::super::item::TREE_INODE;
use super::super::map::PageRef;
use super::super::tree_page::MAX_HEIGHT;
use super::Sizes;

/// Most problems that a manifest names.
pub const MAX_PROBLEMS: usize = 1000;
/// Longest path, and longest reason, of a problem in bytes.
pub const MAX_PROBLEM_BYTES: usize = 4096;

/// The files of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    /// The root page of its items.
    pub root: PageRef,
    /// Level of the root page: 0 if it is a leaf.
    pub height: u8,
    /// Number of items.
    pub items: u64,
    /// Number of the root directory.
    pub root_inode: u64,
    /// Path of the directory as the user gave it.
    pub source: Vec<u8>,
    /// Counts and sizes.
    pub statistics: TreeStatistics,
    /// Files that could not be stored, or not as they are.
    pub unread: u64,
    /// The first of these.
    pub problems: Vec<Problem>,
}

/// Counts and sizes of a backup of files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeStatistics {
    /// Regular files; one with several names counts once.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Symbolic links, devices, pipes and sockets.
    pub others: u64,
    /// Sum of the sizes of regular files in bytes.
    pub logical: u64,
    /// Bytes of these that are not holes.
    pub data: u64,
    /// Plain bytes of chunks that this backup added to the vault.
    pub new: u64,
    /// Bytes that this backup added to the vault: its new chunks, compressed, and its new tree pages.
    pub stored: u64,
}

/// A file that is not in the backup, or not as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Its path below the source.
    pub path: Vec<u8>,
    /// What is wrong, in words.
    pub why: String,
}

impl Tree {
    /// Says whether everything was stored as it is.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.unread == 0
    }

    pub(super) fn sizes(&self) -> Sizes {
        Sizes {
            logical: self.statistics.logical,
            data: self.statistics.data,
            new: self.statistics.new,
            stored: self.statistics.stored,
        }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let broken = |what: &str| Err(format!("the tree {what}"));
        if self.height >= MAX_HEIGHT {
            return broken("has too many levels");
        }
        if self.items == 0 || self.root.is_hole() || self.root_inode == TREE_INODE {
            return broken("has no root");
        }
        if self.problems.len() > MAX_PROBLEMS || u64::try_from(self.problems.len()).is_ok_and(|len| len > self.unread) {
            return broken("names more problems than it has");
        }
        let long = |len: usize| len > MAX_PROBLEM_BYTES;
        let too_long = |problem: &Problem| long(problem.path.len()) || long(problem.why.len());
        if long(self.source.len()) || self.problems.iter().any(too_long) {
            return broken("holds a text that is too long");
        }
        if self.statistics.data > self.statistics.logical {
            return broken("has more data than bytes");
        }
        Ok(())
    }

    pub(super) fn to_json(&self) -> serde_json::Value {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let problem = |problem: &Problem| serde_json::json!({ "path": text(&problem.path), "why": problem.why });
        serde_json::json!({
            "path": "tree",
            "source": text(&self.source),
            "files": self.statistics.files,
            "directories": self.statistics.directories,
            "others": self.statistics.others,
            "partial": !self.is_complete(),
            "unread": self.unread,
            "problems": self.problems.iter().map(problem).collect::<Vec<_>>(),
        })
    }
}
