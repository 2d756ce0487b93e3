//! So much money in a time. What a request will cost is not known when it is admitted: something is reserved for it until it has
//! ended and its cost is booked.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::key::{Key, Name};
use super::keyed::{Changed, Kept, Mark, Table, lock};
use super::ledger::{Row, Unit};
use super::window::{Amount, Log, Technique, Window};
use crate::limits::{RESERVATION_MAX, RESERVATION_STEP};
use crate::meter::cost::Money;

/// Why a request is not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exceeded {
    /// What was spent in the window.
    pub booked: Money,
    /// What is reserved for requests that run.
    pub reserved: Money,
    /// How long until less than the limit is booked, or for requests that run: a second.
    pub wait: Duration,
}

/// What was spent under one rule, or under one value of it.
pub struct Budget {
    name: Name,
    state: Mutex<State>,
    mark: Mark,
    changed: Arc<Changed<Budget>>,
}

struct State {
    window: Window,
    booked: Log<Money>,
    reserved: Reserved,
    /// What a request cost lately; nothing before the first one.
    usual: Money,
}

impl State {
    fn shape(&mut self, window: Window, now: u64) {
        if self.window != window {
            self.booked.reshape(self.window, window, now);
            self.window = window;
        }
    }
}

impl Budget {
    fn new(name: Name, window: Window, booked: Log<Money>, changed: Arc<Changed<Self>>) -> Self {
        Self {
            name,
            state: Mutex::new(State {
                window,
                booked,
                reserved: Reserved::default(),
                usual: Money::ZERO,
            }),
            mark: Mark::default(),
            changed,
        }
    }

    /// Reserves for a request what requests cost here lately, else `estimate`, if what is booked and what is reserved for
    /// others come to less than `limit`. So what is spent may exceed the limit by what the requests cost that run when it is
    /// reached. The reservation stands for `life` at most.
    pub fn reserve(
        self: &Arc<Self>,
        limit: Money,
        window: Window,
        estimate: Money,
        now: u64,
        life: Duration,
    ) -> Result<Hold, Exceeded> {
        let state = &mut *lock(&self.state);
        state.shape(window, now);
        let booked = state.booked.total(window, now);
        let reserved = state.reserved.total(now);
        if booked.plus(reserved) >= limit {
            let wait = state.booked.below(window, limit).saturating_sub(now);
            return Err(Exceeded {
                booked,
                reserved,
                wait: Duration::from_millis(if booked < limit { 1000 } else { wait }),
            });
        }
        let amount = match state.usual {
            Money::ZERO => estimate,
            usual => usual,
        };
        Ok(Hold {
            budget: self.clone(),
            step: state.reserved.add(now, life, amount),
            amount,
            used: booked.plus(reserved),
        })
    }

    /// What was spent in the window, and what is reserved.
    pub fn used(&self, now: u64) -> (Money, Money) {
        let state = &mut *lock(&self.state);
        let booked = state.booked.total(state.window, now);
        (booked, state.reserved.total(now))
    }

    /// What is kept of it; what changes from now on is listed anew. Reservations are not kept: their requests end with the
    /// program.
    pub(super) fn row(&self) -> Row {
        self.mark.clear();
        let state = lock(&self.state);
        let buckets = state.booked.buckets();
        Row {
            name: self.name,
            unit: Unit::Cost,
            window: state.window,
            buckets: buckets.map(|(bucket, sum)| (bucket, sum.0)).collect(),
            until: state.booked.end(state.window),
        }
    }
}

impl Kept for Budget {
    fn name(&self) -> Name {
        self.name
    }

    fn is_over(&self, now: u64) -> bool {
        self.used(now) == (Money::ZERO, Money::ZERO)
    }
}

/// A reservation. Dropped it is given back.
pub struct Hold {
    budget: Arc<Budget>,
    /// When it lapses.
    step: u64,
    amount: Money,
    /// What was booked and reserved before it.
    used: Money,
}

impl std::fmt::Debug for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Hold").field(&self.amount).finish()
    }
}

