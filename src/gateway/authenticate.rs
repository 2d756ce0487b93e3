//! Phase 3: may this caller use the gateway (spec: data plane 3.1).

use std::net::IpAddr;
use std::sync::Arc;

use super::error::GatewayError;
use crate::access::Permission;
use crate::http::RequestHead;
use crate::providers::{behind_scheme, query_key};
use crate::snapshot::{Gateway, Token, Tokens};

/// Who asks.
#[derive(Debug, Clone, Default)]
pub(super) struct Identity {
    /// The token that was shown, if it is valid and may run requests on the gateway.
    pub token: Option<Arc<Token>>,
    /// Whether it stood in the place of a provider's key: then none of these places holds one (data plane 3.3).
    pub in_key_slot: bool,
}

impl Identity {
    /// Whether a valid token was shown.
    pub fn is_authenticated(&self) -> bool {
        self.token.is_some()
    }
}

impl Identity {
    /// The same caller at one of several steps, whose head has key slots of its own.
    pub fn at_step(&self, head: &RequestHead, tokens: &Tokens) -> Self {
        let in_slot = |token: &Token| {
            let known = self.token.as_ref();
            known.is_some_and(|known| known.id == token.id)
        };
        Self {
            token: self.token.clone(),
            in_key_slot: identify(head, tokens, in_slot).in_key_slot,
        }
    }
}

/// Slots of provider keys in which a gateway token may stand as well.
const KEY_SLOTS: [&str; 4] = ["x-api-key", "x-goog-api-key", "api-key", "xi-api-key"];

/// Looks for the token; the first place that holds a valid one counts, and a filled `cf-aig-authorization` counts alone.
pub(super) fn authenticate(
    head: &RequestHead,
    gateway: &Gateway,
    tokens: &Tokens,
    now: u64,
    client: IpAddr,
) -> Result<Identity, GatewayError> {
    let identity = identify(head, tokens, |token| {
        token.may(Permission::GatewayRun, Some(&gateway.id)) && token.admit(now, client).is_ok()
    });
    if gateway.authentication && !identity.is_authenticated() {
        return Err(GatewayError::unauthorized());
    }
    Ok(identity)
}

fn identify(head: &RequestHead, tokens: &Tokens, valid: impl Fn(&Token) -> bool) -> Identity {
    let find = |value: &[u8]| tokens.find(value).filter(|token| valid(token)).cloned();
    if tokens.is_empty() {
        return Identity::default();
    }
    let own = head.header("cf-aig-authorization").unwrap_or_default();
    if !own.is_empty() {
        return Identity {
            token: find(behind_scheme(own)),
            in_key_slot: false,
        };
    }
    let authorization = head.header("authorization").map(behind_scheme);
    let slots = KEY_SLOTS.iter().filter_map(|name| head.header(name));
    let query = head.query().and_then(query_key).map(str::as_bytes);
    let token = authorization
        .into_iter()
        .chain(slots)
        .chain(query)
        .find_map(find);
    Identity {
        in_key_slot: token.is_some(),
        token,
    }
}
