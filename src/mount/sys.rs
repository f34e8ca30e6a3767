//! The system calls of mounting, each in one small function: the only file of this layer that names rustix.

use std::ffi::{CString, OsStr};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::mount::{MountFlags, UnmountFlags};

use super::mountinfo::FSTYPE;
use super::options::Programs;

/// Whether an unmount waits for files to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detach {
    /// Fails while anybody uses the mount.
    IfIdle,
    /// Takes the mount out of the tree at once; it ends when its last file is closed.
    Lazily,
}

/// Effective user and group of this process.
#[must_use]
pub fn user_and_group() -> (u32, u32) {
    (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

/// Mounts a FUSE file system with mount(2): read-only, without set-user-id programs and devices.
///
/// # Errors
/// As mount(2).
pub fn mount(source: &OsStr, path: &Path, data: &str, programs: Programs) -> io::Result<()> {
    let mut flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    if programs == Programs::Refuse {
        flags |= MountFlags::NOEXEC;
    }
    let data = CString::new(data)?;
    Ok(rustix::mount::mount(source, path, FSTYPE, flags, data.as_c_str())?)
}

/// Unmounts with umount2(2), never through a symbolic link.
///
/// # Errors
/// As umount2(2); `ResourceBusy` while the mount is in use.
pub fn unmount(path: &Path, how: Detach) -> io::Result<()> {
    let flags = match how {
        Detach::IfIdle => UnmountFlags::NOFOLLOW,
        Detach::Lazily => UnmountFlags::NOFOLLOW | UnmountFlags::DETACH,
    };
    Ok(rustix::mount::unmount(path, flags)?)
}

/// Receives the one file descriptor that the other side sends; `None` if it closes without one.
///
/// # Errors
/// As recvmsg(2).
pub fn receive_fd(socket: &UnixStream) -> io::Result<Option<OwnedFd>> {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0_u8; 1];
    loop {
        let iov = &mut [io::IoSliceMut::new(&mut byte)];
        match recvmsg(socket.as_fd(), iov, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
            Ok(_) => break,
        }
    }
    Ok(control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    }))
}

/// Leaves the caller's terminal and process group for a session of its own.
///
/// # Errors
/// As setsid(2): the process leads a group already.
pub fn new_session() -> io::Result<()> {
    rustix::process::setsid()?;
    Ok(())
}

/// Points standard output and standard error at `to`; the descriptors stay taken, so nothing else gets their numbers.
///
/// # Errors
/// As dup2(2).
pub fn redirect_output(to: &impl AsFd) -> io::Result<()> {
    rustix::stdio::dup2_stdout(to)?;
    rustix::stdio::dup2_stderr(to)?;
    Ok(())
}

/// Reads a short extended attribute; `None` if it is not there, not readable, or longer than 256 bytes.
#[must_use]
pub fn short_xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 256];
    let len = rustix::fs::getxattr(path, name, &mut value).ok()?;
    value.truncate(len);
    Some(value)
}

/// Says whether a look at `path` finds a mount whose daemon is gone.
///
/// Attributes may still be cached after its death; an extended attribute never is.
#[must_use]
pub fn is_dead(path: &Path) -> bool {
    let none: &mut [u8] = &mut [];
    std::fs::metadata(path).is_err_and(|error| is_not_connected(&error))
        || rustix::fs::getxattr(path, "user.vaultfs.daemon", none).is_err_and(|error| is_not_connected(&error.into()))
}

/// Says whether an error is that of a mount whose daemon is gone: ENOTCONN, or ECONNABORTED for a request that was under way
/// when it went.
#[must_use]
pub fn is_not_connected(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotConnected | io::ErrorKind::ConnectionAborted
    )
}

/// Says whether an error is ENODEV, by which mount(2) says that it does not know the file system type.
#[must_use]
pub fn is_no_device(error: &io::Error) -> bool {
    rustix::io::Errno::from_io_error(error) == Some(rustix::io::Errno::NODEV)
}
