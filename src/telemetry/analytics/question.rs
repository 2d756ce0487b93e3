//! What can be asked of the figures: a time, conditions, and what they are told apart by.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use smallvec::SmallVec;

use crate::aggregate::{Cell, Dimensions, Outcome};
use crate::limits::{ANALYTICS_GROUPS_MAX, ANALYTICS_MINUTES_KEPT};

/// A question.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// From this minute since 1970.
    pub from: u64,
    /// To before this one.
    pub until: u64,
    /// What counts.
    pub filter: Filter,
    /// What is told apart.
    pub by: Vec<Dimension>,
    /// Whether histograms are wanted.
    pub latencies: bool,
}

/// Something that figures are told apart by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Dimension {
    /// The time, in steps of so many minutes.
    Time(u64),
    Gateway,
    Provider,
    Model,
    Status,
    Cached,
    /// Whether the request failed.
    Error,
    RateLimited,
    Route,
    KeyAlias,
    Token,
    UserAgent,
    /// The value of one pair of the metadata.
    Metadata(String),
    MetadataKeys,
    MetadataValues,
    MetadataRaw,
}

/// A value of a dimension.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Value {
    /// There is none.
    None,
    Flag(bool),
    Number(u64),
    Text(Arc<str>),
    Texts(Vec<Arc<str>>),
}

impl Value {
    /// Of a text.
    pub fn text(text: &str) -> Self {
        Self::Text(text.into())
    }
}

/// Conditions.
#[derive(Debug, Clone, PartialEq)]
pub enum Filter {
    /// All hold.
    All(Vec<Filter>),
    /// One holds.
    Any(Vec<Filter>),
    /// A dimension against values, of which some tests look at the first one alone.
    Test(Dimension, Test, Vec<Value>),
}

/// How a dimension is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Test {
    /// One of the values.
    In,
    /// None of the values.
    NotIn,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    /// As in SQL: `%` for anything, `_` for one character.
    Like,
    /// A list that has one of the values.
    Has,
}

/// Dimensions, and their metadata taken apart.
pub(super) struct Known {
    dimensions: Dimensions<'static>,
    pairs: BTreeMap<String, String>,
}

impl Known {
    pub fn new(dimensions: Dimensions<'static>) -> Self {
        let pairs = dimensions.pairs();
        Self { dimensions, pairs }
    }
}

impl Dimension {
    fn value(&self, known: &Known, at: u64) -> Value {
        let of = &known.dimensions;
        match self {
            Self::Time(step) => Value::Number(at - at % step),
            Self::Gateway => Value::text(&of.gateway),
            Self::Provider => Value::text(&of.provider),
            Self::Model => Value::text(&of.model),
            Self::Status => Value::Number(of.status.into()),
            Self::Cached => Value::Flag(of.cached),
            Self::Error => Value::Flag(of.outcome != Outcome::Answered),
            Self::RateLimited => Value::Flag(of.outcome == Outcome::RateLimited),
            Self::Route => Value::text(&of.route),
            Self::KeyAlias => Value::text(&of.key_alias),
            Self::Token => Value::text(&of.token),
            Self::UserAgent => Value::text(&of.user_agent),
            Self::Metadata(key) => known
                .pairs
                .get(key)
                .map_or(Value::None, |text| Value::text(text)),
            Self::MetadataKeys => texts(known.pairs.keys()),
            Self::MetadataValues => texts(known.pairs.values()),
            Self::MetadataRaw => Value::text(&of.metadata),
        }
    }
}

fn texts<'a>(texts: impl Iterator<Item = &'a String>) -> Value {
    Value::Texts(texts.map(|text| text.as_str().into()).collect())
}

impl Filter {
    /// One that holds always.
    pub fn everything() -> Self {
        Self::All(Vec::new())
    }

    fn holds(&self, known: &Known, at: u64) -> bool {
        match self {
            Self::All(filters) => filters.iter().all(|filter| filter.holds(known, at)),
            Self::Any(filters) => filters.iter().any(|filter| filter.holds(known, at)),
            Self::Test(dimension, test, values) => test.holds(&dimension.value(known, at), values),
        }
    }

    fn asks_for_time(&self) -> bool {
        match self {
            Self::All(filters) | Self::Any(filters) => filters.iter().any(Self::asks_for_time),
            Self::Test(dimension, ..) => matches!(dimension, Dimension::Time(_)),
        }
    }
}

