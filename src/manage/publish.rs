//! Builds snapshots out of configuration and database, and publishes what a call changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::Connection;
use serde_json::Value;

use super::answer::Problem;
use super::{gateways, tokens};
use crate::config::{Config, Secret, SecretError};
use crate::limits::DEFAULT_GATEWAY;
use crate::net::tls::{TlsError, UpstreamTls};
use crate::providers::{BaseUrl, Provider, Slug};
use crate::seal::{Sealed, Sealer};
use crate::snapshot::{
    Clocks, Gateway, Map, ProviderEntry, Published, Settings, Sharded, Snapshot, StoredKey, Token,
    Tokens,
};

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
    pub(super) gateways: BTreeMap<String, gateways::Row>,
    /// Built-in providers and the file's own, by every name.
    pub(super) providers: Map<Box<str>, Arc<ProviderEntry>>,
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
            gateways,
            providers: providers(config)?,
            settings: Arc::new(settings(config)?),
        })
    }
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
            Some(Arc::new(gateway(row, database)?)),
        );
    }
    let mut statement = database.prepare_cached("SELECT id FROM gateways")?;
    let ids = statement.query_map([], |row| row.get::<_, String>(0))?;
    for id in ids {
        let id = id?;
        if !declared.gateways.contains_key(&id) {
            gateways.set(id.as_str().into(), gateway_of(&id, declared, database)?);
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
        providers: Arc::new(all_providers(declared, database)?),
        domains: Arc::new(domains(database)?),
        tokens: Arc::new(tokens),
        sealer,
        settings: declared.settings.clone(),
    })
}

/// What a change comes to, read within its transaction, so that nothing can fail after the commit.
pub(super) enum Part {
    Gateway(String, Option<Arc<Gateway>>),
    Token(String, Option<Arc<Token>>),
    Providers(Map<Box<str>, Arc<ProviderEntry>>),
    Domains(Map<Box<str>, Arc<str>>),
}

pub(super) fn read(
    changes: &[Change],
    account: &str,
    declared: &Declared,
    database: &Connection,
) -> Result<Vec<Part>, PublishError> {
    let part = |change: &Change| {
        Ok(match change {
            Change::Gateway(id) => Part::Gateway(id.clone(), gateway_of(id, declared, database)?),
            Change::Token(id) => {
                let token = tokens::read(database, id, account)?;
                Part::Token(id.clone(), token.map(Arc::new))
            }
            Change::Providers => Part::Providers(all_providers(declared, database)?),
            Change::Domains => Part::Domains(domains(database)?),
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
            }
        }
        next
    });
}

fn gateway_of(
    id: &str,
    declared: &Declared,
    database: &Connection,
) -> Result<Option<Arc<Gateway>>, PublishError> {
    let row = match declared.gateways.get(id) {
        Some(row) => Some(row.clone()),
        None => gateways::read(database, id)?,
    };
    row.map(|row| gateway(&row, database).map(Arc::new))
        .transpose()
}

fn gateway(row: &gateways::Row, database: &Connection) -> Result<Gateway, PublishError> {
    Ok(Gateway {
        id: row.id.as_str().into(),
        authentication: row.is_on("authentication"),
        byok_only: row.is_on("byok_only"),
        prefer_stored_keys: row.is_on("prefer_stored_keys"),
        keys: stored_keys(&row.id, database)?.into(),
    })
}

fn stored_keys(gateway: &str, database: &Connection) -> Result<Vec<Arc<StoredKey>>, PublishError> {
    let query = "SELECT c.id, c.provider_slug, c.alias, c.default_config, s.id, s.name, s.key_id, s.sealed
        FROM provider_configs c JOIN secrets s ON s.id = c.secret_id WHERE c.gateway_id = ?1 ORDER BY c.provider_slug, c.default_config DESC, c.alias";
    let mut statement = database.prepare_cached(query)?;
    let keys = statement.query_map([gateway], |row| {
        let text = |index| row.get::<_, String>(index);
        Ok(Arc::new(StoredKey {
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

fn domains(database: &Connection) -> Result<Map<Box<str>, Arc<str>>, PublishError> {
    let mut statement = database.prepare_cached("SELECT hostname, gateway_id FROM domains")?;
    let pairs = statement.query_map([], |row| {
        let (host, gateway): (String, String) = (row.get(0)?, row.get(1)?);
        Ok((host.into(), gateway.into()))
    })?;
    Ok(pairs.collect::<rusqlite::Result<Map<_, _>>>()?)
}

/// The file's providers and the stored custom ones that are switched on; the file's win.
fn all_providers(
    declared: &Declared,
    database: &Connection,
) -> Result<Map<Box<str>, Arc<ProviderEntry>>, PublishError> {
    let mut providers = declared.providers.clone();
    let query = "SELECT slug, base_url, headers FROM custom_providers WHERE enable";
    let mut statement = database.prepare_cached(query)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let name = format!("custom-{}", row.get::<_, String>(0)?);
        let url: String = row.get(1)?;
        let base: BaseUrl = url
            .parse()
            .map_err(|error| PublishError::Stored(format!("{name}: {error}")))?;
        let headers = headers(row.get::<_, Option<String>>(2)?.as_deref());
        let entry = Arc::new(ProviderEntry {
            name: name.as_str().into(),
            provider: Provider::new(Slug::Custom, Some(base)),
            house_key: None,
            headers,
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
        house_key,
        headers: Box::default(),
    })
}

fn settings(config: &Config) -> Result<Settings, TlsError> {
    let (data, upstream) = (&config.data, &config.upstream);
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
        house_keys_unauthenticated: data.house_keys_unauthenticated,
        default_gateway: config.auto_create_default.then(|| {
            Arc::new(Gateway {
                id: DEFAULT_GATEWAY.into(),
                authentication: true,
                byok_only: false,
                prefer_stored_keys: false,
                keys: Box::default(),
            })
        }),
        trusted_proxies: data.trusted_proxies.clone(),
        tls: UpstreamTls::build(upstream.roots, upstream.ca_file.as_deref())?,
        proxy: upstream.proxy.clone(),
    })
}
