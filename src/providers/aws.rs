//! AWS credentials and signatures, version 4 (spec: data plane 1.3, providers 7.2). Written out here, as the vendor's crate
//! brings seventeen others for what are two hashes and four keyed ones.

use std::borrow::Cow;
use std::time::{Duration, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::hidden::Hidden;
use super::paths::is_label;
use crate::limits::CREDENTIAL_BYTES_MAX;

/// A stored credential for Bedrock.
pub enum AwsCredential {
    /// Keys that sign.
    Keys(AwsKeys),
    /// A Bedrock API key, sent as it is.
    ApiKey(Hidden),
}

/// Keys that sign requests.
pub struct AwsKeys {
    access_key_id: Box<str>,
    secret_access_key: Hidden,
    session_token: Option<Hidden>,
    region: Option<Box<str>>,
}

/// Why a text is no AWS credential. The text itself is never repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AwsCredentialError {
    /// It is longer than any credential.
    #[error("an AWS credential is at most {CREDENTIAL_BYTES_MAX} bytes")]
    Long,
    /// It begins as JSON but is none, or a member is no text.
    #[error(
        "an AWS credential is a JSON object of texts: accessKeyId, secretAccessKey, region and perhaps sessionToken"
    )]
    Json,
    /// A member is missing, or not of its form.
    #[error("{0} is missing from the AWS credential, or holds characters that none has")]
    Member(&'static str),
    /// It is neither JSON nor a key.
    #[error("a Bedrock API key is one word of visible characters")]
    ApiKey,
}

/// What a signature is good for, besides its day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scope<'a> {
    /// The service as signatures name it, which is not how hosts do.
    pub service: &'a str,
    /// The region.
    pub region: &'a str,
}

/// A request as it goes on the wire.
pub struct Unsigned<'a> {
    /// The method.
    pub method: &'a str,
    /// The `Host` header's value.
    pub host: &'a str,
    /// The path, encoded as it goes out.
    pub path: &'a str,
    /// The query, encoded as it goes out, without the question mark.
    pub query: &'a str,
    /// Headers to sign besides `host` and those that the signature adds: `content-type`, as a rule. Nothing that a hop may
    /// change belongs here.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// The body.
    pub payload: Payload<'a>,
    /// Now, in Unix seconds; AWS allows five minutes of difference.
    pub time: u64,
}

/// What a signature says about the body.
pub enum Payload<'a> {
    /// The whole body.
    Whole(&'a [u8]),
    /// The SHA-256 of the whole body.
    Digest([u8; 32]),
    /// Nothing. Few services take this, and Bedrock's documentation does not name it among them.
    Unsigned,
}

/// The headers that sign a request.
pub struct Signature<'k> {
    authorization: String,
    date: String,
    session_token: Option<&'k Hidden>,
    content_sha256: Option<&'static str>,
}

/// The headers that a signature may add. What a client sent under these names must not go out beside them.
pub const SIGNATURE_HEADERS: [&str; 4] = [
    "authorization",
    "x-amz-date",
    "x-amz-security-token",
    "x-amz-content-sha256",
];

const DEFAULT_REGION: &str = "us-east-1";
const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

impl AwsCredential {
    /// Reads what was stored: the keys as JSON, or an API key.
    pub fn parse(text: &str) -> Result<Self, AwsCredentialError> {
        let text = text.trim_ascii();
        if text.len() > CREDENTIAL_BYTES_MAX {
            return Err(AwsCredentialError::Long);
        }
        if text.starts_with('{') {
            return AwsKeys::parse(text).map(Self::Keys);
        }
        let key = Hidden::visible(text.to_owned()).ok_or(AwsCredentialError::ApiKey)?;
        Ok(Self::ApiKey(key))
    }

    /// Where it is at home: for a request whose path names no region.
    pub fn region(&self) -> &str {
        self.stated_region().unwrap_or(DEFAULT_REGION)
    }

