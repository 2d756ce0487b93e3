//! Google service accounts and the tokens that they are exchanged for (spec: providers 6.1, RFC 7523). Nothing is sent here:
//! the caller posts [`ServiceAccount::token_request`] and hands the answer to [`AccessToken::parse`].

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::RSA_PKCS1_SHA256;
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::credentials::bearer;
use super::hidden::Hidden;
use super::paths::{BaseUrl, is_label};
use crate::limits::{
    ASSERTION_LIFE, ASSERTION_SKEW, CREDENTIAL_BYTES_MAX, TOKEN_ANSWER_MAX, TOKEN_ERROR_MAX,
    TOKEN_LIFE_MAX, TOKEN_REFRESH,
};
use crate::net::origin::Origin;

/// A credential for Vertex AI.
pub enum VertexCredential {
    /// Exchanged for access tokens.
    ServiceAccount(Box<ServiceAccount>),
    /// Sent as it is.
    AccessToken(Hidden),
}

/// A service account: who signs assertions, and where they are taken.
pub struct ServiceAccount {
    client_email: Box<str>,
    key_id: Option<Box<str>>,
    /// Clears its memory when it is dropped.
    key: KeyPair,
    token_uri: TokenUri,
    project_id: Option<Box<str>>,
    region: Option<Box<str>>,
    fingerprint: [u8; 32],
}

/// Where assertions are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenUri {
    /// As written: an assertion names it.
    text: Box<str>,
    /// Scheme, host and port.
    pub origin: Arc<Origin>,
    /// The path, with its first slash.
    pub path: Box<str>,
}

/// Which token endpoints a service account may name: the gateway posts to what it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenUris {
    /// Google's alone: for accounts that come with requests, whose senders need not be trusted.
    Google,
    /// Any over https, and this machine's over http: for accounts that somebody stored who may.
    HttpsOrLoopback,
}

/// Why a text is no credential for Vertex. The text itself is never repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VertexCredentialError {
    /// It is longer than any credential.
    #[error("a service account is at most {CREDENTIAL_BYTES_MAX} bytes")]
    Long,
    /// It is no JSON object, nor the base64 of one.
    #[error("a service account is a JSON object of texts, plain or in base64")]
    Json,
    /// It is neither a service account nor a word that could be a token.
    #[error("an access token is one word of visible characters")]
    AccessToken,
    /// A member is missing, or not of its form.
    #[error("{0} is missing from the service account, or not of its form")]
    Member(&'static str),
    /// The key cannot be read.
    #[error(
        "private_key of the service account is no RSA key of at least 2048 bits in PKCS#8, as PEM"
    )]
    PrivateKey,
    /// The token endpoint is not one that may be posted to.
    #[error("token_uri of the service account must be {0}")]
    TokenUri(&'static str),
}

/// The cryptographic library could not sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the assertion of the service account could not be signed")]
pub struct SigningError;

/// A token that requests carry.
pub struct AccessToken {
    token: Hidden,
    /// When it ends, in Unix seconds.
    pub ends: u64,
    /// From when on it is replaced, in Unix seconds.
    pub refresh: u64,
}

/// Why there is no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The endpoint does not accept the account.
    #[error("the token endpoint refused the service account with {status}: {reason}")]
    Refused {
        /// The answer's status.
        status: u16,
        /// Its own words, shortened.
        reason: String,
    },
    /// The endpoint is busy or broken.
    #[error("the token endpoint failed with {status}: {reason}")]
    Failed {
        /// The answer's status.
        status: u16,
        /// Its own words, shortened.
        reason: String,
    },
    /// The answer holds no token.
    #[error("the token endpoint's answer holds no bearer token")]
    Malformed,
}

/// The token endpoint of accounts that name none.
const GOOGLE: &str = "https://oauth2.googleapis.com/token";
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// Google's own, and what is pasted, with padding or without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

impl VertexCredential {
    /// Reads what was stored or sent: a service account, plain or in base64, or an access token; `Bearer` before it is no
    /// part of it.
    pub fn parse(text: &str, allowed: TokenUris) -> Result<Self, VertexCredentialError> {
        let text = without_scheme(text);
        if text.len() > CREDENTIAL_BYTES_MAX {
            return Err(VertexCredentialError::Long);
        }
        let json = if text.starts_with('{') {
            Some(Zeroizing::new(text.to_owned()))
        } else {
            decoded(text).filter(|json| json.contains("private_key"))
        };
        match json {
            Some(json) => ServiceAccount::of_json(&json, allowed)
                .map(|account| Self::ServiceAccount(Box::new(account))),
            None => Hidden::visible(text.to_owned())
                .map(Self::AccessToken)
                .ok_or(VertexCredentialError::AccessToken),
        }
    }
}

