//! What every part runs on: where files are found, tasks kept alive, shutdown in order.

pub mod paths;
pub mod supervisor;