    /// The region that is stored with it.
    pub fn stated_region(&self) -> Option<&str> {
        match self {
            Self::Keys(keys) => keys.region.as_deref(),
            Self::ApiKey(_) => None,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredKeys<'a> {
    #[serde(borrow)]
    access_key_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    secret_access_key: Option<Cow<'a, str>>,
    #[serde(borrow)]
    session_token: Option<Cow<'a, str>>,
    #[serde(borrow)]
    region: Option<Cow<'a, str>>,
}

impl AwsKeys {
    fn parse(text: &str) -> Result<Self, AwsCredentialError> {
        // serde's own words would repeat a value of the wrong type.
        let stored: StoredKeys<'_> =
            serde_json::from_str(text).map_err(|_| AwsCredentialError::Json)?;
        let hidden = |text: Option<Cow<'_, str>>, name| {
            text.and_then(|text| Hidden::visible(text.into_owned()))
                .ok_or(AwsCredentialError::Member(name))
        };
        // First, so that no error leaves a copy behind.
        let secret_access_key = hidden(stored.secret_access_key, "secretAccessKey");
        let session_token = match stored.session_token {
            Some(token) if !token.is_empty() => hidden(Some(token), "sessionToken").map(Some),
            _ => Ok(None),
        };
        let is_key_id =
            |id: &str| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let access_key_id = stored.access_key_id.filter(|id| is_key_id(id));
        let region = stored.region.filter(|region| !region.is_empty());
        if region.as_deref().is_some_and(|region| !is_label(region)) {
            return Err(AwsCredentialError::Member("region"));
        }
        Ok(Self {
            access_key_id: access_key_id
                .ok_or(AwsCredentialError::Member("accessKeyId"))?
                .into(),
            secret_access_key: secret_access_key?,
            session_token: session_token?,
            region: region.map(Box::from),
        })
    }

    /// Signs a request; none of its headers is one of [`SIGNATURE_HEADERS`].
    pub fn sign(&self, scope: Scope<'_>, request: &Unsigned<'_>) -> Signature<'_> {
        let mut signature = Signature {
            authorization: String::new(),
            date: timestamp(request.time),
            session_token: self.session_token.as_ref(),
            content_sha256: matches!(request.payload, Payload::Unsigned)
                .then_some(UNSIGNED_PAYLOAD),
        };
        let (canonical, signed) = canonical_request(request, &signature);
        let day = &signature.date[..8];
        let scope_text = format!("{day}/{}/{}/aws4_request", scope.region, scope.service);
        let text = format!(
            "AWS4-HMAC-SHA256\n{}\n{scope_text}\n{}",
            signature.date,
            hex(&Sha256::digest(&canonical))
        );
        let key = signing_key(self.secret_access_key.expose(), day, scope);
        let id = &self.access_key_id;
        signature.authorization = format!(
            "AWS4-HMAC-SHA256 Credential={id}/{scope_text}, SignedHeaders={signed}, Signature={}",
            hex(&*hmac(&*key, text.as_bytes()))
        );
        signature
    }
}

impl<'a> Scope<'a> {
    /// The scope of a native path, `{service}/{region}/...`: the region that decides the host also signs.
    pub fn of_path(rest: &'a str) -> Option<Self> {
        let mut segments = rest.split('/');
        let service = match segments.next()? {
            "bedrock-mantle" => "bedrock-mantle",
            service if service == "bedrock" || service.starts_with("bedrock-") => "bedrock",
            _ => return None,
        };
        let region = segments.next().filter(|region| is_label(region))?;
        Some(Self { service, region })
    }
}

impl Signature<'_> {
    /// The headers to add, names in lower case.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let authorization = ("authorization", self.authorization.as_str());
        std::iter::once(authorization).chain(self.signed_headers())
    }

    fn signed_headers(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let date = ("x-amz-date", self.date.as_str());
        let token = self
            .session_token
            .map(|token| ("x-amz-security-token", token.expose()));
        let payload = self
            .content_sha256
            .map(|payload| ("x-amz-content-sha256", payload));
        std::iter::once(date).chain(token).chain(payload)
    }
}

/// `20260115T120000Z`.
fn timestamp(seconds: u64) -> String {
    const YEAR_9999: u64 = 253_402_300_799;
    let time = UNIX_EPOCH + Duration::from_secs(seconds.min(YEAR_9999));
    let written = humantime::format_rfc3339_seconds(time).to_string();
    written.replace(['-', ':'], "")
}

