//! `ringgate import-cloudflare`.

use std::error::Error;

use serde_json::{Value, json};

use super::apply::reconcile;
use super::client::{Client, Home, Place};
use super::export::{document, provider_configs};
use super::resources::Instance;
use crate::config::SecretSource;

/// What `import-cloudflare` can be told.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    #[command(flatten)]
    home: Home,
    /// Apply to a running server at this URL; its token is taken from CLOUDFLARE_API_TOKEN
    #[arg(long, value_name = "URL")]
    to: Option<String>,
    /// The account at Cloudflare
    #[arg(long, value_name = "ID")]
    account: String,
    /// Where its API token is: env:NAME or file:PATH. It needs AI Gateway Read
    #[arg(long, value_name = "SOURCE")]
    token_from: String,
    /// Cloudflare's API
    #[arg(
        long,
        value_name = "URL",
        default_value = "https://api.cloudflare.com/client/v4"
    )]
    url: String,
    /// Print what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// Reads what the account has, applies it here, and lists the keys, which nobody can read.
pub(super) fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let source = SecretSource::parse(&options.token_from);
    let token = source
        .map_err(|problem| format!("--token-from {problem}"))?
        .read()?;
    let token = String::from_utf8_lossy(token.expose()).into_owned();
    let mut there =
        Client::over_http(&options.url, token, None, true)?.of_account(&options.account);
    let instance = Instance::read(&mut there)?;
    let mut document = document(&instance);
    // Cloudflare's domains lead to Cloudflare.
    document.remove("domains");
    let keys = provider_configs(&mut there, &instance)?;
    document.insert(
        "not_restorable".to_owned(),
        json!({"provider_configs": Value::from(keys)}),
    );
    let mut here = Client::open(&Place {
        home: options.home.clone(),
        url: options.to.clone(),
    })?;
    reconcile(&mut here, &document, options.dry_run, false)?;
    Ok(())
}
