//! The file of figures: minutes and hours, each row one set of dimensions.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::question::{Known, Question, Table, Tally};
use super::{Answered, Unanswered};
use crate::aggregate::{Cell, Dimensions, Outcome, Rows};
use crate::limits::{
    ANALYTICS_BYTES_MAX, ANALYTICS_HOURS_KEPT, ANALYTICS_KNOWN_MAX, ANALYTICS_METADATA_MAX,
    ANALYTICS_MINUTES_KEPT, ANALYTICS_QUESTION_WAIT, ANALYTICS_ROWS_MAX, LOG_BUSY_WAIT,
};

/// The version of its tables.
const SCHEMA: i64 = 1;
/// Most rows that one step of tidying deletes: what a second can bear.
const DELETED_AT_ONCE: i64 = 20_000;
/// Pages given back to the volume in one step.
const FREED_PAGES: i64 = 4096;

/// The open file.
pub(super) struct File {
    connection: Connection,
    /// Numbers of dimensions.
    numbers: HashMap<Dimensions<'static>, i64, ahash::RandomState>,
    /// And dimensions of numbers.
    known: HashMap<i64, Arc<Known>, ahash::RandomState>,
    /// How many rows minutes and hours have that were written lately.
    rows: HashMap<(Table, u64), u64>,
    deadline: Arc<Mutex<Option<Instant>>>,
}

impl Table {
    fn name(self) -> &'static str {
        match self {
            Self::Minutes => "minutes",
            Self::Hours => "hours",
        }
    }
}

