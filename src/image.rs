//! Random access to the plain bytes of a disk: the trait [`ReadAt`], its errors, and a bounded slice of one.

pub mod decode;
pub mod disk;
pub mod handle;
pub mod piece;
pub mod stream;

use std::sync::Arc;

use crate::chunk;

/// Why bytes of an image could not be read; no variant ever comes with partial data.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The range ends past the end of the image.
    #[error("bytes {offset}..+{len} lie outside the image of {size} bytes")]
    OutOfRange {
        /// First byte asked for.
        offset: u64,
        /// Bytes asked for.
        len: u64,
        /// Size of the image.
        size: u64,
    },
    /// The bytes are there and wrong: they fail their digest or break their format.
    #[error("{what} is corrupt at byte {at}")]
    Corrupt {
        /// What is wrong, in words.
        what: String,
        /// Byte offset of the damage, in the image or the source file.
        at: u64,
    },
    /// The store confirmed that an object or a chunk is not there.
    #[error("{what} is missing")]
    Missing {
        /// What is missing, in words.
        what: String,
    },
    /// The image uses something this version does not read.
    #[error("{feature} is not supported")]
    Unsupported {
        /// The feature, with the cure where there is one.
        feature: String,
    },
    /// The store did not answer in time, or answered with a passing fault; a later try may succeed.
    #[error("the store did not deliver {what}")]
    Unavailable {
        /// What was asked for.
        what: String,
        /// The store's own words.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The operating system failed to read the source.
    #[error("reading {what} failed")]
    Io {
        /// File or device.
        what: String,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    /// A chunk that could not be had; `whose` it is and the byte where it begins are told.
    pub(crate) fn of_chunk(error: chunk::Error, whose: &str, at: u64) -> Self {
        let what = format!("{error} ({whose})");
        match error {
            chunk::Error::Corrupt { .. } => Self::Corrupt { what, at },
            chunk::Error::Missing { .. } => Self::Missing {
                what: format!("{what}, byte {at}:"),
            },
            chunk::Error::Unavailable { source, .. } => Self::Unavailable {
                what,
                source: Box::new(source),
            },
            chunk::Error::Timeout { .. } => {
                let source = std::io::Error::from(std::io::ErrorKind::TimedOut);
                Self::Unavailable {
                    what,
                    source: Box::new(source),
                }
            }
        }
    }
}

/// The result of reading an image.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Plain bytes that can be read at any offset, from any thread.
pub trait ReadAt: Send + Sync {
    /// Size in bytes; fixed for the life of the value.
    fn len(&self) -> u64;

    /// Says whether there are no bytes at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `buf` with the bytes starting at `offset`; holes read as zero.
    ///
    /// # Errors
    /// `OutOfRange` if the end lies past [`len`](Self::len); on any error the content of `buf` is unspecified.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()>;

    /// First byte at or after `offset` that is not known to be a hole; `None` if only hole follows.
    ///
    /// # Errors
    /// As [`read_at`](Self::read_at) for the maps it needs.
    fn next_data(&self, offset: u64) -> Result<Option<u64>>;

    /// First byte at or after `offset` that is known to be a hole; [`len`](Self::len) if none is.
    ///
    /// # Errors
    /// As [`read_at`](Self::read_at) for the maps it needs.
    fn next_hole(&self, offset: u64) -> Result<u64>;

    /// Makes ready what a read of these bytes will need, as far as there is anything to make ready; a failure is left to the read.
    fn warm(&self, offset: u64, len: u64) {
        let _ = (offset, len);
    }
}

/// Checks that `len` bytes at `offset` lie inside an image of `size` bytes.
///
/// # Errors
/// `OutOfRange` if they do not.
pub fn check_range(offset: u64, len: usize, size: u64) -> Result<()> {
    let len = crate::bytes::to_u64(len);
    match offset.checked_add(len) {
        Some(end) if end <= size => Ok(()),
        _ => Err(Error::OutOfRange { offset, len, size }),
    }
}

impl<T: ReadAt + ?Sized> ReadAt for Arc<T> {
    fn len(&self) -> u64 {
        (**self).len()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        (**self).read_at(offset, buf)
    }
    fn next_data(&self, offset: u64) -> Result<Option<u64>> {
        (**self).next_data(offset)
    }
    fn next_hole(&self, offset: u64) -> Result<u64> {
        (**self).next_hole(offset)
    }
    fn warm(&self, offset: u64, len: u64) {
        (**self).warm(offset, len);
    }
}
