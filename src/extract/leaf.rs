//! Symbolic links, devices, pipes, sockets and further names of files, which the walk makes itself.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode};
use rustix::io::Errno;

use super::attributes::{self, Copied, Mended};
use super::content::Names;
use super::found::Found;
use super::links::First;
use super::place::{Dir, Fresh, open_below};
use super::walk::Entry;
use super::{Action, Error, Existing, Job, Result, remove, shown};
use crate::fs::FileType;

/// Makes what has no content.
pub(super) struct Leaf<'j, 'a> {
    job: &'j Job<'a>,
    base: Arc<Dir<'a>>,
    /// The directory of the first name that was linked to last: of many names of one file only the first looks for it.
    last: Option<(Vec<u8>, OwnedFd)>,
}

impl<'j, 'a> Leaf<'j, 'a> {
    pub(super) fn new(job: &'j Job<'a>, base: Arc<Dir<'a>>) -> Self {
        Self { job, base, last: None }
    }

    /// What the target has under the name, if that may stay or be replaced; a directory is out of the way after it.
    pub(super) fn found(&self, entry: &Entry<'a>) -> Result<Option<Found>> {
        if !matches!(self.job.options.existing, Existing::Update(_)) || !entry.dir.was_there() {
            return Ok(None);
        }
        let found = Found::look(entry.dir.fd(), &entry.name).map_err(|error| Error::Write {
            path: shown(&entry.path),
            doing: "looking at what is there",
            source: error.into(),
        })?;
        match found {
            Some(found) if found.now.file_type == FileType::Directory => {
                remove::directory_in_the_way(self.job, entry.dir.fd(), &entry.name, &entry.below)?;
                Ok(None)
            }
            other => Ok(other),
        }
    }

    /// Another name of a file that is copied already; `false` if it takes no more names.
    pub(super) fn link(&mut self, entry: &Entry<'a>, found: Option<&Found>, first: &First) -> Result<bool> {
        let job = self.job;
        let failed = |error: std::io::Error| Error::Write {
            path: shown(&entry.path),
            doing: "linking it to its other name",
            source: error,
        };
        entry.dir.check_free(&entry.name, job.options.existing, &entry.path)?;
        if found.is_some_and(|found| Some(found.now.identity) == first.identity) {
            job.kept(Mended::Nothing, &entry.below);
            return Ok(true);
        }
        if !job.plans() {
            let (directory, last) = split(&first.below);
            let from = self.directory(directory).map_err(|error| failed(error.into()))?;
            let dir = entry.dir.fd();
            let made = Fresh::make(dir, &entry.name, |name| {
                rustix::fs::linkat(from, last, dir, name, AtFlags::empty())
            });
            let fresh = match made {
                Err(error) if Errno::from_io_error(&error) == Some(Errno::MLINK) => {
                    attributes::not_kept(job, "hard links", Errno::MLINK);
                    return Ok(false);
                }
                made => made.map_err(failed)?.0,
            };
            job.make_way(found, &entry.path)?;
            publish(job, fresh, entry)?;
        }
        job.step(made_or_replaced(found), &entry.below);
        job.tally.add(job.environment.monitor, |report| {
            report.hard_links = report.hard_links.saturating_add(1);
        });
        Ok(true)
    }

    /// The directory at a path below the target.
    fn directory(&mut self, path: &[u8]) -> Result<&OwnedFd, Errno> {
        if self.last.as_ref().is_none_or(|(known, _)| known != path) {
            // Any name will do: only the directories before it are opened.
            let whole = if path.is_empty() {
                b"x".to_vec()
            } else {
                [path, b"/x"].concat()
            };
            let (fd, _) = open_below(self.base.fd(), &whole)?;
            self.last = Some((path.to_vec(), fd));
        }
        self.last.as_ref().map(|(_, fd)| fd).ok_or(Errno::NOENT)
    }

    /// A symbolic link with its raw text, a device, a pipe or a socket.
    pub(super) fn special(&self, entry: &Entry<'a>, found: Option<&Found>, names: Names) -> Result<()> {
        let made = self.make_special(entry, found, names);
        if names == Names::FirstOfSeveral {
            let first = made.as_ref().ok().map(|stayed| First {
                below: entry.below.clone(),
                identity: found.filter(|_| *stayed).map(|found| found.now.identity),
            });
            self.job.links.settle(entry.held.ino(), first);
        }
        made.map(drop)
    }

