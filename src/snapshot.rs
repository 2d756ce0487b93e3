//! The immutable view that the data plane reads; every change publishes a new one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use sha2::{Digest, Sha256};

use crate::config::{ErrorStatus, Secret};
use crate::net::origin::Origin;
use crate::net::tls::UpstreamTls;
use crate::providers::Provider;

type Map<K, V> = HashMap<K, V, ahash::RandomState>;

/// All that a request needs to know, as of one moment.
pub struct Snapshot {
    /// The instance's account.
    pub account: Arc<str>,
    /// Gateways by id.
    pub gateways: Map<Box<str>, Arc<Gateway>>,
    /// Providers by every path segment that means them, aliases too.
    pub providers: Map<Box<str>, Arc<ProviderEntry>>,
    /// The tokens that open gateways.
    pub tokens: Arc<Tokens>,
    /// Clocks, bounds and switches of the instance.
    pub settings: Arc<Settings>,
}

/// A gateway.
pub struct Gateway {
    /// Its id, as in the path.
    pub id: Arc<str>,
    /// Whether a token is demanded.
    pub authentication: bool,
}

/// A provider as configured.
pub struct ProviderEntry {
    /// The name that stands in paths and logs: a slug or `custom-{slug}`.
    pub name: Arc<str>,
    /// Where it is.
    pub provider: Provider,
    /// The instance's own key for it.
    pub house_key: Option<Secret>,
}

/// What is set for the whole instance.
pub struct Settings {
    /// How provider failures are told.
    pub error_status: ErrorStatus,
    /// The waits of a request.
    pub clocks: Clocks,
    /// Largest request body that is streamed through, bytes.
    pub body_max: u64,
    /// Whether house keys pay for requests without a gateway token.
    pub house_keys_unauthenticated: bool,
    /// Addresses whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Trust anchors and sessions towards providers.
    pub tls: UpstreamTls,
    /// A proxy for every upstream connection.
    pub proxy: Option<Arc<Origin>>,
    /// Tells connections opened under these two settings from others.
    pub generation: u64,
}

/// The clocks of resolutions 20.
#[derive(Debug, Clone, Copy)]
pub struct Clocks {
    /// Resolution, TCP and TLS of a new upstream connection.
    pub connect: Duration,
    /// From the request to the complete head of the answer.
    pub response_head: Duration,
    /// The longest silence within an answer.
    pub stream_idle: Duration,
    /// The whole request; `None`: unbounded.
    pub total: Option<Duration>,
    /// The longest silence within a request body.
    pub client_body_idle: Duration,
    /// The longest time a client takes nothing of what is written to it.
    pub client_write_stall: Duration,
}

/// The gateway tokens, by their digests.
#[derive(Debug, Default)]
pub struct Tokens {
    digests: Vec<[u8; 32]>,
    /// Lengths that occur: most header values are told apart without hashing.
    lengths: Vec<usize>,
}

impl Tokens {
    /// Of these tokens, each in clear.
    pub fn new<'a>(tokens: impl IntoIterator<Item = &'a str>) -> Self {
        let mut built = Self::default();
        for token in tokens {
            built.digests.push(Sha256::digest(token).into());
            if !built.lengths.contains(&token.len()) {
                built.lengths.push(token.len());
            }
        }
        built.digests.sort_unstable();
        built
    }

    /// Whether `value` is a token.
    pub fn contains(&self, value: &[u8]) -> bool {
        self.lengths.contains(&value.len())
            && self
                .digests
                .binary_search(&Sha256::digest(value).into())
                .is_ok()
    }

    /// Whether there is none: gateways without authentication stand open then.
    pub fn is_empty(&self) -> bool {
        self.digests.is_empty()
    }
}

impl Settings {
    /// The client's address: behind trusted proxies the last address of `X-Forwarded-For` that is not itself trusted.
    pub fn client_address<'a>(
        &self,
        peer: IpAddr,
        forwarded: impl Iterator<Item = &'a [u8]>,
    ) -> IpAddr {
        let trusted =
            |address: &IpAddr| self.trusted_proxies.iter().any(|net| net.contains(address));
        let peer = peer.to_canonical();
        if self.trusted_proxies.is_empty() || !trusted(&peer) {
            return peer;
        }
        let mut client = peer;
        let listed: Vec<&[u8]> = forwarded
            .flat_map(|value| value.split(|byte| *byte == b','))
            .collect();
        for text in listed.into_iter().rev() {
            let parsed = std::str::from_utf8(text.trim_ascii()).ok();
            let Some(address) = parsed.and_then(|text| text.parse::<IpAddr>().ok()) else {
                return client;
            };
            client = address.to_canonical();
            if !trusted(&client) {
                return client;
            }
        }
        client
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::tls::Roots;

    #[test]
    fn tokens_are_found_by_their_digest() {
        let tokens = Tokens::new(["secret-one", "other"]);
        assert!(tokens.contains(b"secret-one") && tokens.contains(b"other"));
        assert!(!tokens.contains(b"secret-two") && !tokens.contains(b""));
        assert!(Tokens::default().is_empty() && !Tokens::default().contains(b""));
    }

    #[test]
    fn forwarded_addresses_count_behind_trusted_proxies_only() {
        let settings = |nets: &[&str]| Settings {
            error_status: ErrorStatus::Strict,
            clocks: Clocks {
                connect: Duration::ZERO,
                response_head: Duration::ZERO,
                stream_idle: Duration::ZERO,
                total: None,
                client_body_idle: Duration::ZERO,
                client_write_stall: Duration::ZERO,
            },
            body_max: 0,
            house_keys_unauthenticated: false,
            trusted_proxies: nets.iter().map(|net| net.parse().expect("a net")).collect(),
            tls: UpstreamTls::build(Roots::Bundled, None).expect("roots"),
            proxy: None,
            generation: 0,
        };
        let client = |nets: &[&str], peer: &str, forwarded: &[&str]| {
            let values = forwarded.iter().map(|value| value.as_bytes());
            settings(nets)
                .client_address(peer.parse().expect("an address"), values)
                .to_string()
        };
        let nets = &["10.0.0.0/8"];
        assert_eq!(client(&[], "10.0.0.1", &["1.2.3.4"]), "10.0.0.1");
        assert_eq!(client(nets, "9.9.9.9", &["1.2.3.4"]), "9.9.9.9");
        assert_eq!(client(nets, "10.0.0.1", &["1.2.3.4"]), "1.2.3.4");
        assert_eq!(
            client(nets, "::ffff:10.0.0.1", &["6.6.6.6, 1.2.3.4", "10.0.0.7"]),
            "1.2.3.4"
        );
        assert_eq!(client(nets, "10.0.0.1", &["junk"]), "10.0.0.1");
        assert_eq!(client(nets, "10.0.0.1", &[]), "10.0.0.1");
    }
}
