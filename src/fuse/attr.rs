//! Puts the tree's attributes into fuser's words.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, INodeNo};

use super::MAX_REQUEST_BYTES;
use crate::fs::{DeviceNumber, FileType, Timestamp};
use crate::tree::{Attributes, Ino, Lasting};

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

pub(super) fn file_type(file_type: FileType) -> fuser::FileType {
    match file_type {
        FileType::Directory => fuser::FileType::Directory,
        FileType::File => fuser::FileType::RegularFile,
        FileType::Symlink => fuser::FileType::Symlink,
        FileType::CharDevice => fuser::FileType::CharDevice,
        FileType::BlockDevice => fuser::FileType::BlockDevice,
        FileType::Fifo => fuser::FileType::NamedPipe,
        FileType::Socket => fuser::FileType::Socket,
    }
}

pub(super) fn attr_of(attributes: &Attributes) -> FileAttr {
    FileAttr {
        ino: INodeNo(attributes.ino.0),
        size: attributes.size_bytes,
        blocks: attributes.blocks,
        atime: time_of(attributes.accessed),
        mtime: time_of(attributes.modified),
        ctime: time_of(attributes.changed),
        crtime: time_of(attributes.created),
        kind: file_type(attributes.file_type),
        perm: attributes.mode,
        nlink: attributes.links,
        uid: attributes.owner.uid,
        gid: attributes.owner.gid,
        rdev: device_number(attributes.device),
        blksize: attributes.block_bytes,
        flags: 0,
    }
}

/// As the kernel encodes it for user space in 32 bits: eight bits of minor, twelve of major, the rest of minor.
fn device_number(device: DeviceNumber) -> u32 {
    (device.minor & 0xff) | ((device.major & 0xfff) << 8) | ((device.minor & 0xfff00) << 12)
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
        kind: fuser::FileType::Directory,
        perm: 0o555,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: MAX_REQUEST_BYTES,
        flags: 0,
    }
}

fn time_of(time: Timestamp) -> SystemTime {
    let distance = Duration::from_secs(time.seconds.unsigned_abs());
    let seconds = if time.seconds < 0 {
        UNIX_EPOCH.checked_sub(distance)
    } else {
        UNIX_EPOCH.checked_add(distance)
    };
    let nanos = Duration::from_nanos(u64::from(time.nanos));
    seconds
        .and_then(|seconds| seconds.checked_add(nanos))
        .unwrap_or(UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_and_out_of_range_are_shown_as_they_can_be() {
        let at = |seconds, nanos| time_of(Timestamp { seconds, nanos });
        assert_eq!(at(-5, 0), UNIX_EPOCH - Duration::from_secs(5));
        assert_eq!(at(-5, 999_999_999), UNIX_EPOCH - Duration::new(4, 1));
        assert_eq!(
            at(i64::MIN, 0),
            UNIX_EPOCH
                .checked_sub(Duration::from_secs(1 << 63))
                .unwrap_or(UNIX_EPOCH)
        );
    }
}
