//! `ringgate token`.

use std::error::Error;

use serde_json::{Value, json};

use super::client::{Client, Failure, Place};
use crate::access::{self, PERMISSION_GROUPS};

/// What `token` can be told.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Action {
    /// Create a token; its value is printed, this once
    Create(Create),
    /// List tokens, without their values
    List {
        #[command(flatten)]
        place: Place,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Give a token a new value, which is printed, this once; the old one stops at once
    Roll(Which),
    /// Revoke a token: the next request with it is refused
    Revoke(Which),
}

/// What `token create` can be told.
#[derive(Debug, clap::Args)]
pub(super) struct Create {
    #[command(flatten)]
    place: Place,
    /// Its name, for people
    #[arg(long)]
    name: String,
    /// A permission group, such as "AI Gateway Run"; may be repeated
    #[arg(long, value_name = "GROUP", required = true)]
    permission: Vec<String>,
    /// Only for this gateway; may be repeated [default: all]
    #[arg(long, value_name = "GATEWAY")]
    gateway: Vec<String>,
    /// When it ends: a duration such as 30d, or a time such as 2027-01-31T00:00:00Z [default: never]
    #[arg(long, value_name = "WHEN")]
    expires: Option<String>,
    /// Print the whole token as JSON
    #[arg(long)]
    json: bool,
}

/// One token.
#[derive(Debug, clap::Args)]
pub(super) struct Which {
    #[command(flatten)]
    place: Place,
    /// Its id, or its name where only one has it
    #[arg(value_name = "ID|NAME")]
    token: String,
}

/// Both paths show the same tokens, and this one names no account.
const PATH: &str = "/user/tokens";
/// The most that a page holds (control plane 1.4).
const PER_PAGE: usize = 50;

pub(super) fn run(action: &Action) -> Result<(), Box<dyn Error>> {
    match action {
        Action::Create(options) => create(options),
        Action::List { place, json } => list(&mut Client::open(place)?, *json),
        Action::Roll(which) => roll(&mut Client::open(&which.place)?, &which.token),
        Action::Revoke(which) => revoke(&mut Client::open(&which.place)?, &which.token),
    }
}

fn create(options: &Create) -> Result<(), Box<dyn Error>> {
    let groups = options.permission.iter().map(|name| group(name));
    let groups = groups.collect::<Result<Vec<_>, _>>()?;
    let expires = match &options.expires {
        Some(text) => Some(moment(text, jiff::Timestamp::now())?),
        None => None,
    };
    let mut client = Client::open(&options.place)?;
    let account = format!("com.cloudflare.api.account.{}", client.account()?);
    let resources: serde_json::Map<String, Value> = match options.gateway.is_empty() {
        true => [(account, json!("*"))].into_iter().collect(),
        false => options
            .gateway
            .iter()
            .map(|gateway| {
                (
                    format!("{account}.ai-gateway.gateway.{gateway}"),
                    json!("*"),
                )
            })
            .collect(),
    };
    let mut body = json!({
        "name": options.name,
        "policies": [{"effect": "allow", "permission_groups": groups, "resources": resources}],
    });
    if let Some(expires) = expires {
        body["expires_on"] = json!(expires);
    }
    let answer = client.call("POST", PATH, Some(&body))?;
    let token = &answer["result"];
    if options.json {
        println!("{token:#}");
        return Ok(());
    }
    eprintln!(
        "token {} ({}) is made; its value is shown this once:",
        options.name,
        token["id"].as_str().unwrap_or_default()
    );
    println!("{}", token["value"].as_str().unwrap_or_default());
    Ok(())
}

fn group(name: &str) -> Result<Value, String> {
    match access::group(name) {
        Some(group) => Ok(json!({"id": group.id})),
        None => {
            let names: Vec<&str> = PERMISSION_GROUPS.iter().map(|group| group.name).collect();
            Err(format!(
                "no permission group {name:?}; there are: {}",
                names.join(", ")
            ))
        }
    }
}

/// A duration from now, or a time, as the API takes it.
fn moment(text: &str, now: jiff::Timestamp) -> Result<String, String> {
    let until = match humantime::parse_duration(text) {
        Ok(duration) => i64::try_from(duration.as_secs())
            .ok()
            .and_then(|seconds| now.as_second().checked_add(seconds)),
        Err(_) => {
            let time: jiff::Timestamp = text.parse().map_err(|_| {
                format!("--expires {text:?} is neither a duration such as 30d nor a time such as 2027-01-31T00:00:00Z")
            })?;
            Some(time.as_second())
        }
    };
    let until = until.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    let until = until.ok_or_else(|| format!("--expires {text:?} is too far away"))?;
    if until <= now {
        return Err(format!("--expires {text:?} is not in the future"));
    }
    Ok(until.to_string())
}

