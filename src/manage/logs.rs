//! Log entries (spec: control plane 3). A call is checked on the database's thread like any other; what it asks of the log store
//! is then asked of the store's own threads.

use serde_json::{Map, Value, json};

use super::answer::{Answer, Problem};
use super::filters;
use super::gateways;
use super::operation::{Answers, Body, Call, Line, Needs, Operation, READ, WRITE, paging, time};
use super::schema::{Field, Kind, QUERY_TEXT, TEXT, optional, required, required_nullable};
use crate::access::Permission as P;
use crate::record::Id;
use crate::telemetry::analytics::Analytics;
use crate::telemetry::logs::{
    Condition, Edit, Extremes, FilterError, Form, Found, Key, Log, Logs, Operator, Order, OrderBy,
    Query, Value as FilterValue, Which, between, bound, condition, flag,
};

const PATH: &str = "/accounts/{account_id}/ai-gateway/gateways/{gateway_id}/logs";
const ONE: &str = "/accounts/{account_id}/ai-gateway/gateways/{gateway_id}/logs/{id}";
/// What the audit log calls an entry.
const RESOURCE: &str = "ai_gateway.log";
/// Who may read bodies: the right to read figures alone is not enough.
const READ_BODIES: Needs = Needs::Any(&[P::GatewayRead]);

const DIRECTION: Kind = Kind::Choice(&["asc", "desc"]);
const NUMBER: Kind = Kind::Number(f64::MIN, f64::MAX);
/// Most entries that one call deletes.
const DELETED_MAX: i64 = 10_000;

const LIST: &[Field] = &[
    paging(1, 50)[0],
    paging(1, 50)[1],
    optional("search", QUERY_TEXT),
    optional(
        "order_by",
        Kind::Choice(&[
            "created_at",
            "provider",
            "model",
            "model_type",
            "success",
            "cached",
        ]),
    ),
    optional("order_by_direction", DIRECTION),
    optional("direction", DIRECTION),
    optional("meta_info", Kind::Boolean),
    optional("start_date", Kind::Time),
    optional("end_date", Kind::Time),
    optional("min_cost", NUMBER),
    optional("max_cost", NUMBER),
    optional("min_tokens_in", NUMBER),
    optional("max_tokens_in", NUMBER),
    optional("min_tokens_out", NUMBER),
    optional("max_tokens_out", NUMBER),
    optional("min_total_tokens", NUMBER),
    optional("max_total_tokens", NUMBER),
    optional("min_duration", NUMBER),
    optional("max_duration", NUMBER),
    optional("feedback", Kind::Integer(-1, 1)),
    optional("success", Kind::Boolean),
    optional("cached", Kind::Boolean),
    optional("model", QUERY_TEXT),
    optional("model_type", QUERY_TEXT),
    optional("provider", QUERY_TEXT),
    optional("request_content_type", QUERY_TEXT),
    optional("response_content_type", QUERY_TEXT),
];

const DELETE: &[Field] = &[
    optional("limit", Kind::Integer(1, DELETED_MAX)),
    optional(
        "order_by",
        Kind::Choice(&[
            "created_at",
            "provider",
            "model",
            "model_type",
            "success",
            "cached",
            "cost",
            "tokens_in",
            "tokens_out",
            "duration",
            "feedback",
        ]),
    ),
    optional("order_by_direction", DIRECTION),
];

const ENTRY: &[Field] = &[
    required("id", TEXT),
    required("cached", Kind::Boolean),
    required("created_at", Kind::Time),
    required("duration", Kind::Integer(0, i64::MAX)),
    required("model", TEXT),
    required("path", TEXT),
    required("provider", TEXT),
    required("success", Kind::Boolean),
    required_nullable("tokens_in", Kind::Integer(0, i64::MAX)),
    required_nullable("tokens_out", Kind::Integer(0, i64::MAX)),
    required_nullable("cost", NUMBER),
];

pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        method: "GET",
        path: PATH,
        name: "logs.list",
        about: "List log entries; filters as filters.key, filters.operator, filters.value",
        needs: READ,
        query: LIST,
        body: Body::None,
        answers: Answers::Page(ENTRY),
        run: list,
    },
    Operation {
        method: "DELETE",
        path: PATH,
        name: "logs.delete",
        about: "Delete the log entries that filters find",
        needs: WRITE,
        query: DELETE,
        body: Body::None,
        answers: Answers::Raw(&[required("success", Kind::Boolean)]),
        run: delete,
    },
    Operation {
        method: "GET",
        path: ONE,
        name: "logs.get",
        about: "Read a log entry",
        needs: READ,
        query: &[],
        body: Body::None,
        answers: Answers::Result(ENTRY),
        run: get,
    },
    Operation {
        method: "PATCH",
        path: ONE,
        name: "logs.edit",
        about: "Change feedback, score or metadata of a log entry",
        needs: WRITE,
        query: &[],
        body: Body::Members(&[
            optional("feedback", Kind::Integer(-1, 1)),
            optional("score", Kind::Number(0.0, 100.0)),
            optional("metadata", Kind::Map(None, &Kind::Scalar)),
        ]),
        answers: Answers::Value(Kind::Any),
        run: edit,
    },
    Operation {
        method: "GET",
        path: "/accounts/{account_id}/ai-gateway/gateways/{gateway_id}/logs/{id}/request",
        name: "logs.request",
        about: "Read the body of a logged request",
        needs: READ_BODIES,
        query: &[],
        body: Body::None,
        answers: Answers::Stored,
        run: request,
    },
    Operation {
        method: "GET",
        path: "/accounts/{account_id}/ai-gateway/gateways/{gateway_id}/logs/{id}/response",
        name: "logs.response",
        about: "Read the body of a logged answer: one that came in events as the answer they make, or with form=raw as it came",
        needs: READ_BODIES,
        query: &[optional("form", Kind::Choice(&["final", "raw"]))],
        body: Body::None,
        answers: Answers::Stored,
        run: response,
    },
    Operation {
        method: "GET",
        path: "/accounts/{account_id}/ai-gateway/log-store",
        name: "log_store.get",
        about: "How many log entries were stored and lost, and the disk that they take",
        needs: READ,
        query: &[],
        body: Body::None,
        answers: Answers::Result(&[
            required("stored", Kind::Integer(0, i64::MAX)),
            required("dropped", Kind::Integer(0, i64::MAX)),
            required("waiting", Kind::Integer(0, i64::MAX)),
            required("bytes", Kind::Integer(0, i64::MAX)),
        ]),
        run: store,
    },
];

/// What a call leaves to the log store.
#[derive(Debug, Clone, PartialEq)]
pub struct Later {
    /// The question or the change.
    pub(super) ask: Ask,
    /// What the audit log says once a change is done.
    pub(super) line: Option<Line>,
}

/// What the log store is asked.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Ask {
    /// A page: its number and its size.
    Find(Query, i64, i64),
    /// Of an entry, and whether keys are taken out of what is put together of it.
    Get(String, Id, bool),
    Body(String, Id, Which, Form),
    Edit(String, Id, Edit),
    Delete(Query),
    /// All that a deleted gateway has; the answer is that of its deletion.
    Forget {
        gateway: String,
        answer: Value,
    },
    /// A run of what evaluations wait; the answer is that of one's making.
    Evaluate {
        answer: Value,
    },
    Store,
    Figures(super::analytics::Ask),
}

impl Ask {
    /// What can be answered where no server runs.
    pub(super) fn without_server(self) -> Result<Answer, Problem> {
        match self {
            // Its entries go with their age; evaluations are run by the next server.
            Self::Forget { answer, .. } | Self::Evaluate { answer } => Ok(Answer::Result(answer)),
            _ => Err(Problem::new(
                503,
                7011,
                "Log entries are read and changed, and figures read, through a running server",
            )),
        }
    }

    pub(super) fn later(self) -> Result<Answer, Problem> {
        Ok(Answer::Later(Box::new(Later {
            ask: self,
            line: None,
        })))
    }
}

