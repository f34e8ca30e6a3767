//! Names of the files inside disk images that have lost something.
//!
//! The file systems on the disks are walked, and each file is asked where its bytes lie. Whether these lie in a lost range is found out
//! by asking the volume to make them ready, which goes down through partitions, logical volumes and arrays to the disks, where it is only
//! noted: no content is read.

use super::report::{HurtBackup, HurtDisk, HurtFile};
use super::walk::Walk;
use crate::fs::{self, FileSystem, FileType, Inode, MAX_EXTENTS, Place};
use crate::image::disk::DiskImage;
use crate::image::{self, ReadAt};
use crate::vault::{Manifest, ResourceKind};
use crate::volume::{self, Volume};
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Most names that are looked at in one backup.
const MAX_NAMES: u64 = 4_000_000;
/// Most files that are told of one backup.
const MAX_FILES: usize = 10_000;
/// Most bytes of directories that wait to be listed.
const MAX_WAITING: usize = 256 << 20;
/// Most answers of one file about where it lies.
const MAX_ANSWERS: usize = 4096;

/// A disk that notes when one of its lost ranges is asked for.
struct Marked {
    image: DiskImage,
    lost: Vec<Range<u64>>,
    touched: Arc<AtomicBool>,
}

impl ReadAt for Marked {
    fn len(&self) -> u64 {
        self.image.len()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> image::Result<()> {
        self.image.read_at(offset, buf)
    }
    fn next_data(&self, offset: u64) -> image::Result<Option<u64>> {
        self.image.next_data(offset)
    }
    fn next_hole(&self, offset: u64) -> image::Result<u64> {
        self.image.next_hole(offset)
    }
    fn warm(&self, offset: u64, len: u64) {
        let end = offset.saturating_add(len);
        let next = self.lost.partition_point(|range| range.end <= offset);
        if self.lost.get(next).is_some_and(|range| range.start < end) {
            self.touched.store(true, Ordering::Relaxed);
        }
    }
}

/// A directory that is still to be listed.
struct Waiting {
    inode: Inode,
    path: Vec<u8>,
}

/// The search in one backup.
struct Search<'a> {
    walk: &'a Walk<'a>,
    touched: Arc<AtomicBool>,
    names: u64,
    files: Vec<HurtFile>,
    notes: Vec<String>,
}

/// Names the files of a backup that lie on what its disks have lost.
pub(super) fn name(walk: &Walk<'_>, manifest: &Manifest, hurt: &mut HurtBackup) {
    let touched = Arc::new(AtomicBool::new(false));
    let ranges = |name: &str| {
        let lost = hurt.disks.iter().find(|disk: &&HurtDisk| disk.name == name);
        lost.map_or_else(Vec::new, |disk| disk.ranges.clone())
    };
    let disks: Vec<volume::Disk> = manifest
        .disks()
        .iter()
        .map(|disk| volume::Disk {
            // As in the mount: the only disk of a disk resource is called `disk`.
            name: match hurt.address.resource.kind {
                ResourceKind::Disk => "disk".to_owned(),
                ResourceKind::Server | ResourceKind::Filesystem => disk.name.clone(),
            },
            image: Arc::new(Marked {
                image: DiskImage::open(&walk.job.reader, &hurt.address, disk),
                lost: ranges(&disk.name),
                touched: Arc::clone(&touched),
            }),
        })
        .collect();
    let mut search = Search {
        walk,
        touched,
        names: 0,
        files: Vec::new(),
        notes: Vec::new(),
    };
    for found in volume::discover(&disks).volumes {
        search.volume(&found);
    }
    let Search { mut files, notes, .. } = search;
    files.sort_unstable();
    if files.is_empty() && notes.is_empty() {
        hurt.notes
            .push("no file lies there: it is free space, or a table of partitions".to_owned());
    }
    hurt.files = files;
    hurt.notes.extend(notes);
}

