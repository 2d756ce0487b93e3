//! The configuration: flags, environment, `ringgate.toml` and defaults, parsed into types that hold no invalid value.

mod file;
mod load;
mod secret;
mod value;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

pub use file::{GATEWAY_KEYS, parse_file};
pub use load::{Origin, Shown, load, located, unknown_variables};
pub use secret::{Secret, SecretError, SecretSource};
pub use value::is_near;

use crate::meter::cost::Price;
use crate::meter::prices::ModelRule;
use crate::net::origin;
use crate::net::tls::Roots;
use crate::providers::{BaseUrl, Slug};

/// Everything that can be set.
#[derive(Debug, Clone)]
pub struct Config {
    /// The data plane.
    pub data: Data,
    /// Connections to providers.
    pub upstream: Upstream,
    /// The management listener.
    pub management: Management,
    /// Media that requests name by address.
    pub media: Media,
    /// The log store.
    pub logs: Logs,
    /// Stored answers.
    pub cache: Cache,
    /// The metrics page.
    pub metrics: Metrics,
    /// Figures of traffic.
    pub analytics: Analytics,
    /// `account.id`: `[A-Za-z0-9_-]{1,64}`; `None`: made and stored at the first start.
    pub account_id: Option<String>,
    /// Where state is kept.
    pub data_dir: PathBuf,
    /// Providers that differ from the built-in table, and custom ones.
    pub providers: Vec<ProviderConfig>,
    /// Prices that stand above the list's.
    pub prices: Vec<PriceConfig>,
    /// Declared gateways.
    pub gateways: Vec<GatewayConfig>,
    /// Whether the gateway `default` is made when it is first asked for.
    pub auto_create_default: bool,
    /// How clients reach the data listener, for the URLs that the API tells.
    pub public_url: Option<String>,
    /// The configuration file's name; empty where there is none.
    pub file: String,
    /// What deserves a second look.
    pub warnings: Vec<String>,
}

/// `[data]`.
#[derive(Debug, Clone)]
pub struct Data {
    /// Addresses served.
    pub listen: Vec<SocketAddr>,
    /// Data threads; 0: one a core.
    pub threads: usize,
    /// What the runtimes are built on.
    pub driver: Driver,
    /// How provider failures are told.
    pub error_status: ErrorStatus,
    /// Certificate and key, where TLS is spoken.
    pub tls: Option<TlsFiles>,
    /// Whether every connection begins with a PROXY protocol header.
    pub proxy_protocol: bool,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// How access lines are written.
    pub access_log: AccessLog,
    /// From the first byte of a request's head to its last.
    pub client_head: Duration,
    /// The longest silence within a request body.
    pub client_body_idle: Duration,
    /// The longest time a client may take nothing of an answer.
    pub client_write_stall: Duration,
    /// The longest pause between two requests of a connection.
    pub keep_alive: Duration,
    /// How long a drain may take.
    pub drain: Duration,
    /// Bytes of a request's head.
    pub head_bytes: usize,
    /// Header fields of a request's head.
    pub headers: usize,
    /// Bytes of a request body that is streamed through.
    pub body_max: u64,
    /// Client connections open at once; `None`: what the file limit allows.
    pub connections: Option<usize>,
    /// Whether house keys pay for requests without a gateway token.
    pub house_keys_unauthenticated: bool,
}

/// `data.driver`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// io_uring where it works, else epoll.
    Auto,
    /// epoll.
    Epoll,
    /// io_uring, or no start.
    Uring,
    /// Every other thread on epoll: for tests of one beside the other.
    Mixed,
}

/// `data.error_status`: what a failed provider (code 2005) is told as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorStatus {
    /// 400, as Cloudflare does.
    Strict,
    /// 502, or 504 for timeouts: SDKs try again then.
    Semantic,
}

/// `data.access_log`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessLog {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
    /// None.
    Off,
}

/// `[data.tls]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

/// `[upstream]`.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// Resolution, TCP and TLS of a new connection.
    pub connect: Duration,
    /// From the request to the complete head of the answer.
    pub response_head: Duration,
    /// The longest silence within an answer.
    pub stream_idle: Duration,
    /// The whole request; `None`: unbounded.
    pub total: Option<Duration>,
    /// How long an unused connection is kept.
    pub keep_alive: Duration,
    /// Connections of one thread to one origin.
    pub connections_per_origin: usize,
    /// The same over all threads; `None`: only each thread's bound counts.
    pub connections_per_origin_total: Option<usize>,
    /// Names that stand for these addresses, whatever the system says.
    pub hosts: Vec<(Box<str>, Vec<IpAddr>)>,
    /// Which authorities are trusted.
    pub roots: Roots,
    /// Further authorities, PEM.
    pub ca_file: Option<PathBuf>,
    /// An HTTP proxy for every connection.
    pub proxy: Option<Arc<origin::Origin>>,
}

