//! Answers questions over all segments, on a reader's thread.

mod tally;

use std::cell::RefCell;
use std::cmp::Ordering as Comparison;
use std::collections::{BinaryHeap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rusqlite::functions::FunctionFlags;
use rusqlite::types::{Value as Sql, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Row, params_from_iter};

pub use tally::{Place, Selection, Sum, Tally};

use super::catalog::{Catalog, Segment};
use super::filter::{Clause, Condition, contains, in_set};
use super::row::Details;
use super::segment::Kind;
use crate::limits::{
    LOG_BODY_BYTES_MAX, LOG_BUSY_WAIT, LOG_COUNTS_MAX, LOG_HEAD_BYTES, LOG_QUESTION_WAIT,
    READER_SEGMENTS_MAX,
};
use crate::record::Id;

/// What a list is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// Whose entries.
    pub gateway: String,
    /// All must hold.
    pub conditions: Vec<Condition>,
    /// Their order.
    pub order: Order,
    /// Entries passed over.
    pub offset: u64,
    /// Entries wanted.
    pub limit: u64,
    /// Whether the least and the most of each figure are wanted.
    pub extremes: bool,
}

/// By what a list is ordered; entries that are alike there come by their ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    /// The column.
    pub by: OrderBy,
    /// From the highest to the lowest.
    pub descending: bool,
}

/// A column to order by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderBy {
    CreatedAt,
    Provider,
    Model,
    ModelType,
    Success,
    Cached,
    Cost,
    TokensIn,
    TokensOut,
    Duration,
    Feedback,
}

impl OrderBy {
    /// Of the API's names.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "created_at" => Self::CreatedAt,
            "provider" => Self::Provider,
            "model" => Self::Model,
            "model_type" => Self::ModelType,
            "success" => Self::Success,
            "cached" => Self::Cached,
            "cost" => Self::Cost,
            "tokens_in" => Self::TokensIn,
            "tokens_out" => Self::TokensOut,
            "duration" => Self::Duration,
            "feedback" => Self::Feedback,
            _ => return None,
        })
    }

    /// The column; of time there is none but the id.
    fn column(self) -> &'static str {
        match self {
            Self::CreatedAt => "NULL",
            Self::Provider => "provider",
            Self::Model => "model",
            Self::ModelType => "model_type",
            Self::Success => "success",
            Self::Cached => "cached",
            Self::Cost => "cost",
            Self::TokensIn => "tokens_in",
            Self::TokensOut => "tokens_out",
            Self::Duration => "duration",
            Self::Feedback => "feedback",
        }
    }
}

/// A page of entries.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// How many there are in all.
    pub total: u64,
    /// Those of the page.
    pub logs: Vec<Log>,
    /// The least and the most of each figure, where it was asked for.
    pub extremes: Option<Extremes>,
}

/// Least and most: cost (pico-dollars), duration, tokens in, tokens out, both; `None` where no entry has the figure.
pub type Extremes = [(Option<i64>, Option<i64>); 5];

/// An entry as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    pub id: Id,
    pub success: bool,
    pub cached: bool,
    pub status: u16,
    pub step: u8,
    pub provider: String,
    pub model: String,
    pub path: String,
    pub model_type: Option<String>,
    pub request_type: Option<String>,
    pub request_content_type: Option<String>,
    pub response_content_type: Option<String>,
    pub user_agent: Option<String>,
    pub event_id: Option<String>,
    pub metadata: Option<String>,
    pub tokens_in: Option<i64>,
    pub tokens_out: Option<i64>,
    /// Pico-dollars.
    pub cost: Option<i64>,
    pub duration: i64,
    pub feedback: Option<i64>,
    pub score: Option<f64>,
    pub flags: u8,
    pub details: Details<'static>,
    /// The beginnings of both bodies and whether they are all of it, where a single entry is read and they are kept.
    pub heads: [Option<(String, bool)>; 2],
}

/// Which body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    Request,
    Response,
}

/// How a body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As it came.
    Raw,
    /// A stream as the answer that it made; `redacts`: without what looks like a key in it.
    Final { redacts: bool },
}