fn list(client: &mut Client, json: bool) -> Result<(), Box<dyn Error>> {
    let tokens = client.list(PATH, "/result", PER_PAGE)?;
    if json {
        println!("{:#}", Value::from(tokens));
        return Ok(());
    }
    let rows = tokens.iter().map(|token| {
        let text = |name: &str| token[name].as_str().unwrap_or("-").to_owned();
        [
            text("id"),
            text("name"),
            text("status"),
            text("expires_on"),
            text("last_used_on"),
            permissions(token),
        ]
    });
    let heading = ["ID", "NAME", "STATUS", "EXPIRES", "LAST USED", "MAY"].map(str::to_owned);
    print!("{}", super::table(heading, rows.collect()));
    Ok(())
}

/// What a token may do, and where it is limited to gateways.
fn permissions(token: &Value) -> String {
    let each = |policy: &Value| {
        let groups = policy["permission_groups"].as_array();
        let names: Vec<&str> = groups
            .into_iter()
            .flatten()
            .filter_map(|group| group["name"].as_str())
            .collect();
        let gateways: Vec<&str> = policy["resources"]
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(|(resource, _)| resource.split_once(".ai-gateway.gateway."))
            .map(|(_, gateway)| gateway)
            .collect();
        let effect = if policy["effect"] == "deny" {
            "not "
        } else {
            ""
        };
        let place = match gateways.is_empty() {
            true => String::new(),
            false => format!(" on {}", gateways.join(", ")),
        };
        format!("{effect}{}{place}", names.join(", "))
    };
    let policies = token["policies"].as_array();
    let texts: Vec<String> = policies.into_iter().flatten().map(each).collect();
    texts.join("; ")
}

/// The token of an id, or of a name that only one has.
fn find(client: &mut Client, wanted: &str) -> Result<Value, Failure> {
    let tokens = client.list(PATH, "/result", PER_PAGE)?;
    if let Some(token) = tokens.iter().find(|token| token["id"] == wanted) {
        return Ok(token.clone());
    }
    let named: Vec<&Value> = tokens
        .iter()
        .filter(|token| token["name"] == wanted)
        .collect();
    match named[..] {
        [token] => Ok(token.clone()),
        [] => Err(Failure::Unfit(format!("no token {wanted:?}"))),
        _ => {
            let ids: Vec<&str> = named
                .iter()
                .filter_map(|token| token["id"].as_str())
                .collect();
            Err(Failure::Unfit(format!(
                "{} tokens are named {wanted:?}; give one of the ids {}",
                ids.len(),
                ids.join(", ")
            )))
        }
    }
}

fn roll(client: &mut Client, wanted: &str) -> Result<(), Box<dyn Error>> {
    let token = find(client, wanted)?;
    let id = token["id"].as_str().unwrap_or_default();
    let answer = client.call("PUT", &format!("{PATH}/{id}/value"), Some(&json!({})))?;
    if token["status"] != "active" {
        eprintln!(
            "note: the token is {}; a new value does not change that",
            token["status"].as_str().unwrap_or_default()
        );
    }
    eprintln!("token {wanted} has a new value, which is shown this once:");
    println!("{}", answer["result"].as_str().unwrap_or_default());
    Ok(())
}

fn revoke(client: &mut Client, wanted: &str) -> Result<(), Box<dyn Error>> {
    let token = find(client, wanted)?;
    let id = token["id"].as_str().unwrap_or_default();
    client.call("DELETE", &format!("{PATH}/{id}"), None)?;
    eprintln!("token {wanted} is revoked");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_a_duration_or_a_time_in_the_future() {
        let now = jiff::Timestamp::from_millisecond(86_400_500).expect("a time");
        assert_eq!(moment("30d", now).as_deref(), Ok("1970-02-01T00:00:00Z"));
        assert_eq!(
            moment("2027-01-31T01:00:00+01:00", now).as_deref(),
            Ok("2027-01-31T00:00:00Z")
        );
        for wrong in ["soon", "1970-01-01T00:00:00Z", "0s", "999999999999y", ""] {
            assert!(moment(wrong, now).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_a_token_may_do_is_told() {
        let token = json!({"policies": [
            {"effect": "allow", "permission_groups": [{"name": "AI Gateway Run"}],
             "resources": {"com.cloudflare.api.account.a.ai-gateway.gateway.g": "*"}},
            {"effect": "deny", "permission_groups": [{"name": "Logs Read"}], "resources": {"com.cloudflare.api.account.a": "*"}},
        ]});
        assert_eq!(permissions(&token), "AI Gateway Run on g; not Logs Read");
    }
}
