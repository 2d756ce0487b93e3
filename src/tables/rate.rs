//! So many requests in a time: exact over all threads.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use super::key::{Key, Name};
use super::keyed::{Changed, Kept, Mark, Table, lock};
use super::ledger::{Row, Unit};
use super::window::{Log, Technique, Window};

/// What a limit says about one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It may go on, and is counted.
    Admitted {
        /// What counts now, this request included.
        used: u64,
    },
    /// It may not, and is not counted.
    Refused {
        /// What counts now.
        used: u64,
        /// How long until one more may go on.
        wait: Duration,
    },
}

impl Verdict {
    /// Whether the request may go on.
    pub fn is_admitted(self) -> bool {
        matches!(self, Self::Admitted { .. })
    }

    /// What counts now.
    pub fn used(self) -> u64 {
        match self {
            Self::Admitted { used } | Self::Refused { used, .. } => used,
        }
    }
}

/// Counts requests in a window. Limits point to it, so that the count outlives a change of the limit.
pub struct Counter {
    name: Name,
    window: Window,
    count: Count,
    mark: Mark,
    changed: Arc<Changed<Counter>>,
}

/// A word suffices where only one window counts. The other one is locked for as long as it takes to count: a thread may have to
/// wait for that, which it would as well for the word's line of memory.
enum Count {
    Fixed(AtomicU64),
    Sliding(Mutex<Log<u64>>),
}

impl std::fmt::Debug for Counter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Counter").finish_non_exhaustive()
    }
}

impl Counter {
    fn new(name: Name, window: Window, log: Log<u64>, changed: Arc<Changed<Self>>) -> Self {
        let count = match window.technique() {
            Technique::Fixed => {
                let newest = log.buckets().last();
                let packing = Packing::of(window);
                let packed = newest.map_or(0, |(bucket, count)| packing.pack(bucket, count));
                Count::Fixed(AtomicU64::new(packed))
            }
            Technique::Sliding => Count::Sliding(Mutex::new(log)),
        };
        Self {
            name,
            window,
            count,
            mark: Mark::default(),
            changed,
        }
    }

    /// The window in which it counts.
    pub fn window(&self) -> Window {
        self.window
    }

    /// Counts a request if less than `limit` count at `now`. However many ask at once, no more than that are admitted.
    #[inline]
    pub fn admit(self: &Arc<Self>, limit: u64, now: u64) -> Verdict {
        let verdict = match &self.count {
            Count::Fixed(word) => admit_packed(word, self.window, limit, now),
            Count::Sliding(log) => admit_logged(&mut lock(log), self.window, limit, now),
        };
        if verdict.is_admitted() {
            self.mark.set(self, &self.changed);
        }
        verdict
    }

    /// What counts at a moment.
    pub fn used(&self, now: u64) -> u64 {
        match &self.count {
            Count::Fixed(word) => {
                let packing = Packing::of(self.window);
                packing.at(word.load(Ordering::SeqCst), now).1
            }
            Count::Sliding(log) => lock(log).total(self.window, now),
        }
    }

    fn log(&self) -> Log<u64> {
        match &self.count {
            Count::Fixed(word) => {
                let (bucket, count) = Packing::of(self.window).unpack(word.load(Ordering::SeqCst));
                Log::of([(bucket, count)])
            }
            Count::Sliding(log) => lock(log).clone(),
        }
    }

    /// What is kept of it; what changes from now on is listed anew.
    pub(super) fn row(&self) -> Row {
        self.mark.clear();
        let log = self.log();
        Row {
            name: self.name,
            unit: Unit::Requests,
            window: self.window,
            buckets: log
                .buckets()
                .map(|(bucket, count)| (bucket, i128::from(count)))
                .collect(),
            until: log.end(self.window),
        }
    }
}

impl Kept for Counter {
    fn name(&self) -> Name {
        self.name
    }

    fn is_over(&self, now: u64) -> bool {
        self.used(now) == 0
    }
}

fn admit_packed(word: &AtomicU64, window: Window, limit: u64, now: u64) -> Verdict {
    let packing = Packing::of(window);
    let limit = limit.min(packing.most());
    let mut packed = word.load(Ordering::SeqCst);
    loop {
        let (bucket, used) = packing.at(packed, now);
        if used >= limit {
            let wait = window.end(bucket).saturating_sub(now);
            return Verdict::Refused {
                used,
                wait: Duration::from_millis(wait),
            };
        }
        let next = packing.pack(bucket, used + 1);
        match word.compare_exchange_weak(packed, next, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => return Verdict::Admitted { used: used + 1 },
            Err(other) => packed = other,
        }
    }
}

fn admit_logged(log: &mut Log<u64>, window: Window, limit: u64, now: u64) -> Verdict {
    let used = log.total(window, now);
    if used < limit {
        log.add(window, now, 1);
        return Verdict::Admitted { used: used + 1 };
    }
    let wait = log.below(window, limit).saturating_sub(now);
    Verdict::Refused {
        used,
        wait: Duration::from_millis(wait),
    }
}