/// A body as it was.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredBody {
    /// Its type, where that was told.
    pub content_type: Option<String>,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Counts and extremes that hold until a segment changes, shared by all readers.
#[derive(Default)]
pub struct Counts {
    counts: Known<u64>,
    extremes: Known<Extremes>,
}

/// Of a segment's file and generation and what was asked of it.
#[derive(Default)]
struct Known<T>(Mutex<HashMap<(PathBuf, u64, String), T>>);

impl<T: Copy> Known<T> {
    fn get(&self, key: &(PathBuf, u64, String)) -> Option<T> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(key)
            .copied()
    }

    fn put(&self, key: (PathBuf, u64, String), count: T) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= LOG_COUNTS_MAX {
            known.clear();
        }
        known.insert(key, count);
    }
}

/// A segment open for reading.
struct Open {
    segment: Arc<Segment>,
    connection: Connection,
    has_bodies: bool,
    /// The last conditions put into SQL, and what they came to: reading all names for them is half of the work.
    last: RefCell<Option<(Asked, Option<Clause>)>>,
}

/// What tells one reading of conditions from another: the segment's generation, the gateway and the conditions.
type Asked = (u64, String, Vec<Condition>);

/// One reader.
pub struct Reader {
    catalog: Arc<Catalog>,
    counts: Arc<Counts>,
    open: Vec<Open>,
    /// When the current question must be answered.
    deadline: Arc<Mutex<Instant>>,
}

impl Reader {
    /// Over a catalog.
    pub fn new(catalog: Arc<Catalog>, counts: Arc<Counts>) -> Self {
        Self {
            catalog,
            counts,
            open: Vec::new(),
            deadline: Arc::new(Mutex::new(Instant::now())),
        }
    }

    /// Closes what was deleted, so that the disk gets its space back.
    pub fn close_gone(&mut self) {
        self.open.retain(|open| {
            let bodies = open.segment.facts().bodies;
            !open.segment.is_gone() && open.has_bodies <= bodies
        });
    }

