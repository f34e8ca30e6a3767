//! POSIX ACLs: from the form that XFS keeps to the one that getxattr(2) gives.

use crate::bytes::{be_u16, be_u32, to_u64};

/// Version of the form that the kernel gives.
const XATTR_VERSION: u32 = 2;
/// Bytes of an entry on the volume: tag, id, permissions, padding.
const ENTRY: usize = 12;
/// Tags whose entries name a user or a group; all others have no id.
const NAMED_TAGS: [u32; 2] = [0x02, 0x08];
/// Tags of the owner, the owning group, the mask, all others.
const OTHER_TAGS: [u32; 4] = [0x01, 0x04, 0x10, 0x20];
/// Stands for no id.
const NO_ID: u32 = 0xffff_ffff;

/// Full name under which the kernel gives the attribute as an ACL; `None` if it is none.
pub(super) fn name(name: &[u8]) -> Option<&'static [u8]> {
    match name {
        b"SGI_ACL_FILE" => Some(b"system.posix_acl_access"),
        b"SGI_ACL_DEFAULT" => Some(b"system.posix_acl_default"),
        _ => None,
    }
}

/// Converts a value; `None` if it is no ACL.
///
/// # Source
/// fs/xfs/libxfs/xfs_format.h, `struct xfs_acl`; include/uapi/linux/posix_acl_xattr.h.
pub(super) fn to_xattr(value: &[u8]) -> Option<Vec<u8>> {
    let (entries, rest) = value.get(4..)?.as_chunks::<ENTRY>();
    if !rest.is_empty() || u64::from(be_u32(value, 0)?) != to_u64(entries.len()) {
        return None;
    }
    let mut xattr = XATTR_VERSION.to_le_bytes().to_vec();
    for entry in entries {
        let tag = be_u32(entry, 0)?;
        let id = match tag {
            _ if NAMED_TAGS.contains(&tag) => be_u32(entry, 4)?,
            _ if OTHER_TAGS.contains(&tag) => NO_ID,
            _ => return None,
        };
        xattr.extend(u16::try_from(tag).ok()?.to_le_bytes());
        xattr.extend(be_u16(entry, 8)?.to_le_bytes());
        xattr.extend(id.to_le_bytes());
    }
    Some(xattr)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_kept_for_named_users_and_groups_only() {
        let mut value = 2_u32.to_be_bytes().to_vec();
        for (tag, id, permissions) in [(1_u32, 77_u32, 6_u16), (2, 1000, 4)] {
            value.extend(tag.to_be_bytes());
            value.extend(id.to_be_bytes());
            value.extend(permissions.to_be_bytes());
            value.extend([0, 0]);
        }
        let expected = [2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0, 0xe8, 3, 0, 0];
        assert_eq!(to_xattr(&value).unwrap(), expected);
        assert_eq!(to_xattr(&value[..value.len() - 1]), None);
        value[3] = 3;
        assert_eq!(to_xattr(&value), None);
    }
}
