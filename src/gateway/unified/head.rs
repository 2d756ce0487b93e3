//! The head of an upstream request whose body is written or edited here: only what means something to the provider goes up.

use crate::dialect::Dialect;
use crate::dialect::surface::Speech;
use crate::gateway::credential::is_token;
use crate::http::{RequestHead, write};
use crate::providers::aws::{Payload, SIGNATURE_HEADERS, Scope, Unsigned};
use crate::providers::{Slug, Target, goes_up};
use crate::snapshot::{ProviderEntry, Tokens};

use super::pay::Means;

/// What a head is written from.
pub(super) struct Upward<'a> {
    /// The client's own.
    pub client: &'a RequestHead,
    /// What the client speaks.
    pub from: Dialect,
    /// What is spoken at the provider.
    pub speech: Speech,
    /// Whether an answer in events is asked for.
    pub stream: bool,
    pub entry: &'a ProviderEntry,
    pub target: &'a Target<'a>,
    /// The native path.
    pub rest: &'a str,
    /// Headers that belong to the body.
    pub headers: &'a [(&'static str, String)],
    pub body: &'a [u8],
    pub tokens: &'a Tokens,
    /// Unix seconds.
    pub now: u64,
}

/// Version of the Messages API where the client names none.
const ANTHROPIC_VERSION: &[u8] = b"2023-06-01";

/// Where clients put keys: none of them goes up as it came.
const KEY_SLOTS: [&str; 5] = [
    "authorization",
    "x-api-key",
    "x-goog-api-key",
    "api-key",
    "xi-api-key",
];

/// Written anew, or of no meaning to a provider.
const NOT_RELAYED: [&str; 7] = [
    "accept",
    "accept-encoding",
    "content-type",
    "content-encoding",
    "cookie",
    "origin",
    "referer",
];

/// What a request keeps that is said in another dialect.
const TRANSLATED_TOO: [&str; 4] = ["user-agent", "idempotency-key", "traceparent", "tracestate"];

impl Upward<'_> {
    /// The whole head; `key` is what stands in the key's place. `None`: the path names nothing that can be signed for.
    pub fn write(&self, means: &Means) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(1024);
        out.extend_from_slice(b"POST ");
        self.target.write_path(&mut out);
        out.extend_from_slice(b" HTTP/1.1\r\n");
        let authority = self.target.origin.authority.as_bytes();
        write::header(&mut out, b"host", authority);
        self.write_of_client(&mut out);
        self.write_of_speech(&mut out);
        for (name, value) in &self.entry.headers {
            if !self.is_key_slot(means, name) {
                write::header(&mut out, name.as_bytes(), value.as_bytes());
            }
        }
        self.write_key(&mut out, means)?;
        out.extend_from_slice(b"content-length: ");
        write::decimal(&mut out, self.body.len() as u64);
        out.extend_from_slice(b"\r\n\r\n");
        Some(out)
    }

    /// What the client said and the provider is to hear.
    fn write_of_client(&self, out: &mut Vec<u8>) {
        let relayed = self.from == self.speech.dialect();
        let is = |name: &[u8], listed: &[&str]| {
            listed
                .iter()
                .any(|other| name.eq_ignore_ascii_case(other.as_bytes()))
        };
        for (name, value) in self.client.headers() {
            let kept = match relayed {
                true => goes_up(name) && !is(name, &NOT_RELAYED) && !is_of_vendor(name),
                false => is(name, &TRANSLATED_TOO),
            };
            let kept = kept
                || self.entry.provider.slug() == Slug::OpenRouter
                    && is(name, &["http-referer", "x-title"])
                || is_openai(self.entry.provider.slug())
                    && is(name, &["openai-organization", "openai-project"]);
            if kept
                && !is(name, &KEY_SLOTS)
                && !self.client.is_hop_by_hop(name)
                && !is_token(value, self.tokens)
                && !self.is_of_entry(name)
            {
                write::header(out, name, value);
            }
        }
    }

    /// What the provider's dialect wants to be told in a head.
    fn write_of_speech(&self, out: &mut Vec<u8>) {
        write::header(out, b"content-type", b"application/json");
        write::header(out, b"accept-encoding", b"identity");
        let accept: &[u8] = match (self.stream, self.speech) {
            (true, Speech::Converse | Speech::MessagesOnBedrock) => {
                b"application/vnd.amazon.eventstream"
            }
            (true, _) => b"text/event-stream",
            (false, _) => b"application/json",
        };
        write::header(out, b"accept", accept);
        if self.speech == Speech::Messages && !self.is_of_entry(b"anthropic-version") {
            let named = self
                .client
                .header("anthropic-version")
                .filter(|_| self.from == Dialect::Messages);
            write::header(
                out,
                b"anthropic-version",
                named.unwrap_or(ANTHROPIC_VERSION),
            );
        }
        for (name, value) in self.headers {
            if !self.is_of_entry(name.as_bytes()) {
                write::header(out, name.as_bytes(), value.as_bytes());
            }
        }
    }

    fn write_key(&self, out: &mut Vec<u8>, means: &Means) -> Option<()> {
        let slot = self.entry.provider.slug().slot(self.rest);
        let key: &[u8] = match means {
            Means::Key(key) => key.expose(),
            Means::Token(token) => token.expose().as_bytes(),
            Means::Nothing | Means::Google(..) => return Some(()),
            Means::Aws(keys) => {
                let mut target = Vec::new();
                self.target.write_path(&mut target);
                let target = String::from_utf8(target).ok()?;
                let (path, query) = target.split_once('?').unwrap_or((&target, ""));
                let unsigned = Unsigned {
                    method: "POST",
                    host: &self.target.origin.authority,
                    path,
                    query,
                    headers: &[("content-type", b"application/json")],
                    payload: Payload::Whole(self.body),
                    time: self.now,
                };
                let signature = keys.sign(Scope::of_path(self.rest)?, &unsigned);
                for (name, value) in signature.headers() {
                    write::header(out, name.as_bytes(), value.as_bytes());
                }
                return Some(());
            }
        };
        out.extend_from_slice(slot.header.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(slot.prefix.as_bytes());
        out.extend_from_slice(key);
        out.extend_from_slice(b"\r\n");
        Some(())
    }

    /// Whether the provider is configured with a header of this name, which stands above the client's.
    fn is_of_entry(&self, name: &[u8]) -> bool {
        let mut names = self.entry.headers.iter().map(|(own, _)| own.as_bytes());
        names.any(|own| name.eq_ignore_ascii_case(own))
    }

    /// Whether the credential stands under this name, above what the provider is configured with.
    fn is_key_slot(&self, means: &Means, name: &str) -> bool {
        match means {
            Means::Key(_) | Means::Token(_) => {
                name == self.entry.provider.slug().slot(self.rest).header
            }
            Means::Aws(_) => SIGNATURE_HEADERS.contains(&name),
            Means::Nothing | Means::Google(..) => false,
        }
    }
}

fn is_openai(slug: Slug) -> bool {
    matches!(slug, Slug::OpenAi | Slug::AzureOpenAi | Slug::Custom)
}

/// Headers of one vendor's API, which are written for those that know them.
fn is_of_vendor(name: &[u8]) -> bool {
    let begins = |prefix: &[u8]| {
        name.get(..prefix.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    begins(b"anthropic-") || begins(b"openai-") || begins(b"x-amz-") || begins(b"x-goog-")
}