/// Asks the log store or the figures, or, for evaluations, `evaluate`s.
pub(super) async fn answer(
    logs: &Logs,
    analytics: &Analytics,
    evaluate: impl FnOnce(),
    ask: Ask,
) -> Result<Answer, Problem> {
    match ask {
        Ask::Figures(ask) => super::analytics::answer(analytics, logs, ask).await,
        Ask::Find(query, page, per_page) => {
            let found = logs.find(query).await?;
            Ok(Answer::Raw(show_page(&found, page, per_page)))
        }
        Ask::Get(gateway, id, redacts) => {
            let found = logs
                .get(gateway, id, redacts)
                .await?
                .ok_or_else(not_found)?;
            Ok(Answer::Result(show_one(&found)))
        }
        Ask::Body(gateway, id, which, form) => {
            let body = logs.body(gateway, id, which, form).await?;
            let body = body.ok_or_else(|| Problem::not_found("body of the log entry"))?;
            let is_json = || serde_json::from_slice::<serde::de::IgnoredAny>(&body.bytes).is_ok();
            let content_type = match body.content_type {
                Some(content_type) => content_type,
                None if is_json() => "application/json".to_owned(),
                None => "application/octet-stream".to_owned(),
            };
            Ok(Answer::Stored {
                content_type,
                bytes: body.bytes,
            })
        }
        Ask::Edit(gateway, id, edit) => match logs.edit(gateway, id, edit).await? {
            true => Ok(Answer::Result(json!({}))),
            false => Err(not_found()),
        },
        Ask::Delete(query) => {
            logs.delete(query).await?;
            Ok(Answer::Raw(json!({"success": true})))
        }
        Ask::Forget { gateway, answer } => {
            logs.forget(&gateway);
            Ok(Answer::Result(answer))
        }
        Ask::Evaluate { answer } => {
            evaluate();
            Ok(Answer::Result(answer))
        }
        Ask::Store => Ok(Answer::Result(show_store(logs))),
    }
}

fn not_found() -> Problem {
    Problem::not_found("log entry")
}

fn list(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let gateway = gateways::existing(call)?.id;
    let mut conditions = filters::conditions(&call.pairs)?;
    conditions.extend(old_filters(call)?);
    let (page, per_page) = call.page();
    let direction = call.text("order_by_direction").or(call.text("direction"));
    let query = Query {
        gateway,
        conditions,
        order: order(call, direction),
        offset: (page - 1).saturating_mul(per_page) as u64,
        limit: per_page as u64,
        extremes: call.query.get("meta_info") == Some(&Value::Bool(true)),
    };
    Ask::Find(query, page, per_page).later()
}

/// The filters that have names of their own in a query; deprecated, and in use.
fn old_filters(call: &Call<'_>) -> Result<Vec<Condition>, Problem> {
    let mut conditions = Vec::new();
    let (from, to) = (call.text("start_date"), call.text("end_date"));
    let flaw = |name: &str, error: FilterError| {
        Problem::field(&["query", name], format!("query.{name}: {error}"))
    };
    if from.is_some() || to.is_some() {
        let between = between(from, to).map_err(|error| flaw("start_date", error))?;
        conditions.push(between);
    }
    for (name, key) in [
        ("cost", Key::Cost),
        ("tokens_in", Key::TokensIn),
        ("tokens_out", Key::TokensOut),
        ("total_tokens", Key::Tokens),
        ("duration", Key::Duration),
    ] {
        for (prefix, least) in [("min_", true), ("max_", false)] {
            let given = call.query.get(&format!("{prefix}{name}"));
            if let Some(value) = given.and_then(Value::as_f64) {
                conditions.push(bound(key, least, value));
            }
        }
    }
    for (name, key) in [
        ("feedback", Key::Feedback),
        ("success", Key::Success),
        ("cached", Key::Cached),
        ("model", Key::Model),
        ("model_type", Key::ModelType),
        ("provider", Key::Provider),
        ("request_content_type", Key::RequestContentType),
        ("response_content_type", Key::ResponseContentType),
    ] {
        let text = match call.query.get(name) {
            None | Some(Value::Null) => continue,
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
        };
        let equal = condition(key, Operator::Eq, &[FilterValue::Text(text)]);
        conditions.push(equal.map_err(|error| flaw(name, error))?);
    }
    if let Some(text) = call.text("search").filter(|text| !text.is_empty()) {
        conditions.push(Condition::Search(text.to_owned()));
    }
    Ok(conditions)
}

fn order(call: &Call<'_>, direction: Option<&str>) -> Order {
    let by = call.text("order_by").and_then(OrderBy::parse);
    Order {
        by: by.unwrap_or(OrderBy::CreatedAt),
        descending: direction != Some("asc"),
    }
}

