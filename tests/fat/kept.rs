//! What a FAT or exFAT volume keeps of a file, to be compared between readers.

use std::collections::BTreeMap;
use std::path::PathBuf;

use vaultfs::fs::FileType;

use crate::files::Tree;

/// What is the same on the volume, in the directory it was filled from, and in what other readers get out of it.
#[derive(Debug, PartialEq, Eq)]
pub struct Kept {
    pub file_type: FileType,
    pub size: Option<u64>,
    pub content: Option<String>,
    /// Files only: tools give directories the time at which they make them.
    pub modified: Option<i64>,
}

/// What is kept of a tree.
pub fn kept(tree: &Tree) -> BTreeMap<PathBuf, Kept> {
    let kept = tree.iter().map(|(path, facts)| {
        let is_file = facts.file_type == FileType::File;
        let kept = Kept {
            file_type: facts.file_type,
            size: facts.size,
            content: facts.content.clone(),
            modified: is_file.then_some(facts.modified.seconds & !1),
        };
        (path.clone(), kept)
    });
    kept.collect()
}

/// Says where two trees differ, and fails if they do.
pub fn same(ours: &BTreeMap<PathBuf, Kept>, theirs: &BTreeMap<PathBuf, Kept>, image: &str, who: &str) {
    let differ = |path: &&PathBuf| ours.get(*path) != theirs.get(*path);
    let lines: Vec<String> = ours
        .keys()
        .chain(theirs.keys().filter(|path| !ours.contains_key(*path)))
        .filter(differ)
        .map(|path| {
            format!(
                "{path:?}\n  ours:   {:?}\n  theirs: {:?}",
                ours.get(path),
                theirs.get(path)
            )
        })
        .collect();
    assert!(
        lines.is_empty(),
        "{image}, {who}: {}\n{}",
        lines.len(),
        lines[..lines.len().min(10)].join("\n")
    );
}
