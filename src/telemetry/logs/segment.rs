//! One segment as it is written: two SQLite files, one of entries and one of bodies, so that bodies can go before.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::catalog::{Facts, Segment, file_name};
use super::row::Row;
use crate::limits::{LOG_BUSY_WAIT, NAMES_MAX, RETENTION_ROWS};
use crate::record::Id;
use crate::snapshot::Map;

const SCHEMA: &str = include_str!("segment.sql");
const BODIES: &str = include_str!("bodies.sql");
/// Tells the files from other programs' (SQLite's `application_id`): "rlog".
const APPLICATION: i64 = 0x726c_6f67;
const VERSION: i64 = 1;

/// What a name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    Provider,
    Model,
    Path,
    UserAgent,
    ModelType,
    RequestType,
    ContentType,
}

/// Changes of one entry (control plane 3.5); what is `None` stays.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Edit {
    /// -1, 0, 1; or none.
    pub feedback: Option<Option<i64>>,
    /// 0 to 100, or none.
    pub score: Option<Option<f64>>,
    /// A flat JSON object, or none.
    pub metadata: Option<Option<String>>,
}

/// A segment open for writing.
pub struct Open {
    pub segment: Arc<Segment>,
    entries: Connection,
    bodies: Option<Connection>,
    names: Known,
    gateways: HashMap<Arc<str>, i64>,
    next_row: i64,
}

/// Makes the first segment of a day, or a further one.
pub fn create(folder: &Path, day: u32, number: u32) -> rusqlite::Result<Arc<Segment>> {
    let path = folder.join(file_name(day, number));
    let connection = connect(&path)?;
    prepare(&connection, SCHEMA)?;
    connection.execute("INSERT OR REPLACE INTO meta VALUES ('day', ?1)", [day])?;
    let facts = Facts {
        day,
        ..Facts::default()
    };
    Ok(Arc::new(Segment::new(path, number, facts)))
}

/// Finds a segment that an earlier run left; `None`: it is none of ours.
pub fn find(path: PathBuf, number: u32) -> rusqlite::Result<Option<Arc<Segment>>> {
    let connection = connect(&path)?;
    if version(&connection)? != (APPLICATION, VERSION) {
        return Ok(None);
    }
    let day = "SELECT value FROM meta WHERE key = 'day'";
    let day: Option<u32> = connection.query_row(day, [], |row| row.get(0)).optional()?;
    let Some(day) = day else { return Ok(None) };
    let mut facts = Facts {
        day,
        ..Facts::default()
    };
    let mut statement = connection.prepare("SELECT gateway, number, rows FROM counts")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (gateway, number): (String, i64) = (row.get(0)?, row.get(1)?);
        facts
            .rows
            .insert(gateway.into(), row.get::<_, i64>(2)? as u64);
        for order in ["ASC", "DESC"] {
            let query =
                format!("SELECT id FROM logs WHERE gateway = ?1 ORDER BY id {order} LIMIT 1");
            let id = connection
                .query_row(&query, [number], |row| row.get::<_, [u8; 16]>(0))
                .optional()?;
            if let Some(id) = id {
                widen(&mut facts.range, Id::from_bytes(id));
            }
        }
    }
    drop(rows);
    drop(statement);
    let segment = Segment::new(path, number, facts);
    let bodies = segment.bodies().exists();
    segment.facts().bodies = bodies;
    segment.measure();
    Ok(Some(Arc::new(segment)))
}

fn widen(range: &mut Option<(Id, Id)>, id: Id) {
    let (first, last) = range.unwrap_or((id, id));
    *range = Some((first.min(id), last.max(id)));
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let made = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path);
    made.map_err(|_| cannot_open())?;
    let connection = Connection::open(path)?;
    connection.busy_timeout(LOG_BUSY_WAIT)?;
    // Both must stand before the first table, and cannot be added later.
    connection.pragma_update(None, "page_size", 8192)?;
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
    connection.pragma_update(None, "wal_autocheckpoint", 4096)?;
    connection.pragma_update(None, "cache_size", -(16 << 10))?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}

fn cannot_open() -> rusqlite::Error {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN);
    rusqlite::Error::SqliteFailure(code, None)
}

