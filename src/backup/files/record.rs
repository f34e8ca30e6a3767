//! From the attributes of a file to the record that is stored, and whether a stored record still tells the truth.

use crate::checksum::Digest;
use crate::clock::Seconds;
use crate::source::directory::attributes::{self, Attributes};
use crate::vault::item::{InodeRecord, State, Time};

/// A change may leave the same times for this long: the coarsest clock of a file system, FAT's.
const GRANULARITY: Seconds = 2;

const TYPE: u32 = 0o170_000;
const CHARACTER: u32 = 0o020_000;
const BLOCK: u32 = 0o060_000;

/// The type of a file: the upper four bits of its mode.
pub(super) fn type_code(mode: u32) -> u8 {
    u8::try_from((mode & TYPE) >> 12).unwrap_or_default()
}

/// The record of a file read at the time `now`; what is not in its attributes is still to be filled in.
pub(super) fn of(found: &Attributes, now: Seconds) -> InodeRecord {
    let is_device = matches!(found.mode & TYPE, CHARACTER | BLOCK);
    InodeRecord {
        mode: found.mode,
        uid: found.uid,
        gid: found.gid,
        links: found.links,
        size: found.size_bytes,
        blocks: found.blocks,
        device: if is_device { found.represents } else { (0, 0) },
        accessed: time(found.accessed),
        modified: time(found.modified),
        changed: time(found.changed),
        created: found.born.map(time),
        flags: 0,
        state: State {
            recent: is_recent(found, now),
            changed: false,
        },
        digest: Digest([0; Digest::LEN]),
    }
}

/// Says whether a file changed so shortly before `now` that another change could leave the same times.
fn is_recent(found: &Attributes, now: Seconds) -> bool {
    // `now` is whole seconds, and a time of the future proves nothing either.
    found.changed.seconds.max(found.modified.seconds) >= now.saturating_sub(GRANULARITY)
}

/// Says whether a file is as it was when `old` was stored.
///
/// The time of the last change of attributes cannot be set; the others are compared for file systems that do not keep it.
pub(super) fn is_unchanged(old: &InodeRecord, found: &Attributes) -> bool {
    let sure = !old.state.recent && !old.state.changed;
    let attributes = (old.mode, old.uid, old.gid, old.links) == (found.mode, found.uid, found.gid, found.links);
    let content = old.size == found.size_bytes && old.modified == time(found.modified);
    sure && attributes && content && old.changed == time(found.changed)
}

fn time(found: attributes::Time) -> Time {
    Time {
        seconds: found.seconds,
        nanos: found.nanoseconds,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::directory::attributes::{FileId, Kind};

    fn found() -> Attributes {
        let time = attributes::Time {
            seconds: 1000,
            nanoseconds: 5,
        };
        Attributes {
            id: FileId { device: 5, inode: 7 },
            kind: Kind::Regular,
            mode: 0o100_644,
            links: 1,
            uid: 1,
            gid: 2,
            size_bytes: 10,
            blocks: 8,
            represents: (1, 2),
            accessed: time,
            modified: time,
            changed: time,
            born: None,
        }
    }

    #[test]
    fn a_file_is_unchanged_only_if_everything_says_so() {
        let old = of(&found(), 1003);
        assert!(is_unchanged(&old, &found()));
        let changes: [fn(&mut Attributes); 7] = [
            |file| file.size_bytes += 1,
            |file| file.modified.nanoseconds += 1,
            |file| file.changed.nanoseconds += 1,
            |file| file.mode = 0o100_600,
            |file| file.mode = 0o120_644,
            |file| file.uid += 1,
            |file| file.links += 1,
        ];
        for change in changes {
            let mut now = found();
            change(&mut now);
            assert!(!is_unchanged(&old, &now));
        }
        let read_again_only_for_its_access = Attributes {
            accessed: attributes::Time {
                seconds: 2000,
                nanoseconds: 0,
            },
            ..found()
        };
        assert!(is_unchanged(&old, &read_again_only_for_its_access));
    }

    #[test]
    fn times_of_the_last_seconds_and_of_the_future_prove_nothing() {
        for (now, recent) in [(1000, true), (1002, true), (1003, false), (900, true)] {
            let record = of(&found(), now);
            assert_eq!(record.state.recent, recent, "{now}");
            assert_eq!(is_unchanged(&record, &found()), !recent);
        }
    }

    #[test]
    fn only_devices_have_a_device_number() {
        let device = Attributes {
            mode: 0o060_600,
            ..found()
        };
        assert_eq!((of(&device, 0).device, of(&found(), 0).device), ((1, 2), (0, 0)));
        assert_eq!((type_code(0o100_644), type_code(0o040_755)), (8, 4));
    }
}
