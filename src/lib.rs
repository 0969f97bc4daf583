//! aerie runs a drone base station. This page is the map of the crate.

#![forbid(unsafe_code)]

pub mod cases;
pub mod cli;
pub mod config;
pub mod console;
pub mod geo;
pub mod outbox;
pub mod patrol;
pub mod perception;
pub mod runtime;
pub mod sim;
pub mod station;
pub mod uplink;
pub mod vehicle;
