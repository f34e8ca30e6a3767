//! The journal (jbd2): which blocks recovery would write, found without writing them.
//!
//! One pass over the log collects what each committed transaction wrote and revoked; then, oldest first, the newest copy of each
//! block that no later transaction revoked goes into the overlay. As in the kernel, the log ends where the next transaction is not
//! whole.

mod fast;
mod log;
mod record;
mod scan;
mod sums;

use std::collections::BTreeMap;

pub(super) use self::fast::Change;
use self::log::Log;
use self::record::{Format, JournalSuperblock};
use self::scan::{End, Scan, is_after};
use super::disk::Disk;
use super::features::{Compat, Incompat};
use super::inode::Node;
use super::overlay::Copy;
use crate::fs::{Error, FileType, Result};

/// What recovery would do.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    /// Blocks that it would write, and where their content is.
    pub(super) copies: BTreeMap<u64, Copy>,
    /// What fast commits changed since.
    pub(super) changes: Vec<Change>,
    /// What a user should know of it, in sentences.
    pub(super) notes: Vec<String>,
}

impl Recovery {
    fn not_done(why: &str) -> Self {
        Self {
            copies: BTreeMap::new(),
            changes: Vec::new(),
            notes: vec![format!(
                "the journal was not replayed ({why}); the newest changes may be missing or half there"
            )],
        }
    }
}

/// Finds what recovery would do; nothing is read if the superblock says that there is nothing to recover.
///
/// # Errors
/// `Image`; a journal that cannot be replayed is told in the notes.
pub(super) fn recover(disk: &Disk) -> Result<Recovery> {
    let features = disk.sb.features;
    if !features.compat(Compat::HasJournal) || !features.incompat(Incompat::Recover) {
        return Ok(Recovery::default());
    }
    if disk.sb.journal_inum == 0 {
        return Ok(Recovery::not_done("it lies on another volume"));
    }
    let opened = open(disk);
    let (superblock, mut log) = match opened {
        Ok(opened) => opened,
        Err(Error::Corrupt { what, .. }) => return Ok(Recovery::not_done(&format!("{what} is corrupt"))),
        Err(Error::Unsupported { feature }) => return Ok(Recovery::not_done(&format!("{feature} is not supported"))),
        Err(Error::NoInode { .. }) => return Ok(Recovery::not_done("its inode is free")),
        Err(other) => return Err(other),
    };
    if superblock.start == 0 {
        return Ok(Recovery::default());
    }
    let scan = Scan::run(&superblock, &mut log)?;
    let mut recovery = replay(disk, &superblock, &mut log, &scan)?;
    if scan.end == End::Whole && superblock.fast_commit_blocks > 0 {
        recovery.changes = fast::changes(&superblock, &mut log, scan.sequence)?;
        if !recovery.changes.is_empty() {
            let count = recovery.changes.len();
            recovery
                .notes
                .push(format!("{count} changes of fast commits were replayed in memory"));
        }
    }
    Ok(recovery)
}

/// The journal's superblock, and its log by the blocks of its inode.
fn open(disk: &Disk) -> Result<(JournalSuperblock, Log<'_>)> {
    let node = Node::load(disk, u64::from(disk.sb.journal_inum))?;
    if node.file_type != FileType::File {
        return Err(node.corrupt("it should be the journal"));
    }
    let mut log = Log::open(disk, &node)?;
    let first = log
        .block(0)?
        .ok_or_else(|| node.corrupt("the journal has no superblock"))?
        .to_vec();
    let superblock = JournalSuperblock::decode(&first, disk.sb.block_size, log.len())?;
    Ok((superblock, log))
}

/// Puts together the newest copies of all blocks.
fn replay(disk: &Disk, superblock: &JournalSuperblock, log: &mut Log<'_>, scan: &Scan) -> Result<Recovery> {
    let mut copies = BTreeMap::new();
    let mut bad = 0_usize;
    for write in &scan.writes {
        let revoked = scan.revoked.get(&write.block);
        if revoked.is_some_and(|revoked| !is_after(write.sequence, *revoked)) {
            continue;
        }
        let at = log.place(write.log_block);
        let sound = match superblock.format {
            Format::Plain => true,
            Format::CsumV2 | Format::CsumV3 => match log.block(write.log_block)? {
                Some(data) => sums::data_holds(superblock, write, data),
                None => false,
            },
        };
        match at {
            Some(at) if sound && disk.holds(write.block, 1) => {
                let is_escaped = write.is_escaped;
                copies.insert(write.block, Copy { at, is_escaped });
            }
            _ => bad = bad.saturating_add(1),
        }
    }
    let mut notes = vec![format!(
        "the journal was replayed in memory: {} transactions, {} blocks",
        scan.transactions,
        copies.len()
    )];
    match scan.end {
        End::Whole => {}
        End::Damaged => notes.push(format!(
            "the journal is damaged at transaction {}; what it holds from there on is missing",
            scan.sequence
        )),
        End::TooLarge => {
            notes.push("the journal is too large to be replayed whole; its newest changes are missing".to_owned())
        }
    }
    if bad > 0 {
        notes.push(format!(
            "{bad} blocks in the journal are damaged and were left as they were before"
        ));
    }
    let changes = Vec::new();
    Ok(Recovery { copies, changes, notes })
}
