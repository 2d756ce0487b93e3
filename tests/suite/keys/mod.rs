//! Stored provider keys: the secrets store, provider configurations, who pays, what nobody ever sees, the master key.

mod master_key;
mod paying;
mod store;

use ringgate::sim;
use serde_json::{Value, json};

use crate::harness::{Answer, Client, Gateway, Setup, received};

const TOKEN: &str = "rg-keys-test-token-0123456789-0123456789";
const STORES: &str = "secrets_store/stores";

/// A gateway that knows [`TOKEN`], with a gateway `g` of the API behind it that demands it.
fn start(setup: Setup) -> Gateway {
    let gateway = setup.env("RINGGATE_BOOTSTRAP_TOKEN", TOKEN).start();
    create_gateway(&gateway, "g", json!({}));
    gateway
}

fn create_gateway(gateway: &Gateway, id: &str, settings: Value) {
    let mut body = json!({"id": id, "cache_invalidate_on_update": true, "cache_ttl": 0, "collect_logs": true,
        "rate_limiting_interval": 0, "rate_limiting_limit": 0});
    for (name, value) in settings.as_object().expect("settings") {
        body[name] = value.clone();
    }
    ok(&api(gateway, "POST", "ai-gateway/gateways", Some(&body)));
}

/// A management call below the account.
fn api(gateway: &Gateway, method: &str, path: &str, body: Option<&Value>) -> Answer {
    api_as(gateway, TOKEN, method, path, body)
}

fn api_as(
    gateway: &Gateway,
    token: &str,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> Answer {
    let text = body.map(Value::to_string);
    raw(gateway, token, method, path, text.as_deref())
}

fn raw(gateway: &Gateway, token: &str, method: &str, path: &str, body: Option<&str>) -> Answer {
    let body = body.unwrap_or_default();
    let mut client = Client::connect(gateway.management);
    let request = format!(
        "{method} /client/v4/accounts/acc/{path} HTTP/1.1\r\nHost: m\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    client.write(request.as_bytes());
    client.answer()
}

/// The result of a success.
fn ok(answer: &Answer) -> Value {
    let body = answer.json();
    assert_eq!(
        (answer.status, &body["success"]),
        (200, &json!(true)),
        "{body}"
    );
    body["result"].clone()
}

/// Status, code and message of a refusal.
fn refusal(answer: &Answer) -> (u16, u64, String) {
    let body = answer.json();
    assert_eq!(
        (&body["success"], &body["result"]),
        (&json!(false), &Value::Null),
        "{body}"
    );
    let error = &body["errors"][0];
    let message = error["message"].as_str().expect("a message");
    (
        answer.status,
        error["code"].as_u64().expect("a code"),
        message.to_owned(),
    )
}

fn word(answer: &Answer) -> (u16, u64, String) {
    let (status, code, message) = refusal(answer);
    let word = message.split(':').next().expect("a word").to_owned();
    (status, code, word)
}

fn configs(gateway_id: &str) -> String {
    format!("ai-gateway/gateways/{gateway_id}/provider_configs")
}

/// Stores a key for gateway `g`.
fn store_key(gateway: &Gateway, provider: &str, alias: &str, default: bool, secret: &str) -> Value {
    let body = json!({"provider_slug": provider, "alias": alias, "default_config": default, "secret": secret});
    ok(&api(gateway, "POST", &configs("g"), Some(&body)))
}

/// A request through a gateway, and what the provider received of it.
fn send(gateway: &Gateway, simulator: &sim::Running, target: &str, headers: &[&str]) -> Value {
    let answer = try_send(gateway, target, headers);
    let requests = received(simulator);
    let sent = requests
        .last()
        .unwrap_or_else(|| panic!("nothing went up: {}", answer.text()));
    let path = target.split(['?']).next().expect("a path");
    let tail = path.rsplit('/').next().expect("a segment");
    assert!(
        sent["path"].as_str().expect("a path").ends_with(tail),
        "{sent} for {target}: {}",
        answer.text()
    );
    assert!(!sent.to_string().contains(TOKEN), "{sent}");
    sent.clone()
}

fn try_send(gateway: &Gateway, target: &str, headers: &[&str]) -> Answer {
    let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    gateway.send(&format!(
        "GET /v1/acc/{target} HTTP/1.1\r\nHost: g\r\n{lines}\r\n"
    ))
}

fn own_store(gateway: &Gateway) -> String {
    let stores = ok(&api(gateway, "GET", STORES, None));
    assert_eq!(stores[0]["name"], "default_secrets_store");
    stores[0]["id"].as_str().expect("an id").to_owned()
}
