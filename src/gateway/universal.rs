//! The universal endpoint: a body that names the steps to try one after the other (spec: data plane 6.3). Each entry becomes a
//! request of its own, with the head and the body that a client would have sent to the provider's own endpoint.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::authenticate::{Identity, authenticate};
use super::error::GatewayError;
use super::settle::Settle;
use super::steps::{Step, To};
use super::unified::Endpoint;
use super::{Ask, Thread, admit};
use crate::dialect::failure::Invalid;
use crate::dialect::splice::{Object, items};
use crate::http::{HeadLimits, Method, RequestHead, Version, is_about_connection, is_name, write};
use crate::limits::UNIVERSAL_ENTRIES_MAX;
use crate::providers::behind_scheme;
use crate::record::TokenName;
use crate::snapshot::{Gateway, Map, ProviderEntry, Snapshot};

/// What stands in the place of a provider where the body, which would name it, was not read.
const UNIVERSAL: &str = "universal";

/// A universal request that may go on to its body.
pub(super) struct Admitted {
    pub gateway: Arc<Gateway>,
    pub identity: Identity,
}

/// Phase 3, and what else is known before the body.
pub(super) fn admit(
    thread: &Thread,
    snapshot: &Snapshot,
    head: &RequestHead,
    gateway: Arc<Gateway>,
    unmade: bool,
    settle: &mut Settle<'_>,
) -> Result<Admitted, GatewayError> {
    settle.record.gateway = Some(gateway.id.clone());
    let (now, client) = (settle.record.began / 1000, settle.record.client);
    let identity = authenticate(head, &gateway, &snapshot.tokens, now, client)?;
    settle.record.token = identity.token.as_ref().map(|token| TokenName {
        id: token.id.clone(),
        name: token.name.clone(),
    });
    if unmade && identity.is_authenticated() {
        (thread.shared.ask)(Ask::DefaultGateway);
    }
    match head.method() {
        Method::Post => {
            // What is refused before this would let anybody fill the log.
            settle.note_gateway(head, &gateway);
            if let Err(error) = admit::admit(thread, &gateway, settle) {
                // Nobody has asked for a provider yet, and an entry has to name one.
                settle.record.provider = Some(UNIVERSAL.into());
                return Err(error);
            }
            Ok(Admitted { gateway, identity })
        }
        Method::Get | Method::Head => Err(GatewayError::no_provider("The path names no provider")),
        _ => Err(GatewayError::wrong_method(head.method_str())),
    }
}

/// An entry, before it is known where it leads.
pub(super) struct Entry {
    provider: String,
    /// Where the path behind the provider's segment begins.
    rest: usize,
    head: RequestHead,
    body: Bytes,
}

/// Reads the body: a list of entries, or one of them. What is wrong is told with the entry and its field.
pub(super) fn read(
    client: &RequestHead,
    account: &str,
    gateway: &str,
    body: &Bytes,
) -> Result<Vec<Entry>, GatewayError> {
    let start = body.len() - body.trim_ascii_start().len();
    let end = start + body[start..].trim_ascii_end().len();
    let spans = match body.get(start) {
        Some(b'[') => listed(body, start..end)?,
        _ => {
            let whole = Object::read(body);
            whole.map_err(|invalid| told("the body", &invalid))?;
            std::iter::once(start..end).collect()
        }
    };
    if spans.is_empty() {
        return Err(GatewayError::bad_entries("The list has no entry"));
    }
    if spans.len() > UNIVERSAL_ENTRIES_MAX {
        return Err(GatewayError::bad_entries(format!(
            "The list has {} entries, and {UNIVERSAL_ENTRIES_MAX} are allowed",
            spans.len()
        )));
    }
    let base = format!("/v1/{account}/{gateway}/");
    let entries = spans.into_iter().enumerate();
    entries
        .map(|(index, span)| entry(client, &base, body, span, index))
        .collect()
}

fn listed(body: &[u8], span: Range<usize>) -> Result<Vec<Range<usize>>, GatewayError> {
    let broken = || GatewayError::bad_entries("The body is no JSON list of entries");
    let found = items(body, span.clone()).ok_or_else(broken)?;
    let behind = found.last().map_or(span.start + 1, |last| last.end);
    match body[behind..span.end].trim_ascii() {
        b"]" => Ok(found),
        _ => Err(broken()),
    }
}

fn told(place: &str, invalid: &Invalid) -> GatewayError {
    GatewayError::bad_entries(format!("{place}: {}", invalid.message))
}