    fn begin(&self) {
        let deadline = Instant::now() + LOG_QUESTION_WAIT;
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner) = deadline;
    }

    fn opened(&mut self, segment: &Arc<Segment>) -> rusqlite::Result<&Open> {
        let bodies = segment.facts().bodies;
        let same = |open: &Open| Arc::ptr_eq(&open.segment, segment);
        if let Some(index) = self.open.iter().position(same) {
            let open = self.open.remove(index);
            if open.has_bodies == bodies {
                self.open.push(open);
                return Ok(&self.open[self.open.len() - 1]);
            }
        }
        if self.open.len() >= READER_SEGMENTS_MAX {
            self.open.remove(0);
        }
        let connection = connect(segment, bodies, self.deadline.clone())?;
        self.open.push(Open {
            segment: segment.clone(),
            connection,
            has_bodies: bodies,
            last: RefCell::new(None),
        });
        Ok(&self.open[self.open.len() - 1])
    }

    /// A page of a list.
    pub fn find(&mut self, query: &Query) -> rusqlite::Result<Found> {
        self.begin();
        self.patiently(|reader| reader.try_find(query))
    }

    /// Asks once more where a segment went while it was asked.
    fn patiently<T>(
        &mut self,
        ask: impl Fn(&mut Self) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        match ask(self) {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::CannotOpen) => {
                self.close_gone();
                ask(self)
            }
            outcome => outcome,
        }
    }

    fn try_find(&mut self, query: &Query) -> rusqlite::Result<Found> {
        let segments = self.segments_of(query);
        let mut counts = Vec::with_capacity(segments.len());
        for segment in &segments {
            counts.push(self.count(segment, query)?);
        }
        let extremes = match query.extremes {
            true => Some(self.extremes(&segments, query)?),
            false => None,
        };
        let chosen = self.choose(&segments, &counts, query)?;
        let mut logs = Vec::with_capacity(chosen.len());
        for (segment, id) in chosen {
            let open = self.opened(&segment)?;
            // One that was deleted in between is not there any more.
            logs.extend(read_log(&open.connection, &query.gateway, id)?);
        }
        Ok(Found {
            total: counts.iter().sum(),
            logs,
            extremes,
        })
    }

    /// The ids of a list, by their segments.
    pub fn ids(&mut self, query: &Query) -> rusqlite::Result<Vec<(Arc<Segment>, Vec<Id>)>> {
        self.begin();
        self.patiently(|reader| reader.try_ids(query))
    }

    fn try_ids(&mut self, query: &Query) -> rusqlite::Result<Vec<(Arc<Segment>, Vec<Id>)>> {
        let segments = self.segments_of(query);
        let mut counts = Vec::with_capacity(segments.len());
        for segment in &segments {
            counts.push(self.count(segment, query)?);
        }
        let mut found: Vec<(Arc<Segment>, Vec<Id>)> = Vec::new();
        for (segment, id) in self.choose(&segments, &counts, query)? {
            match found
                .iter_mut()
                .find(|(known, _)| Arc::ptr_eq(known, &segment))
            {
                Some((_, ids)) => ids.push(id),
                None => found.push((segment, vec![id])),
            }
        }
        Ok(found)
    }

    /// One entry.
    pub fn get(&mut self, gateway: &str, id: Id) -> rusqlite::Result<Option<Log>> {
        self.begin();
        for segment in self.catalog.of(id) {
            let open = self.opened(&segment)?;
            let Some(mut log) = read_log(&open.connection, gateway, id)? else {
                continue;
            };
            for (head, which) in log.heads.iter_mut().zip([Which::Request, Which::Response]) {
                let body = read_body(open, gateway, id, which, LOG_HEAD_BYTES)?;
                *head = body
                    .map(|(_, bytes, whole)| (String::from_utf8_lossy(&bytes).into_owned(), whole));
            }
            return Ok(Some(log));
        }
        Ok(None)
    }

    /// One body.
    pub fn body(
        &mut self,
        gateway: &str,
        id: Id,
        which: Which,
    ) -> rusqlite::Result<Option<StoredBody>> {
        self.begin();
        for segment in self.catalog.of(id) {
            let open = self.opened(&segment)?;
            let found = read_body(open, gateway, id, which, LOG_BODY_BYTES_MAX)?;
            if let Some((content_type, bytes, _)) = found {
                return Ok(Some(StoredBody {
                    content_type,
                    bytes,
                }));
            }
        }
        Ok(None)
    }

    /// Segments that may hold what is asked for, the newest first.
    fn segments_of(&self, query: &Query) -> Vec<Arc<Segment>> {
        let mut segments = self.catalog.all();
        segments.retain(|segment| {
            let facts = segment.facts();
            let rows = facts.rows.get(&*query.gateway).copied().unwrap_or(0);
            let Some((first, last)) = facts.range else {
                return false;
            };
            let within = query.conditions.iter().all(|condition| match condition {
                Condition::Between(from, to) => {
                    from.is_none_or(|from| last.milliseconds() >= from)
                        && to.is_none_or(|to| first.milliseconds() <= to)
                }
                _ => true,
            });
            rows > 0 && within
        });
        let last = |segment: &Arc<Segment>| segment.facts().range.map(|(_, last)| last);
        segments.sort_by_key(|segment| std::cmp::Reverse(last(segment)));
        segments
    }

    /// Entries of a segment that a query finds.
    fn count(&mut self, segment: &Arc<Segment>, query: &Query) -> rusqlite::Result<u64> {
        if query.conditions.is_empty() {
            return Ok(segment.rows(&query.gateway));
        }
        let key = known_by(segment, query);
        if let Some(count) = self.counts.counts.get(&key) {
            return Ok(count);
        }
        let open = self.opened(segment)?;
        let Some(clause) = clause(open, query)? else {
            return Ok(0);
        };
        let sql = format!("SELECT count(*) FROM logs WHERE {}", clause.sql);
        let mut statement = open.connection.prepare_cached(&sql)?;
        let values = params_from_iter(&clause.values);
        let count = statement.query_row(values, |row| row.get::<_, i64>(0))? as u64;
        drop(statement);
        self.counts.counts.put(key, count);
        Ok(count)
    }

    fn extremes(&mut self, segments: &[Arc<Segment>], query: &Query) -> rusqlite::Result<Extremes> {
        let mut all: Extremes = Default::default();
        for segment in segments {
            let key = known_by(segment, query);
            let extremes = match self.counts.extremes.get(&key) {
                Some(extremes) => extremes,
                None => {
                    let extremes = self.extremes_of(segment, query)?;
                    self.counts.extremes.put(key, extremes);
                    extremes
                }
            };
            for (sum, (least, most)) in all.iter_mut().zip(extremes) {
                widen(sum, least);
                widen(sum, most);
            }
        }
        Ok(all)
    }

    fn extremes_of(&mut self, segment: &Arc<Segment>, query: &Query) -> rusqlite::Result<Extremes> {
        let mut all: Extremes = Default::default();
        let open = self.opened(segment)?;
        let Some(clause) = clause(open, query)? else {
            return Ok(all);
        };
        // Compared here: ten aggregates cost SQLite more than handing out the rows.
        let sql = format!(
            "SELECT cost, duration, tokens_in, tokens_out FROM logs WHERE {}",
            clause.sql
        );
        let mut statement = open.connection.prepare_cached(&sql)?;
        let mut rows = statement.query(params_from_iter(&clause.values))?;
        while let Some(row) = rows.next()? {
            let figure = |index| Ok::<_, rusqlite::Error>(whole(row.get_ref(index)?));
            let (tokens_in, tokens_out) = (figure(2)?, figure(3)?);
            let both = tokens_in.zip(tokens_out);
            let both = both.map(|(one, other)| one.saturating_add(other));
            let figures = [figure(0)?, figure(1)?, tokens_in, tokens_out, both];
            for (sum, figure) in all.iter_mut().zip(figures) {
                widen(sum, figure);
            }
        }
        Ok(all)
    }

    /// The entries of the page. Where segments do not overlap, and time is the order, each is passed over or read by itself;
    /// otherwise their lists are merged.
    fn choose(
        &mut self,
        segments: &[Arc<Segment>],
        counts: &[u64],
        query: &Query,
    ) -> rusqlite::Result<Vec<(Arc<Segment>, Id)>> {
        let total: u64 = counts.iter().sum();
        if query.offset >= total || query.limit == 0 {
            return Ok(Vec::new());
        }
        let mut groups = match query.order.by {
            OrderBy::CreatedAt => disjoint(segments),
            _ => std::iter::once(0..segments.len()).collect(),
        };
        if query.order.by == OrderBy::CreatedAt && !query.order.descending {
            groups.reverse();
        }
        let (mut offset, mut chosen) = (query.offset, Vec::new());
        for group in groups {
            let there: u64 = counts[group.clone()].iter().sum();
            if offset >= there {
                offset -= there;
                continue;
            }
            let wanted = query.limit - chosen.len() as u64;
            chosen.extend(self.merge(&segments[group], query, offset, wanted)?);
            offset = 0;
            if chosen.len() as u64 >= query.limit {
                break;
            }
        }
        Ok(chosen)
    }

    fn merge(
        &mut self,
        segments: &[Arc<Segment>],
        query: &Query,
        offset: u64,
        limit: u64,
    ) -> rusqlite::Result<Vec<(Arc<Segment>, Id)>> {
        if let [segment] = segments {
            let listed = self.list(segment, query, offset, limit)?;
            return Ok(listed
                .into_iter()
                .map(|(_, id)| (segment.clone(), id))
                .collect());
        }
        let mut all: Vec<(Sql, Id, usize)> = Vec::new();
        for (index, segment) in segments.iter().enumerate() {
            let listed = self.list(segment, query, 0, offset + limit)?;
            all.extend(listed.into_iter().map(|(key, id)| (key, id, index)));
        }
        all.sort_by(|one, other| {
            let order = compare(&one.0, &other.0).then(one.1.cmp(&other.1));
            if query.order.descending {
                order.reverse()
            } else {
                order
            }
        });
        let page = all.into_iter().skip(offset as usize).take(limit as usize);
        Ok(page
            .map(|(_, id, index)| (segments[index].clone(), id))
            .collect())
    }

    /// Order keys and ids of a segment.
    fn list(
        &mut self,
        segment: &Arc<Segment>,
        query: &Query,
        offset: u64,
        limit: u64,
    ) -> rusqlite::Result<Vec<(Sql, Id)>> {
        let open = self.opened(segment)?;
        let Some(clause) = clause(open, query)? else {
            return Ok(Vec::new());
        };
        let direction = if query.order.descending {
            "DESC"
        } else {
            "ASC"
        };
        if query.order.by == OrderBy::CreatedAt {
            let sql = format!(
                "SELECT NULL, id FROM logs WHERE {} ORDER BY id {direction} LIMIT {limit} OFFSET {offset}",
                clause.sql
            );
            let mut statement = open.connection.prepare_cached(&sql)?;
            let listed = statement.query_map(params_from_iter(&clause.values), |row| {
                Ok((row.get(0)?, id_of(row, 1)?))
            })?;
            return listed.collect();
        }
        let kind = match query.order.by {
            OrderBy::Provider => Some(Kind::Provider),
            OrderBy::Model => Some(Kind::Model),
            OrderBy::ModelType => Some(Kind::ModelType),
            _ => None,
        };
        let names = kind.map(|kind| Names::read(&open.connection, kind));
        let names = names.transpose()?;
        // In the order of ids, so that of entries that are alike the first ones are kept and the others looked at no more.
        let sql = format!(
            "SELECT {}, id FROM logs WHERE {} ORDER BY id {direction}",
            query.order.by.column(),
            clause.sql
        );
        let mut statement = open.connection.prepare_cached(&sql)?;
        let mut rows = statement.query(params_from_iter(&clause.values))?;
        let mut best = Best::new(
            offset.saturating_add(limit) as usize,
            query.order.descending,
        );
        while let Some(row) = rows.next()? {
            let key = whole(row.get_ref(0)?);
            let rank = match &names {
                Some(names) => key.and_then(|number| names.rank(number)),
                None => key,
            };
            if best.takes(rank) {
                best.put(rank, id_of(row, 1)?);
            }
        }
        let listed = best.sorted().into_iter().skip(offset as usize);
        let key = |rank: Option<i64>| match (&names, rank) {
            (_, None) => Sql::Null,
            (Some(names), Some(rank)) => Sql::Text(names.text(rank)),
            (None, Some(number)) => Sql::Integer(number),
        };
        Ok(listed.map(|(rank, id)| (key(rank), id)).collect())
    }
}

