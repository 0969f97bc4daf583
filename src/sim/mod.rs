//! sim

pub mod town;
