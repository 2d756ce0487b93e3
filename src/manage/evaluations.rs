//! Evaluations: what the log entries of some datasets come to (spec: control plane 4). A call makes one and reads it; it is run
//! afterwards, once (`evaluate`).

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde_json::{Value, json};

use super::answer::{Answer, Problem};
use super::datasets;
use super::evaluation_types::EvaluationType;
use super::filters;
use super::gateways;
use super::logs::{Ask, Later};
use super::operation::{Answers, Body, Call, Operation, READ, WRITE, paging, time};
use super::schema::{Field, INTEGER, Kind, QUERY_TEXT, TEXT, optional, required};
use crate::limits::{EVALUATION_DATASETS_MAX, EVALUATIONS_MAX};
use crate::store::{now, uuid};
use crate::telemetry::logs::{Selection, Tally};

const PATH: &str = "/accounts/{account_id}/ai-gateway/gateways/{gateway_id}/evaluations";
const ONE: &str =
    "/accounts/{account_id}/ai-gateway/gateways/{gateway_id}/evaluations/{evaluation_id}";
/// What the audit log calls an evaluation.
const RESOURCE: &str = "ai_gateway.evaluation";

const RESULT: &[Field] = &[
    required("id", TEXT),
    required("evaluation_id", TEXT),
    required("evaluation_type_id", TEXT),
    required("result", TEXT),
    required("status", Kind::Integer(0, 3)),
    required("status_description", TEXT),
    required("total_logs", INTEGER),
    required("created_at", Kind::Time),
    required("modified_at", Kind::Time),
];
const ANSWER: &[Field] = &[
    required("id", TEXT),
    required("gateway_id", TEXT),
    datasets::NAME,
    required("processed", Kind::Boolean),
    required("total_logs", INTEGER),
    required(
        "datasets",
        Kind::List(&Kind::Record(datasets::ANSWER), 1, EVALUATION_DATASETS_MAX),
    ),
    required("results", Kind::List(&Kind::Record(RESULT), 1, 3)),
    required("created_at", Kind::Time),
    required("modified_at", Kind::Time),
];

pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        method: "GET",
        path: PATH,
        name: "evaluations.list",
        about: "List the evaluations of a gateway; search looks at ids and names",
        needs: READ,
        query: &[
            optional("search", QUERY_TEXT),
            optional("name", QUERY_TEXT),
            optional("processed", Kind::Boolean),
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
        name: "evaluations.create",
        about: "Measure the log entries that any of some datasets finds; it is done when processed is true",
        needs: WRITE,
        query: &[],
        body: Body::Members(&[
            datasets::NAME,
            required(
                "dataset_ids",
                Kind::List(&QUERY_TEXT, 1, EVALUATION_DATASETS_MAX),
            ),
            required("evaluation_type_ids", Kind::List(&QUERY_TEXT, 1, 10)),
        ]),
        answers: Answers::Result(ANSWER),
        run: create,
    },
    Operation {
        method: "GET",
        path: ONE,
        name: "evaluations.get",
        about: "Read an evaluation",
        needs: READ,
        query: &[],
        body: Body::None,
        answers: Answers::Result(ANSWER),
        run: get,
    },
    Operation {
        method: "DELETE",
        path: ONE,
        name: "evaluations.delete",
        about: "Delete an evaluation",
        needs: WRITE,
        query: &[],
        body: Body::None,
        answers: Answers::Result(ANSWER),
        run: delete,
    },
];

/// How far a result has come, and how that is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Pending,
    Running,
    Done,
    Failed,
}

impl Status {
    fn number(self) -> i64 {
        self as i64
    }

