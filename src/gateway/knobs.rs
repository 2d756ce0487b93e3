//! How often and how patiently a step is tried (spec: data plane 2.1, 6.1 and 6.2).

use std::time::Duration;

use crate::http::RequestHead;
use crate::limits::{RETRY_DELAY_MAX, TRIES_MAX};
use crate::snapshot::{Backoff, RetrySettings};

/// What a request's head, else its gateway, says about the tries of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Knobs {
    /// How long the answer's head may take (`cf-aig-request-timeout`).
    pub timeout: Option<Duration>,
    /// Tries in all: 1 is no retry (`cf-aig-max-attempts`).
    pub tries: u8,
    delay: Duration,
    backoff: Backoff,
    jitter: bool,
}

impl Knobs {
    /// Numbers out of their range are brought to its nearest end; what cannot be read counts as absent.
    pub fn of(head: &RequestHead, settings: &RetrySettings) -> Self {
        let tries = number(head, "cf-aig-max-attempts");
        let tries = tries.map_or(settings.tries, |tries| {
            tries.clamp(1, TRIES_MAX.into()) as u8
        });
        let knobs = Self {
            timeout: request_timeout(head),
            tries,
            delay: settings.delay,
            backoff: settings.backoff,
            jitter: settings.jitter,
        };
        // Most requests are tried once and need not be asked about pauses.
        match tries {
            1 => knobs,
            _ => knobs.with_pauses(head),
        }
    }

    /// With tries and a timeout that are named elsewhere.
    pub fn tried(self, head: &RequestHead, tries: u8, timeout: Option<Duration>) -> Self {
        Self {
            tries,
            timeout,
            ..self.with_pauses(head)
        }
    }

    fn with_pauses(self, head: &RequestHead) -> Self {
        let delay = number(head, "cf-aig-retry-delay").map(|delay| {
            Duration::from_millis(u64::try_from(delay).unwrap_or(0)).min(RETRY_DELAY_MAX)
        });
        let backoff = head.header("cf-aig-backoff").and_then(|name| {
            let name = std::str::from_utf8(name).ok()?;
            Backoff::parse(name.trim())
        });
        Self {
            delay: delay.unwrap_or(self.delay),
            backoff: backoff.unwrap_or(self.backoff),
            ..self
        }
    }

    /// The pause before retry `retry`, counted from 1; `random` is any number, the same for nobody else.
    pub fn pause(&self, retry: u8, random: u64) -> Duration {
        let factor = match self.backoff {
            Backoff::Constant => 1,
            Backoff::Linear => u32::from(retry),
            Backoff::Exponential => 1 << u32::from(retry.saturating_sub(1)).min(31),
        };
        let pause = self.delay.saturating_mul(factor).min(RETRY_DELAY_MAX);
        match self.jitter {
            false => pause,
            true => {
                let half = pause / 2;
                let range = half.as_nanos() as u64 + 1;
                half + Duration::from_nanos(mixed(random) % range)
            }
        }
    }
}

/// Milliseconds to the answer's head; 0, negative and unreadable values count as absent (resolutions 11).
fn request_timeout(head: &RequestHead) -> Option<Duration> {
    let milliseconds = number(head, "cf-aig-request-timeout").filter(|value| *value > 0)?;
    Some(Duration::from_millis(milliseconds as u64))
}

fn number(head: &RequestHead, name: &str) -> Option<i64> {
    let text = std::str::from_utf8(head.header(name)?).ok()?;
    text.trim().parse().ok()
}

/// Spreads a number over all of its bits (Steele, Lea and Flood's SplitMix64).
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::http::HeadLimits;

    fn knobs(headers: &str, settings: RetrySettings) -> Knobs {
        let text = format!("POST / HTTP/1.1\r\nhost: a\r\n{headers}\r\n");
        let mut bytes = BytesMut::from(&*text);
        let head = RequestHead::take(&mut bytes, &mut 0, &HeadLimits::default());
        Knobs::of(&head.expect("a head").expect("whole"), &settings)
    }

    #[test]
    fn headers_stand_above_the_gateway_and_are_brought_into_their_range() {
        let gateway = RetrySettings {
            tries: 3,
            delay: Duration::from_millis(100),
            backoff: Backoff::Linear,
            jitter: false,
        };
        let ms = Duration::from_millis;
        for (headers, tries, second, timeout) in [
            ("", 3, ms(200), None),
            ("cf-aig-max-attempts: 5\r\n", 5, ms(200), None),
            ("cf-aig-max-attempts: 99\r\n", 5, ms(200), None),
            ("cf-aig-max-attempts: -1\r\n", 1, ms(200), None),
            ("cf-aig-max-attempts: two\r\n", 3, ms(200), None),
            ("cf-aig-retry-delay: 40\r\n", 3, ms(80), None),
            ("cf-aig-retry-delay: 0\r\n", 3, ms(0), None),
            ("cf-aig-retry-delay: 70000\r\n", 3, ms(60_000), None),
            ("cf-aig-backoff: Constant\r\n", 3, ms(100), None),
            ("cf-aig-backoff: sideways\r\n", 3, ms(200), None),
            ("cf-aig-request-timeout: 7\r\n", 3, ms(200), Some(ms(7))),
            ("cf-aig-request-timeout: 0\r\n", 3, ms(200), None),
            ("cf-aig-request-timeout: -7\r\n", 3, ms(200), None),
            ("cf-aig-request-timeout: 7s\r\n", 3, ms(200), None),
        ] {
            let knobs = knobs(headers, gateway);
            assert_eq!(
                (knobs.tries, knobs.pause(2, 0), knobs.timeout),
                (tries, second, timeout),
                "{headers}"
            );
        }
    }

    #[test]
    fn pauses_grow_as_named_up_to_a_minute() {
        let pauses = |name: &str, delay: u64| {
            let headers = format!(
                "cf-aig-max-attempts: 5\r\ncf-aig-backoff: {name}\r\ncf-aig-retry-delay: {delay}\r\n"
            );
            let knobs = knobs(&headers, RetrySettings::default());
            [1, 2, 3, 4].map(|retry| knobs.pause(retry, 9).as_millis())
        };
        assert_eq!(pauses("constant", 500), [500; 4]);
        assert_eq!(pauses("linear", 500), [500, 1000, 1500, 2000]);
        assert_eq!(pauses("exponential", 500), [500, 1000, 2000, 4000]);
        assert_eq!(
            pauses("exponential", 20_000),
            [20_000, 40_000, 60_000, 60_000]
        );
        let default = knobs("cf-aig-max-attempts: 2\r\n", RetrySettings::default());
        assert_eq!(default.pause(1, 0), Duration::from_millis(500));
    }

    #[test]
    fn jitter_draws_from_the_upper_half_of_a_pause() {
        let settings = RetrySettings {
            tries: 2,
            jitter: true,
            ..RetrySettings::default()
        };
        let knobs = knobs("", settings);
        let drawn: Vec<u128> = (0..1000).map(|n| knobs.pause(1, n).as_millis()).collect();
        assert!(drawn.iter().all(|pause| (250..=500).contains(pause)));
        let early = drawn.iter().filter(|pause| **pause < 375).count();
        assert!((400..600).contains(&early), "{early}");
    }
}
