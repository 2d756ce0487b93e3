//! Phase 7: which credential pays (spec: data plane 3.2 and 3.3, resolutions 6 and 7). It is only chosen here; it is opened
//! for the attempt alone.

use std::borrow::Cow;
use std::sync::Arc;

use super::authenticate::Identity;
use super::error::GatewayError;
use crate::config::Secret;
use crate::http::RequestHead;
use crate::providers::{Slug, behind_scheme, is_empty_key, query_key};
use crate::seal::{Belonging, Sealer};
use crate::snapshot::{Gateway, ProviderEntry, StoredKey, Tokens};

/// Who pays the provider.
#[derive(Debug, Clone)]
pub(super) enum Paying {
    /// The key on the request, verbatim.
    Request,
    /// A key that the gateway keeps.
    Stored(Arc<StoredKey>),
    /// The instance's own key.
    House,
    /// Nobody: the provider may not ask.
    Nobody,
}

/// What a request's head says about who pays.
pub(super) struct Wishes<'a> {
    /// `cf-aig-byok-alias`.
    alias: Option<&'a str>,
    /// `cf-aig-no-wholesale: true`.
    no_house: bool,
}

impl<'a> Wishes<'a> {
    fn of(head: &'a RequestHead) -> Self {
        let text = |name| std::str::from_utf8(head.header(name)?.trim_ascii()).ok();
        Self {
            alias: text("cf-aig-byok-alias").filter(|alias| !alias.is_empty()),
            no_house: text("cf-aig-no-wholesale")
                .is_some_and(|value| value.eq_ignore_ascii_case("true")),
        }
    }
}

/// A key on the request, else a stored one, else the instance's own. A gateway token in a key's place is none.
pub(super) fn choose(
    head: &RequestHead,
    gateway: &Gateway,
    entry: &ProviderEntry,
    tokens: &Tokens,
    identity: &Identity,
    unauthenticated_too: bool,
) -> Result<Paying, GatewayError> {
    let wishes = Wishes::of(head);
    let stored = gateway.key(&entry.name, wishes.alias);
    let on_request = !identity.in_key_slot && has_key(head, entry, tokens);
    if on_request && !(gateway.prefer_stored_keys && stored.is_some()) {
        return Ok(Paying::Request);
    }
    if let Some(key) = stored {
        return Ok(Paying::Stored(key.clone()));
    }
    if let Some(alias) = wishes.alias {
        return Err(GatewayError::no_alias(alias, &entry.name));
    }
    let forbidden = gateway.byok_only || wishes.no_house;
    match &entry.house_key {
        Some(_) if !forbidden && (identity.is_authenticated() || unauthenticated_too) => {
            Ok(Paying::House)
        }
        _ if forbidden && entry.provider.slug() != Slug::WorkersAi => {
            Err(GatewayError::no_credential(&entry.name))
        }
        _ => Ok(Paying::Nobody),
    }
}

/// Opens a stored key. One that cannot be read is an error and nobody else pays (data plane 3.2).
pub(super) fn open(
    key: &StoredKey,
    sealer: &Sealer,
    account: &str,
) -> Result<Secret, GatewayError> {
    let belonging = Belonging {
        account,
        id: &key.secret.0,
        name: &key.secret.1,
    };
    let opened = sealer
        .open(&key.sealed, belonging)
        .map_err(|error| GatewayError::unreadable_key(&key.alias, &key.provider, error))?;
    // Credentials sign requests or are exchanged for a token; they themselves never go anywhere.
    match opened.expose().starts_with(b"{") {
        true => Err(GatewayError::no_plain_key(&key.alias, &key.provider)),
        false => Ok(opened),
    }
}

/// The query as it goes up: with the client's key only where that pays, and never with a gateway token.
pub(super) fn query_going_up<'a>(
    query: &'a str,
    slug: Slug,
    of_request: bool,
    tokens: &Tokens,
) -> Cow<'a, str> {
    let stays = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let decoded: Cow<'_, [u8]> = percent_encoding::percent_decode_str(value).into();
        let is_key = slug.takes_query_key() && name == "key";
        !is_token(&decoded, tokens) && !(is_key && (!of_request || value.is_empty()))
    };
    if query.split('&').all(stays) {
        return Cow::Borrowed(query);
    }
    let kept: Vec<&str> = query.split('&').filter(|pair| stays(pair)).collect();
    Cow::Owned(kept.join("&"))
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

/// Whether a header's value is a gateway token, bare or behind a scheme: providers' SDKs write `Bearer`, `Token`, `Key` and
/// others before whatever they are given as a key.
pub(super) fn is_token(value: &[u8], tokens: &Tokens) -> bool {
    tokens.is_token(behind_scheme(value))
}
