//! A disk whose power fails: which states it may be found in after the first operations of a log.
//!
//! What was synced is there. Of a file that was not synced any part may be: nothing, all, a beginning in blocks of 512 bytes, zeros.
//! Every change of a name whose directory was not synced is there or is not, each for itself, in whatever order.

use crate::common::Random;
use crate::record::Op;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const BLOCK: usize = 512;

/// What a file may hold.
#[derive(Debug, Default, Clone)]
struct File {
    data: Vec<u8>,
    synced: bool,
}

/// A change of one name in one directory.
#[derive(Debug, Clone)]
struct Change {
    name: PathBuf,
    /// The file that it stands for from now on; `None` if it stands for nothing.
    file: Option<usize>,
    is_dir: bool,
    synced: bool,
}

/// The disk after some operations.
#[derive(Debug, Default, Clone)]
pub(crate) struct Disk {
    files: Vec<File>,
    changes: Vec<Change>,
    /// What each name stands for to who asks the running system.
    names: BTreeMap<PathBuf, usize>,
}

impl Disk {
    /// Does one operation.
    pub(crate) fn apply(&mut self, op: &Op) {
        match op {
            Op::Create(path) => {
                self.files.push(File::default());
                self.name(path, Some(self.files.len() - 1), false);
            }
            Op::Append(path, data) => {
                // The reserve is kept under a name that no object has.
                if let Some(file) = self.names.get(path) {
                    self.files[*file].data.extend_from_slice(data);
                    self.files[*file].synced = false;
                }
            }
            Op::SyncFile(path) => {
                if let Some(file) = self.names.get(path) {
                    self.files[*file].synced = true;
                }
            }
            Op::SyncDir(path) => {
                for change in &mut self.changes {
                    change.synced |= change.name.parent() == Some(path);
                }
            }
            Op::Rename(from, to) => {
                let file = self.names.get(from).copied();
                self.name(from, None, false);
                self.name(to, file, false);
            }
            Op::Unlink(path) => self.name(path, None, false),
            Op::Mkdir(path) => self.name(path, None, true),
            Op::Done(_) => {}
        }
    }

    fn name(&mut self, name: &Path, file: Option<usize>, is_dir: bool) {
        match file {
            Some(file) => self.names.insert(name.to_owned(), file),
            None => self.names.remove(name),
        };
        self.changes.push(Change {
            name: name.to_owned(),
            file,
            is_dir,
            synced: false,
        });
    }

    /// One of the states in which the disk may be found if the power fails now: the files below `root`, by their paths from there.
    pub(crate) fn crash(&self, root: &Path, random: &mut Random) -> BTreeMap<String, Vec<u8>> {
        // Sometimes hardly anything is lost, sometimes nearly everything.
        let odds = *random.pick(&[0, 5, 50, 95, 100]);
        let keep = |random: &mut Random| random.below(100) < odds;
        let (mut names, mut dirs) = (BTreeMap::new(), Vec::new());
        for change in &self.changes {
            if !change.synced && !keep(random) {
                continue;
            }
            if change.is_dir {
                dirs.push(change.name.clone());
            }
            match change.file {
                Some(file) => names.insert(change.name.clone(), file),
                None => names.remove(&change.name),
            };
        }
        let reachable = |path: &Path| {
            let between = path.ancestors().skip(1).take_while(|dir| dir.starts_with(root));
            between.into_iter().all(|dir| dirs.iter().any(|made| made == dir))
        };
        let mut state = BTreeMap::new();
        for (path, file) in names {
            if reachable(&path) {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                state.insert(name, content(&self.files[file], random));
            }
        }
        state
    }
}

fn content(file: &File, random: &mut Random) -> Vec<u8> {
    let mut data = file.data.clone();
    if !file.synced && !data.is_empty() {
        let blocks = u64::try_from(data.len().div_ceil(BLOCK)).unwrap();
        let whole = usize::try_from(random.below(blocks)).unwrap() * BLOCK;
        match random.below(5) {
            0 => data.clear(),
            1 => data.truncate(whole),
            2 => data.fill(0),
            3 => data[whole..].fill(0),
            _ => {}
        }
    }
    data
}
