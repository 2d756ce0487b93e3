//! An operation of the management API: what it is called with, who may call it, what it changes.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, Row, ToSql, params};
use serde_json::{Map, Value};

use super::answer::{Answer, Problem};
use super::publish::{Change, Declared};
use super::schema::{Field, Kind, check, optional, read_query};
use crate::access::Permission::{self, self as P};
use crate::limits::PER_PAGE_DEFAULT;
use crate::seal::Sealer;
use crate::snapshot::Token;
use crate::store::{now, uuid};

/// One row of the API. The OpenAPI description is made from the same rows.
pub(super) struct Operation {
    /// `GET`, `POST`, ...
    pub method: &'static str,
    /// Below `/client/v4`, parameters in braces.
    pub path: &'static str,
    /// Unique, such as `gateways.create`.
    pub name: &'static str,
    /// One line for people.
    pub about: &'static str,
    pub needs: Needs,
    pub query: &'static [Field],
    pub body: Body,
    pub answers: Answers,
    pub run: fn(&mut Call<'_>) -> Result<Answer, Problem>,
}

/// What a caller must hold.
#[derive(Clone, Copy)]
pub(super) enum Needs {
    /// A valid token.
    Token,
    /// A known token, valid or not: the operation looks at it itself.
    Shown,
    /// One of these permissions, for the gateway that the path names.
    Any(&'static [Permission]),
}

/// Who may read what stands below `ai-gateway` (control plane 7.2).
pub(super) const READ: Needs = Needs::Any(&[P::GatewayRead, P::GatewayMetadataRead]);
/// Who may change it.
pub(super) const WRITE: Needs = Needs::Any(&[P::GatewayWrite]);

/// What a request's body is.
#[derive(Clone, Copy)]
pub(super) enum Body {
    None,
    /// An object with these members.
    Members(&'static [Field]),
    /// As `Members`; a request without a body is one with an empty object.
    Optional(&'static [Field]),
    /// Described as this kind, and checked by the operation itself, which has error codes of its own: without a body, or with
    /// one that is not JSON, it gets `null`.
    Own(Kind),
}

/// The form and members of the answer, for the description.
#[derive(Clone, Copy)]
pub(super) enum Answers {
    /// `result` is an object with these members.
    Result(&'static [Field]),
    /// `result` is of this kind.
    Value(Kind),
    /// `result` is a list of objects with these members, with `result_info`.
    Page(&'static [Field]),
    /// The whole body is an object with these members.
    Raw(&'static [Field]),
    /// The whole body is what a client or a provider once sent.
    Stored,
}

/// Who calls.
#[derive(Clone)]
pub enum Caller {
    /// The holder of a token.
    Token(Arc<Token>),
    /// The operator, by a command on the data directory, or whoever calls from this machine under `serve --dev`.
    Operator,
}

impl Caller {
    /// Whether it may do this, for one gateway or the whole account.
    pub fn may(&self, permission: Permission, gateway: Option<&str>) -> bool {
        match self {
            Self::Token(token) => token.may(permission, gateway),
            Self::Operator => true,
        }
    }
}

/// What is the same for every call of an instance.
pub struct Office {
    /// The account's id.
    pub account: Arc<str>,
    /// Seals and opens stored keys.
    pub sealer: Arc<Sealer>,
    /// What the configuration file declares.
    pub declared: arc_swap::ArcSwap<Declared>,
}

/// One call, on the database's thread and within one transaction.
pub(super) struct Call<'a> {
    pub office: &'a Office,
    /// The transaction: an error rolls all of it back.
    pub database: &'a Connection,
    pub caller: Caller,
    pub address: Option<IpAddr>,
    /// `Host` of the request.
    pub host: Option<String>,
    parameters: HashMap<&'static str, String>,
    /// The query's pairs in their order.
    pub pairs: Vec<(String, String)>,
    /// The query's members, checked.
    pub query: Map<String, Value>,
    /// The body, checked.
    pub body: Value,
    /// What data threads must hear of.
    pub changes: Vec<Change>,
    /// Notes beside a success.
    pub messages: Vec<(u32, String)>,
    audited: bool,
}

/// What a call is made of.
pub(super) struct Parts {
    pub caller: Caller,
    pub address: Option<IpAddr>,
    pub host: Option<String>,
    pub parameters: HashMap<&'static str, String>,
    pub pairs: Vec<(String, String)>,
    pub body: Option<Value>,
}

impl Parts {
    /// Of what the program does itself.
    pub fn own() -> Self {
        Self {
            caller: Caller::Operator,
            address: None,
            host: None,
            parameters: HashMap::new(),
            pairs: Vec::new(),
            body: None,
        }
    }
}

impl<'a> Call<'a> {
    /// Checks query and body by the operation's fields.
    pub fn prepare(
        operation: &Operation,
        parts: Parts,
        office: &'a Office,
        database: &'a Connection,
    ) -> Result<Self, Problem> {
        let mut flaws = Vec::new();
        let query = read_query(operation.query, &parts.pairs, &mut flaws);
        let mut path = vec!["body".to_owned()];
        let mut parts = parts;
        let mut body = match (operation.body, parts.body.take()) {
            (Body::None, _) => Value::Null,
            (Body::Optional(_), None) => Value::Object(Map::new()),
            (Body::Own(_), None) => Value::Null,
            (_, Some(body)) => body,
            (_, None) => return Err(Problem::field(&["body"], "a JSON body is required")),
        };
        match operation.body {
            Body::None | Body::Own(_) => {}
            Body::Members(fields) | Body::Optional(fields) => {
                check(&Kind::Record(fields), &mut body, &mut path, &mut flaws);
            }
        }
        if !flaws.is_empty() {
            return Err(Problem::flaws(flaws));
        }
        let parts = Parts {
            body: Some(body),
            ..parts
        };
        Ok(Self {
            query,
            ..Self::bare(parts, office, database)
        })
    }

    /// Without an operation to check by: what the program does itself.
    pub fn bare(parts: Parts, office: &'a Office, database: &'a Connection) -> Self {
        Self {
            office,
            database,
            caller: parts.caller,
            address: parts.address,
            host: parts.host,
            parameters: parts.parameters,
            pairs: parts.pairs,
            query: Map::new(),
            body: parts.body.unwrap_or_default(),
            changes: Vec::new(),
            messages: Vec::new(),
            audited: false,
        }
    }

    /// A parameter of the path, decoded.
    pub fn parameter(&self, name: &str) -> &str {
        self.parameters.get(name).map_or("", String::as_str)
    }

    /// A text of the query.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.query.get(name)?.as_str()
    }

    /// The page asked for and its size.
    pub fn page(&self) -> (i64, i64) {
        let whole = |name| self.query.get(name).and_then(Value::as_i64);
        (
            whole("page").unwrap_or(1),
            whole("per_page").unwrap_or(PER_PAGE_DEFAULT),
        )
    }

    /// A page of `all`.
    pub fn paginate(&self, all: Vec<Value>) -> Answer {
        let (page, per_page) = self.page();
        let total = all.len() as i64;
        let skipped = (page - 1).saturating_mul(per_page).min(total) as usize;
        let items = all
            .into_iter()
            .skip(skipped)
            .take(per_page as usize)
            .collect();
        Answer::Page {
            items,
            page,
            per_page,
            total,
        }
    }

    /// The page asked for of what `rest` selects (a table and its conditions): how many there are, and these in `order`.
    pub fn select_page(
        &self,
        columns: &str,
        rest: &str,
        order: &str,
        values: &[&dyn ToSql],
        mut show: impl FnMut(&Row<'_>) -> Result<Value, Problem>,
    ) -> Result<Answer, Problem> {
        let (page, per_page) = self.page();
        let count = format!("SELECT count(*) FROM {rest}");
        let total = self
            .database
            .prepare_cached(&count)?
            .query_row(values, |row| row.get(0))?;
        let skipped = (page - 1).saturating_mul(per_page);
        let query = format!(
            "SELECT {columns} FROM {rest} ORDER BY {order} LIMIT {per_page} OFFSET {skipped}"
        );
        let mut statement = self.database.prepare(&query)?;
        let mut rows = statement.query(values)?;
        let mut items = Vec::new();
        while let Some(row) = rows.next()? {
            items.push(show(row)?);
        }
        Ok(Answer::Page {
            items,
            page,
            per_page,
            total,
        })
    }

    /// Records what was done, by whom: once per change, in the same transaction (control plane 13). `old` and `new` hold no
    /// secret.
    pub fn audit(
        &mut self,
        action: &str,
        resource: (&str, &str),
        old: Option<&Value>,
        new: Option<&Value>,
    ) -> Result<(), Problem> {
        self.audit_line(action, resource, old, new)
            .write(self.database)?;
        self.audited = true;
        Ok(())
    }

    /// The same line, for what is done after the call.
    pub fn audit_line(
        &self,
        action: &str,
        resource: (&str, &str),
        old: Option<&Value>,
        new: Option<&Value>,
    ) -> Line {
        let (token, interface) = match &self.caller {
            Caller::Token(token) => {
                let named = (token.id.to_string(), token.name.to_string());
                (Some(named), "API")
            }
            // Without an address it is a command on the data directory.
            Caller::Operator if self.address.is_some() => (None, "API"),
            Caller::Operator => (None, "CLI"),
        };
        Line {
            action: action.to_owned(),
            resource: (resource.0.to_owned(), resource.1.to_owned()),
            token,
            address: self.address.map(|address| address.to_string()),
            interface,
            old: old.map(Value::to_string),
            new: new.map(Value::to_string),
        }
    }

    /// Whether something was changed without a line in the audit log: a programmer's error.
    pub fn unaudited(&self) -> bool {
        !self.changes.is_empty() && !self.audited
    }
}

/// A line of the audit log.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    action: String,
    resource: (String, String),
    token: Option<(String, String)>,
    address: Option<String>,
    interface: &'static str,
    old: Option<String>,
    new: Option<String>,
}

impl Line {
    /// Writes it.
    pub fn write(&self, database: &Connection) -> rusqlite::Result<()> {
        let info = format!("{} {} {}", self.action, self.resource.0, self.resource.1);
        let statement = "INSERT INTO audit (id, at, action, info, resource_type, resource_id, token_id, token_name, address, interface, old, new)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
        database.prepare_cached(statement)?.execute(params![
            uuid(),
            now(),
            self.action,
            info,
            self.resource.0,
            self.resource.1,
            self.token.as_ref().map(|token| &token.0),
            self.token.as_ref().map(|token| &token.1),
            self.address,
            self.interface,
            self.old,
            self.new,
        ])?;
        Ok(())
    }
}

/// `page` and `per_page` of a list.
pub(super) const fn paging(lowest: i64, highest: i64) -> [Field; 2] {
    [
        optional("page", Kind::Integer(1, i64::MAX)),
        optional("per_page", Kind::Integer(lowest, highest)),
    ]
}

/// A time as the API writes it: RFC 3339, UTC, milliseconds.
pub(super) fn time(milliseconds: i64) -> Value {
    match jiff::Timestamp::from_millisecond(milliseconds) {
        Ok(time) => Value::from(format!("{time:.3}")),
        Err(_) => Value::Null,
    }
}

/// Reads a time of the API as Unix seconds, fractions dropped.
pub(super) fn seconds(text: &str) -> Option<i64> {
    text.parse::<jiff::Timestamp>()
        .ok()
        .map(jiff::Timestamp::as_second)
}

/// Unix seconds now.
pub(super) fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
