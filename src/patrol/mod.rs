//! Patrols: what to fly, when, and whether it may fly now.
//!
//! [`plan`] covers an area, [`requests`] are looks that nobody planned, [`schedule`] knows when a patrol is due, [`gates`] decide whether it may fly, [`airspace`]
//! and [`energy`] what it needs, [`monitor`] what turns it round, [`states`] is what a
//! sortie can be and become: all pure. [`flight`] brings one sortie into the air, [`follow`] home again, [`adopt`] takes one
//! over after a restart, with what [`crew`] knows; [`dispatcher`] decides
//! which one is next.

mod adopt;
pub mod airspace;
pub mod config;
pub mod crew;
pub mod dispatcher;
pub mod energy;
pub mod flight;
mod follow;
pub mod gates;
pub mod holds;
pub mod monitor;
pub mod plan;
pub mod requests;
pub mod schedule;
pub mod states;
pub mod sun;
#[cfg(test)]
mod tests;

pub use config::PatrolConfig;
pub use dispatcher::{Dispatcher, OrderRefused, StartRefused};
pub use states::{Sortie, State, Trigger};