fn version(connection: &Connection) -> rusqlite::Result<(i64, i64)> {
    let number = |name| connection.pragma_query_value(None, name, |row| row.get(0));
    Ok((number("application_id")?, number("user_version")?))
}

/// Makes the tables where there are none.
fn prepare(connection: &Connection, schema: &str) -> rusqlite::Result<()> {
    if version(connection)? == (APPLICATION, VERSION) {
        return Ok(());
    }
    let change = connection.unchecked_transaction()?;
    change.execute_batch(schema)?;
    change.pragma_update(None, "application_id", APPLICATION)?;
    change.pragma_update(None, "user_version", VERSION)?;
    change.commit()
}

impl Open {
    /// Opens a segment of the catalog.
    pub fn new(segment: Arc<Segment>) -> rusqlite::Result<Self> {
        let entries = connect(&segment.path)?;
        let query = "SELECT coalesce(max(row), 0) + 1 FROM details";
        let next_row = entries.query_row(query, [], |row| row.get(0))?;
        let mut gateways = HashMap::new();
        {
            let mut statement = entries.prepare("SELECT gateway, number FROM counts")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                gateways.insert(row.get::<_, String>(0)?.into(), row.get(1)?);
            }
        }
        Ok(Self {
            segment,
            entries,
            bodies: None,
            names: Known::default(),
            gateways,
            next_row,
        })
    }

    /// Writes entries, all or none. Bodies are written before: those of entries that then fail are written over later.
    pub fn store(&mut self, rows: &[&Row]) -> rusqlite::Result<()> {
        let before = (self.next_row, self.gateways.clone());
        let names = self.names.count;
        let stored = self.try_store(rows);
        if stored.is_err() {
            (self.next_row, self.gateways) = before;
            if self.names.count > names {
                self.names = Known::default();
            }
        }
        stored
    }

    fn try_store(&mut self, rows: &[&Row]) -> rusqlite::Result<()> {
        if rows.iter().any(|row| row.bodies.is_some()) {
            self.store_bodies(rows)?;
        }
        if self.names.count >= NAMES_MAX {
            self.names = Known::default();
        }
        let transaction =
            Transaction::new_unchecked(&self.entries, TransactionBehavior::Immediate)?;
        let mut added: HashMap<Arc<str>, u64> = HashMap::new();
        let mut names = Names {
            database: &transaction,
            known: &mut self.names,
        };
        for row in rows {
            *added.entry(row.gateway.clone()).or_default() += 1;
            let next_gateway = self.gateways.len() as i64 + 1;
            let gateway = *self
                .gateways
                .entry(row.gateway.clone())
                .or_insert(next_gateway);
            insert(&mut names, row, gateway, self.next_row)?;
            self.next_row += 1;
        }
        let statement = "INSERT INTO counts VALUES (?1, ?2, ?3) ON CONFLICT (gateway) DO UPDATE SET rows = rows + excluded.rows";
        for (gateway, count) in &added {
            transaction.prepare_cached(statement)?.execute(params![
                gateway,
                self.gateways[gateway],
                *count as i64
            ])?;
        }
        transaction.commit()?;
        let mut facts = self.segment.facts();
        for row in rows {
            widen(&mut facts.range, row.id);
        }
        for (gateway, count) in added {
            *facts.rows.entry(gateway).or_default() += count;
        }
        facts.generation += 1;
        Ok(())
    }

    fn store_bodies(&mut self, rows: &[&Row]) -> rusqlite::Result<()> {
        let there = self.segment.facts().bodies;
        if self.bodies.is_none() || !there {
            let connection = connect(&self.segment.bodies())?;
            prepare(&connection, BODIES)?;
            self.bodies = Some(connection);
        }
        let Some(connection) = &self.bodies else {
            return Ok(());
        };
        let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
        let statement = "INSERT OR REPLACE INTO bodies VALUES (?1, ?2, ?3)";
        for (number, row) in (self.next_row..).zip(rows) {
            if let Some(bodies) = &row.bodies {
                transaction.prepare_cached(statement)?.execute(params![
                    number,
                    bodies.request,
                    bodies.response
                ])?;
            }
        }
        transaction.commit()?;
        if !there {
            let mut facts = self.segment.facts();
            facts.bodies = true;
            facts.generation += 1;
        }
        Ok(())
    }

    /// Lets the file of bodies go.
    pub fn close_bodies(&mut self) {
        self.bodies = None;
    }

    /// Changes an entry; `false`: it is not here.
    pub fn edit(&mut self, gateway: &str, id: Id, edit: &Edit) -> rusqlite::Result<bool> {
        let Some(number) = self.gateways.get(gateway) else {
            return Ok(false);
        };
        let transaction =
            Transaction::new_unchecked(&self.entries, TransactionBehavior::Immediate)?;
        let metadata = match &edit.metadata {
            Some(Some(text)) => {
                transaction.execute("INSERT INTO metadata (text) VALUES (?1)", [text])?;
                Some(Some(transaction.last_insert_rowid()))
            }
            Some(None) => Some(None),
            None => None,
        };
        let statement = "UPDATE logs SET feedback = iif(?3, ?4, feedback), score = iif(?5, ?6, score), metadata = iif(?7, ?8, metadata)
            WHERE gateway = ?1 AND id = ?2";
        let changed = transaction.execute(
            statement,
            params![
                number,
                id.to_bytes(),
                edit.feedback.is_some(),
                edit.feedback.flatten(),
                edit.score.is_some(),
                edit.score.flatten(),
                metadata.is_some(),
                metadata.flatten(),
            ],
        )?;
        match changed {
            0 => transaction.rollback()?,
            _ => transaction.commit()?,
        }
        self.segment.facts().generation += 1;
        Ok(changed > 0)
    }

    /// Deletes entries of a gateway; returns how many there were.
    pub fn delete(&mut self, gateway: &str, ids: &[Id]) -> rusqlite::Result<u64> {
        let Some(number) = self.gateways.get(gateway).copied() else {
            return Ok(0);
        };
        let transaction =
            Transaction::new_unchecked(&self.entries, TransactionBehavior::Immediate)?;
        let mut rows = Vec::with_capacity(ids.len());
        {
            let statement = "DELETE FROM logs WHERE gateway = ?1 AND id = ?2 RETURNING row";
            let mut entries = transaction.prepare_cached(statement)?;
            let mut details = transaction.prepare_cached("DELETE FROM details WHERE row = ?1")?;
            for id in ids {
                let row: Option<i64> = entries
                    .query_row(params![number, id.to_bytes()], |row| row.get(0))
                    .optional()?;
                if let Some(row) = row {
                    details.execute([row])?;
                    rows.push(row);
                }
            }
        }
        let deleted = rows.len() as u64;
        let statement = "UPDATE counts SET rows = rows - ?2 WHERE gateway = ?1";
        transaction.execute(statement, params![gateway, deleted as i64])?;
        transaction.commit()?;
        {
            let mut facts = self.segment.facts();
            if let Some(count) = facts.rows.get_mut(gateway) {
                *count = count.saturating_sub(deleted);
            }
            facts.generation += 1;
        }
        self.delete_bodies(&rows)?;
        shrink(&self.entries)?;
        Ok(deleted)
    }

    fn delete_bodies(&mut self, rows: &[i64]) -> rusqlite::Result<()> {
        if !self.segment.facts().bodies {
            return Ok(());
        }
        if self.bodies.is_none() {
            self.bodies = Some(connect(&self.segment.bodies())?);
        }
        let Some(connection) = &self.bodies else {
            return Ok(());
        };
        let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
        for row in rows {
            let statement = "DELETE FROM bodies WHERE row = ?1";
            transaction.prepare_cached(statement)?.execute([row])?;
        }
        transaction.commit()?;
        shrink(connection)
    }

    /// The oldest ids of a gateway.
    pub fn oldest(&self, gateway: &str, most: u64) -> rusqlite::Result<Vec<Id>> {
        let Some(number) = self.gateways.get(gateway) else {
            return Ok(Vec::new());
        };
        let query = "SELECT id FROM logs WHERE gateway = ?1 ORDER BY id LIMIT ?2";
        let mut statement = self.entries.prepare_cached(query)?;
        let most = most.min(RETENTION_ROWS) as i64;
        let ids = statement.query_map(params![number, most], |row| {
            Ok(Id::from_bytes(row.get::<_, [u8; 16]>(0)?))
        })?;
        ids.collect()
    }

    /// Makes it count as another day.
    pub fn set_day(&mut self, day: u32) -> rusqlite::Result<()> {
        let statement = "UPDATE meta SET value = ?1 WHERE key = 'day'";
        self.entries.execute(statement, [day])?;
        self.segment.facts().day = day;
        Ok(())
    }

    /// Brings everything into the file itself, where nothing more is written for now.
    pub fn settle(&self) {
        for connection in [Some(&self.entries), self.bodies.as_ref()]
            .into_iter()
            .flatten()
        {
            // A reader that is just at it keeps the log from being emptied; the next time will do.
            let _ = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        }
        self.segment.measure();
    }
}