/// The text whose digest is signed, and the names of the signed headers.
fn canonical_request(request: &Unsigned<'_>, signature: &Signature<'_>) -> (Vec<u8>, String) {
    let added = signature
        .signed_headers()
        .chain([("host", request.host)])
        .map(|(name, value)| (name.to_owned(), value.as_bytes()));
    let given = request
        .headers
        .iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), *value));
    let mut headers: Vec<(String, &[u8])> = given.chain(added).collect();
    // Stable: the values of one name stay in order.
    headers.sort_by(|(one, _), (other, _)| one.cmp(other));
    let mut text = Vec::new();
    let mut line = |line: &str| {
        text.extend_from_slice(line.as_bytes());
        text.push(b'\n');
    };
    line(request.method);
    line(&canonical_path(request.path));
    line(&canonical_query(request.query));
    for values in headers.chunk_by(|(one, _), (other, _)| one == other) {
        text.extend_from_slice(values[0].0.as_bytes());
        for (at, (_, value)) in values.iter().enumerate() {
            text.push(if at == 0 { b':' } else { b',' });
            append_collapsed(&mut text, value);
        }
        text.push(b'\n');
    }
    let mut names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
    names.dedup();
    let signed = names.join(";");
    text.push(b'\n');
    text.extend_from_slice(signed.as_bytes());
    text.push(b'\n');
    match &request.payload {
        Payload::Whole(body) => text.extend_from_slice(hex(&Sha256::digest(body)).as_bytes()),
        Payload::Digest(digest) => text.extend_from_slice(hex(digest).as_bytes()),
        Payload::Unsigned => text.extend_from_slice(UNSIGNED_PAYLOAD.as_bytes()),
    }
    (text, signed)
}

/// The path without empty and dot segments, encoded once more than on the wire: every service but S3 wants that.
fn canonical_path(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    let mut canonical = String::with_capacity(path.len() + 16);
    for segment in &kept {
        canonical.push('/');
        canonical.extend(percent_encode(segment.as_bytes(), UNRESERVED));
    }
    if kept.is_empty() || path.ends_with('/') {
        canonical.push('/');
    }
    canonical
}

/// The parameters sorted, each encoded in the one way that counts.
fn canonical_query(query: &str) -> String {
    let encode = |text: &str| {
        let plain: Vec<u8> = percent_decode_str(text).collect();
        percent_encode(&plain, UNRESERVED).to_string()
    };
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let mut pairs: Vec<(String, String)> = pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (encode(name), encode(value))
        })
        .collect();
    pairs.sort();
    let pairs: Vec<String> = pairs
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.join("&")
}

/// A header's value without space around it and with single spaces in it.
fn append_collapsed(text: &mut Vec<u8>, value: &[u8]) {
    let words = value
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty());
    for (at, word) in words.enumerate() {
        if at > 0 {
            text.push(b' ');
        }
        text.extend_from_slice(word);
    }
}

fn signing_key(secret: &str, day: &str, scope: Scope<'_>) -> Zeroizing<[u8; 32]> {
    let mut first = Zeroizing::new(Vec::with_capacity(4 + secret.len()));
    first.extend_from_slice(b"AWS4");
    first.extend_from_slice(secret.as_bytes());
    let mut key = hmac(&first, day.as_bytes());
    for part in [scope.region, scope.service, "aws4_request"] {
        key = hmac(&*key, part.as_bytes());
    }
    key
}

