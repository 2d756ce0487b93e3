use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::super::Terms;
use super::super::super::stream::Transform;
use super::*;
use crate::http::eventstream::tests::message;

/// Numbers, order and space that no serialiser would write so.
const BODY: &str = r#"{ "model":"claude-x" , "max_tokens": 1e3,"stream" : true, "temperature":0.70,
  "zz":[1.0, {"b":1,"a":2}],"messages":[{"role":"user","content":"h\u00e9"}] }"#;

fn enveloped(
    body: &str,
    platform: Platform,
    betas: &[&str],
) -> (String, Vec<(&'static str, String)>, String) {
    let mut changes = Changes::default();
    let betas: Vec<String> = betas.iter().map(|beta| (*beta).to_owned()).collect();
    let written = envelope(body.as_bytes(), platform, &betas, &mut changes).expect("a body");
    (
        String::from_utf8(written.body).expect("text"),
        written.headers,
        changes.to_string(),
    )
}

#[test]
fn every_other_byte_stays() {
    let beta = "context-1m-2025-08-07";
    let header = vec![("anthropic-beta", beta.to_owned())];
    assert_eq!(
        enveloped(BODY, Platform::Anthropic, &[beta]),
        (BODY.to_owned(), header.clone(), String::new())
    );
    let expected = r#"{ "max_tokens": 1e3,"stream" : true, "temperature":0.70,
  "zz":[1.0, {"b":1,"a":2}],"messages":[{"role":"user","content":"h\u00e9"}],"anthropic_version":"vertex-2023-10-16" }"#;
    assert_eq!(
        enveloped(BODY, Platform::Vertex, &[beta]),
        (expected.to_owned(), header, String::new())
    );
    let expected = r#"{ "max_tokens": 1e3, "temperature":0.70,
  "zz":[1.0, {"b":1,"a":2}],"messages":[{"role":"user","content":"h\u00e9"}],"anthropic_version":"bedrock-2023-05-31","anthropic_beta":["context-1m-2025-08-07"] }"#;
    assert_eq!(
        enveloped(BODY, Platform::Bedrock, &[beta]),
        (expected.to_owned(), Vec::new(), String::new())
    );
    let mut changes = Changes::default();
    let doubled = envelope(
        br#"{"model":"a","model":"b"}"#,
        Platform::Bedrock,
        &[],
        &mut changes,
    );
    assert_eq!(doubled.unwrap_err().param.as_deref(), Some("model"));
}

