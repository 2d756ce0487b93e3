//! `GET compat/v1/models`: what this caller can ask for, without a call of any provider (resolutions 24).

use std::collections::BTreeMap;

use super::Admitted;
use crate::dialect::listing;
use crate::gateway::credential::{self, Paying};
use crate::http::RequestHead;
use crate::meter::prices::Prices;
use crate::providers::Slug;
use crate::snapshot::{ProviderEntry, Settings};

/// The list's body, in the order of its ids.
pub(super) fn models(
    head: &RequestHead,
    admitted: &Admitted,
    settings: &Settings,
    prices: &Prices,
) -> Vec<u8> {
    // By what stands before the models' names: aliases lead to the same entry.
    let mut owners: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let mut routes: Vec<&str> = admitted
        .asked
        .gateway
        .routes
        .keys()
        .map(|name| &**name)
        .collect();
    routes.sort_unstable();
    owners.insert("dynamic/".to_owned(), routes);
    // A key that the caller brings says nothing of whose it is.
    let brings_key = super::pay::brings_key(head, admitted);
    for entry in admitted.providers.values() {
        if brings_key || is_paid_for(head, admitted, entry, settings, prices) {
            let names = || names(entry, prices);
            owners
                .entry(format!("{}/", entry.name))
                .or_insert_with(names);
        }
    }
    listing::models(&owners)
}

/// The models of a provider that the price table knows, those that the operator has priced, and the better-known ones; sorted.
fn names<'a>(entry: &ProviderEntry, prices: &'a Prices) -> Vec<&'a str> {
    let slug = entry.provider.slug();
    let priced = prices.models(&entry.name).iter().map(|name| &**name);
    let mut names: Vec<&str> = priced.filter(|name| slug.lists(name)).collect();
    for known in slug.known_models() {
        if let Err(place) = names.binary_search(known) {
            names.insert(place, known);
        }
    }
    names
}

/// Whether a key is kept that pays for this caller. Custom providers may not ask for one.
fn is_paid_for(
    head: &RequestHead,
    admitted: &Admitted,
    entry: &ProviderEntry,
    settings: &Settings,
    prices: &Prices,
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
        Ok(Paying::Nobody) => {
            entry.provider.slug() == Slug::Custom && !prices.models(&entry.name).is_empty()
        }
        Ok(_) => true,
        Err(_) => false,
    }
}
