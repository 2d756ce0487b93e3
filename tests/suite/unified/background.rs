//! What goes on without its client, and what stops with it.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};

use ringgate::limits::{BACKGROUND_RUNS_OF_THREAD, EMBEDDING_CALLS_AT_ONCE};
use serde_json::{Value, json};

use super::endpoints::rest;
use crate::harness::{
    Answer, Client as Connection, DRIVERS, Gateway, PATIENCE, Setup, eventually, post, received,
    simulator,
};
use crate::lifecycle::Certificate;

/// An address that counts as public; the proxy leads it somewhere on this machine.
const PUBLIC: &str = "93.184.216.34:443";

/// A proxy that leads [`PUBLIC`] to `hooks`, or, without one, takes what is sent there and never answers; it tells when such
/// a connection begins and when it ends. All else is led to where it wants to go.
fn proxy(hooks: Option<SocketAddr>) -> (SocketAddr, Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("an address");
    let (ended, ends) = channel();
    std::thread::spawn(move || {
        while let Ok((mut client, _)) = listener.accept() {
            let ended = ended.clone();
            std::thread::spawn(move || {
                let (mut head, mut byte) = (Vec::new(), [0; 1]);
                while !head.ends_with(b"\r\n\r\n") && client.read_exact(&mut byte).is_ok() {
                    head.push(byte[0]);
                }
                let head = String::from_utf8(head).expect("text");
                let target = head.split(' ').nth(1).expect("a target").to_owned();
                let established = b"HTTP/1.1 200 Connection established\r\n\r\n";
                client.write_all(established).expect("written");
                let target = match (target == PUBLIC, hooks) {
                    (true, Some(hooks)) => hooks.to_string(),
                    (true, None) => {
                        let _ = ended.send(());
                        let _ = std::io::copy(&mut client, &mut std::io::sink());
                        let _ = ended.send(());
                        return;
                    }
                    (false, _) => target,
                };
                let upstream = TcpStream::connect(target).expect("connected");
                let pairs = [
                    (client.try_clone(), upstream.try_clone()),
                    (Ok(upstream), Ok(client)),
                ];
                for (from, to) in pairs {
                    let (mut from, mut to) = (from.expect("a socket"), to.expect("a socket"));
                    std::thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Write);
                    });
                }
            });
        }
    });
    (address, ends)
}

fn run(gateway: &Gateway, body: &Value) -> Answer {
    gateway.send(&rest("run", "", &body.to_string()))
}

/// A run of a model in the background, with more options.
fn background(model: &str, options: Value) -> Value {
    let mut body = json!({
        "model": model,
        "input": {"messages": [{"role": "user", "content": "hi"}]},
        "options": {"background": true},
    });
    for (name, value) in options.as_object().expect("options") {
        body["options"][name] = value.clone();
    }
    body
}

/// The access line of a request.
fn record(gateway: &Gateway, id: &str) -> Value {
    let line = gateway.access.wait_for(id);
    serde_json::from_str(&line).expect("a JSON line")
}

