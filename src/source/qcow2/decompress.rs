//! Decompresses one cluster; the only file of the reader that names the codecs.

use std::io::Read;

/// How the compressed clusters of an image are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    /// Raw deflate, without a zlib header.
    Deflate,
    /// A zstd frame.
    Zstd,
}

/// Largest zstd window accepted: eight times the largest cluster; more would only let an image ask for memory.
const WINDOW_LOG_MAX: u32 = 24;

/// Decompresses exactly `size` bytes; `packed` may have padding behind the stream. `None` if it does not hold that much.
pub(super) fn decompress(compression: Compression, packed: &[u8], size: usize) -> Option<Vec<u8>> {
    let mut plain = vec![0; size];
    match compression {
        Compression::Deflate => flate2::bufread::DeflateDecoder::new(packed).read_exact(&mut plain),
        Compression::Zstd => zstd::stream::read::Decoder::with_buffer(packed).and_then(|mut decoder| {
            decoder.window_log_max(WINDOW_LOG_MAX)?;
            decoder.single_frame().read_exact(&mut plain)
        }),
    }
    .ok()
    .map(|()| plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn deflated(plain: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn padding_behind_the_stream_is_ignored_and_a_short_stream_is_refused() {
        let plain = [7; 65536];
        let packed = [
            (Compression::Deflate, deflated(&plain)),
            (Compression::Zstd, zstd::bulk::compress(&plain, 3).unwrap()),
        ];
        for (kind, mut stream) in packed {
            stream.extend([0; 500]);
            assert_eq!(decompress(kind, &stream, plain.len()).as_deref(), Some(&plain[..]));
            assert_eq!(decompress(kind, &stream, plain.len() + 1), None, "{kind:?}");
            assert_eq!(decompress(kind, &stream[..8], plain.len()), None, "{kind:?}");
            assert_eq!(decompress(kind, &[], plain.len()), None, "{kind:?}");
        }
    }
}
