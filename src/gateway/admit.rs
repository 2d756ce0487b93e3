//! Phase 4 and the part of phase 7 that is like it: how many requests there may be in a time (spec: data plane 5).

use super::Thread;
use super::credential::Paying;
use super::error::GatewayError;
use super::settle::Settle;
use crate::snapshot::Gateway;
use crate::tables::rate::{Limit, Verdict};

/// The gateway's own limit, once a request: what is answered from the cache counts, what is refused does not.
#[inline]
pub(super) fn admit(
    thread: &Thread,
    gateway: &Gateway,
    settle: &mut Settle<'_>,
) -> Result<(), GatewayError> {
    match &gateway.rate {
        Some(limit) => within(thread, limit, "rate_limit", settle),
        None => Ok(()),
    }
}

/// The limit of the stored key that pays (control plane 6.1, resolutions 13).
#[inline]
pub(super) fn admit_key(
    thread: &Thread,
    paying: &Paying,
    settle: &mut Settle<'_>,
) -> Result<(), GatewayError> {
    match paying {
        Paying::Stored(key) => match &key.rate {
            Some(limit) => within(thread, limit, "key_rate_limit", settle),
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

fn within(
    thread: &Thread,
    limit: &Limit,
    rule: &'static str,
    settle: &mut Settle<'_>,
) -> Result<(), GatewayError> {
    let ledger = &thread.shared.ledger;
    let verdict = limit.admit(&ledger.rates, ledger.now());
    let outcome = match verdict {
        Verdict::Admitted { .. } => "admitted",
        Verdict::Refused { .. } => "refused",
    };
    settle.decided(rule, outcome, || {
        let wait = match verdict {
            Verdict::Admitted { .. } => 0,
            Verdict::Refused { wait, .. } => wait.as_millis() as u64,
        };
        [
            ("limit", limit.limit().into()),
            ("used", verdict.used().into()),
            ("window_ms", limit.window().length().into()),
            ("technique", limit.window().technique().as_str().into()),
            ("retry_after_ms", wait.into()),
        ]
    });
    match verdict {
        Verdict::Admitted { .. } => Ok(()),
        Verdict::Refused { wait, .. } => Err(GatewayError::rate_limited(wait)),
    }
}