/// A fixed window's number and count in one word: the shorter the window, the more bits its number needs and the fewer its
/// count. The number reaches to the year 4199, the count to 260 requests a microsecond.
#[derive(Clone, Copy)]
struct Packing {
    window: Window,
    count_bits: u32,
}

impl Packing {
    fn of(window: Window) -> Self {
        Self {
            window,
            count_bits: 18 + window.length().ilog2().min(45),
        }
    }

    fn most(self) -> u64 {
        (1 << self.count_bits) - 1
    }

    fn pack(self, bucket: u64, count: u64) -> u64 {
        bucket << self.count_bits | count.min(self.most())
    }

    fn unpack(self, packed: u64) -> (u64, u64) {
        (packed >> self.count_bits, packed & self.most())
    }

    /// In which window is counted at a moment, and how much is in it.
    fn at(self, packed: u64, now: u64) -> (u64, u64) {
        let (bucket, count) = self.unpack(packed);
        let current = self.window.bucket(now);
        match bucket >= current && bucket <= self.window.newest(now) {
            true => (bucket, count),
            false => (current, 0),
        }
    }
}

/// A limit as it is set: its counter is found once, and goes on where the limit changes.
#[derive(Debug)]
pub struct Limit {
    key: Key,
    limit: u64,
    window: Window,
    counter: OnceLock<Arc<Counter>>,
}

impl Limit {
    /// So many requests in a window, counted under a key.
    pub fn new(key: Key, limit: u64, window: Window) -> Self {
        Self {
            key,
            limit,
            window,
            counter: OnceLock::new(),
        }
    }

    /// How many requests.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// In what time.
    pub fn window(&self) -> Window {
        self.window
    }

    /// Counts a request, if one more is allowed.
    #[inline]
    pub fn admit(&self, counters: &Keyed, now: u64) -> Verdict {
        let find = || counters.counter(self.key, self.window, now);
        self.counter.get_or_init(find).admit(self.limit, now)
    }
}

/// The counters of all rules, and of the values that clients send.
pub struct Keyed(Table<Counter>);

impl Default for Keyed {
    fn default() -> Self {
        Self(Table::new())
    }
}

impl Keyed {
    /// Counts a request under a key if less than `limit` count there.
    pub fn admit(
        &self,
        key: Key,
        limit: u64,
        window: Duration,
        technique: Technique,
        now: u64,
    ) -> Verdict {
        self.counter(key, Window::new(technique, window), now)
            .admit(limit, now)
    }

    /// The counter of a key, for whoever asks for it often. Where the window is another one it begins anew, with what counts in
    /// the old one at once.
    pub fn counter(&self, key: Key, window: Window, now: u64) -> Arc<Counter> {
        let changed = &self.0.changed;
        let make = |name| Counter::new(name, window, Log::default(), changed.clone());
        let found = self.0.get(key, now, make);
        if found.window == window {
            return found;
        }
        let renew = |old: &Counter| {
            let mut log = old.log();
            log.reshape(old.window, window, now);
            Counter::new(old.name, window, log, changed.clone())
        };
        let next = self.0.renew(&found, renew);
        next.mark.set(&next, changed);
        next
    }