    /// Makes it; `true` if what was there is the same and stays.
    fn make_special(&self, entry: &Entry<'a>, found: Option<&Found>, names: Names) -> Result<bool> {
        let job = self.job;
        entry.dir.check_free(&entry.name, job.options.existing, &entry.path)?;
        let attributes = &entry.held.attributes;
        let target = match attributes.file_type {
            FileType::Symlink => Some(entry.held.link_target().map_err(|source| Error::Read {
                path: shown(&entry.path),
                source,
            })?),
            _ => None,
        };
        if let Some(found) = found {
            let unclear = || Ok(found.link_target().ok() == target);
            if job.stays(found, attributes, names, unclear)? {
                job.mend(&entry.held, found, &entry.path, &entry.below, names)?;
                return Ok(true);
            }
        }
        if !job.plans() {
            let fresh = make(entry, target.as_deref()).map_err(|source| Error::Write {
                path: shown(&entry.path),
                doing: "making it",
                source,
            })?;
            let copied = Copied::Named(entry.dir.fd(), &fresh.temporary);
            attributes::apply(job, &entry.held, copied, &entry.path)?;
            job.make_way(found, &entry.path)?;
            publish(job, fresh, entry)?;
        }
        job.step(made_or_replaced(found), &entry.below);
        job.tally.add(job.environment.monitor, |report| {
            let count = match attributes.file_type {
                FileType::Symlink => &mut report.symlinks,
                _ => &mut report.specials,
            };
            *count = count.saturating_add(1);
        });
        Ok(false)
    }
}

/// Makes it under a temporary name.
fn make<'d>(entry: &'d Entry<'_>, target: Option<&[u8]>) -> std::io::Result<Fresh<'d>> {
    let attributes = &entry.held.attributes;
    let dir = entry.dir.fd();
    let (fresh, ()) = match (node_kind(attributes.file_type), target) {
        (Some(kind), _) => {
            let number = attributes.device;
            let device = match attributes.file_type {
                FileType::CharDevice | FileType::BlockDevice => rustix::fs::makedev(number.major, number.minor),
                _ => 0,
            };
            let make = |name: &[u8]| rustix::fs::mknodat(dir, name, kind, Mode::RUSR | Mode::WUSR, device);
            Fresh::make(dir, &entry.name, make)?
        }
        (None, target) => {
            let target = target.unwrap_or_default();
            Fresh::make(dir, &entry.name, |name| rustix::fs::symlinkat(target, dir, name))?
        }
    };
    Ok(fresh)
}

fn publish(job: &Job<'_>, fresh: Fresh<'_>, entry: &Entry<'_>) -> Result<()> {
    match fresh.publish(&entry.name, job.options.existing) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => Err(Error::Exists {
            path: shown(&entry.path),
        }),
        Err(error) => Err(Error::Write {
            path: shown(&entry.path),
            doing: "naming it",
            source: error.into(),
        }),
    }
}

fn made_or_replaced(found: Option<&Found>) -> Action {
    match found {
        Some(_) => Action::Replace,
        None => Action::Make,
    }
}

/// The directory and the name that a path ends with.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let at = path.iter().rposition(|byte| *byte == b'/');
    let (directory, rest) = path.split_at_checked(at.unwrap_or(0)).unwrap_or_default();
    (directory, rest.strip_prefix(b"/").unwrap_or(rest))
}

/// What mknod(2) makes; `None` for symbolic links.
fn node_kind(file_type: FileType) -> Option<rustix::fs::FileType> {
    match file_type {
        FileType::CharDevice => Some(rustix::fs::FileType::CharacterDevice),
        FileType::BlockDevice => Some(rustix::fs::FileType::BlockDevice),
        FileType::Fifo => Some(rustix::fs::FileType::Fifo),
        FileType::Socket => Some(rustix::fs::FileType::Socket),
        FileType::File | FileType::Directory | FileType::Symlink => None,
    }
}
