//! Phase 3: may this caller use the gateway (spec: data plane 3.1).

use super::error::GatewayError;
use crate::http::RequestHead;
use crate::providers::{bearer, query_key};
use crate::snapshot::{Gateway, Tokens};

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    /// Whether a valid token was shown.
    pub authenticated: bool,
}

/// Slots of provider keys in which a gateway token may stand as well.
const KEY_SLOTS: [&str; 3] = ["x-api-key", "x-goog-api-key", "api-key"];

/// Looks for the token; the first place that holds a valid one counts, and a filled `cf-aig-authorization` counts alone.
pub(super) fn authenticate(
    head: &RequestHead,
    gateway: &Gateway,
    tokens: &Tokens,
) -> Result<Identity, GatewayError> {
    let authenticated = shows_token(head, tokens);
    if gateway.authentication && !authenticated {
        return Err(GatewayError::unauthorized());
    }
    Ok(Identity { authenticated })
}

fn shows_token(head: &RequestHead, tokens: &Tokens) -> bool {
    if tokens.is_empty() {
        return false;
    }
    let own = head.header("cf-aig-authorization").unwrap_or_default();
    if !own.is_empty() {
        return tokens.contains(bearer(own).unwrap_or(own));
    }
    let authorization = head.header("authorization").and_then(bearer);
    let slots = KEY_SLOTS.iter().filter_map(|name| head.header(name));
    let query = head.query().and_then(query_key).map(str::as_bytes);
    authorization
        .into_iter()
        .chain(slots)
        .chain(query)
        .any(|value| tokens.contains(value))
}