/// What a segment is known by to the answers of other questions. Read before its rows are: what changes in between makes them
/// out of date, not wrong.
fn known_by(segment: &Segment, query: &Query) -> (PathBuf, u64, String) {
    let generation = segment.facts().generation;
    let asked = format!("{} {:?}", query.gateway, query.conditions);
    (segment.path.clone(), generation, asked)
}

fn whole(value: ValueRef<'_>) -> Option<i64> {
    match value {
        ValueRef::Integer(number) => Some(number),
        _ => None,
    }
}

fn widen((least, most): &mut (Option<i64>, Option<i64>), figure: Option<i64>) {
    if let Some(figure) = figure {
        *least = Some(least.map_or(figure, |least| least.min(figure)));
        *most = Some(most.map_or(figure, |most| most.max(figure)));
    }
}

/// The names that a column has, in their order: comparing places is cheaper than looking every name up.
struct Names {
    /// By the name's number; of one that is not there less than nothing.
    ranks: Vec<i64>,
    texts: Vec<String>,
}

impl Names {
    fn read(connection: &Connection, kind: Kind) -> rusqlite::Result<Self> {
        let query = "SELECT id, text FROM names WHERE kind = ?1";
        let mut statement = connection.prepare_cached(query)?;
        let rows = statement.query_map([kind as i64], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))
        })?;
        let mut names = rows.collect::<rusqlite::Result<Vec<_>>>()?;
        names.sort_by(|one, other| one.1.cmp(&other.1));
        let highest = names.iter().map(|(number, _)| *number).max().unwrap_or(0);
        let (mut ranks, mut texts) = (vec![-1; highest.max(0) as usize + 1], Vec::new());
        for (number, text) in names {
            // A text may stand there more than once.
            if texts.last() != Some(&text) {
                texts.push(text);
            }
            if let Some(rank) = ranks.get_mut(number as usize) {
                *rank = texts.len() as i64 - 1;
            }
        }
        Ok(Self { ranks, texts })
    }

    fn rank(&self, number: i64) -> Option<i64> {
        let rank = self.ranks.get(usize::try_from(number).ok()?)?;
        (*rank >= 0).then_some(*rank)
    }

    fn text(&self, rank: i64) -> String {
        self.texts.get(rank as usize).cloned().unwrap_or_default()
    }
}

