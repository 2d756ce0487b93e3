//! Undoes a content coding (RFC 9110 section 8.4.1) beside the relay, within bounds.

use std::io::{self, Write};

use brotli_decompressor::DecompressorWriter;
use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

use crate::limits::{
    METER_BROTLI_BUFFER, METER_DECODED_MAX, METER_RATIO_FLOOR, METER_RATIO_MAX, METER_ZSTD_WINDOW,
};

/// What takes decoded bytes.
pub(super) trait Take {
    fn take(&mut self, bytes: &[u8]);
}

/// Decodes what it is fed, in pieces cut anywhere, into a taker.
pub(super) struct Decoding<T: Take> {
    decoder: Decoder<T>,
    encoded: u64,
    failed: bool,
}

enum Decoder<T: Take> {
    Gzip(MultiGzDecoder<Bounded<T>>),
    Zlib(ZlibDecoder<Bounded<T>>),
    Deflate(DeflateDecoder<Bounded<T>>),
    /// `deflate` means zlib, but some send it bare: the first byte tells.
    ZlibOrDeflate(Option<Bounded<T>>),
    Brotli(Box<DecompressorWriter<Bounded<T>>>),
    Zstd(zstd::stream::write::Decoder<'static, Bounded<T>>),
}

impl<T: Take> Decoding<T> {
    /// `None`: a coding that is not known, or several.
    pub fn new(coding: &[u8], taker: T) -> Option<Self> {
        let sink = Bounded {
            taker: Some(taker),
            decoded: 0,
            allowed: 0,
        };
        let decoder = match coding.to_ascii_lowercase().as_slice() {
            b"gzip" | b"x-gzip" => Decoder::Gzip(MultiGzDecoder::new(sink)),
            b"deflate" => Decoder::ZlibOrDeflate(Some(sink)),
            b"br" => Decoder::Brotli(Box::new(DecompressorWriter::new(sink, METER_BROTLI_BUFFER))),
            b"zstd" => {
                let mut decoder = zstd::stream::write::Decoder::new(sink).ok()?;
                decoder.window_log_max(METER_ZSTD_WINDOW).ok()?;
                Decoder::Zstd(decoder)
            }
            _ => return None,
        };
        Some(Self {
            decoder,
            encoded: 0,
            failed: false,
        })
    }

    pub fn feed(&mut self, bytes: &[u8]) {
        if self.failed || bytes.is_empty() {
            return;
        }
        self.encoded += bytes.len() as u64;
        self.decoder.choose(bytes[0]);
        let allowed = (self.encoded.saturating_mul(METER_RATIO_MAX)).max(METER_RATIO_FLOOR);
        if let Some(sink) = self.decoder.sink() {
            sink.allowed = allowed.min(METER_DECODED_MAX);
        }
        self.failed = self
            .decoder
            .writer()
            .is_none_or(|writer| writer.write_all(bytes).is_err());
    }

    /// The taker, and whether all could be decoded; an answer that was cut short counts as decoded so far.
    pub fn finish(mut self) -> (Option<T>, bool) {
        if !self.failed {
            // A flush gives what is decoded and complains of what is missing, which only means that the answer was cut.
            let _ = self.decoder.writer().map(Write::flush);
        }
        let taker = self.decoder.sink().and_then(|sink| sink.taker.take());
        (taker, !self.failed)
    }
}

impl<T: Take> Decoder<T> {
    /// RFC 1950 section 2.2: the low half of zlib's first byte is 8, its high half at most 7.
    fn choose(&mut self, first: u8) {
        if let Self::ZlibOrDeflate(sink) = self
            && let Some(sink) = sink.take()
        {
            *self = match first & 0x0f == 8 && first >> 4 <= 7 {
                true => Self::Zlib(ZlibDecoder::new(sink)),
                false => Self::Deflate(DeflateDecoder::new(sink)),
            };
        }
    }

    fn writer(&mut self) -> Option<&mut dyn Write> {
        Some(match self {
            Self::Gzip(decoder) => decoder,
            Self::Zlib(decoder) => decoder,
            Self::Deflate(decoder) => decoder,
            Self::ZlibOrDeflate(_) => return None,
            Self::Brotli(decoder) => decoder,
            Self::Zstd(decoder) => decoder,
        })
    }

