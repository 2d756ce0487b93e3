//! Where a request's time went, in its log entry and in its answer's head.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Answer, Client, Gateway, Setup, chat, eventually, post, simulator};

const TOKEN: &str = "timings-test-token-0123456789-0123456789";
const LOGS: &str = "/accounts/acc/ai-gateway/gateways/default/logs";

/// The times of the entry that an answer names; the parts add up.
fn times(gateway: &Gateway, answer: &Answer) -> impl Fn(&str) -> u64 + use<> {
    let id = answer.header("cf-aig-log-id").expect("a log id").to_owned();
    let entry: Value = eventually("the entry", || {
        let answer = gateway.call(TOKEN, "GET", &format!("{LOGS}/{id}"), "");
        (answer.status == 200).then(|| answer.json()["result"].clone())
    });
    let times = entry["timings_us"].clone();
    let of = move |name: &str| {
        times[name]
            .as_u64()
            .unwrap_or_else(|| panic!("{name}: {times}"))
    };
    let sum: u64 = ["own", "wait", "connect", "upstream", "stream"]
        .map(&of)
        .iter()
        .sum();
    assert!(of("total").abs_diff(sum) <= 6, "{entry}");
    assert_eq!(of("own"), of("own_request") + of("own_response"));
    assert!(
        of("parse") <= of("own_request") && of("upload") <= of("upstream"),
        "{entry}"
    );
    let connect: u64 = ["queue", "dns", "tcp", "tls"].map(&of).iter().sum();
    assert!(connect <= of("connect") + 4, "{entry}");
    of
}

/// Writes the head of a request, and its body once the gateway waits for it.
fn send_slowly(gateway: &Gateway, request: &str) -> Answer {
    let mut client = Client::connect(gateway.address);
    let body = request.find("\r\n\r\n").expect("a head") + 4;
    client.write(&request.as_bytes()[..body]);
    eventually("the request", || {
        (gateway.metric("requests_running") == 1).then_some(())
    });
    std::thread::sleep(Duration::from_millis(100));
    client.write(&request.as_bytes()[body..]);
    client.answer()
}

#[test]
fn waits_are_told_from_the_gateways_own_work() {
    let simulator = simulator();
    let gateway = Setup::over(&simulator)
        .with("[upstream]\nconnections_per_origin = 1")
        .env("RINGGATE_BOOTSTRAP_TOKEN", TOKEN)
        .start();
    let first = times(&gateway, &gateway.send(&chat("sim-ttft-60", false)));
    assert!(first("tcp") > 0 && first("upstream") >= 50_000 && first("wait") == 0);
    let warm = times(&gateway, &gateway.send(&chat("gpt-4o", false)));
    assert_eq!((warm("connect"), warm("wait")), (0, 0));
    // A body that goes up as it comes is the provider's wait; one that is needed whole is nobody's.
    let request = post(
        "openai/chat/completions",
        "",
        r#"{"model":"gpt-4o","messages":[]}"#,
    );
    let streamed = times(&gateway, &send_slowly(&gateway, &request));
    assert!(streamed("upload") >= 50_000 && streamed("wait") == 0);
    let body =
        r#"{"model":"anthropic/claude-sonnet-4-5","messages":[{"role":"user","content":"hi"}]}"#;
    let whole = times(
        &gateway,
        &send_slowly(&gateway, &post("compat/chat/completions", "", body)),
    );
    assert!(whole("wait") >= 50_000 && whole("upload") < whole("wait"));
    // One waits for the other's connection.
    let mut slow = Client::connect(gateway.address);
    slow.write(chat("sim-slow-head-150", false).as_bytes());
    eventually("the request", || {
        (gateway.metric("requests_running") == 1).then_some(())
    });
    let queued = times(&gateway, &gateway.send(&chat("gpt-4o", false)));
    assert!(queued("queue") > 0 && queued("connect") >= queued("queue"));
    assert_eq!(slow.answer().status, 200);
}

#[test]
fn answers_tell_it_where_gateway_or_request_ask_for_it() {
    let simulator = simulator();
    let gateway = Setup::over(&simulator)
        .with("[gateways.timed]\nauthentication = false\nserver_timing = true")
        .env("RINGGATE_BOOTSTRAP_TOKEN", TOKEN)
        .start();
    let told = |gateway_id: &str, path: &str, headers: &str, model: &str| {
        let body = json!({"model": model, "messages": [{"role": "user", "content": "hi"}]});
        let request =
            post(path, headers, &body.to_string()).replace("/default/", &format!("/{gateway_id}/"));
        gateway
            .send(&request)
            .header("server-timing")
            .map(str::to_owned)
    };
    let (on, off) = (
        "cf-aig-server-timing: true\r\n",
        "cf-aig-server-timing: false\r\n",
    );
    let path = "openai/chat/completions";
    assert_eq!(told("default", path, "", "gpt-4o"), None);
    assert_eq!(told("timed", path, off, "gpt-4o"), None);
    for (gateway_id, path, headers, model) in [
        ("default", path, on, "sim-ttft-60"),
        ("timed", path, "", "sim-ttft-60"),
        (
            "timed",
            "compat/chat/completions",
            "",
            "anthropic/sim-ttft-60",
        ),
    ] {
        let told = told(gateway_id, path, headers, model).expect("a header");
        let parts: Vec<(&str, f64)> = told
            .split(", ")
            .map(|part| {
                let (name, time) = part.split_once(";dur=").expect("a duration");
                (name, time.parse().expect("milliseconds"))
            })
            .collect();
        let names: Vec<&str> = parts.iter().map(|(name, _)| *name).collect();
        assert_eq!(
            names,
            [
                "own", "parse", "wait", "queue", "dns", "tcp", "tls", "upload", "upstream"
            ]
        );
        assert!(parts[0].1 > 0.0 && parts[8].1 >= 50.0, "{told}");
    }
    // Of an answer of the gateway's own, too.
    let refused = gateway.send(&post(
        "compat/chat/completions",
        on,
        r#"{"model":"nobody/x"}"#,
    ));
    assert!(
        refused.header("server-timing").is_some(),
        "{}",
        refused.head
    );
}
