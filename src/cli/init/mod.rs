//! `icm init`: writes a first configuration from one server of a cluster. It contacts servers and writes files, whereas the
//! other verbs need a configuration that exists already.

mod from;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub struct InitArgs {
    /// One server of the cluster: https://web1.acme.example, or a host name with or without a port.
    #[arg(long, value_name = "URL")]
    pub(super) server: Option<String>,
    /// User with Reader access to cldbdir.nsf.
    #[arg(long, value_name = "NAME")]
    pub(super) user: Option<String>,
    /// Read as Anonymous.
    #[arg(long, conflicts_with_all = ["user", "password_file"])]
    pub(super) anonymous: bool,
    /// File with the password of the user; without it, icm asks at the terminal.
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub(super) password_file: Option<PathBuf>,
    /// Send the password over plain HTTP to another machine.
    #[arg(long)]
    pub(super) allow_plaintext: bool,
    /// Certificate authority of the servers.
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub(super) ca_file: Option<PathBuf>,
    /// Name of the cluster, if the Domino Directory does not give it.
    #[arg(long, value_name = "NAME")]
    pub(super) cluster: Option<String>,
    /// Address for clients.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8080")]
    pub(super) listen: SocketAddr,
    /// Directory in which icm keeps what must survive a restart.
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub(super) state_dir: Option<PathBuf>,
    /// File to write.
    #[arg(short, long, value_name = "FILE", default_value = "icm.yaml", value_hint = clap::ValueHint::FilePath)]
    pub(super) output: PathBuf,
    /// Replace the file if it exists.
    #[arg(long)]
    pub(super) force: bool,
    /// Ask nothing: a missing flag is an error.
    #[arg(short, long)]
    pub(super) yes: bool,
    /// Take over a configuration of nginx or HAProxy in place of asking a server.
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath, conflicts_with_all = ["server", "user"])]
    pub(super) from: Option<PathBuf>,
    /// Program of the configuration; without it, its content tells.
    #[arg(long, requires = "from")]
    pub(super) format: Option<FromFormat>,
    /// Print the list of all directives as JSON, for programs.
    #[arg(long, requires = "from")]
    pub(super) json: bool,
}

/// Programs whose configuration `--from` reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum FromFormat {
    Nginx,
    Haproxy,
}

/// # Errors
/// On a failure at run time.
pub fn run(arguments: &InitArgs) -> anyhow::Result<ExitCode> {
    if let Some(from) = &arguments.from {
        return from::run(arguments, from);
    }
    anyhow::bail!("not available yet")
}
