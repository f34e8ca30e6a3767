//! What a backup reads a disk from: raw files, block devices and qcow2 images, each as [`ReadAt`].
//!
//! The format is the user's word and is never guessed: the content of a raw disk belongs to the machine that wrote it,
//! and could otherwise turn itself into an image that names files of this host. For the same reason no path found inside
//! an image is ever opened; backing files are the ones the user names.

pub mod directory;
pub mod qcow2;
pub mod raw;

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use crate::image::{Error, ReadAt, Result};

/// How the bytes of a disk lie in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// The file or block device is the disk, byte for byte.
    #[default]
    Raw,
    /// A qcow2 image, version 2 or 3.
    Qcow2,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
        })
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "raw" => Ok(Self::Raw),
            "qcow2" => Ok(Self::Qcow2),
            _ => Err(format!("{text:?} is not a disk format; write raw or qcow2")),
        }
    }
}

/// One file under a qcow2 image, as the user names it: `PATH` is qcow2, `raw:PATH` is raw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backing {
    /// Where the file is.
    pub path: PathBuf,
    /// What it holds.
    pub format: Format,
}

impl From<OsString> for Backing {
    fn from(text: OsString) -> Self {
        let (format, path) = match text.as_bytes().strip_prefix(b"raw:") {
            Some(path) => (Format::Raw, OsString::from_vec(path.to_vec())),
            None => (Format::Qcow2, text),
        };
        Self {
            path: PathBuf::from(path),
            format,
        }
    }
}

/// A disk to be read, as the user describes it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DiskSource {
    /// File or block device.
    pub path: PathBuf,
    /// What it holds.
    pub format: Format,
    /// The files under a qcow2 image, top to bottom; only the last may be raw.
    pub backing: Vec<Backing>,
}

/// Opens a disk for reading.
///
/// A raw *file* that begins like a qcow2 image is read as raw all the same; the log says that `--format qcow2` exists.
///
/// # Errors
/// `Io` naming the path if it cannot be opened or is neither file nor block device; `Unsupported` and `Corrupt` as
/// [`qcow2::Qcow2::open`], and for backing files under a raw disk.
pub fn open(spec: &DiskSource) -> Result<Arc<dyn ReadAt>> {
    match spec.format {
        Format::Qcow2 => Ok(Arc::new(qcow2::Qcow2::open(&spec.path, &spec.backing)?)),
        Format::Raw if !spec.backing.is_empty() => Err(Error::Unsupported {
            feature: format!(
                "a backing file under the raw disk {} (add --format qcow2 or drop --backing)",
                spec.path.display()
            ),
        }),
        Format::Raw => {
            let disk = raw::RawDisk::open(&spec.path)?;
            hint_at_qcow2(&disk, &spec.path)?;
            Ok(Arc::new(disk.past_the_cache()))
        }
    }
}

fn hint_at_qcow2(disk: &raw::RawDisk, path: &Path) -> Result<()> {
    let mut magic = [0; 4];
    if disk.is_regular() && disk.len() >= 4 {
        disk.read_at(0, &mut magic)?;
    }
    if magic == qcow2::MAGIC {
        log::warn!(
            "{} is read as a raw disk but begins like a qcow2 image; if it is one, add --format qcow2",
            path.display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backing_is_qcow2_unless_the_user_says_raw() {
        let cases = [
            ("base.qcow2", "base.qcow2", Format::Qcow2),
            ("raw:/dev/vg/base", "/dev/vg/base", Format::Raw),
            ("./raw:odd", "./raw:odd", Format::Qcow2),
        ];
        for (text, path, format) in cases {
            let backing = Backing::from(OsString::from(text));
            assert_eq!((backing.path, backing.format), (PathBuf::from(path), format), "{text}");
        }
    }

    #[test]
    fn backing_under_a_raw_disk_is_refused_before_anything_is_opened() {
        let spec = DiskSource {
            path: "/nonexistent".into(),
            backing: vec![OsString::from("x").into()],
            ..DiskSource::default()
        };
        assert!(matches!(open(&spec), Err(Error::Unsupported { .. })));
    }
}
