//! Files inside a volume: the trait [`FileSystem`] that each reader implements, and what it tells of a file.
//!
//! A reader parses metadata only. Where a file's bytes lie is told by [`FileSystem::extents`], and [`content::Content`] reads them,
//! so that sparse files, read-ahead and exact lengths are the same for every file system. Readers have no interior state that a
//! request could leave behind half-done: every method may be called from any thread.

pub mod content;
pub mod exfat;
pub mod ext;
pub mod fat;
pub mod handle;
#[cfg(test)]
pub(crate) mod memory;
pub mod stored;
pub mod xfs;

use std::ops::Range;
use std::sync::Arc;

use crate::chunk;
use crate::image::piece::Piece;
use crate::image::{self, ReadAt};
use crate::volume::Holds;

/// Why a file system could not answer; the rest of it stays readable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A structure on the volume breaks its format; only what hangs from it is lost.
    #[error("{what} is corrupt at byte {at} of the volume")]
    Corrupt {
        /// What is wrong, in words.
        what: String,
        /// Byte offset on the volume of the structure.
        at: u64,
    },
    /// The volume uses something this version does not read.
    #[error("{feature} is not supported")]
    Unsupported {
        /// The feature.
        feature: String,
    },
    /// The content is encrypted, and its key is not in the backup.
    #[error("{what} is encrypted")]
    Encrypted {
        /// What cannot be read.
        what: String,
    },
    /// There is no inode of this number.
    #[error("there is no inode {}", .inode.0)]
    NoInode {
        /// The number.
        inode: Inode,
    },
    /// The operation is one for another type of file.
    #[error("inode {} is not a {wanted}", .inode.0)]
    WrongType {
        /// The file.
        inode: Inode,
        /// What the operation is for.
        wanted: FileType,
    },
    /// What is stored of a file is damaged, missing or not delivered; only this file is lost.
    #[error("{what} cannot be read")]
    Stored {
        /// The file, and the backup.
        what: String,
        /// What is wrong.
        #[source]
        source: chunk::Error,
    },
    /// The bytes of the volume could not be read.
    #[error("the volume cannot be read")]
    Image(#[from] image::Error),
}

/// The result of asking a file system.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Number of a file within its file system: the inode number where there is one, else any number that always stands for the
/// same file. Comes from the volume or from a caller, and is checked by each use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Inode(pub u64);

/// Types of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileType {
    /// Regular file.
    File,
    /// Directory.
    Directory,
    /// Symbolic link.
    Symlink,
    /// Character device.
    CharDevice,
    /// Block device.
    BlockDevice,
    /// Named pipe.
    Fifo,
    /// Socket.
    Socket,
}

impl FileType {
    /// The type in the upper four bits of `st_mode`; `None` for bits that mean nothing.
    #[must_use]
    pub fn from_mode(mode: u16) -> Option<Self> {
        Some(match mode >> 12 {
            0o01 => Self::Fifo,
            0o02 => Self::CharDevice,
            0o04 => Self::Directory,
            0o06 => Self::BlockDevice,
            0o10 => Self::File,
            0o12 => Self::Symlink,
            0o14 => Self::Socket,
            _ => return None,
        })
    }

    /// The type in a directory entry of ext4 and of XFS, which count alike; `None` where the entry does not tell it.
    #[must_use]
    pub fn from_entry(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::File,
            2 => Self::Directory,
            3 => Self::CharDevice,
            4 => Self::BlockDevice,
            5 => Self::Fifo,
            6 => Self::Socket,
            7 => Self::Symlink,
            _ => return None,
        })
    }
}

impl std::fmt::Display for FileType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::File => "regular file",
            Self::Directory => "directory",
            Self::Symlink => "symbolic link",
            Self::CharDevice => "character device",
            Self::BlockDevice => "block device",
            Self::Fifo => "named pipe",
            Self::Socket => "socket",
        })
    }
}

/// A time as file systems keep it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    /// Seconds since 1970 in UTC, negative before.
    pub seconds: i64,
    /// Nanoseconds after these seconds, below 1,000,000,000.
    pub nanos: u32,
}

