//! Limits of requests: exact over threads, live with the next request, and kept over restarts.

use ringgate::sim;
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::harness::{Answer, Gateway, Setup, eventually, received, simulator};

const TOKEN: &str = "rg-limits-test-token-0123456789-012345678";
/// A window that does not end while a test runs.
const DECADE: u64 = 10 * 365 * 86_400;

/// A gateway that knows [`TOKEN`] on two threads, with an open gateway `g` of the API behind it.
fn start(setup: Setup, settings: &Value) -> Gateway {
    let gateway = reopen(setup, tempfile::tempdir().expect("a folder"));
    put(&gateway, "POST", "ai-gateway/gateways", settings);
    gateway
}

fn reopen(setup: Setup, folder: tempfile::TempDir) -> Gateway {
    setup
        .with("[data]\nthreads = 2")
        .env("RINGGATE_BOOTSTRAP_TOKEN", TOKEN)
        .start_in(folder)
}

/// Makes or changes the gateway `g`: without limits but for these settings.
fn put(gateway: &Gateway, method: &str, path: &str, settings: &Value) -> Value {
    let mut body = json!({"cache_invalidate_on_update": true, "cache_ttl": 0, "collect_logs": true,
        "rate_limiting_interval": 0, "rate_limiting_limit": 0, "authentication": false});
    if method == "POST" {
        body["id"] = json!("g");
    }
    for (name, value) in settings.as_object().expect("settings") {
        body[name] = value.clone();
    }
    manage(gateway, method, path, Some(&body))
}

fn change(gateway: &Gateway, settings: &Value) {
    put(gateway, "PUT", "ai-gateway/gateways/g", settings);
}

/// The result of a management call below the account.
fn manage(gateway: &Gateway, method: &str, path: &str, body: Option<&Value>) -> Value {
    let body = body.map(Value::to_string).unwrap_or_default();
    let answer = gateway.call(TOKEN, method, &format!("/accounts/acc/{path}"), &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["result"].clone()
}

fn limited(limit: u64, technique: &str) -> Value {
    json!({"rate_limiting_limit": limit, "rate_limiting_interval": DECADE, "rate_limiting_technique": technique})
}

fn chat(path: &str, headers: &str, model: &str) -> String {
    let body = json!({"model": model, "messages": [{"role": "user", "content": "hi"}]}).to_string();
    format!(
        "POST /v1/acc/g/{path} HTTP/1.1\r\nHost: g\r\nContent-Type: application/json\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn ask(gateway: &Gateway) -> Answer {
    gateway.send(&chat("openai/chat/completions", "", "gpt-4o-mini"))
}

/// How many of `count` requests are let through, asked by eight clients at once; the others are refused as documented.
fn admitted(gateway: &Gateway, count: usize, request: &str) -> usize {
    let client = || {
        let (mut client, mut admitted) = (gateway.connect(), 0);
        for _ in 0..count / 8 {
            client.write(request.as_bytes());
            let answer = client.answer();
            match answer.status {
                200 => admitted += 1,
                _ => {
                    assert_eq!((answer.status, answer.code()), (429, 2003));
                    // A body that was not read ends the connection.
                    client = gateway.connect();
                }
            }
        }
        admitted
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..8).map(|_| scope.spawn(client)).collect();
        let counts = clients.into_iter();
        counts.map(|client| client.join().expect("served")).sum()
    })
}

fn chats(simulator: &sim::Running) -> usize {
    received(simulator).len()
}

#[test]
fn exactly_as_many_requests_as_allowed_reach_the_provider() {
    for technique in ["fixed", "sliding"] {
        let simulator = simulator();
        let gateway = start(Setup::over(&simulator), &limited(100, technique));
        let native = chat("openai/chat/completions", "", "gpt-4o-mini");
        assert_eq!(admitted(&gateway, 400, &native), 100, "{technique}");
        let unified = chat("compat/chat/completions", "", "openai/gpt-4o-mini");
        assert_eq!(admitted(&gateway, 16, &unified), 0);
        assert_eq!(chats(&simulator), 100);
        let refused = ask(&gateway);
        assert_eq!(
            refused.json(),
            json!({"success": false, "result": [], "messages": [], "error": [{"code": 2003, "message": "Rate limited"}],
                "name": "AiGatewayError", "httpCode": 429, "internalCode": 2003, "message": "Rate limited", "description": "Rate limited"})
        );
        assert!(refused.header("cf-aig-log-id").is_some());
        let wait: u64 = refused
            .header("retry-after")
            .and_then(|wait| wait.parse().ok())
            .expect("seconds");
        assert!((1..=DECADE + DECADE / 50).contains(&wait), "{wait}");
        assert_eq!(refused.header("x-should-retry"), Some("false"));
        // Every refusal is logged, with why.
        let id = refused.header("cf-aig-log-id").expect("an id").to_owned();
        let entry = eventually("the entry", || {
            let path = format!("/accounts/acc/ai-gateway/gateways/g/logs/{id}");
            let answer = gateway.call(TOKEN, "GET", &path, "");
            (answer.status == 200).then(|| answer.json()["result"].clone())
        });
        assert_eq!(entry["status_code"], 429, "{entry}");
        let decision = &entry["trail"][0];
        assert_eq!(decision["rule"], "rate_limit", "{entry}");
        assert_eq!(decision["outcome"], "refused", "{entry}");
        assert_eq!(
            (&decision["limit"], &decision["used"]),
            (&json!(100), &json!(100))
        );
    }
}

