//! A file inside a backup, as `cat`, `cp` and `bench-decode` take it: the path it has in the mount.

use super::Usage;
use crate::vault::{AddressSpec, Disk, Manifest};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// Checks that a word names something inside a backup, as far as can be said without looking.
pub(in super::super) fn inside(word: &OsStr) -> Result<&[u8], Usage> {
    let bytes = word.as_bytes();
    let mut rest = bytes;
    while let Some(tail) = rest.strip_prefix(b"/") {
        rest = tail;
    }
    let parts: Vec<&[u8]> = rest.splitn(4, |byte| *byte == b'/').collect();
    let text = |part| std::str::from_utf8(part).ok();
    match parts.as_slice() {
        [kind, name, point, path] if !path.is_empty() => {
            let parts = text(kind).zip(text(name)).zip(text(point));
            let ((kind, name), point) = parts.ok_or_else(|| no_file(word))?;
            super::address(&format!("{kind}/{name}/{point}"))?;
            Ok(bytes)
        }
        _ => Err(no_file(word)),
    }
}

fn no_file(word: &OsStr) -> Usage {
    Usage(format!(
        "{} is no file of a backup; write for example servers/web-01/latest/root/etc/fstab, disks/db/latest/disk.img or \
         filesystems/home/latest/tree/notes.txt",
        word.display()
    ))
}

/// A backup and what is wanted of it.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) struct BackupFile {
    /// The backup.
    pub(in super::super) spec: AddressSpec,
    /// Path below the backup's address: `backup.json`, `disks/vda.img`, `disk.img`.
    pub(in super::super) path: String,
}

impl BackupFile {
    /// Splits `servers/web-01/latest/disks/vda.img` after the point.
    pub(in super::super) fn parse(text: &str) -> Result<Self, Usage> {
        let parts: Vec<&str> = text.trim_matches('/').splitn(4, '/').collect();
        let [kind, name, point, path] = parts.as_slice() else {
            return Err(no_file(OsStr::new(text)));
        };
        Ok(Self {
            spec: super::address(&format!("{kind}/{name}/{point}"))?,
            path: (*path).to_owned(),
        })
    }

    /// The disk whose image the path names; the error lists the paths there are.
    pub(in super::super) fn disk<'a>(&self, manifest: &'a Manifest) -> Result<&'a Disk, NoSuchFile> {
        let mut disks = manifest.disks().iter();
        disks
            .find(|disk| manifest.image_path(disk) == self.path)
            .ok_or_else(|| NoSuchFile {
                path: self.path.clone(),
                there: manifest
                    .disks()
                    .iter()
                    .map(|disk| manifest.image_path(disk))
                    .collect::<Vec<_>>()
                    .join(", "),
            })
    }
}

/// The backup is there and has no such file.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the backup has no file {path}; it has backup.json, {there}")]
pub(in super::super) struct NoSuchFile {
    path: String,
    there: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_split_after_the_point() {
        let file = BackupFile::parse("/servers/web-01/latest/disks/vda.img").unwrap();
        assert_eq!(file.spec, "servers/web-01/latest".parse().unwrap());
        assert_eq!(file.path, "disks/vda.img");
        let bytes = OsStr::from_bytes(b"/servers/web-01/latest/root/\xff");
        assert_eq!(inside(bytes), Ok(bytes.as_bytes()));
        for bad in [
            "",
            "backup.json",
            "servers/web-01/latest",
            "servers/web-01/now/backup.json",
            "x/y/latest/z",
        ] {
            assert!(BackupFile::parse(bad).is_err(), "{bad}");
            assert!(inside(OsStr::new(bad)).is_err(), "{bad}");
        }
    }
}
