//! Figures of traffic (spec: control plane 10): counted by each data thread in a block of its own, apart from the logs, so that
//! what is not logged is counted all the same. Control takes the blocks away once a second; sums are exact, and histograms merge.

mod bytes;
mod histogram;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

pub use histogram::Latencies;

use crate::limits::{AGGREGATE_METADATA_MAX, AGGREGATE_ROWS_MAX};
use crate::meter::cost::Money;

/// Of what traffic a [`Cell`] tells. Texts are borrowed while a request is counted and owned where they are kept.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Dimensions<'a> {
    /// Minutes since 1970, of the moment at which the request came.
    pub minute: u64,
    /// The gateway's id.
    pub gateway: Cow<'a, str>,
    /// The provider's name.
    pub provider: Cow<'a, str>,
    /// The model asked for.
    pub model: Cow<'a, str>,
    /// Sent to the client; 0 where none could be sent.
    pub status: u16,
    /// How it ended.
    pub outcome: Outcome,
    /// Answered from the cache.
    pub cached: bool,
    /// The dynamic route's name.
    pub route: Cow<'a, str>,
    /// The stored key's alias.
    pub key_alias: Cow<'a, str>,
    /// The gateway token's id.
    pub token: Cow<'a, str>,
    /// The client's software: the first product of `User-Agent`, without its version.
    pub user_agent: Cow<'a, str>,
    /// What the client attached: a flat JSON object, or nothing.
    pub metadata: Cow<'a, str>,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Outcome {
    /// It was answered, whole and without an error.
    #[default]
    Answered,
    /// It was answered with an error, or not to the end.
    Failed,
    /// A limit of requests refused it.
    RateLimited,
    /// Guardrails, policies or budgets refused it.
    Blocked,
}

/// What stands for values of which there are too many.
pub const OTHER: &str = "other";

impl Dimensions<'_> {
    /// Apart from the request.
    pub fn into_owned(self) -> Dimensions<'static> {
        let owned = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        Dimensions {
            minute: self.minute,
            gateway: owned(self.gateway),
            provider: owned(self.provider),
            model: owned(self.model),
            status: self.status,
            outcome: self.outcome,
            cached: self.cached,
            route: owned(self.route),
            key_alias: owned(self.key_alias),
            token: owned(self.token),
            user_agent: owned(self.user_agent),
            metadata: owned(self.metadata),
        }
    }

    /// The pairs of the metadata, sorted, their values as text.
    pub fn pairs(&self) -> BTreeMap<String, String> {
        let read = serde_json::from_str::<serde_json::Map<_, _>>(&self.metadata);
        let pairs = read.unwrap_or_default().into_iter();
        pairs
            .map(|(key, value)| match value {
                serde_json::Value::String(text) => (key, text),
                value => (key, value.to_string()),
            })
            .collect()
    }

    /// With metadata of one form, whichever way clients wrote it.
    pub fn plain(self) -> Self {
        if self.metadata.is_empty() {
            return self;
        }
        let metadata = written(&self.pairs());
        Self {
            metadata: metadata.into(),
            ..self
        }
    }

    /// The same with less detail, the next of which is less again; of the last there is one row an hour for each status.
    pub fn coarser(&self, step: usize) -> Self {
        match step {
            0 => self.clone(),
            1 => self.without_metadata(),
            2 => self.without_clients_words(),
            _ => self.least(),
        }
    }

    /// Without the values of pairs, of which clients may make any number.
    fn without_metadata(&self) -> Self {
        let keys = self.pairs().into_keys();
        let other = keys.map(|key| (key, OTHER.to_owned())).collect();
        Self {
            metadata: written(&other).into(),
            ..self.clone()
        }
    }

    /// With everything that clients choose replaced by one word: where each request brings another value, none is kept.
    fn without_clients_words(&self) -> Self {
        Self {
            model: Cow::Borrowed(OTHER),
            user_agent: Cow::Borrowed(OTHER),
            metadata: Cow::Borrowed(""),
            ..self.clone()
        }
    }

    fn least(&self) -> Self {
        let other = || Cow::Borrowed(OTHER);
        Self {
            minute: self.minute - self.minute % 60,
            gateway: other(),
            provider: other(),
            route: Cow::Borrowed(""),
            key_alias: Cow::Borrowed(""),
            token: other(),
            ..self.without_clients_words()
        }
    }
}

/// Pairs as JSON; none as nothing.
fn written(pairs: &BTreeMap<String, String>) -> String {
    match pairs.is_empty() {
        true => String::new(),
        // A map of texts can always be written.
        false => serde_json::to_string(pairs).unwrap_or_default(),
    }
}