/// Where a service account is at home.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Home {
    /// Its project.
    pub project: Option<String>,
    /// The region stored with it.
    pub region: Option<String>,
}

/// What a credential's text says of its home, without a look at its key; nothing where it is no service account.
pub fn home(text: &str) -> Home {
    #[derive(Deserialize, Default)]
    struct Stored {
        project_id: Option<String>,
        region: Option<String>,
    }
    let text = without_scheme(text);
    let stored: Option<Stored> = match text.len() <= CREDENTIAL_BYTES_MAX {
        true if text.starts_with('{') => serde_json::from_str(text).ok(),
        true => decoded(text).and_then(|json| serde_json::from_str(&json).ok()),
        false => None,
    };
    let Stored { project_id, region } = stored.unwrap_or_default();
    let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
    Home {
        project: filled(project_id),
        region: filled(region),
    }
}

#[derive(Deserialize)]
struct StoredAccount<'a> {
    #[serde(borrow)]
    client_email: Option<Cow<'a, str>>,
    #[serde(borrow)]
    private_key: Option<Cow<'a, str>>,
    #[serde(borrow)]
    private_key_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    token_uri: Option<Cow<'a, str>>,
    #[serde(borrow)]
    project_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    region: Option<Cow<'a, str>>,
}

impl ServiceAccount {
    /// The content type of [`Self::token_request`].
    pub const REQUEST_TYPE: &'static str = "application/x-www-form-urlencoded";

    /// Reads the JSON that Google gives out, plain or in base64, perhaps with `region` added.
    pub fn parse(text: &str, allowed: TokenUris) -> Result<Self, VertexCredentialError> {
        let text = without_scheme(text);
        if text.len() > CREDENTIAL_BYTES_MAX {
            return Err(VertexCredentialError::Long);
        }
        if text.starts_with('{') {
            return Self::of_json(text, allowed);
        }
        let json = decoded(text).ok_or(VertexCredentialError::Json)?;
        Self::of_json(&json, allowed)
    }

    fn of_json(json: &str, allowed: TokenUris) -> Result<Self, VertexCredentialError> {
        use VertexCredentialError::{Json, Member, PrivateKey};
        // serde's own words would repeat a value of the wrong type.
        let stored: StoredAccount<'_> = serde_json::from_str(json).map_err(|_| Json)?;
        // First, so that no error leaves a copy behind.
        let pem = stored
            .private_key
            .map(|pem| Zeroizing::new(pem.into_owned()))
            .ok_or(Member("private_key"))?;
        let der = pkcs8_of_pem(&pem).ok_or(PrivateKey)?;
        let key = KeyPair::from_pkcs8(&der).map_err(|_| PrivateKey)?;
        let client_email = stored
            .client_email
            .filter(|email| !email.is_empty())
            .ok_or(Member("client_email"))?;
        let token_uri = TokenUri::parse(stored.token_uri.as_deref().unwrap_or(GOOGLE), allowed)?;
        let is_project = |id: &str| {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-.:_".contains(&byte);
            id.bytes().all(allowed)
        };
        let optional = |text: Option<Cow<'_, str>>, is_sound: &dyn Fn(&str) -> bool, name| {
            let text = text.filter(|text| !text.is_empty());
            match text.as_deref().is_none_or(is_sound) {
                true => Ok(text.map(Box::<str>::from)),
                false => Err(Member(name)),
            }
        };
        Ok(Self {
            fingerprint: fingerprint(&client_email, &token_uri, &der),
            client_email: client_email.into(),
            key_id: optional(stored.private_key_id, &|_| true, "private_key_id")?,
            project_id: optional(stored.project_id, &is_project, "project_id")?,
            region: optional(stored.region, &is_label, "region")?,
            key,
            token_uri,
        })
    }

    /// The account's name.
    pub fn client_email(&self) -> &str {
        &self.client_email
    }

    /// Where assertions are taken.
    pub fn token_uri(&self) -> &TokenUri {
        &self.token_uri
    }

    /// The project that the account belongs to.
    pub fn project_id(&self) -> Option<&str> {
        self.project_id.as_deref()
    }

    /// The region stored with it.
    pub fn region(&self) -> Option<&str> {
        self.region.as_deref()
    }

    /// What tokens of this account are kept under. It covers the private key: whoever merely knows the account's name and
    /// key id must not be handed its token.
    pub fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    /// A signed claim to be this account, good for an hour. `now` is in Unix seconds. Work for a helper thread.
    pub fn assertion(&self, now: u64) -> Result<Hidden, SigningError> {
        let mut header = json!({"alg": "RS256", "typ": "JWT"});
        if let Some(key_id) = &self.key_id {
            header["kid"] = json!(key_id);
        }
        let issued = now.saturating_sub(ASSERTION_SKEW);
        let claims = json!({
            "iss": self.client_email,
            "aud": self.token_uri.text,
            "scope": SCOPE,
            "iat": issued,
            "exp": issued.saturating_add(ASSERTION_LIFE),
        });
        let mut text = URL_SAFE_NO_PAD.encode(header.to_string());
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(claims.to_string(), &mut text);
        let mut signature = vec![0; self.key.public_modulus_len()];
        let random = SystemRandom::new();
        self.key
            .sign(&RSA_PKCS1_SHA256, &random, text.as_bytes(), &mut signature)
            .map_err(|_| SigningError)?;
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut text);
        Ok(Hidden::new(text))
    }

    /// The body of the request for a token, posted to [`Self::token_uri`].
    pub fn token_request(&self, now: u64) -> Result<Hidden, SigningError> {
        // An assertion has no character that a form would encode.
        let assertion = self.assertion(now)?;
        Ok(Hidden::new(format!(
            "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion={}",
            assertion.expose()
        )))
    }
}

