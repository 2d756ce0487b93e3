//! The PROXY protocol, versions 1 and 2 (haproxy's doc/proxy-protocol.txt), read strictly: a proxy in front tells whom it
//! speaks for before the first request.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::limits::{PROXY_V1_BYTES_MAX, PROXY_V2_BODY_MAX};

/// What a PROXY header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the header; what follows them belongs to the connection.
    pub length: usize,
    /// The client's address; `None` where the proxy speaks for itself (LOCAL), or does not know or tell.
    pub source: Option<SocketAddr>,
}

/// Why the bytes are no PROXY header. The connection must be closed without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// Neither version's first bytes.
    #[error("the connection does not start with a PROXY protocol header")]
    Missing,
    /// A rule of the protocol is broken.
    #[error("PROXY protocol version {version}: {reason}")]
    Malformed {
        /// 1 or 2.
        version: u8,
        /// Which rule.
        reason: &'static str,
    },
}

/// Reads the header at the front of `buffer`. `None`: more bytes are needed, at most
/// [`PROXY_V2_BODY_MAX`] and 16 in all.
pub fn parse(buffer: &[u8]) -> Result<Option<Header>, ProxyError> {
    if buffer.starts_with(SIGNATURE_V1) {
        parse_line(buffer)
    } else if buffer.starts_with(SIGNATURE_V2) {
        parse_binary(buffer)
    } else if SIGNATURE_V1.starts_with(buffer) || SIGNATURE_V2.starts_with(buffer) {
        Ok(None)
    } else {
        Err(ProxyError::Missing)
    }
}

const SIGNATURE_V1: &[u8] = b"PROXY ";
const SIGNATURE_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const FIXED_V2: usize = 16;

/// Version 1 (section 2.1): `PROXY TCP4 source destination port port CR LF`.
fn parse_line(buffer: &[u8]) -> Result<Option<Header>, ProxyError> {
    let wrong = |reason| ProxyError::Malformed { version: 1, reason };
    let window = &buffer[..buffer.len().min(PROXY_V1_BYTES_MAX)];
    let end = match memchr::memchr2(b'\r', b'\n', window) {
        Some(end) if end + 1 < window.len() => end,
        Some(end) if window[end] == b'\r' && window.len() < PROXY_V1_BYTES_MAX => return Ok(None),
        None if window.len() < PROXY_V1_BYTES_MAX => return Ok(None),
        _ => return Err(wrong("the line does not end within 107 bytes with CR LF")),
    };
    if &window[end..end + 2] != b"\r\n" {
        return Err(wrong("the line does not end with CR LF"));
    }
    let line = std::str::from_utf8(&window[SIGNATURE_V1.len()..end])
        .map_err(|_| wrong("the line is not ASCII"))?;
    let length = end + 2;
    let mut parts = line.split(' ');
    let family = parts.next().unwrap_or_default();
    if family == "UNKNOWN" {
        return Ok(Some(Header {
            length,
            source: None,
        }));
    }
    let mut address = || -> Option<IpAddr> {
        let text = parts.next()?;
        match family {
            "TCP4" => text.parse().map(IpAddr::V4).ok(),
            "TCP6" => text.parse().map(IpAddr::V6).ok(),
            _ => None,
        }
    };
    let (Some(source), Some(_)) = (address(), address()) else {
        return Err(wrong(
            "expected TCP4 or TCP6 and two addresses of that family",
        ));
    };
    let (Some(port), Some(_), None) = (
        parts.next().and_then(port),
        parts.next().and_then(port),
        parts.next(),
    ) else {
        return Err(wrong("expected two ports after the addresses"));
    };
    Ok(Some(Header {
        length,
        source: Some(SocketAddr::new(source, port)),
    }))
}

/// A decimal number from 0 to 65535 without leading zeros.
fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let led_by_zero = text.len() > 1 && text.starts_with('0');
    (plain && !led_by_zero).then(|| text.parse().ok())?
}