/// `[management]`.
#[derive(Debug, Clone)]
pub struct Management {
    /// The address of the management listener.
    pub listen: SocketAddr,
    /// Whether it may be reached from other machines without TLS.
    pub allow_plaintext: bool,
}

/// `[media]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Media {
    /// Whether the gateway fetches them where the provider does not.
    pub fetch: bool,
}

/// `[logs]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logs {
    /// Bytes of disk; `None`: as much as the volume's size allows.
    pub disk_max: Option<u64>,
    /// Days of entries; `None`: no bound.
    pub max_age_days: Option<u32>,
    /// Days of bodies; `None`: as long as their entries.
    pub body_max_age_days: Option<u32>,
}

/// `[cache]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cache {
    /// Bytes of memory; `None`: a part of the machine's.
    pub memory_bytes: Option<u64>,
    /// Bytes of disk behind it; 0: none.
    pub disk_bytes: u64,
}

/// `[metrics]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metrics {
    /// Sets of labels; what comes after them is counted as `other`.
    pub max_series: usize,
}

/// `[analytics]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Analytics {
    /// The pair of the metadata that names the user.
    pub user_key: String,
}

/// `[providers.NAME]`.
#[derive(Debug, Clone)]
pub struct ProviderConfig {
    /// A slug, or `custom-{slug}`.
    pub name: String,
    /// What it is.
    pub slug: Slug,
    /// Stands in for the provider's own root.
    pub base_url: Option<BaseUrl>,
    /// Where the house key is.
    pub api_key: Option<SecretSource>,
    /// Where models are called that a body names, unless the credential says it (Bedrock, Vertex).
    pub region: Option<String>,
    /// Whose models they are there, unless the credential says it (Vertex).
    pub project: Option<String>,
}

/// `[prices.PROVIDER.MODEL]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceConfig {
    /// The provider's name.
    pub provider: String,
    /// The model's name, or a part of it.
    pub model: String,
    /// How that is compared.
    pub rule: ModelRule,
    /// What it costs.
    pub price: Price,
}

/// `[gateways.ID]`.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// 1 to 64 of `[A-Za-z0-9_-]`.
    pub id: String,
    /// Where it stands in the file.
    pub line: usize,
    /// Its settings, named as in the management API and checked with them.
    pub settings: serde_json::Map<String, serde_json::Value>,
}

impl GatewayConfig {
    /// Whether requests without a token are let in.
    pub fn is_open(&self) -> bool {
        self.settings.get("authentication") == Some(&serde_json::Value::Bool(false))
    }
}

/// The flags that `serve`, `check` and `demo` share. Each also stands in the environment as `RINGGATE_*` and in the file.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Flags {
    /// Configuration file (TOML) [env: RINGGATE_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address to serve on; may be repeated [env: RINGGATE_LISTEN] [default: 127.0.0.1:8787]
    #[arg(long, value_name = "ADDR")]
    pub listen: Vec<String>,
    /// Address of the management listener [env: RINGGATE_MANAGEMENT_LISTEN] [default: 127.0.0.1:8788]
    #[arg(long, value_name = "ADDR")]
    pub management_listen: Option<String>,
    /// Where state is kept [env: RINGGATE_DATA_DIR] [default: ./ringgate-data]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// Data threads; 0: one a core [env: RINGGATE_THREADS] [default: 0]
    #[arg(long, value_name = "N")]
    pub threads: Option<String>,
    /// auto, epoll or uring [env: RINGGATE_DRIVER] [default: auto]
    #[arg(long, value_name = "DRIVER")]
    pub driver: Option<String>,
    /// The account in every path [env: RINGGATE_ACCOUNT_ID] [default: made at the first start]
    #[arg(long, value_name = "ID")]
    pub account_id: Option<String>,
    /// text, json or off [env: RINGGATE_ACCESS_LOG] [default: text]
    #[arg(long, value_name = "FORMAT")]
    pub access_log: Option<String>,
}

/// What is wrong, each with where it stands and the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ConfigError(pub Vec<String>);
