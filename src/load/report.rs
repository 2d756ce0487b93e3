//! Counting, and what is told at the end.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

/// What one thread, or all, measured.
pub(super) struct Tally {
    requests: u64,
    errors: BTreeMap<String, u64>,
    events: u64,
    bytes: u64,
    latency: Histogram<u64>,
    first_byte: Histogram<u64>,
    first_event: Histogram<u64>,
    gap: Histogram<u64>,
    delay: Histogram<u64>,
    /// When the first and the last outcome came.
    span: Option<(Instant, Instant)>,
}

/// One answered request.
#[derive(Default)]
pub(super) struct Sample {
    pub latency: Duration,
    pub first_byte: Duration,
    pub first_event: Option<Duration>,
    pub gaps: Vec<u64>,
    pub delays: Vec<u64>,
    pub events: u64,
    pub bytes: u64,
}

/// The outcome of a run. Times are in microseconds.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Seconds that were counted.
    pub seconds: f64,
    /// Requests answered whole.
    pub requests: u64,
    /// Requests answered whole, a second.
    pub rate: f64,
    /// The rate asked for, where the loop was open.
    pub asked_rate: Option<f64>,
    /// Failures by kind.
    pub errors: BTreeMap<String, u64>,
    /// Server-sent events received.
    pub events: u64,
    /// Body bytes received.
    pub bytes: u64,
    /// To the last byte; in the open loop from the moment a request was due.
    pub latency_us: Percentiles,
    /// To the end of the answer's head, likewise.
    pub first_byte_us: Percentiles,
    /// To the end of the first event.
    pub first_event_us: Percentiles,
    /// Between two events of a stream.
    pub event_gap_us: Percentiles,
    /// From the moment an event was due to its arrival, where the server is on this machine and stamps them (the
    /// simulator's directive `stamp`).
    pub event_delay_us: Percentiles,
}

/// A distribution.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs)]
pub struct Percentiles {
    pub count: u64,
    pub mean: f64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p999: u64,
    pub max: u64,
}

impl Default for Tally {
    fn default() -> Self {
        // Up to an hour, with three digits.
        let histogram =
            || Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("bounds in order");
        Self {
            requests: 0,
            errors: BTreeMap::new(),
            events: 0,
            bytes: 0,
            latency: histogram(),
            first_byte: histogram(),
            first_event: histogram(),
            gap: histogram(),
            delay: histogram(),
            span: None,
        }
    }
}

impl Tally {
    pub fn answered(&mut self, sample: &Sample) {
        self.requests += 1;
        self.mark();
        self.events += sample.events;
        self.bytes += sample.bytes;
        record(&mut self.latency, sample.latency);
        record(&mut self.first_byte, sample.first_byte);
        if let Some(first) = sample.first_event {
            record(&mut self.first_event, first);
        }
        for gap in &sample.gaps {
            self.gap.saturating_record(*gap);
        }
        for delay in &sample.delays {
            self.delay.saturating_record(*delay);
        }
    }

    pub fn failed(&mut self, kind: String) {
        self.mark();
        *self.errors.entry(kind).or_default() += 1;
    }

    fn mark(&mut self) {
        let now = Instant::now();
        self.span = Some((self.span.map_or(now, |(first, _)| first), now));
    }

    /// The time that the outcomes took. A run in `begin..end` that went to its end took that long; where its answers were
    /// spread over longer, a server that did not keep up took as long as that. One that ended early took until its last answer.
    pub fn time(&self, begin: Instant, end: Instant, now: Instant) -> Duration {
        let Some((first, last)) = self.span else {
            return now.min(end).saturating_duration_since(begin);
        };
        let ended = if now < end { last } else { end };
        let run = ended.saturating_duration_since(begin);
        run.max(last.saturating_duration_since(first))
    }

