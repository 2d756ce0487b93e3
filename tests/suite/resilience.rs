//! Providers with several addresses: one that fails is left out, and comes back when a single request found that it works.

use std::net::SocketAddr;

use ringgate::sim;
use serde_json::Value;
use socket2::{Domain, Socket, Type};

use crate::harness::{Answer, Gateway, Setup, chat, eventually, received};

const TOKEN: &str = "resilience-test-token-0123456789-0123456789";

/// Over two threads, one of each driver, and a provider of two addresses.
fn over(port: u16) -> Gateway {
    let config = format!(
        "[upstream]\nhosts = [\"replicas.test 127.0.0.1 127.0.0.2\"]\n\
        [providers.openai]\nbase_url = \"http://replicas.test:{port}\"\nallow_insecure = true\n"
    );
    Setup::default()
        .with(&config)
        .on("mixed")
        .env("RINGGATE_BOOTSTRAP_TOKEN", TOKEN)
        .start()
}

fn simulator(address: SocketAddr, fault: Option<&str>) -> sim::Running {
    let mut options = sim::Options {
        listen: address,
        ..sim::Options::default()
    };
    if let Some(fault) = fault {
        (options.fault_rate, options.fault) = (1.0, fault.to_owned());
    }
    sim::start(&options).expect("a simulator")
}

fn at(last: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, last], port))
}

/// What the trail of a request's log entry says of its connection, without the moments.
fn decisions(gateway: &Gateway, answer: &Answer) -> Vec<Value> {
    let id = answer.header("cf-aig-log-id").expect("an id");
    let path = format!("/accounts/acc/ai-gateway/gateways/default/logs/{id}");
    let entry = eventually("the entry", || {
        let answer = gateway.call(TOKEN, "GET", &path, "");
        (answer.status == 200).then(|| answer.json()["result"].clone())
    });
    let trail = entry["trail"].as_array().cloned().unwrap_or_default();
    let ours = trail
        .into_iter()
        .filter(|decision| decision["rule"] == "connection");
    ours.collect()
}

fn outcomes(decisions: &[Value]) -> Vec<&str> {
    let outcomes = decisions
        .iter()
        .map(|decision| decision["outcome"].as_str());
    outcomes
        .map(|outcome| outcome.expect("an outcome"))
        .collect()
}

fn figures(gateway: &Gateway) -> (u64, u64) {
    (
        gateway.metric("upstream_ejected_addresses"),
        gateway.metric("upstream_ejections_total"),
    )
}

/// Asks until the provider at the first address got a request, and checks that it was a probe that brought it back.
fn wait_for_the_probe(gateway: &Gateway, back: &sim::Running, before: usize) {
    let probe = eventually("a probe", || {
        let answer = gateway.send(&chat("gpt-4o-mini", false));
        assert_eq!(answer.status, 200);
        (received(back).len() > before).then_some(answer)
    });
    assert_eq!(received(back).len(), before + 1, "one probe");
    let decided = decisions(gateway, &probe);
    assert_eq!(
        outcomes(&decided),
        ["probed", "restored"],
        "{decided:?} {}",
        gateway.notices.text()
    );
    assert_eq!(decided[1]["address"], back.addr().to_string());
    assert_eq!(figures(gateway), (0, 1));
    gateway.notices.wait_for("is asked again");
}

#[test]
fn an_address_that_refuses_connections_is_left_out_until_a_probe_gets_through() {
    let good = simulator(at(2, 0), None);
    let port = good.addr().port();
    // Bound, so that nobody else listens there, and refusing as long as it does not listen.
    let refusing = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    refusing.set_reuse_address(true).expect("set");
    refusing.bind(&at(1, port).into()).expect("bound");
    let gateway = over(port);
    let close = chat("gpt-4o-mini+sim-close", false);
    for _ in 0..4 {
        assert_eq!(gateway.send(&close).status, 200);
    }
    assert_eq!(figures(&gateway), (0, 0));
    let fifth = gateway.send(&close);
    assert_eq!(fifth.status, 200);
    assert_eq!(figures(&gateway), (1, 1));
    let decided = decisions(&gateway, &fifth);
    assert_eq!(outcomes(&decided), ["ejected"], "{decided:?}");
    assert_eq!(decided[0]["address"], at(1, port).to_string());
    assert_eq!(decided[0]["reason"], "connections fail");
    assert_eq!(decided[0]["wait_ms"], 5000);
    let notice = gateway.notices.wait_for("is left out");
    assert!(notice.contains(&at(1, port).to_string()), "{notice}");
    drop(refusing);
    let back = simulator(at(1, port), None);
    wait_for_the_probe(&gateway, &back, 0);
}

#[test]
fn an_address_that_answers_500_is_left_out_until_a_probe_is_answered() {
    let good = simulator(at(2, 0), None);
    let port = good.addr().port();
    let bad = simulator(at(1, port), None);
    let gateway = over(port);
    let request = chat("gpt-4o-mini+sim-status-500", false);
    // The connections are kept, and those of the other thread are of no use any more either.
    for _ in 0..19 {
        assert_eq!(gateway.send(&request).status, 500);
    }
    assert_eq!(figures(&gateway), (0, 0));
    let last = gateway.send(&request);
    assert_eq!(last.status, 500);
    assert_eq!(figures(&gateway), (1, 1));
    let decided = decisions(&gateway, &last);
    assert_eq!(outcomes(&decided), ["ejected"], "{decided:?}");
    assert_eq!(decided[0]["reason"], "answers are 5xx");
    assert_eq!(received(&good).len(), 0);
    gateway.notices.wait_for("is left out");
    wait_for_the_probe(&gateway, &bad, 20);
    assert!(!received(&good).is_empty());
}

#[test]
fn the_last_address_is_asked_however_it_fails() {
    let other = simulator(at(2, 0), Some("status-500"));
    let port = other.addr().port();
    let both = [other, simulator(at(1, port), Some("status-500"))];
    let gateway = over(port);
    let request = chat("gpt-4o-mini", false);
    for _ in 0..60 {
        assert_eq!(gateway.send(&request).status, 500);
    }
    assert_eq!(figures(&gateway), (1, 1));
    // The first was asked until it was left out, and for probes; the other one for all the rest.
    let asked = both.each_ref().map(|running| received(running).len());
    assert!(asked[0] + asked[1] == 60 && asked[1] >= 20, "{asked:?}");
    assert!(asked[0] >= 20, "{asked:?}");
}
