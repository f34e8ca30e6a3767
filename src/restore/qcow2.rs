//! Writes a new qcow2 image: version 3, clusters of 64 KiB, holes unallocated.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::compare::{Readback, target_error, verify};
use super::crew::{Buffers, each_piece};
use super::layout::{CLUSTER, Layout};
use super::partial::Partial;
use super::{Error, Job, Kind, Piece, Report, Result, flush, io, raw};
use crate::bytes::{is_zero, to_u64, to_usize};
use crate::source::qcow2::Qcow2;

/// Fills a new file; verified through our own reader of the format.
pub(super) fn write_new(job: &Job, partial: &Partial) -> Result<Report> {
    let (file, path) = (partial.file(), partial.path());
    let layout = Layout::of(job.plan).ok_or_else(|| Error::Unusable {
        path: path.to_path_buf(),
        why: "a qcow2 with clusters of 64 KiB holds at most 2 PiB; restore with --format raw".into(),
    })?;
    if layout.virtual_len() > job.plan.disk_len() {
        job.monitor.warn(&format!(
            "the disk of {} bytes is no whole number of sectors; the qcow2 shows {} bytes, the last of them zero",
            job.plan.disk_len(),
            layout.virtual_len()
        ));
    }
    raw::set_len(file, path, layout.file_len())?;
    let writer = Writer {
        job,
        file,
        path,
        layout,
    };
    let report = each_piece(job, "restore", |piece, buffers| writer.fill(piece, buffers))?;
    for table in writer.layout.tables() {
        writer.write(table.host, &table.bytes)?;
    }
    // The header last: before it, the file is no qcow2 image that somebody could take for a whole one.
    let header = writer.layout.header();
    writer.write(header.host, &header.bytes)?;
    flush(file, path)?;
    let disk = Qcow2::from_raw(raw::reader(file, path)?, &[]).map_err(|error| target_error(path, error))?;
    verify(job, &Readback::new(&disk, path))?;
    Ok(report)
}

struct Writer<'a> {
    job: &'a Job<'a>,
    file: &'a File,
    path: &'a Path,
    layout: Layout<'a>,
}

impl Writer<'_> {
    /// Writes the clusters of a piece; a cluster of zeros keeps its place, but stays a hole of the file.
    fn fill(&self, piece: &Piece, buffers: &mut Buffers) -> Result<Report> {
        let mut report = Report::default();
        let (Kind::Data, Some(host)) = (piece.kind, self.layout.host(piece.range.offset)) else {
            report.holes = piece.range.len;
            return Ok(report);
        };
        let (data, _) = buffers.of(piece.range.len);
        self.job.image.read_at(piece.range.offset, data)?;
        let mut at = host;
        for cluster in data.chunks(to_usize(CLUSTER)) {
            let len = to_u64(cluster.len());
            if is_zero(cluster) {
                report.holes += len;
            } else {
                report.written += len;
                self.write(at, cluster)?;
            }
            at += len;
        }
        Ok(report)
    }

    fn write(&self, host: u64, data: &[u8]) -> Result<()> {
        let written = self.file.write_all_at(data, host);
        written.map_err(|error| io(&format!("writing byte {host} of"), self.path, error))
    }
}
