//! Writes a raw disk: into a new, empty file, or over a file or device by writing only the chunks that differ.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::compare::{Readback, target_error, verify};
use super::crew::{Buffers, each_piece};
use super::partial::Partial;
use super::{Job, Kind, Piece, Range, Report, Result, flush, io};
use crate::bytes::{is_zero, to_u64, to_usize};
use crate::source::raw::RawDisk;

/// Fills a new file: sparse where the image is.
pub(super) fn write_new(job: &Job, partial: &Partial) -> Result<Report> {
    let (file, path) = (partial.file(), partial.path());
    set_len(file, path, job.plan.disk_len())?;
    let writer = Writer { job, file, path };
    let report = each_piece(job, "restore", |piece, buffers| writer.fill(piece, buffers))?;
    flush(file, path)?;
    verify(job, &Readback::new(&reader(file, path)?, path))?;
    Ok(report)
}

/// Makes a target that holds something equal to the image.
pub(super) fn overwrite(job: &Job, file: &File, path: &Path) -> Result<Report> {
    if file.metadata().is_ok_and(|found| found.is_file()) {
        set_len(file, path, job.plan.disk_len())?;
    }
    let writer = Writer { job, file, path };
    let disk = reader(file, path)?;
    let target = Readback::new(&disk, path);
    let report = each_piece(job, "restore", |piece, buffers| match piece.kind {
        Kind::Data => writer.update(piece.range, &target, buffers),
        Kind::Hole => writer.clear(piece.range, &target, buffers),
    })?;
    flush(file, path)?;
    verify(job, &target)?;
    Ok(report)
}

pub(super) fn set_len(file: &File, path: &Path, len: u64) -> Result<()> {
    let done = file.set_len(len);
    done.map_err(|error| io("setting the size of", path, error))
}

/// A second handle on the target, to read it back.
pub(super) fn reader(file: &File, path: &Path) -> Result<RawDisk> {
    let twin = file.try_clone().map_err(|error| io("opening", path, error))?;
    RawDisk::from_file(twin, path).map_err(|error| target_error(path, error))
}

struct Writer<'a> {
    job: &'a Job<'a>,
    file: &'a File,
    path: &'a Path,
}

impl Writer<'_> {
    /// Writes a piece into a file that is all hole.
    fn fill(&self, piece: &Piece, buffers: &mut Buffers) -> Result<Report> {
        let mut report = Report::default();
        if piece.kind == Kind::Hole {
            report.holes = piece.range.len;
            return Ok(report);
        }
        let (data, _) = buffers.of(piece.range.len);
        self.job.image.read_at(piece.range.offset, data)?;
        self.chunks(piece.range.offset, data, |offset, chunk| {
            if is_zero(chunk) {
                report.holes += to_u64(chunk.len());
                return Ok(());
            }
            report.written += to_u64(chunk.len());
            self.write(offset, chunk)
        })?;
        Ok(report)
    }

    /// Writes the chunks of a range of data that the target does not hold already.
    fn update(&self, range: Range, target: &Readback, buffers: &mut Buffers) -> Result<Report> {
        let mut report = Report::default();
        let (data, old) = buffers.of(range.len);
        self.job.image.read_at(range.offset, data)?;
        target.read(range.offset, old)?;
        let old = &*old;
        self.chunks(range.offset, data, |offset, chunk| {
            let len = to_u64(chunk.len());
            let start = to_usize(offset - range.offset);
            if old.get(start..).is_some_and(|old| old.starts_with(chunk)) {
                report.unchanged += len;
                return Ok(());
            }
            report.written += len;
            match is_zero(chunk) {
                true => self.zero(offset, chunk),
                false => self.write(offset, chunk),
            }
        })?;
        Ok(report)
    }

    /// Makes a range zero where the target is not.
    fn clear(&self, range: Range, target: &Readback, buffers: &mut Buffers) -> Result<Report> {
        let mut report = Report::default();
        let zeros = vec![0; to_usize(self.job.plan.chunk())];
        target.stored(range, buffers, |offset, old| {
            self.chunks(offset, old, |offset, chunk| {
                if is_zero(chunk) {
                    return Ok(());
                }
                report.written += to_u64(chunk.len());
                self.zero(offset, zeros.get(..chunk.len()).unwrap_or_default())
            })
        })?;
        report.holes = range.len - report.written;
        Ok(report)
    }

    /// Goes through `data`, which lies at `offset` of the disk, chunk by chunk.
    fn chunks(&self, offset: u64, data: &[u8], mut each: impl FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
        let mut at = offset;
        for chunk in data.chunks(to_usize(self.job.plan.chunk())) {
            each(at, chunk)?;
            at = at.saturating_add(to_u64(chunk.len()));
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        let written = self.file.write_all_at(data, offset);
        written.map_err(|error| io(&format!("writing byte {offset} of"), self.path, error))
    }

    /// Makes a chunk zero, giving its space back where the target can; `zeros` are the bytes to write where it cannot.
    fn zero(&self, offset: u64, zeros: &[u8]) -> Result<()> {
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(self.file, punch, offset, to_u64(zeros.len())) {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS | Errno::NODEV) => self.write(offset, zeros),
            Err(error) => Err(io(&format!("clearing byte {offset} of"), self.path, error.into())),
        }
    }
}
