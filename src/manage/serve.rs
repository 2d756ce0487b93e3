//! The management listener: pages for operators, and the API's way from HTTP to an operation.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;

use axum::Router;
use axum::body::{Body as HttpBody, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, ORIGIN};
use axum::http::{HeaderMap, Response, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{any, get};
use serde_json::Value;

use super::answer::{Answer, Problem, respond};
use super::evaluate::Evaluator;
use super::logs::{self, Later};
use super::operation::{Body, Caller, Needs, Office, Operation, Parts, unix_seconds};
use super::publish::{self, Declared, PublishError};
use super::{Found, Outcome, find, inference, openapi, run};
use crate::limits::MANAGE_BODY_MAX;
use crate::providers::bearer;
use crate::snapshot::{Published, Token};
use crate::store::{Database, Store, uuid};
use crate::telemetry::analytics::Analytics;
use crate::telemetry::logs::Logs;

/// What the pages ask of the running server.
pub trait Status: Send + Sync + 'static {
    /// Whether requests are served: false before the start is done and from a drain on; then with the reason.
    fn ready(&self) -> Result<(), String>;
    /// The metrics page.
    fn metrics(&self) -> String;
    /// Gives a connection that begins with a PROXY header to a data thread; false where none takes it.
    fn adopt(&self, connection: TcpStream) -> bool;
}

/// What the API works with.
pub struct Api {
    /// What is the same for every call.
    pub office: Office,
    /// Where changes appear.
    pub published: Arc<Published>,
    /// Where they are kept.
    pub store: Store,
    /// The log store.
    pub logs: Arc<Logs>,
    /// Runs evaluations.
    pub evaluator: Evaluator,
    /// Figures of traffic.
    pub analytics: Arc<Analytics>,
    /// Whether calls from this machine that show no token are the operator's (`serve --dev`, control plane 7.3).
    pub dev: bool,
}

/// `/health`, `/ready`, `/metrics` and their aliases (resolutions 25), `/openapi.json`, the API below `/client/v4`, and of the
/// data plane the endpoints below `/client/v4/accounts/{account}/ai/`.
pub fn router(status: Arc<dyn Status>, api: Arc<Api>) -> Router {
    let description = openapi().to_string();
    Router::new()
        .route("/health", get(health))
        .route("/healthz", get(health))
        .route("/ready", get(ready))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route(
            "/client/v4/accounts/{account}/ai/{*rest}",
            any(inference::infer),
        )
        .with_state(status)
        .route(
            "/openapi.json",
            get(move || async move { ([(CONTENT_TYPE, "application/json")], description) }),
        )
        .fallback(serve)
        .with_state(api)
}

async fn health() -> &'static str {
    "ok\n"
}

