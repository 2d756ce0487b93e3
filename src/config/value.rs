//! Parsers of single values.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::{AccessLog, Driver, ErrorStatus, PriceConfig};
use crate::limits::{METADATA_KEY_MAX, THREADS_MAX};
use crate::meter::cost::Rate;
use crate::meter::prices::ModelRule;
use crate::net::origin::Origin;
use crate::net::tls::Roots;
use crate::providers::{BaseUrl, is_label};

type Parsed<T> = Result<T, String>;

pub(super) fn address(text: &str) -> Parsed<SocketAddr> {
    text.parse()
        .map_err(|_| "must be ADDRESS:PORT, such as 127.0.0.1:8787 or [::1]:8787".to_owned())
}

pub(super) fn threads(text: &str) -> Parsed<usize> {
    number(text, 0, THREADS_MAX)
}

pub(super) fn number<T: FromStr + PartialOrd + std::fmt::Display>(
    text: &str,
    lowest: T,
    highest: T,
) -> Parsed<T> {
    match text.parse::<T>() {
        Ok(value) if value >= lowest && value <= highest => Ok(value),
        _ => Err(format!("must be a whole number from {lowest} to {highest}")),
    }
}

pub(super) fn boolean(text: &str) -> Parsed<bool> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}

pub(super) fn path(text: &str) -> Parsed<PathBuf> {
    match text.is_empty() {
        true => Err("must name a file or directory".to_owned()),
        false => Ok(text.into()),
    }
}

/// A file that can be read now: found out here, where its line can be told.
pub(super) fn readable(text: &str) -> Parsed<PathBuf> {
    let path = path(text)?;
    match std::fs::File::open(&path) {
        Ok(_) => Ok(path),
        Err(error) => Err(format!("{text}: {error}")),
    }
}

/// The name of a pair of metadata.
pub(super) fn metadata_key(text: &str) -> Parsed<String> {
    match (1..=METADATA_KEY_MAX).contains(&text.len()) {
        true => Ok(text.to_owned()),
        false => Err(format!("must have 1 to {METADATA_KEY_MAX} characters")),
    }
}

/// The name of a model, or a part of it.
pub(super) fn model(text: &str) -> Parsed<String> {
    match (1..=512).contains(&text.len()) {
        true => Ok(text.to_owned()),
        false => Err("must have 1 to 512 characters".to_owned()),
    }
}

/// One member of a price. Tokens in dollars for a million, searches and requests in dollars for one.
pub(super) fn price(of: &mut PriceConfig, key: &str, text: &str) -> Parsed<()> {
    if key == "match" {
        of.rule = match text {
            "equals" => ModelRule::Equals,
            "starts-with" => ModelRule::StartsWith,
            "contains" => ModelRule::Contains,
            _ => return Err("must be equals, starts-with or contains".to_owned()),
        };
        return Ok(());
    }
    let dollars = text.parse::<f64>().ok();
    let dollars = dollars.filter(|dollars| (0.0..=1e9).contains(dollars));
    let dollars = dollars.ok_or("must be a number of dollars from 0 to 1000000000")?;
    let million = Rate::of_dollars_per_million(dollars);
    let price = &mut of.price;
    match key {
        "input" => price.input = million,
        "output" => price.output = million,
        "cache_read" => price.cache_read = million,
        "cache_write" => price.cache_write = million,
        "cache_write_1h" => price.cache_write_long = million,
        "reasoning" => price.reasoning = million,
        "audio_in" => price.audio_input = million,
        "audio_out" => price.audio_output = million,
        "image_in" => price.image_input = million,
        "image_out" => price.image_output = million,
        "search" => price.search = Rate::of_dollars(dollars),
        "request" => price.request = Rate::of_dollars(dollars),
        _ => return Err("unknown key".to_owned()),
    }
    Ok(())
}

/// `250ms`, `10s`, `5m`, `1h`, or whole seconds; at least a millisecond, at most a week.
pub(super) fn duration(text: &str) -> Parsed<Duration> {
    const WEEK: u64 = 7 * 24 * 3600 * 1000;
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let scale = match unit {
        "ms" => 1,
        "s" | "" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => 0,
    };
    let milliseconds = number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(scale));
    match milliseconds {
        Some(milliseconds @ 1..=WEEK) => Ok(Duration::from_millis(milliseconds)),
        _ => Err("must be a time such as 500ms, 10s, 5m or 1h, from 1ms to a week".to_owned()),
    }
}