/// Figures of like requests. A request is one call of a client; tokens and cost are of all its attempts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cell {
    /// Calls of clients.
    pub requests: u64,
    /// Those that were answered with an error or not to the end.
    pub errors: u64,
    /// Those that the gateway's own cache answered.
    pub cached: u64,
    /// Tokens of prompts, cached ones included; nothing of answers from the gateway's own cache.
    pub tokens_in: u64,
    /// Generated tokens.
    pub tokens_out: u64,
    /// Of `tokens_in`: read from a provider's cache.
    pub cache_read: u64,
    /// Of `tokens_in`: written to a provider's cache.
    pub cache_write: u64,
    /// Of `tokens_out`: thoughts.
    pub reasoning: u64,
    /// Tokens of prompts that the gateway's own cache answered.
    pub cached_in: u64,
    /// Tokens that the gateway's own cache gave out.
    pub cached_out: u64,
    /// What providers charge.
    pub cost: Money,
    /// What they would have charged without the gateway's cache.
    pub cost_saved: Money,
    /// Calls to models without a price, whose cost is not known.
    pub unpriced: u64,
    /// Refused by a limit of requests.
    pub rate_limited: u64,
    /// Refused by guardrails, policies or budgets.
    pub blocked: u64,
    /// Tries after the first within a step.
    pub retries: u64,
    /// Steps after the first.
    pub fallbacks: u64,
    /// From the whole head to the last byte, microseconds in all.
    pub duration_sum: u64,
    /// The last minute in which one came.
    pub last: u64,
    /// `duration_sum`, spread.
    pub duration: Latencies,
    /// To the first byte of the answer.
    pub first_byte: Latencies,
    /// The gateway's own share.
    pub own: Latencies,
    /// Waits for a connection, of requests that reached a provider.
    pub connect: Latencies,
    /// The provider's time to its first byte.
    pub upstream: Latencies,
}

impl Cell {
    /// Adds what another has counted.
    pub fn merge(&mut self, other: &Self) {
        let add = |sum: &mut u64, more: u64| *sum = sum.saturating_add(more);
        add(&mut self.requests, other.requests);
        add(&mut self.errors, other.errors);
        add(&mut self.cached, other.cached);
        add(&mut self.tokens_in, other.tokens_in);
        add(&mut self.tokens_out, other.tokens_out);
        add(&mut self.cache_read, other.cache_read);
        add(&mut self.cache_write, other.cache_write);
        add(&mut self.reasoning, other.reasoning);
        add(&mut self.cached_in, other.cached_in);
        add(&mut self.cached_out, other.cached_out);
        add(&mut self.unpriced, other.unpriced);
        add(&mut self.rate_limited, other.rate_limited);
        add(&mut self.blocked, other.blocked);
        add(&mut self.retries, other.retries);
        add(&mut self.fallbacks, other.fallbacks);
        add(&mut self.duration_sum, other.duration_sum);
        self.last = self.last.max(other.last);
        self.cost += other.cost;
        self.cost_saved += other.cost_saved;
        self.duration.merge(&other.duration);
        self.first_byte.merge(&other.first_byte);
        self.own.merge(&other.own);
        self.connect.merge(&other.connect);
        self.upstream.merge(&other.upstream);
    }
}

/// What was counted since it was last taken. The lock is one thread's own: control holds it for as long as it takes to exchange
/// two pointers.
#[derive(Debug, Default)]
pub struct Block(Mutex<Rows>);

impl Block {
    /// Counts a request: `count` is called with the figures of its like.
    pub fn note(&self, dimensions: &Dimensions<'_>, count: impl FnOnce(&mut Cell)) {
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        count(rows.cell(dimensions));
    }

