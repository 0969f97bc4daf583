//! What every part runs on: where files are found, tasks kept alive, the station's own database.

pub mod paths;
pub mod store;
pub mod supervisor;