    fn sink(&mut self) -> Option<&mut Bounded<T>> {
        match self {
            Self::Gzip(decoder) => Some(decoder.get_mut()),
            Self::Zlib(decoder) => Some(decoder.get_mut()),
            Self::Deflate(decoder) => Some(decoder.get_mut()),
            Self::ZlibOrDeflate(sink) => sink.as_mut(),
            Self::Brotli(decoder) => Some(decoder.get_mut()),
            Self::Zstd(decoder) => Some(decoder.get_mut()),
        }
    }
}

/// Passes decoded bytes on up to what the encoded ones allow.
struct Bounded<T> {
    /// Gone once the decoding is over: a decoder may write when it is dropped.
    taker: Option<T>,
    decoded: u64,
    allowed: u64,
}

impl<T: Take> Write for Bounded<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.decoded += bytes.len() as u64;
        let Some(taker) = self.taker.as_mut().filter(|_| self.decoded <= self.allowed) else {
            return Err(io::ErrorKind::FileTooLarge.into());
        };
        taker.take(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use proptest::prelude::*;

    impl Take for Vec<u8> {
        fn take(&mut self, bytes: &[u8]) {
            self.extend_from_slice(bytes);
        }
    }

    /// `br`: `hello hello hello hello hello` as the reference encoder writes it without compression.
    fn brotli(text: &[u8]) -> Vec<u8> {
        // RFC 7932 section 9.2: window 16 bits, one uncompressed meta-block of two length nibbles at least, then an empty last one.
        let mut out = Vec::new();
        for piece in text.chunks(1 << 16) {
            let length = (piece.len() - 1) as u32;
            // ISLAST 0, MNIBBLES 0 (four nibbles), MLEN - 1, ISUNCOMPRESSED 1; the stream header WBITS is one 0 bit before the first.
            let bits = if out.is_empty() {
                (length << 4) | (1 << 20)
            } else {
                (length << 3) | (1 << 19)
            };
            out.extend_from_slice(&bits.to_le_bytes()[..3]);
            out.extend_from_slice(piece);
        }
        out.push(0b11);
        out
    }

    pub fn encode(coding: &str, text: &[u8]) -> Vec<u8> {
        fn written<W: Write>(mut writer: W, text: &[u8]) -> W {
            writer.write_all(text).expect("memory");
            writer
        }
        let level = Compression::default();
        match coding {
            "gzip" => written(GzEncoder::new(Vec::new(), level), text)
                .finish()
                .expect("memory"),
            "zlib" => written(ZlibEncoder::new(Vec::new(), level), text)
                .finish()
                .expect("memory"),
            "deflate" => written(DeflateEncoder::new(Vec::new(), level), text)
                .finish()
                .expect("memory"),
            "br" => brotli(text),
            _ => zstd::encode_all(text, 3).expect("memory"),
        }
    }

    fn decode(coding: &str, pieces: &[&[u8]]) -> (Vec<u8>, bool) {
        let mut decoding = Decoding::new(coding.as_bytes(), Vec::new()).expect("known");
        pieces.iter().for_each(|piece| decoding.feed(piece));
        let (text, whole) = decoding.finish();
        (text.expect("a taker"), whole)
    }

    const CODINGS: [(&str, &str); 5] = [
        ("gzip", "gzip"),
        ("zlib", "deflate"),
        ("deflate", "deflate"),
        ("br", "br"),
        ("zstd", "zstd"),
    ];

    #[test]
    fn a_cut_answer_gives_what_came() {
        let text: Vec<u8> = (0..20_000u32)
            .flat_map(|n| n.wrapping_mul(0x9e37_79b9).to_le_bytes())
            .collect();
        for (encoder, coding) in CODINGS {
            let encoded = encode(encoder, &text);
            let (decoded, _) = decode(coding, &[&encoded[..encoded.len() / 2]]);
            assert!(text.starts_with(&decoded), "{coding}");
            assert!(
                decoded.len() > text.len() / 8,
                "{coding}: {}",
                decoded.len()
            );
        }
    }

    #[test]
    fn broken_and_unknown_codings_are_told() {
        for (_, coding) in CODINGS {
            assert!(
                !decode(coding, &[b"\xff\xff\xff\xff\xff not compressed at all"]).1,
                "{coding}"
            );
        }
        for coding in ["compress", "gzip, br", ""] {
            assert!(Decoding::new(coding.as_bytes(), Vec::new()).is_none());
        }
    }

    #[test]
    fn a_bomb_is_not_decoded() {
        let zeros = vec![0; 64 << 20];
        for (encoder, coding) in [CODINGS[0], CODINGS[4]] {
            let encoded = encode(encoder, &zeros);
            let (decoded, whole) = decode(coding, &[&encoded]);
            assert!(!whole, "{coding}");
            let allowed = (encoded.len() as u64 * METER_RATIO_MAX).max(METER_RATIO_FLOOR);
            assert!(decoded.len() as u64 <= allowed, "{coding}");
        }
    }

    proptest! {
        #[test]
        fn an_answer_cut_anywhere_decodes_the_same(
            text in proptest::collection::vec(any::<u8>(), 1..2000),
            cut in any::<prop::sample::Index>(),
            choice in 0..CODINGS.len(),
        ) {
            let (encoder, coding) = CODINGS[choice];
            let encoded = encode(encoder, &text);
            let (first, second) = encoded.split_at(cut.index(encoded.len()));
            prop_assert_eq!(decode(coding, &[first, second]), (text.clone(), true));
            let single: Vec<&[u8]> = encoded.chunks(1).collect();
            prop_assert_eq!(decode(coding, &single), (text, true));
        }
    }
}
