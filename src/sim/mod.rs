//! sim
pub mod drone;
pub mod hardware;