impl Test {
    fn holds(self, value: &Value, values: &[Value]) -> bool {
        let first = values.first().unwrap_or(&Value::None);
        match self {
            Self::In => values.contains(value),
            Self::NotIn => !values.contains(value),
            Self::Less => value < first,
            Self::LessOrEqual => value <= first,
            Self::Greater => value > first,
            Self::GreaterOrEqual => value >= first,
            Self::Like => match (value, first) {
                (Value::Text(text), Value::Text(pattern)) => is_like(text, pattern),
                _ => false,
            },
            Self::Has => match value {
                Value::Texts(texts) => values
                    .iter()
                    .any(|value| matches!(value, Value::Text(text) if texts.contains(text))),
                _ => false,
            },
        }
    }
}

/// SQL's `LIKE`, in one walk: after a mismatch it goes back to the last `%` alone.
fn is_like(text: &str, pattern: &str) -> bool {
    let (text, pattern): (Vec<char>, Vec<char>) =
        (text.chars().collect(), pattern.chars().collect());
    let (mut at, mut next) = (0, 0);
    let mut last: Option<(usize, usize)> = None;
    while at < text.len() {
        match pattern.get(next) {
            Some('%') => {
                last = Some((next, at));
                next += 1;
            }
            Some(one) if *one == '_' || *one == text[at] => {
                at += 1;
                next += 1;
            }
            _ => match &mut last {
                Some((percent, from)) => {
                    *from += 1;
                    (next, at) = (*percent + 1, *from);
                }
                None => return false,
            },
        }
    }
    pattern[next..].iter().all(|one| *one == '%')
}

/// Which table a part of a question's time is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Table {
    Minutes,
    Hours,
}

/// A part of the time: a table, from, to before.
pub(super) type Piece = (Table, u64, u64);

impl Question {
    /// How the time is read: whole hours from their own table where nothing finer is wanted, the rest by minutes as far as these
    /// are kept.
    pub(super) fn pieces(&self, now: u64) -> Vec<Piece> {
        let down = |minute: u64| minute - minute % 60;
        let up = |minute: u64| down(minute + 59);
        let kept = up(now.saturating_sub(ANALYTICS_MINUTES_KEPT));
        let fine = self.filter.asks_for_time()
            || self
                .by
                .iter()
                .any(|by| matches!(by, Dimension::Time(step) if step % 60 != 0));
        let (first, last) = (up(self.from), down(self.until));
        let mut pieces = Vec::new();
        let mut minutes = |from: u64, until: u64| {
            if from < until && from < kept {
                pieces.push((Table::Hours, down(from), up(until).min(kept)));
            }
            if from.max(kept) < until {
                pieces.push((Table::Minutes, from.max(kept), until));
            }
        };
        if fine || first >= last {
            minutes(self.from, self.until);
            return pieces;
        }
        minutes(self.from, first);
        minutes(last, self.until);
        pieces.push((Table::Hours, first, last));
        pieces
    }
}

/// Figures of a question as they are added up.
pub(super) struct Tally<'a> {
    question: &'a Question,
    steps: Vec<u64>,
    /// Of each set of dimensions, by its number: its group, or that it does not count.
    groups_of: HashMap<i64, Option<usize>, ahash::RandomState>,
    groups: HashMap<Vec<Value>, usize, ahash::RandomState>,
    cells: HashMap<(usize, Steps), Cell, ahash::RandomState>,
    timely: bool,
}

/// The time of a point, in each of the steps that are asked for.
type Steps = SmallVec<[u64; 2]>;

/// More groups and points than are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooMany;

impl<'a> Tally<'a> {
    pub fn new(question: &'a Question) -> Self {
        let steps = question.by.iter().filter_map(|by| match by {
            Dimension::Time(step) => Some(*step),
            _ => None,
        });
        Self {
            question,
            steps: steps.collect(),
            groups_of: HashMap::default(),
            groups: HashMap::default(),
            cells: HashMap::default(),
            timely: question.filter.asks_for_time(),
        }
    }

    /// Adds a cell of numbered dimensions.
    pub fn add(&mut self, number: i64, known: &Known, at: u64, cell: &Cell) -> Result<(), TooMany> {
        let group = match self.groups_of.get(&number) {
            Some(group) => *group,
            None => {
                let group = (self.timely || self.question.filter.holds(known, at))
                    .then(|| self.group(known));
                self.groups_of.insert(number, group);
                group
            }
        };
        match group {
            Some(group) => self.put(group, known, at, cell),
            None => Ok(()),
        }
    }

