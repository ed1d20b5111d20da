//! The binary `icm`: parses the command line, runs a verb, maps errors to exit codes.

use std::process::ExitCode;

use clap::Parser;
use domino_icm::cli::{Cli, EXIT_USAGE};

// A proxy allocates and frees much and little at a time, which this does with less processor time than the C library,
// in whose place it is linked: as Rust's global allocator it would be asked for an alignment each time, and take
// a longer way for it. `--no-default-features` builds without it.
#[cfg(feature = "mimalloc")]
use mimalloc as _;

fn main() -> ExitCode {
    let arguments = match Cli::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let code = if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS };
            let _ = error.print();
            return code;
        }
    };
    domino_icm::util::crypto::install();
    match arguments.run() {
        Ok(code) => code,
        Err(error) => {
            domino_icm::cli::print_error(&format!("icm: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
