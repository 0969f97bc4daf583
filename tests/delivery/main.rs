//! Invariants 2 and 5 through public surfaces: what was accepted arrives, in order, under its id; a command acts once.
//!
//! The broker is a real mosquitto on a free port, the subscriber a client that shares nothing with the uplink.

mod carriers;
mod certificates;
mod commands;
mod faults;
mod outbox;
mod protocol;
mod small_disk;
mod support;
mod tls;
mod uplink;