/// Gives pages that became free back to the disk.
fn shrink(connection: &Connection) -> rusqlite::Result<()> {
    let mut statement = connection.prepare("PRAGMA incremental_vacuum")?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(())
}

/// Numbers of names, by kind.
#[derive(Default)]
struct Known {
    kinds: [Map<Box<str>, i64>; 7],
    count: usize,
}

/// Names as numbers.
struct Names<'a> {
    database: &'a Connection,
    known: &'a mut Known,
}

impl Names<'_> {
    fn number(&mut self, kind: Kind, text: &str) -> rusqlite::Result<i64> {
        if let Some(number) = self.known.kinds[kind as usize].get(text) {
            return Ok(*number);
        }
        let statement = "INSERT INTO names (kind, text) VALUES (?1, ?2)";
        self.database
            .prepare_cached(statement)?
            .execute(params![kind as i64, text])?;
        let number = self.database.last_insert_rowid();
        self.known.kinds[kind as usize].insert(text.into(), number);
        self.known.count += 1;
        Ok(number)
    }

    fn optional(&mut self, kind: Kind, text: Option<&str>) -> rusqlite::Result<Option<i64>> {
        text.map(|text| self.number(kind, text)).transpose()
    }

    /// Of a text that seldom comes again.
    fn append(&self, statement: &str, text: Option<&str>) -> rusqlite::Result<Option<i64>> {
        let Some(text) = text else { return Ok(None) };
        self.database.prepare_cached(statement)?.execute([text])?;
        Ok(Some(self.database.last_insert_rowid()))
    }
}