/// The first entries of an order, out of all that are looked at in the order of their ids.
struct Best {
    most: usize,
    descending: bool,
    /// The last of them on top.
    kept: BinaryHeap<Ranked>,
    count: usize,
}

/// The rank, so that a higher one comes later; then which one came first; and the id.
type Ranked = (Option<i64>, usize, Id);

impl Best {
    fn new(most: usize, descending: bool) -> Self {
        Self {
            most,
            descending,
            kept: BinaryHeap::new(),
            count: 0,
        }
    }

    /// Turned round, so that the highest comes first; an entry without a value is the lowest.
    fn place(&self, rank: Option<i64>) -> Option<i64> {
        match (self.descending, rank) {
            (false, rank) => rank,
            // The complement turns the order round without an overflow.
            (true, Some(rank)) => Some(!rank),
            (true, None) => Some(i64::MAX),
        }
    }

    fn takes(&self, rank: Option<i64>) -> bool {
        let last = self.kept.peek();
        self.kept.len() < self.most || last.is_some_and(|last| self.place(rank) < last.0)
    }

    fn put(&mut self, rank: Option<i64>, id: Id) {
        if self.most == 0 {
            return;
        }
        if self.kept.len() >= self.most {
            self.kept.pop();
        }
        self.kept.push((self.place(rank), self.count, id));
        self.count += 1;
    }