impl File {
    /// Opens it, and makes it where it is not there.
    pub fn open(path: &Path) -> Result<Self, String> {
        let made = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path);
        made.map_err(|error| error.to_string())?;
        let deadline = Arc::new(Mutex::new(None));
        let connection = connect(path, deadline.clone()).map_err(|error| error.to_string())?;
        let version: i64 = connection
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .map_err(|error| error.to_string())?;
        if version > SCHEMA {
            return Err(format!(
                "it has schema {version}, and this ringgate knows only {SCHEMA}"
            ));
        }
        if version == 0 {
            let make = format!(
                "BEGIN IMMEDIATE; {} PRAGMA user_version = {SCHEMA}; COMMIT;",
                include_str!("figures.sql")
            );
            let made = connection.execute_batch(&make);
            made.map_err(|error| error.to_string())?;
        }
        Ok(Self {
            connection,
            numbers: HashMap::default(),
            known: HashMap::default(),
            rows: HashMap::default(),
            deadline,
        })
    }

    /// The last minute of which there are figures.
    pub fn last(&self) -> rusqlite::Result<Option<u64>> {
        let query = "SELECT max(at) FROM minutes";
        let last = self
            .connection
            .query_row(query, [], |row| row.get::<_, Option<i64>>(0))?;
        Ok(last.map(|last| last as u64))
    }

    /// Adds rows to their minutes and hours: all of them or none. Returns how often detail was given up for want of room.
    pub fn write(&mut self, rows: &Rows) -> rusqlite::Result<u64> {
        let outcome = self.try_write(rows);
        if outcome.is_err() {
            // What they say may have been undone.
            self.numbers.clear();
            self.rows.clear();
        }
        outcome
    }

    fn try_write(&mut self, rows: &Rows) -> rusqlite::Result<u64> {
        self.keep_caches_small();
        let behavior = TransactionBehavior::Immediate;
        let mut writing = Writing {
            change: Transaction::new_unchecked(&self.connection, behavior)?,
            numbers: &mut self.numbers,
            rows: &mut self.rows,
        };
        let mut blurred = 0;
        for (dimensions, cell) in rows.iter() {
            let minute = dimensions.minute;
            let dimensions = Dimensions {
                minute: 0,
                ..dimensions.clone()
            };
            for (table, at) in [
                (Table::Minutes, minute),
                (Table::Hours, minute - minute % 60),
            ] {
                blurred += u64::from(writing.add(table, at, &dimensions, cell)?);
            }
        }
        writing.change.commit()?;
        Ok(blurred)
    }

    fn keep_caches_small(&mut self) {
        if self.numbers.len() > ANALYTICS_KNOWN_MAX {
            self.numbers.clear();
        }
        if self.known.len() > ANALYTICS_KNOWN_MAX {
            self.known.clear();
        }
        if self.rows.len() > 1024 {
            self.rows.clear();
        }
    }

    /// Adds up what a question asks for, of the file and of rows that are not in it yet.
    pub fn answer(
        &mut self,
        question: &Question,
        now: u64,
        unsaved: &Rows,
    ) -> Result<Answered, Unanswered> {
        let until = Instant::now() + ANALYTICS_QUESTION_WAIT;
        self.bound(Some(until));
        let answered = self.try_answer(question, now, unsaved);
        self.bound(None);
        answered
    }

    fn try_answer(
        &mut self,
        question: &Question,
        now: u64,
        unsaved: &Rows,
    ) -> Result<Answered, Unanswered> {
        self.keep_caches_small();
        let mut tally = Tally::new(question);
        for (table, from, until) in question.pieces(now) {
            let select = format!(
                "SELECT at, dimensions, cell FROM {} WHERE at >= ?1 AND at < ?2",
                table.name()
            );
            let mut statement = self.connection.prepare_cached(&select)?;
            let mut rows = statement.query([from as i64, until as i64])?;
            while let Some(row) = rows.next()? {
                let (at, number): (i64, i64) = (row.get(0)?, row.get(1)?);
                let at = at as u64;
                if tally.skips(number) {
                    continue;
                }
                let bytes = row.get_ref(2)?.as_blob().unwrap_or_default();
                // A row that cannot be read is one that a damaged file has lost.
                let Some(cell) = Cell::decode(bytes, question.latencies) else {
                    continue;
                };
                let known = match self.known.get(&number) {
                    Some(known) => known.clone(),
                    None => {
                        let known = Arc::new(Known::new(dimensions_of(&self.connection, number)?));
                        self.known.insert(number, known.clone());
                        known
                    }
                };
                tally.add(number, &known, at, &cell)?;
            }
        }
        for (dimensions, cell) in unsaved.iter() {
            let at = dimensions.minute;
            if (question.from..question.until).contains(&at) {
                tally.add_unnumbered(&Known::new(dimensions.clone()), at, cell)?;
            }
        }
        Ok(tally.rows())
    }

    fn bound(&self, until: Option<Instant>) {
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }

    /// Deletes what is too old at this minute, and the oldest where the file is too large; a bounded number of rows. True: there
    /// may be more.
    pub fn tidy(&mut self, now: u64) -> rusqlite::Result<bool> {
        let mut more = false;
        for (table, kept) in [
            (Table::Minutes, ANALYTICS_MINUTES_KEPT),
            (Table::Hours, ANALYTICS_HOURS_KEPT),
        ] {
            let deleted = self.delete_before(table, now.saturating_sub(kept))?;
            more |= deleted >= DELETED_AT_ONCE;
        }
        if self.bytes()? > ANALYTICS_BYTES_MAX {
            // Days of minutes go before any hours do.
            let oldest = |table: Table| {
                let query = format!("SELECT min(at) FROM {}", table.name());
                let oldest = self.connection.query_row(&query, [], |row| row.get(0));
                oldest.map(|oldest: Option<i64>| oldest.unwrap_or(i64::MAX / 2) as u64)
            };
            let (minutes, hours) = (oldest(Table::Minutes)?, oldest(Table::Hours)?);
            let deleted = match minutes + 24 * 60 < now {
                true => self.delete_before(Table::Minutes, minutes + 60)?,
                false => self.delete_before(Table::Hours, hours + 24 * 60)?,
            };
            more |= deleted > 0;
        }
        if !more {
            self.forget_unused()?;
        }
        let free = format!("PRAGMA incremental_vacuum({FREED_PAGES})");
        let mut statement = self.connection.prepare(&free)?;
        let mut freed = statement.query([])?;
        while freed.next()?.is_some() {}
        Ok(more)
    }

    fn delete_before(&mut self, table: Table, before: u64) -> rusqlite::Result<i64> {
        let name = table.name();
        let delete = format!(
            "DELETE FROM {name} WHERE (at, dimensions) IN (SELECT at, dimensions FROM {name} WHERE at < ?1 LIMIT {DELETED_AT_ONCE})"
        );
        let deleted = self
            .connection
            .prepare_cached(&delete)?
            .execute([before as i64])?;
        self.rows
            .retain(|(of, at), _| *of != table || *at >= before);
        Ok(deleted as i64)
    }

    /// Deletes some of the dimensions that no row has any more.
    fn forget_unused(&mut self) -> rusqlite::Result<()> {
        let delete = format!(
            "DELETE FROM dimensions WHERE id IN (SELECT id FROM dimensions WHERE id NOT IN (SELECT dimensions FROM hours)
                AND id NOT IN (SELECT dimensions FROM minutes) LIMIT {DELETED_AT_ONCE})"
        );
        if self.connection.execute(&delete, [])? > 0 {
            self.numbers.clear();
            self.known.clear();
        }
        Ok(())
    }

    /// How large it is.
    pub fn bytes(&self) -> rusqlite::Result<u64> {
        let query = "SELECT (page_count - freelist_count) * page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size";
        let bytes = self
            .connection
            .query_row(query, [], |row| row.get::<_, i64>(0))?;
        Ok(bytes as u64)
    }
}

