//! The `scaledown` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(scaledown::cli::main())
}
