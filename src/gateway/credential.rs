//! Phase 7: which credential pays (spec: data plane 3.2 and 3.3, resolutions 6 and 7). It is only chosen here; it is opened
//! for the attempt alone.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;

use super::authenticate::Identity;
use super::error::GatewayError;
use super::mint::{self, Account, Minted};
use crate::config::Secret;
use crate::http::RequestHead;
use crate::providers::aws::{AwsCredential, AwsKeys};
use crate::providers::vertex::{AccessToken, ServiceAccount, TokenUris, VertexCredential};
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
    let on_request = !identity.in_key_slot && has_key(head, entry, tokens);
    choose_given(
        head,
        gateway,
        entry,
        identity,
        unauthenticated_too,
        on_request,
    )
}

/// The same where it is known whether the request brings a key.
pub(super) fn choose_given(
    head: &RequestHead,
    gateway: &Gateway,
    entry: &ProviderEntry,
    identity: &Identity,
    unauthenticated_too: bool,
    on_request: bool,
) -> Result<Paying, GatewayError> {
    let wishes = Wishes::of(head);
    let stored = gateway.key(&entry.name, wishes.alias);
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
    sealer
        .open(&key.sealed, belonging)
        .map_err(|error| GatewayError::unreadable_key(&key.alias, &key.provider, error))
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

/// A credential that is no key by itself.
pub(super) enum Costly {
    /// Signs each request.
    Aws(AwsKeys),
    /// Is exchanged for a token, kept under the digest.
    Google(Box<ServiceAccount>, Account),
}

/// What a key comes to.
pub(super) enum Usable {
    /// It goes up as it is.
    Plain,
    /// This goes up in its place: a token that is kept.
    Token(Rc<AccessToken>),
    /// There is work to do first.
    Costly(Costly),
}

/// Looks at what stands in a key's place: AWS keys sign, and Google's service accounts are exchanged for tokens.
/// `from_request` tells keys that came with the request: their token endpoint is Google's alone.
pub(super) fn look_at(
    key: &[u8],
    slug: Slug,
    from_request: bool,
    minted: &Minted,
    now: u64,
) -> Result<Usable, GatewayError> {
    match slug {
        Slug::AwsBedrock if !from_request && key.trim_ascii_start().starts_with(b"{") => {
            match AwsCredential::parse(text(key, slug)?) {
                Ok(AwsCredential::Keys(keys)) => Ok(Usable::Costly(Costly::Aws(keys))),
                Ok(AwsCredential::ApiKey(_)) => Ok(Usable::Plain),
                Err(error) => Err(GatewayError::unfit_key(slug.as_str(), error)),
            }
        }
        Slug::GoogleVertexAi if key.len() >= SERVICE_ACCOUNT_MIN => {
            let account = mint::account(key);
            if let Some(token) = minted.fresh(&account, now) {
                return Ok(Usable::Token(token));
            }
            let allowed = match from_request {
                true => TokenUris::Google,
                false => TokenUris::HttpsOrLoopback,
            };
            match VertexCredential::parse(text(key, slug)?, allowed) {
                Ok(VertexCredential::ServiceAccount(found)) => {
                    Ok(Usable::Costly(Costly::Google(found, account)))
                }
                Ok(VertexCredential::AccessToken(_)) => Ok(Usable::Plain),
                Err(error) => Err(GatewayError::unfit_key(slug.as_str(), error)),
            }
        }
        // Credentials sign requests or are exchanged for a token; they themselves never go anywhere.
        _ if !from_request && key.trim_ascii_start().starts_with(b"{") => {
            let reason = "it is a credential of several parts, and this provider takes a plain key";
            Err(GatewayError::unfit_key(slug.as_str(), reason))
        }
        _ => Ok(Usable::Plain),
    }
}

fn text(key: &[u8], slug: Slug) -> Result<&str, GatewayError> {
    let unfit = |error| GatewayError::unfit_key(slug.as_str(), error);
    std::str::from_utf8(key).map_err(unfit)
}

/// No service account is as short as this; access tokens mostly are.
const SERVICE_ACCOUNT_MIN: usize = 512;

/// The value in `Authorization`, for a request that pays by itself.
pub(super) fn on_request(head: &RequestHead) -> &[u8] {
    head.header("authorization").unwrap_or_default()
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
    value.len() >= tokens.shortest() && tokens.is_token(behind_scheme(value))
}