impl TokenUri {
    fn parse(text: &str, allowed: TokenUris) -> Result<Self, VertexCredentialError> {
        let message = match allowed {
            TokenUris::Google => GOOGLE,
            TokenUris::HttpsOrLoopback => "an https URL, or an http URL of this machine",
        };
        let refused = VertexCredentialError::TokenUri(message);
        if allowed == TokenUris::Google && text != GOOGLE {
            return Err(refused);
        }
        let url: BaseUrl = text.parse().map_err(|_| refused.clone())?;
        let host = &url.origin.host;
        let is_host_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-.:".contains(&byte);
        let is_loopback = || {
            let address = host.parse::<IpAddr>();
            &**host == "localhost" || address.is_ok_and(|address| address.is_loopback())
        };
        if !host.bytes().all(is_host_byte) || (!url.origin.tls && !is_loopback()) {
            return Err(refused);
        }
        let authority = text.find("://").map_or(0, |at| at + 3);
        let path = text[authority..]
            .find('/')
            .map(|at| &text[authority + at..]);
        Ok(Self {
            text: text.into(),
            origin: url.origin,
            path: path.unwrap_or("/").into(),
        })
    }
}

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: String,
    token_type: Option<String>,
    expires_in: Option<serde_json::Value>,
}

impl AccessToken {
    /// Reads the token endpoint's answer. `now` is when it came, in Unix seconds.
    pub fn parse(status: u16, body: &[u8], now: u64) -> Result<Self, TokenError> {
        let body = body.get(..TOKEN_ANSWER_MAX).unwrap_or(body);
        match status {
            200..=299 => {}
            408 | 429 | 500.. => {
                let reason = reason(body);
                return Err(TokenError::Failed { status, reason });
            }
            _ => {
                let reason = reason(body);
                return Err(TokenError::Refused { status, reason });
            }
        }
        let answer: TokenAnswer =
            serde_json::from_slice(body).map_err(|_| TokenError::Malformed)?;
        let token = Hidden::visible(answer.access_token).ok_or(TokenError::Malformed)?;
        let is_bearer = |kind: &str| kind.eq_ignore_ascii_case("bearer");
        if !answer.token_type.as_deref().is_none_or(is_bearer) {
            return Err(TokenError::Malformed);
        }
        let seconds = |life: serde_json::Value| match life {
            serde_json::Value::String(text) => text.parse().ok(),
            life => life.as_u64(),
        };
        let life = match answer.expires_in {
            // An hour is what Google's tokens live; one that ends sooner is found out by its refusal.
            None => ASSERTION_LIFE,
            Some(life) => seconds(life).ok_or(TokenError::Malformed)?,
        };
        Ok(Self::new(token, life.min(TOKEN_LIFE_MAX), now))
    }