/// Version 2 (section 2.2): binary; TLVs behind the addresses are skipped.
fn parse_binary(buffer: &[u8]) -> Result<Option<Header>, ProxyError> {
    let wrong = |reason| ProxyError::Malformed { version: 2, reason };
    let mut fixed = buffer[SIGNATURE_V2.len()..].iter().copied();
    let Some(command) = fixed.next() else {
        return Ok(None);
    };
    let local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err(wrong("not version 2 with the command LOCAL or PROXY")),
    };
    let Some(family) = fixed.next() else {
        return Ok(None);
    };
    let addresses = match family {
        _ if local => 0,
        0x00 => 0,
        0x11 | 0x12 => 2 * (4 + 2),
        0x21 | 0x22 => 2 * (16 + 2),
        0x31 | 0x32 => 2 * 108,
        _ => return Err(wrong("an address family or protocol that does not exist")),
    };
    let (Some(high), Some(low)) = (fixed.next(), fixed.next()) else {
        return Ok(None);
    };
    let body = usize::from(u16::from_be_bytes([high, low]));
    if body > PROXY_V2_BODY_MAX {
        return Err(wrong("longer than its bound"));
    }
    if body < addresses {
        return Err(wrong("shorter than the addresses of its family"));
    }
    let Some(body) = buffer.get(FIXED_V2..FIXED_V2 + body) else {
        return Ok(None);
    };
    Ok(Some(Header {
        length: FIXED_V2 + body.len(),
        source: (!local).then(|| source(family, body)).flatten(),
    }))
}