    /// In their order, with their ranks.
    fn sorted(self) -> Vec<(Option<i64>, Id)> {
        let descending = self.descending;
        let rank = |place: Option<i64>| match (descending, place) {
            (false, place) => place,
            (true, Some(i64::MAX)) | (true, None) => None,
            (true, Some(place)) => Some(!place),
        };
        let kept = self.kept.into_sorted_vec().into_iter();
        kept.map(|(place, _, id)| (rank(place), id)).collect()
    }
}

/// The conditions of a query on a segment; `None`: the gateway is not known there.
fn clause(open: &Open, query: &Query) -> rusqlite::Result<Option<Clause>> {
    let generation = open.segment.facts().generation;
    let asked = (generation, query.gateway.clone(), query.conditions.clone());
    if let Some((known, clause)) = &*open.last.borrow()
        && *known == asked
    {
        return Ok(clause.clone());
    }
    let clause = read_clause(open, query)?;
    open.last.replace(Some((asked, clause.clone())));
    Ok(clause)
}

fn read_clause(open: &Open, query: &Query) -> rusqlite::Result<Option<Clause>> {
    let Some(number) = gateway(&open.connection, &query.gateway)? else {
        return Ok(None);
    };
    let mut clause = Clause {
        sql: format!("gateway = {number}"),
        ..Clause::default()
    };
    for condition in &query.conditions {
        clause.and(condition, &open.connection, open.has_bodies)?;
    }
    Ok(Some(clause))
}

fn gateway(connection: &Connection, name: &str) -> rusqlite::Result<Option<i64>> {
    let query = "SELECT number FROM counts WHERE gateway = ?1";
    let mut statement = connection.prepare_cached(query)?;
    statement.query_row([name], |row| row.get(0)).optional()
}

