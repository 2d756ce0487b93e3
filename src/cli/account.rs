//! `ringgate account`.

use std::error::Error;

use super::client::{Client, Failure, Place};

/// Prints the account and what it has.
pub(super) fn run(place: &Place) -> Result<(), Box<dyn Error>> {
    let mut client = Client::open(place)?;
    let id = client.account()?;
    let account = client.call("GET", &format!("/accounts/{id}"), None)?;
    let text = |name: &str| account["result"][name].as_str().unwrap_or("-").to_owned();
    let gateways = count(&mut client, &format!("/accounts/{id}/ai-gateway/gateways"))?;
    let tokens = count(&mut client, &format!("/accounts/{id}/tokens"))?;
    println!("id              {id}");
    println!("name            {}", text("name"));
    println!("created         {}", text("created_on"));
    if let Some(folder) = &client.data_dir {
        println!("data directory  {}", folder.display());
    }
    println!("gateways        {gateways}");
    println!("tokens          {tokens}");
    Ok(())
}

fn count(client: &mut Client, path: &str) -> Result<u64, Failure> {
    let body = client.call("GET", &format!("{path}?per_page=5"), None)?;
    Ok(body["result_info"]["total_count"]
        .as_u64()
        .unwrap_or_default())
}