fn insert(names: &mut Names<'_>, row: &Row, gateway: i64, number: i64) -> rusqlite::Result<()> {
    let provider = names.number(Kind::Provider, &row.provider)?;
    let model = names.number(Kind::Model, &row.model)?;
    let path = names.number(Kind::Path, &row.path)?;
    let user_agent = names.optional(Kind::UserAgent, row.user_agent.as_deref())?;
    let model_type = names.optional(Kind::ModelType, row.model_type)?;
    let request_type = names.optional(Kind::RequestType, row.request_type)?;
    let asked = names.optional(Kind::ContentType, row.request_content_type.as_deref())?;
    let answered = names.optional(Kind::ContentType, row.response_content_type.as_deref())?;
    let metadata = "INSERT INTO metadata (text) VALUES (?1)";
    let metadata = names.append(metadata, row.metadata.as_deref())?;
    let event = "INSERT INTO events (text) VALUES (?1)";
    let event = names.append(event, row.event_id.as_deref())?;
    let statement = "INSERT INTO logs VALUES
        (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, NULL, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, NULL, ?22)";
    names.database.prepare_cached(statement)?.execute(params![
        gateway,
        row.id.to_bytes(),
        row.success,
        row.cached,
        provider,
        model,
        row.status,
        row.tokens_in,
        row.tokens_out,
        row.cost,
        row.duration,
        metadata,
        path,
        row.flags,
        user_agent,
        model_type,
        request_type,
        asked,
        answered,
        event,
        row.step,
        number,
    ])?;
    let statement = "INSERT INTO details VALUES (?1, ?2)";
    names
        .database
        .prepare_cached(statement)?
        .execute(params![number, row.details])?;
    Ok(())
}