    /// Adds a cell whose dimensions have no number.
    pub fn add_unnumbered(&mut self, known: &Known, at: u64, cell: &Cell) -> Result<(), TooMany> {
        if !self.question.filter.holds(known, at) {
            return Ok(());
        }
        let group = self.group(known);
        self.put(group, known, at, cell)
    }

    /// Whether a set of dimensions is known not to count.
    pub fn skips(&self, number: i64) -> bool {
        self.groups_of.get(&number) == Some(&None)
    }

    fn put(&mut self, group: usize, known: &Known, at: u64, cell: &Cell) -> Result<(), TooMany> {
        if self.timely && !self.question.filter.holds(known, at) {
            return Ok(());
        }
        let point = self.steps.iter().map(|step| at - at % step).collect();
        self.cells.entry((group, point)).or_default().merge(cell);
        match self.cells.len() > ANALYTICS_GROUPS_MAX {
            true => Err(TooMany),
            false => Ok(()),
        }
    }

    fn group(&mut self, known: &Known) -> usize {
        let by = self.question.by.iter();
        let key = by
            .filter(|by| !matches!(by, Dimension::Time(_)))
            .map(|by| by.value(known, 0))
            .collect();
        let next = self.groups.len();
        *self.groups.entry(key).or_insert(next)
    }

