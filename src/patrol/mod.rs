//! Patrols: what to fly, when, and whether it may fly now.
//!
//! [`plan`] covers an area, [`schedule`] knows when a patrol is due, [`gates`] decide whether it may fly, [`airspace`]
//! and [`energy`] what it needs, [`monitor`] what turns it round, [`states`] is what a
//! sortie can be and become: all pure. [`flight`] flies one sortie with what [`crew`] knows; [`dispatcher`] decides
//! which one is next.

pub mod airspace;
pub mod config;
pub mod crew;
pub mod dispatcher;
pub mod energy;
pub mod flight;
pub mod gates;
pub mod holds;
pub mod monitor;
pub mod plan;
pub mod schedule;
pub mod states;
pub mod sun;

pub use config::PatrolConfig;
pub use dispatcher::{Dispatcher, OrderRefused, StartRefused};
pub use states::{Sortie, State, Trigger};