impl Hold {
    /// What was booked and reserved before it.
    pub fn used(&self) -> Money {
        self.used
    }

    /// What is reserved.
    pub fn amount(&self) -> Money {
        self.amount
    }

    /// Books what the request did cost in the place of what was reserved for it.
    pub fn settle(mut self, cost: Option<Money>, now: u64) {
        let amount = std::mem::take(&mut self.amount);
        let budget = &self.budget;
        let state = &mut *lock(&budget.state);
        state.reserved.remove(self.step, amount);
        let Some(cost) = cost else {
            return;
        };
        state.usual = match state.usual {
            Money::ZERO => cost,
            Money(usual) => Money(usual + (cost.0 - usual) / USUAL_PARTS),
        };
        state.booked.add(state.window, now, cost);
        budget.mark.set(budget, &budget.changed);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.amount != Money::ZERO {
            lock(&self.budget.state)
                .reserved
                .remove(self.step, self.amount);
        }
    }
}

/// How much the last request counts in what requests usually cost.
const USUAL_PARTS: i128 = 8;

/// What is reserved, by when it lapses: one that is never given back heals by itself.
#[derive(Debug, Default)]
struct Reserved {
    /// In their order; each a step of time and what lapses with it.
    steps: VecDeque<(u64, Money)>,
    total: Money,
}

impl Reserved {
    fn total(&mut self, now: u64) -> Money {
        while let Some(&(step, amount)) = self.steps.front()
            && step.saturating_mul(RESERVATION_STEP) <= now
        {
            self.steps.pop_front();
            self.total = self.total.less(amount);
        }
        self.total
    }

    fn add(&mut self, now: u64, life: Duration, amount: Money) -> u64 {
        let life = life.min(RESERVATION_MAX).as_millis() as u64;
        let step = (now.saturating_add(life)).div_ceil(RESERVATION_STEP);
        self.total = self.total.plus(amount);
        // Mostly the last one: what begins later lapses later.
        let place = self.steps.iter().rposition(|(other, _)| *other <= step);
        match place {
            Some(place) if self.steps[place].0 == step => {
                let sum = &mut self.steps[place].1;
                *sum = sum.plus(amount);
            }
            place => self
                .steps
                .insert(place.map_or(0, |place| place + 1), (step, amount)),
        }
        step
    }

    fn remove(&mut self, step: u64, amount: Money) {
        let place = self.steps.iter().position(|(other, _)| *other == step);
        // What lapsed is gone already.
        if let Some(place) = place {
            let left = &mut self.steps[place].1;
            let amount = amount.min(*left);
            *left = left.less(amount);
            if *left == Money::ZERO {
                self.steps.remove(place);
            }
            self.total = self.total.less(amount);
        }
    }
}

/// The budgets of all rules, and of the values that clients send.
pub struct Keyed(Table<Budget>);

impl Default for Keyed {
    fn default() -> Self {
        Self(Table::new())
    }
}

impl Keyed {
    /// [`Budget::reserve`] under a key.
    #[allow(clippy::too_many_arguments)]
    pub fn reserve(
        &self,
        key: Key,
        limit: Money,
        window: Duration,
        technique: Technique,
        estimate: Money,
        now: u64,
        life: Duration,
    ) -> Result<Hold, Exceeded> {
        let window = Window::new(technique, window);
        self.budget(key, window, now)
            .reserve(limit, window, estimate, now, life)
    }

    /// The budget of a key.
    pub fn budget(&self, key: Key, window: Window, now: u64) -> Arc<Budget> {
        let changed = &self.0.changed;
        self.0.get(key, now, |name| {
            Budget::new(name, window, Log::default(), changed.clone())
        })
    }

