//! A finished request as it is stored: figures and names in columns, all else in one JSON text.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::redact::{redact, redact_messages, redact_text};
use crate::http::eventstream;
use crate::limits::LOG_BODY_BYTES_MAX;
use crate::meter;
use crate::record::{CapturedBody, Id, Logged, PaidBy, Record, Timings};
use crate::snapshot::LogSettings;

/// Bits of the column `flags`.
pub mod flag {
    /// A valid token was shown.
    pub const AUTHENTICATED: u8 = 1;
    /// The instance's own key paid.
    pub const WHOLESALE: u8 = 2;
    /// A stored key paid.
    pub const STORED_KEY: u8 = 4;
    /// The unified endpoint was asked.
    pub const COMPATIBLE: u8 = 8;
    /// The caller named the price.
    pub const CUSTOM_COST: u8 = 16;
}

/// One entry, ready to be written.
pub struct Row {
    pub id: Id,
    pub gateway: Arc<str>,
    pub success: bool,
    pub cached: bool,
    pub status: u16,
    pub step: u8,
    pub provider: Arc<str>,
    pub model: Box<str>,
    pub path: Box<str>,
    pub model_type: Option<&'static str>,
    pub request_type: Option<&'static str>,
    pub request_content_type: Option<Box<str>>,
    pub response_content_type: Option<Box<str>>,
    pub user_agent: Option<Box<str>>,
    pub event_id: Option<Box<str>>,
    pub metadata: Option<Box<str>>,
    pub tokens_in: Option<i64>,
    pub tokens_out: Option<i64>,
    pub cost: Option<i64>,
    /// Milliseconds.
    pub duration: i64,
    pub flags: u8,
    /// [`Details`] as JSON.
    pub details: String,
    pub bodies: Option<Bodies>,
}

/// Compressed bodies.
pub struct Bodies {
    pub request: Option<Vec<u8>>,
    pub response: Option<Vec<u8>>,
}

impl Bodies {
    fn is_empty(&self) -> bool {
        self.request.is_none() && self.response.is_none()
    }
}

/// What no filter asks for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Details<'a> {
    /// The method of the request.
    pub method: Cow<'a, str>,
    /// The client's address.
    pub client: Cow<'a, str>,
    /// The caller's token: id and name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<(Cow<'a, str>, Cow<'a, str>)>,
    /// The provider's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<Cow<'a, str>>,
    /// How it ended.
    pub end: Cow<'a, str>,
    /// The gateway's own error code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<Cow<'a, str>>,
    /// Body bytes from the client.
    pub request_bytes: u64,
    /// Body bytes from the provider.
    pub response_bytes: u64,
    /// Upstream connections tried.
    pub attempts: u8,
    /// Whether the connection had served before.
    pub reused: bool,
    /// The tries that failed before the last one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tries: Vec<Tried<'a>>,
    /// The model that answered, as it names itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answered_model: Option<Cow<'a, str>>,
    /// What was changed of the request on its way to a provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changes: Option<Cow<'a, str>>,
    /// The dynamic route: its name, its version, the element that asked the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<[Cow<'a, str>; 3]>,
    /// The stored key that paid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_alias: Option<Cow<'a, str>>,
    /// Cached, written to a cache, reasoning and total tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<[u64; 4]>,
    /// Which rules ran, each decision as an object.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trail: Vec<serde_json::Value>,
    /// Microseconds, in the order of [`Timings`].
    pub timings: [u64; 13],
}

/// A try that failed and was followed by another one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Tried<'a> {
    /// The provider's status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Why it counts as failed.
    pub reason: Cow<'a, str>,
    /// The provider's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<Cow<'a, str>>,
    /// Microseconds that it took.
    pub took: u64,
    /// Microseconds of the pause after it.
    pub pause: u64,
}

