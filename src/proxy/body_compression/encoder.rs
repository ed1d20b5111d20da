//! Encoders of the three content codings with one interface: write, flush, finish.
//!
//! Pingora's own (`pingora_core::protocols::http::compression`) cannot be flushed, and the output of a slow agent would stay
//! in them until it ends.

use std::io::{self, Write};

use brotli::CompressorWriter;
use flate2::write::GzEncoder;
use zstd::stream::write::Encoder as ZstdEncoder;
use zstd::zstd_safe::CParameter;

use crate::domain::compression::ContentCoding;

/// Fast levels: pages are compressed again for every request.
const GZIP_LEVEL: u32 = 5;
const BROTLI_QUALITY: u32 = 4;
const ZSTD_LEVEL: i32 = 3;
/// The windows in powers of two, and with them the memory of a response: pages repeat themselves within a short distance.
const BROTLI_WINDOW_LOG: u32 = 17;
const ZSTD_WINDOW_LOG: u32 = 17;
/// The tables of level 3 would be for windows of 2 MiB.
const ZSTD_HASH_LOG: u32 = 16;
const ZSTD_CHAIN_LOG: u32 = 15;
const BROTLI_BUFFER: usize = 16 * 1024;

/// The state of one compressed body. What is written comes out when the encoder has a block together, or with a flush.
pub(super) enum Encoder {
    Gzip(GzEncoder<Vec<u8>>),
    Brotli(Box<CompressorWriter<Vec<u8>>>),
    Zstd(ZstdEncoder<'static, Vec<u8>>),
}

impl Encoder {
    /// `length` is that of the whole body, if it is known: for a short one Zstandard takes less memory.
    pub fn new(coding: ContentCoding, length: Option<u64>) -> io::Result<Self> {
        Ok(match coding {
            ContentCoding::Gzip => {
                Self::Gzip(GzEncoder::new(Vec::new(), flate2::Compression::new(GZIP_LEVEL)))
            }
            ContentCoding::Brotli => Self::Brotli(Box::new(CompressorWriter::new(
                Vec::new(),
                BROTLI_BUFFER,
                BROTLI_QUALITY,
                BROTLI_WINDOW_LOG,
            ))),
            ContentCoding::Zstd => {
                let mut encoder = ZstdEncoder::new(Vec::new(), ZSTD_LEVEL)?;
                encoder.window_log(ZSTD_WINDOW_LOG)?;
                encoder.set_parameter(CParameter::HashLog(ZSTD_HASH_LOG))?;
                encoder.set_parameter(CParameter::ChainLog(ZSTD_CHAIN_LOG))?;
                encoder.set_pledged_src_size(length)?;
                Self::Zstd(encoder)
            }
        })
    }

    pub fn write(&mut self, data: &[u8]) -> io::Result<()> {
        match self {
            Self::Gzip(encoder) => encoder.write_all(data),
            Self::Brotli(encoder) => encoder.write_all(data),
            Self::Zstd(encoder) => encoder.write_all(data),
        }
    }

    /// Brings out everything that was written, so that the client can decode it.
    pub fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Gzip(encoder) => encoder.flush(),
            Self::Brotli(encoder) => encoder.flush(),
            Self::Zstd(encoder) => encoder.flush(),
        }
    }

    /// What has come out and was not taken before.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(match self {
            Self::Gzip(encoder) => encoder.get_mut(),
            Self::Brotli(encoder) => encoder.get_mut(),
            Self::Zstd(encoder) => encoder.get_mut(),
        })
    }

    /// Ends the body. Returns what has come out and was not taken before.
    pub fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip(encoder) => encoder.finish(),
            Self::Brotli(encoder) => Ok(encoder.into_inner()),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Read;

    use super::*;
    use proptest::prelude::*;

    /// What a client makes of a body, whole or cut off.
    pub fn decoded(coding: ContentCoding, body: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        let read = match coding {
            ContentCoding::Gzip => flate2::read::GzDecoder::new(body).read_to_end(&mut text),
            ContentCoding::Brotli => brotli::Decompressor::new(body, 4096).read_to_end(&mut text),
            ContentCoding::Zstd => zstd::stream::read::Decoder::new(body).unwrap().read_to_end(&mut text),
        };
        assert!(read.is_ok() || !text.is_empty(), "{coding:?}: {read:?}");
        text
    }

    #[test]
    fn what_was_flushed_can_be_decoded_before_the_end() {
        for coding in ContentCoding::ALL {
            let mut encoder = Encoder::new(coding, None).unwrap();
            let mut sent = Vec::new();
            for (at, line) in ["first line\n", "second line\n", ""].iter().enumerate() {
                encoder.write(line.as_bytes()).unwrap();
                encoder.flush().unwrap();
                sent.extend(encoder.take());
                assert_eq!(decoded(coding, &sent).len(), [11, 23, 23][at], "{coding:?}");
            }
            sent.extend(encoder.finish().unwrap());
            assert_eq!(decoded(coding, &sent), b"first line\nsecond line\n", "{coding:?}");
        }
    }

    #[test]
    fn a_page_becomes_several_times_smaller() {
        let page: String = (0..500).map(|n| format!("<li class=\"entry\">Document {n}</li>\n")).collect();
        for coding in ContentCoding::ALL {
            let mut encoder = Encoder::new(coding, Some(page.len() as u64)).unwrap();
            encoder.write(page.as_bytes()).unwrap();
            let body = encoder.finish().unwrap();
            assert!(body.len() * 5 < page.len(), "{coding:?}: {} of {}", body.len(), page.len());
        }
    }

    proptest! {
        // Brotli is slow without optimisation.
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn any_pieces_come_back(
            pieces in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..3000), any::<bool>()), 0..6),
            known in any::<bool>(),
        ) {
            let whole: Vec<u8> = pieces.iter().flat_map(|(piece, _)| piece.clone()).collect();
            for coding in ContentCoding::ALL {
                let mut encoder = Encoder::new(coding, known.then_some(whole.len() as u64)).unwrap();
                let mut body = Vec::new();
                for (piece, flushes) in &pieces {
                    encoder.write(piece).unwrap();
                    if *flushes {
                        encoder.flush().unwrap();
                    }
                    body.extend(encoder.take());
                }
                body.extend(encoder.finish().unwrap());
                prop_assert_eq!(decoded(coding, &body), whole.clone());
            }
        }
    }
}
