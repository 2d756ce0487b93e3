//! Builds snapshots out of configuration and database, and publishes what a call changed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use serde_json::Value;

use super::answer::Problem;
use super::custom_providers::SealedHeaders;
use super::{gateways, prices, tokens};
use crate::config::{Config, PriceConfig, Secret, SecretError};
use crate::limits::{DEFAULT_GATEWAY, TRIES_MAX};
use crate::meter::prices::{Prices, SetPrice};
use crate::net::connect::generation;
use crate::net::tls::{TlsError, UpstreamTls};
use crate::providers::{BaseUrl, Provider, Slug};
use crate::seal::{Sealed, Sealer};
use crate::snapshot::{
    Backoff, CacheSettings, Clocks, Gateway, LogSettings, Map, ProviderEntry, Published,
    RetrySettings, Route, Settings, Sharded, Snapshot, StoredKey, Token, Tokens,
};
use crate::tables::rate::Limit;
use crate::tables::{Key, Technique, Window};
use crate::telemetry::notice;

/// Why a configuration cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// A provider's key cannot be had.
    #[error("providers.{provider}.api_key: {source}")]
    Key {
        /// The provider's name.
        provider: String,
        /// Why not.
        source: SecretError,
    },
    /// A declared gateway's settings are wrong; one line each.
    #[error("{0}")]
    Gateway(String),
    /// The trust anchors cannot be read.
    #[error("upstream: {0}")]
    Tls(#[from] TlsError),
    /// What is stored cannot be read.
    #[error("the configuration database cannot be read: {0}")]
    Stored(String),
}

impl From<Problem> for PublishError {
    fn from(problem: Problem) -> Self {
        Self::Stored(problem.to_string())
    }
}

impl From<rusqlite::Error> for PublishError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Stored(error.to_string())
    }
}

/// What the configuration file says, as the API and the snapshot need it.
pub struct Declared {
    /// The file.
    pub file: String,
    /// How clients reach the data listener.
    pub public_url: Option<String>,
    /// Prices above the list's, under the names that providers have in requests.
    prices: Vec<SetPrice>,
    /// What figures of users go by.
    pub(super) user_key: String,
    pub(super) gateways: BTreeMap<String, gateways::Row>,
    /// Built-in providers and the file's own, by every name.
    pub(super) providers: Map<Box<str>, Arc<ProviderEntry>>,
    /// Whether other machines can reach the data listener.
    is_reachable: bool,
    settings: Arc<Settings>,
}

impl Declared {
    /// Of a configuration.
    pub fn of(config: &Config) -> Result<Self, PublishError> {
        let mut gateways = BTreeMap::new();
        let mut wrong = Vec::new();
        for gateway in &config.gateways {
            match gateways::declared(&gateway.id, gateway.settings.clone()) {
                Ok(row) => {
                    gateways.insert(gateway.id.clone(), row);
                }
                Err(flaws) => wrong.extend(flaws.into_iter().map(|flaw| {
                    let key = flaw.path.join(".");
                    let (file, line, id) = (&config.file, gateway.line, &gateway.id);
                    format!("{file}:{line}: gateways.{id}.{key}: {}", flaw.message)
                })),
            }
        }
        if !wrong.is_empty() {
            return Err(PublishError::Gateway(wrong.join("\n")));
        }
        Ok(Self {
            file: config.file.clone(),
            public_url: config.public_url.clone(),
            prices: config.prices.iter().map(declared_price).collect(),
            user_key: config.analytics.user_key.clone(),
            gateways,
            providers: providers(config)?,
            is_reachable: config
                .data
                .listen
                .iter()
                .any(|address| !address.ip().is_loopback()),
            settings: Arc::new(settings(config)?),
        })
    }

    /// Whether anyone who finds the data listener may spend keys through a gateway (resolutions 32).
    fn is_open_relay(&self, gateway: &Gateway) -> bool {
        let mut providers = self.providers.values();
        self.is_reachable
            && !gateway.authentication
            && (!gateway.keys.is_empty() || providers.any(|entry| entry.house_key.is_some()))
    }

