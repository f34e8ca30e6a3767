//! Open directories: the names as they were when it was opened, and their way into replies.

use std::time::Duration;

use fuser::{Errno, FileType, Generation, INodeNo, ReplyDirectory, ReplyDirectoryPlus};

use super::attr::{attr_of, bare_attr, file_type, ttl};
use crate::bytes::to_usize;
use crate::tree::{Entry, Ino, Listed, Tree};

/// A directory as it was when it was opened, so that offsets mean the same until it is closed.
pub(super) struct Directory {
    pub(super) own: Ino,
    pub(super) parent: Ino,
    pub(super) names: Vec<Listed>,
}

impl Directory {
    /// `.` and `..`, which have the first two places.
    fn dots(&self) -> [(Ino, &'static str); 2] {
        [(self.own, "."), (self.parent, "..")]
    }

    /// Adds names from place `offset` on, as many as the reply holds.
    pub(super) fn fill(&self, offset: u64, reply: &mut ReplyDirectory) {
        let dots = self.dots().into_iter();
        let dots = dots.map(|(ino, name)| (ino, FileType::Directory, name));
        let names = self.names.iter().map(|listed| {
            let form = file_type(listed.node.form());
            (listed.node.ino(), form, listed.name.as_str())
        });
        for (next, (ino, form, name)) in (1_u64..).zip(dots.chain(names)).skip(to_usize(offset)) {
            if reply.add(INodeNo(ino.0), next, form, name) {
                return;
            }
        }
    }

    /// Adds names with their attributes from place `offset` on, as many as the reply holds; each is looked up by `enter`.
    ///
    /// # Errors
    /// As `enter` fails for the first name.
    pub(super) fn fill_plus(
        &self,
        offset: u64,
        reply: &mut ReplyDirectoryPlus,
        tree: &Tree,
        enter: impl Fn(&Listed) -> Result<Entry, Errno>,
    ) -> Result<(), Errno> {
        for (next, (ino, name)) in (1_u64..).zip(self.dots()).skip(to_usize(offset)) {
            // The kernel takes no reference to these two and needs no more than their number.
            let attr = bare_attr(ino);
            if reply.add(attr.ino, next, name, &Duration::ZERO, &attr, Generation(0)) {
                return Ok(());
            }
        }
        let skipped = offset.saturating_sub(2);
        for (index, listed) in (0_u64..).zip(&self.names).skip(to_usize(skipped)) {
            let entry = match enter(listed) {
                Ok(entry) => entry,
                // What is in the reply has been counted, so it must be sent; the error comes with the next request.
                Err(_) if index > skipped => return Ok(()),
                Err(errno) => return Err(errno),
            };
            let (attr, lasts) = (attr_of(&entry.attributes), ttl(entry.name_lasts));
            if reply.add(attr.ino, index + 3, &listed.name, &lasts, &attr, Generation(0)) {
                // Not sent, so the kernel holds no reference to it.
                tree.forget(entry.attributes.ino, 1);
                return Ok(());
            }
        }
        Ok(())
    }
}
