//! The management listener's pages, and what publishes a snapshot.

pub mod publish;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;

/// What the pages ask of the running server.
pub trait Status: Send + Sync + 'static {
    /// Whether requests are served: false before the start is done and from a drain on; then with the reason.
    fn ready(&self) -> Result<(), String>;
    /// The metrics page.
    fn metrics(&self) -> String;
}

/// `/health`, `/ready`, `/metrics` and their aliases (resolutions 25).
pub fn router(status: Arc<dyn Status>) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/healthz", get(health))
        .route("/ready", get(ready))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .fallback(nothing)
        .with_state(status)
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

async fn nothing() -> impl IntoResponse {
    let pages = "No such page. The management listener serves /health, /ready and /metrics; requests to providers go to the data listener.\n";
    (StatusCode::NOT_FOUND, pages)
}
