//! Puts the sources together: flag, environment, file, default (resolutions 34).

use std::fmt;

use super::file::{Entry, GATEWAY_KEYS, parse_file};
use super::value;
use super::{
    Analytics, Cache, Config, ConfigError, Data, Flags, GatewayConfig, Logs, Management, Media,
    Metrics, PriceConfig, ProviderConfig, SecretSource, TlsFiles, Upstream,
};
use crate::limits::{
    CACHE_DISK_MIN, CACHE_MEMORY_MIN, CONFIG_BYTES_MAX, DEFAULT_GATEWAY, HEAD_BYTES_MAX,
    HEADERS_MAX, LOG_BODY_DAYS_DEFAULT, LOG_DAYS_DEFAULT, LOG_DISK_MIN, METRICS_SERIES_MAX,
};
use crate::meter::cost::Price;
use crate::meter::prices::ModelRule;
use crate::providers::Slug;

/// Settings of a gateway that have an effect; all others are checked, stored and told until their feature is there.
const EFFECTIVE_SETTINGS: [&str; 14] = [
    "authentication",
    "byok_only",
    "cache_invalidate_on_update",
    "cache_streams",
    "cache_ttl",
    "cache_ttl_header_opts_in",
    "coalesce",
    "collect_log_payload",
    "collect_logs",
    "log_management",
    "log_management_strategy",
    "log_redaction",
    "prefer_stored_keys",
    "server_timing",
];

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A command-line flag.
    Flag(&'static str),
    /// An environment variable.
    Environment(String),
    /// A line of the file.
    File(String, usize),
    /// Nothing else said so.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Environment(name) => f.write_str(name),
            Self::File(file, line) => write!(f, "{file}:{line}"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A value as `check` prints it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Its key.
    pub key: String,
    /// Its text; of a secret only where it is.
    pub value: String,
    /// Where it comes from.
    pub origin: Origin,
}

/// Reads everything. All that is wrong is told at once.
pub fn load(
    flags: &Flags,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<(Config, Vec<Shown>), ConfigError> {
    // An empty variable counts as one that is not set: that is how compose and unit files leave one out.
    let environment = &|name: &str| environment(name).filter(|text| !text.is_empty());
    let (file, name, entries) = read_file(flags, environment)?;
    let mut sources = Sources {
        flags,
        environment,
        name,
        entries,
        shown: vec![file],
        errors: Vec::new(),
        warnings: Vec::new(),
    };
    let config = sources.config();
    match config {
        Some(mut config) if sources.errors.is_empty() => {
            config.warnings = sources.warnings;
            Ok((config, sources.shown))
        }
        _ => Err(ConfigError(sources.errors)),
    }
}

fn read_file(
    flags: &Flags,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<(Shown, String, Vec<Entry>), ConfigError> {
    let shown = |value: &str, origin| Shown {
        key: "(file)".to_owned(),
        value: value.to_owned(),
        origin,
    };
    let (path, origin): (std::path::PathBuf, _) = match &flags.config {
        Some(path) => (path.clone(), Origin::Flag("--config")),
        None => match environment(CONFIG_VARIABLE) {
            Some(path) => (path.into(), Origin::Environment(CONFIG_VARIABLE.to_owned())),
            None => {
                let none = shown("(none)", Origin::Default);
                return Ok((none, String::new(), Vec::new()));
            }
        },
    };
    let name = path.display().to_string();
    let failed = |reason: String| ConfigError(vec![format!("{name}: {reason}")]);
    let length = std::fs::metadata(&path)
        .map_err(|error| failed(error.to_string()))?
        .len();
    if length > CONFIG_BYTES_MAX {
        return Err(failed(format!("is longer than {CONFIG_BYTES_MAX} bytes")));
    }
    let text = std::fs::read_to_string(&path).map_err(|error| failed(error.to_string()))?;
    let entries = parse_file(&text, &name)?;
    Ok((shown(&name, origin), name, entries))
}

struct Sources<'a> {
    flags: &'a Flags,
    environment: &'a dyn Fn(&str) -> Option<String>,
    name: String,
    entries: Vec<Entry>,
    shown: Vec<Shown>,
    errors: Vec<String>,
    warnings: Vec<String>,
}

impl Sources<'_> {
    /// `None` only where an error was noted.
    fn config(&mut self) -> Option<Config> {
        let data = self.data();
        let upstream = self.upstream();
        let management = self.management();
        let media = self.one("media.fetch", "false", value::boolean);
        let logs = self.logs();
        let cache = self.cache();
        let max_series = self.one("metrics.max_series", "1000", |text| {
            value::number(text, 1, METRICS_SERIES_MAX)
        });
        let user_key = self.one("analytics.user_key", "user_id", value::metadata_key);
        let account_id = self.optional("account.id", "made at the first start", value::id);
        let data_dir = self.one("data_dir", "./ringgate-data", value::path);
        let providers = self.providers();
        let prices = self.prices();
        let gateways = self.gateways();
        let auto_create = self.one("gateways.auto_create_default", "true", value::boolean);
        let public_url = self.optional(
            "public_url",
            "as the request names the host",
            value::public_url,
        );
        let config = Config {
            data: data?,
            upstream: upstream?,
            management: management?,
            media: Media { fetch: media? },
            logs: logs?,
            cache: cache?,
            metrics: Metrics {
                max_series: max_series?,
            },
            analytics: Analytics {
                user_key: user_key?,
            },
            account_id,
            data_dir: data_dir?,
            providers,
            prices,
            gateways,
            auto_create_default: auto_create?,
            public_url,
            file: self.name.clone(),
            warnings: Vec::new(),
        };
        self.warn_of_open_relay(&config);
        Some(config)
    }

    fn data(&mut self) -> Option<Data> {
        let listen = self.many("data.listen", &["127.0.0.1:8787"], value::address);
        let threads = self.one("data.threads", "0", value::threads);
        let driver = self.one("data.driver", "auto", value::driver);
        let error_status = self.one("data.error_status", "strict", value::error_status);
        let certificate = self.optional("data.tls.certificate", "off", value::readable);
        let key = self.optional("data.tls.key", "off", value::readable);
        let proxy_protocol = self.one("data.proxy_protocol", "false", value::boolean);
        let trusted_proxies = self.many("data.trusted_proxies", &[], value::network);
        let access_log = self.one("data.access_log", "text", value::access_log);
        let client_head = self.one("data.client_head", "30s", value::duration);
        let client_body_idle = self.one("data.client_body_idle", "60s", value::duration);
        let client_write_stall = self.one("data.client_write_stall", "60s", value::duration);
        let keep_alive = self.one("data.keep_alive", "75s", value::duration);
        let drain = self.one("data.drain", "30s", value::duration);
        let head_bytes = self.one("data.head_bytes", "64KiB", |text| {
            value::size(text, 1024, HEAD_BYTES_MAX as u64)
        });
        let headers = self.one("data.headers", "128", |text| {
            value::number(text, 8, HEADERS_MAX)
        });
        let body_max = self.one("data.body_max", "512MiB", |text| {
            value::size(text, 1, 1 << 50)
        });
        let connections = self.optional("data.connections", "as the file limit allows", |text| {
            value::number(text, 1, 10_000_000)
        });
        let unauthenticated = self.one("data.house_keys_unauthenticated", "false", value::boolean);
        let tls = match (certificate, key) {
            (Some(certificate), Some(key)) => Some(TlsFiles { certificate, key }),
            (None, None) => None,
            (certificate, _) => {
                let (given, missing) = match certificate {
                    Some(_) => ("data.tls.certificate", "data.tls.key"),
                    None => ("data.tls.key", "data.tls.certificate"),
                };
                // Where the other one is wrong by itself, that was told.
                if self.raw(missing).is_none() {
                    self.wrong(&self.origin(given), given, &format!("needs {missing} too"));
                }
                None
            }
        };
        let listen = listen?;
        if listen.is_empty() {
            let key = "data.listen";
            self.wrong(&self.origin(key), key, "needs at least one address");
        }
        Some(Data {
            listen,
            threads: threads?,
            driver: driver?,
            error_status: error_status?,
            tls,
            proxy_protocol: proxy_protocol?,
            trusted_proxies: trusted_proxies?,
            access_log: access_log?,
            client_head: client_head?,
            client_body_idle: client_body_idle?,
            client_write_stall: client_write_stall?,
            keep_alive: keep_alive?,
            drain: drain?,
            head_bytes: head_bytes? as usize,
            headers: headers?,
            body_max: body_max?,
            connections,
            house_keys_unauthenticated: unauthenticated?,
        })
    }

    fn upstream(&mut self) -> Option<Upstream> {
        let connect = self.one("upstream.connect", "10s", value::duration);
        let response_head = self.one("upstream.response_head", "600s", value::duration);
        let stream_idle = self.one("upstream.stream_idle", "600s", value::duration);
        let total = self.one("upstream.total", "off", value::optional_duration);
        let keep_alive = self.one("upstream.keep_alive", "50s", value::duration);
        let connections = self.one("upstream.connections_per_origin", "1024", |text| {
            value::number(text, 1, 1_000_000)
        });
        let together = self.optional(
            "upstream.connections_per_origin_total",
            "unbounded",
            |text| value::number(text, 1, 100_000_000),
        );
        let hosts = self.many("upstream.hosts", &[], value::host);
        let roots = self.one("upstream.roots", "bundled", value::roots);
        let ca_file = self.optional("upstream.ca_file", "none", value::readable);
        let proxy = self.one("upstream.proxy", "off", value::proxy);
        Some(Upstream {
            connect: connect?,
            response_head: response_head?,
            stream_idle: stream_idle?,
            total: total?,
            keep_alive: keep_alive?,
            connections_per_origin: connections?,
            connections_per_origin_total: together,
            hosts: hosts?,
            roots: roots?,
            ca_file,
            proxy: proxy?,
        })
    }

    fn management(&mut self) -> Option<Management> {
        let listen = self.one("management.listen", "127.0.0.1:8788", value::address);
        let allow_plaintext = self.one("management.allow_plaintext", "false", value::boolean);
        let (listen, allow_plaintext) = (listen?, allow_plaintext?);
        if !listen.ip().is_loopback() && !allow_plaintext {
            let key = "management.listen";
            let problem = format!(
                "{listen} can be reached from other machines, in clear text; keep it on a loopback address or set management.allow_plaintext = true"
            );
            self.wrong(&self.origin(key), key, &problem);
        }
        Some(Management {
            listen,
            allow_plaintext,
        })
    }

    fn logs(&mut self) -> Option<Logs> {
        let disk_max = self.optional(
            "logs.disk_max",
            "20 GiB, at most 20 % of the volume",
            |text| value::size(text, LOG_DISK_MIN, 1 << 50),
        );
        let days = LOG_DAYS_DEFAULT.to_string();
        let max_age_days = self.one("logs.max_age_days", &days, value::days);
        let days = LOG_BODY_DAYS_DEFAULT.to_string();
        let body_max_age_days = self.one("logs.body_max_age_days", &days, value::days);
        Some(Logs {
            disk_max,
            max_age_days: max_age_days?,
            body_max_age_days: body_max_age_days?,
        })
    }

    fn cache(&mut self) -> Option<Cache> {
        let memory_bytes = self.optional(
            "cache.memory_bytes",
            "a sixteenth of the memory, 32 MiB to 1 GiB",
            |text| value::size(text, CACHE_MEMORY_MIN, 1 << 44),
        );
        let disk_bytes = self.one("cache.disk_bytes", "0", |text| match text {
            "0" => Ok(0),
            text => value::size(text, CACHE_DISK_MIN, 1 << 50)
                .map_err(|error| format!("{error}, or 0 for none")),
        });
        Some(Cache {
            memory_bytes,
            disk_bytes: disk_bytes?,
        })
    }

    fn providers(&mut self) -> Vec<ProviderConfig> {
        let mut configured = Vec::new();
        for name in self.names_below("providers") {
            let slug = Slug::parse(&name).unwrap_or(Slug::Custom);
            let key = |leaf: &str| format!("providers.{name}.{leaf}");
            let allow_insecure = match self.file_entry(&key("allow_insecure")) {
                Some(_) => self
                    .one(&key("allow_insecure"), "false", value::boolean)
                    .unwrap_or(false),
                None => false,
            };
            let base_url = match self.file_entry(&key("base_url")) {
                Some(_) => self.one(&key("base_url"), "", |text| {
                    value::base_url(text, allow_insecure)
                }),
                None if slug == Slug::Custom => {
                    let line = self.line_of("providers", &name);
                    self.errors.push(format!(
                        "{}:{line}: providers.{name}: needs a base_url",
                        self.name
                    ));
                    None
                }
                None => None,
            };
            let api_key = match self.file_entry(&key("api_key")) {
                Some(_) => self.one(&key("api_key"), "", SecretSource::parse),
                None => None,
            };
            let region = match self.file_entry(&key("region")) {
                Some(_) => self.one(&key("region"), "", value::region),
                None => None,
            };
            let project = match self.file_entry(&key("project")) {
                Some(_) => self.one(&key("project"), "", value::project),
                None => None,
            };
            configured.push(ProviderConfig {
                name,
                slug,
                base_url,
                api_key,
                region,
                project,
            });
        }
        configured
    }

    fn prices(&mut self) -> Vec<PriceConfig> {
        let entries: Vec<Entry> = self
            .entries
            .iter()
            .filter(|entry| entry.path.len() > 2 && entry.path[0] == "prices")
            .cloned()
            .collect();
        let mut declared = Vec::new();
        let named = entries.iter().filter(|entry| entry.path.len() == 3);
        let mut named: Vec<&Entry> = named.collect();
        named.sort_by_key(|entry| entry.line);
        for named in named {
            let mut price = PriceConfig {
                provider: named.path[1].clone(),
                model: named.path[2].clone(),
                rule: ModelRule::Equals,
                price: Price::default(),
            };
            let of = |entry: &&Entry| entry.path.len() == 4 && entry.path[..3] == named.path[..];
            for entry in entries.iter().filter(of) {
                let (key, origin) = (
                    entry.path.join("."),
                    Origin::File(self.name.clone(), entry.line),
                );
                let text = match &entry.texts[..] {
                    [text] if !entry.list => text,
                    _ => {
                        self.wrong(&origin, &key, "takes one value");
                        continue;
                    }
                };
                match value::price(&mut price, &entry.path[3], text) {
                    Ok(()) => self.show(&key, text.clone(), origin),
                    Err(problem) => self.wrong(&origin, &key, &problem),
                }
            }
            if price.price == Price::default() {
                let (key, origin) = (
                    named.path.join("."),
                    Origin::File(self.name.clone(), named.line),
                );
                self.wrong(&origin, &key, "names no price");
            }
            declared.push(price);
        }
        declared
    }

    fn gateways(&mut self) -> Vec<GatewayConfig> {
        let mut declared = Vec::new();
        for id in self.names_below("gateways") {
            let below = |entry: &&Entry| {
                entry.path.len() == 3 && entry.path[0] == "gateways" && entry.path[1] == id
            };
            let entries: Vec<Entry> = self.entries.iter().filter(below).cloned().collect();
            let mut settings = serde_json::Map::new();
            for entry in entries {
                let origin = Origin::File(self.name.clone(), entry.line);
                self.show(&entry.path.join("."), entry.texts.join(", "), origin);
                settings.insert(entry.path[2].clone(), entry.json);
            }
            if !settings.contains_key("authentication") {
                self.show_demanded(&id);
            }
            let idle = |key: &&str| !EFFECTIVE_SETTINGS.contains(key);
            let idle: Vec<&str> = GATEWAY_KEYS.into_iter().filter(idle).collect();
            self.warn_of_idle("gateways", &id, &idle);
            let line = self.line_of("gateways", &id);
            declared.push(GatewayConfig { id, line, settings });
        }
        if !declared.iter().any(|gateway| gateway.id == DEFAULT_GATEWAY) {
            self.show_demanded(DEFAULT_GATEWAY);
        }
        declared
    }

    /// A token is demanded wherever nothing else is said.
    fn show_demanded(&mut self, gateway: &str) {
        let key = format!("gateways.{gateway}.authentication");
        self.show(&key, "true".to_owned(), Origin::Default);
    }

    /// Keys that are known and not yet built.
    fn warn_of_idle(&mut self, table: &str, name: &str, keys: &[&str]) {
        let idle = self
            .entries
            .iter()
            .filter(|entry| matches!(&entry.path[..], [first, second, key] if first == table && second == name && keys.contains(&key.as_str())))
            .map(|entry| {
                let (line, key) = (entry.line, entry.path.join("."));
                format!("{}:{line}: {key} has no effect yet", self.name)
            });
        self.warnings.extend(idle.collect::<Vec<_>>());
    }

    /// An open gateway that others can reach while provider keys are kept here (resolutions 32).
    fn warn_of_open_relay(&mut self, config: &Config) {
        let reachable = config
            .data
            .listen
            .iter()
            .any(|address| !address.ip().is_loopback());
        let keys = config
            .providers
            .iter()
            .any(|provider| provider.api_key.is_some());
        let open: Vec<&str> = config
            .gateways
            .iter()
            .filter(|gateway| gateway.is_open())
            .map(|gateway| gateway.id.as_str())
            .collect();
        if !reachable || !keys || open.is_empty() {
            return;
        }
        let consequence = match config.data.house_keys_unauthenticated {
            true => "anyone who finds it spends your money",
            false => {
                "anyone who finds it can send requests through it; your keys would pay for them with data.house_keys_unauthenticated"
            }
        };
        self.warnings.push(format!(
            "OPEN RELAY: other machines can reach the data listener, provider keys are configured, and no token is asked for at gateway {}: {consequence}",
            open.join(", ")
        ));
    }

    /// The value of a key that holds one.
    fn one<T>(
        &mut self,
        key: &str,
        default: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let (texts, list, origin) =
            self.raw(key)
                .unwrap_or((vec![default.to_owned()], false, Origin::Default));
        let [text] = &texts[..] else {
            self.wrong(&origin, key, "takes one value");
            return None;
        };
        if list && !matches!(origin, Origin::Flag(_) | Origin::Environment(_)) {
            self.wrong(&origin, key, "takes one value, not a list");
            return None;
        }
        match parse(text) {
            Ok(value) => {
                self.show(key, text.clone(), origin);
                Some(value)
            }
            Err(problem) => {
                self.wrong(&origin, key, &problem);
                None
            }
        }
    }

    /// The value of a key that may be unset; `unset` is how that is shown.
    fn optional<T>(
        &mut self,
        key: &str,
        unset: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        if self.raw(key).is_none() {
            self.show(key, format!("({unset})"), Origin::Default);
            return None;
        }
        self.one(key, "", parse)
    }

    /// The values of a key that holds a list.
    fn many<T>(
        &mut self,
        key: &str,
        default: &[&str],
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let default = default.iter().map(|text| (*text).to_owned()).collect();
        let (texts, _, origin) = self.raw(key).unwrap_or((default, true, Origin::Default));
        let mut values = Vec::with_capacity(texts.len());
        for text in &texts {
            match parse(text) {
                Ok(value) => values.push(value),
                Err(problem) => {
                    self.wrong(&origin, key, &format!("{text:?}: {problem}"));
                    return None;
                }
            }
        }
        let shown = if texts.is_empty() {
            "(none)".to_owned()
        } else {
            texts.join(", ")
        };
        self.show(key, shown, origin);
        Some(values)
    }

    fn raw(&self, key: &str) -> Option<(Vec<String>, bool, Origin)> {
        if let Some((texts, flag)) = self.flag(key) {
            return Some((texts, true, Origin::Flag(flag)));
        }
        if let Some(name) = environment_name(key)
            && let Some(text) = (self.environment)(name)
        {
            let texts = text.split(',').map(|part| part.trim().to_owned()).collect();
            return Some((texts, true, Origin::Environment(name.to_owned())));
        }
        let entry = self.file_entry(key)?;
        let origin = Origin::File(self.name.clone(), entry.line);
        Some((entry.texts.clone(), entry.list, origin))
    }

    /// Where a key's value comes from.
    fn origin(&self, key: &str) -> Origin {
        self.raw(key)
            .map_or(Origin::Default, |(_, _, origin)| origin)
    }

    fn flag(&self, key: &str) -> Option<(Vec<String>, &'static str)> {
        let flags = self.flags;
        let (value, name) = match key {
            "data.listen" if flags.listen.is_empty() => return None,
            "data.listen" => return Some((flags.listen.clone(), "--listen")),
            "management.listen" => (&flags.management_listen, "--management-listen"),
            "data_dir" => (&flags.data_dir, "--data-dir"),
            "data.threads" => (&flags.threads, "--threads"),
            "data.driver" => (&flags.driver, "--driver"),
            "account.id" => (&flags.account_id, "--account-id"),
            "data.access_log" => (&flags.access_log, "--access-log"),
            _ => return None,
        };
        Some((vec![value.clone()?], name))
    }

    fn file_entry(&self, key: &str) -> Option<&Entry> {
        let same = |entry: &&Entry| entry.path.iter().map(String::as_str).eq(split_key(key));
        self.entries.iter().find(same)
    }

    /// The tables below `table`, in the file's order.
    fn names_below(&self, table: &str) -> Vec<String> {
        let mut names: Vec<(usize, String)> = Vec::new();
        for entry in self
            .entries
            .iter()
            .filter(|entry| entry.path.len() > 1 && entry.path[0] == table)
        {
            if !names.iter().any(|(_, name)| *name == entry.path[1]) {
                names.push((entry.line, entry.path[1].clone()));
            }
        }
        names.sort();
        names.into_iter().map(|(_, name)| name).collect()
    }

    fn line_of(&self, table: &str, name: &str) -> usize {
        let below = self
            .entries
            .iter()
            .filter(|entry| entry.path[0] == table && entry.path.get(1).is_some_and(|n| n == name));
        below.map(|entry| entry.line).min().unwrap_or(1)
    }

    fn show(&mut self, key: &str, value: String, origin: Origin) {
        let value = match key.ends_with(".api_key") {
            true => SecretSource::parse(&value).map_or(String::new(), |source| {
                format!("{source} ({})", source.state())
            }),
            false => value,
        };
        self.shown.push(Shown {
            key: key.to_owned(),
            value,
            origin,
        });
    }

    fn wrong(&mut self, origin: &Origin, key: &str, problem: &str) {
        self.errors.push(match origin {
            Origin::File(file, line) => format!("{file}:{line}: {key}: {problem}"),
            Origin::Default => format!("{key}: {problem}"),
            origin => format!("{origin}: {problem}"),
        });
    }
}

/// Names of providers and gateways may hold dots; the fixed keys do not.
fn split_key(key: &str) -> Vec<&str> {
    match key.split_once('.') {
        Some((table @ ("providers" | "gateways"), rest)) => match rest.rsplit_once('.') {
            Some((name, leaf)) => vec![table, name, leaf],
            None => vec![table, rest],
        },
        _ => key.split('.').collect(),
    }
}

/// The keys that the environment can set.
const ENVIRONMENT: [(&str, &str); 8] = [
    ("data.listen", "RINGGATE_LISTEN"),
    ("management.listen", "RINGGATE_MANAGEMENT_LISTEN"),
    ("data_dir", "RINGGATE_DATA_DIR"),
    ("data.threads", "RINGGATE_THREADS"),
    ("data.driver", "RINGGATE_DRIVER"),
    ("account.id", "RINGGATE_ACCOUNT_ID"),
    ("data.access_log", "RINGGATE_ACCESS_LOG"),
    ("data.error_status", "RINGGATE_ERROR_STATUS"),
];

const CONFIG_VARIABLE: &str = "RINGGATE_CONFIG";

/// The first token; read by `serve`, never shown.
const SECRET_VARIABLES: [&str; 4] = [
    "RINGGATE_BOOTSTRAP_TOKEN",
    "RINGGATE_BOOTSTRAP_TOKEN_FILE",
    "RINGGATE_MASTER_KEY",
    "RINGGATE_MASTER_KEY_FILE",
];

fn environment_name(key: &str) -> Option<&'static str> {
    let found = ENVIRONMENT.iter().find(|(name, _)| *name == key);
    found.map(|(_, variable)| *variable)
}