    /// A warning of open gateways that have keys to spend, stored ones and gateways of the API included.
    pub fn open_relay(&self, snapshot: &Snapshot) -> Option<String> {
        let gateways = snapshot.gateways.iter();
        let mut open: Vec<&str> = gateways
            .filter(|(_, gateway)| self.is_open_relay(gateway))
            .map(|(id, _)| &**id)
            .collect();
        open.sort_unstable();
        (!open.is_empty()).then(|| relay_warning(&open))
    }

    /// The same warning of what a call changed.
    pub(super) fn open_relay_of(&self, parts: &[Part]) -> Option<String> {
        let open: Vec<&str> = parts
            .iter()
            .filter_map(|part| match part {
                Part::Gateway(id, Some(gateway)) if self.is_open_relay(gateway) => Some(&**id),
                _ => None,
            })
            .collect();
        (!open.is_empty()).then(|| relay_warning(&open))
    }
}

fn relay_warning(open: &[&str]) -> String {
    format!(
        "OPEN RELAY: other machines can reach the data listener, provider keys are there to be spent, and these gateways take requests without a token: {}",
        open.join(", ")
    )
}

/// What a call changed, in words of the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A gateway, its keys or its routes.
    Gateway(String),
    /// A token.
    Token(String),
    /// Custom providers.
    Providers,
    /// Custom domains.
    Domains,
    /// Prices.
    Prices,
}

/// The snapshot of an instance.
pub fn build(
    account: &str,
    declared: &Declared,
    sealer: Arc<Sealer>,
    database: &Connection,
) -> Result<Snapshot, PublishError> {
    let mut gateways = Sharded::default();
    for row in declared.gateways.values() {
        gateways.set(
            row.id.as_str().into(),
            Some(Arc::new(gateway(row, database, None)?)),
        );
    }
    let mut statement = database.prepare_cached("SELECT id FROM gateways")?;
    let ids = statement.query_map([], |row| row.get::<_, String>(0))?;
    for id in ids {
        let id = id?;
        if !declared.gateways.contains_key(&id) {
            gateways.set(
                id.as_str().into(),
                gateway_of(&id, declared, database, None)?,
            );
        }
    }
    let mut tokens = Tokens::default();
    for token in tokens::read_all(database, account)? {
        let id = token.id.clone();
        tokens.set(&id, Some(Arc::new(token)));
    }
    Ok(Snapshot {
        account: account.into(),
        gateways,
        providers: Arc::new(all_providers(account, declared, &sealer, database)?),
        domains: Arc::new(domains(database)?),
        tokens: Arc::new(tokens),
        prices: Arc::new(all_prices(declared, database)?),
        sealer,
        settings: declared.settings.clone(),
    })
}

fn all_prices(declared: &Declared, database: &Connection) -> Result<Prices, PublishError> {
    let set = prices::all(declared, database)?;
    Ok(Prices::new(set, declared.prices.iter().cloned()))
}

fn declared_price(config: &PriceConfig) -> SetPrice {
    SetPrice {
        provider: config.provider.clone(),
        rule: config.rule,
        model: config.model.clone(),
        weight: 0,
        price: config.price.clone(),
    }
}

/// What a change comes to, read within its transaction, so that nothing can fail after the commit.
pub(super) enum Part {
    Gateway(String, Option<Arc<Gateway>>),
    Token(String, Option<Arc<Token>>),
    Providers(Map<Box<str>, Arc<ProviderEntry>>),
    Domains(Map<Box<str>, Arc<str>>),
    Prices(Prices),
}

pub(super) fn read(
    changes: &[Change],
    account: &str,
    declared: &Declared,
    sealer: &Sealer,
    database: &Connection,
    current: Option<&Snapshot>,
) -> Result<Vec<Part>, PublishError> {
    let part = |change: &Change| {
        Ok(match change {
            Change::Gateway(id) => {
                let before = current.and_then(|current| current.gateways.get(&**id));
                let before = before.map(|gateway| &**gateway);
                Part::Gateway(id.clone(), gateway_of(id, declared, database, before)?)
            }
            Change::Token(id) => {
                let token = tokens::read(database, id, account)?;
                Part::Token(id.clone(), token.map(Arc::new))
            }
            Change::Providers => {
                Part::Providers(all_providers(account, declared, sealer, database)?)
            }
            Change::Domains => Part::Domains(domains(database)?),
            Change::Prices => Part::Prices(all_prices(declared, database)?),
        })
    };
    changes.iter().map(part).collect()
}