/// The entry as a request of its own.
fn entry(
    client: &RequestHead,
    base: &str,
    body: &Bytes,
    span: Range<usize>,
    index: usize,
) -> Result<Entry, GatewayError> {
    let place = format!("entry {index}");
    let object = Object::at(body, span, &place).map_err(|invalid| told(&place, &invalid))?;
    let text = |field: &str| {
        let text = object.text(field).filter(|text| !text.is_empty());
        let wanted = || GatewayError::bad_entries(format!("{place}: {field} must be a string"));
        text.ok_or_else(wanted)
    };
    let provider = text("provider")?.trim().to_ascii_lowercase();
    let endpoint = text("endpoint")?;
    let endpoint = endpoint.strip_prefix('/').unwrap_or(&endpoint);
    let query = match object.span("query") {
        Some(span) => body.slice(span),
        None => Bytes::new(),
    };
    let path = format!("{base}{provider}/{endpoint}");
    let mut fields = Fields::default();
    fields.take_config(body, &object, &place)?;
    fields.take_headers(body, &object, &place)?;
    if let Some(authorization) = object.text("authorization")
        && !fields.has("authorization")
    {
        fields.put("authorization", authorization.as_bytes(), &place)?;
    }
    fields.take_outer(client);
    let head = fields.into_head(client, &path, query.len());
    let head = head.map_err(|reason| GatewayError::bad_entries(format!("{place}: {reason}")))?;
    Ok(Entry {
        rest: base.len() + provider.len() + 1,
        provider,
        head,
        body: query,
    })
}

impl Entry {
    /// The step that the entry means. `index`: its place in the list.
    pub fn step(
        self,
        providers: &Map<Box<str>, Arc<ProviderEntry>>,
        index: usize,
    ) -> Result<Step, GatewayError> {
        let rest = &self.head.path()[self.rest.min(self.head.path().len())..];
        let to = match providers.get(&*self.provider) {
            Some(entry) => To::Native(entry.clone(), self.rest),
            None if self.provider == "compat" => {
                let endpoint = Endpoint::below_compat(rest);
                let endpoint = endpoint.filter(|endpoint| *endpoint != Endpoint::Models);
                To::Unified(endpoint.ok_or_else(|| GatewayError::no_endpoint(rest))?)
            }
            None => {
                let told = format!("entry {index}: No provider {:?}", self.provider);
                return Err(GatewayError::no_provider(told));
            }
        };
        Ok(Step {
            head: Box::new(self.head),
            body: self.body,
            to,
        })
    }
}

/// What the settings of an entry are called in a head.
const SETTINGS: [(&str, &str); 10] = [
    ("requestTimeout", "cf-aig-request-timeout"),
    ("maxAttempts", "cf-aig-max-attempts"),
    ("retryDelay", "cf-aig-retry-delay"),
    ("backoff", "cf-aig-backoff"),
    ("cacheTtl", "cf-aig-cache-ttl"),
    ("skipCache", "cf-aig-skip-cache"),
    ("cacheKey", "cf-aig-cache-key"),
    ("collectLog", "cf-aig-collect-log"),
    ("metadata", "cf-aig-metadata"),
    ("customCost", "cf-aig-custom-cost"),
];

/// What the official clients put where a key belongs, and take out themselves in most places (data plane 6.3).
const NO_KEY: &[u8] = b"CF_TEMP_TOKEN";

/// The fields of an entry's head: those that are put first stand above later ones of the same name.
#[derive(Default)]
struct Fields {
    lines: Vec<u8>,
    names: Vec<String>,
}

impl Fields {
    fn has(&self, name: &str) -> bool {
        self.names.iter().any(|known| known == name)
    }

    fn put(&mut self, name: &str, value: &[u8], place: &str) -> Result<(), GatewayError> {
        let is_text = |byte: &u8| *byte == b'\t' || !byte.is_ascii_control();
        if !value.iter().all(is_text) {
            let told = format!("{place}: headers.{name} holds a control character");
            return Err(GatewayError::bad_entries(told));
        }
        write::header(&mut self.lines, name.as_bytes(), value);
        self.names.push(name.to_owned());
        Ok(())
    }

    fn take_config(
        &mut self,
        body: &[u8],
        entry: &Object<'_>,
        place: &str,
    ) -> Result<(), GatewayError> {
        let Some(span) = entry.span("config") else {
            return Ok(());
        };
        let place = format!("{place}: config");
        let config = Object::at(body, span, &place).map_err(|invalid| told(&place, &invalid))?;
        for (setting, name) in SETTINGS {
            if let Some(value) = value_of(&config, setting) {
                self.put(name, value.as_bytes(), &place)?;
            }
        }
        Ok(())
    }

