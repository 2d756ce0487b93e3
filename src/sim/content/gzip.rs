//! Content coding gzip with stored blocks (RFC 1952, RFC 1951 section 3.2.4): every decoder reads it, each event can go out
//! at once, and the bytes are the same with every version of every compressor.

use bytes::Bytes;

/// A gzip member in the making.
#[derive(Default)]
pub struct Gzip {
    started: bool,
    checksum: crc32fast::Hasher,
    length: u32,
}

/// Method deflate, no flags, no time, unknown system.
const HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

impl Gzip {
    /// All of `plain` as one member.
    pub fn whole(plain: &[u8]) -> Bytes {
        let mut gzip = Self::default();
        let mut coded = gzip.part(plain).to_vec();
        coded.extend_from_slice(&gzip.finish());
        coded.into()
    }

    /// The next part, readable as soon as it arrives.
    pub fn part(&mut self, plain: &[u8]) -> Bytes {
        let mut coded = Vec::with_capacity(plain.len() + 32);
        if !self.started {
            coded.extend_from_slice(&HEAD);
            self.started = true;
        }
        for block in plain.chunks(usize::from(u16::MAX)) {
            stored(block, false, &mut coded);
        }
        self.checksum.update(plain);
        self.length = self.length.wrapping_add(plain.len() as u32);
        coded.into()
    }

    /// The end of the member.
    pub fn finish(self) -> Bytes {
        let mut coded = Vec::with_capacity(32);
        if !self.started {
            coded.extend_from_slice(&HEAD);
        }
        stored(&[], true, &mut coded);
        coded.extend_from_slice(&self.checksum.finalize().to_le_bytes());
        coded.extend_from_slice(&self.length.to_le_bytes());
        coded.into()
    }
}

/// One stored block of at most 65,535 bytes. The blocks before it end on a byte, so its three header bits begin one.
fn stored(block: &[u8], last: bool, coded: &mut Vec<u8>) {
    let length = block.len() as u16;
    coded.push(u8::from(last));
    coded.extend_from_slice(&length.to_le_bytes());
    coded.extend_from_slice(&(!length).to_le_bytes());
    coded.extend_from_slice(block);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_empty_member_is_what_the_rfc_says() {
        let expected: [u8; 23] = [
            0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 1, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0,
        ];
        assert_eq!(&Gzip::whole(b"")[..], expected);
    }

    #[test]
    fn parts_are_blocks_of_one_member() {
        let mut gzip = Gzip::default();
        assert_eq!(&gzip.part(b"1234")[10..], b"\x00\x04\x00\xfb\xff1234");
        assert_eq!(&gzip.part(b"56789")[..], b"\x00\x05\x00\xfa\xff56789");
        let end = gzip.finish();
        assert_eq!(&end[..5], b"\x01\x00\x00\xff\xff");
        assert_eq!(end[5..9], 0xcbf4_3926u32.to_le_bytes());
        assert_eq!(end[9..], 9u32.to_le_bytes());
    }
}
