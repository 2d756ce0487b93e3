//! Phase 7: which credential pays (spec: data plane 3.2 and 3.3, resolutions 6 and 7). It is only chosen here; the attempt
//! writes it.

use super::authenticate::Identity;
use crate::http::RequestHead;
use crate::providers::{bearer, is_empty_key, query_key};
use crate::snapshot::{ProviderEntry, Tokens};

/// Who pays the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Paying {
    /// The key on the request, verbatim.
    Request,
    /// The instance's own key.
    House,
    /// Nobody: the provider may not ask.
    Nobody,
}

/// A key on the request wins; a gateway token in a key's place is none.
pub(super) fn choose(
    head: &RequestHead,
    entry: &ProviderEntry,
    tokens: &Tokens,
    identity: Identity,
    unauthenticated_too: bool,
) -> Paying {
    if has_key(head, entry, tokens) {
        return Paying::Request;
    }
    match &entry.house_key {
        Some(_) if identity.authenticated || unauthenticated_too => Paying::House,
        _ => Paying::Nobody,
    }
}

fn has_key(head: &RequestHead, entry: &ProviderEntry, tokens: &Tokens) -> bool {
    let slug = entry.provider.slug();
    let in_header = head
        .headers()
        .any(|(name, value)| slug.is_key_header(name) && is_key(value, tokens));
    in_header
        || slug.takes_query_key()
            && head
                .query()
                .and_then(query_key)
                .is_some_and(|key| is_key(key.as_bytes(), tokens))
}

/// Whether a value in a key's place is a provider's key: not empty and no gateway token.
pub(super) fn is_key(value: &[u8], tokens: &Tokens) -> bool {
    !is_empty_key(value) && !is_token(value, tokens)
}

/// Whether a header's value is a gateway token, bare or behind `Bearer`.
pub(super) fn is_token(value: &[u8], tokens: &Tokens) -> bool {
    !tokens.is_empty()
        && (tokens.contains(value) || bearer(value).is_some_and(|token| tokens.contains(token)))
}