/// Publishes the parts: every request that begins after this sees them.
pub(super) fn publish(published: &Published, parts: Vec<Part>) {
    if parts.is_empty() {
        return;
    }
    published.replace(|current| {
        let mut next = current.clone();
        for part in parts {
            match part {
                Part::Gateway(id, gateway) => {
                    next.gateways.set(id.into(), gateway);
                }
                Part::Token(id, token) => Arc::make_mut(&mut next.tokens).set(&id, token),
                Part::Providers(providers) => next.providers = Arc::new(providers),
                Part::Domains(domains) => next.domains = Arc::new(domains),
                Part::Prices(prices) => next.prices = Arc::new(prices),
            }
        }
        next
    });
}

fn gateway_of(
    id: &str,
    declared: &Declared,
    database: &Connection,
    before: Option<&Gateway>,
) -> Result<Option<Arc<Gateway>>, PublishError> {
    let row = match declared.gateways.get(id) {
        Some(row) => Some(row.clone()),
        None => gateways::read(database, id)?,
    };
    row.map(|row| gateway(&row, database, before).map(Arc::new))
        .transpose()
}

fn gateway(
    row: &gateways::Row,
    database: &Connection,
    before: Option<&Gateway>,
) -> Result<Gateway, PublishError> {
    Ok(Gateway {
        id: row.id.as_str().into(),
        authentication: row.is_on("authentication"),
        byok_only: row.is_on("byok_only"),
        prefer_stored_keys: row.is_on("prefer_stored_keys"),
        logs: LogSettings {
            collect: row.is_on("collect_logs"),
            payload: row.is_on("collect_log_payload"),
            most: row.effective("log_management").as_u64().unwrap_or(u64::MAX),
            stops: row.effective("log_management_strategy") == "STOP_INSERTING",
            redacts: row.is_on("log_redaction"),
        },
        rate: rate(row),
        cache: cache(row, database)?,
        retries: retries(row),
        server_timing: row.is_on("server_timing"),
        keys: stored_keys(&row.id, database)?.into(),
        routes: routes(&row.id, database, before)?,
    })
}

/// A number of 0 in either place means that there is no limit (data plane 5).
fn rate(row: &gateways::Row) -> Option<Limit> {
    let number = |name| row.effective(name).as_u64().filter(|number| *number > 0);
    let limit = number("rate_limiting_limit")?;
    let interval = Duration::from_secs(number("rate_limiting_interval")?);
    let window = Window::new(
        technique(&row.effective("rate_limiting_technique")),
        interval,
    );
    Some(Limit::new(
        Key::rule(&["gateway", &row.internal_id]),
        limit,
        window,
    ))
}

fn technique(name: &Value) -> Technique {
    match *name == Technique::Sliding.as_str() {
        true => Technique::Sliding,
        false => Technique::Fixed,
    }
}

/// A stored key's own limit; its windows go by the clock.
fn key_rate(id: &str, limit: Option<f64>, period: f64) -> Option<Limit> {
    let limit = limit.filter(|limit| *limit > 0.0)?.max(1.0) as u64;
    let period = Duration::try_from_secs_f64(period).ok()?;
    (!period.is_zero()).then(|| {
        let window = Window::new(Technique::Fixed, period);
        Limit::new(Key::rule(&["key", id]), limit, window)
    })
}