fn delete(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let gateway = gateways::existing(call)?.id;
    let conditions = filters::conditions(&call.pairs)?;
    let limit = call.query.get("limit").and_then(Value::as_i64);
    let query = Query {
        gateway: gateway.clone(),
        conditions,
        order: order(call, call.text("order_by_direction")),
        offset: 0,
        limit: limit.unwrap_or(DELETED_MAX) as u64,
        extremes: false,
    };
    let said: Map<String, Value> = call
        .pairs
        .iter()
        .map(|(name, value)| (name.clone(), Value::from(value.as_str())))
        .collect();
    let line = call.audit_line(
        "delete",
        (RESOURCE, &gateway),
        None,
        Some(&Value::Object(said)),
    );
    Ok(Answer::Later(Box::new(Later {
        ask: Ask::Delete(query),
        line: Some(line),
    })))
}

/// The gateway and the id of the path. What is no id of ours is no entry of ours.
fn one(call: &Call<'_>) -> Result<(String, Id), Problem> {
    let gateway = gateways::existing(call)?.id;
    let id = Id::parse(call.parameter("id")).ok_or_else(not_found)?;
    Ok((gateway, id))
}

fn get(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let redacts = gateways::existing(call)?.is_on("log_redaction");
    let (gateway, id) = one(call)?;
    Ask::Get(gateway, id, redacts).later()
}

fn request(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let (gateway, id) = one(call)?;
    Ask::Body(gateway, id, Which::Request, Form::Raw).later()
}

fn response(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let redacts = gateways::existing(call)?.is_on("log_redaction");
    let (gateway, id) = one(call)?;
    let form = match call.text("form") {
        Some("raw") => Form::Raw,
        _ => Form::Final { redacts },
    };
    Ask::Body(gateway, id, Which::Response, form).later()
}

fn store(_: &mut Call<'_>) -> Result<Answer, Problem> {
    Ask::Store.later()
}

fn edit(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let (gateway, id) = one(call)?;
    let given = |name: &str| call.body.get(name);
    let edit = Edit {
        feedback: given("feedback").map(Value::as_i64),
        score: given("score").map(Value::as_f64),
        metadata: given("metadata").map(|metadata| match metadata {
            Value::Object(entries) if !entries.is_empty() => Some(metadata.to_string()),
            _ => None,
        }),
    };
    let line = call.audit_line(
        "update",
        (RESOURCE, &id.to_string()),
        None,
        Some(&call.body),
    );
    Ok(Answer::Later(Box::new(Later {
        ask: Ask::Edit(gateway, id, edit),
        line: Some(line),
    })))
}

fn show_page(found: &Found, page: i64, per_page: i64) -> Value {
    let items: Vec<Value> = found.logs.iter().map(show).collect();
    let total = found.total as i64;
    let mut info = json!({
        "page": page,
        "per_page": per_page,
        "count": items.len(),
        "total_count": total,
        "total_pages": (total + per_page - 1) / per_page.max(1),
    });
    if let Some(extremes) = &found.extremes {
        show_extremes(&mut info, extremes);
    }
    json!({"success": true, "errors": [], "messages": [], "result": items, "result_info": info})
}

fn show_extremes(info: &mut Value, extremes: &Extremes) {
    let names = [
        "cost",
        "duration",
        "tokens_in",
        "tokens_out",
        "total_tokens",
    ];
    for (name, (least, most)) in names.into_iter().zip(extremes) {
        let shown = |figure: &Option<i64>| match name {
            "cost" => json!(figure.map(dollars)),
            _ => json!(figure),
        };
        info[format!("min_{name}")] = shown(least);
        info[format!("max_{name}")] = shown(most);
    }
}

/// Pico-dollars as the number of dollars nearest to them.
fn dollars(pico: i64) -> f64 {
    pico as f64 / 1e12
}

/// Every try of the step, the last one too.
fn attempts(log: &Log) -> Vec<Value> {
    let details = &log.details;
    let failed = details.tries.iter().enumerate().map(|(index, tried)| {
        json!({
            "number": index + 1,
            "status": tried.status,
            "reason": tried.reason,
            "upstream": tried.upstream,
            "duration_us": tried.took,
            "delay_us": tried.pause,
        })
    });
    let last = json!({
        "number": details.tries.len() + 1,
        "status": details.code.is_none().then_some(log.status),
        "reason": details.detail,
        "upstream": details.upstream,
    });
    failed.chain([last]).collect()
}

