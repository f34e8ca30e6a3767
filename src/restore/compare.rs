//! Reads a target back: to compare it with the image after writing, and to see what it holds before.

use std::path::Path;

use super::crew::{Buffers, each_piece};
use super::{Error, Job, Kind, Range, Report, Result, io};
use crate::bytes::to_u64;
use crate::image::{self, ReadAt};

/// Longest read of a range that should be hole.
const STEP: u64 = 1 << 20;

/// Compares every byte of the disk with the image; the target may be longer than the image.
///
/// # Errors
/// `Mismatch` with a byte that differs: the first one of its piece.
pub(super) fn verify(job: &Job, target: &Readback) -> Result<()> {
    each_piece(job, "verify", |piece, buffers| {
        match piece.kind {
            Kind::Data => target.check_same(job.image, piece.range, buffers)?,
            Kind::Hole => target.check_zero(piece.range, buffers)?,
        }
        Ok(Report::default())
    })
    .map(|_| ())
}

/// A target as a plain disk, with its name for messages.
pub(super) struct Readback<'a> {
    disk: &'a dyn ReadAt,
    path: &'a Path,
}

impl<'a> Readback<'a> {
    pub(super) fn new(disk: &'a dyn ReadAt, path: &'a Path) -> Self {
        Self { disk, path }
    }

    /// Fills `buf` from byte `offset` of the target on.
    pub(super) fn read(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let read = self.disk.read_at(offset, buf);
        read.map_err(|error| target_error(self.path, error))
    }

    /// Reads what the target stores in a range, skipping its holes, and hands it on in order.
    pub(super) fn stored(
        &self,
        range: Range,
        buffers: &mut Buffers,
        mut each: impl FnMut(u64, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut at = range.offset;
        while at < range.end() {
            let next = self
                .disk
                .next_data(at)
                .map_err(|error| target_error(self.path, error))?;
            let Some(data) = next.filter(|data| *data < range.end()) else {
                break;
            };
            let len = STEP.min(range.end() - data);
            let (_, found) = buffers.of(len);
            self.read(data, found)?;
            each(data, found)?;
            at = data.saturating_add(len);
        }
        Ok(())
    }

    fn check_same(&self, image: &dyn ReadAt, range: Range, buffers: &mut Buffers) -> Result<()> {
        let (expected, found) = buffers.of(range.len);
        image.read_at(range.offset, expected)?;
        self.read(range.offset, found)?;
        if expected == found {
            return Ok(());
        }
        let equal = expected
            .iter()
            .zip(found.iter())
            .take_while(|(one, other)| one == other);
        Err(self.mismatch(range.offset, equal.count()))
    }

    fn check_zero(&self, range: Range, buffers: &mut Buffers) -> Result<()> {
        self.stored(range, buffers, |offset, found| {
            match found.iter().position(|byte| *byte != 0) {
                None => Ok(()),
                Some(first) => Err(self.mismatch(offset, first)),
            }
        })
    }

    fn mismatch(&self, offset: u64, within: usize) -> Error {
        Error::Mismatch {
            path: self.path.to_path_buf(),
            at: offset.saturating_add(to_u64(within)),
        }
    }
}

/// Tells a target that cannot be read from an image that cannot.
pub(super) fn target_error(path: &Path, error: image::Error) -> Error {
    let source = match error {
        image::Error::Io { source, .. } => source,
        other => std::io::Error::other(other),
    };
    io("reading back", path, source)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::to_usize;

    struct Disk(Vec<u8>);

    impl ReadAt for Disk {
        fn len(&self) -> u64 {
            to_u64(self.0.len())
        }
        fn read_at(&self, offset: u64, buf: &mut [u8]) -> image::Result<()> {
            image::check_range(offset, buf.len(), self.len())?;
            buf.copy_from_slice(&self.0[to_usize(offset)..][..buf.len()]);
            Ok(())
        }
        fn next_data(&self, offset: u64) -> image::Result<Option<u64>> {
            Ok((offset < self.len()).then_some(offset))
        }
        fn next_hole(&self, _: u64) -> image::Result<u64> {
            Ok(self.len())
        }
    }

    #[test]
    fn a_differing_byte_is_named_by_its_offset() {
        let image = Disk(vec![5; 3 << 20]);
        let mut target = Disk(image.0.clone());
        target.0[2_000_001] = 4;
        let range = Range {
            offset: 1 << 20,
            len: 1 << 20,
        };
        let path = Path::new("t");
        let mut buffers = Buffers::default();
        let found = Readback::new(&target, path).check_same(&image, range, &mut buffers);
        assert!(matches!(found, Err(Error::Mismatch { at: 2_000_001, .. })), "{found:?}");
        let empty = Disk(vec![0; 3 << 20]);
        assert!(Readback::new(&empty, path).check_zero(range, &mut buffers).is_ok());
        let found = Readback::new(&target, path).check_zero(range, &mut buffers);
        assert!(matches!(found, Err(Error::Mismatch { at: 1_048_576, .. })), "{found:?}");
    }
}