/// The source of a TCP connection; other families name nobody that HTTP could know.
fn source(family: u8, body: &[u8]) -> Option<SocketAddr> {
    let (address, port_at) = match family {
        0x11 => (IpAddr::V4(Ipv4Addr::from(*body.first_chunk::<4>()?)), 2 * 4),
        0x21 => (
            IpAddr::V6(Ipv6Addr::from(*body.first_chunk::<16>()?)),
            2 * 16,
        ),
        _ => return None,
    };
    let port = body.get(port_at..)?.first_chunk::<2>()?;
    Some(SocketAddr::new(address, u16::from_be_bytes(*port)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let mut header = SIGNATURE_V2.to_vec();
        header.extend_from_slice(&[command, family]);
        header.extend_from_slice(&(body.len() as u16).to_be_bytes());
        header.extend_from_slice(body);
        header
    }

    const IPV4: &[u8] = &[192, 0, 2, 7, 198, 51, 100, 1, 0xdd, 0xd5, 0x01, 0xbb];

    fn ipv6() -> Vec<u8> {
        let mut body = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7)
            .octets()
            .to_vec();
        body.extend_from_slice(&Ipv6Addr::LOCALHOST.octets());
        body.extend_from_slice(&[0x10, 0x00, 0x01, 0xbb]);
        body
    }

    fn valid() -> Vec<(Vec<u8>, Option<&'static str>)> {
        vec![
            (
                b"PROXY TCP4 192.0.2.7 198.51.100.1 56789 443\r\n".to_vec(),
                Some("192.0.2.7:56789"),
            ),
            (
                b"PROXY TCP6 2001:db8::7 ::1 4096 443\r\n".to_vec(),
                Some("[2001:db8::7]:4096"),
            ),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(), None),
            (binary(0x21, 0x11, IPV4), Some("192.0.2.7:56789")),
            (
                binary(0x21, 0x11, &[IPV4, b"\x04\0\x02ab"].concat()),
                Some("192.0.2.7:56789"),
            ),
            (binary(0x21, 0x21, &ipv6()), Some("[2001:db8::7]:4096")),
            (binary(0x20, 0x00, b""), None),
            (binary(0x20, 0x11, IPV4), None),
            (binary(0x21, 0x00, b"\x04\0\0"), None),
            (binary(0x21, 0x12, IPV4), None),
            (binary(0x21, 0x31, &[b'/'; 216]), None),
        ]
    }

    #[test]
    fn headers_say_whom_the_proxy_speaks_for() {
        for (header, source) in valid() {
            let source = source.map(|text| text.parse().expect("an address"));
            let length = header.len();
            let expected = Ok(Some(Header { length, source }));
            let mut buffer = header;
            buffer.extend_from_slice(b"GET / HTTP/1.1\r\n");
            assert_eq!(parse(&buffer), expected);
        }
    }

    #[test]
    fn a_part_of_a_header_asks_for_more() {
        for (header, _) in valid() {
            for end in 0..header.len() {
                assert_eq!(parse(&header[..end]), Ok(None), "{end} of {header:?}");
            }
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let lines: [&[u8]; 19] = [
            b"GET / HTTP/1.1\r\n",
            b"proxy TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
            b"PROXY\r\n",
            b"PROXY \r\n",
            b"PROXY TCP5 1.1.1.1 2.2.2.2 1 2\r\n",
            b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n",
            b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\rX",
            b"PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n",
            b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n",
            b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2 \r\n",
            b"PROXY TCP4  1.1.1.1 2.2.2.2 1 2\r\n",
            b"PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n",
            b"PROXY TCP4 1.1.1.1 2.2.2.2 +1 2\r\n",
            b"PROXY TCP4 1.1.1.1 2.2.2.2 65536 2\r\n",
            b"PROXY TCP4 1.1.1.01 2.2.2.2 1 2\r\n",
            b"PROXY TCP4 ::1 ::1 1 2\r\n",
            b"PROXY TCP6 1.1.1.1 2.2.2.2 1 2\r\n",
            b"PROXY TCP4 1.1.1.1 \xff 1 2\r\n",
            b"\r\n\r\n\0\r\nQUIX\n",
        ];
        for line in lines {
            assert!(parse(line).is_err(), "{:?}", String::from_utf8_lossy(line));
        }
        let binaries = [
            binary(0x11, 0x11, IPV4),
            binary(0x22, 0x11, IPV4),
            binary(0x21, 0x13, IPV4),
            binary(0x21, 0x41, IPV4),
            binary(0x21, 0x11, &IPV4[1..]),
            binary(0x21, 0x21, IPV4),
            binary(0x21, 0x11, &[0; PROXY_V2_BODY_MAX + 1]),
        ];
        for header in binaries {
            assert!(parse(&header).is_err(), "{header:?}");
        }
    }

    #[test]
    fn a_line_is_bounded() {
        let longest = format!("PROXY UNKNOWN {}\r\n", "a".repeat(PROXY_V1_BYTES_MAX - 16));
        assert_eq!(longest.len(), PROXY_V1_BYTES_MAX);
        assert!(matches!(parse(longest.as_bytes()), Ok(Some(_))));
        let longer = format!("PROXY UNKNOWN {}\r\n", "a".repeat(PROXY_V1_BYTES_MAX - 15));
        assert!(parse(longer.as_bytes()).is_err());
        assert!(parse(&longer.as_bytes()[..PROXY_V1_BYTES_MAX]).is_err());
    }

    proptest! {
        #[test]
        fn what_a_part_decides_the_whole_decides_alike(
            choice in 0..12usize,
            change in any::<Option<(prop::sample::Index, u8)>>(),
            cut in any::<prop::sample::Index>(),
        ) {
            let (mut header, _) = valid().swap_remove(choice);
            if let Some((at, byte)) = change {
                let at = at.index(header.len());
                header[at] = byte;
            }
            let part = parse(&header[..cut.index(header.len() + 1)]);
            if part != Ok(None) {
                prop_assert_eq!(part.is_err(), parse(&header).is_err());
                if part.is_ok() {
                    prop_assert_eq!(part, parse(&header));
                }
            }
        }
    }
}