#[test]
fn a_run_in_the_background_is_answered_at_once_and_posted_once() {
    for driver in DRIVERS {
        let (providers, hooks) = (simulator(), simulator());
        let certificate = Certificate::make();
        let behind = Setup::over(&hooks).with(&certificate.lines()).start();
        let (proxy, _ends) = proxy(Some(behind.address));
        let lines = format!(
            "[upstream]\nproxy = \"http://{proxy}\"\nca_file = \"{}\"",
            certificate.path("c.pem")
        );
        let gateway = Setup::over(&providers).on(driver).with(&lines).start();
        let url = "https://93.184.216.34/v1/acc/default/custom-sim/hook?of=1";
        let hook = |count: usize| {
            let posted = eventually("a post", || {
                let posted = received(&hooks);
                (posted.len() == count).then_some(posted)
            });
            let last = posted.last().expect("a post");
            assert_eq!(last["path"], "/hook");
            assert_eq!(last["query"], "of=1");
            assert_eq!(last["method"], "POST");
            serde_json::from_str::<Value>(last["body"].as_str().expect("a body")).expect("JSON")
        };

        let asked = background("openai/gpt-4o+sim-ttft-200ms", json!({"webhookUrl": url}));
        let answer = run(&gateway, &asked);
        assert_eq!(answer.status, 202, "{}", answer.text());
        let told = answer.json();
        assert_eq!(told["state"], "Pending");
        assert_eq!(told["model"], "openai/gpt-4o+sim-ttft-200ms");
        let id = told["id"].as_str().expect("an id").to_owned();
        assert_eq!(answer.header("cf-aig-log-id"), Some(id.as_str()));
        let outcome = hook(1);
        assert_eq!(outcome["id"], told["id"]);
        assert_eq!(outcome["state"], "Completed");
        assert_eq!(outcome["result"]["object"], "chat.completion");
        assert_eq!(outcome["result"]["gatewayMetadata"]["keySource"], "BYOK");
        assert_eq!(outcome["error"], Value::Null);
        assert_eq!(
            (&outcome["provider"], &outcome["model"]),
            (&json!("openai"), &told["model"])
        );
        assert_eq!(outcome["usage"], outcome["result"]["usage"]);
        let line = record(&gateway, &id);
        assert_eq!(
            (&line["status"], &line["end"]),
            (&json!(200), &json!("complete"))
        );
        assert_eq!(line["usage"]["total"], outcome["usage"]["total_tokens"]);
        assert_eq!(line["detail"], "the webhook answered 404");
        assert_eq!(line["path"], "/client/v4/accounts/acc/ai/run");

        let asked = background(
            "anthropic/claude+sim-status-529",
            json!({"webhookUrl": url, "webhookFormat": "chat"}),
        );
        let answer = run(&gateway, &asked);
        assert_eq!(answer.status, 202, "{}", answer.text());
        let outcome = hook(2);
        let outcome = outcome["text"].as_str().expect("text");
        assert!(outcome.contains("\n  \"state\""), "{outcome}");
        let outcome: Value = serde_json::from_str(outcome).expect("JSON");
        assert_eq!(
            (&outcome["state"], &outcome["result"]),
            (&json!("Failed"), &Value::Null)
        );
        assert_eq!(outcome["error"]["code"], "overloaded_error", "{outcome}");
        let line = record(&gateway, outcome["id"].as_str().expect("an id"));
        assert_eq!(line["status"], 529);

        // Models of Workers AI, and embeddings.
        let asked = background("@cf/meta/llama", json!({"webhookUrl": url}));
        assert_eq!(run(&gateway, &asked).status, 202);
        assert!(hook(3)["result"]["response"].is_string());
        let asked = json!({
            "model": "openai/text-embedding-3-small", "input": {"input": ["a", "b"]},
            "options": {"background": true, "webhookUrl": url},
        });
        assert_eq!(run(&gateway, &asked).status, 202);
        let outcome = hook(4);
        assert_eq!(
            outcome["result"]["data"].as_array().map(Vec::len),
            Some(2),
            "{outcome}"
        );
        assert_eq!(received(&providers).len(), 4);
        assert_eq!(gateway.metric("requests_running"), 0);
    }
}

#[test]
fn what_cannot_run_in_the_background_is_refused_at_once() {
    let simulator = simulator();
    let gateway = Setup::over(&simulator).start();
    let model = "openai/gpt-4o";
    let hook = |url: &str| background(model, json!({"webhookUrl": url}));
    let mut streamed = background(model, json!({}));
    streamed["input"]["stream"] = json!(true);
    let mut awaited = hook("https://93.184.216.34/");
    awaited["options"]["background"] = json!(false);
    for (body, place) in [
        (awaited, "options.webhookUrl"),
        (hook("http://93.184.216.34/"), "options.webhookUrl"),
        (hook("https://user@93.184.216.34/"), "options.webhookUrl"),
        (hook("https://127.0.0.1:1/"), "options.webhookUrl"),
        (hook("https://localhost/"), "options.webhookUrl"),
        (hook("https://169.254.169.254/latest"), "options.webhookUrl"),
        (hook("https://[::ffff:10.0.0.1]/"), "options.webhookUrl"),
        (
            background(model, json!({"webhookFormat": "raw"})),
            "options.webhookFormat",
        ),
        (
            background(
                model,
                json!({"webhookUrl": "https://93.184.216.34/", "webhookFormat": "xml"}),
            ),
            "options.webhookFormat",
        ),
        (streamed, "input.stream"),
        (
            json!({"model": model, "input": {"voice": "x"}, "options": {"background": true}}),
            "input",
        ),
    ] {
        let answer = run(&gateway, &body);
        assert_eq!(answer.status, 400, "{body}: {}", answer.text());
        assert_eq!(answer.json()["error"]["param"], place, "{body}");
    }
    let nobody = run(&gateway, &background("nobody/x", json!({})));
    assert_eq!((nobody.status, nobody.code()), (400, 2008));
    let own = rest(
        "run",
        "cf-aig-no-wholesale: true\r\n",
        &background(model, json!({})).to_string(),
    );
    let unpaid = gateway.send(&own);
    assert_eq!(unpaid.status, 400, "{}", unpaid.text());
    assert!(received(&simulator).is_empty());
}

