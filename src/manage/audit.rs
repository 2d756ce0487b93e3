//! The audit log (spec: control plane 13). Its lines are written where a call changes something.

use rusqlite::types::Value as Sql;
use rusqlite::{Row, ToSql, params_from_iter};
use serde_json::{Value, json};

use super::answer::{Answer, Problem};
use super::operation::{Answers, Body, Call, Needs, Operation, paging, time};
use super::schema::{Field, Kind, QUERY_TEXT, TEXT, optional, required};
use crate::access::Permission as P;

const ANSWER: &[Field] = &[
    required("id", TEXT),
    required("when", Kind::Time),
    required("action", Kind::Any),
    required("actor", Kind::Any),
    required("interface", TEXT),
    required("resource", Kind::Any),
    required("oldValueJson", Kind::Any),
    required("newValueJson", Kind::Any),
    required("owner", Kind::Any),
    required("metadata", Kind::Any),
];
const ORDER: Kind = Kind::Choice(&["asc", "desc"]);

pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        method: "GET",
        path: "/accounts/{account_id}/audit_logs",
        name: "audit_logs.list",
        about: "List management writes, page by page",
        needs: Needs::Any(&[P::Admin]),
        query: &[
            paging(1, 1000)[0],
            paging(1, 1000)[1],
            optional("since", Kind::Time),
            optional("before", Kind::Time),
            optional("action.type", QUERY_TEXT),
            optional("actor.email", QUERY_TEXT),
            optional("id", QUERY_TEXT),
            optional("direction", ORDER),
        ],
        body: Body::None,
        answers: Answers::Page(ANSWER),
        run: pages,
    },
    Operation {
        method: "GET",
        path: "/accounts/{account_id}/logs/audit",
        name: "audit_logs.stream",
        about: "List management writes behind a cursor",
        needs: Needs::Any(&[P::Admin]),
        query: &[
            optional("since", Kind::Time),
            optional("before", Kind::Time),
            optional("limit", Kind::Integer(1, 1000)),
            optional("cursor", Kind::Text(0, 32)),
            optional("direction", ORDER),
        ],
        body: Body::None,
        answers: Answers::Raw(&[
            required("result", Kind::List(&Kind::Record(ANSWER), 0, 1000)),
            required("result_info", Kind::Any),
        ]),
        run: behind_cursor,
    },
];

const COLUMNS: &str = "number, id, at, action, info, resource_type, resource_id, token_id, token_name, address, interface, old, new";

/// Conditions of a list and their values.
#[derive(Default)]
struct Filter {
    conditions: Vec<&'static str>,
    values: Vec<Sql>,
}

impl Filter {
    fn of(call: &Call<'_>) -> Self {
        let mut filter = Self::default();
        let milliseconds = |name| {
            let time = call.text(name)?.parse::<jiff::Timestamp>().ok()?;
            Some(Sql::from(time.as_millisecond()))
        };
        filter.add("at >= ?", milliseconds("since"));
        filter.add("at < ?", milliseconds("before"));
        let text = |name| call.text(name).map(|text| Sql::from(text.to_owned()));
        filter.add("action = ?", text("action.type"));
        filter.add("token_name = ?", text("actor.email"));
        filter.add("id = ?", text("id"));
        filter
    }

    fn add(&mut self, condition: &'static str, value: Option<Sql>) {
        if let Some(value) = value {
            self.conditions.push(condition);
            self.values.push(value);
        }
    }

    fn clause(&self) -> String {
        match self.conditions.is_empty() {
            true => String::new(),
            false => format!(" WHERE {}", self.conditions.join(" AND ")),
        }
    }
}

fn order(call: &Call<'_>) -> &'static str {
    match call.text("direction") {
        Some("asc") => "ASC",
        _ => "DESC",
    }
}

fn pages(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let filter = Filter::of(call);
    let values: Vec<&dyn ToSql> = filter.values.iter().map(|value| value as _).collect();
    call.select_page(
        COLUMNS,
        &format!("audit{}", filter.clause()),
        &format!("number {}", order(call)),
        &values,
        |row| show(row, &call.office.account),
    )
}

fn behind_cursor(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let mut filter = Filter::of(call);
    let order = order(call);
    if let Some(cursor) = call.text("cursor").filter(|cursor| !cursor.is_empty()) {
        let number = cursor.parse::<i64>();
        let number = number
            .map_err(|_| Problem::field(&["query", "cursor"], "is no cursor of this list"))?;
        let beyond = if order == "ASC" {
            "number > ?"
        } else {
            "number < ?"
        };
        filter.add(beyond, Some(Sql::from(number)));
    }
    let limit = call
        .query
        .get("limit")
        .and_then(Value::as_i64)
        .unwrap_or(100);
    let query = format!(
        "SELECT {COLUMNS} FROM audit{} ORDER BY number {order} LIMIT {limit}",
        filter.clause()
    );
    let (items, last) = read(call, &query, &filter)?;
    let more = items.len() as i64 == limit;
    let cursor = last.filter(|_| more).map(|number| number.to_string());
    Ok(Answer::Raw(json!({
        "success": true,
        "errors": [],
        "messages": [],
        "result_info": {"count": items.len(), "cursor": cursor.unwrap_or_default()},
        "result": items,
    })))
}

/// The lines of a query, and the number of the last.
fn read(
    call: &Call<'_>,
    query: &str,
    filter: &Filter,
) -> Result<(Vec<Value>, Option<i64>), Problem> {
    let mut statement = call.database.prepare_cached(query)?;
    let mut rows = statement.query(params_from_iter(&filter.values))?;
    let (mut items, mut last) = (Vec::new(), None);
    while let Some(row) = rows.next()? {
        last = Some(row.get(0)?);
        items.push(show(row, &call.office.account)?);
    }
    Ok((items, last))
}

fn show(row: &Row<'_>, account: &str) -> Result<Value, Problem> {
    let text = |index| row.get::<_, Option<String>>(index);
    let json = |index| -> Result<Value, Problem> {
        match text(index)? {
            Some(text) => Ok(serde_json::from_str(&text)?),
            None => Ok(Value::Null),
        }
    };
    Ok(json!({
        "id": text(1)?,
        "when": time(row.get(2)?),
        "action": {"type": text(3)?, "info": text(4)?, "result": true},
        "actor": {"id": text(7)?, "email": text(8)?, "ip": text(9)?, "type": if text(7)?.is_some() { "token" } else { "operator" }},
        "interface": text(10)?,
        "resource": {"type": text(5)?, "id": text(6)?},
        "oldValueJson": json(11)?,
        "newValueJson": json(12)?,
        "owner": {"id": account},
        "metadata": {},
    }))
}
