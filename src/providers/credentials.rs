//! Where each provider looks for its key (spec: data plane 1.3 and 3.3, providers 2).

use super::table::Slug;
use crate::http::is_name;

/// A header that carries a key: its name and what stands before the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// The header's name in lower case.
    pub header: &'static str,
    /// The scheme and its space, or nothing.
    pub prefix: &'static str,
}

const BEARER: Slot = Slot {
    header: "authorization",
    prefix: "Bearer ",
};

impl Slug {
    /// Where a key kept by the gateway is put for the path `rest`.
    pub fn slot(self, rest: &str) -> Slot {
        let named = |header| Slot { header, prefix: "" };
        let scheme = |prefix| Slot {
            header: "authorization",
            prefix,
        };
        match self {
            Self::Anthropic => named("x-api-key"),
            // Its OpenAI surface knows no other header.
            Self::GoogleAiStudio if rest.contains("/openai/") => BEARER,
            Self::GoogleAiStudio => named("x-goog-api-key"),
            Self::AzureOpenAi => named("api-key"),
            Self::AwsBedrock if is_mantle_messages(rest) => named("x-api-key"),
            Self::Cartesia | Self::Parallel => named("x-api-key"),
            Self::ElevenLabs => named("xi-api-key"),
            Self::Deepgram => scheme("Token "),
            Self::Fal => scheme("Key "),
            Self::Ideogram => named("api-key"),
            Self::Baseten if rest.starts_with("model/") => scheme("Api-Key "),
            _ => BEARER,
        }
    }

    /// Whether a request header may carry this provider's key: `Authorization` for all, and the provider's own.
    pub fn is_key_header(self, name: &[u8]) -> bool {
        const AUTHORIZATION: &[u8] = b"authorization";
        let own: &[&[u8]] = match self {
            Self::Anthropic | Self::Cartesia | Self::Parallel | Self::Grok | Self::AdobeFirefly => {
                &[b"x-api-key"]
            }
            Self::AwsBedrock => &[b"x-api-key", b"x-amz-security-token"],
            Self::GoogleAiStudio | Self::GoogleVertexAi => &[b"x-goog-api-key"],
            Self::AzureOpenAi | Self::Ideogram => &[b"api-key"],
            Self::ElevenLabs => &[b"xi-api-key"],
            Self::Custom => &[b"x-api-key", b"api-key", b"x-goog-api-key"],
            _ => &[],
        };
        is_name(name, AUTHORIZATION) || own.iter().any(|header| is_name(name, header))
    }

    /// Whether `?key=` carries this provider's key.
    pub fn takes_query_key(self) -> bool {
        matches!(self, Self::GoogleAiStudio | Self::GoogleVertexAi)
    }

    /// The form in which a key sent by the client goes up where the client's SDK puts it elsewhere than the provider
    /// looks for it: `None` leaves it as it came.
    pub fn moved<'a>(self, rest: &str, name: &[u8], value: &'a [u8]) -> Option<(Slot, &'a [u8])> {
        match self {
            Self::AwsBedrock if is_mantle_messages(rest) => {
                let key = bearer(value).filter(|_| is_name(name, b"authorization"))?;
                Some((self.slot(rest), key))
            }
            // The Anthropic SDK against x.ai.
            Self::Grok if is_name(name, b"x-api-key") => Some((BEARER, value)),
            _ => None,
        }
    }
}

/// Whether a header's value holds no key: nothing, or a scheme alone. SDKs send these for an empty key.
pub fn is_empty_key(value: &[u8]) -> bool {
    let value = value.trim_ascii();
    value.is_empty() || value.eq_ignore_ascii_case(b"bearer")
}

/// The token behind `Bearer`, in any case (RFC 9110 section 11.1).
pub fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"bearer ")
        .then(|| token.trim_ascii())
}

/// What stands behind a scheme's name, whichever it is; a value without one is returned whole.
pub fn behind_scheme(value: &[u8]) -> &[u8] {
    let value = value.trim_ascii();
    match value.iter().position(|byte| *byte == b' ') {
        Some(space) => value[space..].trim_ascii(),
        None => value,
    }
}

/// The value of the query's parameter `key`, undecoded.
pub fn query_key(query: &str) -> Option<&str> {
    query.split('&').find_map(|pair| pair.strip_prefix("key="))
}

fn is_mantle_messages(rest: &str) -> bool {
    rest.starts_with("bedrock-mantle/") && rest.contains("/anthropic/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_where_each_provider_looks() {
        let slot = |slug: Slug, rest| {
            let Slot { header, prefix } = slug.slot(rest);
            format!("{header}: {prefix}")
        };
        assert_eq!(
            slot(Slug::OpenAi, "chat/completions"),
            "authorization: Bearer "
        );
        assert_eq!(slot(Slug::Anthropic, "v1/messages"), "x-api-key: ");
        assert_eq!(
            slot(Slug::GoogleAiStudio, "v1beta/models/m:generateContent"),
            "x-goog-api-key: "
        );
        assert_eq!(
            slot(Slug::GoogleAiStudio, "v1beta/openai/chat/completions"),
            "authorization: Bearer "
        );
        assert_eq!(slot(Slug::Baseten, "model/abc"), "authorization: Api-Key ");
        assert_eq!(slot(Slug::Baseten, "v1/chat"), "authorization: Bearer ");
        assert_eq!(slot(Slug::Deepgram, "v1/listen"), "authorization: Token ");
        assert_eq!(
            slot(
                Slug::AwsBedrock,
                "bedrock-mantle/us-east-1/anthropic/v1/messages"
            ),
            "x-api-key: "
        );
    }

    #[test]
    fn every_slot_counts_as_a_key_header() {
        for slug in Slug::ALL {
            for rest in ["", "model/x", "bedrock-mantle/r/anthropic/v1/messages"] {
                assert!(
                    slug.is_key_header(slug.slot(rest).header.as_bytes()),
                    "{slug:?} {rest}"
                );
            }
        }
        assert!(!Slug::OpenAi.is_key_header(b"x-api-key"));
    }

    #[test]
    fn sdk_habits_are_put_right() {
        let moved = Slug::Grok.moved("v1/messages", b"X-Api-Key", b"xai-1");
        assert_eq!(moved, Some((BEARER, &b"xai-1"[..])));
        let rest = "bedrock-mantle/us-east-1/anthropic/v1/messages";
        let moved = Slug::AwsBedrock.moved(rest, b"authorization", b"Bearer k");
        assert_eq!(
            moved.map(|(slot, key)| (slot.header, key)),
            Some(("x-api-key", &b"k"[..]))
        );
        assert_eq!(
            Slug::AwsBedrock.moved(rest, b"authorization", b"AWS4-HMAC-SHA256 x"),
            None
        );
        assert_eq!(Slug::OpenAi.moved("x", b"authorization", b"Bearer k"), None);
    }

    #[test]
    fn empty_keys_and_query_keys() {
        assert!(is_empty_key(b"") && is_empty_key(b"Bearer ") && is_empty_key(b"bearer"));
        assert!(!is_empty_key(b"Bearer x"));
        assert_eq!(bearer(b"BEARER  x "), Some(&b"x"[..]));
        assert_eq!(bearer(b"Token x"), None);
        assert_eq!(query_key("alt=sse&key=k1"), Some("k1"));
        assert_eq!(query_key("monkey=2"), None);
        assert_eq!(behind_scheme(b" Token  k "), b"k");
        assert_eq!(behind_scheme(b"k"), b"k");
    }
}
