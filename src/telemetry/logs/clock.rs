//! The wall clock as far as it is believed: segments and retention go by it, and a clock that jumps to another year must
//! neither make files that never expire nor let everything expire at once.

use std::time::Instant;

use crate::limits::{CLOCK_AHEAD_MAX, CLOCK_BEHIND_MAX, CLOCK_DOUBT};

/// Milliseconds of a day.
const DAY: u64 = 24 * 3600 * 1000;

/// The day of a moment, counted from the Unix epoch.
pub fn day_of(milliseconds: u64) -> u32 {
    (milliseconds / DAY) as u32
}

/// A day as people write it.
pub fn date(day: u32) -> String {
    let time = jiff::Timestamp::from_second(i64::from(day) * 86_400);
    time.map_or_else(
        |_| day.to_string(),
        |time| time.strftime("%Y-%m-%d").to_string(),
    )
}

/// Follows the wall clock.
#[derive(Debug)]
pub struct Clock {
    /// The last time that was believed; `None`: any is.
    last: Option<u64>,
    /// Since when another time is shown.
    doubted: Option<Instant>,
}

impl Clock {
    /// Goes on from the time of the newest entry, if there is one.
    pub fn after(last: Option<u64>) -> Self {
        Self {
            last,
            doubted: None,
        }
    }

    /// Hears that it is `now`, in milliseconds since the Unix epoch. Returns the time to go by, and whether a jump was accepted
    /// with it.
    pub fn hear(&mut self, now: u64, at: Instant) -> (u64, bool) {
        let Some(last) = self.last else {
            self.last = Some(now);
            return (now, false);
        };
        if (last.saturating_sub(CLOCK_BEHIND_MAX)..=last + CLOCK_AHEAD_MAX).contains(&now) {
            self.last = Some(now);
            self.doubted = None;
            return (now, false);
        }
        let since = *self.doubted.get_or_insert(at);
        if at.saturating_duration_since(since) < CLOCK_DOUBT {
            return (last, false);
        }
        self.last = Some(now);
        self.doubted = None;
        (now, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_jump_is_believed_once_it_has_held() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut clock = Clock::after(Some(1_000 * DAY));
        assert_eq!(clock.hear(1_000 * DAY + 5, at(0)), (1_000 * DAY + 5, false));
        // Five years ahead, for a moment.
        assert_eq!(clock.hear(2_800 * DAY, at(1)), (1_000 * DAY + 5, false));
        assert_eq!(clock.hear(1_000 * DAY + 9, at(2)), (1_000 * DAY + 9, false));
        assert_eq!(clock.hear(2_800 * DAY, at(3)), (1_000 * DAY + 9, false));
        assert_eq!(
            clock.hear(2_800 * DAY + 50, at(62)),
            (1_000 * DAY + 9, false)
        );
        assert_eq!(
            clock.hear(2_800 * DAY + 60, at(63)),
            (2_800 * DAY + 60, true)
        );
        // And back again.
        assert_eq!(clock.hear(1_001 * DAY, at(64)).0, 2_800 * DAY + 60);
        assert_eq!(clock.hear(1_001 * DAY, at(124)), (1_001 * DAY, true));
        // A little behind is no jump.
        assert_eq!(
            clock.hear(1_001 * DAY - 1000, at(125)),
            (1_001 * DAY - 1000, false)
        );
        assert_eq!(Clock::after(None).hear(7, begin), (7, false));
    }

    #[test]
    fn days_are_of_utc() {
        assert_eq!(date(day_of(1_768_478_400_123)), "2026-01-15");
        assert_eq!(day_of(DAY - 1), 0);
        assert_eq!(day_of(DAY), 1);
    }
}