/// A time, or `off`.
pub(super) fn optional_duration(text: &str) -> Parsed<Option<Duration>> {
    match text {
        "off" => Ok(None),
        text => duration(text)
            .map(Some)
            .map_err(|error| format!("{error}, or off")),
    }
}

/// Days, or `off`.
pub(super) fn days(text: &str) -> Parsed<Option<u32>> {
    match text {
        "off" => Ok(None),
        text => number(text, 1, 36_500)
            .map(Some)
            .map_err(|error| format!("{error}, or off")),
    }
}

/// Bytes: `65536`, `64KiB`, `512MiB`, `1GiB`.
pub(super) fn size(text: &str, lowest: u64, highest: u64) -> Parsed<u64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim_start() {
        "" | "B" => Some(0),
        "KiB" => Some(10),
        "MiB" => Some(20),
        "GiB" => Some(30),
        _ => None,
    };
    let bytes = shift.and_then(|shift| number.parse::<u64>().ok()?.checked_mul(1 << shift));
    match bytes {
        Some(bytes) if (lowest..=highest).contains(&bytes) => Ok(bytes),
        _ => Err(format!(
            "must be a size such as 65536, 64KiB or 512MiB, from {lowest} to {highest} bytes"
        )),
    }
}

pub(super) fn network(text: &str) -> Parsed<IpNet> {
    let parsed = text.parse::<IpNet>().ok();
    parsed
        .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
        .ok_or_else(|| "must be an address or a network such as 10.0.0.0/8".to_owned())
}

/// A line as of `/etc/hosts`, the name first.
pub(super) fn host(text: &str) -> Parsed<(Box<str>, Vec<IpAddr>)> {
    let mut words = text.split_ascii_whitespace();
    let name = words.next().filter(|name| name.parse::<IpAddr>().is_err());
    let addresses = words.map(str::parse).collect::<Result<Vec<IpAddr>, _>>();
    match (name, addresses) {
        (Some(name), Ok(addresses)) if !addresses.is_empty() => {
            Ok((name.to_ascii_lowercase().into(), addresses))
        }
        _ => Err(
            "must be a name and then its addresses, such as \"vllm 10.0.0.1 10.0.0.2\"".to_owned(),
        ),
    }
}

pub(super) fn driver(text: &str) -> Parsed<Driver> {
    match text {
        "auto" => Ok(Driver::Auto),
        "epoll" => Ok(Driver::Epoll),
        "uring" | "io_uring" => Ok(Driver::Uring),
        "mixed" => Ok(Driver::Mixed),
        _ => Err("must be auto, epoll or uring".to_owned()),
    }
}

pub(super) fn error_status(text: &str) -> Parsed<ErrorStatus> {
    match text {
        "strict" => Ok(ErrorStatus::Strict),
        "semantic" => Ok(ErrorStatus::Semantic),
        _ => Err("must be strict or semantic".to_owned()),
    }
}

pub(super) fn access_log(text: &str) -> Parsed<AccessLog> {
    match text {
        "text" => Ok(AccessLog::Text),
        "json" => Ok(AccessLog::Json),
        "off" => Ok(AccessLog::Off),
        _ => Err("must be text, json or off".to_owned()),
    }
}

pub(super) fn roots(text: &str) -> Parsed<Roots> {
    match text {
        "system" => Ok(Roots::System),
        "bundled" => Ok(Roots::Bundled),
        _ => Err("must be system or bundled".to_owned()),
    }
}

/// An http or https URL, kept as it is but for a trailing slash.
pub(super) fn public_url(text: &str) -> Parsed<String> {
    let parsed: Result<BaseUrl, _> = text.parse();
    parsed
        .map(|_| text.trim_end_matches('/').to_owned())
        .map_err(|error| error.to_string())
}

/// `http://host:port` or `off`.
pub(super) fn proxy(text: &str) -> Parsed<Option<Arc<Origin>>> {
    if text == "off" {
        return Ok(None);
    }
    let url: BaseUrl = text.parse().map_err(|error| format!("{error}"))?;
    match url.origin.tls || !url.path.is_empty() {
        true => Err("must be http://HOST:PORT or off".to_owned()),
        false => Ok(Some(url.origin)),
    }
}