async fn ready(State(status): State<Arc<dyn Status>>) -> impl IntoResponse {
    match status.ready() {
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

async fn metrics(State(status): State<Arc<dyn Status>>) -> impl IntoResponse {
    (
        [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        status.metrics(),
    )
}

const ELSEWHERE: &str = "No such page. The management listener serves /client/v4, /openapi.json, /health, /ready and /metrics; requests to providers go to the data listener.\n";

async fn serve(
    State(api): State<Arc<Api>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response<HttpBody> {
    let path = request.uri().path().trim_start_matches('/').to_owned();
    let Some(rest) = path
        .strip_prefix("client/v4")
        .filter(|rest| rest.is_empty() || rest.starts_with('/'))
    else {
        take_in(request.into_body()).await;
        return (StatusCode::NOT_FOUND, ELSEWHERE).into_response();
    };
    let request_id = uuid();
    let (outcome, messages) = match api.call(rest, peer, request).await {
        Ok(outcome) => outcome,
        Err(problem) => (Err(problem), Vec::new()),
    };
    respond(outcome, &messages, &request_id)
}

impl Api {
    /// Takes in what a changed configuration file declares and publishes it with what is stored.
    pub fn redeclare(
        &self,
        declared: Arc<Declared>,
        database: &mut Database,
    ) -> Result<(), PublishError> {
        let (account, sealer) = (&self.office.account, self.office.sealer.clone());
        let mut snapshot = publish::build(account, &declared, sealer, database.connection())?;
        self.office.declared.store(declared);
        self.published.replace(|current| {
            // Their times of last use go on.
            snapshot.tokens = current.tokens.clone();
            snapshot
        });
        Ok(())
    }

    async fn call(
        self: &Arc<Self>,
        path: &str,
        peer: SocketAddr,
        request: Request,
    ) -> Result<Outcome, Problem> {
        let (head, body) = request.into_parts();
        let found = find(head.method.as_str(), path).and_then(|found| {
            let caller = self.authenticate(&head.headers, peer, &found)?;
            Ok((found, caller))
        });
        let (found, caller) = match found {
            Ok(found) => found,
            Err(problem) => {
                take_in(body).await;
                return Err(problem);
            }
        };
        let body = read_body(found.operation, body).await?;
        let host = head.headers.get(HOST).and_then(|host| host.to_str().ok());
        let parts = Parts {
            caller,
            address: Some(peer.ip().to_canonical()),
            host: host.map(str::to_owned),
            parameters: found.parameters,
            pairs: pairs(head.uri.query().unwrap_or_default()),
            body,
        };
        let (api, operation) = (self.clone(), found.operation);
        let work = move |database: &mut Database| {
            run(
                operation,
                parts,
                &api.office,
                Some(&api.published),
                database,
            )
        };
        match self.store.call(work).await? {
            (Ok(Answer::Later(later)), messages) => Ok((Ok(self.finish(*later).await?), messages)),
            outcome => Ok(outcome),
        }
    }

    /// Asks the log store. A change there is written down once it is done.
    async fn finish(self: &Arc<Self>, later: Later) -> Result<Answer, Problem> {
        let evaluate = || self.evaluate();
        let answer = logs::answer(&self.logs, &self.analytics, evaluate, later.ask).await?;
        if let Some(line) = later.line {
            let write = move |database: &mut Database| line.write(database.connection());
            self.store.call(write).await??;
        }
        Ok(answer)
    }

    /// Who calls, and whether they may (control plane 1.5 and 1.6). Account ids are compared once the caller is known.
    fn authenticate(
        &self,
        headers: &HeaderMap,
        peer: SocketAddr,
        found: &Found,
    ) -> Result<Caller, Problem> {
        let operation = found.operation;
        let verifying = matches!(operation.needs, Needs::Shown);
        let snapshot = self.published.load();
        if self.dev && !verifying && is_anonymous_and_local(headers, peer) {
            self.compare_account(found)?;
            return Ok(Caller::Operator);
        }
        let token = self.token(headers, verifying)?;
        let invalid = match verifying {
            true => Problem::new(401, 1000, "Invalid API Token"),
            false => Problem::new(401, 10000, "Authentication error"),
        };
        let token = snapshot.tokens.find(token).cloned().ok_or(invalid)?;
        self.compare_account(found)?;
        if !verifying && token.admit(unix_seconds(), peer.ip()).is_err() {
            return Err(Problem::new(401, 10000, "Authentication error"));
        }
        self.permit(&token, found)?;
        Ok(Caller::Token(token))
    }

    fn compare_account(&self, found: &Found) -> Result<(), Problem> {
        match found.parameters.get("account_id") {
            Some(account) if **account != *self.office.account => {
                Err(Problem::no_route(format_args!("account {account:?}")))
            }
            _ => Ok(()),
        }
    }

    fn token<'a>(&self, headers: &'a HeaderMap, verifying: bool) -> Result<&'a [u8], Problem> {
        let Some(value) = headers.get(AUTHORIZATION) else {
            if headers.contains_key("x-auth-key") || headers.contains_key("x-auth-user-service-key")
            {
                let problem = Problem::new(
                    400,
                    6003,
                    "There is no global key here; send an API token as Authorization: Bearer",
                );
                return Err(problem.behind(6103, "Invalid format for X-Auth-Key header"));
            }
            let code = if verifying { 1001 } else { 9106 };
            let message =
                "Missing Authorization header; send an API token as Authorization: Bearer";
            return Err(Problem::new(400, code, message));
        };
        bearer(value.as_bytes())
            .filter(|token| !token.is_empty())
            .ok_or_else(|| {
                Problem::new(400, 6003, "Invalid request headers")
                    .behind(6111, "Invalid format for Authorization header")
            })
    }

    fn permit(&self, token: &Token, found: &Found) -> Result<(), Problem> {
        let Needs::Any(permissions) = found.operation.needs else {
            return Ok(());
        };
        let gateway = found.parameters.get("gateway_id").map(String::as_str);
        let held = |permission| token.may(permission, gateway);
        if permissions.iter().any(|permission| held(*permission)) {
            return Ok(());
        }
        let names: Vec<&str> = permissions
            .iter()
            .map(|permission| permission.name())
            .collect();
        let names = names.join(" or ");
        Err(Problem::forbidden(format!(
            "The token lacks the permission {names}"
        )))
    }
}

/// Whether a call shows no credential and comes from a program on this machine. A page of another site that a browser here has
/// open is none, even where its name was made to lead here, and neither is a proxy that speaks for others.
fn is_anonymous_and_local(headers: &HeaderMap, peer: SocketAddr) -> bool {
    const NEITHER: [&str; 5] = [
        "authorization",
        "x-auth-key",
        "x-auth-user-service-key",
        "x-forwarded-for",
        "forwarded",
    ];
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text(HOST).unwrap_or_default();
    let is_own = |origin: &str| {
        origin
            .split_once("://")
            .is_some_and(|(_, from)| from == host)
    };
    peer.ip().to_canonical().is_loopback()
        && !NEITHER.iter().any(|name| headers.contains_key(*name))
        && is_loopback_name(host)
        && (!headers.contains_key(ORIGIN) || text(ORIGIN).is_some_and(is_own))
}

/// Of `Host`, with or without a port.
fn is_loopback_name(host: &str) -> bool {
    if let Ok(address) = host.parse::<SocketAddr>() {
        return address.ip().to_canonical().is_loopback();
    }
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost")
        || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

/// Reads a body that nobody looks at: an answer before its end would close the connection, and a client that has sent its next
/// call by then would get no answer to it.
async fn take_in(body: HttpBody) {
    let _ = to_bytes(body, MANAGE_BODY_MAX).await;
}

async fn read_body(operation: &Operation, body: HttpBody) -> Result<Option<Value>, Problem> {
    let bytes = to_bytes(body, MANAGE_BODY_MAX).await.map_err(|_| {
        Problem::new(
            413,
            7001,
            format!("The body is larger than {MANAGE_BODY_MAX} bytes, or broke off"),
        )
    })?;
    if matches!(operation.body, Body::None) || bytes.is_empty() {
        return Ok(None);
    }
    let read = serde_json::from_slice(&bytes).map(Some);
    if matches!(operation.body, Body::Own(_)) {
        return Ok(read.unwrap_or_default());
    }
    read.map_err(|error| Problem::field(&["body"], format!("is not JSON: {error}")))
}

/// The pairs of a query, decoded; `+` is a space, as forms send it.
pub(super) fn pairs(query: &str) -> Vec<(String, String)> {
    let decode = |text: &str| {
        let text = text.replace('+', " ");
        percent_encoding::percent_decode_str(&text)
            .decode_utf8_lossy()
            .into_owned()
    };
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_programs_on_this_machine_are_anonymous_and_local() {
        let local = |peer: &str, headers: &[(&'static str, &'static str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.insert(*name, value.parse().expect("a value"));
            }
            is_anonymous_and_local(&map, peer.parse().expect("a peer"))
        };
        let here = "127.0.0.1:5000";
        for host in [
            "127.0.0.1:8788",
            "localhost:8788",
            "LOCALHOST",
            "[::1]:8788",
            "::1",
            "[::1]",
        ] {
            assert!(local(here, &[("host", host)]), "{host}");
        }
        assert!(local("[::ffff:127.0.0.1]:5000", &[("host", "localhost")]));
        let own = [
            ("host", "localhost:8788"),
            ("origin", "http://localhost:8788"),
        ];
        assert!(local(here, &own));
        assert!(!local("192.0.2.1:5000", &[("host", "localhost")]));
        for headers in [
            &[][..],
            &[("host", "rebound.example:8788")],
            &[("host", "localhost.example")],
            &[("host", "192.0.2.1:8788")],
            &[
                ("host", "localhost"),
                ("origin", "https://elsewhere.example"),
            ],
            &[("host", "localhost"), ("origin", "null")],
            &[("host", "localhost"), ("authorization", "")],
            &[("host", "localhost"), ("x-auth-key", "k")],
            &[("host", "localhost"), ("x-forwarded-for", "192.0.2.1")],
            &[("host", "localhost"), ("forwarded", "for=192.0.2.1")],
        ] {
            assert!(!local(here, headers), "{headers:?}");
        }
    }
}
