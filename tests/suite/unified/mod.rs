//! Endpoints for all providers: the model names the provider, and the client's dialect is spoken whatever the provider speaks.

mod background;
mod dialects;
mod endpoints;
mod pairs;

use serde_json::{Value, json};

use crate::harness::{Setup, post, received, sent_header, simulator};

fn chat_body(model: &str, stream: bool) -> String {
    json!({"model": model, "stream": stream, "messages": [{"role": "user", "content": "hi"}]})
        .to_string()
}

fn last_received(simulator: &ringgate::sim::Running) -> Value {
    received(simulator).pop().expect("a request")
}

#[test]
fn the_model_names_the_provider_and_all_else_goes_up_as_it_came() {
    let simulator = simulator();
    let gateway = Setup::over(&simulator).start();
    let body = r#"{ "model" : "openai/sim-tokens-3", "messages":[{"role":"user","content":"hi"}], "temperature":1.0, "unknown": {"b":1e2,"a":2} }"#;
    for path in [
        "compat/chat/completions",
        "compat/v1/chat/completions",
        "compat/v1/v1/chat/completions",
    ] {
        let answer = gateway.send(&post(path, "Authorization: Bearer sk-1\r\n", body));
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.header("cf-aig-provider"), Some("openai"));
        assert_eq!(answer.header("cf-aig-model"), Some("sim-tokens-3"));
        assert_eq!(answer.header("cf-aig-changes"), None);
        assert_eq!(answer.json()["object"], "chat.completion");
        let request = last_received(&simulator);
        assert_eq!(request["path"], "/v1/chat/completions");
        assert_eq!(sent_header(&request, "authorization"), Some("Bearer sk-1"));
        assert_eq!(
            request["body"].as_str(),
            Some(body.replace("openai/", "").as_str())
        );
    }
}

#[test]
fn models_without_a_provider_are_refused_clearly() {
    let simulator = simulator();
    let gateway = Setup::over(&simulator).start();
    for (body, code) in [
        (chat_body("gpt-5", false), 2019),
        (chat_body("openai/", false), 2019),
        (chat_body("nobody/gpt-5", false), 2008),
        (chat_body("dynamic/route", false), 2005),
        (chat_body("cloudflare/auto", false), 2005),
        ("{".to_owned(), 2019),
        ("[]".to_owned(), 2019),
        (r#"{"messages":[]}"#.to_owned(), 2019),
        (
            r#"{"model":"openai/a","model":"openai/b","messages":[]}"#.to_owned(),
            2019,
        ),
    ] {
        let answer = gateway.send(&post("compat/chat/completions", "", &body));
        assert_eq!((answer.status, answer.code()), (400, code), "{body}");
    }
    let answer = gateway.send(&post("compat/audio/speech", "", "{}"));
    assert_eq!((answer.status, answer.code()), (400, 2008));
    let answer =
        gateway.send("GET /v1/acc/default/compat/chat/completions HTTP/1.1\r\nHost: g\r\n\r\n");
    assert_eq!(answer.status, 405);
    assert_eq!(received(&simulator).len(), 0);
}
