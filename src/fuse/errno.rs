//! Chooses the errno for each error, and logs what a user of the mount could not know from EIO alone.

use std::error::Error as _;
use std::time::{Duration, Instant};

use fuser::Errno;
use parking_lot::Mutex;

use crate::fs::{self, FileType};
use crate::image;
use crate::tree::Error;

/// The one place where errors become errno.
pub(super) fn of(error: &Error) -> Errno {
    match error {
        Error::Gone { .. } | Error::Stale { .. } => Errno::ESTALE,
        Error::Collision { .. } => Errno::EIO,
        Error::Vault { source, .. } => of_delivery(source),
        Error::WrongType { wanted, .. } => of_wrong_type(*wanted),
        Error::NoAttribute => Errno::NO_XATTR,
        Error::Image(error) => of_image(error),
        Error::File(error) => match error {
            fs::Error::Image(error) => of_image(error),
            fs::Error::Stored { source, .. } => of_delivery(source),
            fs::Error::Corrupt { .. } => Errno::EIO,
            fs::Error::Unsupported { .. } => Errno::EOPNOTSUPP,
            fs::Error::Encrypted { .. } => Errno::EACCES,
            fs::Error::NoInode { .. } => Errno::ESTALE,
            fs::Error::WrongType { wanted, .. } => of_wrong_type(*wanted),
        },
    }
}

fn of_wrong_type(wanted: FileType) -> Errno {
    match wanted {
        FileType::Directory => Errno::ENOTDIR,
        FileType::File => Errno::EISDIR,
        _ => Errno::EINVAL,
    }
}

fn of_image(error: &image::Error) -> Errno {
    match error {
        image::Error::Unavailable { source, .. } => of_delivery(source.as_ref()),
        image::Error::Corrupt { .. }
        | image::Error::Missing { .. }
        | image::Error::Unsupported { .. }
        | image::Error::Io { .. }
        // Reads are cut at the end of the file, so this is a fault of ours and never a short read.
        | image::Error::OutOfRange { .. } => Errno::EIO,
    }
}

/// Of what a store did not deliver: the user's own limit has a word of its own.
fn of_delivery(error: &(dyn std::error::Error + 'static)) -> Errno {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<std::io::Error>()
            && error.kind() == std::io::ErrorKind::QuotaExceeded
        {
            return Errno::EDQUOT;
        }
        cause = error.source();
    }
    Errno::EIO
}

/// Lines in one window: enough to see what is damaged, too few to fill a disk while somebody copies a damaged image.
const LINES: u32 = 20;
const WINDOW: Duration = Duration::from_secs(10);

/// Logs failed requests, one line each, and counts what is too much.
#[derive(Debug)]
pub(super) struct Complaints {
    window: Mutex<Window>,
}

#[derive(Debug)]
struct Window {
    began: Instant,
    lines: u32,
    dropped: u64,
}

impl Complaints {
    pub(super) fn new() -> Self {
        let window = Window {
            began: Instant::now(),
            lines: 0,
            dropped: 0,
        };
        Self {
            window: Mutex::new(window),
        }
    }

    /// Logs a failure that the user sees as EIO; `what` names backup, disk and offset.
    pub(super) fn log(&self, what: &str, error: &Error) {
        if self.admits(Instant::now()) {
            log::error!("{what}: {}", chain(error));
        }
    }

    fn admits(&self, now: Instant) -> bool {
        let mut window = self.window.lock();
        if now.duration_since(window.began) >= WINDOW {
            if window.dropped > 0 {
                log::error!("{} more failed requests were not logged", window.dropped);
            }
            *window = Window {
                began: now,
                lines: 0,
                dropped: 0,
            };
        }
        if window.lines < LINES {
            window.lines += 1;
            true
        } else {
            window.dropped += 1;
            false
        }
    }
}

/// An error with all its sources, in one line.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unreadable_bytes_are_eio_and_lost_backups_estale() {
        let corrupt = image::Error::Corrupt {
            what: "chunk 1".into(),
            at: 5,
        };
        let error = Error::Image(corrupt);
        assert_eq!(of(&error), Errno::EIO);
        assert_eq!(chain(&error), "an image cannot be read: chunk 1 is corrupt at byte 5");
        assert_eq!(
            of(&Error::Stale {
                ino: crate::tree::Ino(7)
            }),
            Errno::ESTALE
        );
        assert_eq!(of(&Error::NoAttribute), Errno::ENODATA);
    }

    #[test]
    fn the_users_own_limit_is_told_from_failures() {
        let error = |kind| {
            let source = std::io::Error::new(kind, "why");
            Error::Image(image::Error::Unavailable {
                what: "chunk 1".into(),
                source: Box::new(crate::store::Error::Io {
                    operation: "read",
                    key: "packs/1".into(),
                    source,
                }),
            })
        };
        assert_eq!(of(&error(std::io::ErrorKind::QuotaExceeded)), Errno::EDQUOT);
        assert_eq!(of(&error(std::io::ErrorKind::TimedOut)), Errno::EIO);
    }

    #[test]
    fn a_flood_of_failures_is_cut() {
        let complaints = Complaints::new();
        let now = Instant::now();
        let admitted = (0..1000).filter(|_| complaints.admits(now)).count();
        assert_eq!(admitted, 20);
        assert!(complaints.admits(now + WINDOW));
    }
}
