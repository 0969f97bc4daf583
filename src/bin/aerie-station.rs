//! The station's daemon alone, for a package: `aerie run` without OpenCV's picture libraries and the two hundred behind them, so that
//! neither their memory nor a fault in one of them is flight's.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    aerie::cli::station_main()
}