    /// Takes all that was counted.
    pub fn take(&self) -> Rows {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Figures by their dimensions. Beyond [`AGGREGATE_METADATA_MAX`] rows metadata is not told apart any more, beyond
/// [`AGGREGATE_ROWS_MAX`] nothing is that clients choose, and beyond twice as many nothing but the hour; the sums stay exact.
#[derive(Debug, Default)]
pub struct Rows {
    hasher: ahash::RandomState,
    /// By a hash, so that a row is found without owning its texts.
    rows: HashMap<u64, Vec<(Dimensions<'static>, Cell)>, ahash::RandomState>,
    count: usize,
    blurred: u64,
}

impl Rows {
    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How often figures were counted with less detail than they came with.
    pub fn blurred(&self) -> u64 {
        self.blurred
    }

    /// The figures of these dimensions, or of coarser ones where there are too many.
    #[inline]
    pub fn cell(&mut self, dimensions: &Dimensions<'_>) -> &mut Cell {
        if self.count >= AGGREGATE_METADATA_MAX && !self.has(dimensions) {
            return self.blurred_cell(dimensions);
        }
        self.exact(dimensions)
    }

    #[cold]
    fn blurred_cell(&mut self, dimensions: &Dimensions<'_>) -> &mut Cell {
        self.blurred += 1;
        let step = 1
            + usize::from(self.count >= AGGREGATE_ROWS_MAX)
            + usize::from(self.count >= 2 * AGGREGATE_ROWS_MAX);
        self.exact(&dimensions.coarser(step))
    }

    /// Counts all that another has counted.
    pub fn merge(&mut self, other: Self) {
        self.blurred += other.blurred;
        for (dimensions, cell) in other.into_rows() {
            self.cell(&dimensions).merge(&cell);
        }
    }

    /// Every row.
    pub fn into_rows(self) -> impl Iterator<Item = (Dimensions<'static>, Cell)> {
        self.rows.into_values().flatten()
    }

    /// Every row, to look at.
    pub fn iter(&self) -> impl Iterator<Item = &(Dimensions<'static>, Cell)> {
        self.rows.values().flatten()
    }

    fn has(&self, dimensions: &Dimensions<'_>) -> bool {
        let found = self.rows.get(&self.hasher.hash_one(dimensions));
        found.is_some_and(|like| like.iter().any(|(key, _)| key == dimensions))
    }

    fn exact(&mut self, dimensions: &Dimensions<'_>) -> &mut Cell {
        let like = self
            .rows
            .entry(self.hasher.hash_one(dimensions))
            .or_default();
        let at = like.iter().position(|(key, _)| key == dimensions);
        let at = at.unwrap_or_else(|| {
            like.push((dimensions.clone().into_owned(), Cell::default()));
            self.count += 1;
            like.len() - 1
        });
        &mut like[at].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dimensions(model: &str, user: &str) -> Dimensions<'static> {
        Dimensions {
            minute: 7,
            gateway: "main".into(),
            model: model.to_owned().into(),
            metadata: format!("{{\"user\":\"{user}\"}}").into(),
            ..Dimensions::default()
        }
    }

    #[test]
    fn like_requests_are_counted_together_and_taken_once() {
        let block = Block::default();
        for (model, tokens) in [("a", 1), ("b", 2), ("a", 3)] {
            block.note(&dimensions(model, "x"), |cell| {
                cell.requests += 1;
                cell.tokens_in += tokens;
                cell.duration.record(tokens);
            });
        }
        let mut rows: Vec<_> = block.take().into_rows().collect();
        rows.sort_by_key(|(dimensions, _)| dimensions.model.clone());
        let figures = |at: usize| {
            (
                rows[at].1.requests,
                rows[at].1.tokens_in,
                rows[at].1.duration.count(),
            )
        };
        assert_eq!(
            (rows.len(), figures(0), figures(1)),
            (2, (2, 4, 2), (1, 2, 1))
        );
        assert!(block.take().is_empty());
    }

    #[test]
    fn rows_are_bounded_and_sums_stay_exact() {
        let mut rows = Rows::default();
        let many = 3 * AGGREGATE_ROWS_MAX;
        for at in 0..many {
            let model = if at % 2 == 0 {
                "a".to_owned()
            } else {
                format!("model {at}")
            };
            rows.cell(&dimensions(&model, &at.to_string())).requests += 1;
        }
        assert!(rows.len() <= AGGREGATE_ROWS_MAX + 1, "{} rows", rows.len());
        assert_eq!(rows.blurred(), (many - AGGREGATE_METADATA_MAX) as u64);
        let mut sum = Cell::default();
        let mut others = 0;
        for (dimensions, cell) in rows.into_rows() {
            others += u64::from(dimensions.model == OTHER) * cell.requests;
            sum.merge(&cell);
        }
        assert_eq!(sum.requests, many as u64);
        assert!(others > 0);
    }

    #[test]
    fn however_many_rows_the_last_step_is_one_an_hour() {
        let mut rows = Rows::default();
        for at in 0..4 * AGGREGATE_ROWS_MAX as u64 {
            let token = Dimensions {
                minute: at % 120,
                token: at.to_string().into(),
                ..dimensions("a", "x")
            };
            rows.cell(&token).requests += 1;
        }
        assert!(rows.len() <= 2 * AGGREGATE_ROWS_MAX + 2);
        let sum: u64 = rows.iter().map(|(_, cell)| cell.requests).sum();
        assert_eq!(sum, 4 * AGGREGATE_ROWS_MAX as u64);
    }

    #[test]
    fn metadata_is_of_one_form_and_loses_its_values_first() {
        let written = |text: &'static str| Dimensions {
            metadata: text.into(),
            ..dimensions("a", "x")
        };
        let one = written(r#"{"z":1,"a":"t","m":true}"#).plain();
        assert_eq!(one.metadata, r#"{"a":"t","m":"true","z":"1"}"#);
        assert_eq!(one, written(r#"{"a":"t","m":"true","z":"1"}"#).plain());
        assert_eq!(
            one.coarser(1).metadata,
            r#"{"a":"other","m":"other","z":"other"}"#
        );
        assert_eq!(one.coarser(2).metadata, "");
        assert_eq!(written("").plain().metadata, "");
    }

    #[test]
    fn merged_cells_hold_what_both_held() {
        let one = Cell {
            requests: 1,
            cost: Money(5),
            duration_sum: 10,
            ..Cell::default()
        };
        let mut sum = one.clone();
        sum.merge(&one);
        assert_eq!(
            (sum.requests, sum.cost, sum.duration_sum),
            (2, Money(10), 20)
        );
    }
}
