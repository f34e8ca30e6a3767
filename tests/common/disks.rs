//! Disks in memory whose content and holes are known, and backups of them through the library.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use vaultfs::backup::{self, DiskInput, Environment, Hooks, Input, OpenSource, Report, Request};
use vaultfs::clock::{Clock, Seconds};
use vaultfs::image::{self, ReadAt};
use vaultfs::monitor::Silent;
use vaultfs::store::Store;
use vaultfs::vault::tags::Tags;
use vaultfs::vault::{self, Consistency, ResourceKind, ResourceName, Vault};

/// Smallest chunk size of the format.
pub const CHUNK: u64 = 65_536;
/// 2026-11-20T03-00-00Z.
pub const START: Seconds = 1_795_143_600;

/// A disk in memory: pieces of data at their offsets, holes between them. The model that reads are compared with.
#[derive(Debug, Clone)]
pub struct Sparse {
    size: u64,
    pieces: Arc<Vec<(u64, Vec<u8>)>>,
}

impl Sparse {
    /// A disk of `size` bytes with these pieces, in ascending order and apart.
    pub fn new(size: u64, pieces: Vec<(u64, Vec<u8>)>) -> Self {
        Self {
            size,
            pieces: Arc::new(pieces),
        }
    }

    /// The bytes of `range`.
    pub fn bytes(&self, range: Range<u64>) -> Vec<u8> {
        let mut bytes = vec![0; length(range.end - range.start)];
        self.read_at(range.start, &mut bytes).unwrap();
        bytes
    }

    /// The ranges of whole chunks that hold a byte other than zero, which is what a vault calls data; the last ends with the disk.
    pub fn data_chunks(&self, chunk: u64) -> Vec<Range<u64>> {
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for (start, bytes) in self.pieces.iter() {
            let end = start + size(bytes.len());
            for number in start / chunk..end.div_ceil(chunk) {
                let range = number * chunk..((number + 1) * chunk).min(self.size);
                let zero = self.bytes(range.clone()).iter().all(|byte| *byte == 0);
                match ranges.last_mut() {
                    _ if zero => {}
                    Some(last) if last.end > range.start => {}
                    Some(last) if last.end == range.start => last.end = range.end,
                    _ => ranges.push(range),
                }
            }
        }
        ranges
    }

    /// Writes the disk to a sparse file.
    pub fn write_to(&self, path: &std::path::Path) {
        use std::os::unix::fs::FileExt;
        let file = std::fs::File::create(path).unwrap();
        file.set_len(self.size).unwrap();
        for (start, bytes) in self.pieces.iter() {
            file.write_all_at(bytes, *start).unwrap();
        }
    }
}

impl ReadAt for Sparse {
    fn len(&self) -> u64 {
        self.size
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> image::Result<()> {
        image::check_range(offset, buf.len(), self.size)?;
        buf.fill(0);
        let end = offset + size(buf.len());
        for (start, bytes) in self.pieces.iter() {
            let (from, to) = (offset.max(*start), end.min(start + size(bytes.len())));
            if from < to {
                let piece = &bytes[length(from - start)..length(to - start)];
                buf[length(from - offset)..length(to - offset)].copy_from_slice(piece);
            }
        }
        Ok(())
    }
    fn next_data(&self, offset: u64) -> image::Result<Option<u64>> {
        let mut pieces = self.pieces.iter();
        let next = pieces.find(|(start, bytes)| start + size(bytes.len()) > offset);
        Ok(next.map(|(start, _)| offset.max(*start)))
    }
    fn next_hole(&self, offset: u64) -> image::Result<u64> {
        let inside = |(start, bytes): &&(u64, Vec<u8>)| (*start..start + size(bytes.len())).contains(&offset);
        let end = self.pieces.iter().find(inside);
        Ok(end.map_or(offset, |(start, bytes)| start + size(bytes.len())))
    }
}

/// A length as an offset.
pub fn size(len: usize) -> u64 {
    u64::try_from(len).unwrap()
}

/// An offset as a length.
pub fn length(size: u64) -> usize {
    usize::try_from(size).unwrap()
}

/// A clock that moves by a minute each time it is read, so that points do not depend on how fast a test runs.
pub struct Ticking(AtomicI64);

impl Default for Ticking {
    fn default() -> Self {
        Self(AtomicI64::new(START))
    }
}

impl Clock for Ticking {
    fn now(&self) -> Seconds {
        self.0.fetch_add(60, Ordering::Relaxed)
    }
}

/// Makes a vault with the smallest chunks.
pub fn new_vault(store: Arc<dyn Store>) -> Vault {
    let chunk = u32::try_from(CHUNK).unwrap();
    Vault::create(store, vault::new_config("test", chunk, &Ticking::default()).unwrap()).unwrap()
}

/// What to back up: a server with these disks.
pub fn request(server: &str, disks: &[(&str, &Sparse)]) -> Request {
    let input = |(name, disk): &(&str, &Sparse)| {
        let disk = (*disk).clone();
        let open: OpenSource = Box::new(move || Ok(Arc::new(disk.clone())));
        DiskInput {
            name: (*name).to_owned(),
            bootable: false,
            open,
        }
    };
    Request {
        resource: ResourceName::new(ResourceKind::Server, server).unwrap(),
        input: Input::Disks(disks.iter().map(input).collect()),
        tags: Tags::new(),
        facts: None,
        consistency: Consistency::Crash,
        at: None,
        level: 3,
        jobs: 1,
        hooks: Hooks::default(),
    }
}

/// Makes a backup.
pub fn back_up(vault: &Vault, request: &Request, clock: &dyn Clock) -> backup::Result<Report> {
    let cancel = AtomicBool::new(false);
    let environment = Environment {
        monitor: &Silent,
        clock,
        cancel: &cancel,
    };
    backup::run(vault, request, environment)
}
