//! `cat`: a file of a backup to standard output.

use super::super::exit::Code;
use super::super::{Context, args, output, request};
use crate::bytes::{to_u64, to_usize};
use crate::chunk::Reader;
use crate::image::ReadAt;
use crate::image::disk::DiskImage;
use crate::image::handle::{Handle, LARGE_READ, ReadAhead};
use crate::monitor::Monitor;
use anyhow::Context as _;
use std::io::{IsTerminal, Write};
use std::num::NonZero;
use std::sync::Arc;

/// Memory for decoded chunks: enough to keep all cores ahead of the pipe.
const CACHE_BYTES: usize = 64 << 20;
/// Bytes of one read: below what counts as large, since nobody but our own threads reads ahead here.
const STEP: usize = LARGE_READ / 2;

/// Writes an image or `backup.json`, from its first byte to its last.
pub(in super::super) fn run(context: &Context, args: &args::Cat) -> anyhow::Result<Code> {
    context.refuse_json("cat")?;
    let file = request::BackupFile::parse(&args.file)?;
    let vault = super::open(&args.vault)?;
    let address = vault.resolve(&file.spec)?;
    let manifest = vault.load(&address)?;
    if file.is_description() {
        output::write(super::description(&manifest).as_bytes())?;
        return Ok(Code::Done);
    }
    let disk = file.disk(&manifest)?;
    if std::io::stdout().is_terminal() {
        return Err(request::Usage("standard output is a terminal; send the image to a file or a pipe".into()).into());
    }
    let image = DiskImage::open(&Reader::new(vault, to_u64(CACHE_BYTES)), &address, disk);
    let monitor = context.monitor();
    monitor.begin(&format!("cat {}", disk.name), image.len());
    copy(Arc::new(image), &*monitor)?;
    monitor.end();
    Ok(Code::Done)
}

/// Copies the image in order; the threads that read ahead decode it on all cores.
fn copy(image: Arc<DiskImage>, monitor: &dyn Monitor) -> anyhow::Result<()> {
    let len = image.len();
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let read_ahead = ReadAhead::new(cores, CACHE_BYTES).context("starting threads failed")?;
    let handle = Handle::new(image, Arc::new(read_ahead));
    let mut stdout = std::io::stdout().lock();
    let mut offset = 0;
    while offset < len {
        let step = STEP.min(to_usize(len.saturating_sub(offset)));
        let bytes = handle.read(offset, step)?;
        stdout.write_all(&bytes).map_err(output::stdout_error)?;
        offset = offset.saturating_add(to_u64(bytes.len()));
        monitor.advance(to_u64(bytes.len()));
    }
    stdout.flush().map_err(output::stdout_error)
}
