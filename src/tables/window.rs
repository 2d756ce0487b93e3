//! Windows of time, and what was counted in them.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::time::Duration;

use crate::limits::{CLOCK_LAG, SLIDING_PARTS, WINDOW_MAX};
use crate::meter::cost::Money;
pub use crate::route::Technique;

/// A stretch of time for which something is limited. Moments are milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    technique: Technique,
    /// Milliseconds, 1 at least.
    length: u64,
}

impl Window {
    /// Of a length between a millisecond and [`WINDOW_MAX`].
    pub fn new(technique: Technique, length: Duration) -> Self {
        Self {
            technique,
            length: (length.min(WINDOW_MAX).as_millis() as u64).max(1),
        }
    }

    /// By the clock, or back from now.
    pub fn technique(self) -> Technique {
        self.technique
    }

    /// Its length, milliseconds.
    pub fn length(self) -> u64 {
        self.length
    }

    /// The length of a bucket: what falls into one bucket is forgotten at one moment.
    fn grain(self) -> u64 {
        match self.technique {
            Technique::Fixed => self.length,
            Technique::Sliding => self.length.div_ceil(SLIDING_PARTS),
        }
    }

    /// The bucket of a moment.
    pub(super) fn bucket(self, now: u64) -> u64 {
        now / self.grain()
    }

    /// The first bucket that counts at a moment. A sliding window's first one may begin before the window does, so that there
    /// is never too much in it.
    fn first(self, now: u64) -> u64 {
        match self.technique {
            Technique::Fixed => now / self.length,
            Technique::Sliding => now.saturating_sub(self.length) / self.grain(),
        }
    }

    /// The moment at which a bucket no longer counts.
    pub(super) fn end(self, bucket: u64) -> u64 {
        let end = bucket.saturating_add(1).saturating_mul(self.grain());
        match self.technique {
            Technique::Fixed => end,
            Technique::Sliding => end.saturating_add(self.length),
        }
    }

    /// The newest bucket that a counter may be in at a moment: threads read the clock before they count, and the other one may
    /// have waited in between. A later bucket is from before the clock was set back.
    pub(super) fn newest(self, now: u64) -> u64 {
        let lag = CLOCK_LAG.as_millis() as u64;
        self.bucket(now.saturating_add(lag.max(self.length)))
    }
}

/// What is counted.
pub trait Amount: Copy + Ord + Default + Debug {
    /// The sum.
    fn plus(self, other: Self) -> Self;
    /// What is left, at least nothing.
    fn less(self, other: Self) -> Self;
}

impl Amount for u64 {
    fn plus(self, other: Self) -> Self {
        self.saturating_add(other)
    }

    fn less(self, other: Self) -> Self {
        self.saturating_sub(other)
    }
}

impl Amount for Money {
    fn plus(self, other: Self) -> Self {
        self + other
    }

    fn less(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0).max(0))
    }
}

/// What was counted in a window, by bucket: at most [`SLIDING_PARTS`] and one, and only those in which there was something.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Log<A> {
    /// Buckets in their order, none empty.
    buckets: VecDeque<(u64, A)>,
    total: A,
}

impl<A: Amount> Log<A> {
    /// Of what was kept.
    pub fn of(buckets: impl IntoIterator<Item = (u64, A)>) -> Self {
        let mut buckets: Vec<(u64, A)> = buckets.into_iter().collect();
        buckets.sort_unstable_by_key(|(bucket, _)| *bucket);
        let mut log = Self::default();
        for (bucket, amount) in buckets {
            log.put(bucket, amount);
        }
        log
    }

