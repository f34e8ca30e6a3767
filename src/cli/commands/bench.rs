//! `bench-decode`: the limit that reads through a mount are measured against (docs/performance.md).

use super::super::exit::Code;
use super::super::{args, output, request};
use crate::chunk::Reader;
use crate::image::decode::decode_all;
use crate::image::disk::DiskImage;
use serde_json::json;
use std::num::NonZero;
use std::time::Instant;

/// Memory for map pages and footers; decoded chunks go nowhere.
const CACHE_BYTES: u64 = 64 << 20;

/// Decodes and verifies one image with all cores and prints bytes and seconds, always as JSON.
pub(in super::super) fn run(args: &args::BenchDecode) -> anyhow::Result<Code> {
    let file = request::BackupFile::parse(&args.file)?;
    let vault = super::open(&args.vault)?;
    let address = vault.resolve(&file.spec)?;
    let manifest = vault.load(&address)?;
    let image = DiskImage::open(&Reader::new(vault, CACHE_BYTES), &address, file.disk(&manifest)?);
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let started = Instant::now();
    let bytes = decode_all(&image, cores)?;
    let seconds = started.elapsed().as_secs_f64();
    output::write(format!("{}\n", json!({ "bytes": bytes, "seconds": seconds })).as_bytes())?;
    Ok(Code::Done)
}
