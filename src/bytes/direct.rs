//! Reading and writing past the page cache (O_DIRECT), where the file system can and the request is aligned.
//!
//! A backup reads and writes gigabytes once. Through the page cache that costs a copy and a page for each 4 KiB of them, and
//! pushes out what the machine works with.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Mode, OFlags};

use super::scratch::{ALIGNMENT, Scratch};
use super::to_u64;

/// A second descriptor of an open file, for reads past the page cache.
#[derive(Debug)]
pub struct DirectReader {
    file: File,
    /// Set when a read was refused: from then on nobody tries again.
    refused: AtomicBool,
}

impl DirectReader {
    /// Opens `file` once more; `None` where the file system does not have such reads.
    #[must_use]
    pub fn of(file: &File) -> Option<Self> {
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::DIRECT | OFlags::CLOEXEC;
        let opened = rustix::fs::open(path, flags, Mode::empty()).ok()?;
        Some(Self {
            file: opened.into(),
            refused: AtomicBool::new(false),
        })
    }

    /// Fills `buf` if the request is aligned; `None` if it has to be read in the usual way.
    ///
    /// # Errors
    /// As pread(2); `UnexpectedEof` if the file ends before.
    pub fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Option<io::Result<()>> {
        use std::os::unix::fs::FileExt;
        let aligned = buf.as_ptr().align_offset(ALIGNMENT) == 0
            && buf.len().is_multiple_of(ALIGNMENT)
            && offset.is_multiple_of(to_u64(ALIGNMENT));
        if !aligned || self.refused.load(Ordering::Relaxed) {
            return None;
        }
        match self.file.read_exact_at(buf, offset) {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                self.refused.store(true, Ordering::Relaxed);
                None
            }
            done => Some(done),
        }
    }
}

/// Bytes that are copied to aligned memory and written at once.
const STEP: usize = 1 << 20;

/// Writes `data` to an empty file: what fills whole blocks past the page cache, the rest through it.
///
/// # Errors
/// As write(2).
pub fn write_all(file: &mut File, data: &[u8]) -> io::Result<()> {
    use std::io::Write;
    let whole = data.len() - data.len() % ALIGNMENT;
    let mut written = 0;
    if whole >= STEP && switch(file, OFlags::DIRECT).is_ok() {
        let (head, _) = data.split_at(whole);
        let done = write_direct(file, head, &mut written);
        switch(file, OFlags::empty())?;
        match done {
            // A file system that refuses it only now gets the rest in the usual way.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
            other => other?,
        }
    }
    file.write_all(data.get(written..).unwrap_or_default())
}

fn write_direct(file: &mut File, data: &[u8], written: &mut usize) -> io::Result<()> {
    use std::io::Write;
    for piece in data.chunks(STEP) {
        let aligned = Scratch::from(piece);
        // One call: a part that was written would leave the position between blocks.
        match file.write(&aligned)? {
            n if n == piece.len() => *written = written.saturating_add(n),
            n => {
                *written = written.saturating_add(n);
                return Err(io::ErrorKind::InvalidInput.into());
            }
        }
    }
    Ok(())
}

fn switch(file: &File, direct: OFlags) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(file)?;
    Ok(rustix::fs::fcntl_setfl(file, (flags - OFlags::DIRECT) | direct)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Seek, SeekFrom};

    fn bytes(len: usize) -> Vec<u8> {
        (0_u32..)
            .map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3])
            .take(len)
            .collect()
    }

    #[test]
    fn what_is_written_is_read_back_whatever_its_length() {
        for len in [0, 1, STEP - 1, STEP, STEP + 1, 3 * STEP + ALIGNMENT, 3 * STEP + 5] {
            let mut file = tempfile::tempfile().unwrap();
            let data = bytes(len);
            write_all(&mut file, &data).unwrap();
            file.seek(SeekFrom::Start(0)).unwrap();
            let mut read = Vec::new();
            io::Read::read_to_end(&mut file, &mut read).unwrap();
            assert!(read == data, "{len}");
        }
    }

    #[test]
    fn aligned_reads_are_exact_and_others_are_left_to_the_caller() {
        let mut file = tempfile::tempfile().unwrap();
        let data = bytes(STEP);
        write_all(&mut file, &data).unwrap();
        // A file system without such reads leaves everything to the caller.
        let Some(direct) = DirectReader::of(&file) else { return };
        let mut buf = Scratch::take(2 * ALIGNMENT);
        if let Some(done) = direct.read_exact_at(&mut buf, 4096) {
            done.unwrap();
            assert_eq!(*buf, data[4096..4096 + 2 * ALIGNMENT]);
            let past = direct.read_exact_at(&mut buf, to_u64(STEP) - 4096).unwrap();
            assert_eq!(past.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
        assert!(direct.read_exact_at(&mut buf, 1).is_none());
        assert!(direct.read_exact_at(&mut buf[1..], 0).is_none());
    }
}
