//! Which addresses media may come from: written ones (https and a host) and those that a name stands for (public ones alone).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::net::origin::Origin;

/// Where something is fetched from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub origin: Origin,
    /// Path and query as they stand in the request line.
    pub path: String,
}

impl Address {
    /// Reads `https://host[:port][/path][?query]`. Anything else is none: another scheme, a user's name, an odd host.
    pub fn parse(url: &str, scheme: &str) -> Option<Self> {
        let (found, rest) = url.split_once("://")?;
        if !found.eq_ignore_ascii_case(scheme) {
            return None;
        }
        let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        let (host, port) = split_authority(authority)?;
        let tls = scheme == "https";
        let port = match port {
            Some(port) => port.parse().ok().filter(|port| *port != 0)?,
            None if tls => 443,
            None => 80,
        };
        Some(Self {
            origin: Origin::new(tls, host, port),
            path: path(rest)?,
        })
    }

    /// Where a redirect leads (RFC 3986 section 5.2, without dot segments: servers know what to do with these).
    pub fn join(&self, location: &str) -> Option<Self> {
        let scheme = self.origin.scheme();
        let here = &self.path;
        let without_query = here.split('?').next().unwrap_or_default();
        let relative = match location {
            "" => return None,
            full if full.contains("://") && !full.starts_with(['/', '?', '#']) => {
                return Self::parse(full, scheme);
            }
            beside if beside.starts_with("//") => {
                return Self::parse(&format!("{scheme}:{beside}"), scheme);
            }
            absolute if absolute.starts_with('/') => absolute.to_owned(),
            query if query.starts_with('?') => format!("{without_query}{query}"),
            name => {
                let folder = without_query.rfind('/').map_or(0, |slash| slash + 1);
                format!("{}{name}", &without_query[..folder])
            }
        };
        Some(Self {
            origin: self.origin.clone(),
            path: path(&relative)?,
        })
    }
}

fn split_authority(authority: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        host.parse::<Ipv6Addr>().ok()?;
        return match rest {
            "" => Some((host, None)),
            _ => Some((host, Some(rest.strip_prefix(':')?))),
        };
    }
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    let fits = (1..=253).contains(&host.len()) && host.bytes().all(letter);
    fits.then_some((host, port))
}

/// What may not stand in a request line.
const UNWRITABLE: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// Longest path and query; servers refuse longer ones.
const PATH_MAX: usize = 8192;

fn path(text: &str) -> Option<String> {
    let text = text.split('#').next().unwrap_or_default();
    if text.contains(['\r', '\n', '\0']) {
        return None;
    }
    let slash = if text.starts_with('/') { "" } else { "/" };
    let path = format!("{slash}{}", utf8_percent_encode(text, UNWRITABLE));
    (path.len() <= PATH_MAX).then_some(path)
}

