//! A management write and the data-plane request behind it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::{Value, json};

use crate::harness::{
    Answer, Client, Gateway, Setup, call, eventually, new_gateway, new_token, simulator,
};

const TOKEN: &str = "a-first-token-of-the-state-tests-0123456789";
const GATEWAY: &str = "/accounts/acc/ai-gateway/gateways/g";

/// One connection to the management listener.
struct Manager(Client);

impl Manager {
    fn write(&mut self, method: &str, path: &str, body: &str) -> Value {
        self.0.write(call(TOKEN, method, path, body).as_bytes());
        let answer = self.0.answer();
        assert_eq!(answer.status, 200, "{method} {path}: {}", answer.text());
        answer.json()["result"].clone()
    }
}

/// Whether the gateway lets a request in, on a connection of its own: whichever thread accepts it.
fn is_let_in(address: SocketAddr, token: Option<&str>) -> bool {
    let header = token.map_or_else(String::new, |token| {
        format!("cf-aig-authorization: Bearer {token}\r\n")
    });
    let body = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}]}"#;
    let mut client = Client::connect(address);
    client.write(
        format!(
            "POST /v1/acc/g/openai/chat/completions HTTP/1.1\r\nHost: g\r\nContent-Type: application/json\r\n{header}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .as_bytes(),
    );
    let answer = client.answer();
    match answer.status {
        200 => true,
        _ => {
            assert_eq!((answer.status, answer.code()), (401, 2009));
            false
        }
    }
}

#[test]
fn the_next_request_sees_each_of_a_thousand_writes() {
    let simulator = simulator();
    let gateway = Setup::over(&simulator)
        .with("[data]\nthreads = 2")
        .env("RINGGATE_BOOTSTRAP_TOKEN", TOKEN)
        .start();
    let address = gateway.address;
    let mut manager = Manager(Client::connect(gateway.management));
    manager.write(
        "POST",
        "/accounts/acc/ai-gateway/gateways",
        &new_gateway("g", true),
    );
    let authentication = |on: bool| {
        let mut body: Value = serde_json::from_str(&new_gateway("g", on)).expect("JSON");
        body.as_object_mut().expect("an object").remove("id");
        body.to_string()
    };
    for round in 0..200 {
        let token = manager.write("POST", "/accounts/acc/tokens", &new_token("t"));
        let path = format!(
            "/accounts/acc/tokens/{}",
            token["id"].as_str().expect("an id")
        );
        let value = token["value"].as_str().expect("a value");
        assert!(is_let_in(address, Some(value)), "{round}: created");
        let rolled = manager.write("PUT", &format!("{path}/value"), "{}");
        let rolled = rolled.as_str().expect("a value");
        assert!(
            !is_let_in(address, Some(value)),
            "{round}: rolled, the old value"
        );
        assert!(
            is_let_in(address, Some(rolled)),
            "{round}: rolled, the new value"
        );
        manager.write("DELETE", &path, "");
        assert!(!is_let_in(address, Some(rolled)), "{round}: revoked");
        manager.write("PUT", GATEWAY, &authentication(false));
        assert!(is_let_in(address, None), "{round}: opened");
        manager.write("PUT", GATEWAY, &authentication(true));
        assert!(!is_let_in(address, None), "{round}: closed");
    }
    let lines = gateway.call(TOKEN, "GET", "/accounts/acc/audit_logs?per_page=1", "");
    // The first token, the secrets store, the gateway, and five writes a round.
    assert_eq!(
        lines.json()["result_info"]["total_count"],
        json!(3 + 5 * 200)
    );
}

/// Without a declared gateway `default`, which the harness would add.
const NONE_DECLARED: &str = "# no [gateways.default]";
const GATEWAYS: &str = "/accounts/acc/ai-gateway/gateways";

fn started(simulator: &ringgate::sim::Running, lines: &str) -> Gateway {
    let setup = Setup::over(simulator).with(NONE_DECLARED).with(lines);
    setup.env("RINGGATE_BOOTSTRAP_TOKEN", TOKEN).start()
}

/// A listing of models through a gateway.
fn models(client: &mut Client, gateway: &str, token: Option<&str>) -> Answer {
    let header = token.map_or_else(String::new, |token| {
        format!("cf-aig-authorization: Bearer {token}\r\n")
    });
    let request =
        format!("GET /v1/acc/{gateway}/openai/models HTTP/1.1\r\nHost: g\r\n{header}\r\n");
    client.write(request.as_bytes());
    client.answer()
}

