//! The figures that can be asked for (spec: control plane 10.2), made from cells.

use serde_json::{Value, json};

use crate::aggregate::{Cell, Latencies};

/// A figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Measure {
    Requests,
    Errors,
    ErrorRate,
    Cached,
    CacheHitRate,
    TokensIn,
    TokensOut,
    TokensCached,
    TokensReasoning,
    Cost,
    CostSaved,
    Unpriced,
    RateLimited,
    Blocked,
    Retries,
    Fallbacks,
    DurationAverage,
    Quantile(Latency, f64),
    ActiveUsers,
}

/// Of what a quantile is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Latency {
    /// The whole request.
    Duration,
    /// To the first byte for the client.
    FirstByte,
    /// The gateway's own share.
    Own,
    /// The wait for a connection.
    Connect,
    /// The provider's time to its first byte.
    Upstream,
}

use Latency as L;
use Measure::{self as M, Quantile as Q};

/// Every figure by its name.
pub(super) const MEASURES: [(&str, Measure); 36] = [
    ("requests", M::Requests),
    ("errors", M::Errors),
    ("error_rate", M::ErrorRate),
    ("cached", M::Cached),
    ("cache_hit_rate", M::CacheHitRate),
    ("tokens_in", M::TokensIn),
    ("tokens_out", M::TokensOut),
    ("tokens_cached", M::TokensCached),
    ("tokens_reasoning", M::TokensReasoning),
    ("cost", M::Cost),
    ("cost_saved", M::CostSaved),
    ("unpriced", M::Unpriced),
    ("rate_limited", M::RateLimited),
    ("blocked", M::Blocked),
    ("retries", M::Retries),
    ("fallbacks", M::Fallbacks),
    ("duration_avg", M::DurationAverage),
    ("duration_p50", Q(L::Duration, 0.5)),
    ("duration_p90", Q(L::Duration, 0.9)),
    ("duration_p95", Q(L::Duration, 0.95)),
    ("duration_p99", Q(L::Duration, 0.99)),
    ("ttft_p50", Q(L::FirstByte, 0.5)),
    ("ttft_p90", Q(L::FirstByte, 0.9)),
    ("ttft_p95", Q(L::FirstByte, 0.95)),
    ("ttft_p99", Q(L::FirstByte, 0.99)),
    ("overhead_p50", Q(L::Own, 0.5)),
    ("overhead_p90", Q(L::Own, 0.9)),
    ("overhead_p95", Q(L::Own, 0.95)),
    ("overhead_p99", Q(L::Own, 0.99)),
    ("connect_p50", Q(L::Connect, 0.5)),
    ("connect_p95", Q(L::Connect, 0.95)),
    ("connect_p99", Q(L::Connect, 0.99)),
    ("upstream_p50", Q(L::Upstream, 0.5)),
    ("upstream_p95", Q(L::Upstream, 0.95)),
    ("upstream_p99", Q(L::Upstream, 0.99)),
    ("active_users", M::ActiveUsers),
];

impl Measure {
    /// Of its name.
    pub fn parse(name: &str) -> Option<Self> {
        let found = MEASURES.iter().find(|(known, _)| *known == name);
        found.map(|(_, measure)| *measure)
    }

    /// Whether it is made of histograms.
    pub fn is_latency(self) -> bool {
        matches!(self, Self::Quantile(..))
    }

    /// Its value; `None` where there is nothing that it could be of. Times in milliseconds, costs in dollars.
    pub fn of(self, cell: &Cell, users: u64) -> Option<f64> {
        let share = |part: u64| (cell.requests > 0).then(|| part as f64 / cell.requests as f64);
        Some(match self {
            Self::Requests => cell.requests as f64,
            Self::Errors => cell.errors as f64,
            Self::ErrorRate => return share(cell.errors),
            Self::Cached => cell.cached as f64,
            Self::CacheHitRate => return share(cell.cached),
            Self::TokensIn => cell.tokens_in as f64,
            Self::TokensOut => cell.tokens_out as f64,
            Self::TokensCached => cell.cached_in.saturating_add(cell.cached_out) as f64,
            Self::TokensReasoning => cell.reasoning as f64,
            Self::Cost => cell.cost.dollars(),
            Self::CostSaved => cell.cost_saved.dollars(),
            Self::Unpriced => cell.unpriced as f64,
            Self::RateLimited => cell.rate_limited as f64,
            Self::Blocked => cell.blocked as f64,
            Self::Retries => cell.retries as f64,
            Self::Fallbacks => cell.fallbacks as f64,
            Self::DurationAverage => return share(cell.duration_sum).map(|micros| micros / 1e3),
            Self::Quantile(latency, quantile) => {
                let micros = latency.of(cell).quantile(quantile)?;
                micros as f64 / 1e3
            }
            Self::ActiveUsers => users as f64,
        })
    }

    /// As JSON: what is counted is a whole number.
    pub fn show(self, cell: &Cell, users: u64) -> Value {
        let is_whole = !matches!(
            self,
            Self::ErrorRate
                | Self::CacheHitRate
                | Self::Cost
                | Self::CostSaved
                | Self::DurationAverage
                | Self::Quantile(..)
        );
        match self.of(cell, users) {
            Some(value) if is_whole => json!(value as u64),
            value => json!(value),
        }
    }
}

impl Latency {
    fn of(self, cell: &Cell) -> &Latencies {
        match self {
            Self::Duration => &cell.duration,
            Self::FirstByte => &cell.first_byte,
            Self::Own => &cell.own,
            Self::Connect => &cell.connect,
            Self::Upstream => &cell.upstream,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meter::cost::Money;

    #[test]
    fn figures_are_told_in_their_units() {
        let mut cell = Cell {
            requests: 4,
            errors: 1,
            cost: Money(1_500_000_000_000),
            duration_sum: 8000,
            cached_in: 3,
            cached_out: 4,
            ..Cell::default()
        };
        cell.own.record(40);
        let of = |name: &str| Measure::parse(name).expect("a figure").show(&cell, 2);
        assert_eq!(of("requests"), json!(4));
        assert_eq!(of("error_rate"), json!(0.25));
        assert_eq!(of("cost"), json!(1.5));
        assert_eq!(of("duration_avg"), json!(2.0));
        assert_eq!(of("overhead_p99"), json!(0.041));
        assert_eq!(of("upstream_p99"), Value::Null);
        assert_eq!(of("tokens_cached"), json!(7));
        assert_eq!(of("active_users"), json!(2));
        assert_eq!(
            Measure::ErrorRate.show(&Cell::default(), 0),
            Value::Null,
            "of nothing"
        );
        assert_eq!(Measure::parse("cost_"), None);
    }
}