#[test]
fn a_drain_waits_for_runs_in_the_background() {
    for driver in DRIVERS {
        let simulator = simulator();
        let mut gateway = Setup::over(&simulator).on(driver).start();
        let asked = background("openai/gpt-4o+sim-ttft-700ms", json!({}));
        let answer = run(&gateway, &asked);
        assert_eq!(answer.status, 202, "{}", answer.text());
        gateway.signal(libc::SIGTERM);
        assert!(gateway.wait().success(), "{driver}");
        let id = answer.json()["id"].as_str().expect("an id").to_owned();
        let line = record(&gateway, &id);
        assert_eq!(
            (&line["status"], &line["end"]),
            (&json!(200), &json!("complete")),
            "{driver}"
        );
    }
}

#[test]
fn only_so_many_runs_go_on_in_the_background() {
    let simulator = simulator();
    let gateway = Setup::over(&simulator)
        .with("[data]\nthreads = 1\ndrain = \"50ms\"")
        .start();
    let asked = background("openai/gpt-4o+sim-hang", json!({}));
    let request = rest("run", "", &asked.to_string());
    let mut client = gateway.connect();
    let mut send = || {
        client.write(request.as_bytes());
        client.answer()
    };
    for _ in 0..BACKGROUND_RUNS_OF_THREAD {
        assert_eq!(send().status, 202);
    }
    let refused = send();
    assert_eq!((refused.status, refused.code()), (429, 2003));
    assert_eq!(refused.header("retry-after"), Some("1"));
}

/// A request for one embedding each of so many texts, by a provider that takes one in a call.
fn titles(count: usize, directive: &str) -> String {
    let texts: Vec<String> = (0..count).map(|at| format!("text {at}")).collect();
    let model = format!("aws-bedrock/amazon.titan-embed-text-v2:0+{directive}");
    post(
        "compat/embeddings",
        "Authorization: Bearer key\r\n",
        &json!({"model": model, "input": texts}).to_string(),
    )
}

/// A gateway that knows where Bedrock is.
fn embedding(simulator: &ringgate::sim::Running, driver: &'static str) -> Gateway {
    let lines = "[providers.aws-bedrock]\nregion = \"us-east-1\"";
    let setup = Setup::over(simulator).on(driver);
    let config = setup.config.replace("[providers.aws-bedrock]", lines);
    Setup { config, ..setup }.start()
}

#[test]
fn calls_for_embeddings_go_up_together_and_the_first_failure_stops_them() {
    for driver in DRIVERS {
        let simulator = simulator();
        let gateway = embedding(&simulator, driver);
        let answer = gateway.send(&titles(20, "sim-tokens-1"));
        assert_eq!(answer.status, 200, "{}", answer.text());
        let told = answer.json();
        let data = told["data"].as_array().expect("data");
        assert!(
            data.iter().enumerate().all(|(at, one)| one["index"] == at),
            "{told}"
        );
        assert_eq!((data.len(), received(&simulator).len()), (20, 20));
        let line = record(&gateway, answer.header("cf-aig-request-id").expect("an id"));
        assert_eq!(line["usage"]["input"], told["usage"]["prompt_tokens"]);

        let answer = gateway.send(&titles(20, "sim-status-429"));
        assert_eq!(answer.status, 429, "{}", answer.text());
        assert!((21..=20 + EMBEDDING_CALLS_AT_ONCE).contains(&received(&simulator).len()));
    }
}

#[test]
fn a_client_that_leaves_stops_the_calls_of_its_embeddings() {
    for driver in DRIVERS {
        let simulator = simulator();
        let gateway = embedding(&simulator, driver);
        let mut client = gateway.connect();
        client.write(titles(20, "sim-hang").as_bytes());
        eventually("as many calls as go up at once", || {
            (received(&simulator).len() == EMBEDDING_CALLS_AT_ONCE).then_some(())
        });
        drop(client);
        gateway.access.wait_for("client_left");
        eventually("an end of the calls", || {
            (simulator.stats()["connections_open"] == 0).then_some(())
        });
        assert_eq!(received(&simulator).len(), EMBEDDING_CALLS_AT_ONCE);
    }
}

#[test]
fn a_client_that_leaves_stops_the_fetches_of_its_media() {
    for driver in DRIVERS {
        let simulator = simulator();
        let (proxy, ends) = proxy(None);
        let lines = format!("[upstream]\nproxy = \"http://{proxy}\"\n[media]\nfetch = true");
        let gateway = Setup::over(&simulator).on(driver).with(&lines).start();
        let url = "https://93.184.216.34/picture.png";
        let body = json!({"model": "aws-bedrock/amazon.nova-lite-v1:0", "messages": [{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": url}},
        ]}]});
        let mut client: Connection = gateway.connect();
        let request = post("compat/chat/completions", "", &body.to_string());
        client.write(request.as_bytes());
        ends.recv_timeout(PATIENCE).expect("a beginning");
        drop(client);
        gateway.access.wait_for("client_left");
        ends.recv_timeout(PATIENCE).expect("an end");
        assert!(received(&simulator).is_empty());
    }
}