#[test]
fn requests_go_on_while_writes_publish() {
    let simulator = simulator();
    let gateway = started(&simulator, "[data]\nthreads = 2");
    let mut manager = Manager(Client::connect(gateway.management));
    manager.write("POST", GATEWAYS, &new_gateway("g", true));
    manager.write("POST", GATEWAYS, &new_gateway("other", true));
    let (done, served) = (AtomicBool::new(false), AtomicU64::new(0));
    let served_so_far = || served.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = Client::connect(gateway.address);
                while !done.load(Ordering::Relaxed) {
                    let answer = models(&mut client, "g", Some(TOKEN));
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    served.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let writes = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 0..50 {
                let before = served_so_far();
                let token = manager.write("POST", "/accounts/acc/tokens", &new_token("t"));
                let path = format!(
                    "/accounts/acc/tokens/{}",
                    token["id"].as_str().expect("an id")
                );
                let mut body: Value =
                    serde_json::from_str(&new_gateway("other", round % 2 == 0)).expect("JSON");
                body.as_object_mut().expect("an object").remove("id");
                manager.write("PUT", &format!("{path}/value"), "{}");
                manager.write("PUT", &format!("{GATEWAYS}/other"), &body.to_string());
                manager.write("DELETE", &path, "");
                // None of them keeps requests waiting for the end of the writes.
                eventually("more requests", || (served_so_far() > before).then_some(()));
            }
        }));
        done.store(true, Ordering::Relaxed);
        if let Err(panic) = writes {
            std::panic::resume_unwind(panic);
        }
    });
    assert!(served_so_far() >= 50);
    assert_eq!(gateway.metric("panics_total"), 0);
}

#[test]
fn default_is_made_again_by_a_request_with_a_token_alone() {
    let simulator = simulator();
    for (lines, is_made) in [
        ("", true),
        ("[gateways]\nauto_create_default = false", false),
    ] {
        let gateway = started(&simulator, lines);
        let path = format!("{GATEWAYS}/default");
        let status = || gateway.call(TOKEN, "GET", &path, "").status;
        assert_eq!(status(), 200, "the first start makes it");
        assert_eq!(gateway.call(TOKEN, "DELETE", &path, "").status, 200);
        assert_eq!(status(), 404);
        let mut client = gateway.connect();
        let refused = models(&mut client, "default", None);
        let wrong = models(&mut client, "default", Some("sk-no-token-of-this-instance"));
        let expected = if is_made { (401, 2009) } else { (400, 2001) };
        for answer in [refused, wrong] {
            assert_eq!((answer.status, answer.code()), expected, "{lines}");
        }
        let other = models(&mut client, "another", Some(TOKEN));
        assert_eq!((other.status, other.code()), (400, 2001));
        // What was asked for is done in order: were one of those an order to make it, a write after them would come later.
        let token = gateway.call(TOKEN, "POST", "/accounts/acc/tokens", &new_token("t"));
        assert_eq!((token.status, status()), (200, 404), "{lines}");
        let answer = models(&mut client, "default", Some(TOKEN));
        if is_made {
            assert_eq!(answer.status, 200, "served before it is made");
            eventually("the gateway", || (status() == 200).then_some(()));
            let made = gateway.call(TOKEN, "GET", &path, "").json()["result"].clone();
            assert_eq!(
                (&made["authentication"], &made["is_default"]),
                (&json!(true), &json!(true))
            );
            let lines = gateway
                .call(TOKEN, "GET", "/accounts/acc/audit_logs", "")
                .text();
            assert_eq!(
                lines.matches("create ai_gateway.gateway default").count(),
                2,
                "{lines}"
            );
        } else {
            assert_eq!((answer.status, answer.code()), (400, 2001));
            assert_eq!(status(), 404);
        }
    }
}