impl Row {
    /// Of a record that is to be logged for a gateway and a provider; `None`: it is none. Compresses bodies, which takes its
    /// time.
    pub fn of(
        mut record: Record,
        settings: &LogSettings,
        compressor: &mut Compressor,
    ) -> Option<Self> {
        let mut log = record.log.take()?;
        let gateway = record.gateway.clone()?;
        let provider = record.provider.clone()?;
        let bodies = log.captured.take().and_then(|captured| {
            let mut compressed = |body, content_type: &Option<Box<str>>| {
                compressor.body(body, content_type.as_deref(), settings.redacts)
            };
            let bodies = Bodies {
                request: compressed(&captured.request, &log.request_content_type),
                response: compressed(&captured.response, &log.response_content_type),
            };
            (!bodies.is_empty()).then_some(bodies)
        });
        let clean = |text: Box<str>| match redact_text(&text) {
            Cow::Borrowed(_) => text,
            Cow::Owned(text) => text.into(),
        };
        let details = details(&record, &log);
        let rest = provider_path(&record.path, &gateway);
        let (request_type, model_type) = kind_of(rest);
        let mut flags = 0;
        for (bit, on) in [
            (flag::AUTHENTICATED, record.token.is_some()),
            (flag::WHOLESALE, log.paid_by == PaidBy::House),
            (flag::STORED_KEY, matches!(log.paid_by, PaidBy::Stored(_))),
            (flag::COMPATIBLE, is_unified(&record.path, &gateway)),
            (flag::CUSTOM_COST, log.custom_cost),
        ] {
            flags |= if on { bit } else { 0 };
        }
        Some(Self {
            id: record.id,
            success: record.succeeded(),
            cached: record.cached.is_some(),
            status: record.status,
            step: record.step,
            provider,
            path: clean(rest.into()),
            model: record
                .model
                .take()
                .or(record.answered_model.take())
                .map(clean)
                .unwrap_or_default(),
            model_type,
            request_type,
            request_content_type: log.request_content_type.map(clean),
            response_content_type: log.response_content_type.map(clean),
            user_agent: log.user_agent.map(clean),
            event_id: log.event_id.map(clean),
            metadata: log.metadata.map(clean),
            tokens_in: record.usage.map(|usage| saturated(usage.input)),
            tokens_out: record.usage.map(|usage| saturated(usage.output)),
            cost: record
                .cost
                .map(|cost| cost.0.clamp(i64::MIN.into(), i64::MAX.into()) as i64),
            duration: saturated(record.timings.total.as_millis() as u64),
            flags,
            details,
            bodies,
            gateway,
        })
    }
}

/// What a rule looked at may be the client's own text.
fn clean_decision(mut decision: serde_json::Value) -> serde_json::Value {
    let inputs = decision.as_object_mut().into_iter().flatten();
    for (_, input) in inputs {
        if let Some(Cow::Owned(clean)) = input.as_str().map(redact_text) {
            *input = clean.into();
        }
    }
    decision
}

fn saturated(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn details(record: &Record, log: &Logged) -> String {
    let times: &Timings = &record.timings;
    let micros = |duration: Duration| duration.as_micros() as u64;
    let details = Details {
        method: Cow::Borrowed(&record.method),
        client: record.client.to_string().into(),
        token: record
            .token
            .as_ref()
            .map(|token| (Cow::Borrowed(&*token.id), Cow::Borrowed(&*token.name))),
        upstream: record.upstream.map(|address| address.to_string().into()),
        end: record.end.as_str().into(),
        code: record.code,
        detail: record.detail.as_deref().map(redact_text),
        request_bytes: record.request_bytes,
        response_bytes: record.response_bytes,
        attempts: record.attempts,
        reused: record.reused,
        tries: log
            .tries
            .iter()
            .map(|tried| Tried {
                status: tried.status,
                reason: redact_text(&tried.reason),
                upstream: tried.upstream.map(|address| address.to_string().into()),
                took: micros(tried.took),
                pause: micros(tried.pause),
            })
            .collect(),
        answered_model: record.answered_model.as_deref().map(Cow::Borrowed),
        changes: record.changes.as_deref().map(Cow::Borrowed),
        route: record
            .route
            .as_ref()
            .map(|route| [&*route.name, &*route.version_id, &*route.element_id].map(Cow::Borrowed)),
        key_alias: match &log.paid_by {
            PaidBy::Stored(alias) => Some(Cow::Borrowed(alias)),
            _ => None,
        },
        tokens: record.usage.map(|usage| {
            [
                usage.cached_input,
                usage.cache_write,
                usage.reasoning,
                usage.total,
            ]
        }),
        trail: log
            .trail
            .decisions()
            .iter()
            .filter_map(|decision| serde_json::to_value(decision).ok())
            .map(clean_decision)
            .collect(),
        timings: [
            micros(times.total),
            micros(times.own_request),
            micros(times.parse),
            micros(times.wait),
            micros(times.connect),
            micros(times.queue),
            micros(times.dns),
            micros(times.tcp),
            micros(times.tls),
            micros(times.upstream),
            micros(times.upload),
            micros(times.own_response),
            micros(times.stream),
        ],
    };
    // A structure of texts and numbers can always be written.
    serde_json::to_string(&details).unwrap_or_default()
}

/// The level at which zstd is as fast as a disk.
const LEVEL: i32 = 1;

/// Compresses bodies; kept, as its tables are dear to make.
#[derive(Default)]
pub struct Compressor(Option<zstd::bulk::Compressor<'static>>);

impl Compressor {
    /// Undoes a content coding first. What cannot be decoded is not kept.
    fn body(
        &mut self,
        body: &CapturedBody,
        content_type: Option<&str>,
        redacts: bool,
    ) -> Option<Vec<u8>> {
        let bytes = match body.coding() {
            None => Cow::Borrowed(body.bytes()),
            Some(coding) => {
                meter::decoded(body.bytes(), coding.as_bytes(), LOG_BODY_BYTES_MAX)?.into()
            }
        };
        if bytes.is_empty() {
            return None;
        }
        let clean = match (redacts, content_type) {
            (false, _) => Cow::Borrowed(&*bytes),
            (true, Some(eventstream::CONTENT_TYPE)) => redact_messages(&bytes),
            (true, _) => redact(&bytes),
        };
        if self.0.is_none() {
            self.0 = zstd::bulk::Compressor::new(LEVEL).ok();
        }
        let clean = &clean[..clean.len().min(LOG_BODY_BYTES_MAX)];
        self.0.as_mut()?.compress(clean).ok()
    }
}

/// What stands behind the provider in a native path; any other path as it is.
fn provider_path<'a>(path: &'a str, gateway: &str) -> &'a str {
    behind(path, gateway).map_or(path, |(_, rest)| rest)
}

