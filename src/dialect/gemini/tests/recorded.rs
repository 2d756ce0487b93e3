//! Exchanges recorded with the providers, where RINGGATE_RECORDED names the folder that holds them.

use std::path::Path;
use std::{env, fs};

use super::*;
use crate::dialect::stream::{Transform, Translator, Writer};

struct Counting;

impl Writer for Counting {
    fn write(&mut self, event: &Event<'_>, out: &mut Vec<u8>) {
        if matches!(event, Event::Stop { .. }) {
            out.extend(b"stop");
        }
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        out.extend(b"end");
    }
}

#[test]
fn every_recorded_answer_is_read() {
    let Some(folder) = env::var_os("RINGGATE_RECORDED") else {
        return;
    };
    let mut seen = 0;
    for file in ["google-ai-studio.jsonl", "google-vertex-ai.jsonl"] {
        let path = Path::new(&folder).join(file);
        let text = fs::read_to_string(path).expect("the recordings");
        for line in text.lines() {
            let exchange: Value = serde_json::from_str(line).expect("JSON");
            seen += usize::from(read_one(&exchange));
        }
    }
    assert!(seen > 10, "only {seen} answers");
}

fn read_one(exchange: &Value) -> bool {
    let text = |field: &str| exchange[field].as_str().unwrap_or_default();
    let (id, path, body) = (text("id"), text("path"), text("resp_body"));
    if !path.to_lowercase().contains("generatecontent") || body.is_empty() {
        return false;
    }
    if exchange["status"] != 200 {
        let status = exchange["status"].as_u64().expect("a status") as u16;
        assert_eq!(read_error(status, None, body.as_bytes()).status, status);
        return true;
    }
    let request: Value = serde_json::from_str(text("req_body")).unwrap_or_default();
    let declared = request["tools"][0]["functionDeclarations"].as_array();
    let names = declared.into_iter().flatten();
    let names: Vec<&str> = names.filter_map(|tool| tool["name"].as_str()).collect();
    let terms = terms(&names);
    if path.contains(":stream") {
        let reader = Box::new(StreamReader::new(&terms));
        let mut translator = Translator::of_sse(reader, Box::new(Counting));
        let mut out = Vec::new();
        translator.feed(body.as_bytes(), &mut out);
        translator.end(true, &mut out);
        assert_eq!(translator.failure(), None, "{id}");
        assert_eq!(out, b"stopend", "{id}");
        return true;
    }
    let body: Value = serde_json::from_str(body).expect("JSON");
    let undeclared = body["candidates"][0]["finishReason"] == "UNEXPECTED_TOOL_CALL";
    match read_answer(body, &terms) {
        Ok(answer) => assert!(!answer.choices.is_empty() && answer.model.is_some(), "{id}"),
        Err(failure) => assert!(undeclared, "{id}: {failure:?}"),
    }
    true
}
