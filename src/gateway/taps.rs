//! Those who read an answer beside its way to the client.

use super::recall::Storing;
use crate::meter::Meter;
use crate::record::{CapturedBody, Record};

/// Each gets every run of the provider's payload, or of what the client gets, as it goes by. One who is not there costs a
/// comparison a run.
pub(super) struct Taps<'a> {
    received: &'a mut u64,
    meter: Option<&'a mut Meter>,
    log: Option<&'a mut CapturedBody>,
    cache: Option<&'a mut Storing>,
}

impl<'a> Taps<'a> {
    /// The meter and the cache, where the answer has such, and the log, where the body is kept: what was read of an answer that
    /// breaks off is in the record all the same.
    pub fn new(
        record: &'a mut Record,
        meter: Option<&'a mut Meter>,
        cache: Option<&'a mut Storing>,
    ) -> Self {
        Self {
            received: &mut record.response_bytes,
            meter,
            log: kept(&mut record.log),
            cache,
        }
    }

    /// A run of the payload.
    #[inline]
    pub fn feed(&mut self, run: &[u8]) {
        *self.received += run.len() as u64;
        if let Some(meter) = &mut self.meter {
            meter.feed(run);
        }
        if let Some(log) = &mut self.log {
            log.copy(run);
        }
        if let Some(cache) = &mut self.cache {
            cache.feed(run);
        }
    }
}

/// The answer's body in a log entry, where more of it is to be kept.
fn kept(log: &mut Option<Box<crate::record::Logged>>) -> Option<&mut CapturedBody> {
    let captured = log.as_mut()?.captured.as_mut()?;
    Some(&mut captured.response).filter(|body| body.is_wanted())
}
