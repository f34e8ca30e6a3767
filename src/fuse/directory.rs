//! The way of a directory's names into replies.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use fuser::{Errno, FileAttr, Generation, INodeNo, ReplyDirectory, ReplyDirectoryPlus};

use super::attr::{attr_of, bare_attr, file_type, ttl};
use super::push::{SMALL_BYTES, Small};
use super::waiters;
use crate::fs::FileType;
use crate::image;
use crate::store::wait::{self, Delivery};
use crate::tree::{Directory, Entry, Error, Ino, Listed, Node, Tree};

/// `.` and `..`, which have the first two places.
const DOTS: u64 = 2;

fn dots(directory: &Directory) -> [(Ino, &'static str); 2] {
    [(directory.own, "."), (directory.parent, "..")]
}

/// Adds names from place `offset` on, as many as the reply holds.
///
/// # Errors
/// As the directory cannot be read, if no name came before.
pub(super) fn fill(tree: &Tree, directory: &Directory, offset: u64, reply: &mut ReplyDirectory) -> Result<(), Error> {
    let mut added = false;
    for (next, (ino, name)) in (1..).zip(dots(directory)).filter(|(next, _)| *next > offset) {
        if reply.add(INodeNo(ino.0), next, fuser::FileType::Directory, name) {
            return Ok(());
        }
        added = true;
    }
    let done = tree.visit(directory, offset.saturating_sub(DOTS), &mut |listed| {
        let (node, name) = (&listed.node, OsStr::from_bytes(listed.name));
        let next = listed.next.saturating_add(DOTS);
        let full = reply.add(INodeNo(node.ino().0), next, file_type(node.file_type()), name);
        added |= !full;
        !full
    });
    // What came before is sent; the error comes with the next request.
    if added { Ok(()) } else { done }
}

/// Names that are looked at to tell what a directory holds.
const LOOKED_AT: usize = 64;

/// Says whether a directory begins with more directories than files: who walks through it looks up each of them.
///
/// # Errors
/// As the directory cannot be read, where that may be tried again.
pub(super) fn holds_directories(tree: &Tree, directory: &Directory) -> Result<bool, Error> {
    let (mut names, mut directories) = (0, 0);
    let looked = tree.visit(directory, 0, &mut |listed| {
        names += 1;
        directories += usize::from(listed.node.file_type() == FileType::Directory);
        names < LOOKED_AT
    });
    match looked {
        Err(error) if waiters::is_trial() => Err(error),
        looked => Ok(looked.is_ok() && directories * 2 > names),
    }
}

/// Adds `.` and `..` alone: the kernel asks for the rest without attributes, unless somebody has looked up a name in between.
pub(super) fn fill_dots(directory: &Directory, reply: &mut ReplyDirectoryPlus) {
    for (next, (ino, name)) in (1..).zip(dots(directory)) {
        // The kernel takes no reference to these two and needs no more than their number.
        let attr = bare_attr(ino);
        if reply.add(attr.ino, next, name, &Duration::ZERO, &attr, Generation(0)) {
            return;
        }
    }
}

/// What a reply was filled with.
#[derive(Debug, Default)]
pub(super) struct Filled {
    pub(super) names: u32,
    /// Files of those names that are worth being pushed to the kernel.
    pub(super) small: Vec<Small>,
}

/// Adds names with their attributes from place `offset` on, as many as the reply holds; each is looked up by `enter`.
///
/// A name whose attributes cannot be read is listed all the same: whoever asks for them meets the error, and nobody else.
///
/// # Errors
/// As the directory cannot be read, if no name came before.
pub(super) fn fill_plus(
    tree: &Tree,
    directory: &Directory,
    offset: u64,
    reply: &mut ReplyDirectoryPlus,
    enter: impl Fn(&Node) -> Result<Entry, Errno>,
) -> Result<Filled, Error> {
    let mut filled = Filled::default();
    for (next, (ino, name)) in (1..).zip(dots(directory)).filter(|(next, _)| *next > offset) {
        // The kernel takes no reference to these two and needs no more than their number.
        let attr = bare_attr(ino);
        if reply.add(attr.ino, next, name, &Duration::ZERO, &attr, Generation(0)) {
            return Ok(filled);
        }
        filled.names = filled.names.saturating_add(1);
    }
    let mut gap = false;
    let done = tree.visit(directory, offset.saturating_sub(DOTS), &mut |listed| {
        let (entered, delivery) = wait::observed(|| entry_of(tree, &listed, &enter));
        gap = delivery == Delivery::Failed && waiters::is_trial();
        let Some((attr, lasts)) = entered else {
            return !gap;
        };
        if gap {
            tree.forget(Ino(attr.ino.0), 1);
            return false;
        }
        let (name, next) = (OsStr::from_bytes(listed.name), listed.next.saturating_add(DOTS));
        let full = reply.add(attr.ino, next, name, &lasts, &attr, Generation(0));
        if full {
            // Not sent, so the kernel holds no reference to it.
            tree.forget(Ino(attr.ino.0), 1);
        } else {
            filled.names = filled.names.saturating_add(1);
            filled.small.extend(small(&attr));
        }
        !full
    });
    match done {
        // What came before is sent; the rest comes with the next request.
        _ if filled.names > 0 => Ok(filled),
        Ok(()) if gap => Err(Error::Image(image::Error::Unavailable {
            what: format!("the attributes of files in {}", tree.path(directory.own)),
            source: Box::new(std::io::Error::from(std::io::ErrorKind::WouldBlock)),
        })),
        done => done.map(|()| filled),
    }
}

fn small(attr: &FileAttr) -> Option<Small> {
    let pushable = attr.kind == fuser::FileType::RegularFile && (1..=SMALL_BYTES).contains(&attr.size);
    pushable.then_some(Small {
        ino: Ino(attr.ino.0),
        size_bytes: attr.size,
    })
}

/// Attributes for a listed name, with a reference of the kernel counted; `None` where there is a collision of numbers.
fn entry_of(
    tree: &Tree,
    listed: &Listed<'_>,
    enter: impl Fn(&Node) -> Result<Entry, Errno>,
) -> Option<(FileAttr, Duration)> {
    if let Ok(entry) = enter(&listed.node) {
        return Some((attr_of(&entry.attributes), ttl(entry.name_lasts)));
    }
    tree.enter_unread(&listed.node).ok()?;
    let attr = FileAttr {
        kind: file_type(listed.node.file_type()),
        perm: 0,
        ..bare_attr(listed.node.ino())
    };
    Some((attr, Duration::ZERO))
}
