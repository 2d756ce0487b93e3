//! Checking an AWS signature (spec: providers 7.2), by a verifier of the simulator's own: the gateway's signer must not be
//! its own judge.

use std::collections::BTreeMap;

use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::request::Request;

/// Seconds of clock difference that AWS tolerates.
const SKEW: u64 = 300;
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
const PATH: &AsciiSet = &UNRESERVED.remove(b'/');

/// The key that signatures are checked with.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// `AKID...`
    pub access_key_id: String,
    /// Its secret.
    pub secret_access_key: String,
}

/// Why a signature is refused; AWS answers 403 to each.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SignatureError {
    /// A part of the `Authorization` header is missing.
    #[error("Authorization header requires {0}")]
    Incomplete(&'static str),
    /// Another key id.
    #[error("The security token included in the request is invalid: unknown access key {0:?}")]
    UnknownKey(String),
    /// The scope is not that of a request to this service.
    #[error("Credential should be scoped to date/region/service/aws4_request, not {0:?}")]
    Scope(String),
    /// A header that must be signed is not.
    #[error("The header {0:?} must be signed")]
    Unsigned(&'static str),
    /// A signed header did not arrive.
    #[error("The signed header {0:?} is missing")]
    Missing(String),
    /// The date is unreadable or too far from ours.
    #[error("Signature expired or not yet current: X-Amz-Date is {0:?}")]
    Date(String),
    /// `x-amz-content-sha256` is not the body's digest.
    #[error("The provided x-amz-content-sha256 header does not match what was computed")]
    Payload,
    /// It does not match.
    #[error(
        "The request signature we calculated does not match the signature you provided. Canonical request: {0:?}"
    )]
    Mismatch(String),
}

/// Checks the signature of `request`. `paths` are the wire paths the client may have signed: as received, and without the
/// provider's prefix. The host may be the one received or the AWS host that the credential scope names, because a client
/// behind a gateway signs for AWS.
pub fn verify(
    request: &Request,
    paths: &[&str],
    credentials: &Credentials,
) -> Result<(), SignatureError> {
    let given = Given::read(request, credentials)?;
    let payload = payload_hash(request)?;
    let scope: Vec<&str> = given.scope.split('/').collect();
    let [date, region, service, "aws4_request"] = scope[..] else {
        return Err(SignatureError::Scope(given.scope.to_owned()));
    };
    if !given.date.starts_with(date) {
        return Err(SignatureError::Scope(given.scope.to_owned()));
    }
    let aws_host = match service {
        "bedrock-mantle" => format!("bedrock-mantle.{region}.api.aws"),
        _ => format!("bedrock-runtime.{region}.amazonaws.com"),
    };
    let key = signing_key(&credentials.secret_access_key, date, region, service);
    let received = request.header("host").unwrap_or_default();
    let mut shown = None;
    for path in paths {
        for host in [received, aws_host.as_str()] {
            let canonical = canonical_request(request, path, host, &given.signed, &payload)?;
            let text = string_to_sign(given.date, given.scope, &canonical);
            if hex(&hmac(&key, text.as_bytes())) == given.signature {
                return Ok(());
            }
            shown.get_or_insert(canonical);
        }
    }
    Err(SignatureError::Mismatch(shown.unwrap_or_default()))
}

struct Given<'a> {
    scope: &'a str,
    signed: Vec<&'a str>,
    signature: &'a str,
    date: &'a str,
}

impl<'a> Given<'a> {
    fn read(request: &'a Request, credentials: &Credentials) -> Result<Self, SignatureError> {
        let header = request.header("authorization").unwrap_or_default();
        let rest = header.strip_prefix("AWS4-HMAC-SHA256").unwrap_or_default();
        let parts: BTreeMap<&str, &str> = rest
            .split(',')
            .filter_map(|part| part.trim().split_once('='))
            .collect();
        let part = |name: &'static str| {
            parts
                .get(name)
                .copied()
                .ok_or(SignatureError::Incomplete(name))
        };
        let (key_id, scope) = part("Credential")?
            .split_once('/')
            .ok_or(SignatureError::Incomplete("Credential"))?;
        if key_id != credentials.access_key_id {
            return Err(SignatureError::UnknownKey(key_id.to_owned()));
        }
        let signed: Vec<&str> = part("SignedHeaders")?.split(';').collect();
        for name in ["host", "x-amz-date"] {
            if !signed.contains(&name) {
                return Err(SignatureError::Unsigned(name));
            }
        }
        for name in ["x-amz-security-token", "x-amz-content-sha256"] {
            if request.header(name).is_some() && !signed.contains(&name) {
                return Err(SignatureError::Unsigned(name));
            }
        }
        let date = request
            .header("x-amz-date")
            .ok_or(SignatureError::Missing("x-amz-date".into()))?;
        let seconds = unix_seconds(date).ok_or_else(|| SignatureError::Date(date.to_owned()))?;
        if seconds.abs_diff(request.received) > SKEW {
            return Err(SignatureError::Date(date.to_owned()));
        }
        Ok(Self {
            scope,
            signed,
            signature: part("Signature")?,
            date,
        })
    }
}

