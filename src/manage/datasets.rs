//! Datasets: saved questions to the logs of a gateway (spec: control plane 4). They hold no entries: what is logged later is
//! found as well.

use rusqlite::{Connection, OptionalExtension, params};
use serde_json::{Value, json};

use super::answer::{Answer, Problem};
use super::filters;
use super::gateways;
use super::operation::{Answers, Body, Call, Operation, READ, WRITE, paging, time};
use super::schema::{Field, Kind, QUERY_TEXT, TEXT, optional, required};
use crate::limits::{
    DATASET_FILTERS_BYTES_MAX, DATASET_NAME_MAX, DATASETS_MAX, LOG_FILTER_VALUES_MAX,
};
use crate::store::{now, uuid};

const PATH: &str = "/accounts/{account_id}/ai-gateway/gateways/{gateway_id}/datasets";
const ONE: &str = "/accounts/{account_id}/ai-gateway/gateways/{gateway_id}/datasets/{dataset_id}";
/// What the audit log calls a dataset.
const RESOURCE: &str = "ai_gateway.dataset";

/// Fewer than a list of logs takes.
const KEYS: &[&str] = &[
    "created_at",
    "request_content_type",
    "response_content_type",
    "success",
    "cached",
    "provider",
    "model",
    "cost",
    "tokens",
    "tokens_in",
    "tokens_out",
    "duration",
    "feedback",
];
const FILTER: &[Field] = &[
    required("key", Kind::Choice(KEYS)),
    required("operator", Kind::Choice(&["eq", "contains", "lt", "gt"])),
    required("value", Kind::List(&Kind::Scalar, 1, LOG_FILTER_VALUES_MAX)),
];
pub(super) const NAME: Field = required("name", Kind::Text(1, DATASET_NAME_MAX));
const BODY: &[Field] = &[
    NAME,
    required("enable", Kind::Boolean),
    required("filters", Kind::List(&Kind::Record(FILTER), 0, KEYS.len())),
];
pub(super) const ANSWER: &[Field] = &[
    required("id", TEXT),
    required("account_id", TEXT),
    required("account_tag", TEXT),
    required("gateway_id", TEXT),
    BODY[0],
    BODY[1],
    BODY[2],
    required("created_at", Kind::Time),
    required("modified_at", Kind::Time),
];

pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        method: "GET",
        path: PATH,
        name: "datasets.list",
        about: "List the datasets of a gateway; search looks at ids, names and filters",
        needs: READ,
        query: &[
            optional("search", QUERY_TEXT),
            optional("name", QUERY_TEXT),
            optional("enable", Kind::Boolean),
            paging(1, 100)[0],
            paging(1, 100)[1],
        ],
        body: Body::None,
        answers: Answers::Page(ANSWER),
        run: list,
    },
    Operation {
        method: "POST",
        path: PATH,
        name: "datasets.create",
        about: "Save filters of log entries, one a key, of which all must hold",
        needs: WRITE,
        query: &[],
        body: Body::Members(BODY),
        answers: Answers::Result(ANSWER),
        run: create,
    },
    Operation {
        method: "GET",
        path: ONE,
        name: "datasets.get",
        about: "Read a dataset",
        needs: READ,
        query: &[],
        body: Body::None,
        answers: Answers::Result(ANSWER),
        run: get,
    },
    Operation {
        method: "PUT",
        path: ONE,
        name: "datasets.update",
        about: "Change a dataset; evaluations that were made keep what it was",
        needs: WRITE,
        query: &[],
        body: Body::Members(BODY),
        answers: Answers::Result(ANSWER),
        run: update,
    },
    Operation {
        method: "DELETE",
        path: ONE,
        name: "datasets.delete",
        about: "Delete a dataset; log entries and evaluations stay",
        needs: WRITE,
        query: &[],
        body: Body::None,
        answers: Answers::Result(ANSWER),
        run: delete,
    },
];

const COLUMNS: &str = "id, gateway_id, name, enable, filters, created_at, modified_at";

/// A dataset as it is stored.
struct Row {
    id: String,
    gateway_id: String,
    name: String,
    enable: bool,
    filters: Value,
    created_at: i64,
    modified_at: i64,
}