    /// Its buckets.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, A)> {
        self.buckets.iter().copied()
    }

    /// What counts at a moment.
    pub fn total(&mut self, window: Window, now: u64) -> A {
        self.advance(window, now);
        self.total
    }

    /// Counts.
    pub fn add(&mut self, window: Window, now: u64, amount: A) {
        let bucket = self.advance(window, now);
        self.put(bucket, amount);
    }

    /// The moment from which on less than `limit` counts, if nothing is added.
    pub fn below(&self, window: Window, limit: A) -> u64 {
        let mut left = self.total;
        for &(bucket, amount) in &self.buckets {
            left = left.less(amount);
            if left < limit {
                return window.end(bucket);
            }
        }
        0
    }

    /// The moment from which on nothing counts.
    pub fn end(&self, window: Window) -> u64 {
        let newest = self.buckets.back();
        newest.map_or(0, |(bucket, _)| window.end(*bucket))
    }

    /// Takes what still counts over into another window, as if all of it were of now.
    pub fn reshape(&mut self, from: Window, to: Window, now: u64) {
        let total = self.total(from, now);
        *self = Self::default();
        self.add(to, now, total);
    }

    /// Forgets what no longer counts; the bucket in which is counted now.
    fn advance(&mut self, window: Window, now: u64) -> u64 {
        let mut now = now;
        if let Some(&(newest, _)) = self.buckets.back() {
            match newest > window.newest(now) {
                true => *self = Self::default(),
                // Time does not go back: neither does what has been forgotten come again.
                false => now = now.max(newest * window.grain()),
            }
        }
        let first = window.first(now);
        while let Some(&(bucket, amount)) = self.buckets.front()
            && bucket < first
        {
            self.buckets.pop_front();
            self.total = self.total.less(amount);
        }
        window.bucket(now)
    }

    fn put(&mut self, bucket: u64, amount: A) {
        if amount == A::default() {
            return;
        }
        self.total = self.total.plus(amount);
        match self.buckets.back_mut() {
            Some((newest, sum)) if *newest == bucket => *sum = sum.plus(amount),
            _ => self.buckets.push_back((bucket, amount)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Counts of a limited log at moments; the moments that were admitted, in order.
    fn admitted(window: Window, limit: u64, moments: &[u64]) -> Vec<u64> {
        let mut log = Log::<u64>::default();
        let mut taken = Vec::new();
        for &now in moments {
            if log.total(window, now) < limit {
                log.add(window, now, 1);
                taken.push(now);
            }
        }
        taken
    }

    fn moments() -> impl Strategy<Value = Vec<u64>> {
        let gaps = prop::collection::vec(prop_oneof![0..3u64, 0..200u64, 0..5000u64], 1..400);
        (0..10_000_000u64, gaps).prop_map(|(begin, gaps)| {
            let next = |now: &mut u64, gap| {
                *now += gap;
                Some(*now)
            };
            gaps.into_iter().scan(begin, next).collect()
        })
    }

    proptest! {
        #[test]
        fn a_sliding_window_never_holds_more_than_the_limit(
            length in 1..20_000u64, limit in 1..20u64, moments in moments(),
        ) {
            let window = Window::new(Technique::Sliding, Duration::from_millis(length));
            let taken = admitted(window, limit, &moments);
            for (index, &last) in taken.iter().enumerate() {
                let within = taken[..=index].iter().filter(|&&moment| moment + length > last);
                prop_assert!(within.count() as u64 <= limit);
            }
        }

        #[test]
        fn what_it_refuses_would_not_have_fitted_into_a_window_longer_by_two_percent(
            length in 1000..20_000u64, limit in 1..20u64, moments in moments(),
        ) {
            let window = Window::new(Technique::Sliding, Duration::from_millis(length));
            let mut log = Log::<u64>::default();
            let mut taken: Vec<u64> = Vec::new();
            for &now in &moments {
                let longer = length + length / 50;
                let within = taken.iter().filter(|&&moment| moment + longer > now).count() as u64;
                match log.total(window, now) < limit {
                    true => {
                        log.add(window, now, 1);
                        taken.push(now);
                    }
                    false => prop_assert!(within >= limit),
                }
            }
        }

        #[test]
        fn a_fixed_window_holds_exactly_the_limit(
            length in 1..20_000u64, limit in 1..20u64, moments in moments(),
        ) {
            let window = Window::new(Technique::Fixed, Duration::from_millis(length));
            let mut reference = std::collections::HashMap::new();
            let mut expected = Vec::new();
            for &now in &moments {
                let count = reference.entry(now / length).or_insert(0);
                if *count < limit {
                    *count += 1;
                    expected.push(now);
                }
            }
            prop_assert_eq!(admitted(window, limit, &moments), expected);
        }

        #[test]
        fn the_wait_told_is_the_wait_needed(
            sliding: bool, length in 1..20_000u64, limit in 1..20u64, moments in moments(),
        ) {
            let technique = if sliding { Technique::Sliding } else { Technique::Fixed };
            let window = Window::new(technique, Duration::from_millis(length));
            let mut log = Log::<u64>::default();
            for &now in &moments {
                if log.total(window, now) < limit {
                    log.add(window, now, 1);
                    continue;
                }
                let below = log.below(window, limit);
                prop_assert!(below > now);
                prop_assert!(log.clone().total(window, below) < limit);
                prop_assert!(log.clone().total(window, below - 1) >= limit);
            }
        }

        #[test]
        fn a_log_stays_small_and_comes_back_from_its_buckets(
            sliding: bool, length in 1..20_000u64, moments in moments(),
        ) {
            let technique = if sliding { Technique::Sliding } else { Technique::Fixed };
            let window = Window::new(technique, Duration::from_millis(length));
            let mut log = Log::<u64>::default();
            for &now in &moments {
                log.add(window, now, 3);
                prop_assert!(log.buckets.len() as u64 <= SLIDING_PARTS + 1);
                prop_assert_eq!(&Log::of(log.buckets()), &log);
            }
            let end = log.end(window);
            prop_assert_eq!(log.clone().total(window, end), 0);
            prop_assert!(log.total(window, end - 1) > 0);
        }
    }

    #[test]
    fn a_clock_that_was_set_back_blocks_nobody_for_long() {
        for technique in [Technique::Fixed, Technique::Sliding] {
            let window = Window::new(technique, Duration::from_secs(60));
            let day = 86_400_000;
            let mut log = Log::<u64>::default();
            log.add(window, 100 * day, 5);
            // A moment that another thread read shortly before.
            assert_eq!(log.total(window, 100 * day - 10), 5);
            assert_eq!(log.total(window, 99 * day), 0);
            log.add(window, 99 * day, 2);
            assert_eq!(log.total(window, 99 * day + 1), 2);
        }
    }

    #[test]
    fn what_counts_goes_along_into_another_window() {
        let hour = Window::new(Technique::Sliding, Duration::from_secs(3600));
        let day = Window::new(Technique::Fixed, Duration::from_secs(86_400));
        let now = 1_000_000_000_000;
        let mut log = Log::<Money>::default();
        log.add(hour, now - 7_200_000, Money(100));
        log.add(hour, now - 600_000, Money(7));
        log.add(hour, now, Money(3));
        log.reshape(hour, day, now);
        assert_eq!(log.total(day, now + 1), Money(10));
    }

    #[test]
    fn the_longest_window_does_not_overflow() {
        let window = Window::new(Technique::Sliding, Duration::MAX);
        let mut log = Log::<u64>::default();
        log.add(window, u64::MAX / 2, 1);
        assert_eq!(log.total(window, u64::MAX / 2), 1);
        assert!(log.end(window) > u64::MAX / 2);
    }
}
