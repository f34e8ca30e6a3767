//! Files for a while: without a name, or names of files that are not complete yet, the same wherever the program writes: `.NAME.vaultfs-XXXXXXXX.partial`.

use super::{fill_random, hex};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Longest file name on Linux file systems.
pub const NAME_MAX: usize = 255;

/// A random name beside `name`, which is shortened where it would be too long; what a killed run leaves under it may be deleted.
///
/// # Errors
/// As `getrandom(2)` reports.
pub fn temporary_name(name: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut random = [0; 4];
    fill_random(&mut random)?;
    let tail = format!(".vaultfs-{}.partial", hex(&random));
    let room = NAME_MAX.saturating_sub(tail.len()).saturating_sub(1);
    let mut bytes = vec![b'.'];
    bytes.extend(name.iter().take(room));
    bytes.extend(tail.as_bytes());
    Ok(bytes)
}

/// A new file without a name for data that does not fit into memory, readable by nobody else; it goes when it is closed.
///
/// It lies where `TMPDIR` says, else in `/var/tmp`, which is seldom memory, else in `/tmp`.
///
/// # Errors
/// As the system reports for the last place tried.
pub fn unlinked_file() -> std::io::Result<File> {
    let named = std::env::var_os("TMPDIR").map(PathBuf::from);
    let places = named.map_or_else(|| vec!["/var/tmp".into(), "/tmp".into()], |dir| vec![dir]);
    let mut failure = std::io::Error::from(std::io::ErrorKind::NotFound);
    for place in places {
        match unlinked_in(&place) {
            Ok(file) => return Ok(file),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn unlinked_in(dir: &Path) -> std::io::Result<File> {
    let (flags, mode) = (OFlags::RDWR | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR);
    match rustix::fs::open(dir, flags | OFlags::TMPFILE, mode) {
        Ok(fd) => return Ok(fd.into()),
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL) => {}
        Err(error) => return Err(error.into()),
    }
    let path = dir.join(OsStr::from_bytes(&temporary_name(b"spill")?));
    let fd = rustix::fs::open(&path, flags | OFlags::CREATE | OFlags::EXCL, mode)?;
    std::fs::remove_file(path)?;
    Ok(fd.into())
}
