//! Where an upstream connection leads.

use std::fmt;

/// Scheme, host and port of an upstream: the part of a connection pool's key that a URL decides (RFC 6454).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    /// Whether TLS is spoken (`https`).
    pub tls: bool,
    /// Host name or address literal, lower case, IPv6 without brackets.
    pub host: Box<str>,
    /// TCP port.
    pub port: u16,
    /// The `Host` header's value: the port stands in it only where it is not the scheme's own (RFC 9110 section 7.2).
    pub authority: Box<str>,
}

impl Origin {
    /// Builds an origin from its parts; `host` may be given in any case, IPv6 with or without brackets.
    pub fn new(tls: bool, host: &str, port: u16) -> Self {
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_ascii_lowercase();
        let shown = if host.contains(':') {
            format!("[{host}]")
        } else {
            host.clone()
        };
        let default_port = if tls { 443 } else { 80 };
        let authority = if port == default_port {
            shown
        } else {
            format!("{shown}:{port}")
        };
        Self {
            tls,
            host: host.into(),
            port,
            authority: authority.into(),
        }
    }

    /// `https` or `http`.
    pub fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme(), self.authority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authority_omits_the_default_port() {
        assert_eq!(
            &*Origin::new(true, "API.openai.com", 443).authority,
            "api.openai.com"
        );
        assert_eq!(
            &*Origin::new(false, "api.openai.com", 443).authority,
            "api.openai.com:443"
        );
        assert_eq!(&*Origin::new(false, "[::1]", 9001).authority, "[::1]:9001");
        assert_eq!(Origin::new(true, "[::1]", 443).to_string(), "https://[::1]");
    }
}