    pub fn add(&mut self, other: &Self) {
        self.span = match (self.span, other.span) {
            (Some(mine), Some(theirs)) => Some((mine.0.min(theirs.0), mine.1.max(theirs.1))),
            (mine, theirs) => mine.or(theirs),
        };
        self.requests += other.requests;
        self.events += other.events;
        self.bytes += other.bytes;
        for (kind, count) in &other.errors {
            *self.errors.entry(kind.clone()).or_default() += count;
        }
        for (mine, theirs) in [
            (&mut self.latency, &other.latency),
            (&mut self.first_byte, &other.first_byte),
            (&mut self.first_event, &other.first_event),
            (&mut self.gap, &other.gap),
            (&mut self.delay, &other.delay),
        ] {
            mine.add(theirs).expect("equal bounds");
        }
    }

    pub fn report(&self, counted: Duration, asked_rate: Option<f64>) -> Report {
        let seconds = counted.as_secs_f64();
        Report {
            seconds,
            requests: self.requests,
            rate: if seconds > 0.0 {
                self.requests as f64 / seconds
            } else {
                0.0
            },
            asked_rate,
            errors: self.errors.clone(),
            events: self.events,
            bytes: self.bytes,
            latency_us: percentiles(&self.latency),
            first_byte_us: percentiles(&self.first_byte),
            first_event_us: percentiles(&self.first_event),
            event_gap_us: percentiles(&self.gap),
            event_delay_us: percentiles(&self.delay),
        }
    }
}

fn record(histogram: &mut Histogram<u64>, value: Duration) {
    histogram.saturating_record(value.as_micros() as u64);
}

fn percentiles(histogram: &Histogram<u64>) -> Percentiles {
    Percentiles {
        count: histogram.len(),
        mean: if histogram.is_empty() {
            0.0
        } else {
            histogram.mean()
        },
        p50: histogram.value_at_quantile(0.5),
        p90: histogram.value_at_quantile(0.9),
        p99: histogram.value_at_quantile(0.99),
        p999: histogram.value_at_quantile(0.999),
        max: histogram.max(),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} requests in {:.1} s: {:.0} a second",
            self.requests, self.seconds, self.rate
        )?;
        if let Some(asked) = self.asked_rate {
            writeln!(f, "asked for {asked:.0} a second")?;
        }
        let lines = [
            ("latency", &self.latency_us),
            ("first byte", &self.first_byte_us),
            ("first event", &self.first_event_us),
            ("event gap", &self.event_gap_us),
            ("event delay", &self.event_delay_us),
        ];
        if self.requests > 0 {
            writeln!(
                f,
                "{:12} {:>9} {:>9} {:>9} {:>9} {:>9}  (us)",
                "", "p50", "p90", "p99", "p99.9", "max"
            )?;
        }
        for (name, values) in lines.into_iter().filter(|(_, values)| values.count > 0) {
            let Percentiles {
                p50,
                p90,
                p99,
                p999,
                max,
                ..
            } = values;
            writeln!(f, "{name:12} {p50:>9} {p90:>9} {p99:>9} {p999:>9} {max:>9}")?;
        }
        if self.events > 0 {
            writeln!(f, "{} events, {} bytes", self.events, self.bytes)?;
        }
        for (kind, count) in &self.errors {
            writeln!(f, "error: {kind}: {count}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_run_is_that_of_its_answers() {
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        let time = |span: Option<(u64, u64)>, now| {
            let tally = Tally {
                span: span.map(|(first, last)| (at(first), at(last))),
                ..Tally::default()
            };
            tally.time(begin, at(1000), at(now)).as_millis()
        };
        // On time, with answers of 200 ms: the last of them come after the end.
        assert_eq!(time(Some((200, 1200)), 1200), 1000);
        // A server that does not keep up.
        assert_eq!(time(Some((200, 6200)), 6200), 6000);
        // A bounded number of requests.
        assert_eq!(time(Some((200, 300)), 310), 300);
        // Answers that stopped coming, or never came.
        assert_eq!(time(Some((200, 300)), 1200), 1000);
        assert_eq!(time(None, 5000), 1000);
    }
}
