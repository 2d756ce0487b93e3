//! `GET compat/v1/models`: what this caller can ask for, without a call of any provider (resolutions 24).

use std::collections::BTreeSet;

use super::Admitted;
use crate::dialect::listing;
use crate::gateway::credential::{self, Paying};
use crate::http::RequestHead;
use crate::snapshot::{ProviderEntry, Settings};

/// The list's body.
pub(super) fn models(head: &RequestHead, admitted: &Admitted, settings: &Settings) -> Vec<u8> {
    let gateway = &admitted.asked.gateway;
    let mut ids: BTreeSet<String> = gateway
        .routes
        .keys()
        .map(|route| format!("dynamic/{route}"))
        .collect();
    // A key that the caller brings says nothing of whose it is.
    let brings_key = super::pay::brings_key(head, admitted);
    for entry in admitted.providers.values() {
        if !brings_key && !is_paid_for(head, admitted, entry, settings) {
            continue;
        }
        let known = entry.provider.slug().known_models().iter().copied();
        let priced = entry.models.iter().map(|model| &**model);
        ids.extend(
            known
                .chain(priced)
                .map(|model| format!("{}/{model}", entry.name)),
        );
    }
    let body = listing::models(ids.iter().map(String::as_str));
    body.to_string().into_bytes()
}

/// Whether a key is kept that pays for this caller. Custom providers may not ask for one.
fn is_paid_for(
    head: &RequestHead,
    admitted: &Admitted,
    entry: &ProviderEntry,
    settings: &Settings,
) -> bool {
    let paying = credential::choose_given(
        head,
        &admitted.asked.gateway,
        entry,
        &admitted.identity,
        settings.house_keys_unauthenticated,
        false,
    );
    match paying {
        Ok(Paying::Nobody) => !entry.models.is_empty(),
        Ok(_) => true,
        Err(_) => false,
    }
}