#[test]
fn names_have_one_to_sixty_four_characters() {
    let simulator = simulator();
    let gateway = started(&simulator, "");
    let (short, long) = ("a".to_owned(), "x".repeat(64));
    for id in [&short, &long] {
        let made = gateway.call(TOKEN, "POST", GATEWAYS, &new_gateway(id, true));
        assert_eq!(made.status, 200, "{}", made.text());
        let answer = models(&mut gateway.connect(), id, Some(TOKEN));
        assert_eq!(answer.status, 200, "{id}: {}", answer.text());
        let path = format!("{GATEWAYS}/{id}");
        let shown = gateway.call(TOKEN, "GET", &path, "").json();
        assert_eq!(shown["result"]["id"], json!(id));
    }
    for id in [
        "",
        &"x".repeat(65),
        "-",
        "a-",
        "-a",
        "a--b",
        "A",
        "a.b",
        "a b",
        "\u{e9}",
    ] {
        let refused = gateway.call(TOKEN, "POST", GATEWAYS, &new_gateway(id, true));
        let body = refused.json();
        assert_eq!(
            (refused.status, &body["errors"][0]["code"]),
            (400, &json!(7001)),
            "{id:?}"
        );
        assert_eq!(body["errors"][0]["path"], json!(["body", "id"]), "{id:?}");
    }
}

#[test]
fn a_deleted_gateway_takes_everything_under_it_along() {
    let simulator = simulator();
    let gateway = started(&simulator, "");
    let mut manager = Manager(Client::connect(gateway.management));
    let key = json!({"provider_slug": "openai", "alias": "default", "default_config": true, "secret": "sk-of-g"});
    let route = json!({"name": "r", "elements": [
        {"id": "s", "type": "start", "outputs": {"next": {"elementId": "m"}}},
        {"id": "m", "type": "model", "properties": {"provider": "openai", "model": "gpt-4o"},
         "outputs": {"success": {"elementId": "e"}}},
        {"id": "e", "type": "end", "outputs": {}},
    ]});
    let below = |path: &str| format!("{GATEWAYS}/g/{path}");
    manager.write("POST", GATEWAYS, &new_gateway("g", true));
    manager.write("POST", GATEWAYS, &new_gateway("kept", true));
    for id in ["g", "kept"] {
        let path = |rest: &str| format!("{GATEWAYS}/{id}/{rest}");
        manager.write("POST", &path("provider_configs"), &key.to_string());
        manager.write("POST", &path("routes"), &route.to_string());
        let domain = json!({"domain": format!("{id}.example")});
        manager.write("POST", &path("custom-domains"), &domain.to_string());
    }
    let ask = |host: &str| {
        let mut client = gateway.connect();
        let request = format!(
            "GET /openai/models HTTP/1.1\r\nHost: {host}\r\ncf-aig-authorization: Bearer {TOKEN}\r\n\r\n"
        );
        client.write(request.as_bytes());
        client.answer().status
    };
    assert_eq!((ask("g.example"), ask("kept.example")), (200, 200));
    manager.write("DELETE", &format!("{GATEWAYS}/g"), "");
    let answer = models(&mut gateway.connect(), "g", Some(TOKEN));
    assert_eq!((answer.status, answer.code()), (400, 2001));
    assert_ne!(ask("g.example"), 200);
    assert_eq!(ask("kept.example"), 200);
    for path in ["", "provider_configs", "routes"] {
        let path = below(path);
        let answer = gateway.call(TOKEN, "GET", path.trim_end_matches('/'), "");
        assert_eq!(answer.status, 404, "{path}: {}", answer.text());
    }
    // A new one of the same name finds nothing of the old one, in the answers or in the file.
    manager.write("POST", GATEWAYS, &new_gateway("g", true));
    let configs = gateway
        .call(TOKEN, "GET", &below("provider_configs"), "")
        .json();
    assert_eq!(configs["result"], json!([]));
    let routes = gateway.call(TOKEN, "GET", &below("routes"), "").json();
    assert_eq!(routes["data"]["routes"], json!([]));
    assert_ne!(ask("g.example"), 200);
    let folder = gateway.end(libc::SIGTERM);
    let file = folder.path().join("data").join(ringgate::store::FILE);
    let database = rusqlite::Connection::open(file).expect("opened");
    for table in [
        "provider_configs",
        "routes",
        "route_versions",
        "route_deployments",
        "domains",
    ] {
        let query = format!("SELECT count(*) FROM {table}");
        let count: i64 = database
            .query_row(&query, [], |row| row.get(0))
            .expect("a count");
        assert_eq!(count, 1, "{table}");
    }
}