/// Complaints about variables that look like ours and mean nothing: a misspelt one would be overlooked in silence.
pub fn unknown_variables(names: impl Iterator<Item = String>) -> Vec<String> {
    let known = ENVIRONMENT.map(|(_, variable)| variable);
    let known = || {
        let known = known.into_iter().chain([CONFIG_VARIABLE]);
        known.chain(SECRET_VARIABLES)
    };
    names
        .filter(|name| name.starts_with("RINGGATE_") && !known().any(|variable| variable == name))
        .map(|name| {
            let nearest =
                known().min_by_key(|variable| strsim::damerau_levenshtein(variable, &name));
            format!(
                "{name} is no variable of ringgate's; the nearest is {}",
                nearest.unwrap_or(CONFIG_VARIABLE)
            )
        })
        .collect()
}

/// Puts the place of a key before a message that begins with the key.
pub fn located(shown: &[Shown], message: &str) -> String {
    let about = shown.iter().find(|shown| {
        message
            .strip_prefix(&*shown.key)
            .is_some_and(|rest| rest.starts_with(": "))
    });
    match about.map(|shown| &shown.origin) {
        Some(Origin::File(file, line)) => format!("{file}:{line}: {message}"),
        _ => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Driver, ErrorStatus};
    use crate::meter::cost::Rate;
    use std::time::Duration;

    fn read(
        flags: Flags,
        environment: &[(&str, &str)],
        file: &str,
    ) -> Result<(Config, Vec<Shown>), ConfigError> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("r.toml");
        std::fs::write(&path, file).expect("written");
        let flags = Flags {
            config: Some(path),
            ..flags
        };
        let variables: Vec<(String, String)> = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        load(&flags, &|name| {
            variables
                .iter()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.clone())
        })
    }

    fn errors(file: &str) -> String {
        read(Flags::default(), &[], file)
            .expect_err("refused")
            .to_string()
    }

    #[test]
    fn nothing_at_all_is_a_configuration() {
        let (config, shown) = load(&Flags::default(), &|_| None).expect("the defaults");
        assert_eq!(
            config.data.listen,
            ["127.0.0.1:8787".parse().expect("an address")]
        );
        assert_eq!(config.management.listen.port(), 8788);
        assert_eq!(config.upstream.response_head, Duration::from_secs(600));
        assert_eq!((config.upstream.total, config.account_id), (None, None));
        assert_eq!(config.data.body_max, 512 << 20);
        assert!(shown.iter().all(|shown| shown.origin == Origin::Default));
        assert!(config.warnings.is_empty());
    }

    #[test]
    fn flags_beat_the_environment_which_beats_the_file() {
        let file = "[data]\nthreads = 3\nerror_status = \"semantic\"\ndriver = \"uring\"\n[account]\nid = \"file\"\n";
        let flags = Flags {
            threads: Some("1".to_owned()),
            ..Flags::default()
        };
        let environment = [
            ("RINGGATE_THREADS", "2"),
            ("RINGGATE_DRIVER", "epoll"),
            ("RINGGATE_LISTEN", "127.0.0.1:1, [::1]:2"),
        ];
        let (config, shown) = read(flags, &environment, file).expect("right");
        assert_eq!(
            (config.data.threads, config.data.driver),
            (1, Driver::Epoll)
        );
        assert_eq!(config.data.error_status, ErrorStatus::Semantic);
        assert_eq!(config.account_id.as_deref(), Some("file"));
        assert_eq!(config.data.listen.len(), 2);
        let origin = |key: &str| {
            shown
                .iter()
                .find(|shown| shown.key == key)
                .expect("shown")
                .origin
                .to_string()
        };
        assert_eq!(origin("data.threads"), "--threads");
        assert_eq!(origin("data.driver"), "RINGGATE_DRIVER");
        assert!(origin("data.error_status").ends_with("r.toml:3"));
        assert_eq!(origin("data.drain"), "default");
    }

    #[test]
    fn providers_gateways_and_their_warnings() {
        let file = "[providers.custom-v1.x]\nbase_url = \"http://10.0.0.1/v1\"\n";
        assert!(
            errors(file).contains("unknown key"),
            "a dotted name must be quoted"
        );
        let file = "[data]\nlisten = [\"0.0.0.0:1\"]\n[providers.openai]\nbase_url = \"http://127.0.0.1:9\"\napi_key = \"env:NOT_SET_HERE\"\n[providers.\"custom-v1.x\"]\nbase_url = \"http://10.0.0.1/v1\"\n[gateways.prod]\nauthentication = false\nzdr = true\nguardrails = { prompt = { P1 = \"BLOCK\" } }\n";
        let (config, shown) = read(Flags::default(), &[], file).expect("right");
        assert_eq!(config.providers.len(), 2);
        assert_eq!(config.providers[1].name, "custom-v1.x");
        assert_eq!(config.providers[1].slug, Slug::Custom);
        assert!(config.gateways[0].is_open());
        assert_eq!(
            config.gateways[0].settings["guardrails"]["prompt"]["P1"],
            "BLOCK"
        );
        let key = shown
            .iter()
            .find(|shown| shown.key == "providers.openai.api_key")
            .expect("shown");
        assert_eq!(key.value, "env:NOT_SET_HERE (NOT SET)");
        let warnings = config.warnings.join("\n");
        assert!(
            warnings.contains("gateways.prod.zdr has no effect yet"),
            "{warnings}"
        );
        assert!(
            warnings.contains("gateways.prod.guardrails has no effect yet"),
            "{warnings}"
        );
        assert!(warnings.contains("OPEN RELAY"), "{warnings}");
    }

    /// The file that the documentation shows.
    #[test]
    fn the_documented_file_is_right() {
        let file = "[data]\nlisten = [\"127.0.0.1:8787\"]\nthreads = 0\n[management]\nlisten = \"127.0.0.1:8788\"\n[account]\nid = \"local\"\n[providers.openai]\nbase_url = \"http://127.0.0.1:9001\"\napi_key = \"env:OPENAI_API_KEY\"\n[providers.aws-bedrock]\nregion = \"us-east-1\"\n[providers.custom-local]\nbase_url = \"http://127.0.0.1:11434\"\n[gateways.default]\nauthentication = false\ncache_ttl = 300\n";
        let (config, _) = read(Flags::default(), &[], file).expect("right");
        assert_eq!(config.providers.len(), 3);
        let regions = config.providers.iter().map(|one| one.region.as_deref());
        assert!(regions.flatten().eq(["us-east-1"]));
    }

    #[test]
    fn a_gateway_without_settings_is_declared_too() {
        let (config, shown) = read(Flags::default(), &[], "[gateways.prod]\n").expect("right");
        assert_eq!(config.gateways.len(), 1);
        let default = shown
            .iter()
            .find(|shown| shown.key == "gateways.default.authentication");
        assert_eq!(default.expect("shown").value, "true");
        let prod = &config.gateways[0];
        assert!(prod.id == "prod" && prod.settings.is_empty() && !prod.is_open());
    }

    #[test]
    fn empty_variables_are_unset_and_misspelt_ones_are_told() {
        let environment = [("RINGGATE_LISTEN", ""), ("RINGGATE_CONFIG", "")];
        let (config, shown) = read(Flags::default(), &environment, "").expect("right");
        assert_eq!(config.data.listen[0].port(), 8787);
        assert_eq!(
            (shown[0].key.as_str(), &shown[0].origin),
            ("(file)", &Origin::Flag("--config"))
        );
        let (_, shown) = load(&Flags::default(), &|name| {
            (name == "RINGGATE_CONFIG").then(String::new)
        })
        .expect("the defaults");
        assert_eq!(shown[0].value, "(none)");
        let names = [
            "RINGGATE_LISEN",
            "RINGGATE_THREADS",
            "RINGGATE_BOOTSTRAP_TOKEN",
            "HOME",
        ];
        let told = unknown_variables(names.into_iter().map(str::to_owned));
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].contains("RINGGATE_LISEN") && told[0].contains("RINGGATE_LISTEN"),
            "{told:?}"
        );
    }

    #[test]
    fn every_flag_stands_in_the_environment_and_its_help_says_so() {
        let command = <Flags as clap::Args>::augment_args(clap::Command::new("serve"));
        let mut flags = 0;
        for argument in command.get_arguments() {
            let Some(long) = argument.get_long() else {
                continue;
            };
            flags += 1;
            let variable = format!("RINGGATE_{}", long.to_uppercase().replace('-', "_"));
            let told = unknown_variables([variable.clone()].into_iter());
            assert!(told.is_empty(), "{told:?}");
            let help = argument.get_help().expect("help").to_string();
            assert!(
                help.contains(&format!("[env: {variable}]")),
                "--{long}: {help}"
            );
        }
        assert_eq!(flags, 8);
    }

    #[test]
    fn the_readme_tells_every_key_and_variable_with_its_default() {
        let readme = include_str!("../../README.md");
        let rows: Vec<&str> = readme
            .lines()
            .filter(|line| line.starts_with("| "))
            .collect();
        let (_, shown) = load(&Flags::default(), &|_| None).expect("the defaults");
        let keys = shown
            .iter()
            .filter(|shown| shown.key.contains('.') || shown.key == "data_dir");
        for Shown { key, value, .. } in keys.filter(|shown| !shown.key.starts_with("gateways.")) {
            let row = rows.iter().find(|row| row.contains(&format!("`{key}`")));
            let row = row.unwrap_or_else(|| panic!("{key} has no row"));
            assert!(
                value.starts_with('(') || row.contains(value.as_str()),
                "{key}: {value} is not in {row}"
            );
            if let Some(variable) = environment_name(key) {
                assert!(row.contains(&format!("`{variable}`")), "{key}: {row}");
            }
        }
        for word in [CONFIG_VARIABLE, "api_key", "base_url", "allow_insecure"]
            .iter()
            .chain(&SECRET_VARIABLES)
        {
            assert!(readme.contains(word), "{word}");
        }
        for slug in Slug::ALL {
            for name in slug.names() {
                let told = slug == Slug::Custom || readme.contains(&format!("`{name}`"));
                assert!(told, "{name}");
            }
        }
    }

    #[test]
    fn prices_are_read_with_their_rates_and_shown() {
        let file = "[prices.openai.\"gpt-4.1\"]\ninput = 2\noutput = 8.5\nsearch = 0.01\n[prices.groq.llama]\nmatch = \"starts-with\"\ninput = 0\n";
        let (config, shown) = read(Flags::default(), &[], file).expect("right");
        let [first, second] = &config.prices[..] else {
            panic!("{:?}", config.prices);
        };
        assert_eq!((&*first.provider, &*first.model), ("openai", "gpt-4.1"));
        assert_eq!(first.rule, ModelRule::Equals);
        let expected = Price {
            input: Rate::of_dollars_per_million(2.0),
            output: Rate::of_dollars_per_million(8.5),
            search: Rate::of_dollars(0.01),
            ..Price::default()
        };
        assert_eq!(first.price, expected);
        assert_eq!(second.rule, ModelRule::StartsWith);
        assert_eq!(second.price.input, Some(Rate::default()));
        let told = shown
            .iter()
            .find(|one| one.key == "prices.openai.gpt-4.1.output");
        assert_eq!(told.expect("shown").value, "8.5");
        for (file, problem) in [
            (
                "[prices.openai.m]\ninput = -1",
                "r.toml:2: prices.openai.m.input: must be",
            ),
            (
                "[prices.openai.m]\nmatch = \"like\"\ninput = 1",
                "r.toml:2: prices.openai.m.match: must be",
            ),
            (
                "[prices.openai.m]\nmatch = \"equals\"",
                "r.toml:1: prices.openai.m: names no price",
            ),
            ("[prices.openai.m]\ninput = [1]", "takes one value"),
        ] {
            let error = read(Flags::default(), &[], file)
                .expect_err(file)
                .0
                .join("\n");
            assert!(error.contains(problem), "{file}: {error}");
        }
    }

    #[test]
    fn an_open_gateway_with_keys_that_others_can_reach_is_warned_of() {
        let keys = "[data]\nlisten = [\"0.0.0.0:1\"]\n[providers.openai]\napi_key = \"env:X\"\n";
        let warnings = |file: &str| {
            let (config, _) = read(Flags::default(), &[], file).expect("right");
            config.warnings.join("\n")
        };
        assert_eq!(warnings(keys), "");
        let open = format!("{keys}[gateways.prod]\nauthentication = false\n");
        assert!(warnings(&open).contains("gateway prod: anyone who finds it can send"));
        let spending = open.replace("[data]", "[data]\nhouse_keys_unauthenticated = true");
        assert!(warnings(&spending).contains("spends your money"));
        assert_eq!(warnings(&open.replace("0.0.0.0", "127.0.0.1")), "");
    }

    #[test]
    fn a_message_about_a_key_is_told_with_its_line() {
        let file = "[providers.openai]\napi_key = \"env:NOT_SET_HERE\"\n";
        let (_, shown) = read(Flags::default(), &[], file).expect("right");
        let message = located(&shown, "providers.openai.api_key: environment variable");
        assert!(
            message.ends_with("r.toml:2: providers.openai.api_key: environment variable"),
            "{message}"
        );
        assert_eq!(located(&shown, "data.drain: x"), "data.drain: x");
        assert_eq!(located(&shown, "another thing"), "another thing");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let text = errors(
            "[data]\nthreads = \"many\"\ndrain = \"soon\"\n[management]\nlisten = \"0.0.0.0:1\"\n",
        );
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(
            lines[0].contains("r.toml:2: data.threads: must be a whole number"),
            "{text}"
        );
        assert!(
            lines[1].contains("r.toml:3: data.drain: must be a time"),
            "{text}"
        );
        assert!(
            lines[2].contains("r.toml:5: management.listen: ")
                && lines[2].contains("allow_plaintext"),
            "{text}"
        );
        assert!(errors("\n[providers.custom-x]\n").contains("r.toml:2: providers.custom-x: needs"));
        assert!(errors("[data]\nthreads = [1, 2]").contains("takes one value"));
        assert!(errors("[data]\nthreads = [1]").contains("not a list"));
        assert!(
            errors("[providers.openai]\nbase_url = \"http://example.com\"")
                .contains("allow_insecure")
        );
        assert!(errors("[providers.openai]\napi_key = \"sk-secret\"").contains("env:NAME"));
        assert!(!errors("[providers.openai]\napi_key = \"sk-secret\"").contains("sk-secret"));
        assert!(errors("[providers.custom-x]\nallow_insecure = true").contains("needs a base_url"));
        assert!(
            errors("[data.tls]\nkey = \"/dev/null\"")
                .contains("r.toml:2: data.tls.key: needs data.tls.certificate too")
        );
        assert!(
            errors("[data]\nlisten = []").contains("r.toml:2: data.listen: needs at least one")
        );
        let unread = errors("[upstream]\nca_file = \"/nonexistent/ca.pem\"");
        assert!(
            unread.contains("r.toml:2: upstream.ca_file: /nonexistent/ca.pem: No such file"),
            "{unread}"
        );
        let flags = Flags {
            driver: Some("kqueue".to_owned()),
            ..Flags::default()
        };
        let error = read(flags, &[], "").expect_err("refused").to_string();
        assert_eq!(error, "--driver: must be auto, epoll or uring");
        let missing = Flags {
            config: Some("/nonexistent/r.toml".into()),
            ..Flags::default()
        };
        let error = load(&missing, &|_| None).expect_err("refused").to_string();
        assert!(error.starts_with("/nonexistent/r.toml: "), "{error}");
    }
}