/// The settings of a declared gateway are part of its epoch: they change where nobody counts.
fn cache(row: &gateways::Row, database: &Connection) -> Result<CacheSettings, PublishError> {
    let mut epoch = gateways::cache_epoch(database, &row.id)?;
    if row.is_declared() && row.is_on("cache_invalidate_on_update") {
        let settings = Value::Object(row.settings.clone()).to_string();
        epoch ^= u64::from(crc32fast::hash(settings.as_bytes())) << 32;
    }
    let ttl = row.effective("cache_ttl").as_u64().unwrap_or(0);
    Ok(CacheSettings {
        ttl: u32::try_from(ttl).unwrap_or(u32::MAX),
        streams: row.is_on("cache_streams"),
        ttl_header_opts_in: row.is_on("cache_ttl_header_opts_in"),
        coalesce: row.is_on("coalesce"),
        epoch: Some(epoch),
    })
}

fn retries(row: &gateways::Row) -> RetrySettings {
    let default = RetrySettings::default();
    let number = |name| row.effective(name).as_u64();
    let backoff = row.effective("retry_backoff");
    RetrySettings {
        tries: number("retry_max_attempts").map_or(default.tries, |tries| {
            tries.clamp(1, TRIES_MAX.into()) as u8
        }),
        delay: number("retry_delay").map_or(default.delay, Duration::from_millis),
        backoff: backoff
            .as_str()
            .and_then(Backoff::parse)
            .unwrap_or(default.backoff),
        jitter: row.is_on("retry_jitter"),
    }
}

fn stored_keys(gateway: &str, database: &Connection) -> Result<Vec<Arc<StoredKey>>, PublishError> {
    let query = "SELECT c.id, c.provider_slug, c.alias, c.default_config, s.id, s.name, s.key_id, s.sealed, c.rate_limit, c.rate_limit_period
        FROM provider_configs c JOIN secrets s ON s.id = c.secret_id WHERE c.gateway_id = ?1 ORDER BY c.provider_slug, c.default_config DESC, c.alias";
    let mut statement = database.prepare_cached(query)?;
    let keys = statement.query_map([gateway], |row| {
        let text = |index| row.get::<_, String>(index);
        Ok(Arc::new(StoredKey {
            rate: key_rate(&text(0)?, row.get(8)?, row.get(9)?),
            id: text(0)?.into(),
            provider: text(1)?.into(),
            alias: text(2)?.into(),
            default: row.get(3)?,
            secret: (text(4)?.into(), text(5)?.into()),
            sealed: Sealed {
                key_id: text(6)?.into(),
                bytes: row.get::<_, Vec<u8>>(7)?.into(),
            },
        }))
    })?;
    Ok(keys.collect::<rusqlite::Result<Vec<_>>>()?)
}

/// The routes of a gateway in their deployed versions. Every stored version was checked when it was taken; one that a later
/// program reads otherwise must not keep it from starting. What is the same `before` is taken over: versions never change.
fn routes(
    gateway: &str,
    database: &Connection,
    before: Option<&Gateway>,
) -> Result<Map<Box<str>, Arc<Route>>, PublishError> {
    let query = "SELECT r.id, r.name, v.id, v.elements FROM routes r
        JOIN route_deployments d ON d.route_id = r.id
            AND d.number = (SELECT max(number) FROM route_deployments WHERE route_id = r.id)
        JOIN route_versions v ON v.id = d.version_id
        WHERE r.gateway_id = ?1";
    let mut statement = database.prepare_cached(query)?;
    let mut rows = statement.query([gateway])?;
    let mut routes = Map::default();
    while let Some(row) = rows.next()? {
        let text = |index| row.get::<_, String>(index);
        let (id, name, version_id) = (text(0)?, text(1)?, text(2)?);
        let same = before
            .and_then(|before| before.routes.get(&*name))
            .filter(|route| *route.id == *id && *route.version_id == *version_id);
        if let Some(route) = same {
            routes.insert(name.into(), route.clone());
            continue;
        }
        let Some(graph) = super::routes::stored_graph(&text(3)?) else {
            notice::say(format_args!(
                "gateway {gateway:?}: the deployed version of route {name:?} cannot be read; save it anew"
            ));
            continue;
        };
        let route = Route {
            id: id.into(),
            name: name.as_str().into(),
            version_id: version_id.into(),
            graph,
        };
        routes.insert(name.into(), Arc::new(route));
    }
    Ok(routes)
}

