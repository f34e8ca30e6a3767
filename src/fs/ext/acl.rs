//! POSIX access control lists: from the form that ext keeps to the one that getxattr(2) gives.

use crate::bytes::{le_u16, le_u32};

/// `ACL_USER` and `ACL_GROUP`, the only entries with a number.
const WITH_ID: [u16; 2] = [0x02, 0x08];
/// `ACL_USER_OBJ`, `ACL_GROUP_OBJ`, `ACL_MASK`, `ACL_OTHER`.
const WITHOUT_ID: [u16; 4] = [0x01, 0x04, 0x10, 0x20];

/// Rewrites an access control list: version 1 with short entries becomes version 2 with all entries of eight bytes.
///
/// `None` if it is not sound.
///
/// # Source
/// Linux fs/ext4/acl.h, `ext4_acl_header`, `ext4_acl_entry`; include/uapi/linux/posix_acl_xattr.h.
pub(super) fn to_xattr(raw: &[u8]) -> Option<Vec<u8>> {
    if le_u32(raw, 0)? != 1 {
        return None;
    }
    let mut out = 2_u32.to_le_bytes().to_vec();
    let mut rest = raw.get(4..)?;
    while !rest.is_empty() {
        let tag = le_u16(rest, 0)?;
        let permissions = le_u16(rest, 2)?;
        let (id, len) = if WITH_ID.contains(&tag) {
            (le_u32(rest, 4)?, 8)
        } else if WITHOUT_ID.contains(&tag) {
            (u32::MAX, 4)
        } else {
            return None;
        };
        out.extend(tag.to_le_bytes());
        out.extend(permissions.to_le_bytes());
        out.extend(id.to_le_bytes());
        rest = rest.get(len..)?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_entries_get_the_number_of_nobody() {
        let raw = [1, 0, 0, 0, 1, 0, 6, 0, 2, 0, 4, 0, 0xe8, 3, 0, 0];
        let expected = [2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0, 0xe8, 3, 0, 0];
        assert_eq!(to_xattr(&raw).unwrap(), expected);
        assert_eq!(to_xattr(&raw[..14]), None);
        assert_eq!(to_xattr(&[1, 0, 0, 0, 3, 0, 0, 0]), None);
    }
}
