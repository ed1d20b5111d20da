//! The binary `icm`: parses the command line, runs a verb, maps errors to exit codes.

use std::process::ExitCode;

use clap::Parser;
use domino_icm::cli::{Arguments, USAGE};

/// A proxy allocates and frees much and little at a time, which this does with less processor time than the C
/// library; `--no-default-features` builds without it.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let code = if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
            let _ = error.print();
            return code;
        }
    };
    domino_icm::crypto::install();
    match arguments.run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("icm: {error:#}");
            ExitCode::FAILURE
        }
    }
}
