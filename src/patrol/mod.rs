//! Patrols: what to fly, when, and whether it may fly now.
//!
//! [`plan`] covers an area, [`schedule`] knows when a patrol is due, [`gates`] decide whether it may fly, [`states`] is
//! what a sortie can be and become: all pure. [`flight`] flies one sortie; [`dispatcher`] decides which one is next.

pub mod config;
pub mod dispatcher;
pub mod flight;
pub mod gates;
pub mod plan;
pub mod schedule;
pub mod states;
pub mod sun;

pub use config::PatrolConfig;
pub use dispatcher::{Dispatcher, StartRefused};
pub use states::{Sortie, State, Trigger};