    /// How many counters there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn changed(&self) -> Vec<Arc<Counter>> {
        self.0.changed.take()
    }

    /// Takes in what was kept.
    pub(super) fn restore(&self, row: &Row) {
        let buckets = row.buckets.iter();
        let log = Log::of(buckets.map(|(bucket, count)| (*bucket, (*count).max(0) as u64)));
        let counter = Counter::new(row.name, row.window, log, self.0.changed.clone());
        self.0.replace(row.name, Arc::new(counter));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::atomic::AtomicBool;

    const BOTH: [Technique; 2] = [Technique::Fixed, Technique::Sliding];

    fn counter(technique: Technique, length: u64) -> Arc<Counter> {
        let window = Window::new(technique, Duration::from_millis(length));
        Keyed::default().counter(Key::rule(&["test"]), window, 0)
    }

    proptest! {
        #[test]
        fn the_packed_counter_is_the_logged_one(
            length in 1..100_000_000u64, limit in 0..30u64, begin in 0..2_000_000_000_000u64,
            gaps in prop::collection::vec((0..3u64, 0..200_000u64), 1..200),
        ) {
            let window = Window::new(Technique::Fixed, Duration::from_millis(length));
            let (word, mut log) = (AtomicU64::new(0), Log::default());
            let mut now = begin;
            for (kind, gap) in gaps {
                now += if kind == 0 { gap } else { gap % 7 };
                let packed = admit_packed(&word, window, limit, now);
                // A limit of nothing is never below anything, so that no wait can be told.
                match limit {
                    0 => prop_assert!(!packed.is_admitted()),
                    _ => prop_assert_eq!(packed, admit_logged(&mut log, window, limit, now)),
                }
            }
        }
    }

    #[test]
    fn of_all_that_ask_at_once_exactly_the_limit_is_admitted() {
        for technique in BOTH {
            for round in 0..20 {
                let counter = counter(technique, 1000);
                let begin = AtomicBool::new(false);
                let ask = || {
                    while !begin.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                    // Both sides of a boundary of the fixed window lie within the lag of clocks.
                    let ask = |_: &u64| counter.admit(1000, 7_999_500 + round).is_admitted();
                    (0..2000u64).filter(ask).count()
                };
                let admitted: usize = std::thread::scope(|scope| {
                    let threads: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
                    begin.store(true, Ordering::Relaxed);
                    let counts = threads.into_iter();
                    counts.map(|thread| thread.join().expect("counted")).sum()
                });
                assert_eq!(admitted, 1000, "{technique:?}");
                assert_eq!(counter.used(7_999_500 + round), 1000);
            }
        }
    }

    #[test]
    fn every_window_admits_its_own_while_time_goes_on_over_threads() {
        let counter = counter(Technique::Fixed, 1000);
        let clock = AtomicU64::new(50_000_000);
        let ask = || {
            let mut admitted = [0; 10];
            loop {
                // Every thread counts at the moment it read, perhaps after another one has gone on.
                let now = clock.fetch_add(1, Ordering::Relaxed);
                if now >= 50_010_000 {
                    return admitted;
                }
                if counter.admit(100, now).is_admitted() {
                    admitted[(now - 50_000_000) as usize / 1000] += 1;
                }
            }
        };
        let admitted: Vec<[u64; 10]> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
            let counts = threads.into_iter();
            counts
                .map(|thread| thread.join().expect("counted"))
                .collect()
        });
        let sum: u64 = admitted.iter().flatten().sum();
        assert_eq!(sum, 1000);
    }

    #[test]
    fn waits_and_counts_are_told() {
        let fixed = counter(Technique::Fixed, 60_000);
        let begin = 600_000;
        assert_eq!(fixed.admit(1, begin + 5), Verdict::Admitted { used: 1 });
        let wait = Duration::from_millis(59_990);
        let refused = Verdict::Refused { used: 1, wait };
        assert_eq!(fixed.admit(1, begin + 10), refused);
        assert_eq!(fixed.used(begin + 59_999), 1);
        assert_eq!(fixed.used(begin + 60_000), 0);
        // A lower limit counts what was admitted under the higher one.
        assert!(fixed.admit(5, begin + 20).is_admitted());
        assert!(!fixed.admit(2, begin + 30).is_admitted());
        assert!(
            !counter(Technique::Fixed, 60_000)
                .admit(0, begin)
                .is_admitted()
        );
        let most = counter(Technique::Fixed, 1);
        assert!(most.admit(u64::MAX, begin).is_admitted());
    }

    #[test]
    fn values_have_counts_of_their_own_and_keep_them_in_another_window() {
        let keyed = Keyed::default();
        let rule = Key::rule(&["route", "r", "e"]);
        let minute = Duration::from_secs(60);
        let ask = |value: &str, length, technique, now| {
            keyed.admit(rule.of([value.as_bytes()]), 2, length, technique, now)
        };
        let now = 60_000_000;
        for technique in BOTH {
            let name = |value: &str| format!("{value} {technique:?}");
            assert!(ask(&name("a"), minute, technique, now).is_admitted());
            assert!(ask(&name("a"), minute, technique, now).is_admitted());
            assert!(!ask(&name("a"), minute, technique, now).is_admitted());
            assert!(ask(&name("b"), minute, technique, now).is_admitted());
            for other in BOTH {
                assert!(!ask(&name("a"), 2 * minute, other, now + 10).is_admitted());
            }
        }
    }

    #[test]
    fn counters_come_back_from_what_was_kept() {
        for technique in BOTH {
            let (before, after) = (Keyed::default(), Keyed::default());
            let window = Window::new(technique, Duration::from_secs(60));
            let key = Key::rule(&["a"]);
            let now = 1_700_000_000_000;
            for second in [0, 1, 30] {
                before
                    .counter(key, window, now)
                    .admit(10, now + second * 1000);
            }
            let rows: Vec<Row> = before.changed().iter().map(|each| each.row()).collect();
            assert_eq!(rows.len(), 1);
            assert!(before.changed().is_empty());
            after.restore(&rows[0]);
            for moment in [now + 31_000, now + 59_000, now + 62_000, now + 200_000] {
                let used = |keyed: &Keyed| keyed.counter(key, window, moment).used(moment);
                assert_eq!(used(&before), used(&after), "{technique:?} {moment}");
            }
            after.restore(&rows[0]);
            let counter = after.counter(key, window, now);
            assert!(counter.used(rows[0].until - 1) > 0 && counter.is_over(rows[0].until));
        }
    }
}
