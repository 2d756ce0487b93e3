//! Latency histograms that merge without a loss: sixteen buckets for each power of two, so that a quantile is within 3.2 % of the
//! value.

use super::bytes::{read_varint, write_varint};

/// Microseconds, counted in buckets. Only buckets with something in them take room.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Latencies {
    /// Bucket and count, in the order of buckets.
    buckets: Vec<(u16, u64)>,
}

/// Linear buckets within a power of two, as a power of two.
const FINENESS: u32 = 4;
/// The largest value told apart, as a power of two: 19 hours.
const LARGEST: u32 = 36;

impl Latencies {
    /// Counts one value.
    pub fn record(&mut self, micros: u64) {
        self.add(bucket(micros), 1);
    }

    /// Counts all that another has counted.
    pub fn merge(&mut self, other: &Self) {
        for (bucket, count) in &other.buckets {
            self.add(*bucket, *count);
        }
    }

    /// How many values were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }

    /// The value below which the share `quantile` (0 to 1) of all values lies, in microseconds: the middle of its bucket.
    pub fn quantile(&self, quantile: f64) -> Option<u64> {
        let count = self.count();
        let rank = ((quantile.clamp(0.0, 1.0) * count as f64).ceil() as u64).max(1);
        let mut seen = 0;
        let found = self.buckets.iter().find(|(_, in_bucket)| {
            seen += in_bucket;
            seen >= rank
        });
        found.map(|(bucket, _)| middle(*bucket))
    }

    /// As bytes, for a database: LEB128 pairs of the distance to the bucket before and the count.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(3 * self.buckets.len());
        let mut last = 0;
        for (bucket, count) in &self.buckets {
            write_varint(&mut out, u64::from(bucket - last));
            write_varint(&mut out, *count);
            last = *bucket;
        }
        out
    }

    /// Reads [`Self::encode`]; `None` for bytes that it does not make.
    pub fn decode(mut bytes: &[u8]) -> Option<Self> {
        let mut buckets = Vec::new();
        let mut last = 0u16;
        while !bytes.is_empty() {
            let distance = u16::try_from(read_varint(&mut bytes)?).ok()?;
            let bucket = last.checked_add(distance)?;
            let rises = buckets.is_empty() || distance > 0;
            let count = read_varint(&mut bytes)?;
            if !rises || count == 0 || bucket > self::bucket(u64::MAX) {
                return None;
            }
            buckets.push((bucket, count));
            last = bucket;
        }
        Some(Self { buckets })
    }

    fn add(&mut self, bucket: u16, by: u64) {
        match self
            .buckets
            .binary_search_by_key(&bucket, |(bucket, _)| *bucket)
        {
            Ok(at) => self.buckets[at].1 = self.buckets[at].1.saturating_add(by),
            Err(at) => self.buckets.insert(at, (bucket, by)),
        }
    }
}

fn bucket(micros: u64) -> u16 {
    let value = micros.min((1 << LARGEST) - 1);
    if value < 1 << FINENESS {
        return value as u16;
    }
    let power = 63 - value.leading_zeros();
    let within = (value >> (power - FINENESS)) & ((1 << FINENESS) - 1);
    (u64::from((power - FINENESS + 1) << FINENESS) + within) as u16
}

fn middle(bucket: u16) -> u64 {
    let bucket = u64::from(bucket);
    if bucket < 1 << FINENESS {
        return bucket;
    }
    let power = (bucket >> FINENESS) - 1;
    let lowest = (1 << FINENESS | bucket & ((1 << FINENESS) - 1)) << power;
    lowest + (1 << power) / 2
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn buckets_rise_with_their_values() {
        let mut last = 0;
        for value in (0..100_000u64).chain((17..36).map(|power| 1 << power)) {
            let now = bucket(value);
            assert!(now >= last, "{value}");
            last = now;
        }
        assert_eq!(bucket(u64::MAX), bucket((1 << LARGEST) - 1));
        assert_eq!(Latencies::default().quantile(0.5), None);
    }

    proptest! {
        #[test]
        fn quantiles_are_close_and_merging_loses_nothing(
            values in proptest::collection::vec(0u64..1 << 34, 1..200),
            cut in 0usize..200,
            share in 0.0f64..=1.0,
        ) {
            let count = |values: &[u64]| {
                let mut latencies = Latencies::default();
                values.iter().for_each(|value| latencies.record(*value));
                latencies
            };
            let cut = cut.min(values.len());
            let mut merged = count(&values[..cut]);
            merged.merge(&count(&values[cut..]));
            let whole = count(&values);
            prop_assert_eq!(&merged, &whole);
            prop_assert_eq!(whole.count(), values.len() as u64);
            prop_assert_eq!(Latencies::decode(&whole.encode()), Some(whole.clone()));
            let mut sorted = values.clone();
            sorted.sort_unstable();
            let rank = ((share * values.len() as f64).ceil() as usize).max(1);
            let exact = sorted[rank - 1] as f64;
            let found = whole.quantile(share).expect("values") as f64;
            prop_assert!((found - exact).abs() <= exact * 0.032 + 1.0, "{found} for {exact}");
        }

        #[test]
        fn no_bytes_are_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Some(latencies) = Latencies::decode(&bytes) {
                prop_assert_eq!(Latencies::decode(&latencies.encode()), Some(latencies));
            }
        }
    }
}