/// Rows being written.
struct Writing<'a> {
    change: Transaction<'a>,
    numbers: &'a mut HashMap<Dimensions<'static>, i64, ahash::RandomState>,
    rows: &'a mut HashMap<(Table, u64), u64>,
}

impl Writing<'_> {
    /// Adds a cell to its row, or to one of less detail where there are too many; returns whether that was so.
    fn add(
        &mut self,
        table: Table,
        at: u64,
        dimensions: &Dimensions<'static>,
        cell: &Cell,
    ) -> rusqlite::Result<bool> {
        let rows = self.rows_of(table, at)?;
        let step = match rows {
            rows if rows < ANALYTICS_METADATA_MAX => 0,
            rows if rows < ANALYTICS_ROWS_MAX => 1,
            rows if rows < 2 * ANALYTICS_ROWS_MAX => 2,
            _ => 3,
        };
        let mut number = self.number(dimensions)?;
        let mut stored = self.stored(table, at, number)?;
        let is_blurred = stored.is_none() && step > 0;
        if is_blurred {
            number = self.number(&dimensions.coarser(step))?;
            stored = self.stored(table, at, number)?;
        }
        let is_new = stored.is_none();
        let mut sum = stored.unwrap_or_default();
        sum.merge(cell);
        let put = format!(
            "INSERT OR REPLACE INTO {} VALUES (?1, ?2, ?3)",
            table.name()
        );
        let mut statement = self.change.prepare_cached(&put)?;
        statement.execute(params![at as i64, number, sum.encode()])?;
        self.rows.insert((table, at), rows + u64::from(is_new));
        Ok(is_blurred)
    }

    fn rows_of(&self, table: Table, at: u64) -> rusqlite::Result<u64> {
        if let Some(rows) = self.rows.get(&(table, at)) {
            return Ok(*rows);
        }
        let query = format!("SELECT count(*) FROM {} WHERE at = ?1", table.name());
        let mut statement = self.change.prepare_cached(&query)?;
        let count = statement.query_row([at as i64], |row| row.get::<_, i64>(0))?;
        Ok(count as u64)
    }

    fn stored(&self, table: Table, at: u64, number: i64) -> rusqlite::Result<Option<Cell>> {
        let query = format!(
            "SELECT cell FROM {} WHERE at = ?1 AND dimensions = ?2",
            table.name()
        );
        let mut statement = self.change.prepare_cached(&query)?;
        let found = statement.query_row(params![at as i64, number], |row| {
            let bytes = row.get_ref(0)?.as_blob().unwrap_or_default();
            Ok(Cell::decode(bytes, true).unwrap_or_default())
        });
        found.optional()
    }

    fn number(&mut self, dimensions: &Dimensions<'_>) -> rusqlite::Result<i64> {
        if let Some(number) = self.numbers.get(dimensions) {
            return Ok(*number);
        }
        let text = text_of(dimensions);
        let query = "SELECT id FROM dimensions WHERE text = ?1";
        let mut statement = self.change.prepare_cached(query)?;
        let number = match statement.query_row([&text], |row| row.get(0)).optional()? {
            Some(number) => number,
            None => {
                let insert = "INSERT INTO dimensions (text) VALUES (?1)";
                self.change.prepare_cached(insert)?.execute([&text])?;
                self.change.last_insert_rowid()
            }
        };
        self.numbers.insert(dimensions.clone().into_owned(), number);
        Ok(number)
    }
}

