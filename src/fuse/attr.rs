//! Puts the tree's attributes into fuser's words.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, INodeNo};

use super::MAX_REQUEST_BYTES;
use crate::tree::{Attributes, Form, Ino, Lasting};

/// Immutable: the kernel may keep it until memory is short. The notifier takes back what a deletion ends.
const FOREVER: Duration = Duration::from_secs(4_294_967_295);
/// For what new backups change, should a notice get lost.
const SHORTLY: Duration = Duration::from_secs(1);

pub(super) fn ttl(lasting: Lasting) -> Duration {
    match lasting {
        Lasting::Forever => FOREVER,
        Lasting::Shortly => SHORTLY,
    }
}

pub(super) fn file_type(form: Form) -> FileType {
    match form {
        Form::Directory => FileType::Directory,
        Form::File => FileType::RegularFile,
        Form::Symlink => FileType::Symlink,
    }
}

pub(super) fn attr_of(attributes: &Attributes) -> FileAttr {
    let time = time_of(attributes.time);
    FileAttr {
        ino: INodeNo(attributes.ino.0),
        size: attributes.size_bytes,
        blocks: attributes.blocks,
        atime: time,
        mtime: time,
        ctime: time,
        crtime: time,
        kind: file_type(attributes.form),
        perm: attributes.mode,
        nlink: attributes.links,
        uid: attributes.owner.uid,
        gid: attributes.owner.gid,
        rdev: 0,
        blksize: MAX_REQUEST_BYTES,
        flags: 0,
    }
}

/// Attributes for a bare number; number 0 tells the kernel that a name is not there and that it may remember that.
pub(super) fn bare_attr(ino: Ino) -> FileAttr {
    FileAttr {
        ino: INodeNo(ino.0),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: FileType::Directory,
        perm: 0o555,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: MAX_REQUEST_BYTES,
        flags: 0,
    }
}

fn time_of(seconds: i64) -> SystemTime {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let time = if seconds < 0 {
        UNIX_EPOCH.checked_sub(distance)
    } else {
        UNIX_EPOCH.checked_add(distance)
    };
    time.unwrap_or(UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_and_out_of_range_are_shown_as_they_can_be() {
        assert_eq!(time_of(-5), UNIX_EPOCH - Duration::from_secs(5));
        assert_eq!(
            time_of(i64::MIN),
            UNIX_EPOCH
                .checked_sub(Duration::from_secs(1 << 63))
                .unwrap_or(UNIX_EPOCH)
        );
    }
}
