//! Decodes and checks every chunk of an image over all cores: the speed that reading can reach on this machine.

use super::Result;
use super::disk::DiskImage;
use std::sync::atomic::{AtomicU64, Ordering};

/// Reads, decodes and checks every chunk once, by `jobs` threads, and returns the plain bytes that were not holes.
///
/// # Errors
/// The error of one damaged or unreadable chunk.
pub fn decode_all(image: &DiskImage, jobs: usize) -> Result<u64> {
    let (next, bytes) = (AtomicU64::new(0), AtomicU64::new(0));
    let chunks = image.layout().chunks();
    let work = || -> Result<()> {
        let mut buffer = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= chunks {
                return Ok(());
            }
            if image.fetch(number, &mut buffer)? {
                bytes.fetch_add(crate::bytes::to_u64(buffer.len()), Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..jobs.max(1)).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    Ok(bytes.into_inner())
}
