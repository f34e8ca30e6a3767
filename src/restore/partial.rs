//! A new file that has a temporary name until it is complete, and is removed if it never gets there.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

use super::{Error, Result, io};
use crate::bytes::size_text;
use crate::bytes::temporary::temporary_name;
use crate::monitor::Monitor;

/// Names tried before giving up; each is random, so a second try is next to never needed.
const TRIES: usize = 8;

/// The file being written; dropping it unpublished removes it.
pub(super) struct Partial {
    file: File,
    temporary: PathBuf,
    target: PathBuf,
}

impl Partial {
    /// Creates an empty file beside `target`, mode 0600.
    ///
    /// # Errors
    /// `Unusable` if `target` has no file name; `Io` as the directory reports.
    pub(super) fn create(target: &Path) -> Result<Self> {
        let name = target.file_name().ok_or_else(|| Error::Unusable {
            path: target.to_path_buf(),
            why: "it names no file".into(),
        })?;
        let mut tries = 0;
        loop {
            let temporary =
                temporary_name(name.as_bytes()).map_err(|error| io("finding a name beside", target, error))?;
            let temporary = directory(target).join(OsString::from_vec(temporary));
            let mut options = OpenOptions::new();
            options.read(true).write(true).create_new(true).mode(0o600);
            match options.open(&temporary) {
                Ok(file) => {
                    return Ok(Self {
                        file,
                        temporary,
                        target: target.to_path_buf(),
                    });
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists && tries < TRIES => tries += 1,
                Err(error) => return Err(io("creating a file beside", target, error)),
            }
        }
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// The name the file will have, which is what messages about it say.
    pub(super) fn path(&self) -> &Path {
        &self.target
    }

    /// Gives the flushed file its name, without ever overwriting, and makes the name durable.
    ///
    /// # Errors
    /// `Exists` if something took the name meanwhile; `Io` as the file system reports.
    pub(super) fn publish(self) -> Result<()> {
        let renamed = match rustix::fs::renameat_with(CWD, &self.temporary, CWD, &self.target, RenameFlags::NOREPLACE) {
            // Some network file systems cannot rename without overwriting, but can link, which never overwrites. The
            // temporary name is then removed when `self` is dropped.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => rustix::fs::link(&self.temporary, &self.target),
            other => other,
        };
        match renamed {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                return Err(Error::Exists {
                    path: self.target.clone(),
                });
            }
            Err(error) => return Err(io("naming", &self.target, error.into())),
        }
        let directory = directory(&self.target);
        let synced = File::open(directory).and_then(|directory| directory.sync_all());
        synced.map_err(|error| io("flushing the directory of", &self.target, error))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        match std::fs::remove_file(&self.temporary) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                log::warn!("{} is left over and may be deleted: {error}", self.temporary.display());
            }
            _ => {}
        }
    }
}

/// Says so beforehand if the file system has less room than the data takes; it may compress, so this is no refusal.
pub(super) fn warn_if_full(target: &Path, needed: u64, monitor: &dyn Monitor) {
    let Ok(room) = rustix::fs::statvfs(directory(target)) else {
        return;
    };
    let free = room.f_bavail.saturating_mul(room.f_frsize);
    if free < needed {
        monitor.warn(&format!(
            "{} has {} free and the image holds {} of data; this will probably not fit",
            directory(target).display(),
            size_text(free),
            size_text(needed)
        ));
    }
}

/// The directory a path lies in.
pub(super) fn directory(target: &Path) -> &Path {
    match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::temporary::NAME_MAX;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn an_unpublished_file_is_removed_and_a_published_one_stays() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("disk.img");
        let partial = Partial::create(&target).unwrap();
        let found = names(dir.path());
        assert_eq!(found.len(), 1);
        assert!(
            found[0].starts_with(".disk.img.vaultfs-") && found[0].ends_with(".partial"),
            "{found:?}"
        );
        drop(partial);
        assert!(names(dir.path()).is_empty());
        Partial::create(&target).unwrap().publish().unwrap();
        assert_eq!(names(dir.path()), ["disk.img"]);
    }

    #[test]
    fn publishing_never_overwrites() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("disk.img");
        let partial = Partial::create(&target).unwrap();
        std::fs::write(&target, "theirs").unwrap();
        assert!(matches!(partial.publish(), Err(Error::Exists { .. })));
        assert_eq!(std::fs::read(&target).unwrap(), b"theirs");
        assert_eq!(names(dir.path()), ["disk.img"]);
    }

    #[test]
    fn the_longest_name_fits() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("n".repeat(NAME_MAX));
        Partial::create(&target).unwrap().publish().unwrap();
        assert_eq!(names(dir.path()), ["n".repeat(NAME_MAX)]);
    }
}
