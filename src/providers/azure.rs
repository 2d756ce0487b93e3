//! Credentials of Azure OpenAI that say where they are good (spec: providers 8).

use std::borrow::Cow;

use serde::Deserialize;

use super::hidden::Hidden;
use super::paths::is_label;
use crate::limits::CREDENTIAL_BYTES_MAX;

/// A key with its resource.
pub struct AzureCredential {
    /// The key.
    pub api_key: Hidden,
    /// The resource, where the model does not name it.
    pub resource: Option<String>,
    /// Where it is given, the classic endpoints of a deployment are called with it.
    pub api_version: Option<String>,
}

/// Why a text is no such credential. The text itself is never repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AzureCredentialError {
    /// It is longer than any credential.
    #[error("an Azure credential is at most {CREDENTIAL_BYTES_MAX} bytes")]
    Long,
    /// It begins as JSON but is none, or a member is no text.
    #[error(
        "an Azure credential is a JSON object of texts: apiKey, and perhaps resource and apiVersion"
    )]
    Json,
    /// A member is missing, or not of its form.
    #[error("{0} is missing from the Azure credential, or holds characters that none has")]
    Member(&'static str),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored<'a> {
    #[serde(borrow)]
    api_key: Option<Cow<'a, str>>,
    #[serde(borrow)]
    resource: Option<Cow<'a, str>>,
    #[serde(borrow)]
    api_version: Option<Cow<'a, str>>,
}

impl AzureCredential {
    /// Reads what was stored.
    pub fn parse(stored: &[u8]) -> Result<Self, AzureCredentialError> {
        use AzureCredentialError::{Json, Long, Member};
        if stored.len() > CREDENTIAL_BYTES_MAX {
            return Err(Long);
        }
        // serde's own words would repeat a value of the wrong type.
        let stored: Stored<'_> = serde_json::from_slice(stored).map_err(|_| Json)?;
        let api_key = stored
            .api_key
            .and_then(|key| Hidden::visible(key.into_owned()))
            .ok_or(Member("apiKey"))?;
        let is_version = |text: &str| {
            let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
            !text.is_empty() && text.bytes().all(known)
        };
        let optional =
            |text: Option<Cow<'_, str>>, is_sound: &dyn Fn(&str) -> bool, name| match text
                .as_deref()
                .is_none_or(is_sound)
            {
                true => Ok(text.map(Cow::into_owned)),
                false => Err(Member(name)),
            };
        Ok(Self {
            api_key,
            resource: optional(stored.resource, &is_label, "resource")?,
            api_version: optional(stored.api_version, &is_version, "apiVersion")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_may_say_where_it_is_good() {
        let parsed = AzureCredential::parse(
            br#"{"apiKey":"k","resource":"mine","apiVersion":"2024-12-01-preview"}"#,
        );
        let parsed = parsed.expect("a credential");
        assert_eq!(parsed.api_key.expose(), "k");
        assert_eq!(parsed.resource.as_deref(), Some("mine"));
        assert_eq!(parsed.api_version.as_deref(), Some("2024-12-01-preview"));
        for (text, error) in [
            ("{", AzureCredentialError::Json),
            (r#"{"apiKey":1}"#, AzureCredentialError::Json),
            (
                r#"{"resource":"r"}"#,
                AzureCredentialError::Member("apiKey"),
            ),
            (
                r#"{"apiKey":"a b"}"#,
                AzureCredentialError::Member("apiKey"),
            ),
            (
                r#"{"apiKey":"k","resource":"evil.com/"}"#,
                AzureCredentialError::Member("resource"),
            ),
            (
                r#"{"apiKey":"k","apiVersion":"1&x"}"#,
                AzureCredentialError::Member("apiVersion"),
            ),
        ] {
            assert_eq!(
                AzureCredential::parse(text.as_bytes()).err(),
                Some(error),
                "{text}"
            );
        }
    }
}