fn payload_hash(request: &Request) -> Result<String, SignatureError> {
    let actual = hex(&request.body_sha256);
    match request.header("x-amz-content-sha256") {
        None => Ok(actual),
        Some("UNSIGNED-PAYLOAD") => Ok("UNSIGNED-PAYLOAD".to_owned()),
        Some(stated) if stated == actual => Ok(actual),
        Some(_) => Err(SignatureError::Payload),
    }
}

fn canonical_request(
    request: &Request,
    path: &str,
    host: &str,
    signed: &[&str],
    payload: &str,
) -> Result<String, SignatureError> {
    let mut headers = String::new();
    for name in signed {
        let value = if *name == "host" {
            host.to_owned()
        } else {
            joined_values(request, name)
                .ok_or_else(|| SignatureError::Missing((*name).to_owned()))?
        };
        headers.push_str(&format!("{name}:{value}\n"));
    }
    Ok(format!(
        "{}\n{}\n{}\n{headers}\n{}\n{payload}",
        request.method,
        utf8_percent_encode(path, PATH),
        canonical_query(&request.query),
        signed.join(";"),
    ))
}

/// All values of a header, inner runs of spaces collapsed.
fn joined_values(request: &Request, name: &str) -> Option<String> {
    let values: Vec<String> = request
        .headers
        .iter()
        .filter(|(header, _)| header.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    (!values.is_empty()).then(|| values.join(","))
}

fn canonical_query(query: &str) -> String {
    let encode = |text: &str| {
        let plain = percent_decode_str(text).collect::<Vec<u8>>();
        percent_encoding::percent_encode(&plain, UNRESERVED).to_string()
    };
    let mut pairs: Vec<(String, String)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
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

fn string_to_sign(date: &str, scope: &str, canonical: &str) -> String {
    format!(
        "AWS4-HMAC-SHA256\n{date}\n{scope}\n{}",
        hex(&Sha256::digest(canonical.as_bytes()))
    )
}

fn signing_key(secret: &str, date: &str, region: &str, service: &str) -> [u8; 32] {
    let mut key = hmac(format!("AWS4{secret}").as_bytes(), date.as_bytes());
    for part in [region, service, "aws4_request"] {
        key = hmac(&key, part.as_bytes());
    }
    key
}

fn hmac(key: &[u8], text: &[u8]) -> [u8; 32] {
    let mut mac =
        <Hmac<Sha256> as KeyInit>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(text);
    mac.finalize().into_bytes().into()
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes
        .iter()
        .flat_map(|byte| [DIGITS[(byte >> 4) as usize], DIGITS[(byte & 15) as usize]]);
    digits.map(char::from).collect()
}

/// `20260115T120000Z` as Unix seconds.
fn unix_seconds(date: &str) -> Option<u64> {
    let digits = date.as_bytes();
    if digits.len() != 16 || digits[8] != b'T' || digits[15] != b'Z' || !date.is_ascii() {
        return None;
    }
    let number = |from: usize, to: usize| date[from..to].parse::<u64>().ok();
    let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
    let (hour, minute, second) = (number(9, 11)?, number(11, 13)?, number(13, 15)?);
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Days from the civil date, counting years from March (Howard Hinnant's method).
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted / 400;
    let year_of_era = shifted % 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = (era * 146_097 + day_of_era).checked_sub(719_468)?;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = br#"{"messages":[{"role":"user","content":[{"text":"hi"}]}]}"#;
    const HOST: &str = "bedrock-runtime.us-east-1.amazonaws.com";

    fn credentials() -> Credentials {
        Credentials {
            access_key_id: "AKIDEXAMPLE".into(),
            secret_access_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into(),
        }
    }

    fn signed(host: &str, signed: &str, signature: &str) -> Request {
        let mut request = Request::new("POST", "/", BODY);
        request.received = 1_768_478_400;
        request.headers = vec![
            ("Host".into(), host.into()),
            ("Content-Type".into(), "application/json".into()),
            ("X-Amz-Date".into(), "20260115T120000Z".into()),
            (
                "Authorization".into(),
                format!(
                    "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260115/us-east-1/bedrock/aws4_request, \
                     SignedHeaders={signed}, Signature={signature}"
                ),
            ),
        ];
        request
    }

    const FIRST: &str = "/model/us.anthropic.claude-haiku-4-5-20251001-v1%3A0/converse";
    const FIRST_SIGNATURE: &str =
        "0f00f06bbac61314cd15932b01591cd6af8673a88d75ffd87c5f4b9f163a229f";

    #[test]
    fn the_vendors_signatures_verify() {
        let request = signed(HOST, "content-type;host;x-amz-date", FIRST_SIGNATURE);
        assert_eq!(verify(&request, &[FIRST], &credentials()), Ok(()));
        let raw = signed(
            HOST,
            "content-type;host;x-amz-date",
            "006ab50ac5bbaa7e2f837265d87b8602967b98c3b464aa87c0ee1b0b132e9215",
        );
        let path = "/model/us.anthropic.claude-haiku-4-5-20251001-v1:0/converse";
        assert_eq!(verify(&raw, &[path], &credentials()), Ok(()));
        let mut token = signed(
            HOST,
            "content-type;host;x-amz-date;x-amz-security-token",
            "ee276c6b3738ed6673266db78b2a47a3cf08faada7eaf1f7fd4fdad3ef17d296",
        );
        token
            .headers
            .push(("x-amz-security-token".into(), "TOKENEXAMPLE".into()));
        let arn = "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Ainference-profile%2Fus.amazon.nova-lite-v1%3A0/converse";
        assert_eq!(verify(&token, &[arn], &credentials()), Ok(()));
    }

    #[test]
    fn a_request_behind_a_gateway_may_be_signed_for_aws() {
        let request = signed(
            "127.0.0.1:9001",
            "content-type;host;x-amz-date",
            FIRST_SIGNATURE,
        );
        let prefixed = format!("/aws-bedrock{FIRST}");
        assert_eq!(
            verify(&request, &[&prefixed, FIRST], &credentials()),
            Ok(())
        );
    }

    #[test]
    fn what_does_not_match_is_refused() {
        let names = "content-type;host;x-amz-date";
        let mut body = signed(HOST, names, FIRST_SIGNATURE);
        body.body_sha256[0] ^= 1;
        assert!(matches!(
            verify(&body, &[FIRST], &credentials()),
            Err(SignatureError::Mismatch(_))
        ));
        let mut late = signed(HOST, names, FIRST_SIGNATURE);
        late.received += 301;
        assert!(matches!(
            verify(&late, &[FIRST], &credentials()),
            Err(SignatureError::Date(_))
        ));
        let unsigned = signed(HOST, "content-type;host", FIRST_SIGNATURE);
        assert_eq!(
            verify(&unsigned, &[FIRST], &credentials()),
            Err(SignatureError::Unsigned("x-amz-date"))
        );
        let mut key = credentials();
        key.access_key_id = "OTHER".into();
        let request = signed(HOST, names, FIRST_SIGNATURE);
        assert!(matches!(
            verify(&request, &[FIRST], &key),
            Err(SignatureError::UnknownKey(_))
        ));
        let mut payload = signed(
            HOST,
            "content-type;host;x-amz-content-sha256;x-amz-date",
            "0",
        );
        payload
            .headers
            .push(("x-amz-content-sha256".into(), "00".into()));
        assert_eq!(
            verify(&payload, &[FIRST], &credentials()),
            Err(SignatureError::Payload)
        );
    }

    #[test]
    fn dates_are_read() {
        assert_eq!(unix_seconds("19700101T000000Z"), Some(0));
        assert_eq!(unix_seconds("20260115T120000Z"), Some(1_768_478_400));
        assert_eq!(unix_seconds("20240229T235959Z"), Some(1_709_251_199));
        assert_eq!(unix_seconds("2026-01-15"), None);
    }
}