fn list(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let gateway = gateways::existing(call)?;
    let search = call.text("search").unwrap_or_default().to_lowercase();
    let enable = call.query.get("enable").and_then(Value::as_bool);
    call.select_page(
        COLUMNS,
        "datasets WHERE gateway_id = ?1 AND (?2 IS NULL OR name = ?2) AND (?3 IS NULL OR enable = ?3)
            AND (instr(lower(id), ?4) > 0 OR instr(lower(name), ?4) > 0 OR instr(lower(filters), ?4) > 0)",
        "created_at, id",
        params![gateway.id, call.text("name"), enable, search],
        |row| Ok(show(&of_row(row)?, &call.office.account)),
    )
}

fn get(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let row = existing(call)?;
    Ok(Answer::Result(show(&row, &call.office.account)))
}

fn create(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let gateway = gateways::existing(call)?;
    let query = "SELECT count(*) FROM datasets WHERE gateway_id = ?1";
    let count: i64 = call
        .database
        .query_row(query, [&gateway.id], |row| row.get(0))?;
    if count >= DATASETS_MAX {
        let message = format!("a gateway has at most {DATASETS_MAX} datasets");
        return Err(Problem::field(&["body"], message));
    }
    let now = now();
    let mut row = Row {
        id: uuid(),
        gateway_id: gateway.id,
        name: String::new(),
        enable: false,
        filters: Value::Null,
        created_at: now,
        modified_at: now,
    };
    take(&mut row, call)?;
    let statement = format!("INSERT INTO datasets ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)");
    store(call.database, &statement, &row)?;
    let shown = show(&row, &call.office.account);
    call.audit("create", (RESOURCE, &row.id), None, Some(&shown))?;
    Ok(Answer::Result(shown))
}

fn update(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let mut row = existing(call)?;
    let old = show(&row, &call.office.account);
    take(&mut row, call)?;
    row.modified_at = now().max(row.modified_at + 1);
    let statement = "UPDATE datasets SET gateway_id = ?2, name = ?3, enable = ?4, filters = ?5, created_at = ?6, modified_at = ?7
        WHERE id = ?1";
    store(call.database, statement, &row)?;
    let shown = show(&row, &call.office.account);
    call.audit("update", (RESOURCE, &row.id), Some(&old), Some(&shown))?;
    Ok(Answer::Result(shown))
}

fn delete(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let row = existing(call)?;
    call.database
        .execute("DELETE FROM datasets WHERE id = ?1", [&row.id])?;
    let shown = show(&row, &call.office.account);
    call.audit("delete", (RESOURCE, &row.id), Some(&shown), None)?;
    Ok(Answer::Result(shown))
}

/// The dataset that the path names, on the gateway that it names.
fn existing(call: &Call<'_>) -> Result<Row, Problem> {
    let gateway = gateways::existing(call)?;
    let found = find(call.database, &gateway.id, call.parameter("dataset_id"))?;
    found.ok_or_else(|| Problem::not_found("dataset"))
}

fn find(database: &Connection, gateway: &str, id: &str) -> Result<Option<Row>, Problem> {
    let query = format!("SELECT {COLUMNS} FROM datasets WHERE id = ?1 AND gateway_id = ?2");
    let mut statement = database.prepare_cached(&query)?;
    let mut rows = statement.query([id, gateway])?;
    rows.next()?.map(of_row).transpose()
}

/// A dataset that is to be evaluated, as the API answers it; `path` is where its id stands.
pub(super) fn to_evaluate(
    call: &Call<'_>,
    gateway: &str,
    id: &str,
    path: &[&str],
) -> Result<Value, Problem> {
    match find(call.database, gateway, id)? {
        Some(row) if row.enable => Ok(show(&row, &call.office.account)),
        Some(row) => {
            let message = format!("the dataset {:?} is not enabled", row.name);
            Err(Problem::field(path, message))
        }
        None => {
            let message = format!("the gateway has no dataset {id:?}");
            Err(Problem::field(path, message))
        }
    }
}

fn of_row(row: &rusqlite::Row<'_>) -> Result<Row, Problem> {
    Ok(Row {
        id: row.get(0)?,
        gateway_id: row.get(1)?,
        name: row.get(2)?,
        enable: row.get(3)?,
        filters: serde_json::from_str(&row.get::<_, String>(4)?)?,
        created_at: row.get(5)?,
        modified_at: row.get(6)?,
    })
}