/// `[A-Za-z0-9_-]{1,64}`: account ids and gateway ids.
pub(super) fn id(text: &str) -> Parsed<String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    match (1..=64).contains(&text.len()) && text.bytes().all(allowed) {
        true => Ok(text.to_owned()),
        false => Err("must be 1 to 64 of A-Z a-z 0-9 _ -".to_owned()),
    }
}

/// A base URL. Plain http only towards this machine and private networks, unless it is allowed by name.
pub(super) fn base_url(text: &str, allow_insecure: bool) -> Parsed<BaseUrl> {
    let url: BaseUrl = text.parse().map_err(|error| format!("{error}"))?;
    match url.origin.tls || allow_insecure || is_near(&url.origin.host) {
        true => Ok(url),
        false => Err(format!(
            "{text:?} sends keys in clear text to another network; use https, or set allow_insecure = true"
        )),
    }
}

/// Whether a host is this machine or on a private network, so that plain http may lead there.
pub fn is_near(host: &str) -> bool {
    if host == "localhost" || host.ends_with(".localhost") {
        return true;
    }
    match host.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(IpAddr::V4(address)) => {
            address.is_loopback() || address.is_private() || address.is_link_local()
        }
        Ok(IpAddr::V6(address)) => {
            address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local()
        }
        Err(_) => false,
    }
}

/// A region of a cloud: one label of a host's name.
pub(super) fn region(text: &str) -> Parsed<String> {
    match is_label(text) {
        true => Ok(text.to_owned()),
        false => Err("is no region, as in us-east-1".to_owned()),
    }
}

/// A project of Google's cloud: an id, a number, or an older id with a domain before it.
pub(super) fn project(text: &str) -> Parsed<String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-.:".contains(&byte);
    match !text.is_empty() && text.bytes().all(allowed) && !text.starts_with('.') {
        true => Ok(text.to_owned()),
        false => Err("is no project, as in my-project-123".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_read_with_their_units() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("10"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("1h"), Ok(Duration::from_secs(3600)));
        for wrong in [
            "",
            "0",
            "0ms",
            "-1s",
            "10 s",
            "1d",
            "999999999h",
            "99999999999999999999s",
        ] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert_eq!(optional_duration("off"), Ok(None));
        assert_eq!(size("64KiB", 0, u64::MAX), Ok(65536));
        assert_eq!(size("2 GiB", 0, u64::MAX), Ok(2 << 30));
        for wrong in ["", "x", "1KB", "-1", "99999999999GiB"] {
            assert!(size(wrong, 0, u64::MAX).is_err(), "{wrong}");
        }
        assert!(size("5", 10, 20).is_err());
    }

    #[test]
    fn clear_text_stays_near() {
        for near in [
            "http://127.0.0.1:1",
            "http://10.1.2.3",
            "http://192.168.0.9",
            "http://[::1]:2",
            "http://[fd00::1]",
            "http://localhost:3",
            "https://example.com",
        ] {
            assert!(base_url(near, false).is_ok(), "{near}");
        }
        for far in [
            "http://example.com",
            "http://8.8.8.8",
            "http://[2001:db8::1]",
            "http://localhost.example.com",
        ] {
            assert!(
                base_url(far, false)
                    .expect_err(far)
                    .contains("allow_insecure")
            );
            assert!(base_url(far, true).is_ok());
        }
    }

    #[test]
    fn hosts() {
        let addresses = ["10.0.0.1", "::1"].map(|text| text.parse().expect("an address"));
        let read = host(" vLLM  10.0.0.1 ::1 ").expect("a host");
        assert_eq!(read, ("vllm".into(), addresses.to_vec()));
        for wrong in [
            "",
            "vllm",
            "10.0.0.1 10.0.0.2",
            "vllm other",
            "vllm 10.0.0.1:80",
        ] {
            assert!(host(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn proxies_and_ids() {
        assert_eq!(proxy("off"), Ok(None));
        assert!(proxy("http://127.0.0.1:3128").expect("a proxy").is_some());
        assert!(proxy("https://p").is_err() && proxy("http://p/path").is_err());
        assert!(
            id("a_B-9").is_ok()
                && id("").is_err()
                && id("a b").is_err()
                && id(&"x".repeat(65)).is_err()
        );
    }
}
