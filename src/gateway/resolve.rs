//! Phase 2: from the path, or the host, to account, gateway and provider (spec: data plane 1).

use std::borrow::Cow;
use std::sync::Arc;

use super::error::GatewayError;
use crate::http::RequestHead;
use crate::limits::DEFAULT_GATEWAY;
use crate::snapshot::{Gateway, ProviderEntry, Snapshot};

/// What a path leads to.
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

/// `/v1/{account}/{gateway}/{provider}/{rest}`; on a custom domain `/{provider}/{rest}` alone.
pub(super) fn resolve<'a>(
    head: &'a RequestHead,
    snapshot: &Snapshot,
) -> Result<Resolved<'a>, GatewayError> {
    if head.upgrade().is_some_and(names_websocket) {
        return Err(GatewayError::no_upgrade());
    }
    if head.method_str() == "CONNECT" {
        return Err(GatewayError::bad_request(501, "CONNECT is not served"));
    }
    let path = head.path();
    let (gateway, path) = match domain(head, snapshot) {
        Some(gateway) => (gateway, path.strip_prefix('/').unwrap_or(path)),
        None => below_account(path, snapshot)?,
    };
    let (provider, rest) = split(path);
    let stored = snapshot.gateways.get(gateway);
    let unmade = stored.is_none() && gateway == DEFAULT_GATEWAY;
    let gateway = stored
        .or(snapshot
            .settings
            .default_gateway
            .as_ref()
            .filter(|_| unmade))
        .cloned()
        .ok_or_else(|| GatewayError::no_gateway(gateway))?;
    let entry = snapshot.providers.get(provider).cloned().ok_or_else(|| {
        GatewayError::no_provider(match provider {
            "" => "The path names no provider".to_owned(),
            name => format!("No provider {name:?}"),
        })
    })?;
    Ok(Resolved {
        gateway,
        unmade,
        entry,
        rest,
    })
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

/// The gateway's id and what follows it in `/v1/{account}/{gateway}/...`.
fn below_account<'a>(
    path: &'a str,
    snapshot: &Snapshot,
) -> Result<(&'a str, &'a str), GatewayError> {
    let path = path
        .strip_prefix("/v1/")
        .ok_or_else(GatewayError::no_path)?;
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
