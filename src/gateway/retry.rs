//! Which failures may pass by themselves, and when (spec: data plane 6.2, providers 1.7).

use std::time::Duration;

use serde_json::Value;

use crate::http::eventstream::{self, EventStreamDecoder};
use crate::http::sse::SseParser;
use crate::http::{Method, RequestHead, ResponseHead};
use crate::limits::RETRY_DELAY_MAX;
use crate::providers::Slug;

/// What is to be done about a failed answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The same request may succeed later.
    Again,
    /// It will not.
    Never,
    /// The body says which.
    AskBody,
}

/// What the head of a failed answer says.
pub(super) fn of_head(answer: &ResponseHead, request: &RequestHead, slug: Slug) -> Verdict {
    let said = answer.header("x-should-retry").map(<[u8]>::trim_ascii);
    match said {
        Some(said) if said.eq_ignore_ascii_case(b"true") => return Verdict::Again,
        Some(said) if said.eq_ignore_ascii_case(b"false") => return Verdict::Never,
        _ => {}
    }
    match answer.status() {
        429 => Verdict::AskBody,
        408 | 500..=599 => Verdict::Again,
        // The model's fault, not the request's.
        424 if slug == Slug::AwsBedrock => Verdict::Again,
        409 if is_idempotent(request) => Verdict::Again,
        _ => Verdict::Never,
    }
}

fn is_idempotent(request: &RequestHead) -> bool {
    request.method() != Method::Post || request.header("idempotency-key").is_some()
}

/// Whether a 429 passes: used-up money and daily allowances do not come back in a minute.
pub(super) fn passes(body: &[u8]) -> bool {
    let Ok(body) = serde_json::from_slice::<Value>(body) else {
        return true;
    };
    let word = |pointer| body.pointer(pointer).and_then(Value::as_str);
    let spent = word("/error/code") == Some("insufficient_quota")
        || word("/error/type") == Some("insufficient_quota")
        || word("/error/details/error_code") == Some("enforced_spend_limit_reached");
    let code = body.pointer("/errors/0/code").and_then(Value::as_u64);
    !spent && code != Some(3036)
}

/// How long the provider says to wait, as far as it is honoured: `retry-after-ms`, `retry-after` as seconds or as a date, Google's
/// `RetryInfo`. `now`: Unix seconds.
pub(super) fn stated_wait(answer: &ResponseHead, body: &[u8], now: u64) -> Option<Duration> {
    let text = |name| {
        std::str::from_utf8(answer.header(name)?)
            .ok()
            .map(str::trim)
    };
    let milliseconds = text("retry-after-ms").and_then(|text| text.parse::<f64>().ok());
    let wait = milliseconds
        .and_then(|wait| Duration::try_from_secs_f64(wait / 1000.0).ok())
        .or_else(|| {
            let text = text("retry-after")?;
            match text.parse::<f64>() {
                Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
                Err(_) => Some(Duration::from_secs(http_date(text)?.saturating_sub(now))),
            }
        })
        .or_else(|| in_body(body));
    wait.map(|wait| wait.min(RETRY_DELAY_MAX))
}

