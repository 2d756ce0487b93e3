//! A management write and the data-plane request behind it.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::harness::{Client, Setup, call, new_gateway, new_token, simulator};

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
    // The first token, the gateway, and five writes a round.
    assert_eq!(
        lines.json()["result_info"]["total_count"],
        json!(2 + 5 * 200)
    );
}
