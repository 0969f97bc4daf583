//! The console: a station's HTTP interface, and the page that is made of it.
//!
//! Invariants kept here:
//! - looking changes nothing, and whatever changes something goes through the one door for commands;
//! - what a foreign page could make a browser send is refused: a foreign `Host`, a POST without our header;
//! - many readers, slow readers and a port in use cost the console, never the station;
//! - a station with a bad configuration still says what is wrong with it.
//!
//! [`snapshot`] gathers what is known, [`view`] and [`problems`] are pure and say it; [`guard`] stands before every
//! request; [`api`] answers, [`events`] tells news, [`page`] is the page itself; [`client`] is the other side, for the
//! command line.

mod answer;
mod api;
pub mod client;
mod events;
mod faulty;
mod guard;
mod identity;
mod page;
mod problems;
mod server;
mod snapshot;
mod track;
mod view;

use tokio_util::sync::CancellationToken;

use crate::config::Faults;
use crate::station::Station;

pub use problems::Problem;

/// Serves a running station until `cancel`. A port that is in use is said and tried again; nothing else waits for it.
pub async fn serve(station: Station, cancel: CancellationToken) {
    let listen = station.checked.config.console.listen.clone();
    // Ends with this call, so that a console that is started again has one hub and not two.
    let ours = cancel.child_token();
    let _end_hub = ours.clone().drop_guard();
    let router = api::router(station, ours);
    server::serve(&listen, router, cancel).await;
}

/// Serves a station that flies nothing because its configuration has faults, until `cancel`.
pub async fn serve_faults(listen: &str, faults: Faults, cancel: CancellationToken) -> anyhow::Result<()> {
    let router = faulty::router(listen, faults, cancel.clone());
    server::serve(listen, router, cancel).await;
    Ok(())
}

/// Everything that keeps the station from its work now, with what to do about it.
pub fn problems(station: &Station) -> Vec<Problem> {
    problems::of(&snapshot::Snapshot::take(station))
}
