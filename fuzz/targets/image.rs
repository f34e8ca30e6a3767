//! Inputs as patches of a small image that a real tool made: a fuzzer changes what matters instead of finding a boot sector by chance.

use std::sync::Arc;

use vaultfs::image::{ReadAt, Result, check_range};

/// Unpacks the images of a target, packed with zstd.
///
/// # Panics
/// If an image is no zstd frame: they are part of the program.
pub fn unpack(packed: &[&[u8]]) -> Vec<Arc<[u8]>> {
    let unpack = |frame: &&[u8]| zstd::decode_all(*frame).expect("images are zstd frames").into();
    packed.iter().map(unpack).collect()
}

/// The first image, with one patch that changes nothing much: the first byte is set to what it mostly is.
pub fn seed() -> Vec<u8> {
    vec![0, 0, 0, 0, 0, 1, 0xeb]
}

/// Beginning of an image, where most metadata is.
const HEAD: usize = 48 << 10;

/// An image with patches over it. A run costs its patches, however large the image is.
pub struct Patched {
    base: Arc<[u8]>,
    patches: Vec<(u64, Vec<u8>)>,
}

impl Patched {
    /// Decodes an input: a byte that chooses the image, then patches of an offset (4 bytes, little-endian), a length (1 byte) and so many
    /// bytes. The offset is taken modulo the size of the image or, with its highest bit, modulo [`HEAD`]. What is cut off at the end is
    /// used as far as it goes. `None` for no input at all.
    pub fn decode(images: &[Arc<[u8]>], data: &[u8]) -> Option<Self> {
        let (choice, mut rest) = data.split_first()?;
        let base = Arc::clone(images.get(usize::from(*choice) % images.len())?);
        let mut patches = Vec::new();
        while let Some((offset, tail)) = rest.split_first_chunk::<4>()
            && let Some((len, tail)) = tail.split_first()
        {
            let (bytes, tail) = tail.split_at(tail.len().min(usize::from(*len)));
            let offset = u32::from_le_bytes(*offset);
            let reach = if offset < 1 << 31 {
                base.len()
            } else {
                base.len().min(HEAD)
            };
            let at = u64::from(offset & 0x7fff_ffff) % reach as u64;
            patches.push((at, bytes.to_vec()));
            rest = tail;
        }
        Some(Self { base, patches })
    }

    /// Adds a patch over the others.
    pub fn push(&mut self, at: u64, bytes: &[u8]) {
        self.patches.push((at, bytes.to_vec()));
    }

    /// The whole image with its patches.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.base.to_vec();
        self.patch(0, &mut bytes);
        bytes
    }

    /// A part of the image with its patches; cut off at the image's end.
    pub fn range(&self, offset: u64, len: usize) -> Vec<u8> {
        let start = usize::try_from(offset).map_or(self.base.len(), |start| start.min(self.base.len()));
        let end = start.saturating_add(len).min(self.base.len());
        let mut bytes = self.base[start..end].to_vec();
        self.patch(start as u64, &mut bytes);
        bytes
    }

    /// Numbers of the blocks of so many bytes that patches lie in.
    pub fn patched_blocks(&self, size: u64) -> Vec<u64> {
        let blocks = |(at, bytes): &(u64, Vec<u8>)| at / size..(at + bytes.len() as u64).min(self.len()).div_ceil(size);
        self.patches.iter().flat_map(blocks).collect()
    }

    fn patch(&self, offset: u64, buf: &mut [u8]) {
        let end = offset + buf.len() as u64;
        for (at, bytes) in &self.patches {
            let (from, until) = ((*at).max(offset), (at + bytes.len() as u64).min(end));
            if from < until {
                let len = (until - from) as usize;
                let (to, source) = ((from - offset) as usize, (from - at) as usize);
                buf[to..to + len].copy_from_slice(&bytes[source..source + len]);
            }
        }
    }
}

impl ReadAt for Patched {
    fn len(&self) -> u64 {
        self.base.len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        check_range(offset, buf.len(), self.len())?;
        let start = offset as usize;
        buf.copy_from_slice(&self.base[start..start + buf.len()]);
        self.patch(offset, buf);
        Ok(())
    }

    fn next_data(&self, offset: u64) -> Result<Option<u64>> {
        Ok((offset < self.len()).then_some(offset))
    }

    fn next_hole(&self, _: u64) -> Result<u64> {
        Ok(self.len())
    }
}
