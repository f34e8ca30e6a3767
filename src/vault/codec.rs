//! How a chunk is compressed; the one file of the vault that names zstd.
//!
//! Each thread keeps its own contexts: creating one costs more than decoding a small chunk.

use std::cell::RefCell;

/// Default zstd level.
pub const DEFAULT_LEVEL: i32 = 3;

/// How the stored bytes of a chunk became what they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// Stored as it is.
    Raw,
    /// One zstd frame without dictionary and checksum.
    Zstd,
}

impl Codec {
    /// The codec's number in the format.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Raw => 0,
            Self::Zstd => 1,
        }
    }

    /// The codec with this number.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        [Self::Raw, Self::Zstd].into_iter().find(|codec| codec.code() == code)
    }
}

struct Encoder {
    level: i32,
    zstd: zstd::bulk::Compressor<'static>,
}

impl Encoder {
    fn new(level: i32) -> std::io::Result<Self> {
        let mut zstd = zstd::bulk::Compressor::new(level)?;
        zstd.include_checksum(false)?;
        if level == DEFAULT_LEVEL {
            // The level's own minimum match of 5 is for larger input: with 4, chunks of 64 KiB take 0.9 % less at no cost in time.
            zstd.set_parameter(zstd::zstd_safe::CParameter::MinMatch(4))?;
        }
        Ok(Self { level, zstd })
    }
}

thread_local! {
    static ENCODER: RefCell<Option<Encoder>> = const { RefCell::new(None) };
    static DECODER: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Compresses `plain`; content that does not shrink by at least one part in 64 is stored as it is.
///
/// # Errors
/// As zstd reports: out of memory, or a level it does not know.
pub fn encode(plain: &[u8], level: i32) -> std::io::Result<(Codec, Vec<u8>)> {
    ENCODER.with_borrow_mut(|slot| {
        if slot.as_ref().is_none_or(|encoder| encoder.level != level) {
            *slot = Some(Encoder::new(level)?);
        }
        let Some(encoder) = slot.as_mut() else {
            return Ok((Codec::Raw, plain.to_vec()));
        };
        let stored = encoder.zstd.compress(plain)?;
        let worth = plain.len().saturating_sub(plain.len() / 64);
        if stored.len() < worth {
            Ok((Codec::Zstd, stored))
        } else {
            Ok((Codec::Raw, plain.to_vec()))
        }
    })
}

/// Decodes stored bytes into `plain`, whose old content is dropped and whose memory is used again; `false` if the result
/// is not exactly `plain_len` bytes.
///
/// The output is bounded by `plain_len`, whatever the stored bytes claim.
#[must_use]
pub fn decode_into(codec: Codec, stored: &[u8], plain_len: usize, plain: &mut Vec<u8>) -> bool {
    plain.clear();
    match codec {
        Codec::Raw => {
            plain.extend_from_slice(stored);
            plain.len() == plain_len
        }
        Codec::Zstd => {
            plain.reserve_exact(plain_len);
            unzstd(stored, plain_len, plain)
        }
    }
}

/// Decodes stored bytes into `plain`; `false` if the result does not fill it exactly.
#[must_use]
pub fn decode_slice(codec: Codec, stored: &[u8], plain: &mut [u8]) -> bool {
    match codec {
        Codec::Raw => {
            let fits = stored.len() == plain.len();
            if fits {
                plain.copy_from_slice(stored);
            }
            fits
        }
        Codec::Zstd => unzstd(stored, plain.len(), plain),
    }
}

/// Decodes a frame into memory that may have room for more than `plain_len` bytes, which is what the frame must declare.
fn unzstd(stored: &[u8], plain_len: usize, plain: &mut (impl zstd::zstd_safe::WriteBuf + ?Sized)) -> bool {
    let declared = zstd::zstd_safe::get_frame_content_size(stored).ok().flatten();
    if declared != Some(crate::bytes::to_u64(plain_len)) {
        return false;
    }
    DECODER.with_borrow_mut(|slot| {
        if slot.is_none() {
            *slot = zstd::bulk::Decompressor::new().ok();
        }
        let Some(decoder) = slot.as_mut() else { return false };
        decoder
            .decompress_to_buffer(stored, plain)
            .is_ok_and(|written| written == plain_len)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes into both kinds of memory, which must agree.
    fn decode(codec: Codec, stored: &[u8], plain_len: usize) -> Option<Vec<u8>> {
        let (mut plain, mut slice) = (Vec::new(), vec![0; plain_len]);
        let good = decode_into(codec, stored, plain_len, &mut plain);
        assert_eq!(decode_slice(codec, stored, &mut slice), good);
        assert!(!good || slice == plain);
        good.then_some(plain)
    }

    #[test]
    fn content_that_does_not_shrink_is_stored_as_it_is() {
        let mut noise = vec![0; 4096];
        crate::bytes::fill_random(&mut noise).unwrap();
        assert_eq!(encode(&noise, 3).unwrap(), (Codec::Raw, noise.clone()));
        let (codec, stored) = encode(&[1; 4096], 3).unwrap();
        assert_eq!(codec, Codec::Zstd);
        assert_eq!(decode(codec, &stored, 4096), Some(vec![1; 4096]));
    }

    #[test]
    fn a_bomb_never_decodes_past_the_declared_length() {
        let bomb = zstd::bulk::compress(&vec![0; 16 << 20], 3).unwrap();
        assert_eq!(decode(Codec::Zstd, &bomb, 4096), None);
        assert_eq!(decode(Codec::Zstd, &bomb, (16 << 20) + 1), None);
        assert_eq!(decode(Codec::Zstd, &[], 4), None);
        assert_eq!(decode(Codec::Raw, &[1, 2, 3], 2), None);
    }
}
