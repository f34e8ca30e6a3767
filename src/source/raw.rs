//! A regular file or a block device whose bytes are the disk.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, SeekFrom};
use rustix::io::Errno;

use crate::bytes::direct::DirectReader;
use crate::image::{Error, ReadAt, Result, check_range};

/// A raw disk, open for reading; its size is the one it had when it was opened.
#[derive(Debug)]
pub struct RawDisk {
    file: File,
    path: PathBuf,
    len: u64,
    kind: Kind,
    /// For large reads past the page cache.
    direct: Option<DirectReader>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Holes are asked of the file system.
    Regular,
    /// All data: a device has no map of holes.
    Device,
}

impl RawDisk {
    /// Opens `path` read-only.
    ///
    /// # Errors
    /// `Io` naming the path and the cure: not there, a directory, not readable for this user, a device without a medium.
    pub fn open(path: &Path) -> Result<Self> {
        // Looked at before it is opened: opening a FIFO would wait for a writer, and some devices act on being opened.
        let metadata = std::fs::metadata(path).map_err(|error| open_error(path, error))?;
        kind(path, &metadata)?;
        let file = File::open(path).map_err(|error| open_error(path, error))?;
        Self::from_file(file, path)
    }

    /// Takes over an open file or device; `path` is its name in messages.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_file(file: File, path: &Path) -> Result<Self> {
        let metadata = file.metadata().map_err(|error| open_error(path, error))?;
        let kind = kind(path, &metadata)?;
        let len = match kind {
            Kind::Regular => metadata.len(),
            Kind::Device => device_len(&file, path)?,
        };
        // Only advice: a file system that does not take it reads the same bytes.
        let _ = rustix::fs::fadvise(&file, 0, None, Advice::Sequential);
        Ok(Self {
            file,
            path: path.to_path_buf(),
            len,
            kind,
            direct: None,
        })
    }

    /// Reads past the page cache where a read is aligned: for who reads all of it once.
    #[must_use]
    pub fn past_the_cache(mut self) -> Self {
        self.direct = DirectReader::of(&self.file);
        self
    }

    /// Says whether this is a regular file, not a device.
    #[must_use]
    pub fn is_regular(&self) -> bool {
        self.kind == Kind::Regular
    }

    /// The name it was opened by.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Asks the file system for data or hole; `None` if there is none before the end of the file.
    fn seek(&self, to: SeekFrom, offset: u64) -> Result<Option<u64>> {
        match rustix::fs::seek(&self.file, to) {
            Ok(at) => Ok(Some(at)),
            Err(Errno::NXIO) => Ok(None),
            // No map of holes here: whatever was asked for, this byte has to be read.
            Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOTTY | Errno::NOSYS) => match to {
                SeekFrom::Data(_) => Ok(Some(offset)),
                _ => Ok(Some(self.len)),
            },
            Err(error) => Err(self.io(error.into())),
        }
    }

    /// Refuses to take a missing tail for a hole: past a shrunken end the file system reports only holes.
    fn check_not_shrunk(&self) -> Result<()> {
        let now = self.file.metadata().map_err(|error| self.io(error))?.len();
        if now < self.len { Err(self.shrunk()) } else { Ok(()) }
    }

    fn shrunk(&self) -> Error {
        self.io(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            format!(
                "it became shorter than the {} bytes it had when it was opened; stop what resizes it and try again",
                self.len
            ),
        ))
    }

    fn io(&self, source: io::Error) -> Error {
        Error::Io {
            what: self.path.display().to_string(),
            source,
        }
    }
}

impl ReadAt for RawDisk {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        check_range(offset, buf.len(), self.len)?;
        let direct = self
            .direct
            .as_ref()
            .and_then(|direct| direct.read_exact_at(buf, offset));
        direct
            .unwrap_or_else(|| self.file.read_exact_at(buf, offset))
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => self.shrunk(),
                _ => self.io(error),
            })
    }

    fn next_data(&self, offset: u64) -> Result<Option<u64>> {
        if offset >= self.len {
            return Ok(None);
        }
        if self.kind == Kind::Device {
            return Ok(Some(offset));
        }
        match self.seek(SeekFrom::Data(offset), offset)? {
            Some(at) if at < self.len => Ok(Some(at)),
            _ => self.check_not_shrunk().map(|()| None),
        }
    }

    fn next_hole(&self, offset: u64) -> Result<u64> {
        if offset >= self.len || self.kind == Kind::Device {
            return Ok(self.len);
        }
        match self.seek(SeekFrom::Hole(offset), offset)? {
            Some(at) if at < self.len => self.check_not_shrunk().map(|()| at),
            Some(_) => Ok(self.len),
            None => Err(self.shrunk()),
        }
    }
}

