//! One line a request, made from its record.

use std::fmt::Write;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::record::Record;

/// How access lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people: fixed columns, then `name=value`.
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// Appends the line of `record`.
pub(super) fn write_line(out: &mut String, record: &Record, format: Format) {
    match format {
        Format::Text => write_text(out, record),
        Format::Json => {
            out.push_str(&to_json(record).to_string());
            out.push('\n');
        }
    }
}

fn write_text(out: &mut String, record: &Record) {
    let time = humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(record.began));
    let timings = &record.timings;
    // Writing to a string cannot fail.
    let _ = write!(
        out,
        "{time} {} {} {} {} gateway={} provider={}",
        record.client,
        record.method,
        printable(&record.path),
        record.status,
        record.gateway.as_deref().unwrap_or("-"),
        record.provider.as_deref().unwrap_or("-"),
    );
    if let Some(token) = &record.token {
        let _ = write!(out, " caller={:?}", token.name);
    }
    // The path's model, or else the one that the answer names.
    if let Some(model) = record.model.as_ref().or(record.answered_model.as_ref()) {
        let _ = write!(out, " model={}", printable(model));
    }
    if let Some(route) = &record.route {
        let _ = write!(out, " route={:?}", route.name);
    }
    let _ = write!(
        out,
        " in={} out={} total={} own={} connect={} upstream={} stream={}",
        record.request_bytes,
        record.response_bytes,
        shown(timings.total),
        shown(timings.own()),
        shown(timings.connect),
        shown(timings.upstream),
        shown(timings.stream),
    );
    if timings.wait.as_micros() > 0 {
        let _ = write!(out, " wait={}", shown(timings.wait));
    }
    if record.attempts > 0 {
        let connection = if record.reused { "reused" } else { "new" };
        let _ = write!(out, " connection={connection} attempts={}", record.attempts);
    }
    if record.step > 0 || record.superseded {
        let _ = write!(out, " step={}", record.step);
    }
    if record.superseded {
        out.push_str(" superseded");
    }
    if let Some(usage) = &record.usage {
        let _ = write!(out, " tokens={}+{}", usage.input, usage.output);
    }
    if let Some(changes) = &record.changes {
        let _ = write!(out, " changes={changes}");
    }
    let _ = write!(out, " end={} id={}", record.end.as_str(), record.id);
    if let Some(code) = record.code {
        let _ = write!(out, " code={code}");
    }
    if let Some(detail) = &record.detail {
        let _ = write!(out, " detail={detail:?}");
    }
    out.push('\n');
}

fn to_json(record: &Record) -> Value {
    let timings = &record.timings;
    let time = humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(record.began));
    let micros = |duration: Duration| duration.as_micros() as u64;
    json!({
        "time": time.to_string(),
        "id": record.id.to_string(),
        "client": record.client.to_string(),
        "method": record.method,
        "path": record.path,
        "gateway": record.gateway.as_deref(),
        "token": record.token.as_ref().map(|token| json!({"id": &*token.id, "name": &*token.name})),
        "provider": record.provider.as_deref(),
        "model": record.model.as_deref(),
        "route": record.route.as_ref().map(|route| &*route.name),
        "answered_model": record.answered_model.as_deref(),
        "translated": record.translated,
        "changes": record.changes.as_deref(),
        "usage": record.usage.map(|usage| json!({
            "input": usage.input,
            "output": usage.output,
            "cached_input": usage.cached_input,
            "cache_write": usage.cache_write,
            "reasoning": usage.reasoning,
            "total": usage.total,
        })),
        "status": record.status,
        "code": record.code,
        "detail": record.detail.as_deref(),
        "end": record.end.as_str(),
        "request_bytes": record.request_bytes,
        "response_bytes": record.response_bytes,
        "step": record.step,
        "superseded": record.superseded,
        "attempts": record.attempts,
        "reused": record.reused,
        "timings_us": {
            "total": micros(timings.total),
            "own": micros(timings.own()),
            "own_request": micros(timings.own_request),
            "own_response": micros(timings.own_response),
            "parse": micros(timings.parse),
            "wait": micros(timings.wait),
            "connect": micros(timings.connect),
            "queue": micros(timings.queue),
            "dns": micros(timings.dns),
            "tcp": micros(timings.tcp),
            "tls": micros(timings.tls),
            "upstream": micros(timings.upstream),
            "upload": micros(timings.upload),
            "stream": micros(timings.stream),
        },
    })
}