/// Runs of segments, the newest first, of which no two overlap in time.
fn disjoint(segments: &[Arc<Segment>]) -> Vec<std::ops::Range<usize>> {
    let mut groups: Vec<std::ops::Range<usize>> = Vec::new();
    let mut lowest: Option<Id> = None;
    // They come by their last ids: what reaches back far is seen before what it reaches over.
    for (index, segment) in segments.iter().enumerate() {
        let Some((first, last)) = segment.facts().range else {
            continue;
        };
        match (groups.last_mut(), lowest) {
            (Some(group), Some(low)) if last >= low => {
                group.end = index + 1;
                lowest = Some(low.min(first));
            }
            _ => {
                groups.push(index..index + 1);
                lowest = Some(first);
            }
        }
    }
    groups
}

/// As SQLite orders: nothing, numbers, texts.
fn compare(one: &Sql, other: &Sql) -> Comparison {
    match (one, other) {
        (Sql::Null, Sql::Null) => Comparison::Equal,
        (Sql::Null, _) => Comparison::Less,
        (_, Sql::Null) => Comparison::Greater,
        (Sql::Integer(one), Sql::Integer(other)) => one.cmp(other),
        (Sql::Text(one), Sql::Text(other)) => one.cmp(other),
        _ => Comparison::Equal,
    }
}

fn connect(
    segment: &Segment,
    bodies: bool,
    deadline: Arc<Mutex<Instant>>,
) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(&segment.path, flags)?;
    connection.busy_timeout(LOG_BUSY_WAIT)?;
    if bodies {
        let path = segment.bodies().display().to_string();
        connection.execute("ATTACH ?1 AS bodies", [path])?;
    }
    connection.pragma_update(None, "query_only", true)?;
    connection.pragma_update(None, "cache_size", -(16 << 10))?;
    connection.set_prepared_statement_cache_capacity(32);
    let late = move || Instant::now() > *deadline.lock().unwrap_or_else(PoisonError::into_inner);
    connection.progress_handler(10_000, Some(late))?;
    functions(&connection)?;
    Ok(connection)
}

/// What SQL itself cannot say.
fn functions(connection: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    connection.create_scalar_function("in_set", 2, flags, |context| {
        let (ValueRef::Integer(number), ValueRef::Blob(bits)) =
            (context.get_raw(0), context.get_raw(1))
        else {
            return Ok(false);
        };
        Ok(in_set(bits, number))
    })?;
    connection.create_scalar_function("id_text", 1, flags, |context| {
        Ok(id_of_blob(context.get_raw(0)).map(|id| id.to_string()))
    })?;
    connection.create_scalar_function("time_text", 1, flags, |context| {
        Ok(id_of_blob(context.get_raw(0)).map(|id| time_text(id.milliseconds())))
    })?;
    connection.create_scalar_function("head_has", 2, flags, |context| {
        let (ValueRef::Blob(frame), ValueRef::Text(needle)) =
            (context.get_raw(0), context.get_raw(1))
        else {
            return Ok(false);
        };
        let head = decompress(frame, LOG_HEAD_BYTES).map(|(head, _)| head);
        let head = head.unwrap_or_default();
        let needle = std::str::from_utf8(needle).unwrap_or_default();
        Ok(contains(&String::from_utf8_lossy(&head), needle))
    })
}

fn id_of_blob(value: ValueRef<'_>) -> Option<Id> {
    let ValueRef::Blob(bytes) = value else {
        return None;
    };
    bytes.try_into().ok().map(Id::from_bytes)
}

/// As the API writes it.
fn time_text(milliseconds: u64) -> String {
    let time = jiff::Timestamp::from_millisecond(milliseconds as i64);
    time.map_or_else(|_| String::new(), |time| format!("{time:.3}"))
}

/// At most so many bytes of a frame, and whether that is all.
fn decompress(frame: &[u8], most: usize) -> std::io::Result<(Vec<u8>, bool)> {
    use std::io::Read;
    let mut decoder = zstd::stream::Decoder::with_buffer(frame)?;
    let mut bytes = Vec::new();
    decoder.by_ref().take(most as u64).read_to_end(&mut bytes)?;
    let whole = decoder.read(&mut [0])? == 0;
    Ok((bytes, whole))
}

/// Content type, bytes, and whether that is all of it.
type Read = (Option<String>, Vec<u8>, bool);