fn hmac(key: &[u8], text: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut mac =
        <Hmac<Sha256> as KeyInit>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(text);
    Zeroizing::new(mac.finalize().into_bytes().into())
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| {
        [
            DIGITS[usize::from(byte >> 4)],
            DIGITS[usize::from(byte & 15)],
        ]
    });
    digits.map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sim::content::request::Request;
    use crate::sim::content::sigv4::{Credentials, SignatureError, verify};

    const ID: &str = "AKIDEXAMPLE";
    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    const HOST: &str = "bedrock-runtime.us-east-1.amazonaws.com";
    const BODY: &[u8] = br#"{"messages":[{"role":"user","content":[{"text":"hi"}]}]}"#;
    const BEDROCK: Scope<'_> = Scope {
        service: "bedrock",
        region: "us-east-1",
    };
    const JANUARY: u64 = 1_768_478_400;

    fn keys(session_token: Option<&str>) -> AwsKeys {
        let json = serde_json::json!({
            "accessKeyId": ID, "secretAccessKey": SECRET, "region": "eu-west-1", "sessionToken": session_token,
        });
        match AwsCredential::parse(&json.to_string()) {
            Ok(AwsCredential::Keys(keys)) => keys,
            _ => panic!("no keys"),
        }
    }

    fn get<'a>(path: &'a str, query: &'a str, headers: &'a [(&'a str, &'a [u8])]) -> Unsigned<'a> {
        Unsigned {
            method: "GET",
            host: "example.amazonaws.com",
            path,
            query,
            headers,
            payload: Payload::Whole(b""),
            time: 1_440_938_160,
        }
    }

    fn converse<'a>(path: &'a str) -> Unsigned<'a> {
        Unsigned {
            method: "POST",
            host: HOST,
            path,
            query: "",
            headers: &[("Content-Type", b"application/json")],
            payload: Payload::Whole(BODY),
            time: JANUARY,
        }
    }

    fn signature_of(signature: &Signature<'_>) -> String {
        let (_, signature) = signature
            .authorization
            .split_once("Signature=")
            .expect("signed");
        signature.to_owned()
    }

    /// Cases of the signing test suite that the vendor publishes with its SDKs: what is asked, what is signed.
    #[test]
    fn the_vendors_test_suite_is_met() {
        let unreserved = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        let unreserved = format!("{unreserved}={unreserved}");
        let trimmed: &[(&str, &[u8])] = &[
            ("My-Header1", b" value1"),
            ("My-Header2", b" \"a   b   c\""),
        ];
        let repeated: &[(&str, &[u8])] = &[
            ("My-Header1", b"value2"),
            ("My-Header1", b"value2"),
            ("My-Header1", b"value1"),
        ];
        let cases = [
            (
                "vanilla",
                get("/", "", &[]),
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            (
                "relative",
                get("/example/..", "", &[]),
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            (
                "slashes",
                get("//example//", "", &[]),
                "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84",
            ),
            (
                "dot",
                get("/./example", "", &[]),
                "ef75d96142cf21edca26f06005da7988e4f8dc83a165a80865db7089db637ec5",
            ),
            // The suite writes the path before its first encoding.
            (
                "space",
                get("/example space/", "", &[]),
                "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741",
            ),
            (
                "path",
                get("/ሴ", "", &[]),
                "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85",
            ),
            (
                "query",
                get("/", "ሴ=bar", &[]),
                "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04",
            ),
            (
                "unreserved",
                get("/", &unreserved, &[]),
                "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197",
            ),
            (
                "order",
                get("/", "Param2=value2&Param1=value1", &[]),
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
            (
                "encoded order",
                get("/", "Param-3=Value3&Param=Value2&%E1%88%B4=Value1", &[]),
                "371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac",
            ),
            (
                "trim",
                get("/", "", trimmed),
                "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
            ),
            (
                "repeated",
                get("/", "", repeated),
                "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
            ),
        ];
        let scope = Scope {
            service: "service",
            region: "us-east-1",
        };
        for (name, request, expected) in cases {
            let keys = keys(None);
            assert_eq!(
                signature_of(&keys.sign(scope, &request)),
                expected,
                "{name}"
            );
        }
        let token = "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267";
        let keys = keys(Some(token));
        let signature = keys.sign(scope, &get("/", "", &[]));
        assert_eq!(
            signature_of(&signature),
            "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8"
        );
        assert!(
            signature
                .headers()
                .any(|header| header == ("x-amz-security-token", token))
        );
    }

    #[test]
    fn the_suites_paths_are_encoded_twice() {
        assert_eq!(
            canonical_path("/test/@connections/JBDvjfGEIAMCERw%3D"),
            "/test/%40connections/JBDvjfGEIAMCERw%253D"
        );
        assert_eq!(
            canonical_path("/functions/arn%3Aaws%3Alambda/invocations"),
            "/functions/arn%253Aaws%253Alambda/invocations"
        );
    }

    #[test]
    fn bedrocks_requests_are_signed() {
        let arn = "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Ainference-profile%2Fus.amazon.nova-lite-v1%3A0/converse";
        let cases = [
            (
                "/model/us.anthropic.claude-haiku-4-5-20251001-v1%3A0/converse",
                None,
                "content-type;host;x-amz-date",
                "0f00f06bbac61314cd15932b01591cd6af8673a88d75ffd87c5f4b9f163a229f",
            ),
            (
                "/model/us.anthropic.claude-haiku-4-5-20251001-v1:0/converse",
                None,
                "content-type;host;x-amz-date",
                "006ab50ac5bbaa7e2f837265d87b8602967b98c3b464aa87c0ee1b0b132e9215",
            ),
            (
                arn,
                Some("TOKENEXAMPLE"),
                "content-type;host;x-amz-date;x-amz-security-token",
                "ee276c6b3738ed6673266db78b2a47a3cf08faada7eaf1f7fd4fdad3ef17d296",
            ),
        ];
        for (path, token, names, expected) in cases {
            let keys = keys(token);
            let signature = keys.sign(BEDROCK, &converse(path));
            let headers: Vec<_> = signature.headers().collect();
            let authorization = format!(
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260115/us-east-1/bedrock/aws4_request, \
                 SignedHeaders={names}, Signature={expected}"
            );
            assert_eq!(headers[0], ("authorization", authorization.as_str()));
            assert_eq!(headers[1], ("x-amz-date", "20260115T120000Z"));
            assert_eq!(headers.len(), 2 + usize::from(token.is_some()));
            let mut digest = converse(path);
            digest.payload = Payload::Digest(Sha256::digest(BODY).into());
            assert_eq!(signature_of(&keys.sign(BEDROCK, &digest)), expected);
        }
    }

    /// What a signed request is like when it arrives.
    fn arrived(request: &Unsigned<'_>, signature: &Signature<'_>, body: &[u8]) -> Request {
        let target = match request.query {
            "" => request.path.to_owned(),
            query => format!("{}?{query}", request.path),
        };
        let mut arrived = Request::new(request.method, &target, body);
        arrived.received = request.time + 60;
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let given = request
            .headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), text(value)));
        let added = signature
            .headers()
            .chain([("Host", request.host)])
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        arrived.headers = given.chain(added).collect();
        arrived
    }

    fn verified(
        request: &Unsigned<'_>,
        scope: Scope<'_>,
        token: Option<&str>,
        body: &[u8],
    ) -> Result<(), SignatureError> {
        let keys = keys(token);
        let signature = keys.sign(scope, request);
        let arrived = arrived(request, &signature, body);
        let credentials = Credentials {
            access_key_id: ID.to_owned(),
            secret_access_key: SECRET.to_owned(),
        };
        verify(&arrived, &[&arrived.path], &credentials)
    }

    proptest! {
        #[test]
        fn another_verifier_agrees(
            path in "(/[!-.0-;=@-~]{1,12}){1,4}/?",
            query in "([a-zA-Z%+~_.-]{0,6}(=[ -%'-~]{0,6})?&?){0,4}",
            value in "[!-~]( {0,3}[!-~]){0,6}",
            body in prop::collection::vec(any::<u8>(), 0..40),
            token in prop::option::of("[!-~]{1,20}"),
            unsigned in any::<bool>(),
        ) {
            let dots = path.split('/').any(|segment| matches!(segment, "." | ".."));
            prop_assume!(!dots && !path.contains(['?', '#']) && !query.contains('#'));
            let headers: [(&str, &[u8]); 2] = [("X-Custom", value.as_bytes()), ("content-type", b"application/json")];
            let mut request = converse(&path);
            request.query = &query;
            request.headers = &headers;
            request.payload = if unsigned { Payload::Unsigned } else { Payload::Whole(&body) };
            prop_assert_eq!(verified(&request, BEDROCK, token.as_deref(), &body), Ok(()));
        }
    }

    #[test]
    fn all_added_headers_are_known_beforehand() {
        let mut request = converse("/model/m/converse");
        request.payload = Payload::Unsigned;
        let keys = keys(Some("token"));
        let signature = keys.sign(BEDROCK, &request);
        let names: Vec<&str> = signature.headers().map(|(name, _)| name).collect();
        assert_eq!(names, SIGNATURE_HEADERS);
    }

    #[test]
    fn another_verifier_refuses_what_was_changed() {
        let request = converse("/model/m%3A0/converse");
        assert_eq!(verified(&request, BEDROCK, None, BODY), Ok(()));
        let mismatch = verified(&request, BEDROCK, None, b"{}");
        assert!(matches!(mismatch, Err(SignatureError::Mismatch(_))));
    }

    #[test]
    fn the_path_tells_service_and_region() {
        let scope = |rest| Scope::of_path(rest).map(|scope| (scope.service, scope.region));
        let cases = [
            (
                "bedrock-runtime/eu-west-1/model/m/converse",
                Some(("bedrock", "eu-west-1")),
            ),
            (
                "bedrock-mantle/us-east-2/v1/chat/completions",
                Some(("bedrock-mantle", "us-east-2")),
            ),
            (
                "bedrock-agent-runtime/us-east-1/x",
                Some(("bedrock", "us-east-1")),
            ),
            (
                "bedrock/us-east-1/foundation-models",
                Some(("bedrock", "us-east-1")),
            ),
            ("s3/us-east-1/x", None),
            ("bedrocks/us-east-1/x", None),
            ("bedrock-runtime", None),
            ("bedrock-runtime/us%2Feast/x", None),
        ];
        for (rest, expected) in cases {
            assert_eq!(scope(rest), expected, "{rest}");
        }
    }

    #[test]
    fn credentials_are_read() {
        let region = |text: &str| {
            let credential = AwsCredential::parse(text).unwrap_or_else(|error| panic!("{error}"));
            (
                credential.region().to_owned(),
                matches!(credential, AwsCredential::Keys(_)),
            )
        };
        let home = |region: &str, keys| (region.to_owned(), keys);
        assert_eq!(
            region(r#" {"accessKeyId":"AK","secretAccessKey":"s\/k","region":"eu-central-1"} "#),
            home("eu-central-1", true)
        );
        assert_eq!(
            region(r#"{"accessKeyId":"AK","secretAccessKey":"s","sessionToken":null,"extra":1}"#),
            home("us-east-1", true)
        );
        assert_eq!(
            region(r#"{"accessKeyId":"AK","secretAccessKey":"s","sessionToken":"","region":""}"#),
            home("us-east-1", true)
        );
        assert_eq!(
            region("ABSKQmVkcm9ja0FQSUtleQ==\n"),
            home("us-east-1", false)
        );
        let Ok(AwsCredential::ApiKey(key)) = AwsCredential::parse("bedrock-api-key-x") else {
            panic!("no key");
        };
        assert_eq!(key.expose(), "bedrock-api-key-x");
    }

    #[test]
    fn errors_name_the_member_and_repeat_no_secret() {
        use AwsCredentialError::{ApiKey, Json, Long, Member};
        let cases = [
            (r#"{"accessKeyId":"AK"}"#, Member("secretAccessKey")),
            (r#"{"secretAccessKey":"SeCrEt"}"#, Member("accessKeyId")),
            (
                r#"{"accessKeyId":"A/K","secretAccessKey":"SeCrEt"}"#,
                Member("accessKeyId"),
            ),
            (
                r#"{"accessKeyId":"","secretAccessKey":"SeCrEt"}"#,
                Member("accessKeyId"),
            ),
            (
                r#"{"accessKeyId":"AK","secretAccessKey":"SeCrEt x"}"#,
                Member("secretAccessKey"),
            ),
            (
                r#"{"accessKeyId":"AK","secretAccessKey":"SeCrEt","sessionToken":"SeCrEt\r\nx"}"#,
                Member("sessionToken"),
            ),
            (
                r#"{"accessKeyId":"AK","secretAccessKey":"SeCrEt","region":"eu/x"}"#,
                Member("region"),
            ),
            (r#"{"accessKeyId":"AK","secretAccessKey":["SeCrEt"]}"#, Json),
            (r#"{"accessKeyId":"AK","secretAccessKey":"SeCrEt""#, Json),
            ("SeCrEt two", ApiKey),
            ("SeCrÉt", ApiKey),
            ("", ApiKey),
        ];
        for (text, expected) in cases {
            let error = AwsCredential::parse(text).err().expect("refused");
            assert_eq!(error, expected, "{text}");
            assert!(!error.to_string().contains("SeCrEt"), "{error}");
        }
        let long = "x".repeat(CREDENTIAL_BYTES_MAX + 1);
        assert_eq!(AwsCredential::parse(&long).err(), Some(Long));
    }
}
