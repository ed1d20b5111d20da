//! Runs the command line of `icm`.

use std::process::Command;

/// The exit code and output of a command.
#[derive(Debug)]
pub struct CliOutput {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// Runs `icm` with these arguments until it exits.
pub fn icm_cli(arguments: &[&str]) -> CliOutput {
    let output = Command::new(env!("CARGO_BIN_EXE_icm")).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    CliOutput {
        code: output.status.code().unwrap_or(-1),
        out: text(&output.stdout),
        err: text(&output.stderr),
    }
}

impl CliOutput {
    /// Standard output as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}