    fn text(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

const COLUMNS: &str =
    "id, gateway_id, name, processed, total_logs, datasets, created_at, modified_at";

fn list(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let gateway = gateways::existing(call)?;
    let search = call.text("search").unwrap_or_default().to_lowercase();
    let processed = call.query.get("processed").and_then(Value::as_bool);
    call.select_page(
        COLUMNS,
        "evaluations WHERE gateway_id = ?1 AND (?2 IS NULL OR name = ?2) AND (?3 IS NULL OR processed = ?3)
            AND (instr(lower(id), ?4) > 0 OR instr(lower(name), ?4) > 0)",
        "created_at, id",
        params![gateway.id, call.text("name"), processed, search],
        |row| show(call.database, row),
    )
}

fn get(call: &mut Call<'_>) -> Result<Answer, Problem> {
    Ok(Answer::Result(existing(call)?))
}

fn create(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let gateway = gateways::existing(call)?.id;
    let query = "SELECT count(*) FROM evaluations WHERE gateway_id = ?1";
    let count: i64 = call
        .database
        .query_row(query, [&gateway], |row| row.get(0))?;
    if count >= EVALUATIONS_MAX {
        let message = format!("a gateway keeps at most {EVALUATIONS_MAX} evaluations");
        return Err(Problem::field(&["body"], message));
    }
    let mut of = Vec::new();
    for (at, id) in distinct(&call.body["dataset_ids"]) {
        let path = ["body", "dataset_ids", &at.to_string()];
        of.push(datasets::to_evaluate(call, &gateway, id, &path)?);
    }
    let mut types = Vec::new();
    for (at, id) in distinct(&call.body["evaluation_type_ids"]) {
        let path = ["body", "evaluation_type_ids", &at.to_string()];
        let known = EvaluationType::of(id);
        let unknown = || Problem::field(&path, format!("there is no evaluation type {id:?}"));
        types.push(known.ok_or_else(unknown)?.id);
    }
    let (id, name, now) = (uuid(), call.body["name"].as_str(), now());
    call.database.execute(
        "INSERT INTO evaluations (id, gateway_id, name, processed, total_logs, datasets, created_at, modified_at)
        VALUES (?1, ?2, ?3, 0, 0, ?4, ?5, ?5)",
        params![id, gateway, name, Value::Array(of).to_string(), now],
    )?;
    let status = Status::Pending;
    for (number, known) in types.into_iter().enumerate() {
        call.database.execute(
            "INSERT INTO evaluation_results
            (id, evaluation_id, evaluation_type_id, number, result, status, status_description, total_logs, created_at, modified_at)
            VALUES (?1, ?2, ?3, ?4, '', ?5, ?6, 0, ?7, ?7)",
            params![uuid(), id, known, number as i64, status.number(), status.text(), now],
        )?;
    }
    let shown = find(call.database, &gateway, &id)?.unwrap_or_default();
    call.audit("create", (RESOURCE, &id), None, Some(&shown))?;
    let ask = Ask::Evaluate { answer: shown };
    Ok(Answer::Later(Box::new(Later { ask, line: None })))
}

fn delete(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let shown = existing(call)?;
    let id = call.parameter("evaluation_id").to_owned();
    call.database
        .execute("DELETE FROM evaluations WHERE id = ?1", [&id])?;
    call.audit("delete", (RESOURCE, &id), Some(&shown), None)?;
    Ok(Answer::Result(shown))
}

/// Texts of a list and their places, each text once.
fn distinct(list: &Value) -> Vec<(usize, &str)> {
    let mut found: Vec<(usize, &str)> = Vec::new();
    for (at, text) in list.as_array().into_iter().flatten().enumerate() {
        let text = text.as_str().unwrap_or_default();
        if !found.iter().any(|(_, known)| *known == text) {
            found.push((at, text));
        }
    }
    found
}

/// The evaluation that the path names, on the gateway that it names.
fn existing(call: &Call<'_>) -> Result<Value, Problem> {
    let gateway = gateways::existing(call)?;
    let found = find(call.database, &gateway.id, call.parameter("evaluation_id"))?;
    found.ok_or_else(|| Problem::not_found("evaluation"))
}

fn find(database: &Connection, gateway: &str, id: &str) -> Result<Option<Value>, Problem> {
    let query = format!("SELECT {COLUMNS} FROM evaluations WHERE id = ?1 AND gateway_id = ?2");
    let mut statement = database.prepare_cached(&query)?;
    let mut rows = statement.query([id, gateway])?;
    let row = rows.next()?;
    row.map(|row| show(database, row)).transpose()
}

fn show(database: &Connection, row: &rusqlite::Row<'_>) -> Result<Value, Problem> {
    let id: String = row.get(0)?;
    let query = "SELECT id, evaluation_type_id, result, status, status_description, total_logs, created_at, modified_at
        FROM evaluation_results WHERE evaluation_id = ?1 ORDER BY number";
    let mut statement = database.prepare_cached(query)?;
    let results = statement.query_map([&id], |row| {
        Ok(json!({
            "id": row.get::<_, String>(0)?,
            "evaluation_id": id,
            "evaluation_type_id": row.get::<_, String>(1)?,
            "result": row.get::<_, String>(2)?,
            "status": row.get::<_, i64>(3)?,
            "status_description": row.get::<_, String>(4)?,
            "total_logs": row.get::<_, i64>(5)?,
            "created_at": time(row.get(6)?),
            "modified_at": time(row.get(7)?),
        }))
    })?;
    let results: Vec<Value> = results.collect::<Result<_, _>>()?;
    let datasets: Value = serde_json::from_str(&row.get::<_, String>(5)?)?;
    Ok(json!({
        "id": id,
        "gateway_id": row.get::<_, String>(1)?,
        "name": row.get::<_, String>(2)?,
        "processed": row.get::<_, bool>(3)?,
        "total_logs": row.get::<_, i64>(4)?,
        "datasets": datasets,
        "results": results,
        "created_at": time(row.get(6)?),
        "modified_at": time(row.get(7)?),
    }))
}

/// An evaluation's id, and the entries that it is about, where that can be told.
type Begun = (String, Result<Selection, Problem>);

/// The evaluation that has waited longest, which then counts as running. One that an earlier run of the program began is begun
/// anew.
pub(super) fn begin_next(transaction: &Transaction<'_>) -> Result<Option<Begun>, Problem> {
    let query = "SELECT id, gateway_id, datasets, created_at FROM evaluations WHERE processed = 0 ORDER BY created_at, id LIMIT 1";
    let next = transaction.query_row(query, [], |row| {
        Ok((
            row.get::<_, String>(0)?,
            row.get::<_, String>(1)?,
            row.get::<_, String>(2)?,
            row.get::<_, i64>(3)?,
        ))
    });
    let Some((id, gateway, datasets, created_at)) = next.optional()? else {
        return Ok(None);
    };
    let status = Status::Running;
    transaction.execute(
        "UPDATE evaluation_results SET status = ?2, status_description = ?3, modified_at = max(?4, modified_at + 1) WHERE evaluation_id = ?1",
        params![id, status.number(), status.text(), now()],
    )?;
    let selection = selection(gateway, &datasets, created_at);
    Ok(Some((id, selection)))
}

fn selection(gateway: String, datasets: &str, created_at: i64) -> Result<Selection, Problem> {
    let datasets: Value = serde_json::from_str(datasets)?;
    let datasets = datasets.as_array().into_iter().flatten();
    let questions = datasets.map(|dataset| filters::conditions_of(&dataset["filters"]));
    Ok(Selection {
        gateway,
        questions: questions.collect::<Result<_, _>>()?,
        until: created_at.unsigned_abs(),
    })
}

/// Keeps what an evaluation came to, or why it came to nothing. One that was deleted meanwhile stays deleted.
pub(super) fn finish(
    transaction: &Transaction<'_>,
    id: &str,
    outcome: &Result<Tally, String>,
) -> Result<(), Problem> {
    let now = now();
    let query = "SELECT id, evaluation_type_id FROM evaluation_results WHERE evaluation_id = ?1";
    let mut statement = transaction.prepare_cached(query)?;
    let results = statement.query_map([id], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let results: Vec<(String, String)> = results.collect::<Result<_, _>>()?;
    for (result_id, type_id) in results {
        let (result, status, description, entries) = told(&type_id, outcome);
        transaction.execute(
            "UPDATE evaluation_results SET result = ?2, status = ?3, status_description = ?4, total_logs = ?5,
            modified_at = max(?6, modified_at + 1) WHERE id = ?1",
            params![result_id, result, status.number(), description, entries as i64, now],
        )?;
    }
    let entries = outcome.as_ref().map_or(0, |tally| tally.entries);
    transaction.execute(
        "UPDATE evaluations SET processed = 1, total_logs = ?2, modified_at = max(?3, modified_at + 1) WHERE id = ?1",
        params![id, entries as i64, now],
    )?;
    Ok(())
}

/// Result, status, its description, and how many entries had the figure.
fn told(type_id: &str, outcome: &Result<Tally, String>) -> (String, Status, String, u64) {
    let failed = |reason: &str| {
        let description = format!("{}: {reason}", Status::Failed.text());
        (String::new(), Status::Failed, description, 0)
    };
    let tally = match outcome {
        Ok(tally) => tally,
        Err(reason) => return failed(reason),
    };
    let Some(known) = EvaluationType::of(type_id) else {
        return failed("this type is not known any more");
    };
    let (result, entries) = known.measure(tally);
    let description = match (tally.entries, entries) {
        (0, _) => "done: no log entry was found",
        (_, 0) => "done: no log entry has the figure",
        _ => Status::Done.text(),
    };
    (result, Status::Done, description.to_owned(), entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Flags, load};
    use crate::manage::{Declared, Office, call_as_operator, inaugurate, office};
    use crate::seal::Sealer;
    use crate::store::Database;
    use crate::telemetry::logs::Sum;

    /// An instance without a server.
    struct Instance {
        office: Office,
        database: Database,
        _folder: tempfile::TempDir,
    }

    impl Instance {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let (config, _) = load(&Flags::default(), &|_| None).expect("a configuration");
            let sealer = Sealer::create(&folder.path().join("master-key")).expect("a key");
            let declared = Declared::of(&config).expect("declared");
            let office = office("acc", std::sync::Arc::new(sealer), declared);
            let mut database = Database::open(folder.path()).expect("opened");
            inaugurate(&office, &mut database, None).expect("ready");
            Self {
                office,
                database,
                _folder: folder,
            }
        }

        fn call(&mut self, method: &str, path: &str, body: Value) -> Value {
            let path = format!("/accounts/acc/ai-gateway/gateways/default{path}");
            let body = (!body.is_null()).then_some(body);
            let answer = call_as_operator(&self.office, &mut self.database, method, &path, body);
            answer.expect("done")["result"].clone()
        }

        /// The id of a new evaluation of a new dataset.
        fn evaluation(&mut self, name: &str) -> String {
            let body = json!({"name": name, "enable": true, "filters": []});
            let dataset = self.call("POST", "/datasets", body);
            let body = json!({"name": name, "dataset_ids": [dataset["id"]], "evaluation_type_ids": ["speed"]});
            let made = self.call("POST", "/evaluations", body);
            made["id"].as_str().expect("an id").to_owned()
        }

        fn write<T>(&mut self, work: impl FnOnce(&Transaction<'_>) -> Result<T, Problem>) -> T {
            let transaction = self.database.begin().expect("begun");
            let done = work(&transaction).expect("done");
            transaction.commit().expect("committed");
            done
        }

        fn begun(&mut self) -> Option<Begun> {
            self.write(begin_next)
        }

        /// Whether it is processed, and the status of its result.
        fn state(&mut self, id: &str) -> (bool, i64) {
            let shown = self.call("GET", &format!("/evaluations/{id}"), Value::Null);
            let status = shown["results"][0]["status"].as_i64();
            (shown["processed"] == true, status.expect("a status"))
        }
    }

    #[test]
    fn what_was_begun_is_begun_again_until_it_is_done() {
        let mut instance = Instance::new();
        let ids = ["one", "two", "three"].map(|name| instance.evaluation(name));
        // Made within the same millisecond, as may be, they come by their ids.
        let mut order = Vec::new();
        for _ in 0..3 {
            let (id, selection) = instance.begun().expect("one waits");
            assert_eq!(instance.state(&id), (false, 1));
            let (again, _) = instance.begun().expect("it waits still");
            assert_eq!(again, id);
            let selection = selection.expect("a selection");
            assert_eq!(
                (&*selection.gateway, selection.questions),
                ("default", vec![vec![]])
            );
            instance.write(|transaction| finish(transaction, &id, &Ok(Tally::default())));
            assert_eq!(instance.state(&id), (true, 2));
            order.push(id);
        }
        assert!(instance.begun().is_none());
        order.sort_unstable();
        assert!(ids.iter().all(|id| order.binary_search(id).is_ok()));
    }

    #[test]
    fn neither_a_deleted_one_nor_a_damaged_one_holds_up_the_others() {
        let mut instance = Instance::new();
        let gone = instance.evaluation("gone");
        let (id, _) = instance.begun().expect("one waits");
        assert_eq!(id, gone);
        let one = format!("/evaluations/{gone}");
        instance.call("DELETE", &one, Value::Null);
        instance.write(|transaction| finish(transaction, &gone, &Ok(Tally::default())));
        assert!(instance.begun().is_none());
        let damaged = instance.evaluation("damaged");
        instance.write(|transaction| {
            let spoil = r#"UPDATE evaluations SET datasets = '[{"filters": [{"key": "luck"}]}]'"#;
            Ok(transaction.execute(spoil, [])?)
        });
        let (id, selection) = instance.begun().expect("one waits");
        let reason = selection.expect_err("no such key").to_string();
        instance.write(|transaction| finish(transaction, &id, &Err(reason)));
        assert_eq!(instance.state(&damaged), (true, 3));
        assert!(instance.begun().is_none());
        instance.call("DELETE", "", Value::Null);
        for table in ["datasets", "evaluations", "evaluation_results"] {
            let query = format!("SELECT count(*) FROM {table}");
            let connection = instance.database.connection();
            let count = connection.query_row(&query, [], |row| row.get::<_, i64>(0));
            assert_eq!(count.expect("counted"), 0, "{table}");
        }
    }

    #[test]
    fn outcomes_say_what_they_rest_on() {
        let tally = Tally {
            entries: 2,
            duration: Sum {
                entries: 2,
                total: 30,
            },
            ..Tally::default()
        };
        let outcome = Ok(tally);
        assert_eq!(
            told("speed", &outcome),
            ("15".to_owned(), Status::Done, "done".to_owned(), 2)
        );
        let (result, status, description, entries) = told("cost", &outcome);
        assert_eq!((&*result, status, entries), ("", Status::Done, 0));
        assert_eq!(description, "done: no log entry has the figure");
        let (result, _, description, _) = told("speed", &Ok(Tally::default()));
        assert_eq!(
            (&*result, &*description),
            ("", "done: no log entry was found")
        );
        let (_, status, description, _) = told("cost", &Err("no disk".to_owned()));
        assert_eq!((status.number(), &*description), (3, "failed: no disk"));
        assert_eq!(told("luck", &outcome).1, Status::Failed);
    }

    #[test]
    fn each_text_counts_once() {
        assert_eq!(
            distinct(&json!(["a", "b", "a", "c"])),
            [(0, "a"), (1, "b"), (3, "c")]
        );
    }
}