fn domains(database: &Connection) -> Result<Map<Box<str>, Arc<str>>, PublishError> {
    let mut statement = database.prepare_cached("SELECT hostname, gateway_id FROM domains")?;
    let pairs = statement.query_map([], |row| {
        let (host, gateway): (String, String) = (row.get(0)?, row.get(1)?);
        Ok((host.into(), gateway.into()))
    })?;
    Ok(pairs.collect::<rusqlite::Result<Map<_, _>>>()?)
}

/// The file's providers and the stored custom ones that are switched on; the file's win. One whose headers do not open is
/// left out: without them its requests would be others than were meant.
fn all_providers(
    account: &str,
    declared: &Declared,
    sealer: &Sealer,
    database: &Connection,
) -> Result<Map<Box<str>, Arc<ProviderEntry>>, PublishError> {
    let mut providers = declared.providers.clone();
    let query = "SELECT id, slug, base_url, headers_key_id, headers, modified_at FROM custom_providers WHERE enable";
    let mut statement = database.prepare_cached(query)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let name = format!("custom-{}", row.get::<_, String>(1)?);
        let (id, url): (String, String) = (row.get(0)?, row.get(2)?);
        let base: BaseUrl = url
            .parse()
            .map_err(|error| PublishError::Stored(format!("{name}: {error}")))?;
        let sealed = SealedHeaders::of(row, 3)?;
        let opened = sealed.map(|sealed| sealed.open(sealer, account, &id));
        let headers = match opened.transpose() {
            Ok(text) => headers(text.as_deref()),
            Err(error) => {
                notice::say(format_args!(
                    "{name} cannot be used before its headers are set anew: {error}"
                ));
                continue;
            }
        };
        let entry = Arc::new(ProviderEntry {
            name: name.as_str().into(),
            provider: Provider::new(Slug::Custom, Some(base)),
            revision: row.get::<_, i64>(5)?.unsigned_abs(),
            house_key: None,
            headers,
            region: None,
            project: None,
        });
        providers.entry(name.into()).or_insert(entry);
    }
    Ok(providers)
}

/// A stored JSON object of headers, which was checked when it was taken.
fn headers(text: Option<&str>) -> Box<[(Box<str>, Box<str>)]> {
    let parsed = text.and_then(|text| serde_json::from_str::<Value>(text).ok());
    let members = parsed.as_ref().and_then(Value::as_object);
    members
        .into_iter()
        .flatten()
        .filter_map(|(name, value)| {
            Some((name.to_ascii_lowercase().into(), value.as_str()?.into()))
        })
        .collect()
}

fn providers(config: &Config) -> Result<Map<Box<str>, Arc<ProviderEntry>>, PublishError> {
    let mut providers: Map<Box<str>, Arc<ProviderEntry>> = Map::default();
    for slug in Slug::ALL.into_iter().filter(|slug| *slug != Slug::Custom) {
        let entry = Arc::new(entry(config, slug, slug.as_str())?);
        for name in slug.names() {
            providers.insert(name.into(), entry.clone());
        }
    }
    let custom = |provider: &&crate::config::ProviderConfig| provider.slug == Slug::Custom;
    for provider in config.providers.iter().filter(custom) {
        let entry = entry(config, Slug::Custom, &provider.name)?;
        providers.insert(provider.name.as_str().into(), Arc::new(entry));
    }
    Ok(providers)
}

fn entry(config: &Config, slug: Slug, name: &str) -> Result<ProviderEntry, PublishError> {
    let configured = config
        .providers
        .iter()
        .find(|provider| provider.name == name);
    let house_key: Option<Secret> = match configured.and_then(|provider| provider.api_key.as_ref())
    {
        Some(source) => Some(source.read().map_err(|source| PublishError::Key {
            provider: name.to_owned(),
            source,
        })?),
        None => None,
    };
    Ok(ProviderEntry {
        name: name.into(),
        provider: Provider::new(
            slug,
            configured.and_then(|provider| provider.base_url.clone()),
        ),
        // The same in the next run of the program, as stored answers on disk need it.
        revision: configured
            .and_then(|provider| provider.base_url.as_ref())
            .map_or(0, |base| {
                crc32fast::hash(format!("{base:?}").as_bytes()).into()
            }),
        house_key,
        headers: Box::default(),
        region: configured.and_then(|provider| provider.region.as_deref().map(Box::from)),
        project: configured.and_then(|provider| provider.project.as_deref().map(Box::from)),
    })
}