fn is_unified(path: &str, gateway: &str) -> bool {
    let rest_family = path.starts_with("/client/v4/") && path.contains("/ai/v1/");
    rest_family || behind(path, gateway).is_some_and(|(provider, _)| provider == "compat")
}

/// The provider's segment of `/v1/{account}/{gateway}/{provider}/{rest}`, and the rest.
fn behind<'a>(path: &'a str, gateway: &str) -> Option<(&'a str, &'a str)> {
    let (_account, rest) = path.strip_prefix("/v1/")?.split_once('/')?;
    let rest = rest.strip_prefix(gateway)?.strip_prefix('/')?;
    Some(rest.split_once('/').unwrap_or((rest, "")))
}

/// What kind of request a provider's path is, and what kind of model answers it.
fn kind_of(path: &str) -> (Option<&'static str>, Option<&'static str>) {
    const TEXT: Option<&str> = Some("text-generation");
    const KINDS: [(&str, &str, Option<&str>); 20] = [
        ("chat/completions", "chat", TEXT),
        ("/messages/count_tokens", "count-tokens", None),
        ("v1/chat", "chat", TEXT),
        ("v2/chat", "chat", TEXT),
        ("responses", "responses", TEXT),
        ("messages", "messages", TEXT),
        ("completions", "completions", TEXT),
        (":generateContent", "generate", TEXT),
        (":streamGenerateContent", "generate", TEXT),
        (":embedContent", "embeddings", Some("embeddings")),
        ("/converse", "converse", TEXT),
        ("/converse-stream", "converse", TEXT),
        ("/invoke", "invoke", TEXT),
        ("/invoke-with-response-stream", "invoke", TEXT),
        ("embeddings", "embeddings", Some("embeddings")),
        ("images/generations", "image", Some("image-generation")),
        ("images/edits", "image", Some("image-generation")),
        ("audio/speech", "speech", Some("text-to-speech")),
        (
            "audio/transcriptions",
            "transcription",
            Some("speech-recognition"),
        ),
        (
            "audio/translations",
            "transcription",
            Some("speech-recognition"),
        ),
    ];
    let found = KINDS.iter().find(|(end, ..)| path.ends_with(end));
    match found {
        Some((_, request, model)) => (Some(request), *model),
        None => (None, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meter::cost::Money;
    use crate::record::{Captured, Decision, End, Ids, Routed, Trail};
    use quanta::Instant;

    fn row_of(record: Record, settings: &LogSettings) -> Option<Row> {
        Row::of(record, settings, &mut Compressor::default())
    }

    fn record() -> Record {
        let id = Ids::new(0, 1).next(Instant::now());
        Record {
            method: "POST".into(),
            path: "/v1/acc/default/openai/chat/completions".into(),
            gateway: Some("default".into()),
            provider: Some("openai".into()),
            status: 200,
            end: End::Complete,
            log: Some(Box::default()),
            ..Record::new(id, "127.0.0.1".parse().expect("an address"))
        }
    }

    #[test]
    fn only_what_is_to_be_logged_becomes_a_row() {
        let settings = LogSettings::default();
        assert!(row_of(record(), &settings).is_some());
        for record in [
            Record {
                log: None,
                ..record()
            },
            Record {
                gateway: None,
                ..record()
            },
            Record {
                provider: None,
                ..record()
            },
        ] {
            assert!(row_of(record, &settings).is_none());
        }
    }

    #[test]
    fn the_trail_is_kept_in_its_order() {
        let mut logged = Logged::default();
        for (rule, outcome) in [("rate_limit", "admitted"), ("cache", "hit")] {
            logged.trail.push(Decision {
                rule,
                outcome,
                at: Duration::from_micros(7),
                inputs: vec![("ttl_s", 60_u64.into())],
            });
        }
        let record = Record {
            log: Some(Box::new(logged)),
            ..record()
        };
        let row = row_of(record, &LogSettings::default()).expect("a row");
        let details: Details<'_> = serde_json::from_str(&row.details).expect("JSON");
        assert_eq!(details.trail.len(), 2);
        let hit = serde_json::json!({"rule": "cache", "outcome": "hit", "at_us": 7, "ttl_s": 60});
        assert_eq!(details.trail[1], hit);
    }

    #[test]
    fn a_row_says_what_the_request_was() {
        let row = row_of(record(), &LogSettings::default()).expect("a row");
        assert_eq!((&*row.path, &*row.model), ("chat/completions", ""));
        assert_eq!(
            (row.request_type, row.model_type),
            (Some("chat"), Some("text-generation"))
        );
        assert!(row.success && row.tokens_in.is_none() && row.cost.is_none() && row.flags == 0);
        let details: Details<'_> = serde_json::from_str(&row.details).expect("JSON");
        assert_eq!((&*details.end, &*details.method), ("complete", "POST"));
        for (status, end) in [
            (500, End::Complete),
            (0, End::ClientLeft),
            (200, End::UpstreamBroke),
        ] {
            let row = row_of(
                Record {
                    status,
                    end,
                    ..record()
                },
                &LogSettings::default(),
            );
            assert!(!row.expect("a row").success, "{status} {end:?}");
        }
        let path = "/v1/acc/default/compat/chat/completions".into();
        let row = row_of(Record { path, ..record() }, &LogSettings::default()).expect("a row");
        assert_eq!(row.flags, flag::COMPATIBLE);
        assert_eq!(
            kind_of("models/gemini-pro:streamGenerateContent").0,
            Some("generate")
        );
        assert_eq!(kind_of("files"), (None, None));
        let route = Some(Box::new(Routed {
            name: "support".into(),
            version_id: "v".into(),
            element_id: "m1".into(),
        }));
        let row = row_of(Record { route, ..record() }, &LogSettings::default()).expect("a row");
        let details: Details<'_> = serde_json::from_str(&row.details).expect("JSON");
        assert_eq!(details.route.expect("a route"), ["support", "v", "m1"]);
        let cost = |cost| {
            let record = Record {
                cost: Some(Money(cost)),
                ..record()
            };
            row_of(record, &LogSettings::default()).expect("a row").cost
        };
        assert_eq!((cost(12), cost(i128::MAX)), (Some(12), Some(i64::MAX)));
    }

    #[test]
    fn secrets_are_taken_out_of_all_that_a_client_wrote() {
        let secret = "sk-abcdefghijklmnopqrstuvwxyz";
        let body = |text: &'static str| {
            let mut body = CapturedBody::default();
            body.copy(text.as_bytes());
            body.copy(secret.as_bytes());
            body
        };
        let with = |redacts| {
            let text = |front: &str| Some(format!("{front}{secret}").into_boxed_str());
            let mut trail = Trail::default();
            trail.push(Decision {
                rule: "route",
                outcome: "true",
                at: Duration::ZERO,
                inputs: vec![("saw", secret.into())],
            });
            let log = Logged {
                trail,
                event_id: text("e "),
                user_agent: text("ua "),
                metadata: Some(format!(r#"{{"a":"{secret}"}}"#).into()),
                request_content_type: text("t "),
                response_content_type: text("t "),
                captured: Some(Captured {
                    request: body("one "),
                    response: body("two "),
                }),
                ..Logged::default()
            };
            let record = Record {
                path: format!("/v1/acc/default/openai/{secret}").into(),
                detail: text("detail "),
                log: Some(Box::new(log)),
                ..record()
            };
            row_of(
                record,
                &LogSettings {
                    redacts,
                    ..LogSettings::default()
                },
            )
            .expect("a row")
        };
        let shown = |row: &Row| {
            let bodies = row.bodies.as_ref().expect("bodies");
            let text = |bytes: &Option<Vec<u8>>| {
                let bytes = zstd::bulk::decompress(bytes.as_ref().expect("a body"), 1000);
                String::from_utf8(bytes.expect("decompressed")).expect("text")
            };
            format!("{} {}", text(&bodies.request), text(&bodies.response))
        };
        let row = with(true);
        let fields = [
            &row.event_id,
            &row.user_agent,
            &row.metadata,
            &row.request_content_type,
            &row.response_content_type,
        ];
        for field in fields {
            let text = field.as_deref().expect("a text");
            assert!(
                text.contains("[redacted]") && !text.contains(secret),
                "{text}"
            );
        }
        assert!(
            !row.path.contains(secret) && !row.details.contains(secret),
            "{}",
            row.details
        );
        assert_eq!(shown(&row), "one [redacted] two [redacted]");
        assert_eq!(
            shown(&with(false)),
            format!("one {secret} two {secret}"),
            "as the setting says"
        );
    }
}