    fn take_headers(
        &mut self,
        body: &[u8],
        entry: &Object<'_>,
        place: &str,
    ) -> Result<(), GatewayError> {
        let Some(span) = entry.span("headers") else {
            return Ok(());
        };
        let within = format!("{place}: headers");
        let headers = Object::at(body, span, &within).map_err(|invalid| told(&within, &invalid))?;
        for field in headers.names() {
            let name = field.to_ascii_lowercase();
            let Some(value) = value_of(&headers, field) else {
                continue;
            };
            let value = value.trim();
            let no_key = behind_scheme(value.as_bytes()) == NO_KEY;
            if !no_key && !is_written_anew(&name) && !self.has(&name) {
                self.put(&name, value.as_bytes(), place)?;
            }
        }
        Ok(())
    }

    /// What the request's own head says to the gateway holds for every entry that does not say otherwise.
    fn take_outer(&mut self, client: &RequestHead) {
        for (name, value) in client.headers() {
            let Ok(name) = std::str::from_utf8(name) else {
                continue;
            };
            let name = name.to_ascii_lowercase();
            let is_ours =
                name.starts_with("cf-aig-") || matches!(&*name, "cf-cache-ttl" | "cf-skip-cache");
            if is_ours && !is_written_anew(&name) && !self.has(&name) {
                write::header(&mut self.lines, name.as_bytes(), value);
                self.names.push(name);
            }
        }
    }

    /// A head with these fields, and with the form of the client's connection, which the answer has to fit.
    fn into_head(
        mut self,
        client: &RequestHead,
        path: &str,
        length: usize,
    ) -> Result<RequestHead, Cow<'static, str>> {
        if path.contains(' ') {
            return Err("endpoint holds a space".into());
        }
        if !self.has("content-type") {
            write::header(&mut self.lines, b"content-type", b"application/json");
        }
        let old = client.version() == Version::Http10;
        let mut out = Vec::with_capacity(path.len() + self.lines.len() + 128);
        out.extend_from_slice(b"POST ");
        out.extend_from_slice(path.as_bytes());
        out.extend_from_slice(if old {
            b" HTTP/1.0\r\n"
        } else {
            b" HTTP/1.1\r\n"
        });
        write::header(
            &mut out,
            b"host",
            client.host().unwrap_or("gateway").as_bytes(),
        );
        let connection: &[u8] = match client.keep_alive() {
            true => b"keep-alive",
            false => b"close",
        };
        write::header(&mut out, b"connection", connection);
        out.extend_from_slice(b"content-length: ");
        write::decimal(&mut out, length as u64);
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&self.lines);
        out.extend_from_slice(b"\r\n");
        let mut bytes = BytesMut::from(&*out);
        match RequestHead::take(&mut bytes, &mut 0, &HeadLimits::default()) {
            Ok(Some(head)) if bytes.is_empty() => Ok(head),
            Ok(_) => Err("its headers or its endpoint hold a line end".into()),
            Err(error) => Err(error.to_string().into()),
        }
    }
}

/// The text of a field's value: of a string what it says, of anything else its JSON. `None`: there is none.
fn value_of<'a>(object: &Object<'a>, field: &str) -> Option<Cow<'a, str>> {
    if let Some(text) = object.text(field) {
        return Some(text);
    }
    let raw = std::str::from_utf8(object.raw(field)?).ok()?;
    match raw.contains(['\r', '\n']) {
        false => Some(raw.into()),
        true => {
            let value: serde_json::Value = serde_json::from_str(raw).ok()?;
            Some(value.to_string().into())
        }
    }
}