#[test]
fn betas_of_head_and_body_are_merged() {
    let body = r#"{"anthropic_beta":["compact-2026-01-12","odd-1"],"messages":[]}"#;
    let asked = [
        "interleaved-thinking-2025-05-14,compact-2026-01-12",
        "claude-code-20250219",
    ];
    let (bedrock, headers, changes) = enveloped(body, Platform::Bedrock, &asked);
    let expected = r#"{"anthropic_beta":["interleaved-thinking-2025-05-14","compact-2026-01-12"],"messages":[],"anthropic_version":"bedrock-2023-05-31"}"#;
    assert_eq!(bedrock, expected);
    assert!(headers.is_empty());
    assert_eq!(
        changes,
        "drop:anthropic-beta.claude-code-20250219,drop:anthropic-beta.odd-1"
    );
    let (vertex, headers, _) = enveloped(body, Platform::Vertex, &asked);
    assert_eq!(
        vertex,
        r#"{"messages":[],"anthropic_version":"vertex-2023-10-16"}"#
    );
    assert_eq!(
        headers,
        [(
            "anthropic-beta",
            "interleaved-thinking-2025-05-14,compact-2026-01-12".to_owned()
        )]
    );
    let mut rules = BetaRules::default();
    rules.set(Platform::Bedrock, "odd-1", Some("even-1".to_owned()));
    let written = envelope_with(
        body.as_bytes(),
        Platform::Bedrock,
        &[],
        &rules,
        &mut Changes::default(),
    )
    .unwrap();
    assert!(
        String::from_utf8(written.body)
            .unwrap()
            .starts_with(r#"{"anthropic_beta":["compact-2026-01-12","even-1"]"#)
    );
}

#[test]
fn fields_that_other_platforms_refuse() {
    let body = r#"{"service_tier":"auto","speed":"fast","context_management":{"edits":[{"type":"clear_thinking_20251015"},{"type":"clear_tool_uses_20250919","keep":1}]},"messages":[]}"#;
    let (alone, _, changes) = enveloped(body, Platform::Bedrock, &[]);
    assert_eq!(
        alone,
        r#"{"messages":[],"anthropic_version":"bedrock-2023-05-31"}"#
    );
    assert_eq!(
        changes,
        "drop:service_tier,drop:speed,drop:context_management"
    );
    let (with_beta, _, _) = enveloped(body, Platform::Bedrock, &["context-management-2025-06-27"]);
    assert!(with_beta.starts_with(
        r#"{"context_management":{"edits":[{"type":"clear_tool_uses_20250919","keep":1}]},"#
    ));
    let (vertex, ..) = enveloped(body, Platform::Vertex, &["context-management-2025-06-27"]);
    assert!(vertex.contains("clear_thinking_20251015"));
    assert_eq!(enveloped(body, Platform::Anthropic, &[]).0, body);
}

#[test]
fn scopes_of_caches_stay_with_anthropic() {
    let body = r#"{"system":[{"type":"text","text":"scope","cache_control":{"type":"ephemeral","scope":"global", "ttl":"1h"}}],"tools":[{"name":"f","cache_control":{"scope":"global"}}],
"messages":[{"role":"user","content":[ {"type":"tool_result","content":[{"type":"text","text":"a","cache_control":{"scope":"x","type":"ephemeral"}}]} ,{"type":"text","text":"scope"}]}]}"#;
    let expected = r#"{"system":[{"type":"text","text":"scope","cache_control":{"type":"ephemeral", "ttl":"1h"}}],"tools":[{"name":"f","cache_control":{}}],
"messages":[{"role":"user","content":[ {"type":"tool_result","content":[{"type":"text","text":"a","cache_control":{"type":"ephemeral"}}]} ,{"type":"text","text":"scope"}]}],"anthropic_version":"bedrock-2023-05-31"}"#;
    let (bedrock, _, changes) = enveloped(body, Platform::Bedrock, &[]);
    assert_eq!(
        (bedrock.as_str(), changes.as_str()),
        (expected, "drop:cache_control.scope")
    );
    assert_eq!(enveloped(body, Platform::Anthropic, &[]).0, body);
}

