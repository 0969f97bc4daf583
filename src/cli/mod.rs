//! The command line: one file (or folder) a command.

pub mod inspect;
pub mod locate;