impl Search<'_> {
    /// Says whether a range of a volume lies on something lost.
    fn is_lost(&self, data: &dyn ReadAt, offset: u64, len: u64) -> bool {
        self.touched.store(false, Ordering::Relaxed);
        data.warm(offset, len);
        self.touched.load(Ordering::Relaxed)
    }

    /// About where the first lost byte of a range is that has one: to a block of 4 KiB.
    fn first_lost(&self, data: &dyn ReadAt, mut offset: u64, mut len: u64) -> u64 {
        while len > 4096 {
            let half = len / 2;
            if self.is_lost(data, offset, half) {
                len = half;
            } else {
                offset = offset.saturating_add(half);
                len = len.saturating_sub(half);
            }
        }
        offset
    }

    fn volume(&mut self, volume: &Volume) {
        let Some(data) = &volume.data else { return };
        if !self.is_lost(data, 0, data.len()) {
            return;
        }
        let name = &volume.name;
        let opened = match fs::open(volume.signature.holds, Arc::clone(data)) {
            Some(Ok(opened)) => opened,
            Some(Err(error)) => {
                self.notes
                    .push(format!("{name}: its file system cannot be opened: {error}"));
                return;
            }
            // A member of something larger is looked at as a part of it.
            None if matches!(
                volume.signature.holds,
                volume::Holds::LvmMember | volume::Holds::RaidMember | volume::Holds::PartitionTable
            ) =>
            {
                return;
            }
            None => {
                let holds = volume.signature.holds.word();
                self.notes
                    .push(format!("{name} ({holds}) has lost bytes; its files cannot be told"));
                return;
            }
        };
        let (files, notes) = (self.files.len(), self.notes.len());
        self.directories(&*opened, data, format!("volumes/{name}").into_bytes());
        if (files, notes) == (self.files.len(), self.notes.len()) {
            self.notes.push(format!(
                "{name}: no file lies on what is lost: it is free space, or the file system's own tables"
            ));
        }
    }

    /// Walks all directories of a file system.
    fn directories(&mut self, file_system: &dyn FileSystem, data: &Arc<dyn ReadAt>, root: Vec<u8>) {
        let mut seen = HashSet::from([file_system.root()]);
        let mut bytes = root.len();
        let mut waiting = vec![Waiting {
            inode: file_system.root(),
            path: root.clone(),
        }];
        while let Some(directory) = waiting.pop() {
            if self.walk.check_cancelled().is_err() || self.files.len() >= MAX_FILES || self.names >= MAX_NAMES {
                let root = String::from_utf8_lossy(&root).into_owned();
                self.notes
                    .push(format!("{root}: not all files were looked at; there may be more"));
                return;
            }
            bytes = bytes.saturating_sub(directory.path.len());
            let (mut entries, mut held) = (Vec::new(), 0usize);
            let listed = file_system.read_dir(directory.inode, 0, &mut |entry| {
                let path = [&directory.path, entry.name].join(&b'/');
                held = held.saturating_add(path.len()).saturating_add(size_of::<Waiting>());
                entries.push((entry.inode, path));
                held < MAX_WAITING
            });
            if let Err(error) = listed {
                self.tell(
                    directory.path,
                    format!("this directory cannot be listed: {}", words(&error)),
                );
            }
            for (inode, path) in entries {
                self.names = self.names.saturating_add(1);
                match file_system.attr(inode).map(|attr| (attr.file_type, attr.size)) {
                    Ok((FileType::Directory, _)) => {
                        if bytes < MAX_WAITING && seen.insert(inode) {
                            bytes = bytes.saturating_add(path.len());
                            waiting.push(Waiting { inode, path });
                        }
                    }
                    Ok((FileType::File, size)) => self.file(file_system, data, (inode, size), path),
                    Ok(_) => {}
                    Err(error) => self.tell(path, format!("it cannot be looked at: {}", words(&error))),
                }
            }
        }
    }

    fn file(
        &mut self,
        file_system: &dyn FileSystem,
        data: &Arc<dyn ReadAt>,
        (inode, size): (Inode, u64),
        path: Vec<u8>,
    ) {
        let mut at = 0;
        for _ in 0..MAX_ANSWERS {
            let extents = match file_system.extents(inode, at..size) {
                Ok(extents) => extents,
                Err(error) => return self.tell(path, format!("where its bytes lie cannot be told: {}", words(&error))),
            };
            for extent in &extents {
                if let Place::Volume(offset) = extent.place
                    && self.is_lost(data, offset, extent.len)
                {
                    let lost = self.first_lost(data, offset, extent.len).saturating_sub(offset);
                    let from = extent.start.saturating_add(lost);
                    return self.tell(path, format!("bytes are lost from about byte {from} on"));
                }
            }
            let end = extents.last().map_or(size, |last| last.start.saturating_add(last.len));
            if end >= size || end <= at || extents.len() > MAX_EXTENTS {
                return;
            }
            at = end;
        }
    }

    fn tell(&mut self, path: Vec<u8>, what: String) {
        if self.files.len() < MAX_FILES {
            self.files.push(HurtFile { path, what });
        }
    }
}

/// An error with its causes.
fn words(error: &fs::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