fn kind(path: &Path, metadata: &Metadata) -> Result<Kind> {
    let file_type = metadata.file_type();
    if file_type.is_file() {
        return Ok(Kind::Regular);
    }
    if file_type.is_block_device() {
        return Ok(Kind::Device);
    }
    let (kind, why) = if file_type.is_dir() {
        (
            io::ErrorKind::IsADirectory,
            "it is a directory; a disk is a file or a block device",
        )
    } else {
        (
            io::ErrorKind::InvalidInput,
            "it is neither a regular file nor a block device",
        )
    };
    Err(Error::Io {
        what: path.display().to_string(),
        source: io::Error::new(kind, why),
    })
}

fn device_len(file: &File, path: &Path) -> Result<u64> {
    match rustix::fs::seek(file, SeekFrom::End(0)) {
        Ok(0) => Err(Error::Io {
            what: path.display().to_string(),
            source: io::Error::new(
                io::ErrorKind::InvalidInput,
                "the device is empty (0 bytes); is a medium in it, is it connected?",
            ),
        }),
        Ok(len) => Ok(len),
        Err(error) => Err(open_error(path, error.into())),
    }
}

fn open_error(path: &Path, error: io::Error) -> Error {
    let source = match error.kind() {
        io::ErrorKind::NotFound => io::Error::new(error.kind(), "there is no such file or device; check the path"),
        io::ErrorKind::PermissionDenied => io::Error::new(
            error.kind(),
            "permission denied; run as root, or as a user that may read it",
        ),
        _ => error,
    };
    Error::Io {
        what: path.display().to_string(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    fn message(error: &Error) -> String {
        let source = std::error::Error::source(error).expect("a source");
        format!("{error}: {source}")
    }

    #[test]
    fn what_is_not_a_disk_is_named_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("none.img");
        let cases = [
            (missing.as_path(), "no such file"),
            (dir.path(), "is a directory"),
            (Path::new("/dev/null"), "neither a regular file nor a block device"),
        ];
        for (path, part) in cases {
            let text = message(&RawDisk::open(path).unwrap_err());
            assert!(
                text.contains(part) && text.contains(&path.display().to_string()),
                "{text}"
            );
        }
    }

    #[test]
    fn a_file_that_shrinks_is_an_error_never_a_hole() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().write_all_at(&[7; 300_000], 0).unwrap();
        let disk = RawDisk::open(file.path()).unwrap();
        file.as_file().set_len(100_000).unwrap();
        let mut buf = vec![0; 200_000];
        assert!(message(&disk.read_at(0, &mut buf).unwrap_err()).contains("became shorter"));
        assert!(disk.next_data(150_000).is_err());
        assert!(disk.next_hole(150_000).is_err());
        assert!(disk.next_hole(0).is_err());
    }

    #[test]
    fn holes_and_data_partition_a_sparse_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mib = 1 << 20;
        file.as_file().set_len(8 * mib).unwrap();
        file.as_file().write_all_at(&[1; 65536], 2 * mib).unwrap();
        let disk = RawDisk::open(file.path()).unwrap();
        assert_eq!(disk.next_data(0).unwrap(), Some(2 * mib));
        assert_eq!(disk.next_hole(2 * mib).unwrap(), 2 * mib + 65536);
        assert_eq!(disk.next_data(3 * mib).unwrap(), None);
        assert_eq!(disk.next_hole(8 * mib).unwrap(), 8 * mib);
        assert_eq!(disk.next_data(9 * mib).unwrap(), None);
    }

    #[test]
    fn reads_past_the_end_are_out_of_range() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().write_all_at(&[7; 1000], 0).unwrap();
        let disk = RawDisk::open(file.path()).unwrap();
        let mut buf = [0; 2];
        assert!(disk.read_at(998, &mut buf).is_ok());
        assert!(matches!(disk.read_at(999, &mut buf), Err(Error::OutOfRange { .. })));
        assert!(matches!(
            disk.read_at(u64::MAX, &mut buf),
            Err(Error::OutOfRange { .. })
        ));
    }
}
