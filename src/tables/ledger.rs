//! All counters, and what is kept of them.

use quanta::Instant;

use super::clock::Clock;
use super::key::Name;
use super::window::Window;
use super::{rate, spend};

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Requests.
    Requests,
    /// Pico-dollars.
    Cost,
}

/// What is kept of a counter: enough to go on with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// What it is found by.
    pub name: Name,
    /// What it counts.
    pub unit: Unit,
    /// In what time.
    pub window: Window,
    /// Buckets of the window, and what was counted in each.
    pub buckets: Vec<(u64, i128)>,
    /// The moment from which on nothing of it counts.
    pub until: u64,
}

/// Every counter that threads share, and the clock they go by.
pub struct Ledger {
    /// The time.
    pub clock: Clock,
    /// Counts of requests.
    pub rates: rate::Keyed,
    /// What was spent.
    pub budgets: spend::Keyed,
}

impl Ledger {
    /// With nothing counted yet.
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            rates: Default::default(),
            budgets: Default::default(),
        }
    }

    /// The time now.
    pub fn now(&self) -> u64 {
        self.clock.at(Instant::now())
    }

    /// Takes in what was kept and still counts.
    pub fn restore(&self, rows: impl IntoIterator<Item = Row>) {
        let now = self.now();
        for row in rows.into_iter().filter(|row| row.until > now) {
            match row.unit {
                Unit::Requests => self.rates.restore(&row),
                Unit::Cost => self.budgets.restore(&row),
            }
        }
    }

    /// What is to be kept of the counters that changed since this was last asked.
    pub fn changes(&self) -> Vec<Row> {
        let rates = self.rates.changed();
        let budgets = self.budgets.changed();
        let rates = rates.iter().map(|counter| counter.row());
        rates
            .chain(budgets.iter().map(|budget| budget.row()))
            .collect()
    }
}
