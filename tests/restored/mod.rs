//! What the restore tests share: disks made of a pattern, a monitor that remembers, shorthand.
#![allow(dead_code)] // each test file uses its part

use std::path::Path;

use parking_lot::Mutex;
use vaultfs::image::{ReadAt, Result, check_range};
use vaultfs::monitor::Monitor;
use vaultfs::restore::{Existing, Options, Target};
use vaultfs::source::Format;

/// A disk whose data is a function of the offset; it needs no memory, whatever its size.
#[derive(Clone)]
pub(crate) struct Disk {
    len: u64,
    data: Vec<(u64, u64)>,
    zeros: bool,
}

impl Disk {
    pub(crate) fn new(len: u64, data: &[(u64, u64)]) -> Self {
        Self {
            len,
            data: data.to_vec(),
            zeros: false,
        }
    }

    pub(crate) fn zeros_called_data(len: u64) -> Self {
        Self {
            len,
            data: vec![(0, len)],
            zeros: true,
        }
    }

    pub(crate) fn round_up_to_sectors(&mut self) {
        self.len = self.len.next_multiple_of(512);
    }

    /// Makes a hole inside one range of data.
    pub(crate) fn clear(&mut self, from: u64, to: u64) {
        let index = self
            .data
            .iter()
            .position(|(start, end)| *start < from && to < *end)
            .unwrap();
        let (start, end) = self.data[index];
        self.data.splice(index..=index, [(start, from), (to, end)]);
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut all = vec![0; self.len as usize];
        self.read_at(0, &mut all).unwrap();
        all
    }
}

fn pattern(offset: u64) -> u8 {
    ((offset / 64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8 | 1
}

impl ReadAt for Disk {
    fn len(&self) -> u64 {
        self.len
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        check_range(offset, buf.len(), self.len)?;
        buf.fill(0);
        let end = offset + buf.len() as u64;
        for (from, to) in self.data.iter().filter(|_| !self.zeros) {
            for at in offset.max(*from)..end.min(*to) {
                buf[(at - offset) as usize] = pattern(at);
            }
        }
        Ok(())
    }
    fn next_data(&self, offset: u64) -> Result<Option<u64>> {
        let next = self.data.iter().find(|(_, end)| *end > offset);
        Ok(next.map(|(start, _)| offset.max(*start)))
    }
    fn next_hole(&self, offset: u64) -> Result<u64> {
        let inside = self.data.iter().find(|(start, end)| (*start..*end).contains(&offset));
        Ok(inside.map_or(offset, |(_, end)| *end))
    }
}

/// Remembers what it is told.
#[derive(Default)]
pub(crate) struct Notes {
    phases: Mutex<Vec<(String, u64)>>,
    advanced: Mutex<u64>,
    warnings: Mutex<Vec<String>>,
}

impl Notes {
    pub(crate) fn phases(&self) -> Vec<(String, u64)> {
        self.phases.lock().clone()
    }
    pub(crate) fn advanced(&self) -> u64 {
        *self.advanced.lock()
    }
    pub(crate) fn warnings(&self) -> Vec<String> {
        self.warnings.lock().clone()
    }
}

impl Monitor for Notes {
    fn begin(&self, phase: &str, total: u64) {
        self.phases.lock().push((phase.into(), total));
    }
    fn advance(&self, bytes: u64) {
        *self.advanced.lock() += bytes;
    }
    fn end(&self) {}
    fn warn(&self, message: &str) {
        self.warnings.lock().push(message.into());
    }
}

pub(crate) fn target(path: &Path, format: Format, existing: Existing) -> Target {
    Target {
        path: path.to_path_buf(),
        format,
        existing,
    }
}

pub(crate) fn to_new(path: &Path) -> Target {
    target(path, Format::Raw, Existing::Refuse)
}

pub(crate) fn options() -> Options {
    Options {
        chunk_size: 128 << 10,
        workers: None,
    }
}

/// Names in a directory, hidden ones included.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}
