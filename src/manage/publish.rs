//! Builds snapshots out of the configuration.

use std::sync::Arc;

use crate::config::{Config, SecretError};
use crate::limits::DEFAULT_GATEWAY;
use crate::net::connect::generation;
use crate::net::tls::{TlsError, UpstreamTls};
use crate::providers::{Provider, Slug};
use crate::snapshot::{Clocks, Gateway, ProviderEntry, Settings, Snapshot, Tokens};

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
    /// The trust anchors cannot be read.
    #[error("upstream: {0}")]
    Tls(#[from] TlsError),
}

/// The snapshot of a configuration. `tokens` open its gateways.
pub fn build(
    config: &Config,
    account: &str,
    tokens: Arc<Tokens>,
) -> Result<Snapshot, PublishError> {
    let mut snapshot = Snapshot {
        account: account.into(),
        gateways: Default::default(),
        providers: Default::default(),
        tokens,
        settings: Arc::new(settings(config)?),
    };
    let mut insert = |id: &str, authentication: bool| {
        let gateway = Gateway {
            id: id.into(),
            authentication,
        };
        snapshot.gateways.insert(id.into(), Arc::new(gateway));
    };
    // Open until there are tokens to show: nobody could enter otherwise.
    let demanded = !snapshot.tokens.is_empty();
    insert(DEFAULT_GATEWAY, demanded);
    for gateway in &config.gateways {
        insert(&gateway.id, gateway.authentication.unwrap_or(demanded));
    }
    for slug in Slug::ALL.into_iter().filter(|slug| *slug != Slug::Custom) {
        let entry = Arc::new(entry(config, slug, slug.as_str())?);
        for name in slug.names() {
            snapshot.providers.insert(name.into(), entry.clone());
        }
    }
    for provider in config
        .providers
        .iter()
        .filter(|provider| provider.slug == Slug::Custom)
    {
        let entry = entry(config, Slug::Custom, &provider.name)?;
        snapshot
            .providers
            .insert(provider.name.as_str().into(), Arc::new(entry));
    }
    Ok(snapshot)
}

fn entry(config: &Config, slug: Slug, name: &str) -> Result<ProviderEntry, PublishError> {
    let configured = config
        .providers
        .iter()
        .find(|provider| provider.name == name);
    let house_key = match configured.and_then(|provider| provider.api_key.as_ref()) {
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
        house_keys_unauthenticated: data.house_keys_unauthenticated,
        trusted_proxies: data.trusted_proxies.clone(),
        generation: generation(&tls, upstream.proxy.as_deref()),
        tls,
        proxy: upstream.proxy.clone(),
    })
}