/// Number of a device, as the kernel splits it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct DeviceNumber {
    /// Its driver.
    pub major: u32,
    /// Which of the driver's devices.
    pub minor: u32,
}

/// What stat(2) tells of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attr {
    /// Type.
    pub file_type: FileType,
    /// Permissions with set-user-id, set-group-id and sticky: the lower 12 bits of `st_mode`.
    pub permissions: u16,
    /// Owner, as the machine that wrote the file system knew it.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes; the length of the target for symbolic links.
    pub size: u64,
    /// Space taken, in units of 512 bytes, as the kernel's driver tells it.
    pub blocks: u64,
    /// Names that stand for it; at least 1.
    pub links: u32,
    /// Which device a device file stands for; 0:0 for others.
    pub device: DeviceNumber,
    /// Last access.
    pub accessed: Timestamp,
    /// Last change of the content.
    pub modified: Timestamp,
    /// Last change of the attributes.
    pub changed: Timestamp,
    /// Creation, where the file system keeps it.
    pub created: Option<Timestamp>,
}

/// A name in a directory, as it is on the volume: any bytes but NUL may be hostile; `.` and `..` are never listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirEntry<'a> {
    /// The name's bytes; may be empty or hold `/` on a damaged or hostile volume.
    pub name: &'a [u8],
    /// The file it stands for; not checked to exist.
    pub inode: Inode,
    /// Type of the file where the directory tells it.
    pub file_type: Option<FileType>,
    /// Cookie to go on after this entry; above the cookie of every entry before it.
    pub next: u64,
}

/// An extended attribute: full name (`user.origin`, `security.capability`, `system.posix_acl_access`) and value.
///
/// POSIX ACLs have the value that getxattr(2) gives, whatever form the volume keeps.
pub type Xattr = (Vec<u8>, Vec<u8>);

/// Where a run of a file's bytes lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// From this byte of the volume on.
    Volume(u64),
    /// Nowhere: a hole or space that was never written; reads as zero.
    Zeros,
    /// In the file's own metadata, given here: exactly the bytes of the run.
    Inline(Arc<[u8]>),
    /// In a chunk of the vault, which is as long as the run.
    Piece(Arc<Piece>),
}

/// A run of a file's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    /// First byte in the file.
    pub start: u64,
    /// Length in bytes; never 0.
    pub len: u64,
    /// Where the bytes are.
    pub place: Place,
}

/// Most extents that one answer holds, so that no file makes an answer large.
pub const MAX_EXTENTS: usize = 1024;

/// A file system on a volume, for reading.
///
/// Every method bounds its work and memory whatever the volume holds: damage gives an error, on the damaged inode only.
pub trait FileSystem: Send + Sync {
    /// The root directory.
    fn root(&self) -> Inode;

    /// The file with exactly this name in a directory (with the file system's own folding of case, where the kernel folds too).
    ///
    /// # Errors
    /// `WrongType` if `directory` is none; `Corrupt` where its structure is damaged.
    fn lookup(&self, directory: Inode, name: &[u8]) -> Result<Option<Inode>>;