fn settings(config: &Config) -> Result<Settings, TlsError> {
    let (data, upstream) = (&config.data, &config.upstream);
    let tls = UpstreamTls::build(upstream.roots, upstream.ca_file.as_deref())?;
    Ok(Settings {
        error_status: data.error_status,
        clocks: Clocks {
            connect: upstream.connect,
            response_head: upstream.response_head,
            stream_idle: upstream.stream_idle,
            total: upstream.total,
            client_body_idle: data.client_body_idle,
            client_write_stall: data.client_write_stall,
        },
        body_max: data.body_max,
        media_fetch: config.media.fetch,
        house_keys_unauthenticated: data.house_keys_unauthenticated,
        default_gateway: config.auto_create_default.then(|| {
            Arc::new(Gateway {
                id: DEFAULT_GATEWAY.into(),
                authentication: true,
                byok_only: false,
                prefer_stored_keys: false,
                logs: LogSettings::default(),
                rate: None,
                cache: CacheSettings::default(),
                retries: RetrySettings::default(),
                server_timing: false,
                keys: Box::default(),
                routes: Map::default(),
            })
        }),
        trusted_proxies: data.trusted_proxies.clone(),
        generation: generation(&tls, upstream.proxy.as_deref()),
        tls,
        proxy: upstream.proxy.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Flags, load};
    use crate::manage::{call_as_operator, inaugurate, office};
    use crate::store::Database;
    use serde_json::json;

    /// The answer to a gateway made open, and the warning of the next start, on a listener and with a house key or not.
    fn warnings(listen: &str, key: bool) -> (Value, Option<String>) {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("ringgate.toml");
        let secret = folder.path().join("secret");
        std::fs::write(&secret, "a key").expect("written");
        let lines = match key {
            true => format!(
                "[providers.openai]\napi_key = \"file:{}\"",
                secret.display()
            ),
            false => String::new(),
        };
        std::fs::write(&file, lines).expect("written");
        let flags = Flags {
            config: Some(file),
            listen: vec![listen.to_owned()],
            ..Flags::default()
        };
        let (config, _) = load(&flags, &|_| None).expect("a configuration");
        let sealer = Arc::new(Sealer::create(&folder.path().join("key")).expect("a key"));
        let declared = Declared::of(&config).expect("declared");
        let office = office("acc", sealer.clone(), declared);
        let mut database = Database::open(folder.path()).expect("opened");
        inaugurate(&office, &mut database, None).expect("made");
        let body = json!({
            "id": "open", "authentication": false, "cache_invalidate_on_update": true, "cache_ttl": 0,
            "collect_logs": true, "rate_limiting_interval": 0, "rate_limiting_limit": 0,
        });
        let path = "/accounts/acc/ai-gateway/gateways";
        let answer = call_as_operator(&office, &mut database, "POST", path, Some(body));
        let declared = office.declared.load();
        let snapshot = build("acc", &declared, sealer, database.connection()).expect("built");
        let messages = answer.expect("made")["messages"].clone();
        (messages, declared.open_relay(&snapshot))
    }

    #[test]
    fn an_open_gateway_with_keys_on_a_reachable_listener_is_warned_of() {
        let (messages, warning) = warnings("0.0.0.0:8787", true);
        let warning = warning.expect("a warning");
        assert!(
            warning.starts_with("OPEN RELAY") && warning.ends_with(": open"),
            "{warning}"
        );
        assert_eq!(messages[0]["message"], warning);
        for (listen, key) in [("127.0.0.1:8787", true), ("0.0.0.0:8787", false)] {
            assert_eq!(warnings(listen, key), (json!([]), None), "{listen} {key}");
        }
    }
}