    /// Every group with its figures, the values in the order of the question, sorted by them.
    pub fn rows(self) -> Vec<(Vec<Value>, Cell)> {
        let mut groups: Vec<Vec<Value>> = vec![Vec::new(); self.groups.len()];
        for (key, index) in self.groups {
            groups[index] = key;
        }
        let mut rows: Vec<(Vec<Value>, Cell)> = Vec::with_capacity(self.cells.len());
        for ((group, steps), cell) in self.cells {
            let (mut others, mut steps) = (groups[group].iter(), steps.iter());
            let values = self.question.by.iter().filter_map(|by| match by {
                Dimension::Time(_) => steps.next().map(|at| Value::Number(*at)),
                _ => others.next().cloned(),
            });
            rows.push((values.collect(), cell));
        }
        rows.sort_by(|one, other| one.0.cmp(&other.0));
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(from: u64, until: u64, step: Option<u64>) -> Question {
        Question {
            from,
            until,
            filter: Filter::everything(),
            by: step.map(Dimension::Time).into_iter().collect(),
            latencies: false,
        }
    }

    fn known(status: u16, metadata: &'static str) -> Known {
        Known::new(Dimensions {
            gateway: "main".into(),
            status,
            metadata: metadata.into(),
            ..Dimensions::default()
        })
    }

    #[test]
    fn whole_hours_come_from_their_table_and_edges_from_minutes() {
        use Table::{Hours, Minutes};
        let now = 1_000_020;
        assert_eq!(
            question(999_900, 999_960, None).pieces(now),
            [(Hours, 999_900, 999_960)]
        );
        let edges = question(999_890, 999_970, None).pieces(now);
        assert_eq!(
            edges,
            [
                (Minutes, 999_890, 999_900),
                (Minutes, 999_960, 999_970),
                (Hours, 999_900, 999_960)
            ]
        );
        assert_eq!(
            question(999_905, 999_910, Some(60)).pieces(now),
            [(Minutes, 999_905, 999_910)]
        );
        assert_eq!(
            question(999_890, 999_970, Some(1)).pieces(now),
            [(Minutes, 999_890, 999_970)]
        );
    }

    #[test]
    fn what_has_no_minutes_any_more_is_read_by_the_hour() {
        use Table::{Hours, Minutes};
        let now = 1_000_020;
        let kept = 1_000_020 - ANALYTICS_MINUTES_KEPT;
        let kept = kept.div_ceil(60) * 60;
        let pieces = question(kept - 90, kept + 10, Some(1)).pieces(now);
        assert_eq!(
            pieces,
            [(Hours, kept - 120, kept), (Minutes, kept, kept + 10)]
        );
        let pieces = question(kept - 130, kept - 70, None).pieces(now);
        assert_eq!(pieces, [(Hours, kept - 180, kept - 60)]);
    }

    #[test]
    fn no_minute_is_read_twice_and_none_is_left_out() {
        let now = 1_000_020;
        for from in [
            0, 989_000, 989_939, 989_940, 989_941, 999_959, 999_960, 1_000_000,
        ] {
            for length in [1, 59, 60, 61, 119, 121, 10_000, 20_000] {
                for step in [None, Some(1), Some(15), Some(60), Some(1440)] {
                    let pieces = question(from, from + length, step).pieces(now);
                    let mut read: Vec<(u64, u64)> = pieces
                        .iter()
                        .map(|(_, from, until)| (*from, *until))
                        .collect();
                    read.sort_unstable();
                    assert!(read[0].0 <= from, "{from} {length} {step:?}: {pieces:?}");
                    assert!(read[read.len() - 1].1 >= from + length, "{pieces:?}");
                    for pair in read.windows(2) {
                        assert_eq!(pair[0].1, pair[1].0, "{from} {length} {step:?}: {pieces:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn filters_hold_for_what_they_name() {
        use Filter as F;
        let one = known(429, r#"{"team":"red","user":"7"}"#);
        let test = |dimension, test, values: &[Value]| F::Test(dimension, test, values.to_vec());
        let team = || Dimension::Metadata("team".to_owned());
        for (filter, holds) in [
            (
                test(
                    Dimension::Status,
                    Test::In,
                    &[Value::Number(200), Value::Number(429)],
                ),
                true,
            ),
            (
                test(Dimension::Status, Test::NotIn, &[Value::Number(429)]),
                false,
            ),
            (
                test(
                    Dimension::Status,
                    Test::GreaterOrEqual,
                    &[Value::Number(430)],
                ),
                false,
            ),
            (
                test(Dimension::Gateway, Test::Like, &[Value::text("m%n")]),
                true,
            ),
            (test(team(), Test::In, &[Value::text("red")]), true),
            (
                test(
                    Dimension::Metadata("no".to_owned()),
                    Test::In,
                    &[Value::None],
                ),
                true,
            ),
            (
                test(Dimension::MetadataKeys, Test::Has, &[Value::text("user")]),
                true,
            ),
            (
                test(Dimension::MetadataValues, Test::Has, &[Value::text("8")]),
                false,
            ),
            (
                test(Dimension::Time(1), Test::Less, &[Value::Number(8)]),
                true,
            ),
            (F::Any(Vec::new()), false),
            (F::everything(), true),
            (
                F::Any(vec![
                    test(Dimension::Gateway, Test::In, &[Value::text("x")]),
                    test(Dimension::Cached, Test::In, &[Value::Flag(false)]),
                ]),
                true,
            ),
        ] {
            assert_eq!(filter.holds(&one, 7), holds, "{filter:?}");
        }
    }

    #[test]
    fn patterns_match_as_in_sql() {
        for (text, pattern, matches) in [
            ("gpt-4o", "gpt%", true),
            ("gpt-4o", "%4_", true),
            ("gpt-4o", "_pt-4", false),
            ("", "%", true),
            ("", "_", false),
            ("aab", "%ab", true),
            ("äb", "_b", true),
            ("a%b", "a%b", true),
            ("ab", "b%", false),
        ] {
            assert_eq!(is_like(text, pattern), matches, "{text} {pattern}");
        }
        // No pattern takes more than a walk for each of its parts.
        assert!(!is_like(
            &"a".repeat(2000),
            &"%a".repeat(500).replace("%a", "%ab")
        ));
    }

    #[test]
    fn figures_are_told_apart_by_what_is_asked() {
        let mut question = question(0, 100, Some(10));
        question.by.push(Dimension::Metadata("team".to_owned()));
        let cell = Cell {
            requests: 1,
            ..Cell::default()
        };
        let (red, none) = (known(200, r#"{"team":"red"}"#), known(200, ""));
        let mut tally = Tally::new(&question);
        for (number, known, at) in [(1, &red, 3), (1, &red, 9), (1, &red, 10), (2, &none, 3)] {
            tally.add(number, known, at, &cell).expect("few");
        }
        tally.add_unnumbered(&red, 3, &cell).expect("few");
        let rows = tally.rows();
        let told: Vec<_> = rows
            .iter()
            .map(|(values, cell)| (values.clone(), cell.requests))
            .collect();
        let (zero, ten) = (Value::Number(0), Value::Number(10));
        assert_eq!(
            told,
            [
                (vec![zero.clone(), Value::None], 1),
                (vec![zero, Value::text("red")], 3),
                (vec![ten, Value::text("red")], 1),
            ]
        );
    }
}