    fn new(token: Hidden, life: u64, now: u64) -> Self {
        // One that lives only minutes is used for half of them.
        let before = TOKEN_REFRESH.min(life / 2);
        let ends = now.saturating_add(life);
        let refresh = ends - before;
        Self {
            token,
            ends,
            refresh,
        }
    }

    /// The token, for the one place that writes it behind `Bearer`.
    pub fn expose(&self) -> &str {
        self.token.expose()
    }
}

impl TokenError {
    /// Whether another try may succeed.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Failed { .. })
    }
}

fn without_scheme(text: &str) -> &str {
    let text = text.trim_ascii();
    let token = bearer(text.as_bytes()).map(<[u8]>::len);
    // What stands behind the scheme is the text's end, trimmed as the text is.
    token.map_or(text, |length| &text[text.len() - length..])
}

/// What a base64 text in either alphabet holds, if that is text.
fn decoded(text: &str) -> Option<Zeroizing<String>> {
    let standard = |byte: u8| match byte {
        b'-' => b'+',
        b'_' => b'/',
        byte => byte,
    };
    let bytes = text.bytes().filter(|byte| !byte.is_ascii_whitespace());
    let mut standardised = Zeroizing::new(Vec::with_capacity(text.len()));
    standardised.extend(bytes.map(standard));
    let mut plain = Zeroizing::new(Vec::with_capacity(text.len()));
    BASE64.decode_vec(&*standardised, &mut plain).ok()?;
    let plain = std::str::from_utf8(&plain).ok()?;
    Some(Zeroizing::new(plain.to_owned()))
}

/// The key of a PEM text, undecoded.
fn pkcs8_of_pem(pem: &str) -> Option<Zeroizing<Vec<u8>>> {
    let (_, rest) = pem.split_once("-----BEGIN PRIVATE KEY-----")?;
    let (encoded, _) = rest.split_once("-----END PRIVATE KEY-----")?;
    let bytes = encoded.bytes().filter(|byte| !byte.is_ascii_whitespace());
    let mut encoded = Zeroizing::new(Vec::with_capacity(rest.len()));
    encoded.extend(bytes);
    let mut der = Zeroizing::new(Vec::with_capacity(encoded.len()));
    BASE64.decode_vec(&*encoded, &mut der).ok()?;
    Some(der)
}