#[test]
fn thoughts_of_others_do_not_go_to_claude() {
    let own = r#"{"type":"thinking","thinking":"hm","signature":"EqQB/+="}"#;
    let body = |blocks: &str| {
        format!(
            r#"{{"messages":[{{"role":"user","content":"a"}}, {{"role":"assistant","content":[{blocks}]}} ,{{"role":"user","content":"b"}}]}}"#
        )
    };
    for (blocks, left) in [
        (format!(r#"{own}, {{"type":"text","text":"t"}}"#), format!(r#"{own}, {{"type":"text","text":"t"}}"#)),
        (r#"{"type":"thinking","thinking":"x","signature":"google:abc"}, {"type":"text","text":"t"}"#.to_owned(), r#"{"type":"text","text":"t"}"#.to_owned()),
        (format!(r#"{own} , {{"type":"thinking","thinking":"x","signature":""}},{{"type":"redacted_thinking","data":"openai:e"}}, {{"type":"text","text":"t"}}"#), format!(r#"{own}, {{"type":"text","text":"t"}}"#)),
        (format!(r#"{own},{{"type":"redacted_thinking","data":"own"}},{{"type":"thinking","thinking":"x"}}"#), format!(r#"{own},{{"type":"redacted_thinking","data":"own"}}"#)),
    ] {
        let (got, _, changes) = enveloped(&body(&blocks), Platform::Anthropic, &[]);
        assert_eq!(got, body(&left));
        assert_eq!(changes.is_empty(), blocks == left);
    }
    let (got, ..) = enveloped(
        &body(r#"{"type":"thinking","thinking":"x","signature":"google:abc"}"#),
        Platform::Anthropic,
        &[],
    );
    assert_eq!(
        got,
        r#"{"messages":[{"role":"user","content":"a"} ,{"role":"user","content":"b"}]}"#
    );
}

fn frame(headers: &[(&str, &str)], payload: &[u8]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in headers {
        block.push(name.len() as u8);
        block.extend_from_slice(name.as_bytes());
        block.push(7);
        block.extend_from_slice(&(value.len() as u16).to_be_bytes());
        block.extend_from_slice(value.as_bytes());
    }
    message(&block, payload)
}

fn chunk(event: &str) -> Vec<u8> {
    let payload = json!({"bytes": STANDARD.encode(event), "p": "abcd"}).to_string();
    frame(
        &[
            (":event-type", "chunk"),
            (":content-type", "application/json"),
            (":message-type", "event"),
        ],
        payload.as_bytes(),
    )
}

fn opened(pieces: &[&[u8]]) -> (String, Option<u16>) {
    let (mut stream, mut out) = (InvokeStream::new(&Terms::default()), Vec::new());
    pieces.iter().for_each(|piece| stream.feed(piece, &mut out));
    stream.end(true, &mut out);
    (
        String::from_utf8(out).expect("text"),
        stream.failure().map(|failure| failure.status),
    )
}

fn frames() -> Vec<u8> {
    [
        chunk(r#"{"type":"message_start","message":{"id":"m"}}"#),
        frame(
            &[(":event-type", "other"), (":message-type", "event")],
            b"{}",
        ),
        chunk("{\"type\":\"content_block_delta\",\n\"index\":0}"),
        chunk(
            r#"{"type":"message_stop","amazon-bedrock-invocationMetrics":{"inputTokenCount":1}}"#,
        ),
    ]
    .concat()
}

#[test]
fn bedrocks_frames_become_anthropics_stream() {
    let expected = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\"}}\n\n\
        event: content_block_delta\ndata: {\"type\":\"content_block_delta\", \"index\":0}\n\n\
        event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
    assert_eq!(opened(&[&frames()]), (expected.to_owned(), None));
}

#[test]
fn bedrocks_failures_become_anthropics() {
    let exception = |kind: &str| {
        frame(
            &[(":exception-type", kind), (":message-type", "exception")],
            br#"{"message":"m"}"#,
        )
    };
    let start = chunk(r#"{"type":"message_start"}"#);
    for (frames, status, word) in [
        (exception("throttlingException"), 429, "rate_limit_error"),
        (exception("modelStreamErrorException"), 424, "api_error"),
        (
            exception("serviceUnavailableException"),
            503,
            "overloaded_error",
        ),
        (
            exception("validationException"),
            400,
            "invalid_request_error",
        ),
        (exception("modelTimeoutException"), 408, "timeout_error"),
        (exception("internalServerException"), 500, "api_error"),
        (
            frame(
                &[
                    (":error-code", "InternalError"),
                    (":error-message", "m"),
                    (":message-type", "error"),
                ],
                b"",
            ),
            500,
            "api_error",
        ),
        (
            chunk(r#"{"type":"error","error":{"type":"overloaded_error","message":"m"}}"#),
            529,
            "overloaded_error",
        ),
        (chunk("no JSON"), 502, "api_error"),
        (vec![0; 16], 502, "api_error"),
        (Vec::new(), 502, "api_error"),
    ] {
        let (text, failed) = opened(&[&start, &frames]);
        let last = text.trim_end().rsplit("\n\n").next().expect("an event");
        let data = last.strip_prefix("event: error\ndata: ").expect("an error");
        let data: Value = serde_json::from_str(data).expect("JSON");
        assert_eq!(
            (failed, data["error"]["type"].as_str()),
            (Some(status), Some(word))
        );
        assert_eq!(text.matches("event: error").count(), 1);
    }
}

proptest! {
    #[test]
    fn frames_cut_anywhere_open_the_same(first in any::<prop::sample::Index>(), second in any::<prop::sample::Index>()) {
        let bytes = frames();
        let (first, second) = (first.index(bytes.len() + 1), second.index(bytes.len() + 1));
        let (first, second) = (first.min(second), first.max(second));
        let pieces = [&bytes[..first], &bytes[first..second], &bytes[second..]];
        prop_assert_eq!(opened(&pieces), opened(&[&bytes]));
    }

    #[test]
    fn any_body_stays_json(body in "\\{\"messages\":\\[(\\{\"content\":\\[(\\{\"type\":\"(thinking|text)\",\"signature\":\"(google:)?x?\"\\} ?,? ?){0,3}\\]\\},?){0,3}\\]\\}") {
        let valid = serde_json::from_str::<Value>(&body).is_ok();
        let written = envelope(body.as_bytes(), Platform::Anthropic, &[], &mut Changes::default());
        if valid {
            let written = written.expect("a body").body;
            prop_assert!(serde_json::from_slice::<Value>(&written).is_ok(), "{body} became {}", String::from_utf8_lossy(&written));
        }
    }
}
