//! The console of a station whose configuration has faults: it says which, and takes no orders.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::answer::{No, not_so, nothing_here};
use super::events::Hub;
use super::guard::{Guard, guard};
use super::{page, view};
use crate::config::Faults;

struct Faulty {
    faults: Faults,
    hub: Arc<Hub>,
    /// Ends the task that tells the status when the router is gone.
    _ended: tokio_util::sync::DropGuard,
}

impl Faulty {
    fn status(&self) -> Value {
        view::faulty_status(Timestamp::now(), &self.faults.faults, &self.faults.path.display().to_string())
    }
}

pub fn router(listen: &str, faults: Faults, cancel: CancellationToken) -> Router {
    let cancel = cancel.child_token();
    let hub = Hub::new(&Value::Null, cancel.clone());
    let faulty = Arc::new(Faulty { faults, hub, _ended: cancel.clone().drop_guard() });
    faulty.hub.tell_status(&faulty.status());
    let teller = Arc::downgrade(&faulty);
    tokio::spawn(async move {
        let mut tick = tokio::time::interval(Duration::from_secs(2));
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                _ = tick.tick() => {}
            }
            let Some(faulty) = teller.upgrade() else {
                return;
            };
            faulty.hub.tell_status(&faulty.status());
        }
    });
    let api = Router::new()
        .route("/status", get(|State(f): State<Arc<Faulty>>| async move { Json(f.status()) }))
        .route("/events", get(stream))
        .route("/sorties", get(|| async { Json(json!([])) }))
        .route("/patrols", get(|| async { Json(json!([])) }))
        .route("/cases", get(|| async { Json(view::collection(Vec::new())) }))
        .route("/map", get(|| async { Json(view::collection(Vec::new())) }))
        .route("/track", get(|| async { Json(json!({"type": "LineString", "coordinates": []})) }))
        .route("/frame/latest", get(|| async { StatusCode::NO_CONTENT }))
        .route("/delivery", get(|| async { Json(view::delivery(0, 0, &[])) }))
        .route("/patrols/{id}/start", post(refuse))
        .route("/sortie/cancel", post(refuse));
    Router::new()
        .nest("/api/v1", api)
        .route("/healthz", get(health))
        .route("/", get(page::index))
        .route("/{*path}", get(page::asset))
        .fallback(nothing_here)
        .method_not_allowed_fallback(not_so)
        // The token's file stands in a configuration that cannot be trusted; nothing here needs one.
        .layer(middleware::from_fn_with_state(Arc::new(Guard::new(listen, None)), guard))
        .with_state(faulty)
}

async fn stream(State(faulty): State<Arc<Faulty>>) -> Result<Response, No> {
    Ok(faulty.hub.stream()?.into_response())
}

async fn health(State(faulty): State<Arc<Faulty>>) -> Response {
    let body = json!({"state": "degraded", "problems": faulty.status()["problems"]});
    (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
}

async fn refuse(State(faulty): State<Arc<Faulty>>) -> No {
    let count = faulty.faults.faults.len();
    let reason = format!("the configuration {} has {count} fault(s): nothing flies", faulty.faults.path.display());
    No::new(StatusCode::CONFLICT, "configuration", reason).remedy("correct the file, then start the station again")
}
