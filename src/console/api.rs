//! What a running station answers.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::answer::{No, not_so, nothing_here};
use super::events::{self, Hub, ROWS};
use super::guard::{Guard, guard};
use super::snapshot::Snapshot;
use super::view::{self, Deliveries};
use super::{page, problems};
use crate::patrol::Sortie;
use crate::runtime::latest;
use crate::runtime::store::Table;
use crate::station::Station;
use crate::uplink::commands::{Reply, Status, Submission};

/// Sorties that are listed.
const SORTIES: usize = 100;

#[derive(Clone)]
struct Api {
    station: Station,
    hub: Arc<Hub>,
}

/// Also starts the task that watches the station for news; it ends with `cancel`.
pub fn router(station: Station, cancel: CancellationToken) -> Router {
    let console = &station.checked.config.console;
    let own = &station.checked.config.station;
    let guarded = Guard::new(&console.listen, console.token_file.clone()).of_station(&own.id, &own.state_dir);
    let guarded = Arc::new(guarded);
    let now = Snapshot::take(&station);
    let hub = Hub::new(&view::status(&now, &problems::of(&now)), cancel);
    tokio::spawn(events::watch(station.clone(), Arc::clone(&hub)));
    let api = Router::new()
        .route("/status", get(status))
        .route("/sorties", get(sorties))
        .route("/patrols", get(patrols))
        .route("/patrols/{id}/start", post(start))
        .route("/sortie/cancel", post(cancel_sortie))
        .route("/sortie/{order}", post(order_sortie))
        .route("/station/{order}", post(order_station))
        .route("/models", get(models))
        .route("/model/{order}", post(order_model))
        .route("/cases", get(cases))
        .route("/cases/{id}/verdict", post(judge_case))
        .route("/evidence/{sha256}", get(evidence))
        .route("/frame/latest", get(frame))
        .route("/map", get(map))
        .route("/track", get(track))
        .route("/events", get(stream))
        .route("/delivery", get(delivery));
    Router::new()
        .nest("/api/v1", api)
        .route("/healthz", get(health))
        .route("/", get(page::index))
        .route("/{*path}", get(page::asset))
        .fallback(nothing_here)
        .method_not_allowed_fallback(not_so)
        .layer(middleware::from_fn_with_state(guarded, guard))
        .with_state(Api { station, hub })
}

fn status_now(station: &Station) -> Value {
    let now = Snapshot::take(station);
    view::status(&now, &problems::of(&now))
}

async fn status(State(api): State<Api>) -> Json<Value> {
    Json(status_now(&api.station))
}

/// 200 while the station can do all of its work, 503 while something keeps it from it.
async fn health(State(api): State<Api>) -> Response {
    let problems = super::problems(&api.station);
    let (code, state) =
        if problems.is_empty() { (StatusCode::OK, "ok") } else { (StatusCode::SERVICE_UNAVAILABLE, "degraded") };
    (code, Json(json!({"state": state, "problems": problems}))).into_response()
}

async fn stored(station: &Station) -> Result<Vec<Sortie>, No> {
    station.store.newest(Table::Sorties, SORTIES).await.map_err(No::broken)
}

async fn sorties(State(api): State<Api>) -> Result<Json<Value>, No> {
    let stored = stored(&api.station).await?;
    let current = latest(&api.station.dispatcher.current());
    Ok(Json(view::sorties(&stored, current.as_ref())))
}

async fn patrols(State(api): State<Api>) -> Result<Json<Value>, No> {
    let stored = stored(&api.station).await?;
    let dispatcher = &api.station.dispatcher;
    let zone = &api.station.checked.config.station.timezone;
    let shown = dispatcher.patrols().iter().map(|patrol| {
        let id = &patrol.config.id;
        let last = stored.iter().find(|s| s.patrol == *id && s.state.is_terminal());
        view::patrol(patrol, zone, dispatcher.turn(id), last)
    });
    Ok(Json(shown.collect()))
}

async fn cases(State(api): State<Api>) -> Result<Json<Value>, No> {
    let station = &api.station;
    let cases = latest(&station.keeper.cases());
    let stats = latest(&station.outbox.stats());
    let rows = station.outbox.list(ROWS).await.map_err(No::broken)?;
    let deliveries = Deliveries::new(rows, &stats);
    let config = &station.checked.config;
    let (kinds, division) = (config.cases.kinds(), &config.station.division);
    let features = cases.iter().rev().map(|case| view::case(case, &kinds, division, deliveries.has(case)));
    Ok(Json(view::collection(features.collect())))
}

async fn evidence(State(api): State<Api>, Path(digest): Path<String>) -> Result<Response, No> {
    let none = || No::new(StatusCode::NOT_FOUND, "not_found", "there is no such picture");
    let plain = digest.len() == 64 && digest.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if !plain {
        return Err(none());
    }
    let jpeg = match tokio::fs::read(api.station.outbox.picture_path(&digest)).await {
        Ok(jpeg) => jpeg,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(none()),
        Err(error) => return Err(No::broken(error)),
    };
    // Its name is its content's digest: it never changes.
    let headers =
        [(header::CONTENT_TYPE, "image/jpeg"), (header::CACHE_CONTROL, "private, max-age=31536000, immutable")];
    Ok((headers, jpeg).into_response())
}

