//! The one place where the head of an upstream request is written.

use super::credential::{is_key, is_token};
use super::plan::Step;
use crate::http::{RequestFraming, RequestHead, is_name, write};
use crate::providers::aws::{AwsKeys, Payload, SIGNATURE_HEADERS, Scope, Signature, Unsigned};
use crate::providers::{goes_up, without_access_cookie};
use crate::snapshot::Tokens;

/// What stands in the key's place.
#[derive(Clone, Copy)]
pub(super) enum Key<'a> {
    /// The client's own, as it came.
    OfRequest,
    /// One that the gateway puts there.
    Put(&'a [u8]),
    /// A signature in several headers.
    Signed(&'a Signature<'a>),
    /// None.
    None,
}

impl Key<'_> {
    /// Whether a client's header gives way to one of a signature.
    fn replaces(&self, name: &[u8]) -> bool {
        matches!(self, Self::Signed(_))
            && SIGNATURE_HEADERS
                .iter()
                .any(|own| name.eq_ignore_ascii_case(own.as_bytes()))
    }
}

/// Signs a request of a native path; its body is here as a whole.
pub(super) fn sign<'k>(
    keys: &'k AwsKeys,
    head: &RequestHead,
    step: &Step<'_>,
    body: &[u8],
    now: u64,
) -> Option<Signature<'k>> {
    let scope = Scope::of_path(step.rest)?;
    let mut target = Vec::new();
    step.target.write_path(&mut target);
    let target = String::from_utf8(target).ok()?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let content_type = head.header("content-type");
    let headers: Vec<(&str, &[u8])> = content_type
        .map(|value| ("content-type", value))
        .into_iter()
        .collect();
    Some(keys.sign(
        scope,
        &Unsigned {
            method: head.method_str(),
            host: &step.target.origin.authority,
            path,
            query,
            headers: &headers,
            payload: Payload::Whole(body),
            time: now,
        },
    ))
}

/// Serialises the head: the client's method and headers, the step's target, the paying credential.
pub(super) fn write_head(
    head: &RequestHead,
    step: &Step<'_>,
    key: Key<'_>,
    framing: RequestFraming,
    tokens: &Tokens,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(head.bytes().len() + 256);
    out.extend_from_slice(head.method_str().as_bytes());
    out.push(b' ');
    step.target.write_path(&mut out);
    out.extend_from_slice(b" HTTP/1.1\r\n");
    write::header(&mut out, b"host", step.target.origin.authority.as_bytes());
    let slug = step.entry.provider.slug();
    // A signature of the client's may cover this header.
    let signed = head
        .header("authorization")
        .is_some_and(|value| value.starts_with(b"AWS4-HMAC-SHA256"));
    let identity_coding = step.metered && !signed;
    // The provider's own headers stand in the place of the client's of the same name: no field goes up twice.
    let own = |name: &[u8]| {
        let mut names = step.entry.headers.iter().map(|(own, _)| own.as_bytes());
        names.any(|own| name.eq_ignore_ascii_case(own))
    };
    let mut copied = write::Copied::new(&mut out, head.bytes());
    for (name, value, line) in head.lines() {
        if !goes_up(name) || head.is_hop_by_hop(name) || key.replaces(name) {
            continue;
        }
        if slug.is_key_header(name) {
            if matches!(key, Key::OfRequest) && is_key(value, tokens) {
                match slug.moved(step.rest, name, value) {
                    Some((slot, key)) => write_key(copied.end(), slot, key),
                    None => copied.line(line),
                }
            }
        } else if identity_coding && is_name(name, b"accept-encoding")
            || is_token(value, tokens)
            || own(name)
        {
            continue;
        } else if is_name(name, b"cookie") {
            let cookie = without_access_cookie(value);
            if !cookie.is_empty() {
                write::header(copied.end(), name, &cookie);
            }
        } else {
            copied.line(line);
        }
    }
    copied.end();
    if identity_coding {
        write::header(&mut out, b"accept-encoding", b"identity");
    }
    // The key that pays stands above a header of the same name that the provider is configured with.
    let slot = slug.slot(step.rest);
    let is_paying = |own: &str| match key {
        Key::Put(_) => own == slot.header,
        Key::OfRequest => head.headers().any(|(name, value)| {
            name.eq_ignore_ascii_case(own.as_bytes())
                && slug.is_key_header(name)
                && is_key(value, tokens)
        }),
        Key::Signed(_) => SIGNATURE_HEADERS.contains(&own),
        Key::None => false,
    };
    for (name, value) in &step.entry.headers {
        if is_paying(name) {
            continue;
        }
        write::header(&mut out, name.as_bytes(), value.as_bytes());
    }
    if let Key::Put(key) = key {
        write_key(&mut out, slot, key);
    }
    if let Key::Signed(signature) = key {
        for (name, value) in signature.headers() {
            write::header(&mut out, name.as_bytes(), value.as_bytes());
        }
    }
    match framing {
        RequestFraming::None => {}
        RequestFraming::Length(length) => {
            out.extend_from_slice(b"content-length: ");
            write::decimal(&mut out, length);
            out.extend_from_slice(b"\r\n");
        }
        RequestFraming::Chunked => write::header(&mut out, b"transfer-encoding", b"chunked"),
    }
    out.extend_from_slice(b"\r\n");
    out
}

fn write_key(out: &mut Vec<u8>, slot: crate::providers::Slot, key: &[u8]) {
    out.extend_from_slice(slot.header.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(slot.prefix.as_bytes());
    out.extend_from_slice(key);
    out.extend_from_slice(b"\r\n");
}