#[test]
fn a_change_of_a_limit_holds_for_the_next_request_and_keeps_the_count() {
    let simulator = simulator();
    let gateway = start(Setup::over(&simulator), &limited(3, "fixed"));
    let admitted = |count| (0..count).filter(|_| ask(&gateway).status == 200).count();
    assert_eq!(admitted(5), 3);
    change(&gateway, &limited(5, "fixed"));
    assert_eq!(admitted(5), 2);
    change(&gateway, &limited(1, "fixed"));
    assert_eq!(admitted(2), 0);
    // Another measure of time goes on with what was counted.
    change(&gateway, &limited(6, "sliding"));
    assert_eq!(admitted(5), 1);
    change(&gateway, &json!({}));
    assert_eq!(admitted(5), 5);
    change(&gateway, &limited(7, "sliding"));
    assert_eq!(admitted(5), 1);
    // A gateway made anew under the same name has a count of its own.
    manage(&gateway, "DELETE", "ai-gateway/gateways/g", None);
    put(
        &gateway,
        "POST",
        "ai-gateway/gateways",
        &limited(2, "sliding"),
    );
    assert_eq!(admitted(5), 2);
}

#[test]
fn what_is_not_authenticated_does_not_count() {
    let simulator = simulator();
    let mut settings = limited(2, "fixed");
    settings["authentication"] = json!(true);
    let gateway = start(Setup::over(&simulator), &settings);
    for _ in 0..5 {
        assert_eq!(ask(&gateway).status, 401);
    }
    let token = format!("cf-aig-authorization: Bearer {TOKEN}\r\n");
    let request = chat("openai/chat/completions", &token, "gpt-4o-mini");
    let statuses = [(); 3].map(|()| gateway.send(&request).status);
    assert_eq!(statuses, [200, 200, 429]);
}

#[test]
fn a_short_window_ends() {
    for technique in ["fixed", "sliding"] {
        let simulator = simulator();
        let settings = json!({"rate_limiting_limit": 1, "rate_limiting_interval": 1, "rate_limiting_technique": technique});
        let gateway = start(Setup::over(&simulator), &settings);
        // Whatever the clock shows, one of three quick ones is too many; then one more is let through.
        let refused = eventually("a refusal", || {
            Some(ask(&gateway)).filter(|answer| answer.status == 429)
        });
        let wait = refused.header("retry-after");
        assert!(matches!(wait, Some("1" | "2")), "{wait:?}");
        assert_eq!(refused.header("x-should-retry"), None);
        eventually("the next window", || {
            (ask(&gateway).status == 200).then_some(())
        });
    }
}

#[test]
fn a_stored_key_pays_for_so_many_requests() {
    let simulator = simulator();
    let gateway = start(Setup::over(&simulator), &json!({}));
    let configs = "ai-gateway/gateways/g/provider_configs";
    for (alias, limit) in [("default", 3), ("other", 0)] {
        let body = json!({"provider_slug": "openai", "alias": alias, "default_config": false, "secret": "sk-of-the-gateway",
            "rate_limit": limit, "rate_limit_period": 31_622_400});
        manage(&gateway, "POST", configs, Some(&body));
    }
    let native = chat("openai/chat/completions", "", "gpt-4o-mini");
    assert_eq!(admitted(&gateway, 80, &native), 3);
    let unified = chat("compat/chat/completions", "", "openai/gpt-4o-mini");
    assert_eq!(admitted(&gateway, 8, &unified), 0);
    // Who pays otherwise is not limited.
    let other = chat(
        "openai/chat/completions",
        "cf-aig-byok-alias: other\r\n",
        "gpt-4o-mini",
    );
    assert_eq!(admitted(&gateway, 16, &other), 16);
    let own = chat(
        "openai/chat/completions",
        "Authorization: Bearer sk-own\r\n",
        "gpt-4o-mini",
    );
    assert_eq!(admitted(&gateway, 16, &own), 16);
    assert_eq!(chats(&simulator), 35);
}

/// Counters in the file of a running gateway.
fn kept(gateway: &Gateway) -> Vec<Vec<u8>> {
    let path = gateway.folder.path().join("data/counters.db");
    let read = || -> rusqlite::Result<Vec<Vec<u8>>> {
        let file = Connection::open(path)?;
        let mut statement = file.prepare("SELECT buckets FROM counters ORDER BY name")?;
        statement.query_map([], |row| row.get(0))?.collect()
    };
    // It may be busy at this moment.
    read().unwrap_or_default()
}

#[test]
fn counts_outlive_a_restart_and_a_crash() {
    for technique in ["fixed", "sliding"] {
        let simulator = simulator();
        let mut gateway = start(Setup::over(&simulator), &limited(10, technique));
        let admitted = |gateway: &Gateway, count: usize| {
            (0..count).filter(|_| ask(gateway).status == 200).count()
        };
        assert_eq!(admitted(&gateway, 4), 4);
        // A clean end loses nothing.
        gateway = reopen(Setup::over(&simulator), gateway.end(libc::SIGTERM));
        assert_eq!(admitted(&gateway, 3), 3);
        // A crash loses what is not written yet: the last second.
        let four = kept(&gateway);
        eventually("the count in the file", || {
            let now = kept(&gateway);
            let count = now.first().and_then(|bytes| bytes.get(bytes.len() - 16));
            (now != four || count == Some(&7)).then_some(())
        });
        gateway = reopen(Setup::over(&simulator), gateway.end(libc::SIGKILL));
        assert_eq!(admitted(&gateway, 5), 3, "{technique}");
        assert_eq!(chats(&simulator), 10);
    }
}
