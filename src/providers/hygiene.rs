//! Which headers cross the gateway (spec: data plane 1.3, providers 2, resolutions 17). Hop-by-hop fields are known to the
//! head itself and are not repeated here.

use std::borrow::Cow;

use crate::http::is_name;

/// Whether a request header goes up to the provider. The framing, the host and the accepted codings are written anew.
pub fn goes_up(name: &[u8]) -> bool {
    match name.len() {
        4 => !is_name(name, b"host"),
        6 => !is_name(name, b"expect"),
        14 if is_name(name, b"content-length") => false,
        16 if is_name(name, b"x-fal-target-url") => false,
        _ => match name.first() {
            Some(b'c' | b'C') => !begins(name, b"cf-"),
            Some(b'x' | b'X') => !begins(name, b"x-forwarded-"),
            _ => true,
        },
    }
}

/// Whether a response header goes down to the client. The framing is written anew.
pub fn goes_down(name: &[u8]) -> bool {
    match name.len() {
        10 => !is_name(name, b"set-cookie"),
        14 => !is_name(name, b"content-length"),
        _ => !begins(name, b"cf-aig-"),
    }
}

/// A `Cookie` header without the identity cookie; empty where nothing else stood in it.
pub fn without_access_cookie(value: &[u8]) -> Cow<'_, [u8]> {
    const NAME: &[u8] = b"CF_Authorization=";
    let is_access = |pair: &[u8]| pair.trim_ascii().starts_with(NAME);
    if !value.split(|byte| *byte == b';').any(is_access) {
        return Cow::Borrowed(value);
    }
    let kept: Vec<&[u8]> = value
        .split(|byte| *byte == b';')
        .filter(|pair| !is_access(pair))
        .map(<[u8]>::trim_ascii)
        .collect();
    Cow::Owned(kept.join(&b"; "[..]))
}

fn begins(name: &[u8], prefix: &[u8]) -> bool {
    name.get(..prefix.len())
        .is_some_and(|start| is_name(start, prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateways_own_headers_stay_here() {
        for name in [
            "Host",
            "content-length",
            "CF-AIG-Authorization",
            "cf-cache-ttl",
            "cf-access-token",
            "Expect",
            "X-Forwarded-For",
            "x-fal-target-url",
            "Cf-Access-Jwt-Assertion",
        ] {
            assert!(!goes_up(name.as_bytes()), "{name}");
        }
        for name in [
            "authorization",
            "x-api-key",
            "anthropic-beta",
            "user-agent",
            "x-stainless-lang",
            "cookie",
            "date",
        ] {
            assert!(goes_up(name.as_bytes()), "{name}");
        }
        for name in ["Set-Cookie", "Content-Length", "cf-aig-step"] {
            assert!(!goes_down(name.as_bytes()), "{name}");
        }
        for name in [
            "content-type",
            "x-request-id",
            "cf-ray",
            "retry-after",
            "content-encoding",
        ] {
            assert!(goes_down(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn the_access_cookie_is_cut_out() {
        assert_eq!(&*without_access_cookie(b"a=1; b=2"), b"a=1; b=2");
        assert_eq!(
            &*without_access_cookie(b"a=1; CF_Authorization=x.y; b=2"),
            b"a=1; b=2"
        );
        assert_eq!(&*without_access_cookie(b"CF_Authorization=x"), b"");
    }
}