/// As lists show an entry: without its bodies (control plane 3.4).
fn show(log: &Log) -> Value {
    let details = &log.details;
    let id = log.id.to_string();
    let [
        total,
        own_request,
        parse,
        wait,
        connect,
        queue,
        dns,
        tcp,
        tls,
        upstream,
        upload,
        own_response,
        stream,
    ] = details.timings;
    let usage = details.tokens.map(|[cached, written, reasoning, total]| {
        json!({
            "input_tokens": log.tokens_in,
            "output_tokens": log.tokens_out,
            "total_tokens": total,
            "input_cached_tokens": cached,
            "input_cache_creation_tokens": written,
            "output_reasoning_tokens": reasoning,
        })
    });
    let has = |bit| log.flags & bit != 0;
    let mut shown = json!({
        "id": id,
        "event_id": log.event_id.as_deref().unwrap_or(&id),
        "created_at": time(log.id.milliseconds() as i64),
        "provider": log.provider,
        "model": log.model,
        "model_type": log.model_type,
        "path": log.path,
        "request_type": log.request_type,
        "request_content_type": log.request_content_type,
        "response_content_type": log.response_content_type,
        "success": log.success,
        "status_code": log.status,
        "cached": log.cached,
        "cache_status": if log.cached { "HIT" } else { "MISS" },
        "step": log.step,
        "duration": log.duration,
        "tokens_in": log.tokens_in,
        "tokens_out": log.tokens_out,
        "usage_metadata": usage,
        "cost": log.cost.map(dollars),
        "custom_cost": has(flag::CUSTOM_COST),
        "metadata": log.metadata,
        "feedback": log.feedback,
        "score": log.score,
        "authentication": has(flag::AUTHENTICATED),
        "wholesale": has(flag::WHOLESALE),
        "byok": has(flag::STORED_KEY),
        "key_alias": details.key_alias,
        "user_agent": log.user_agent,
        "dlp_action": null,
        "dlp_profiles": null,
        "guardrails": null,
        "prompts": null,
        "location": null,
        "route": details.route.as_ref().map(|[name, version, element]| {
            json!({"name": name, "version_id": version, "element_id": element})
        }),
    });
    let more = json!({
        "retries": details.tries.len(),
        "attempts": attempts(log),
        "timings": {"total": log.duration, "latency": total.saturating_sub(stream) / 1000},
        "timings_us": {
            "total": total, "own": own_request + own_response, "own_request": own_request, "parse": parse, "wait": wait,
            "connect": connect, "queue": queue, "dns": dns, "tcp": tcp, "tls": tls, "upload": upload, "upstream": upstream,
            "own_response": own_response, "stream": stream,
        },
        "method": details.method,
        "client": details.client,
        "token": details.token.as_ref().map(|(id, name)| json!({"id": id, "name": name})),
        "upstream": details.upstream,
        "connection_reused": details.reused,
        "answered_model": details.answered_model,
        "changes": details.changes,
        "trail": details.trail,
        "end": details.end,
        "error_code": details.code,
        "error": details.detail,
        "request_size": details.request_bytes,
        "response_size": details.response_bytes,
        "request": "",
        "response": "",
    });
    // In two parts: the macro takes so many members only.
    if let (Value::Object(shown), Value::Object(more)) = (&mut shown, more) {
        shown.extend(more);
    }
    shown
}

/// As a single entry is shown: with the beginnings of its bodies. Without a stored body they are empty (resolutions 28).
fn show_one(log: &Log) -> Value {
    let mut shown = show(log);
    for (name, head) in ["request", "response"].into_iter().zip(&log.heads) {
        let (text, whole) = match head {
            Some((text, whole)) => (text.as_str(), *whole),
            None => ("", false),
        };
        shown[format!("{name}_head")] = Value::from(text);
        shown[format!("{name}_head_complete")] = Value::from(whole);
    }
    shown
}

fn show_store(logs: &Logs) -> Value {
    use std::sync::atomic::{AtomicU64, Ordering};
    let stats = logs.stats();
    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let failure = stats.last_failure();
    json!({
        "stored": of(&stats.stored),
        "dropped": of(&stats.dropped),
        "over_quota": of(&stats.over_quota),
        "ownerless": of(&stats.ownerless),
        "bodies_dropped": of(&stats.bodies_dropped),
        "bodies_too_large": of(&stats.bodies_too_large),
        "expired": of(&stats.expired),
        "failures": of(&stats.failures),
        "last_failure": if failure.is_empty() { Value::Null } else { Value::from(failure) },
        "waiting": logs.waiting(),
        "segments": of(&stats.segments),
        "bytes": of(&stats.bytes),
    })
}
