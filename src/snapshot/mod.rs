//! The immutable view that the data plane reads; every change publishes a new one, which shares with the one before it what
//! did not change.

mod published;
mod sharded;
mod tokens;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

pub use published::Published;
pub use sharded::Sharded;
pub use tokens::{Refusal, Token, Tokens};

use crate::config::{ErrorStatus, Secret};
use crate::limits::RETRY_DELAY;
use crate::meter::prices::Prices;
use crate::net::origin::Origin;
use crate::net::tls::UpstreamTls;
use crate::providers::Provider;
use crate::route::Graph;
use crate::seal::{Sealed, Sealer};
use crate::tables::rate::Limit;

/// A small map, copied whole.
pub type Map<K, V> = HashMap<K, V, ahash::RandomState>;

/// All that a request needs to know, as of one moment.
#[derive(Clone)]
pub struct Snapshot {
    /// The instance's account.
    pub account: Arc<str>,
    /// Gateways by id.
    pub gateways: Sharded<Box<str>, Arc<Gateway>>,
    /// Providers by every path segment that means them, aliases too.
    pub providers: Arc<Map<Box<str>, Arc<ProviderEntry>>>,
    /// Host names that lead to one gateway, and its id.
    pub domains: Arc<Map<Box<str>, Arc<str>>>,
    /// The tokens that open gateways.
    pub tokens: Arc<Tokens>,
    /// Opens stored keys.
    pub sealer: Arc<Sealer>,
    /// What models cost.
    pub prices: Arc<Prices>,
    /// Clocks, bounds and switches of the instance.
    pub settings: Arc<Settings>,
}

/// A gateway.
#[derive(Debug)]
pub struct Gateway {
    /// Its id, as in the path.
    pub id: Arc<str>,
    /// Whether a token is demanded.
    pub authentication: bool,
    /// Whether the instance's own keys never pay for it.
    pub byok_only: bool,
    /// Whether a stored key is used even where the request brings one.
    pub prefer_stored_keys: bool,
    /// What is logged of its requests.
    pub logs: LogSettings,
    /// How many requests it takes in a time.
    pub rate: Option<Limit>,
    /// How its answers are stored.
    pub cache: CacheSettings,
    /// How often a provider is tried.
    pub retries: RetrySettings,
    /// Whether answers tell where the time went, where the request does not say (`server_timing`).
    pub server_timing: bool,
    /// Its stored provider keys: sorted by provider, of each the default one first, the others by alias.
    pub keys: Box<[Arc<StoredKey>]>,
    /// Its dynamic routes that are deployed, by name.
    pub routes: Map<Box<str>, Arc<Route>>,
}

/// What a gateway says about its log entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSettings {
    /// Whether they are stored, where the request does not say (`collect_logs`).
    pub collect: bool,
    /// Whether with bodies, where the request does not say (`collect_log_payload`).
    pub payload: bool,
    /// How many are kept (`log_management`).
    pub most: u64,
    /// At that number: whether new ones are dropped rather than the oldest (`log_management_strategy`).
    pub stops: bool,
    /// Whether what looks like a key is taken out of stored bodies (`log_redaction`).
    pub redacts: bool,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            collect: true,
            payload: true,
            most: 10_000_000,
            stops: false,
            redacts: true,
        }
    }
}

/// What a gateway says about answers that are given out again (data plane 4, resolutions 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheSettings {
    /// How long they are, where the request does not say, in seconds; 0: they are not stored then (`cache_ttl`).
    pub ttl: u32,
    /// Whether streams are stored too (`cache_streams`).
    pub streams: bool,
    /// Whether a request that names a time is answered from the cache even so (`cache_ttl_header_opts_in`).
    pub ttl_header_opts_in: bool,
    /// Whether like requests at the same time wait for one answer together (`coalesce`).
    pub coalesce: bool,
    /// Tells what is stored now from what is forgotten. `None`: the gateway is not there yet, and nothing is stored for it.
    pub epoch: Option<u64>,
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self {
            ttl: 0,
            streams: true,
            ttl_header_opts_in: true,
            coalesce: false,
            epoch: None,
        }
    }
}

/// What a gateway says about tries, where the request does not (data plane 6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetrySettings {
    /// Tries in all (`retry_max_attempts`).
    pub tries: u8,
    /// The pause before the first retry (`retry_delay`).
    pub delay: Duration,
    /// How the pauses grow (`retry_backoff`).
    pub backoff: Backoff,
    /// Whether each pause is drawn from its upper half (`retry_jitter`).
    pub jitter: bool,
}

impl Default for RetrySettings {
    fn default() -> Self {
        Self {
            tries: 1,
            delay: RETRY_DELAY,
            backoff: Backoff::Constant,
            jitter: false,
        }
    }
}

/// How the pauses between tries grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Backoff {
    Constant,
    Linear,
    Exponential,
}

impl Backoff {
    /// Reads its name, in any case.
    pub fn parse(name: &str) -> Option<Self> {
        let named = [
            ("constant", Self::Constant),
            ("linear", Self::Linear),
            ("exponential", Self::Exponential),
        ];
        let found = named
            .into_iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, backoff)| backoff)
    }
}

