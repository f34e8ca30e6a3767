//! Open files: a disk image or a file inside one, with its reader's own stream state, or a text.

use std::sync::Arc;

use super::attributes::find_disk;
use super::node::{Ino, Node};
use super::status::{self, STATUS_BYTES};
use super::{Error, Tree, wrong_type};
use crate::bytes::{to_u64, to_usize};
use crate::chunk::Reader;
use crate::fs::FileType;
use crate::fs::handle::FileHandle;
use crate::image::ReadAt;
use crate::image::disk::{DiskImage, Slice};
use crate::image::handle::Handle;
use crate::vault::ResourceKind;

/// A file that one reader has opened.
pub struct OpenFile {
    /// Its path in the mount, for messages: names backup and disk.
    pub path: String,
    data: Data,
}

enum Data {
    Text(Arc<str>),
    /// Made anew for each reader.
    Status(Arc<Reader>),
    Image(Handle),
    Inside(FileHandle),
}

impl Tree {
    /// Opens a file for one reader.
    ///
    /// # Errors
    /// `WrongType` if it is no file; `Gone` if its backup was deleted; as the vault reports it.
    pub fn open_file(&self, ino: Ino) -> Result<OpenFile, Error> {
        let node = self.table.get(ino)?;
        let data = match &node {
            Node::Json(address) => Data::Text(Arc::clone(&self.contents(address)?.json)),
            Node::Status => Data::Status(Arc::clone(&self.content.reader)),
            Node::Image(address, name) => {
                let backup = self.backup(address)?;
                let disk = find_disk(&backup, address, name)?;
                let image = Arc::new(DiskImage::open(&self.content.reader, address, disk));
                Data::Image(Handle::new(image, Arc::clone(&self.content.read_ahead)))
            }
            Node::Inside(file) => Data::Inside(self.open_inside(file)?),
            other => return Err(wrong_type(other, FileType::File)),
        };
        Ok(OpenFile {
            path: node.path(),
            data,
        })
    }
}

impl OpenFile {
    /// Size in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        match &self.data {
            Data::Text(text) => to_u64(text.len()),
            Data::Status(_) => STATUS_BYTES,
            Data::Image(handle) => handle.image().len(),
            Data::Inside(handle) => handle.content().size(),
        }
    }

    /// Reads `len` bytes at `offset`, less only at the end of the file: less tells the kernel that the file ends there.
    ///
    /// # Errors
    /// `Image`; never partial data.
    pub fn read(&self, offset: u64, len: usize) -> Result<Slice, Error> {
        match &self.data {
            Data::Text(text) => Ok(part(text, offset, len)),
            Data::Status(reader) => Ok(part(&status::text(reader), offset, len)),
            Data::Image(handle) => Ok(handle.read(offset, len)?),
            Data::Inside(handle) => Ok(handle.read(offset, len)?),
        }
    }

    /// First byte at or after `offset` that is data; `None` if only hole follows.
    ///
    /// # Errors
    /// `Image`, for the map of the image.
    pub fn next_data(&self, offset: u64) -> Result<Option<u64>, Error> {
        match &self.data {
            Data::Text(_) | Data::Status(_) => Ok((offset < self.size_bytes()).then_some(offset)),
            Data::Image(handle) => Ok(handle.image().next_data(offset)?),
            Data::Inside(handle) => Ok(handle.content().next_data(offset)?),
        }
    }

    /// First byte at or after `offset` that is a hole; the end of the file counts as one.
    ///
    /// # Errors
    /// `Image`, for the map of the image.
    pub fn next_hole(&self, offset: u64) -> Result<u64, Error> {
        match &self.data {
            Data::Text(_) | Data::Status(_) => Ok(self.size_bytes()),
            Data::Image(handle) => Ok(handle.image().next_hole(offset)?),
            Data::Inside(handle) => Ok(handle.content().next_hole(offset)?),
        }
    }
}

/// A part of a text, less only where it ends.
fn part(text: &str, offset: u64, len: usize) -> Slice {
    let start = to_usize(offset).min(text.len());
    let end = start.saturating_add(len).min(text.len());
    Slice::Owned(text.as_bytes().get(start..end).unwrap_or_default().into())
}

/// Name of a disk's image without its suffix; the only disk of a disk resource is called `disk`.
pub(super) fn image_name(kind: ResourceKind, disk: &str) -> &str {
    match kind {
        ResourceKind::Disk => "disk",
        ResourceKind::Server | ResourceKind::Filesystem => disk,
    }
}