fn read_body(
    open: &Open,
    gateway: &str,
    id: Id,
    which: Which,
    most: usize,
) -> rusqlite::Result<Option<Read>> {
    if !open.has_bodies {
        return Ok(None);
    }
    let (column, content_type) = match which {
        Which::Request => ("request", "request_content_type"),
        Which::Response => ("response", "response_content_type"),
    };
    let sql = format!(
        "SELECT b.{column}, (SELECT text FROM names WHERE names.id = logs.{content_type}) FROM logs JOIN bodies.bodies AS b ON b.row = logs.row
        WHERE logs.gateway = (SELECT number FROM counts WHERE gateway = ?1) AND logs.id = ?2"
    );
    let mut statement = open.connection.prepare_cached(&sql)?;
    let found = statement
        .query_row((gateway, id.to_bytes()), |row| {
            Ok((
                row.get::<_, Option<Vec<u8>>>(0)?,
                row.get::<_, Option<String>>(1)?,
            ))
        })
        .optional()?;
    let Some((Some(frame), content_type)) = found else {
        return Ok(None);
    };
    // A frame that cannot be read is a body that is not there.
    Ok(decompress(&frame, most)
        .ok()
        .map(|(bytes, whole)| (content_type, bytes, whole)))
}

fn id_of(row: &Row<'_>, index: usize) -> rusqlite::Result<Id> {
    Ok(Id::from_bytes(row.get(index)?))
}

fn read_log(connection: &Connection, gateway: &str, id: Id) -> rusqlite::Result<Option<Log>> {
    let name = |column: &str| format!("(SELECT text FROM names WHERE names.id = logs.{column})");
    let names = [
        "provider",
        "model",
        "path",
        "model_type",
        "request_type",
        "request_content_type",
        "response_content_type",
        "user_agent",
    ]
    .map(name)
    .join(", ");
    let sql = format!(
        "SELECT id, success, cached, status, step, tokens_in, tokens_out, cost, duration, feedback, score, flags,
            (SELECT text FROM metadata WHERE metadata.id = logs.metadata), (SELECT text FROM events WHERE events.id = logs.event),
            details.text, {names}
        FROM logs LEFT JOIN details ON details.row = logs.row
        WHERE logs.gateway = (SELECT number FROM counts WHERE gateway = ?1) AND logs.id = ?2"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    statement
        .query_row((gateway, id.to_bytes()), |row| {
            let details: Option<String> = row.get(14)?;
            let details = details.unwrap_or_default();
            let text = |index| row.get::<_, Option<String>>(index);
            Ok(Log {
                id: id_of(row, 0)?,
                success: row.get(1)?,
                cached: row.get(2)?,
                status: row.get(3)?,
                step: row.get(4)?,
                tokens_in: row.get(5)?,
                tokens_out: row.get(6)?,
                cost: row.get(7)?,
                duration: row.get(8)?,
                feedback: row.get(9)?,
                score: row.get(10)?,
                flags: row.get(11)?,
                metadata: text(12)?,
                event_id: text(13)?,
                details: serde_json::from_str(&details).unwrap_or_default(),
                provider: text(15)?.unwrap_or_default(),
                model: text(16)?.unwrap_or_default(),
                path: text(17)?.unwrap_or_default(),
                model_type: text(18)?,
                request_type: text(19)?,
                request_content_type: text(20)?,
                response_content_type: text(21)?,
                user_agent: text(22)?,
                heads: [None, None],
            })
        })
        .optional()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_best_are_those_of_a_sorted_list(
            ranks in proptest::collection::vec(proptest::option::of(-3i64..4), 0..60),
            most in 0usize..70,
            descending: bool,
        ) {
            let mut all: Vec<(Option<i64>, Id)> = ranks
                .iter()
                .enumerate()
                .map(|(at, rank)| (*rank, Id::lowest_at(at as u64)))
                .collect();
            if descending {
                all.reverse();
            }
            let mut best = Best::new(most, descending);
            for (rank, id) in &all {
                if best.takes(*rank) {
                    best.put(*rank, *id);
                }
            }
            all.sort();
            if descending {
                all.reverse();
            }
            all.truncate(most);
            prop_assert_eq!(best.sorted(), all);
        }
    }
}
