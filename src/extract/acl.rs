//! The value of a POSIX ACL attribute: other numbers for the users and groups it names.

use crate::bytes::{le_u16, le_u32};
use crate::tree::held::Whose;

/// Bytes before the entries: a version.
const HEADER: usize = 4;
/// Bytes of an entry: tag, permissions, number of a user or group.
const ENTRY: usize = 8;
const TAG_USER: u16 = 0x02;
const TAG_GROUP: u16 = 0x08;

/// Puts the number that `map` gives in the place of each named user's and group's.
///
/// # Source
/// Linux include/uapi/linux/posix_acl_xattr.h.
pub(super) fn map(value: &mut [u8], map: impl Fn(Whose) -> u32) {
    let Some(entries) = value.get_mut(HEADER..) else {
        return;
    };
    for entry in entries.chunks_exact_mut(ENTRY) {
        let whose = match (le_u16(entry, 0), le_u32(entry, 4)) {
            (Some(TAG_USER), Some(number)) => Whose::User(number),
            (Some(TAG_GROUP), Some(number)) => Whose::Group(number),
            _ => continue,
        };
        if let Some(number) = entry.get_mut(4..) {
            number.copy_from_slice(&map(whose).to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_users_and_groups_are_mapped_and_nothing_else() {
        let entry = |tag: u16, number: u32| [&tag.to_le_bytes()[..], &[7, 0], &number.to_le_bytes()].concat();
        let acl = |user, group| {
            let entries = [
                entry(1, u32::MAX),
                entry(2, user),
                entry(8, group),
                entry(0x20, u32::MAX),
            ];
            [vec![2, 0, 0, 0], entries.concat()].concat()
        };
        let mut value = acl(1000, 1000);
        map(&mut value, |whose| match whose {
            Whose::User(1000) => 5,
            Whose::Group(1000) => 6,
            other => panic!("{other:?}"),
        });
        assert_eq!(value, acl(5, 6));
        for mut broken in [vec![], vec![2, 0], vec![2, 0, 0, 0, 2, 0, 7]] {
            let before = broken.clone();
            map(&mut broken, |_| 9);
            assert_eq!(broken, before);
        }
    }
}
