//! `ringgate export`.

use std::error::Error;
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::client::{Client, Failure, Place, segment, write_file};
use super::resources::{Instance, KINDS};

/// The version of the document's form.
pub(super) const VERSION: u64 = 1;

/// What `export` can be told.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    #[command(flatten)]
    place: Place,
    /// Write to this file, which must not exist [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Writes the document.
pub(super) fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let mut client = Client::open(&options.place)?;
    let instance = Instance::read(&mut client)?;
    let mut document = document(&instance);
    document.insert("account".to_owned(), client.account()?.into());
    document.insert(
        "not_restorable".to_owned(),
        metadata(&mut client, &instance)?,
    );
    let text = format!("{:#}\n", Value::Object(document));
    match &options.out {
        Some(path) => write_file(path, &text),
        None => {
            print!("{text}");
            Ok(())
        }
    }
}

/// What `apply` takes: every kind that the instance knows, without what its configuration file declares.
pub(super) fn document(instance: &Instance) -> Map<String, Value> {
    let mut document = Map::new();
    document.insert("version".to_owned(), VERSION.into());
    for (kind, found) in KINDS.iter().zip(&instance.objects) {
        let Some(found) = found else { continue };
        let own = found.iter().filter(|found| !found.is_declared);
        let objects: Vec<Value> = own.map(|found| found.object.clone().into()).collect();
        document.insert(kind.member.to_owned(), objects.into());
    }
    document
}

/// What is told and cannot be made again from here: the values of tokens and keys are nowhere in the clear.
fn metadata(client: &mut Client, instance: &Instance) -> Result<Value, Failure> {
    let account = format!("/accounts/{}", segment(&client.account()?));
    let tokens = some(client, &format!("{account}/tokens"), 50)?;
    let mut secrets = Vec::new();
    for store in some(client, &format!("{account}/secrets_store/stores"), 50)? {
        let id = segment(store["id"].as_str().unwrap_or_default());
        secrets.extend(some(
            client,
            &format!("{account}/secrets_store/stores/{id}/secrets"),
            50,
        )?);
    }
    Ok(json!({
        "note": "Metadata alone: values are not exported. Make tokens and enter keys anew after an apply.",
        "tokens": tokens,
        "secrets": secrets,
        "provider_configs": provider_configs(client, instance)?,
    }))
}

/// The stored provider keys of every gateway, without the keys.
pub(super) fn provider_configs(
    client: &mut Client,
    instance: &Instance,
) -> Result<Vec<Value>, Failure> {
    let account = format!("/accounts/{}", segment(&client.account()?));
    let mut all = Vec::new();
    for gateway in instance.gateways() {
        let path = format!(
            "{account}/ai-gateway/gateways/{}/provider_configs",
            segment(&gateway)
        );
        for config in some(client, &path, 100)? {
            let kept = [
                "provider_slug",
                "alias",
                "default_config",
                "rate_limit",
                "rate_limit_period",
            ];
            let mut told: Map<String, Value> = kept
                .iter()
                .filter(|name| !config[**name].is_null())
                .map(|name| ((*name).to_owned(), config[*name].clone()))
                .collect();
            told.insert("gateway_id".to_owned(), gateway.as_str().into());
            all.push(Value::Object(told));
        }
    }
    Ok(all)
}

/// A list that the API may not know, or not show to this token.
fn some(client: &mut Client, path: &str, per_page: usize) -> Result<Vec<Value>, Failure> {
    match client.list(path, "/result", per_page) {
        Err(failure) if failure.is_unknown_path() => Ok(Vec::new()),
        Err(Failure::Refused { status: 403, .. }) => {
            eprintln!("note: the token may not read {path}; it is left out");
            Ok(Vec::new())
        }
        outcome => outcome,
    }
}