    /// How many budgets there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn changed(&self) -> Vec<Arc<Budget>> {
        self.0.changed.take()
    }

    /// Takes in what was kept.
    pub(super) fn restore(&self, row: &Row) {
        let buckets = row.buckets.iter();
        let booked = Log::of(buckets.map(|(bucket, sum)| (*bucket, Money((*sum).max(0)))));
        let budget = Budget::new(row.name, row.window, booked, self.0.changed.clone());
        self.0.replace(row.name, Arc::new(budget));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    const NOW: u64 = 1_700_000_000_000;
    const LIFE: Duration = Duration::from_secs(60);

    fn window(technique: Technique, seconds: u64) -> Window {
        Window::new(technique, Duration::from_secs(seconds))
    }

    fn budget(window: Window) -> Arc<Budget> {
        Keyed::default().budget(Key::rule(&["b"]), window, NOW)
    }

    /// One step of a history.
    #[derive(Debug, Clone)]
    enum Deed {
        Wait(u64),
        Ask,
        Settle(prop::sample::Index, u64),
        Drop(prop::sample::Index),
    }

    fn deed() -> impl Strategy<Value = Deed> {
        prop_oneof![
            (0..40_000u64).prop_map(Deed::Wait),
            Just(Deed::Ask),
            Just(Deed::Ask),
            (any::<prop::sample::Index>(), 0..50u64).prop_map(|(at, cost)| Deed::Settle(at, cost)),
            any::<prop::sample::Index>().prop_map(Deed::Drop),
        ]
    }

    proptest! {
        #[test]
        fn a_budget_is_what_was_booked_and_what_others_reserved(
            sliding: bool, deeds in prop::collection::vec(deed(), 1..200),
        ) {
            let technique = if sliding { Technique::Sliding } else { Technique::Fixed };
            let window = window(technique, 100);
            let (budget, limit, estimate) = (budget(window), Money(100), Money(10));
            let mut now = NOW;
            let mut held: Vec<(Hold, u64)> = Vec::new();
            let mut booked: Vec<(u64, i128)> = Vec::new();
            for deed in deeds {
                match deed {
                    Deed::Wait(milliseconds) => now += milliseconds,
                    Deed::Ask => {
                        // What surely counts, and what may count: buckets and steps round up.
                        let counts = |moment: u64, longer: u64| match technique {
                            Technique::Fixed => moment / 100_000 == now / 100_000,
                            Technique::Sliding => moment + 100_000 + longer > now,
                        };
                        let sum = |longer| -> i128 {
                            let within = booked.iter().filter(|(moment, _)| counts(*moment, longer));
                            within.map(|(_, cost)| cost).sum()
                        };
                        let reserved = |longer: u64| -> i128 {
                            let lives = |until: &u64| until + longer > now;
                            held.iter().filter(|(_, until)| lives(until)).map(|(hold, _)| hold.amount.0).sum()
                        };
                        let least = sum(0) + reserved(0);
                        let most = sum(2000) + reserved(RESERVATION_STEP);
                        match budget.reserve(limit, window, estimate, now, LIFE) {
                            Ok(hold) => {
                                prop_assert!(least < limit.0);
                                held.push((hold, now + 60_000));
                            }
                            Err(exceeded) => {
                                prop_assert!(most >= limit.0);
                                prop_assert!(exceeded.wait > Duration::ZERO);
                            }
                        }
                    }
                    Deed::Settle(at, cost) if !held.is_empty() => {
                        let (hold, _) = held.swap_remove(at.index(held.len()));
                        hold.settle(Some(Money(i128::from(cost))), now);
                        booked.push((now, i128::from(cost)));
                    }
                    Deed::Drop(at) if !held.is_empty() => {
                        held.swap_remove(at.index(held.len()));
                    }
                    Deed::Settle(..) | Deed::Drop(_) => {}
                }
            }
            drop(held);
            prop_assert_eq!(budget.used(now).1, Money::ZERO);
            prop_assert!(budget.is_over(now + 300_000));
        }
    }

    #[test]
    fn what_is_overspent_is_what_ran_when_the_limit_was_reached() {
        let window = window(Technique::Fixed, 86_400);
        let budget = budget(window);
        let spent = AtomicU64::new(0);
        let run = || {
            while let Ok(hold) = budget.reserve(Money(1000), window, Money(7), NOW, LIFE) {
                spent.fetch_add(7, Ordering::Relaxed);
                hold.settle(Some(Money(7)), NOW);
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(run);
            }
        });
        let spent = i128::from(spent.into_inner());
        // With a true estimate not even the requests that run together exceed it by more than one of them.
        assert!((1000 - 4 * 7..1007).contains(&spent), "{spent}");
        assert_eq!(budget.used(NOW), (Money(spent), Money::ZERO));
        let exceeded = loop {
            match budget.reserve(Money(1000), window, Money(7), NOW, LIFE) {
                Ok(hold) => hold.settle(Some(Money(7)), NOW),
                Err(exceeded) => break exceeded,
            }
        };
        assert!((1000..1007).contains(&exceeded.booked.0));
        let end = NOW.next_multiple_of(86_400_000);
        assert_eq!(exceeded.wait, Duration::from_millis(end - NOW));
    }

    #[test]
    fn a_reservation_that_nobody_gives_back_lapses() {
        let window = window(Technique::Sliding, 86_400);
        let budget = budget(window);
        let reserve = |now, life| budget.reserve(Money(10), window, Money(10), now, life);
        let leaked = reserve(NOW, LIFE).map(std::mem::ManuallyDrop::new);
        assert!(leaked.is_ok());
        let wait = reserve(NOW, LIFE).err().map(|exceeded| exceeded.wait);
        assert_eq!(wait, Some(Duration::from_secs(1)));
        assert!(reserve(NOW + 59_999, LIFE).is_err());
        let late = reserve(NOW + 60_000 + RESERVATION_STEP, Duration::MAX);
        let late = late.expect("lapsed");
        let most = RESERVATION_MAX.as_millis() as u64 + RESERVATION_STEP;
        assert!(reserve(NOW + 60_000 + RESERVATION_STEP + most, LIFE).is_ok());
        // One that has lapsed takes nothing away from others.
        late.settle(Some(Money(1)), NOW + 2_000_000);
        assert_eq!(budget.used(NOW + 2_000_000), (Money(1), Money::ZERO));
    }

    #[test]
    fn what_requests_cost_lately_is_reserved_for_the_next() {
        let window = window(Technique::Fixed, 86_400);
        let budget = budget(window);
        let reserve = || budget.reserve(Money(1000), window, Money(5), NOW, LIFE);
        let first = reserve().expect("below the limit");
        assert_eq!(first.amount(), Money(5));
        first.settle(Some(Money(80)), NOW);
        let second = reserve().expect("below the limit");
        assert_eq!((second.amount(), second.used()), (Money(80), Money(80)));
        // One that failed says nothing of what others cost.
        second.settle(None, NOW);
        let third = reserve().expect("below the limit");
        assert_eq!(third.amount(), Money(80));
    }

    #[test]
    fn a_rule_keeps_its_count_in_another_window_and_after_a_restart() {
        let (before, after) = (Keyed::default(), Keyed::default());
        let key = Key::rule(&["spend"]);
        let hour = Duration::from_secs(3600);
        let reserve = |keyed: &Keyed, limit, length, technique| {
            keyed.reserve(key, Money(limit), length, technique, Money(1), NOW, LIFE)
        };
        let hold = reserve(&before, 100, hour, Technique::Sliding);
        hold.expect("nothing spent").settle(Some(Money(50)), NOW);
        assert!(reserve(&before, 50, 24 * hour, Technique::Fixed).is_err());
        assert!(reserve(&before, 51, 24 * hour, Technique::Fixed).is_ok());
        let rows: Vec<Row> = before.changed().iter().map(|each| each.row()).collect();
        assert_eq!(rows.len(), 1);
        after.restore(&rows[0]);
        assert!(reserve(&after, 50, 24 * hour, Technique::Fixed).is_err());
        assert!(reserve(&after, 51, hour, Technique::Sliding).is_ok());
    }
}
