use std::{env, fs};

use serde_json::Value;

use super::super::super::Terms;
use super::super::super::stream::{Transform, Translator};
use super::*;

/// Exchanges recorded with the provider, where `RINGGATE_RECORDED` names a folder of them; nothing otherwise.
fn recorded(provider: &str) -> Vec<Value> {
    let Ok(folder) = env::var("RINGGATE_RECORDED") else {
        return Vec::new();
    };
    let text = fs::read_to_string(format!("{folder}/{provider}.jsonl")).expect("a recording");
    text.lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

/// Exchanges of `POST /v1/messages`.
fn exchanges() -> Vec<Value> {
    let is_message = |exchange: &Value| {
        let path = exchange["path"].as_str().unwrap_or_default();
        path.split('?').next() == Some("/v1/messages")
    };
    recorded("anthropic")
        .into_iter()
        .filter(is_message)
        .collect()
}

#[test]
fn recorded_requests_are_read_and_written() {
    for exchange in exchanges() {
        let id = &exchange["id"];
        let sent: Value =
            serde_json::from_str(exchange["req_body"].as_str().expect("a body")).expect("JSON");
        let request =
            read_request(sent.clone()).unwrap_or_else(|invalid| panic!("{id}: {invalid:?}"));
        let model = sent["model"].as_str().expect("a model");
        let (body, changes, _) = written(&request, &upstream(model))
            .unwrap_or_else(|invalid| panic!("{id}: {invalid:?}"));
        assert_eq!(
            body["messages"].as_array().map(Vec::len),
            sent["messages"].as_array().map(Vec::len),
            "{id} {changes}"
        );
        assert_eq!(body["max_tokens"], sent["max_tokens"], "{id}");
        let enveloped = envelope(
            sent.to_string().as_bytes(),
            Platform::Anthropic,
            &[],
            &mut Changes::default(),
        );
        assert_eq!(
            enveloped.expect("a body").body,
            sent.to_string().into_bytes(),
            "{id}"
        );
    }
}

#[test]
fn recorded_answers_are_read() {
    for exchange in exchanges() {
        let id = &exchange["id"];
        let body = exchange["resp_body"].as_str().expect("a body");
        let status = exchange["status"].as_u64().expect("a status") as u16;
        let terms = Terms::default();
        if status >= 400 {
            let failure = read_error(status, None, body.as_bytes());
            assert_eq!(failure.status, status, "{id}");
            assert!(
                !failure.message.is_empty() && failure.code.is_some(),
                "{id}: {failure:?}"
            );
        } else if body.starts_with("event:") {
            let (reader, writer) = (StreamReader::new(&terms), StreamWriter::new(&terms));
            let mut translator = Translator::of_sse(Box::new(reader), Box::new(writer));
            let mut out = Vec::new();
            body.as_bytes()
                .chunks(7)
                .for_each(|piece| translator.feed(piece, &mut out));
            translator.end(true, &mut out);
            assert_eq!(translator.failure(), None, "{id}");
            assert!(
                out.ends_with(b"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"),
                "{id}"
            );
        } else {
            let body: Value = serde_json::from_str(body).expect("JSON");
            let answer = read_answer(body.clone(), &terms)
                .unwrap_or_else(|failure| panic!("{id}: {failure:?}"));
            let again = write_answer(&answer, &terms);
            assert_eq!(
                (&again["id"], &again["stop_reason"]),
                (&body["id"], &body["stop_reason"]),
                "{id}"
            );
        }
    }
}
