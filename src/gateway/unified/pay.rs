//! Phase 7 where the body names the provider: which credential pays, and what it says about where the provider is.

use std::rc::Rc;

use super::Admitted;
use crate::config::Secret;
use crate::dialect::run::KeySource;
use crate::dialect::surface::Site;
use crate::gateway::credential::{self, Paying, is_key};
use crate::gateway::error::GatewayError;
use crate::gateway::mint::{self, Account, Minted};
use crate::http::RequestHead;
use crate::providers::aws::{AwsCredential, AwsKeys};
use crate::providers::azure::AzureCredential;
use crate::providers::vertex::{self, AccessToken, ServiceAccount, TokenUris, VertexCredential};
use crate::providers::{Slug, behind_scheme};
use crate::snapshot::{ProviderEntry, Settings};

/// What pays.
pub(super) enum Means {
    /// Nothing: the provider may not ask.
    Nothing,
    /// A key.
    Key(Secret),
    /// A token that is kept.
    Token(Rc<AccessToken>),
    /// An account whose token is still to be got.
    Google(Box<ServiceAccount>, Account),
    /// Keys that sign.
    Aws(AwsKeys),
}

/// What pays, and where it pays.
pub(super) struct Credential {
    pub means: Means,
    pub site: Site,
    /// Who pays.
    pub paying: Paying,
}

impl Credential {
    /// Whose key it is.
    pub fn source(&self) -> KeySource {
        match self.paying {
            Paying::House => KeySource::House,
            _ => KeySource::Own,
        }
    }
}

/// A client's key stands where its SDK puts keys, whoever is to be paid with it (data plane 9).
const KEY_SLOTS: [&str; 4] = ["authorization", "x-api-key", "x-goog-api-key", "api-key"];

/// Chooses and opens the credential for a provider.
pub(super) fn credential(
    head: &RequestHead,
    admitted: &Admitted,
    entry: &ProviderEntry,
    settings: &Settings,
    minted: &Minted,
    now: u64,
) -> Result<Credential, GatewayError> {
    let on_request = key_on_request(head, admitted);
    let paying = credential::choose_given(
        head,
        &admitted.asked.gateway,
        entry,
        &admitted.identity,
        settings.house_keys_unauthenticated,
        on_request.is_some(),
    )?;
    let stored = match &paying {
        Paying::Stored(key) => {
            let opened = credential::open(key, &admitted.sealer, &admitted.account)?;
            Some(opened)
        }
        _ => None,
    };
    let (value, from_request) = match &paying {
        Paying::Request => (on_request, true),
        Paying::Stored(_) => (stored.as_ref().map(Secret::expose), false),
        Paying::House => (entry.house_key.as_ref().map(Secret::expose), false),
        Paying::Nobody => (None, false),
    };
    let slug = entry.provider.slug();
    let (means, mut site) = match value {
        Some(value) => look_at(value, slug, from_request, minted, now)?,
        None => (Means::Nothing, Site::default()),
    };
    let configured = |value: &Option<Box<str>>| value.as_deref().map(str::to_owned);
    site.region = site.region.or_else(|| configured(&entry.region));
    site.project = site.project.or_else(|| configured(&entry.project));
    site.hosted = entry.provider.is_hosted();
    site.versioned = entry.provider.ends_in_version();
    Ok(Credential {
        means,
        site,
        paying,
    })
}

/// Whether the request brings a provider's key.
pub(super) fn brings_key(head: &RequestHead, admitted: &Admitted) -> bool {
    key_on_request(head, admitted).is_some()
}

pub(super) fn key_on_request<'h>(head: &'h RequestHead, admitted: &Admitted) -> Option<&'h [u8]> {
    let mut values = KEY_SLOTS.iter().filter_map(|name| head.header(name));
    let key = values.find(|value| is_key(value, &admitted.tokens));
    key.filter(|_| !admitted.identity.in_key_slot)
}

fn look_at(
    value: &[u8],
    slug: Slug,
    from_request: bool,
    minted: &Minted,
    now: u64,
) -> Result<(Means, Site), GatewayError> {
    let unfit = |reason: &dyn std::fmt::Display| GatewayError::unfit_key(slug.as_str(), reason);
    let plain = |key: &[u8]| Means::Key(Secret::from(Box::<[u8]>::from(key)));
    if value.starts_with(b"AWS4-HMAC-SHA256") {
        return Err(unfit(
            &"a signature covers one request to AWS; send a Bedrock API key, or store keys that sign",
        ));
    }
    let is_object = !from_request && value.trim_ascii_start().starts_with(b"{");
    match slug {
        Slug::GoogleVertexAi => {
            let text = std::str::from_utf8(value).map_err(|error| unfit(&error))?;
            google(text, from_request, minted, now).map_err(|error| unfit(&error))
        }
        Slug::AwsBedrock if is_object => {
            let text = std::str::from_utf8(value).map_err(|error| unfit(&error))?;
            let parsed = AwsCredential::parse(text).map_err(|error| unfit(&error))?;
            let region = parsed.stated_region().map(str::to_owned);
            let means = match parsed {
                AwsCredential::Keys(keys) => Means::Aws(keys),
                AwsCredential::ApiKey(key) => plain(key.expose().as_bytes()),
            };
            let site = Site {
                region,
                ..Site::default()
            };
            Ok((means, site))
        }
        Slug::AzureOpenAi if is_object => {
            let parsed = AzureCredential::parse(value).map_err(|error| unfit(&error))?;
            let site = Site {
                resource: parsed.resource,
                api_version: parsed.api_version,
                ..Site::default()
            };
            Ok((plain(parsed.api_key.expose().as_bytes()), site))
        }
        _ if is_object => Err(unfit(
            &"it is a credential of several parts, and this provider takes a plain key",
        )),
        _ => Ok((plain(behind_scheme(value)), Site::default())),
    }
}

/// A service account, or a token that says nothing of its project.
fn google(
    text: &str,
    from_request: bool,
    minted: &Minted,
    now: u64,
) -> Result<(Means, Site), vertex::VertexCredentialError> {
    let account = mint::account(text.as_bytes());
    let home = vertex::home(text);
    let means = match (minted.fresh(&account, now), from_request) {
        (Some(token), _) => Means::Token(token),
        (None, from_request) => {
            let allowed = match from_request {
                true => TokenUris::Google,
                false => TokenUris::HttpsOrLoopback,
            };
            match VertexCredential::parse(text, allowed)? {
                VertexCredential::ServiceAccount(found) => Means::Google(found, account),
                VertexCredential::AccessToken(token) => {
                    let bytes = token.expose().as_bytes();
                    Means::Key(Secret::from(Box::<[u8]>::from(bytes)))
                }
            }
        }
    };
    let site = Site {
        project: home.project,
        region: home.region,
        ..Site::default()
    };
    Ok((means, site))
}
