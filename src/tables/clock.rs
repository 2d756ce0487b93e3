//! The time that windows go by: the wall clock, without its jumps.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quanta::Instant;

use crate::limits::{CLOCK_DOUBT, CLOCK_SLEW_MAX};

/// Milliseconds since the Unix epoch, counted from an anchor by the monotonic clock. Whoever owns the other end makes it
/// follow the wall clock.
#[derive(Debug)]
pub struct Clock {
    anchor: Instant,
    /// The wall clock at the anchor.
    base: AtomicU64,
}

impl Clock {
    /// A clock that shows `wall` at `anchor`.
    pub fn new(anchor: Instant, wall: u64) -> Self {
        Self {
            anchor,
            base: AtomicU64::new(wall),
        }
    }

    /// What it shows at a moment.
    pub fn at(&self, moment: Instant) -> u64 {
        let since = moment.saturating_duration_since(self.anchor).as_millis() as u64;
        self.base.load(Ordering::Relaxed).saturating_add(since)
    }
}

/// Makes a [`Clock`] follow the wall clock.
#[derive(Debug, Default)]
pub struct Follower {
    /// Since when the two are far apart.
    doubted: Option<Instant>,
}

impl Follower {
    /// Hears that the wall clock shows `wall` at `moment`. What drifts apart is mended at once; a jump is believed once it has
    /// held for [`CLOCK_DOUBT`].
    pub fn hear(&mut self, clock: &Clock, wall: u64, moment: Instant) {
        let apart = Duration::from_millis(clock.at(moment).abs_diff(wall));
        if apart > CLOCK_SLEW_MAX {
            let since = *self.doubted.get_or_insert(moment);
            if moment.saturating_duration_since(since) < CLOCK_DOUBT {
                return;
            }
        }
        self.doubted = None;
        let since = moment.saturating_duration_since(clock.anchor).as_millis() as u64;
        clock
            .base
            .store(wall.saturating_sub(since), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drift_is_followed_and_a_jump_is_doubted_first() {
        let begin = Instant::now();
        let at = |milliseconds| begin + Duration::from_millis(milliseconds);
        let (clock, mut follower) = (Clock::new(begin, 1_000_000), Follower::default());
        assert_eq!(clock.at(at(1500)), 1_001_500);
        follower.hear(&clock, 1_001_510, at(1500));
        assert_eq!(clock.at(at(1500)), 1_001_510);
        // A year ahead, for a moment; then for good.
        let year = 365 * 86_400_000;
        follower.hear(&clock, 1_002_010 + year, at(2000));
        assert_eq!(clock.at(at(2000)), 1_002_010);
        follower.hear(&clock, 1_003_010, at(3000));
        for second in 4..64 {
            follower.hear(&clock, 1_000_010 + second * 1000 + year, at(second * 1000));
            assert_eq!(clock.at(at(second * 1000)), 1_000_010 + second * 1000);
        }
        follower.hear(&clock, 1_064_010 + year, at(64_000));
        assert_eq!(clock.at(at(65_000)), 1_065_010 + year);
    }
}
