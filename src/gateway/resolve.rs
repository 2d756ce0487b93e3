//! Phase 2: from the path, or the host, to account, gateway and provider (spec: data plane 1).

use std::borrow::Cow;
use std::sync::Arc;

use super::error::GatewayError;
use super::unified::{Asked, Endpoint};
use crate::http::RequestHead;
use crate::limits::DEFAULT_GATEWAY;
use crate::providers::Slug;
use crate::snapshot::{Gateway, ProviderEntry, Snapshot};

/// What a path leads to.
pub(super) enum Leads<'a> {
    /// A provider's own endpoint.
    Native(Resolved<'a>),
    /// An endpoint for all providers: the body names the model, and with it the provider.
    Unified(Box<Asked>),
    /// The endpoint whose body names several steps; the gateway, and whether it is still to be made.
    Universal(Arc<Gateway>, bool),
}

/// A provider's own endpoint.
pub(super) struct Resolved<'a> {
    /// The gateway.
    pub gateway: Arc<Gateway>,
    /// Whether it is still to be made: `default`, which an authenticated request brings about (control plane 2.3).
    pub unmade: bool,
    /// The provider.
    pub entry: Arc<ProviderEntry>,
    /// The raw path behind the provider's segment.
    pub rest: &'a str,
}

/// `/v1/{account}/{gateway}/{provider}/{rest}`; on a custom domain `/{provider}/{rest}` alone. Where `compat` stands for the
/// provider, and below `/client/v4/accounts/{account}/ai/`, the endpoint is one for all providers; where nothing stands for it, the
/// body names them.
pub(super) fn resolve<'a>(
    head: &'a RequestHead,
    snapshot: &Snapshot,
) -> Result<Leads<'a>, GatewayError> {
    if head.upgrade().is_some_and(names_websocket) {
        return Err(GatewayError::no_upgrade());
    }
    if head.method_str() == "CONNECT" {
        return Err(GatewayError::bad_request(501, "CONNECT is not served"));
    }
    let path = head.path();
    let (gateway, path) = match domain(head, snapshot) {
        Some(gateway) => (gateway, path.strip_prefix('/').unwrap_or(path)),
        None => match path.strip_prefix("/v1/") {
            Some(path) => below_account(path, snapshot)?,
            None => return below_client(head, path, snapshot),
        },
    };
    let (provider, rest) = split(path);
    let (gateway, unmade) = gateway_of(gateway, snapshot)?;
    let Some(entry) = snapshot.providers.get(provider).cloned() else {
        return match provider {
            "compat" => Endpoint::below_compat(rest)
                .map(|endpoint| asked(gateway, unmade, endpoint))
                .ok_or_else(|| GatewayError::no_endpoint(rest)),
            "" if rest.is_empty() => Ok(Leads::Universal(gateway, unmade)),
            "" => Err(GatewayError::no_provider("The path names no provider")),
            name => Err(GatewayError::no_provider(format!("No provider {name:?}"))),
        };
    };
    Ok(Leads::Native(Resolved {
        gateway,
        unmade,
        entry,
        rest,
    }))
}

fn asked<'a>(gateway: Arc<Gateway>, unmade: bool, endpoint: Endpoint) -> Leads<'a> {
    Leads::Unified(Box::new(Asked {
        gateway,
        unmade,
        endpoint,
    }))
}

/// The gateway of that id, and whether it is still to be made.
fn gateway_of(id: &str, snapshot: &Snapshot) -> Result<(Arc<Gateway>, bool), GatewayError> {
    let stored = snapshot.gateways.get(id);
    let unmade = stored.is_none() && id == DEFAULT_GATEWAY;
    let gateway = stored
        .or(snapshot
            .settings
            .default_gateway
            .as_ref()
            .filter(|_| unmade))
        .cloned()
        .ok_or_else(|| GatewayError::no_gateway(id))?;
    Ok((gateway, unmade))
}

/// `/client/v4/accounts/{account}/ai/...`; a header names the gateway (data plane 1.2).
fn below_client<'a>(
    head: &'a RequestHead,
    path: &'a str,
    snapshot: &Snapshot,
) -> Result<Leads<'a>, GatewayError> {
    let below = path.strip_prefix("/client/v4/accounts/").map(split);
    let (account, rest) = below.ok_or_else(GatewayError::no_path)?;
    let rest = rest.strip_prefix("ai/").ok_or_else(GatewayError::no_path)?;
    if account != &*snapshot.account {
        return Err(GatewayError::no_account(account));
    }
    let named = head.header("cf-aig-gateway-id").map(<[u8]>::trim_ascii);
    let named = named.and_then(|id| std::str::from_utf8(id).ok());
    let id = named.filter(|id| !id.is_empty()).unwrap_or(DEFAULT_GATEWAY);
    let (gateway, unmade) = gateway_of(id, snapshot)?;
    // A model of Cloudflare's own in the path: its input is the body as it stands.
    if rest
        .strip_prefix("run/")
        .is_some_and(|model| !model.is_empty())
        && let Some(entry) = snapshot.providers.get(Slug::WorkersAi.as_str()).cloned()
    {
        return Ok(Leads::Native(Resolved {
            gateway,
            unmade,
            entry,
            rest,
        }));
    }
    Endpoint::below_ai(rest)
        .map(|endpoint| asked(gateway, unmade, endpoint))
        .ok_or_else(GatewayError::no_path)
}

/// Other protocols are not taken up, which `Upgrade` leaves to the server: common clients offer HTTP/2 with every request
/// (RFC 9110 section 7.8).
fn names_websocket(protocols: &[u8]) -> bool {
    protocols
        .split(|byte| *byte == b',')
        .any(|protocol| protocol.trim_ascii().eq_ignore_ascii_case(b"websocket"))
}

/// The gateway that the request's host leads to, where it is a custom domain.
fn domain<'s>(head: &RequestHead, snapshot: &'s Snapshot) -> Option<&'s str> {
    if snapshot.domains.is_empty() {
        return None;
    }
    let host = host_name(head.host()?);
    snapshot.domains.get(&*host).map(|gateway| &**gateway)
}

/// The name in an authority: without port and the dot of the root, in lower case (RFC 3986 section 3.2.2).
fn host_name(authority: &str) -> Cow<'_, str> {
    let host = authority.split(':').next().unwrap_or(authority);
    let host = host.strip_suffix('.').unwrap_or(host);
    match host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => Cow::Owned(host.to_ascii_lowercase()),
        false => Cow::Borrowed(host),
    }
}

/// The gateway's id and what follows it in `/v1/{account}/{gateway}/...`, of which `path` is what follows `/v1/`.
fn below_account<'a>(
    path: &'a str,
    snapshot: &Snapshot,
) -> Result<(&'a str, &'a str), GatewayError> {
    let (account, path) = split(path);
    let (gateway, path) = split(path);
    if account.is_empty() || gateway.is_empty() {
        return Err(GatewayError::no_path());
    }
    if account != &*snapshot.account {
        return Err(GatewayError::no_account(account));
    }
    Ok((gateway, path))
}

fn split(path: &str) -> (&str, &str) {
    match memchr::memchr(b'/', path.as_bytes()) {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (path, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_compared_as_names() {
        for (authority, name) in [
            ("ai.example", "ai.example"),
            ("AI.Example:8443", "ai.example"),
            ("ai.example.", "ai.example"),
            ("ai.example.:80", "ai.example"),
            ("", ""),
        ] {
            assert_eq!(host_name(authority), name, "{authority}");
        }
        // An address in brackets is no domain, whatever is left of it.
        assert_eq!(host_name("[::1]:80"), "[");
    }
}
