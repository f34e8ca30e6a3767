//! Finding names in a directory without reading it for each: folded names as sorted hashes, remembered. Shared by FAT and exFAT.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use parking_lot::Mutex;

use super::super::{Error, FileType, Inode, Result};
use crate::image;

/// A name in a directory, with where it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    /// The name that is shown.
    pub(crate) name: String,
    /// Another name that finds the file: the 8.3 name of a file with a long one.
    pub(crate) alias: Option<String>,
    /// The file.
    pub(crate) inode: Inode,
    /// Its type.
    pub(crate) file_type: FileType,
    /// Number of the first slot that belongs to it.
    pub(crate) first_slot: u64,
    /// Number of the slot after it.
    pub(crate) next_slot: u64,
}

/// The records of a directory, in its order.
pub(crate) trait Records {
    /// The next record; `None` after the last one.
    ///
    /// # Errors
    /// `Corrupt` where the directory is damaged.
    fn next(&mut self) -> Result<Option<Record>>;

    /// Goes on with the record that begins at a slot.
    fn seek(&mut self, slot: u64);
}

/// What is known of a directory without its names.
#[derive(Debug)]
pub(crate) struct Index {
    /// Hash of a folded name, and the first slot of its record; sorted.
    names: Vec<(u32, u32)>,
    /// Directories in it.
    pub(crate) subdirectories: u32,
    /// Says whether `names` holds all names: the directory is neither damaged nor too large.
    is_complete: bool,
    /// Says whether another look would find the same: no store failed on the way.
    is_lasting: bool,
}

/// Most names that are remembered, of one directory and of all.
const MOST_NAMES: usize = 1 << 20;

/// Directories that are remembered.
const MOST_DIRECTORIES: usize = 64;

impl Index {
    fn build(records: &mut dyn Records, fold: &dyn Fn(char) -> char) -> Self {
        let mut index = Self {
            names: Vec::new(),
            subdirectories: 0,
            is_complete: false,
            is_lasting: true,
        };
        loop {
            let record = match records.next() {
                Ok(Some(record)) => record,
                Ok(None) => break index.is_complete = index.names.len() < MOST_NAMES,
                Err(Error::Image(image::Error::Unavailable { .. })) => break index.is_lasting = false,
                Err(_) => break,
            };
            if record.file_type == FileType::Directory {
                index.subdirectories = index.subdirectories.saturating_add(1);
            }
            if index.names.len() < MOST_NAMES {
                let slot = u32::try_from(record.first_slot).unwrap_or(u32::MAX);
                index.names.push((hash(&record.name, fold), slot));
                index.names.extend(record.alias.map(|alias| (hash(&alias, fold), slot)));
            }
        }
        index.names.sort_unstable();
        index.names.shrink_to_fit();
        index
    }
}

/// The indexes of the directories that were asked for last.
#[derive(Default)]
pub(crate) struct Indexes {
    /// The latest first.
    recent: Mutex<Vec<(Inode, Arc<Index>)>>,
}

impl Indexes {
    /// The index of a directory, built from `records` if it is not known. Damage makes it incomplete and is no error here.
    pub(crate) fn of(&self, directory: Inode, records: &mut dyn Records, fold: &dyn Fn(char) -> char) -> Arc<Index> {
        let take = |recent: &mut Vec<(Inode, Arc<Index>)>| {
            let place = recent.iter().position(|(inode, _)| *inode == directory)?;
            let known = recent.remove(place);
            recent.insert(0, known.clone());
            Some(known.1)
        };
        if let Some(known) = take(&mut self.recent.lock()) {
            return known;
        }
        let index = Arc::new(Index::build(records, fold));
        if !index.is_lasting {
            return index;
        }
        let mut recent = self.recent.lock();
        recent.retain(|(inode, _)| *inode != directory);
        recent.insert(0, (directory, Arc::clone(&index)));
        let names = |recent: &[(Inode, Arc<Index>)]| recent.iter().map(|(_, index)| index.names.len()).sum::<usize>();
        while recent.len() > MOST_DIRECTORIES || recent.len() > 1 && names(&recent) > MOST_NAMES {
            recent.pop();
        }
        index
    }

    /// The record of a name: the one that has exactly this name, or else the first that has it in other letters of case.
    ///
    /// `records` starts at the beginning of the directory.
    ///
    /// # Errors
    /// As the records'; only if the name was not found before the damage.
    pub(crate) fn find(
        &self,
        (directory, name): (Inode, &[u8]),
        records: &mut dyn Records,
        fold: &dyn Fn(char) -> char,
    ) -> Result<Option<Record>> {
        // Names are always given as UTF-8, so that no other bytes can be one.
        let Ok(name) = std::str::from_utf8(name) else {
            return Ok(None);
        };
        let index = self.of(directory, records, fold);
        let wanted = hash(name, fold);
        let from = index.names.partition_point(|(hash, _)| *hash < wanted);
        let mut found = Best {
            name,
            fold,
            record: None,
        };
        for (_, slot) in index.names.iter().skip(from).take_while(|(hash, _)| *hash == wanted) {
            records.seek(u64::from(*slot));
            if let Some(record) = records.next()?
                && found.is_exact(record)
            {
                return Ok(found.record);
            }
        }
        if found.record.is_some() || index.is_complete {
            return Ok(found.record);
        }
        records.seek(0);
        while let Some(record) = records.next()? {
            if found.is_exact(record) {
                break;
            }
        }
        Ok(found.record)
    }
}

/// The best record found so far for a name.
struct Best<'a> {
    name: &'a str,
    fold: &'a dyn Fn(char) -> char,
    record: Option<Record>,
}

impl Best<'_> {
    /// Keeps the record if it has the name; says whether no other can be better.
    fn is_exact(&mut self, record: Record) -> bool {
        let is_exact = record.name == self.name;
        let same = |other: &String| self.name.chars().map(self.fold).eq(other.chars().map(self.fold));
        if is_exact || self.record.is_none() && (same(&record.name) || record.alias.as_ref().is_some_and(same)) {
            self.record = Some(record);
        }
        is_exact
    }
}

fn hash(name: &str, fold: &dyn Fn(char) -> char) -> u32 {
    let mut hasher = DefaultHasher::new();
    for letter in name.chars() {
        fold(letter).hash(&mut hasher);
    }
    let low = hasher.finish() & u64::from(u32::MAX);
    u32::try_from(low).unwrap_or_default()
}