    /// Gives the entries of a directory after `cookie` (0 for the first) to `visit`, until it returns `false` or there are no more.
    ///
    /// The order is that of the volume; every name is given once as long as the directory is sound.
    ///
    /// # Errors
    /// As [`lookup`](Self::lookup); entries before the damage have been given.
    fn read_dir(&self, directory: Inode, cookie: u64, visit: &mut dyn FnMut(DirEntry<'_>) -> bool) -> Result<()>;

    /// What stat(2) tells.
    ///
    /// # Errors
    /// `NoInode`, `Corrupt`.
    fn attr(&self, inode: Inode) -> Result<Attr>;

    /// The target of a symbolic link: raw text of at most 4095 bytes, never followed.
    ///
    /// # Errors
    /// `WrongType`, `Corrupt`, `Encrypted`.
    fn read_link(&self, inode: Inode) -> Result<Vec<u8>>;

    /// Extended attributes that the kernel would list for root, sorted by name.
    ///
    /// # Errors
    /// `Corrupt`.
    fn xattrs(&self, inode: Inode) -> Result<Vec<Xattr>>;

    /// Where the bytes `range` of a regular file lie: in order and without gaps, the first containing `range.start`.
    ///
    /// The range is cut at the file's size. At most [`MAX_EXTENTS`] are given, and possibly less than asked for; at least one if any
    /// byte of the range lies inside the file. Extents may begin before the range and end after it,
    /// never after the file's size; a hole is given whole, so that a sparse file of 8 EiB is a few extents.
    ///
    /// # Errors
    /// `WrongType`, `Corrupt`, `Encrypted`, `Unsupported` (a compressed file, for example).
    fn extents(&self, inode: Inode, range: Range<u64>) -> Result<Vec<Extent>>;

    /// What the file system is and how full.
    fn summary(&self) -> Summary;

    /// Flags as `FS_IOC_GETFLAGS` gives them (immutable, append only and so on), for who puts files back; 0 where the reader
    /// does not tell.
    ///
    /// # Errors
    /// `NoInode`, `Corrupt`.
    fn flags(&self, inode: Inode) -> Result<u32> {
        let _ = inode;
        Ok(0)
    }

    /// The name that a user had where the files come from, if that is kept.
    ///
    /// # Errors
    /// `Corrupt`.
    fn user_name(&self, uid: u32) -> Result<Option<Vec<u8>>> {
        let _ = uid;
        Ok(None)
    }

    /// The name that a group had there.
    ///
    /// # Errors
    /// `Corrupt`.
    fn group_name(&self, gid: u32) -> Result<Option<Vec<u8>>> {
        let _ = gid;
        Ok(None)
    }
}

/// What a file system says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Size of the file system in bytes.
    pub size: u64,
    /// Bytes not in use, as the superblock says.
    pub free: u64,
    /// Number of inodes in use, where it is known.
    pub files: u64,
    /// What a user should know before trusting what he sees, in sentences: a journal that was replayed or that could not be.
    pub notes: Vec<String>,
}

impl<T: FileSystem + ?Sized> FileSystem for Arc<T> {
    fn root(&self) -> Inode {
        (**self).root()
    }
    fn lookup(&self, directory: Inode, name: &[u8]) -> Result<Option<Inode>> {
        (**self).lookup(directory, name)
    }
    fn read_dir(&self, directory: Inode, cookie: u64, visit: &mut dyn FnMut(DirEntry<'_>) -> bool) -> Result<()> {
        (**self).read_dir(directory, cookie, visit)
    }
    fn attr(&self, inode: Inode) -> Result<Attr> {
        (**self).attr(inode)
    }
    fn read_link(&self, inode: Inode) -> Result<Vec<u8>> {
        (**self).read_link(inode)
    }
    fn xattrs(&self, inode: Inode) -> Result<Vec<Xattr>> {
        (**self).xattrs(inode)
    }
    fn extents(&self, inode: Inode, range: Range<u64>) -> Result<Vec<Extent>> {
        (**self).extents(inode, range)
    }
    fn summary(&self) -> Summary {
        (**self).summary()
    }
    fn flags(&self, inode: Inode) -> Result<u32> {
        (**self).flags(inode)
    }
    fn user_name(&self, uid: u32) -> Result<Option<Vec<u8>>> {
        (**self).user_name(uid)
    }
    fn group_name(&self, gid: u32) -> Result<Option<Vec<u8>>> {
        (**self).group_name(gid)
    }
}

/// Opens what a signature says is there; `None` if there is no reader for it.
///
/// # Errors
/// As the reader opens it: `Corrupt`, `Unsupported`, `Image`.
pub fn open(holds: Holds, volume: Arc<dyn ReadAt>) -> Option<Result<Arc<dyn FileSystem>>> {
    fn shared<T: FileSystem + 'static>(opened: Result<T>) -> Option<Result<Arc<dyn FileSystem>>> {
        Some(opened.map(|file_system| -> Arc<dyn FileSystem> { Arc::new(file_system) }))
    }
    match holds {
        Holds::Ext => shared(ext::Ext::open(volume)),
        Holds::Fat => shared(fat::Fat::open(volume)),
        Holds::Exfat => shared(exfat::Exfat::open(volume)),
        Holds::Xfs => shared(xfs::Xfs::open(volume)),
        _ => None,
    }
}