fn store(database: &Connection, statement: &str, row: &Row) -> Result<(), Problem> {
    database.execute(
        statement,
        params![
            row.id,
            row.gateway_id,
            row.name,
            row.enable,
            row.filters.to_string(),
            row.created_at,
            row.modified_at,
        ],
    )?;
    Ok(())
}

/// Takes the members of the body, which has all of them.
fn take(row: &mut Row, call: &Call<'_>) -> Result<(), Problem> {
    let name = call.body["name"].as_str().unwrap_or_default();
    let query = "SELECT 1 FROM datasets WHERE gateway_id = ?1 AND name = ?2 AND id <> ?3";
    let twin = call
        .database
        .query_row(query, [&row.gateway_id, name, &row.id], |_| Ok(()))
        .optional()?;
    if twin.is_some() {
        let what = format!("a dataset {name:?}");
        return Err(Problem::exists(&["body", "name"], &what));
    }
    row.name = name.to_owned();
    row.enable = call.body["enable"] == true;
    row.filters = own_members(&call.body["filters"]);
    check_filters(&row.filters)
}

/// Filters without members that none has.
fn own_members(filters: &Value) -> Value {
    let filters = filters.as_array().into_iter().flatten();
    let own = |filter: &Value| json!({"key": filter["key"], "operator": filter["operator"], "value": filter["value"]});
    filters.map(own).collect()
}

/// What the kinds of the fields do not say: one filter a key, and values that the key can be compared with.
fn check_filters(filters: &Value) -> Result<(), Problem> {
    let length = filters.to_string().len();
    if length > DATASET_FILTERS_BYTES_MAX {
        let message = format!(
            "must have at most {DATASET_FILTERS_BYTES_MAX} bytes together, and these have {length}"
        );
        return Err(Problem::field(&["body", "filters"], message));
    }
    let keys: Vec<&Value> = filters
        .as_array()
        .into_iter()
        .flatten()
        .map(|filter| &filter["key"])
        .collect();
    for (index, key) in keys.iter().enumerate() {
        if keys[..index].contains(key) {
            let path = ["body", "filters", &index.to_string(), "key"];
            return Err(Problem::field(&path, format!("{key} has a filter already")));
        }
    }
    filters::conditions_of(filters).map(|_| ())
}

fn show(row: &Row, account: &str) -> Value {
    json!({
        "id": row.id,
        "account_id": account,
        "account_tag": account,
        "gateway_id": row.gateway_id,
        "name": row.name,
        "enable": row.enable,
        "filters": row.filters,
        "created_at": time(row.created_at),
        "modified_at": time(row.modified_at),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(filters: Value) -> String {
        let problem = check_filters(&filters).expect_err("refused");
        assert_eq!((problem.status, problem.errors[0].code), (400, 7001));
        problem.errors[0].path.join(".")
    }

    #[test]
    fn filters_have_one_key_each_and_values_of_its_type() {
        let filter = |key: &str, operator: &str, value: Value| json!({"key": key, "operator": operator, "value": value});
        for right in [
            json!([]),
            json!([
                filter("cost", "gt", json!([0.1])),
                filter("model", "eq", json!(["a", "b"]))
            ]),
            json!([
                filter("success", "eq", json!([true])),
                filter("duration", "lt", json!(["1e3"]))
            ]),
            json!([filter("created_at", "gt", json!(["2026-01-31"]))]),
        ] {
            check_filters(&right).expect("right");
        }
        let twice = json!([
            filter("cost", "gt", json!([1])),
            filter("cost", "lt", json!([2]))
        ]);
        assert_eq!(refused(twice), "body.filters.1.key");
        for (key, value) in [
            ("cost", json!(["much"])),
            ("success", json!(["maybe"])),
            ("created_at", json!(["soon"])),
        ] {
            let wrong = json!([filter(key, "gt", value)]);
            assert_eq!(refused(wrong), "body.filters.0.value", "{key}");
        }
        let long = json!([filter(
            "model",
            "eq",
            json!(["x".repeat(DATASET_FILTERS_BYTES_MAX)])
        )]);
        assert_eq!(refused(long), "body.filters");
    }

    #[test]
    fn every_key_is_one_of_the_logs() {
        for key in KEYS {
            assert!(crate::telemetry::logs::Key::parse(key).is_some(), "{key}");
        }
    }
}