fn fingerprint(client_email: &str, token_uri: &TokenUri, der: &[u8]) -> [u8; 32] {
    let mut digest = Sha256::new();
    for part in [client_email.as_bytes(), token_uri.text.as_bytes(), der] {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    digest.finalize().into()
}

/// The endpoint's own words in either of Google's forms. A long word may be what was sent, and is left out.
fn reason(body: &[u8]) -> String {
    const WORD_MAX: usize = 40;
    let answer: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |pointer| answer.pointer(pointer).and_then(serde_json::Value::as_str);
    let kind = text("/error").or_else(|| text("/error/status"));
    let description = text("/error_description").or_else(|| text("/error/message"));
    let words = [kind, description]
        .into_iter()
        .flatten()
        .flat_map(|text| text.split(|c: char| c.is_whitespace() || c.is_control()))
        .filter(|word| !word.is_empty());
    let mut reason = String::new();
    for word in words {
        let word = if word.len() > WORD_MAX { "..." } else { word };
        if reason.len() + word.len() >= TOKEN_ERROR_MAX {
            break;
        }
        if !reason.is_empty() {
            reason.push(' ');
        }
        reason.push_str(word);
    }
    if reason.is_empty() {
        reason.push_str("without a reason");
    }
    reason
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
    use base64::engine::general_purpose::{STANDARD as PADDED, URL_SAFE};
    use serde_json::Value;

    use super::*;

    static KEY: LazyLock<KeyPair> =
        LazyLock::new(|| KeyPair::generate(KeySize::Rsa2048).expect("a key"));

    fn pem_of(key: &KeyPair) -> String {
        let der: Pkcs8V1Der<'_> = key.as_der().expect("encoded");
        let encoded = PADDED.encode(der.as_ref());
        let lines: Vec<&str> = encoded
            .as_bytes()
            .chunks(64)
            .map(|line| std::str::from_utf8(line).expect("base64"))
            .collect();
        format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            lines.join("\n")
        )
    }

    /// What Google gives out.
    fn account() -> Value {
        json!({
            "type": "service_account",
            "project_id": "acme-prod",
            "private_key_id": "0123abcd",
            "private_key": pem_of(&KEY),
            "client_email": "gateway@acme-prod.iam.gserviceaccount.com",
            "client_id": "1",
            "auth_uri": "https://accounts.google.com/o/oauth2/auth",
            "token_uri": GOOGLE,
            "region": "europe-west4"
        })
    }

    fn with(name: &str, value: Value) -> Result<ServiceAccount, VertexCredentialError> {
        let mut account = account();
        account[name] = value;
        ServiceAccount::parse(&account.to_string(), TokenUris::HttpsOrLoopback)
    }

    fn part(jwt: &str, at: usize) -> Value {
        let part = jwt.split('.').nth(at).expect("a part");
        let plain = URL_SAFE_NO_PAD.decode(part).expect("base64");
        serde_json::from_slice(&plain).expect("JSON")
    }

    #[test]
    fn an_assertion_is_signed_and_says_who_what_and_how_long() {
        let account = with("extra", json!(1)).expect("sound");
        let assertion = account.assertion(1_768_478_400).expect("signed");
        let jwt = assertion.expose();
        assert_eq!(
            part(jwt, 0),
            json!({"alg": "RS256", "typ": "JWT", "kid": "0123abcd"})
        );
        let claims = json!({
            "iss": "gateway@acme-prod.iam.gserviceaccount.com",
            "aud": "https://oauth2.googleapis.com/token",
            "scope": "https://www.googleapis.com/auth/cloud-platform",
            "iat": 1_768_478_370,
            "exp": 1_768_481_970,
        });
        assert_eq!(part(jwt, 1), claims);
        let (signed, signature) = jwt.rsplit_once('.').expect("three parts");
        let signature = URL_SAFE_NO_PAD.decode(signature).expect("base64");
        let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, KEY.public_key().as_ref());
        assert!(public.verify(signed.as_bytes(), &signature).is_ok());
        assert!(public.verify(b"something else", &signature).is_err());
        let form = account.token_request(1_768_478_400).expect("signed");
        let expected = format!(
            "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion={jwt}"
        );
        assert_eq!(form.expose(), expected);
    }

    #[test]
    fn accounts_come_plain_and_in_base64() {
        let json = account().to_string();
        let wrapped = format!(
            "Bearer  {}\n{}",
            &PADDED.encode(&json)[..76],
            &PADDED.encode(&json)[76..]
        );
        let forms = [
            json.clone(),
            format!(" {json}\n"),
            PADDED.encode(&json),
            URL_SAFE.encode(&json),
            URL_SAFE_NO_PAD.encode(&json),
            format!("bearer {}", PADDED.encode(&json)),
            wrapped,
        ];
        for form in forms {
            let account = ServiceAccount::parse(&form, TokenUris::Google)
                .unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(
                account.client_email(),
                "gateway@acme-prod.iam.gserviceaccount.com"
            );
            assert_eq!(account.project_id(), Some("acme-prod"));
            assert_eq!(account.region(), Some("europe-west4"));
            assert_eq!(&*account.token_uri().origin.host, "oauth2.googleapis.com");
            assert_eq!(&*account.token_uri().path, "/token");
            let credential = VertexCredential::parse(&form, TokenUris::Google);
            assert!(matches!(
                credential,
                Ok(VertexCredential::ServiceAccount(_))
            ));
        }
        for token in [
            "ya29.a0AfH6SMBx-y_z",
            "Bearer ya29.a0AfH6SMBx-y_z",
            "YWJjZA==",
        ] {
            let Ok(VertexCredential::AccessToken(read)) =
                VertexCredential::parse(token, TokenUris::Google)
            else {
                panic!("{token}");
            };
            assert_eq!(read.expose(), token.trim_start_matches("Bearer "));
        }
        let optional = with("region", Value::Null).expect("sound");
        assert_eq!(optional.region(), None);
        assert_eq!(
            with("project_id", json!("")).expect("sound").project_id(),
            None
        );
        assert_eq!(
            &*with("token_uri", Value::Null)
                .expect("sound")
                .token_uri()
                .text,
            GOOGLE
        );
        let nameless = with("private_key_id", Value::Null).expect("sound");
        let assertion = nameless.assertion(0).expect("signed");
        assert_eq!(
            part(assertion.expose(), 0),
            json!({"alg": "RS256", "typ": "JWT"})
        );
        assert_eq!(part(assertion.expose(), 1)["exp"], 3600);
    }

    #[test]
    fn broken_accounts_are_refused_without_repeating_them() {
        use VertexCredentialError::{AccessToken, Json, Long, Member, PrivateKey};
        let wrong = |name: &str, value: Value| with(name, value).err().expect("refused");
        let cases = [
            (wrong("client_email", Value::Null), Member("client_email")),
            (wrong("client_email", json!("")), Member("client_email")),
            (wrong("client_email", json!(["SeCrEt"])), Json),
            (wrong("private_key", Value::Null), Member("private_key")),
            (wrong("private_key", json!("SeCrEt")), PrivateKey),
            (
                wrong(
                    "private_key",
                    json!("-----BEGIN PRIVATE KEY-----\nSeCrEt\n-----END PRIVATE KEY-----"),
                ),
                PrivateKey,
            ),
            (
                wrong(
                    "private_key",
                    json!(pem_of(&KEY).replace("PRIVATE", "RSA PRIVATE")),
                ),
                PrivateKey,
            ),
            (wrong("project_id", json!("SeCrEt/x")), Member("project_id")),
            (wrong("region", json!("evil.com/SeCrEt")), Member("region")),
        ];
        for (error, expected) in cases {
            assert_eq!(error, expected);
            assert!(!error.to_string().contains("SeCrEt"), "{error}");
        }
        let parse = |text: &str| ServiceAccount::parse(text, TokenUris::Google).err();
        assert_eq!(parse("{"), Some(Json));
        assert_eq!(parse("ya29.token"), Some(Json));
        assert_eq!(parse(""), Some(Json));
        assert_eq!(parse(&"x".repeat(CREDENTIAL_BYTES_MAX + 1)), Some(Long));
        let parse = |text: &str| VertexCredential::parse(text, TokenUris::Google).err();
        assert_eq!(parse("two words"), Some(AccessToken));
        assert_eq!(parse("{\"private_key\""), Some(Json));
        assert_eq!(parse(&PADDED.encode("{\"private_key\"")), Some(Json));
    }

    #[test]
    fn assertions_go_only_where_they_may() {
        let uri = |text: &str, allowed| {
            TokenUri::parse(text, allowed).map(|uri| (uri.origin.to_string(), uri.path))
        };
        let sound = [
            (
                "https://oauth2.googleapis.com/token",
                "https://oauth2.googleapis.com",
                "/token",
            ),
            (
                "https://sts.example.com:8443/a/b/",
                "https://sts.example.com:8443",
                "/a/b/",
            ),
            ("https://sts.example.com", "https://sts.example.com", "/"),
            (
                "http://127.0.0.1:9001/token",
                "http://127.0.0.1:9001",
                "/token",
            ),
            ("http://[::1]:9001/token", "http://[::1]:9001", "/token"),
            ("http://localhost/token", "http://localhost", "/token"),
        ];
        for (text, origin, path) in sound {
            let expected = (origin.to_owned(), Box::from(path));
            assert_eq!(
                uri(text, TokenUris::HttpsOrLoopback),
                Ok(expected),
                "{text}"
            );
        }
        for text in [
            "http://169.254.169.254/token",
            "http://example.com/token",
            "http://localhost.example.com/token",
            "http://127.0.0.1.example.com/token",
            "http://2130706433/token",
            "https://user:password@example.com/token",
            "https://example.com@evil.com/token",
            "https://evil.com\\@example.com/token",
            "https://exa%6dple.com/token",
            "https://example.com/token?x=1",
            "https://example.com/token#x",
            "https://example.com/../token",
            "https://example.com/to ken",
            "https:///token",
            "HTTPS://example.com/token",
            "file:///etc/passwd",
            "gopher://127.0.0.1/token",
            "//example.com/token",
            "",
        ] {
            assert!(uri(text, TokenUris::HttpsOrLoopback).is_err(), "{text}");
        }
        assert!(uri(GOOGLE, TokenUris::Google).is_ok());
        for text in [
            "https://sts.example.com/token",
            "http://127.0.0.1:9001/token",
            "https://oauth2.googleapis.com/other",
        ] {
            assert!(uri(text, TokenUris::Google).is_err(), "{text}");
        }
    }

    #[test]
    fn another_key_under_the_same_name_is_another_account() {
        let one = with("extra", json!(1)).expect("sound").fingerprint();
        assert_eq!(with("extra", json!(2)).expect("sound").fingerprint(), one);
        assert_eq!(
            with("region", json!("us-east1"))
                .expect("sound")
                .fingerprint(),
            one
        );
        let other = KeyPair::generate(KeySize::Rsa2048).expect("a key");
        assert_ne!(
            with("private_key", json!(pem_of(&other)))
                .expect("sound")
                .fingerprint(),
            one
        );
        assert_ne!(
            with("client_email", json!("x@y"))
                .expect("sound")
                .fingerprint(),
            one
        );
        let uri = json!("https://sts.example.com/token");
        assert_ne!(with("token_uri", uri).expect("sound").fingerprint(), one);
    }

    #[test]
    fn tokens_are_read_with_their_ends() {
        const NOW: u64 = 1_000_000;
        let parse = |body: &str| {
            let token =
                AccessToken::parse(200, body.as_bytes(), NOW).map_err(|error| error.to_string())?;
            Ok::<_, String>((
                token.expose().to_owned(),
                token.refresh - NOW,
                token.ends - NOW,
            ))
        };
        let cases = [
            (
                r#"{"access_token":"ya29.x","expires_in":3599,"token_type":"Bearer"}"#,
                3299,
                3599,
            ),
            (
                r#"{"access_token":"ya29.x","expires_in":"3599","token_type":"bearer"}"#,
                3299,
                3599,
            ),
            (r#"{"access_token":"ya29.x"}"#, 3300, 3600),
            (r#"{"access_token":"ya29.x","expires_in":60}"#, 30, 60),
            (r#"{"access_token":"ya29.x","expires_in":0}"#, 0, 0),
            (
                r#"{"access_token":"ya29.x","expires_in":18446744073709551615}"#,
                42_900,
                43_200,
            ),
        ];
        for (body, refresh, ends) in cases {
            assert_eq!(
                parse(body),
                Ok(("ya29.x".to_owned(), refresh, ends)),
                "{body}"
            );
        }
        for body in [
            "",
            "[]",
            r#"{"id_token":"x"}"#,
            r#"{"access_token":""}"#,
            r#"{"access_token":"two words"}"#,
            r#"{"access_token":"a\r\nb"}"#,
            r#"{"access_token":"x","token_type":"mac"}"#,
            r#"{"access_token":"x","expires_in":-1}"#,
            r#"{"access_token":"x","expires_in":"soon"}"#,
        ] {
            let malformed = Err(TokenError::Malformed.to_string());
            assert_eq!(parse(body), malformed, "{body}");
        }
    }

    #[test]
    fn refusals_are_told_in_the_endpoints_words() {
        let parse = |status, body: &str| {
            AccessToken::parse(status, body.as_bytes(), 0)
                .err()
                .expect("no token")
        };
        let error = parse(
            400,
            r#"{"error":"invalid_grant","error_description":"Invalid JWT Signature."}"#,
        );
        assert_eq!(
            error.to_string(),
            "the token endpoint refused the service account with 400: invalid_grant Invalid JWT Signature."
        );
        assert!(!error.is_temporary());
        let error = parse(
            503,
            r#"{"error":{"code":503,"message":"Try again","status":"UNAVAILABLE"}}"#,
        );
        assert_eq!(
            error.to_string(),
            "the token endpoint failed with 503: UNAVAILABLE Try again"
        );
        assert!(error.is_temporary() && parse(429, "").is_temporary());
        assert_eq!(
            parse(302, "<html>").to_string(),
            "the token endpoint refused the service account with 302: without a reason"
        );
        let echoed = with("extra", json!(1))
            .expect("sound")
            .assertion(0)
            .expect("signed");
        let body = json!({"error": "invalid_grant", "error_description": format!("bad\r\nassertion {}", echoed.expose())});
        let error = parse(400, &body.to_string()).to_string();
        assert!(
            error.ends_with("invalid_grant bad assertion ..."),
            "{error}"
        );
        let body = json!({"error_description": "word ".repeat(1000)});
        assert!(parse(400, &body.to_string()).to_string().len() < TOKEN_ERROR_MAX + 100);
    }
}
