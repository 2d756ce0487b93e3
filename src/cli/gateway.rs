//! `ringgate gateway`.

use std::error::Error;

use serde_json::{Value, json};

use super::client::{Client, Place, segment};

/// What `gateway` can be told.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Action {
    /// List gateways
    List {
        #[command(flatten)]
        place: Place,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Create a gateway; its settings are those of a new one, with authentication on
    Create {
        #[command(flatten)]
        place: Place,
        /// Its name in the path
        id: String,
    },
    /// Delete a gateway with its routes and provider configurations
    Delete {
        #[command(flatten)]
        place: Place,
        /// Its name in the path
        id: String,
    },
}

pub(super) fn run(action: &Action) -> Result<(), Box<dyn Error>> {
    let (Action::List { place, .. } | Action::Create { place, .. } | Action::Delete { place, .. }) =
        action;
    let mut client = Client::open(place)?;
    let path = format!("/accounts/{}/ai-gateway/gateways", client.account()?);
    match action {
        Action::List { json, .. } => {
            let gateways = client.list(&path, "/result", 100)?;
            if *json {
                println!("{:#}", Value::from(gateways));
                return Ok(());
            }
            let rows = gateways.iter().map(|gateway| {
                let is_open = gateway["effective"]["authentication"] == false;
                [
                    gateway["id"].as_str().unwrap_or_default().to_owned(),
                    if is_open { "open" } else { "authenticated" }.to_owned(),
                    gateway["created_at"]
                        .as_str()
                        .unwrap_or_default()
                        .to_owned(),
                ]
            });
            let heading = ["ID", "ACCESS", "CREATED"].map(str::to_owned);
            print!("{}", super::table(heading, rows.collect()));
        }
        Action::Create { id, .. } => {
            let body = json!({
                "id": id,
                "cache_invalidate_on_update": true,
                "cache_ttl": 0,
                "collect_logs": true,
                "rate_limiting_interval": 0,
                "rate_limiting_limit": 0,
            });
            client
                .call("POST", &path, Some(&body))
                .map_err(|failure| failure.about(&format!("gateway {id:?}")))?;
            eprintln!("gateway {id} is made");
        }
        Action::Delete { id, .. } => {
            client
                .call("DELETE", &format!("{path}/{}", segment(id)), None)
                .map_err(|failure| failure.about(&format!("gateway {id:?}")))?;
            eprintln!("gateway {id} is deleted");
        }
    }
    Ok(())
}