/// A dynamic route as it is deployed.
#[derive(Debug)]
pub struct Route {
    /// Its id, which stays where the name changes.
    pub id: Arc<str>,
    /// What clients call it by, behind `dynamic/`.
    pub name: Arc<str>,
    /// The version deployed.
    pub version_id: Arc<str>,
    /// What it does.
    pub graph: Graph,
}

/// A provider key that a gateway keeps, sealed.
#[derive(Debug)]
pub struct StoredKey {
    /// The id of its configuration.
    pub id: Arc<str>,
    /// The provider's name, as in [`ProviderEntry::name`].
    pub provider: Box<str>,
    /// What it is called by in `cf-aig-byok-alias`.
    pub alias: Box<str>,
    /// Whether it is the one that is used where no alias is named.
    pub default: bool,
    /// The secret's id and name, to which it is sealed.
    pub secret: (Box<str>, Box<str>),
    /// The key itself.
    pub sealed: Sealed,
    /// How many requests it pays for in a time.
    pub rate: Option<Limit>,
}

impl Gateway {
    /// The stored key for a provider: that of `alias`, else the default one, else the one called `default`
    /// (control plane 6.1, resolutions 7).
    pub fn key(&self, provider: &str, alias: Option<&str>) -> Option<&Arc<StoredKey>> {
        let from = self.keys.partition_point(|key| &*key.provider < provider);
        let keys = &self.keys[from..];
        let keys = &keys[..keys.partition_point(|key| &*key.provider == provider)];
        let (first, others) = keys.split_first()?;
        let alias = match alias {
            None if first.default => return Some(first),
            None => "default",
            Some(alias) => alias,
        };
        if &*first.alias == alias {
            return Some(first);
        }
        let found = others
            .binary_search_by(|key| (*key.alias).cmp(alias))
            .ok()?;
        Some(&others[found])
    }
}

/// A provider as configured.
pub struct ProviderEntry {
    /// The name that stands in paths and logs: a slug or `custom-{slug}`.
    pub name: Arc<str>,
    /// Where it is.
    pub provider: Provider,
    /// Tells it from what it was before it was changed: its stored answers are forgotten then (control plane 6.3).
    pub revision: u64,
    /// The instance's own key for it.
    pub house_key: Option<Secret>,
    /// Headers that every request to it carries, each a name in lower case and a value.
    pub headers: Box<[(Box<str>, Box<str>)]>,
    /// The region of models that a body names, unless the credential says it.
    pub region: Option<Box<str>>,
    /// Their project, unless the credential says it.
    pub project: Option<Box<str>>,
}

/// What is set for the whole instance.
#[derive(Clone)]
pub struct Settings {
    /// How provider failures are told.
    pub error_status: ErrorStatus,
    /// The waits of a request.
    pub clocks: Clocks,
    /// Largest request body that is streamed through, bytes.
    pub body_max: u64,
    /// Whether media that requests name by address are fetched where the provider does not.
    pub media_fetch: bool,
    /// Whether house keys pay for requests without a gateway token.
    pub house_keys_unauthenticated: bool,
    /// The gateway `default` as it is made when an authenticated request first asks for it (control plane 2.3).
    pub default_gateway: Option<Arc<Gateway>>,
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
    fn a_key_is_found_by_provider_and_alias() {
        let key = |provider: &str, alias: &str, default| {
            Arc::new(StoredKey {
                id: format!("{provider} {alias}").into(),
                provider: provider.into(),
                alias: alias.into(),
                default,
                secret: ("".into(), "".into()),
                sealed: Sealed {
                    key_id: "".into(),
                    bytes: Box::default(),
                },
                rate: None,
            })
        };
        let gateway = Gateway {
            id: "g".into(),
            authentication: true,
            byok_only: false,
            prefer_stored_keys: false,
            logs: LogSettings::default(),
            rate: None,
            cache: CacheSettings::default(),
            retries: RetrySettings::default(),
            server_timing: false,
            keys: Box::new([
                key("groq", "a", false),
                key("groq", "default", false),
                key("groq", "z", false),
                key("openai", "m", true),
                key("openai", "default", false),
                key("openai", "z", false),
                key("xai", "a", false),
            ]),
            routes: Default::default(),
        };
        for (provider, alias, expected) in [
            ("groq", None, Some("groq default")),
            ("groq", Some("a"), Some("groq a")),
            ("groq", Some("z"), Some("groq z")),
            ("groq", Some("b"), None),
            ("openai", None, Some("openai m")),
            ("openai", Some("m"), Some("openai m")),
            ("openai", Some("default"), Some("openai default")),
            ("openai", Some("z"), Some("openai z")),
            ("xai", None, None),
            ("xai", Some("a"), Some("xai a")),
            ("anthropic", None, None),
            ("zzz", Some("a"), None),
        ] {
            let found = gateway.key(provider, alias).map(|key| &*key.id);
            assert_eq!(found, expected, "{provider} {alias:?}");
        }
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
            media_fetch: false,
            house_keys_unauthenticated: false,
            default_gateway: None,
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
