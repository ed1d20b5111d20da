//! The binary `icm`: parses the command line, runs a verb, maps errors to exit codes.

use std::process::ExitCode;

use clap::Parser;
use domino_icm::cli::{Cli, EXIT_USAGE};

// A proxy allocates in many sizes; mimalloc needs less CPU for it than the C library's allocator. It is linked in place of
// that one, not set as `#[global_allocator]`, which would pass an alignment and take a slower path. Build with
// `--no-default-features` to leave it out.
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