/// Dimensions as they are stored, without the minute.
fn text_of(of: &Dimensions<'_>) -> String {
    let outcome = OUTCOMES.iter().position(|outcome| *outcome == of.outcome);
    let fields = (
        &of.gateway,
        &of.provider,
        &of.model,
        of.status,
        outcome,
        of.cached,
        &of.route,
        &of.key_alias,
        &of.token,
        &of.user_agent,
        &of.metadata,
    );
    // Texts and numbers can always be written.
    serde_json::to_string(&fields).unwrap_or_default()
}

/// In the order of their numbers in the file.
const OUTCOMES: [Outcome; 4] = [
    Outcome::Answered,
    Outcome::Failed,
    Outcome::RateLimited,
    Outcome::Blocked,
];

/// The stored fields, in their order.
type Stored = (
    String,
    String,
    String,
    u16,
    usize,
    bool,
    String,
    String,
    String,
    String,
    String,
);

/// The dimensions of a number; of one that is not there nothing is known.
fn dimensions_of(connection: &Connection, number: i64) -> rusqlite::Result<Dimensions<'static>> {
    let query = "SELECT text FROM dimensions WHERE id = ?1";
    let mut statement = connection.prepare_cached(query)?;
    let text: Option<String> = statement.query_row([number], |row| row.get(0)).optional()?;
    let stored = text.and_then(|text| serde_json::from_str::<Stored>(&text).ok());
    let Some(stored) = stored else {
        return Ok(Dimensions::default());
    };
    let (
        gateway,
        provider,
        model,
        status,
        outcome,
        cached,
        route,
        key_alias,
        token,
        user_agent,
        metadata,
    ) = stored;
    Ok(Dimensions {
        minute: 0,
        gateway: gateway.into(),
        provider: provider.into(),
        model: model.into(),
        status,
        outcome: OUTCOMES.get(outcome).copied().unwrap_or_default(),
        cached,
        route: route.into(),
        key_alias: key_alias.into(),
        token: token.into(),
        user_agent: user_agent.into(),
        metadata: metadata.into(),
    })
}

