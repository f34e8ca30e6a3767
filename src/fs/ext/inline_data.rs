//! Content kept in the inode: its first 60 bytes in `i_block`, the rest as the attribute `system.data`.

use std::ops::ControlFlow;

use super::dirent::{Entries, Entry};
use super::inode::Node;
use super::xattr;
use crate::bytes::to_u64;
use crate::fs::Result;

/// Bytes of an inline directory before its entries: the number of its parent.
const PARENT: usize = 4;

/// All content that the inode holds; the file's size may be less or more.
///
/// # Source
/// Linux Documentation/filesystems/ext4/inlinedata.rst.
///
/// # Errors
/// `Corrupt` if the attribute lies outside the inode.
pub(super) fn content(node: &Node) -> Result<Vec<u8>> {
    let mut bytes = node.i_block().to_vec();
    bytes.extend_from_slice(xattr::inline_rest(node)?);
    Ok(bytes)
}

/// Gives the entries of an inline directory after `cookie`, a position in [`content`].
///
/// # Errors
/// `Corrupt`.
pub(super) fn read_dir(
    node: &Node,
    cookie: u64,
    visit: &mut dyn FnMut(&Entry<'_>, u64) -> ControlFlow<()>,
) -> Result<()> {
    let content = content(node)?;
    let (head, rest) = content.split_at_checked(node.i_block().len()).unwrap_or_default();
    // No entry reaches from one part into the other.
    for (part, base) in [(head.get(PARENT..).unwrap_or_default(), PARENT), (rest, head.len())] {
        for entry in Entries::new(part) {
            let entry = entry.map_err(|_| node.corrupt("an entry of the directory in it"))?;
            let next = to_u64(base.saturating_add(entry.end));
            if next > cookie && entry.is_listed() && visit(&entry, next).is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}