fn in_body(body: &[u8]) -> Option<Duration> {
    memchr::memmem::find(body, b"retryDelay")?;
    let body: Value = serde_json::from_slice(body).ok()?;
    // Google answers streams with a list of one.
    let error = body.pointer("/error").or(body.pointer("/0/error"))?;
    let mut details = error.get("details")?.as_array()?.iter();
    let delay = details.find_map(|detail| detail.get("retryDelay")?.as_str())?;
    let seconds: f64 = delay.strip_suffix('s')?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// Unix seconds of `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 section 5.6.7; the obsolete forms are not sent any more).
fn http_date(text: &str) -> Option<u64> {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let mut words = text.split_once(", ")?.1.split(' ');
    let day: u64 = words.next()?.parse().ok()?;
    let month = words.next().filter(|name| name.len() == 3)?;
    let month = MONTHS.find(month)? as u64 / 3 + 1;
    let year: u64 = words.next()?.parse().ok()?;
    let mut clock = words
        .next()?
        .split(':')
        .map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    if words.next() != Some("GMT") || !(1970..10_000).contains(&year) || day > 31 {
        return None;
    }
    // Days from the civil date, counting years from March (Howard Hinnant's method).
    let (year, month) = match month {
        1 | 2 => (year - 1, month + 9),
        _ => (year, month - 3),
    };
    let day_of_year = (153 * month + 2) / 5 + day.checked_sub(1)?;
    let days = 365 * year + year / 4 - year / 100 + year / 400 + day_of_year;
    let days = days.checked_sub(719_468)?;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

/// What the first event of a stream says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum First {
    /// There is none yet.
    Missing,
    /// The answer has begun.
    Begun,
    /// It is an error; whether the same request may succeed later.
    Error {
        /// The provider's words.
        told: String,
        /// Whether it passes.
        passes: bool,
    },
}

/// Looks for the first event among the bytes of a stream that are here.
pub(super) fn first_event(content_type: &[u8], bytes: &[u8]) -> First {
    let mut first = First::Missing;
    let amazon = eventstream::CONTENT_TYPE.as_bytes();
    let is_amazon = content_type
        .get(..amazon.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(amazon));
    if is_amazon {
        let read = EventStreamDecoder::default().feed(bytes, |message| {
            if first == First::Missing {
                first = match message.header(":message-type") {
                    Some(b"event") | None => of_data(b"", message.payload),
                    Some(_) => {
                        let kind = message
                            .header(":exception-type")
                            .or(message.header(":error-code"));
                        error_of(kind.unwrap_or_default(), message.payload)
                    }
                };
            }
        });
        if read.is_err() && first == First::Missing {
            first = First::Begun;
        }
        return first;
    }
    // Google writes an error as it stands, in place of an event.
    if let Some(b'{' | b'[') = bytes.trim_ascii_start().first() {
        return match serde_json::from_slice::<Value>(bytes) {
            Ok(Value::Array(list)) => {
                let first = list.first().unwrap_or(&Value::Null).to_string();
                of_data(b"", first.as_bytes())
            }
            Ok(_) => of_data(b"", bytes),
            Err(error) if error.is_eof() => First::Missing,
            Err(_) => First::Begun,
        };
    }
    let read = SseParser::default().feed(bytes, |event| {
        if first == First::Missing {
            first = of_data(event.event, event.data);
        }
    });
    match read {
        Err(_) if first == First::Missing => First::Begun,
        _ => first,
    }
}

fn of_data(event: &[u8], data: &[u8]) -> First {
    if event == b"error" {
        return error_of(b"", data);
    }
    // An event of the answer is not parsed: what has no such word is no error.
    if memchr::memmem::find(data, b"\"error\"").is_none() {
        return First::Begun;
    }
    let Ok(value) = serde_json::from_slice::<Value>(data) else {
        return First::Begun;
    };
    let is_error = match &value["error"] {
        Value::Null => value["type"] == "error" || value["type"] == "response.failed",
        Value::Object(_) | Value::String(_) => true,
        _ => false,
    };
    match is_error {
        true => error_of(b"", data),
        false => First::Begun,
    }
}

/// Errors that the same request would meet again; all others are the provider's own trouble.
const LASTING: [&str; 12] = [
    "invalid",
    "authentication",
    "permission",
    "not_found",
    "notfound",
    "validation",
    "accessdenied",
    "insufficient_quota",
    "content",
    "billing",
    "too_large",
    "unsupported",
];

fn error_of(kind: &[u8], data: &[u8]) -> First {
    let told = String::from_utf8_lossy(&data[..data.len().min(TOLD_MAX)]);
    let kind = String::from_utf8_lossy(kind);
    let value: Value = serde_json::from_slice(data).unwrap_or_default();
    let error = match (&value["error"], &value["response"]["error"]) {
        (Value::Null, Value::Null) => &value,
        (Value::Null, error) | (error, _) => error,
    };
    let status = [&error["code"], &error["status"], &value["code"]]
        .into_iter()
        .find_map(Value::as_u64);
    let words = [&error["type"], &error["code"], &error["status"]];
    let lasting = |word: &str| {
        let word = word.to_ascii_lowercase();
        LASTING.iter().any(|lasting| word.contains(lasting))
    };
    let by_word = lasting(&kind) || words.iter().filter_map(|word| word.as_str()).any(lasting);
    let passes = match status {
        Some(status @ 400..=499) => matches!(status, 408 | 429) && passes(data),
        _ => !by_word,
    };
    First::Error {
        told: format!("{kind}{}{told}", if kind.is_empty() { "" } else { ": " }),
        passes,
    }
}

/// Bytes of an error that the log tells.
const TOLD_MAX: usize = 512;

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::http::HeadLimits;

    fn answer(status: u16, headers: &str) -> ResponseHead {
        let text = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n{headers}\r\n");
        let mut bytes = BytesMut::from(&*text);
        let limits = HeadLimits::default();
        let head = ResponseHead::take(&mut bytes, &mut 0, Method::Post, &limits);
        head.expect("a head").expect("whole")
    }

    fn request(headers: &str) -> RequestHead {
        let text = format!("POST / HTTP/1.1\r\nhost: a\r\n{headers}\r\n");
        let mut bytes = BytesMut::from(&*text);
        let head = RequestHead::take(&mut bytes, &mut 0, &HeadLimits::default());
        head.expect("a head").expect("whole")
    }

    #[test]
    fn statuses_are_judged_as_documented() {
        let plain = request("");
        let judge = |status, headers| of_head(&answer(status, headers), &plain, Slug::OpenAi);
        for status in [408, 500, 501, 502, 503, 504, 529, 599] {
            assert_eq!(judge(status, ""), Verdict::Again, "{status}");
        }
        for status in [400, 401, 403, 404, 409, 413, 422, 424] {
            assert_eq!(judge(status, ""), Verdict::Never, "{status}");
        }
        assert_eq!(judge(429, ""), Verdict::AskBody);
        assert_eq!(judge(503, "x-should-retry: false\r\n"), Verdict::Never);
        assert_eq!(judge(400, "X-Should-Retry: TRUE\r\n"), Verdict::Again);
        let bedrock = of_head(&answer(424, ""), &plain, Slug::AwsBedrock);
        assert_eq!(bedrock, Verdict::Again);
        let keyed = request("idempotency-key: k\r\n");
        let conflict = of_head(&answer(409, ""), &keyed, Slug::OpenAi);
        assert_eq!(conflict, Verdict::Again);
    }

    #[test]
    fn used_up_money_does_not_come_back() {
        for (body, expected) in [
            (r#"{"error":{"code":"insufficient_quota"}}"#, false),
            (
                r#"{"error":{"type":"insufficient_quota","code":null}}"#,
                false,
            ),
            (
                r#"{"type":"error","error":{"type":"rate_limit_error","details":{"error_code":"enforced_spend_limit_reached"}}}"#,
                false,
            ),
            (r#"{"errors":[{"code":3036,"message":"m"}]}"#, false),
            (r#"{"errors":[{"code":3040}]}"#, true),
            (r#"{"error":{"code":"rate_limit_exceeded"}}"#, true),
            ("slow down", true),
            ("", true),
        ] {
            assert_eq!(passes(body.as_bytes()), expected, "{body}");
        }
    }

    #[test]
    fn the_wait_comes_from_where_the_provider_says_it() {
        let body = br#"{"error":{"details":[{"@type":"x"},{"retryDelay":"34.5s"}]}}"#;
        let now = 784_111_770;
        let wait = |headers: &str, body: &[u8]| {
            stated_wait(&answer(429, headers), body, now).map(|wait| wait.as_millis())
        };
        assert_eq!(wait("", b""), None);
        assert_eq!(
            wait("retry-after-ms: 250.5\r\nretry-after: 9\r\n", b""),
            Some(250)
        );
        assert_eq!(wait("retry-after: 2\r\n", body), Some(2000));
        assert_eq!(wait("retry-after: 0.5\r\n", b""), Some(500));
        assert_eq!(wait("retry-after: 7200\r\n", b""), Some(60_000));
        assert_eq!(
            wait("retry-after: Sun, 06 Nov 1994 08:49:37 GMT\r\n", b""),
            Some(7000)
        );
        assert_eq!(
            wait("retry-after: Sat, 05 Nov 1994 08:49:37 GMT\r\n", b""),
            Some(0)
        );
        assert_eq!(wait("retry-after: soon\r\n", body), Some(34_500));
        assert_eq!(
            wait("", b"[{\"error\":{\"details\":[{\"retryDelay\":\"1s\"}]}}]"),
            Some(1000)
        );
        assert_eq!(wait("retry-after: -1\r\n", b""), None);
    }

    #[test]
    fn dates_are_counted() {
        assert_eq!(http_date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(
            http_date("Sun, 06 Nov 1994 08:49:37 GMT"),
            Some(784_111_777)
        );
        assert_eq!(
            http_date("Tue, 29 Feb 2028 23:59:59 GMT"),
            Some(1_835_481_599)
        );
        for wrong in [
            "",
            "Sunday",
            "Sun, 06 Nov 1994 08:49 GMT",
            "Sun, 6 N 1 8:4:3 GMT",
        ] {
            assert_eq!(http_date(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_first_event_tells_an_error_from_an_answer() {
        let sse = |text: &str| first_event(b"text/event-stream", text.as_bytes());
        let fails = |text: &str| match sse(text) {
            First::Error { passes, .. } => Some(passes),
            _ => None,
        };
        for nothing in [
            "",
            ": ping\n\n",
            "data: {\"error\":{}}",
            "event: error\n",
            "{\"error\":",
        ] {
            assert_eq!(sse(nothing), First::Missing, "{nothing}");
        }
        for begun in [
            "data: {\"choices\":[]}\n\n",
            "data: [DONE]\n\n",
            "data: {\"error\":null,\"choices\":[]}\n\n",
            "data: {\"text\":\"an \\\"error\\\" word\"}\n\n",
            "event: message_start\ndata: {}\n\nevent: error\ndata: {}\n\n",
        ] {
            assert_eq!(sse(begun), First::Begun, "{begun}");
        }
        for (error, passes) in [
            (
                "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\n\n",
                true,
            ),
            (
                "data: {\"error\":{\"message\":\"m\",\"type\":\"server_error\"}}\n\n",
                true,
            ),
            (
                "data: {\"error\":{\"type\":\"invalid_request_error\"}}\n\n",
                false,
            ),
            (
                "data: {\"error\":{\"code\":503,\"status\":\"UNAVAILABLE\"}}\n\n",
                true,
            ),
            ("data: {\"error\":{\"code\":400}}\n\n", false),
            ("data: {\"error\":{\"code\":429}}\n\n", true),
            ("data: {\"error\":\"upstream died\"}\n\n", true),
            (
                "data: {\"type\":\"error\",\"code\":\"server_error\",\"error\":null}\n\n",
                true,
            ),
        ] {
            assert_eq!(fails(error), Some(passes), "{error}");
        }
    }
}
