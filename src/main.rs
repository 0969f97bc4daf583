//! Parses the command line, calls one command, sets the exit code.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    aerie::cli::main()
}