async fn frame(State(api): State<Api>) -> Response {
    let preview = latest(&api.station.perception.preview());
    match preview {
        None => StatusCode::NO_CONTENT.into_response(),
        Some(preview) => {
            let headers =
                [("content-type", "image/jpeg".to_owned()), ("x-aerie-taken-at", preview.taken_at.to_string())];
            (headers, preview.jpeg.to_vec()).into_response()
        }
    }
}

async fn map(State(api): State<Api>) -> Result<Response, No> {
    let Some(file) = &api.station.checked.config.console.map else {
        return Ok(Json(view::collection(Vec::new())).into_response());
    };
    let text = tokio::fs::read_to_string(file).await.map_err(|error| {
        let reason = format!("console.map: {} cannot be read: {error}", file.display());
        No::new(StatusCode::INTERNAL_SERVER_ERROR, "map", reason)
    })?;
    Ok(([(header::CONTENT_TYPE, "application/geo+json")], text).into_response())
}

async fn track(State(api): State<Api>) -> Json<Value> {
    Json(api.hub.track())
}

async fn stream(State(api): State<Api>) -> Result<Response, No> {
    Ok(api.hub.stream()?.into_response())
}

async fn delivery(State(api): State<Api>) -> Result<Json<Value>, No> {
    let station = &api.station;
    let latencies = station.outbox.latencies(station.started).await.map_err(No::broken)?;
    let queued = latest(&station.outbox.stats()).queued;
    let delivered = latest(&station.uplink).delivered;
    Ok(Json(view::delivery(queued, delivered, &latencies)))
}

/// What may be asked of a patrol's start.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct StartQuery {
    /// Fly only the rest of this interrupted sortie, or of the patrol's "last".
    continues: Option<String>,
}

async fn start(
    State(api): State<Api>,
    Path(id): Path<String>,
    Query(query): Query<StartQuery>,
    headers: HeaderMap,
) -> Result<Response, No> {
    if api.station.dispatcher.patrols().iter().all(|patrol| patrol.config.id != id) {
        let no = No::new(StatusCode::NOT_FOUND, "unknown_patrol", format!("there is no patrol {id:?}"));
        return Err(no.remedy("`aerie patrol list` names those in the configuration"));
    }
    let (origin, operator) = caller(&headers);
    let args = json!({"patrol": id, "via": origin, "continues": query.continues});
    command(&api, "patrol.start", args, origin, operator).await
}

/// pause, resume, return: what can be said to a flight.
async fn order_sortie(State(api): State<Api>, Path(order): Path<String>, headers: HeaderMap) -> Result<Response, No> {
    if !matches!(order.as_str(), "pause" | "resume" | "return") {
        let no = No::new(StatusCode::NOT_FOUND, "unknown_order", format!("a sortie knows no order {order:?}"));
        return Err(no.remedy("pause, resume, return or cancel"));
    }
    let (origin, operator) = caller(&headers);
    command(&api, &format!("patrol.{order}"), json!({}), origin, operator).await
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Why {
    reason: Option<String>,
}

/// hold and release, maintenance and maintained: what keeps the station on the ground.
async fn order_station(
    State(api): State<Api>,
    Path(order): Path<String>,
    Query(why): Query<Why>,
    headers: HeaderMap,
) -> Result<Response, No> {
    if !matches!(order.as_str(), "hold" | "release" | "maintenance" | "maintained") {
        let no = No::new(StatusCode::NOT_FOUND, "unknown_order", format!("a station knows no order {order:?}"));
        return Err(no.remedy("hold, release, maintenance or maintained"));
    }
    let (origin, operator) = caller(&headers);
    command(&api, &format!("station.{order}"), json!({"reason": why.reason}), origin, operator).await
}

/// What may be said of a case.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Word {
    verdict: String,
    reason: String,
}

async fn judge_case(
    State(api): State<Api>,
    Path(case): Path<String>,
    Query(word): Query<Word>,
    headers: HeaderMap,
) -> Result<Response, No> {
    let (origin, operator) = caller(&headers);
    let args = json!({"case": case, "verdict": word.verdict, "reason": word.reason});
    command(&api, "verdict", args, origin, operator).await
}

async fn cancel_sortie(State(api): State<Api>, headers: HeaderMap) -> Result<Response, No> {
    let (origin, operator) = caller(&headers);
    command(&api, "patrol.cancel", json!({}), origin, operator).await
}