/// Whether an address belongs to the public internet. Everything else is refused: this machine, this network, what stands behind
/// the provider of the machine, documentation, multicast, and what is not given out.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    // IANA's registry of special addresses, and one of Azure's own: its servers' agent answers there.
    const CLOSED: [([u8; 4], u32); 17] = [
        ([0, 0, 0, 0], 8),
        ([10, 0, 0, 0], 8),
        ([100, 64, 0, 0], 10),
        ([127, 0, 0, 0], 8),
        ([168, 63, 129, 16], 32),
        ([169, 254, 0, 0], 16),
        ([172, 16, 0, 0], 12),
        ([192, 0, 0, 0], 24),
        ([192, 0, 2, 0], 24),
        ([192, 88, 99, 0], 24),
        ([192, 168, 0, 0], 16),
        ([198, 18, 0, 0], 15),
        ([198, 51, 100, 0], 24),
        ([203, 0, 113, 0], 24),
        ([224, 0, 0, 0], 4),
        ([240, 0, 0, 0], 4),
        ([255, 255, 255, 255], 32),
    ];
    let address = u32::from(address);
    !CLOSED.iter().any(|(network, length)| {
        let mask = u32::MAX << (32 - length);
        address & mask == u32::from_be_bytes(*network)
    })
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    const fn network(high: u64, length: u32) -> (u128, u32) {
        ((high as u128) << 64, length)
    }
    let within = |(network, length): (u128, u32)| {
        let mask = u128::MAX << (128 - length);
        u128::from(address) & mask == network
    };
    // An IPv4 address in other clothes, by mapping or behind a translator (RFC 6052), is what it is.
    let inner = Ipv4Addr::from((u128::from(address) & 0xffff_ffff) as u32);
    if address.to_ipv4_mapped().is_some() || within(network(0x0064_ff9b_0000_0000, 96)) {
        return is_public_v4(inner);
    }
    let given_out = within(network(0x2000_0000_0000_0000, 3));
    let closed = [
        // Protocols: Teredo, benchmarks, ORCHID.
        network(0x2001_0000_0000_0000, 23),
        // Documentation.
        network(0x2001_0db8_0000_0000, 32),
        network(0x3fff_0000_0000_0000, 20),
        // 6to4, which wraps any IPv4 address.
        network(0x2002_0000_0000_0000, 16),
    ];
    given_out && !closed.into_iter().any(within)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_public() {
        for address in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "168.63.129.17",
            "169.253.255.255",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450:4001::200e",
            "2001:4860:4860::8888",
            "2001:200::1",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
            "3ffe::1",
        ] {
            assert!(is_public(address.parse().expect(address)), "{address}");
        }
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "100.100.100.200",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.169.254",
            "169.254.170.2",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::808:808",
            "100::1",
            "2001::1",
            "2001:2::1",
            "2001:10::1",
            "2001:20::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:808:808::",
            "3fff::1",
            "3fff:fff::1",
            "4000::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(address.parse().expect(address)), "{address}");
        }
    }

    fn shown(address: Option<Address>) -> String {
        address.map_or("none".to_owned(), |address| {
            format!("{}{}", address.origin, address.path)
        })
    }

    #[test]
    fn written_addresses_are_read_strictly() {
        for (url, read) in [
            ("https://example.com/a.png", "https://example.com/a.png"),
            ("HTTPS://Example.COM", "https://example.com/"),
            (
                "https://example.com:8443?a=b#c",
                "https://example.com:8443/?a=b",
            ),
            (
                "https://example.com/a b/ü",
                "https://example.com/a%20b/%C3%BC",
            ),
            ("https://example.com/a%20b", "https://example.com/a%20b"),
            (
                "https://[2606:4700::1111]:444/x",
                "https://[2606:4700::1111]:444/x",
            ),
            ("https://1.1.1.1/", "https://1.1.1.1/"),
            ("http://example.com/", "none"),
            ("ftp://example.com/", "none"),
            ("file:///etc/passwd", "none"),
            ("https:///etc/passwd", "none"),
            ("https://user@example.com/", "none"),
            ("https://user:pass@example.com/", "none"),
            ("https://example.com:0/", "none"),
            ("https://example.com:99999/", "none"),
            ("https://example.com:80:90/", "none"),
            ("https://exa mple.com/", "none"),
            ("https://ex%61mple.com/", "none"),
            ("https://ex\u{e4}mple.com/", "none"),
            ("https://[::1/", "none"),
            ("https://[example.com]/", "none"),
            (
                "https://example.com\\@127.0.0.1/",
                "https://example.com/%5C@127.0.0.1/",
            ),
            ("https://example.com/\r\nHost: evil", "none"),
            ("data:image/png;base64,aGk=", "none"),
            ("", "none"),
        ] {
            assert_eq!(shown(Address::parse(url, "https")), read, "{url:?}");
        }
        let long = format!("https://example.com/{}", "a".repeat(PATH_MAX));
        assert_eq!(Address::parse(&long, "https"), None);
    }

    #[test]
    fn redirects_lead_on() {
        let here = Address::parse("https://example.com/a/b.png?x=1", "https").expect("an address");
        for (location, there) in [
            ("https://other.example/c", "https://other.example/c"),
            ("http://other.example/c", "none"),
            ("//other.example/c", "https://other.example/c"),
            ("/c?y=//z", "https://example.com/c?y=//z"),
            ("c.png", "https://example.com/a/c.png"),
            ("?x=2", "https://example.com/a/b.png?x=2"),
            ("/c?to=https://z", "https://example.com/c?to=https://z"),
            ("ftp://other.example/c", "none"),
            ("", "none"),
        ] {
            assert_eq!(shown(here.join(location)), there, "{location:?}");
        }
    }
}