fn connect(path: &Path, deadline: Arc<Mutex<Option<Instant>>>) -> rusqlite::Result<Connection> {
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(LOG_BUSY_WAIT)?;
    // Before the first table, or it has no effect.
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "journal_size_limit", 16 << 20)?;
    connection.set_prepared_statement_cache_capacity(32);
    let late = move || {
        let deadline = *deadline.lock().unwrap_or_else(PoisonError::into_inner);
        deadline.is_some_and(|deadline| Instant::now() > deadline)
    };
    connection.progress_handler(10_000, Some(late))?;
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::super::question::{Dimension, Filter, Value};
    use super::*;

    const NOW: u64 = 30_000_000;

    fn file() -> (File, tempfile::TempDir) {
        let folder = tempfile::tempdir().expect("a folder");
        let file = File::open(&folder.path().join("figures")).expect("opened");
        (file, folder)
    }

    fn rows(each: impl IntoIterator<Item = (u64, String)>) -> Rows {
        let mut rows = Rows::default();
        for (minute, user) in each {
            let dimensions = Dimensions {
                minute,
                gateway: "g".into(),
                metadata: format!("{{\"user\":\"{user}\"}}").into(),
                ..Dimensions::default()
            };
            let cell = rows.cell(&dimensions);
            cell.requests += 1;
            cell.own.record(40);
        }
        rows
    }

    fn of(minutes: &[u64]) -> Rows {
        rows(minutes.iter().map(|minute| (*minute, "ada".to_owned())))
    }

    fn ask(file: &mut File, from: u64, until: u64, by: &[Dimension], unsaved: &Rows) -> Answered {
        let question = Question {
            from,
            until,
            filter: Filter::everything(),
            by: by.to_vec(),
            latencies: true,
        };
        file.answer(&question, NOW, unsaved).expect("an answer")
    }

    fn count(answered: &Answered) -> u64 {
        answered.iter().map(|(_, cell)| cell.requests).sum()
    }

    #[test]
    fn what_is_written_is_added_up_and_read_over_a_new_start() {
        let (mut file, folder) = file();
        assert_eq!(file.last().expect("read"), None);
        for _ in 0..3 {
            file.write(&of(&[NOW - 70, NOW - 1])).expect("written");
        }
        drop(file);
        let mut file = File::open(&folder.path().join("figures")).expect("opened again");
        assert_eq!(file.last().expect("read"), Some(NOW - 1));
        let unsaved = of(&[NOW - 1, NOW - 1, NOW + 5]);
        let answered = ask(&mut file, NOW - 200, NOW, &[Dimension::Time(60)], &unsaved);
        let told: Vec<(Value, u64, u64)> = answered
            .into_iter()
            .map(|(values, cell)| (values[0].clone(), cell.requests, cell.own.count()))
            .collect();
        let hour = |minute: u64| Value::Number(minute - minute % 60);
        assert_eq!(told, [(hour(NOW - 70), 3, 3), (hour(NOW - 1), 5, 5)]);
    }

    #[test]
    fn a_minute_has_so_many_rows_and_no_figure_is_lost() {
        let (mut file, _folder) = file();
        let many = ANALYTICS_METADATA_MAX + 100;
        let users: Vec<u64> = (0..many).collect();
        let mut blurred = 0;
        for some in users.chunks(2000) {
            let some = some.iter().map(|user| (NOW, user.to_string()));
            blurred += file.write(&rows(some)).expect("written");
        }
        // Once in the minute and once in the hour.
        assert_eq!(blurred, 200);
        let by = [Dimension::Metadata("user".to_owned())];
        let answered = ask(&mut file, NOW, NOW + 1, &by, &Rows::default());
        assert_eq!(count(&answered), many);
        assert_eq!(answered.len() as u64, ANALYTICS_METADATA_MAX + 1);
        let other = answered
            .iter()
            .find(|(values, _)| values[0] == Value::text("other"));
        assert_eq!(other.expect("others").1.requests, 100);
        // One that is there already keeps its row.
        file.write(&rows([(NOW, "7".to_owned())])).expect("written");
        let answered = ask(&mut file, NOW, NOW + 1, &by, &Rows::default());
        let seven = answered
            .iter()
            .find(|(values, _)| values[0] == Value::text("7"));
        assert_eq!(seven.expect("seven").1.requests, 2);
    }

    #[test]
    fn old_minutes_go_and_their_hours_stay_until_they_are_old() {
        let (mut file, _folder) = file();
        let (week, year) = (NOW - ANALYTICS_MINUTES_KEPT, NOW - ANALYTICS_HOURS_KEPT);
        let minutes = [year - 60, week - 1, week + 60, NOW];
        file.write(&of(&minutes)).expect("written");
        let unused = rows([(year - 60, "nobody else".to_owned())]);
        file.write(&unused).expect("written");
        assert!(!file.tidy(NOW).expect("tidied"));
        let rows = |table: &str| -> i64 {
            let query = format!("SELECT count(*) FROM {table}");
            let count = file.connection.query_row(&query, [], |row| row.get(0));
            count.expect("a count")
        };
        let counts = ["minutes", "hours", "dimensions"].map(rows);
        assert_eq!(counts, [2, 3, 1]);
        let all = ask(&mut file, 0, NOW + 1, &[], &Rows::default());
        assert_eq!(count(&all), 3);
        // And it can be written on.
        file.write(&of(&[NOW])).expect("written");
        assert!(file.bytes().expect("bytes") > 4096);
    }

    #[test]
    fn a_later_file_is_refused_by_name() {
        let (file, folder) = file();
        file.connection
            .pragma_update(None, "user_version", 9)
            .expect("set");
        drop(file);
        let error = File::open(&folder.path().join("figures"))
            .err()
            .expect("refused");
        assert!(error.contains("schema 9"), "{error}");
    }

    #[test]
    fn what_failed_is_not_half_there() {
        let (mut file, folder) = file();
        file.write(&of(&[NOW])).expect("written");
        let other = Connection::open(folder.path().join("figures")).expect("opened");
        other.execute_batch("DROP TABLE hours").expect("dropped");
        file.write(&of(&[NOW])).expect_err("no hours");
        other
            .execute_batch("CREATE TABLE hours (at INTEGER NOT NULL, dimensions INTEGER NOT NULL, cell BLOB NOT NULL, PRIMARY KEY (at, dimensions)) STRICT, WITHOUT ROWID")
            .expect("made");
        file.write(&of(&[NOW])).expect("written");
        let answered = ask(
            &mut file,
            NOW,
            NOW + 1,
            &[Dimension::Time(1)],
            &Rows::default(),
        );
        assert_eq!(count(&answered), 2);
    }
}