/// What the station knows of its signed releases.
async fn models(State(api): State<Api>) -> Json<Value> {
    let view = latest(&api.station.updates.view());
    let running = latest(&api.station.perception.state()).model;
    Json(json!({"running": running, "update": view}))
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelQuery {
    folder: Option<String>,
    reason: Option<String>,
    /// The release that is meant; needed to promote, and to give up where none is under way.
    release: Option<String>,
    /// How far to promote: `trial` or `committed`.
    to: Option<String>,
}

async fn order_model(
    State(api): State<Api>,
    Path(order): Path<String>,
    Query(query): Query<ModelQuery>,
    headers: HeaderMap,
) -> Result<Response, No> {
    if !matches!(order.as_str(), "check" | "add" | "promote" | "rollback") {
        let no = No::new(StatusCode::NOT_FOUND, "unknown_order", format!("a model knows no order {order:?}"));
        return Err(no.remedy("check, add, promote or rollback"));
    }
    let (origin, operator) = caller(&headers);
    let ModelQuery { folder, reason, release, to } = query;
    let said = [("folder", folder), ("reason", reason), ("release", release), ("to", to)];
    let args: Value = said.into_iter().filter_map(|(key, value)| Some((key.to_owned(), Value::from(value?)))).collect();
    let done = command(&api, &format!("model.{order}"), args, origin, operator).await;
    done.map_err(|no| no.remedy("`aerie model list` says where its updates stand"))
}

/// Through the one door, as a caller that was authorised on the way in.
async fn command(api: &Api, name: &str, args: Value, origin: &str, operator: String) -> Result<Response, No> {
    let submission = Submission::Local {
        operator,
        origin: origin.to_owned(),
        name: name.to_owned(),
        args,
        id: None,
        deadline: None,
    };
    // Before the command makes a sortie of its own, which may be refused and not yet be over.
    let busy = latest(&api.station.dispatcher.current()).is_some_and(|s| !s.state.is_terminal());
    let reply = api.station.door.submit(submission).await;
    answer(reply, name == "patrol.start" && busy)
}

fn answer(reply: Reply, busy: bool) -> Result<Response, No> {
    let reason = reply.reason.unwrap_or_default();
    match reply.status {
        Status::Done => {
            let d = &reply.data;
            let body = json!({
                "command": reply.id, "sortie": d["sortie"], "holds": d["holds"], "event": d["event"], "said": d["said"],
            });
            Ok((StatusCode::ACCEPTED, Json(body)).into_response())
        }
        Status::Refused => {
            let no = No::new(StatusCode::CONFLICT, "refused", reason);
            Err(match reply.data["by"].as_str() {
                Some("gates") => no.remedy("see the gates: each says what it needs"),
                _ if busy => no.remedy("wait for the sortie under way to end, or call it back"),
                _ => no,
            })
        }
        Status::Failed => {
            Err(No::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", reason).remedy("see the station's log"))
        }
        Status::Expired => Err(No::new(StatusCode::SERVICE_UNAVAILABLE, "expired", reason).remedy("try again")),
    }
}

/// Who asks: `page` unless it says that it is the command line.
fn caller(headers: &HeaderMap) -> (&'static str, String) {
    let cli = headers.get("x-aerie-origin").is_some_and(|origin| origin == "cli");
    let operator =
        headers.get("x-aerie-operator").map(|name| String::from_utf8_lossy(name.as_bytes()).trim().to_owned());
    let operator = operator.filter(|name| !name.is_empty()).unwrap_or_else(|| "console".to_owned());
    (if cli { "cli" } else { "page" }, operator)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: Status) -> Reply {
        Reply { id: Some("c".into()), status, reason: Some("wind: 12 m/s".into()), data: json!({"sortie": "s"}) }
    }

    #[test]
    fn each_end_of_a_command_has_its_own_answer_with_its_reason() {
        assert_eq!(answer(reply(Status::Done), false).unwrap().status(), StatusCode::ACCEPTED);
        for (status, code) in [(Status::Refused, 409), (Status::Failed, 500), (Status::Expired, 503)] {
            let no = answer(reply(status), false).unwrap_err();
            assert_eq!((no.status.as_u16(), no.reason.as_str()), (code, "wind: 12 m/s"));
        }
        let remedy = |data: Value, busy| {
            answer(Reply { data, ..reply(Status::Refused) }, busy).unwrap_err().remedy.unwrap_or_default()
        };
        assert!(remedy(json!({"by": "gates"}), false).contains("gates"));
        assert!(remedy(Value::Null, true).contains("sortie under way"));
        assert_eq!(remedy(Value::Null, false), "", "no gate was meant");
    }

    #[test]
    fn who_asks_is_the_page_unless_it_says_otherwise() {
        let mut headers = HeaderMap::new();
        assert_eq!(caller(&headers), ("page", "console".to_owned()));
        headers.insert("x-aerie-origin", "cli".parse().unwrap());
        headers.insert("x-aerie-operator", axum::http::HeaderValue::from_bytes("李".as_bytes()).unwrap());
        assert_eq!(caller(&headers), ("cli", "李".to_owned()));
    }
}