/// Microseconds below a millisecond, else milliseconds with one digit.
fn shown(duration: Duration) -> String {
    match duration.as_micros() {
        micros @ 0..1000 => format!("{micros}us"),
        micros => format!("{:.1}ms", micros as f64 / 1000.0),
    }
}

/// A client must not write lines of its own into the log.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() || c == ' ' { '?' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::meter::Usage;
    use crate::record::{End, Ids, Routed, Timings, TokenName};

    fn record() -> Record {
        let mut ids = Ids::new(0, 1);
        Record {
            id: ids.next(quanta::Instant::now()),
            began: 1_768_478_400_123,
            client: [127, 0, 0, 1].into(),
            method: Cow::Borrowed("POST"),
            path: "/v1/a/default/openai/chat".into(),
            gateway: Some("default".into()),
            token: Some(TokenName {
                id: "0123".into(),
                name: "team a".into(),
            }),
            provider: Some("openai".into()),
            model: Some("a b\n".into()),
            route: None,
            changes: None,
            translated: false,
            answered_model: None,
            cached: None,
            cost: None,
            usage: Some(Usage {
                input: 11,
                output: 3,
                ..Usage::default()
            }),
            step: 0,
            superseded: false,
            status: 400,
            code: Some(2005),
            detail: Some("refused \"so\"".into()),
            end: End::Complete,
            request_bytes: 5,
            response_bytes: 7,
            attempts: 1,
            reused: true,
            upstream: None,
            timings: Timings {
                total: Duration::from_micros(12_340),
                own_request: Duration::from_micros(40),
                own_response: Duration::from_micros(2),
                ..Timings::default()
            },
            log: None,
        }
    }

    #[test]
    fn a_text_line_is_one_line() {
        let mut out = String::new();
        let record = record();
        write_line(&mut out, &record, Format::Text);
        let expected = format!(
            "2026-01-15T12:00:00.123Z 127.0.0.1 POST /v1/a/default/openai/chat 400 gateway=default provider=openai caller=\"team a\" model=a?b? \
             in=5 out=7 total=12.3ms own=42us connect=0us upstream=0us stream=0us connection=reused attempts=1 tokens=11+3 end=complete id={} \
             code=2005 detail=\"refused \\\"so\\\"\"\n",
            record.id
        );
        assert_eq!(out, expected);
    }

    #[test]
    fn the_answers_model_is_shown_where_the_path_names_none() {
        let mut out = String::new();
        let record = Record {
            model: None,
            answered_model: Some("gpt-4o-2026".into()),
            route: Some(Box::new(Routed {
                name: "a b".into(),
                version_id: "v".into(),
                element_id: "m".into(),
            })),
            ..record()
        };
        write_line(&mut out, &record, Format::Text);
        assert!(out.contains(" model=gpt-4o-2026 route=\"a b\" "), "{out}");
    }

    #[test]
    fn a_json_line_holds_every_field() {
        let mut out = String::new();
        write_line(&mut out, &record(), Format::Json);
        assert_eq!(out.matches('\n').count(), 1);
        let value: Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!(value["timings_us"]["own"], 42);
        assert_eq!(value["code"], 2005);
        assert_eq!(value["model"], "a b\n");
        let names = |value: &Value| {
            let object = value.as_object().expect("an object");
            object.keys().cloned().collect::<Vec<_>>().join(" ")
        };
        // What log shippers are configured with: a name that goes or changes breaks them.
        assert_eq!(
            names(&value),
            "time id client method path gateway token provider model route answered_model translated changes usage status code detail end \
             request_bytes response_bytes step superseded attempts reused timings_us"
        );
        assert_eq!(
            names(&value["timings_us"]),
            "total own own_request own_response parse wait connect queue dns tcp tls upstream upload stream"
        );
        assert_eq!(
            names(&value["usage"]),
            "input output cached_input cache_write reasoning total"
        );
    }
}
