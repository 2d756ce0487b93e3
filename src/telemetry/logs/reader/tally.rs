//! Sums over the entries that some questions find. A walk over millions of them is cut into pieces, each a short question.

use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::types::Value as Sql;
use rusqlite::{Row, params_from_iter};

use super::{Open, Reader, gateway, id_of};
use crate::limits::LOG_TALLY_ROWS;
use crate::record::Id;
use crate::telemetry::logs::catalog::Segment;
use crate::telemetry::logs::filter::{Clause, Condition};

/// Entries to sum up: each counts once, however many of the questions find it.
#[derive(Debug, Clone, PartialEq)]
pub struct Selection {
    /// Whose entries.
    pub gateway: String,
    /// Any of these must find an entry: all conditions of one of them.
    pub questions: Vec<Vec<Condition>>,
    /// The last millisecond in which an entry may have begun.
    pub until: u64,
}

/// Where a walk over a selection goes on.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    segment: PathBuf,
    after: Id,
}

/// What the entries add up to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many there are.
    pub entries: u64,
    /// Pico-dollars, of those whose cost is known.
    pub cost: Sum,
    /// Milliseconds.
    pub duration: Sum,
    /// One for each positive judgement, of those that were judged at all.
    pub liked: Sum,
}

/// A sum of figures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum {
    /// How many have the figure.
    pub entries: u64,
    /// All of them.
    pub total: i128,
}

impl Sum {
    fn add(&mut self, figure: Option<i64>) {
        if let Some(figure) = figure {
            self.entries += 1;
            self.total += i128::from(figure);
        }
    }

    fn join(&mut self, other: Self) {
        self.entries += other.entries;
        self.total += other.total;
    }
}

impl Tally {
    /// Adds another.
    pub fn join(&mut self, other: Self) {
        self.entries += other.entries;
        self.cost.join(other.cost);
        self.duration.join(other.duration);
        self.liked.join(other.liked);
    }

    fn add(&mut self, row: &Row<'_>) -> rusqlite::Result<()> {
        self.entries += 1;
        self.cost.add(row.get(1)?);
        self.duration.add(row.get(2)?);
        // 0 is no judgement (control plane 3.5).
        let feedback: Option<i64> = row.get(3)?;
        let feedback = feedback.filter(|feedback| *feedback != 0);
        self.liked
            .add(feedback.map(|feedback| i64::from(feedback > 0)));
        Ok(())
    }
}

impl Reader {
    /// Sums over the next entries of a selection, and where it goes on; `None`: that was all of it.
    pub fn tally(
        &mut self,
        selection: &Selection,
        from: Option<&Place>,
    ) -> rusqlite::Result<(Tally, Option<Place>)> {
        self.begin();
        self.patiently(|reader| reader.try_tally(selection, from, LOG_TALLY_ROWS))
    }

    /// The same, with so many entries passed at most.
    pub fn try_tally(
        &mut self,
        selection: &Selection,
        from: Option<&Place>,
        most: u64,
    ) -> rusqlite::Result<(Tally, Option<Place>)> {
        let (mut tally, mut left) = (Tally::default(), most);
        for segment in self.segments_from(selection, from) {
            let after = from.filter(|place| place.segment == segment.path);
            let after = after.map_or(Id::from_bytes([0; 16]), |place| place.after);
            let open = self.opened(&segment)?;
            let (passed, last) = pass(open, selection, after, left, &mut tally)?;
            left -= passed;
            if left == 0 {
                let segment = segment.path.clone();
                let place = last.map(|after| Place { segment, after });
                return Ok((tally, place));
            }
        }
        Ok((tally, None))
    }

    /// By their names, which never change: a walk takes each once, though some come and some go meanwhile.
    fn segments_from(&self, selection: &Selection, from: Option<&Place>) -> Vec<Arc<Segment>> {
        let mut segments = self.catalog.all();
        segments.retain(|segment| {
            let facts = segment.facts();
            let begun = facts
                .range
                .is_some_and(|(first, _)| first.milliseconds() <= selection.until);
            let rows = facts.rows.get(&*selection.gateway).copied().unwrap_or(0);
            let ahead = from.is_none_or(|place| segment.path >= place.segment);
            begun && rows > 0 && ahead
        });
        segments.sort_by(|one, other| one.path.cmp(&other.path));
        segments
    }
}

/// Goes over entries of a segment; returns how many these were, and the last of them.
fn pass(
    open: &Open,
    selection: &Selection,
    after: Id,
    most: u64,
    tally: &mut Tally,
) -> rusqlite::Result<(u64, Option<Id>)> {
    let Some(number) = gateway(&open.connection, &selection.gateway)? else {
        return Ok((0, None));
    };
    let clause = any_of(open, &selection.questions)?;
    let [first, end, limit] = [1, 2, 3].map(|place| clause.values.len() + place);
    // What is not found is passed as well, so that a question is short whatever it finds.
    let sql = format!(
        "SELECT id, cost, duration, feedback, ({}) IS TRUE FROM logs
        WHERE gateway = {number} AND id > ?{first} AND id < ?{end} ORDER BY id LIMIT ?{limit}",
        clause.sql
    );
    let bounds = [after, Id::lowest_at(selection.until + 1)];
    let bounds = bounds.map(|id| Sql::Blob(id.to_bytes().to_vec()));
    let limit = Sql::Integer(most as i64);
    let values = clause.values.into_iter().chain(bounds).chain([limit]);
    let mut statement = open.connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let (mut passed, mut last) = (0, None);
    while let Some(row) = rows.next()? {
        passed += 1;
        last = Some(id_of(row, 0)?);
        if row.get(4)? {
            tally.add(row)?;
        }
    }
    Ok((passed, last))
}

fn any_of(open: &Open, questions: &[Vec<Condition>]) -> rusqlite::Result<Clause> {
    let mut clause = Clause::default();
    clause.sql.push('0');
    for conditions in questions {
        clause.sql.push_str(" OR (1");
        for condition in conditions {
            clause.and(condition, &open.connection, open.has_bodies)?;
        }
        clause.sql.push(')');
    }
    Ok(clause)
}