/// Fields about the connection and the framing, and the token, which was looked at before the body.
fn is_written_anew(name: &str) -> bool {
    let name = name.as_bytes();
    is_about_connection(name)
        || [
            &b"host"[..],
            b"content-length",
            b"transfer-encoding",
            b"connection",
            b"expect",
            b"upgrade",
            b"cf-aig-authorization",
            b"cf-aig-gateway-id",
        ]
        .iter()
        .any(|own| is_name(name, own))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(headers: &str) -> RequestHead {
        let text = format!("POST /v1/acc/g HTTP/1.1\r\nhost: gw\r\n{headers}\r\n");
        let mut bytes = BytesMut::from(&*text);
        let head = RequestHead::take(&mut bytes, &mut 0, &HeadLimits::default());
        head.expect("a head").expect("whole")
    }

    fn entries(headers: &str, body: &str) -> Result<Vec<Entry>, String> {
        let body = Bytes::from(body.to_owned());
        let read = read(&client(headers), "acc", "g", &body);
        read.map_err(|error| {
            assert_eq!((error.status, error.code), (400, 2002));
            error.description.expect("a description").into_owned()
        })
    }

    #[test]
    fn an_entry_becomes_a_request_of_its_own() {
        let body = r#" [{"provider":"OpenAI","endpoint":"/v1/chat/completions?a=b","query":{"model": "m", "n":1.0e2},
            "headers":{"Authorization":"Bearer sk","X-Count":3,"X-On":true,"X-None":null,"Host":"evil","cf-aig-cache-ttl":60},
            "config":{"requestTimeout":3000,"maxAttempts":2,"backoff":"linear","other":1},"authorization":"Bearer no"},
            {"provider":"anthropic","endpoint":"v1/messages","headers":{"x-api-key":"CF_TEMP_TOKEN"},"authorization":"Bearer yes"}] "#;
        let outer = "cf-aig-max-attempts: 5\r\ncf-aig-cache-ttl: 9\r\ncf-aig-authorization: t\r\nx-mine: 1\r\ncf-aig-event-id: e\r\n";
        let mut entries = entries(outer, body).expect("entries");
        let second = entries.pop().expect("the second");
        let first = entries.pop().expect("the first");
        let head = &first.head;
        assert_eq!(head.path(), "/v1/acc/g/openai/v1/chat/completions");
        assert_eq!(&head.path()[first.rest..], "v1/chat/completions");
        assert_eq!(head.query(), Some("a=b"));
        assert_eq!(&*first.body, br#"{"model": "m", "n":1.0e2}"#);
        for (name, value) in [
            ("authorization", Some("Bearer sk")),
            ("x-count", Some("3")),
            ("x-on", Some("true")),
            ("x-none", None),
            ("host", Some("gw")),
            ("content-type", Some("application/json")),
            ("content-length", Some("25")),
            ("cf-aig-request-timeout", Some("3000")),
            ("cf-aig-max-attempts", Some("2")),
            ("cf-aig-backoff", Some("linear")),
            ("cf-aig-cache-ttl", Some("60")),
            ("cf-aig-event-id", Some("e")),
            ("cf-aig-authorization", None),
            ("x-mine", None),
        ] {
            let found = head
                .header(name)
                .map(|value| String::from_utf8_lossy(value));
            assert_eq!(found.as_deref(), value, "{name}");
        }
        assert_eq!(second.head.header("x-api-key"), None);
        assert_eq!(
            second.head.header("authorization"),
            Some(&b"Bearer yes"[..])
        );
        assert_eq!(second.head.header("cf-aig-max-attempts"), Some(&b"5"[..]));
    }

    #[test]
    fn one_entry_may_stand_alone() {
        let body = r#"{"provider":"groq","endpoint":"chat/completions","query":[]}"#;
        let entries = entries("connection: close\r\n", body).expect("entries");
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].provider, "groq");
        assert!(!entries[0].head.keep_alive());
    }

    #[test]
    fn what_is_wrong_is_told_with_its_entry_and_field() {
        let good = r#"{"provider":"groq","endpoint":"x"}"#;
        for (body, told) in [
            ("", "the body"),
            ("[]", "no entry"),
            ("3", "must be a JSON object"),
            ("[1]", "entry 0"),
            (&format!("[{good},{{}}]"), "entry 1: provider"),
            (&format!("[{good}] x"), "no JSON list"),
            (&format!("[{good},]"), "no JSON list"),
            (r#"{"provider":"groq"}"#, "entry 0: endpoint"),
            (r#"{"provider":3,"endpoint":"x"}"#, "entry 0: provider"),
            (
                r#"{"provider":"groq","endpoint":"x","headers":[]}"#,
                "headers must be an object",
            ),
            (
                r#"{"provider":"groq","endpoint":"x","headers":{"a":"1\r\nb: 2"}}"#,
                "headers.a",
            ),
            (
                r#"{"provider":"groq","endpoint":"x","headers":{"a b":"1"}}"#,
                "entry 0",
            ),
            (
                r#"{"provider":"groq","endpoint":"x y"}"#,
                "endpoint holds a space",
            ),
            (
                r#"{"provider":"groq","endpoint":"x\r\nhost: evil"}"#,
                "entry 0",
            ),
            (
                r#"{"provider":"groq","endpoint":"x","config":3}"#,
                "config must be an object",
            ),
        ] {
            let error = entries("", body).err().unwrap_or_default();
            assert!(error.contains(told), "{body}: {error}");
        }
        let many = vec![good; UNIVERSAL_ENTRIES_MAX + 1].join(",");
        let error = entries("", &format!("[{many}]")).err().unwrap_or_default();
        assert!(error.contains("33 entries"), "{error}");
    }
}
