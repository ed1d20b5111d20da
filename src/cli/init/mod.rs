//! `icm init`: writes a first configuration from one server of a cluster. It contacts servers and writes files, whereas the
//! other verbs need a configuration that exists already.

mod account;
mod answers;
mod databases;
mod error;
mod findings;
mod from;
mod members;
mod service;
mod sources;
mod target;
mod yaml;

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;

use super::check::{self, CheckArgs};
use answers::Account;
use error::InitError;
use findings::Findings;

use crate::util::atomic_file;

/// The file names a secret, so others need not read it.
const CONFIG_MODE: u32 = 0o640;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "It reads the members of the cluster, their ports and the databases from the server, and what else answers \
there, writes a commented configuration, and runs `icm check --probe` on it. At a terminal it asks for what is missing. A \
password that was typed goes into a file of its own beside the configuration (icm.password, mode 0600).

With --from it asks no server: it takes over a configuration of nginx or HAProxy as far as possible, lists what is not \
possible with its line and what to do, and runs `icm check`.

Exit codes:
  0   the configuration is written, and `check --probe` finds no problem
  1   no answer from the server
  2   the server refuses (certificate, login, rights) or is no Domino server, and nothing is written; or the
      configuration is written, and `check --probe` found a problem, or with --from `check` an error
  64  an argument is missing or wrong, the file exists already, or that of --from cannot be read

Examples:
  icm init
  icm init --server https://web1.acme.example --user 'ICM Reader/Acme' --password-file /etc/icm/password
  icm init --server https://web1.acme.example --user 'ICM Reader/Acme' --ca-file ca.pem --output /etc/icm/icm.yaml
  icm init --from /etc/nginx/nginx.conf --output /etc/icm/icm.yaml"
)]
pub struct InitArgs {
    /// One server of the cluster: https://web1.acme.example, or a host name with or without a port.
    #[arg(long, value_name = "URL")]
    pub(super) server: Option<String>,
    /// User with Reader access to cldbdir.nsf.
    #[arg(long, value_name = "NAME")]
    pub(super) user: Option<String>,
    /// Read without an account, as Anonymous.
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
    /// Address that clients connect to.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8080")]
    pub(super) listen: SocketAddr,
    /// Directory in which icm keeps what must survive a restart.
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub(super) state_dir: Option<PathBuf>,
    /// Configuration file to write.
    #[arg(short, long, value_name = "FILE", default_value = "icm.yaml", value_hint = clap::ValueHint::FilePath)]
    pub(super) output: PathBuf,
    /// Replace the file if it exists.
    #[arg(long)]
    pub(super) force: bool,
    /// Ask nothing: a missing flag is an error.
    #[arg(short, long)]
    pub(super) yes: bool,
    /// Take over a configuration of nginx or HAProxy in place of asking a server.
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath, conflicts_with_all = ["server", "user",
        "anonymous", "password_file", "allow_plaintext", "ca_file", "cluster", "listen", "state_dir"])]
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
/// On a failure at run time that is no answer of the server, such as a full disk.
pub fn run(arguments: &InitArgs) -> anyhow::Result<ExitCode> {
    if let Some(from) = &arguments.from {
        return from::run(arguments, from);
    }
    let refused = |error: InitError| {
        eprintln!("icm: {error}");
        Ok(ExitCode::from(error.exit_code()))
    };
    if let Err(error) = check_output(arguments) {
        return refused(error);
    }
    let asked = answers::server(arguments).and_then(|server| Ok((server, answers::account(arguments)?)));
    let (server, account) = match asked {
        Ok(asked) => asked,
        Err(error) => return refused(error),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let found = match runtime.block_on(findings::read(arguments, &server, account.as_ref())) {
        Ok(found) => found,
        Err(error) => return refused(error),
    };
    write(arguments, account.as_ref(), &found)?;
    let conf = &arguments.output;
    println!("\nicm check --probe -c {}", conf.display());
    let code = check::run(&CheckArgs::probing(conf.clone()))?;
    print_next(arguments, code == ExitCode::SUCCESS);
    Ok(code)
}

/// Refuses to replace a file, before anything is asked.
fn check_output(arguments: &InitArgs) -> Result<(), InitError> {
    // Where --from is absent and another flag excludes it, clap does not ask for it.
    if arguments.json || arguments.format.is_some() {
        return Err(InitError::Usage("--json and --format are for --from FILE only".to_owned()));
    }
    if arguments.output.as_os_str() == "-" {
        return Err(InitError::Usage(
            "--output needs a file: the configuration is checked, and its password lies beside it".to_owned(),
        ));
    }
    if arguments.output.is_dir() {
        return Err(InitError::Usage(format!(
            "{} is a directory: name a file in it with --output",
            arguments.output.display()
        )));
    }
    let mut files = vec![arguments.output.clone()];
    if arguments.password_file.is_none() && !arguments.anonymous {
        files.push(password_path(&arguments.output));
    }
    if let Some(file) = files.iter().find(|file| file.exists() && !arguments.force) {
        let file = file.display();
        return Err(InitError::Usage(format!(
            "{file} exists already and is kept; --force replaces it, --output names another"
        )));
    }
    let dir = atomic_file::parent(&arguments.output);
    if !dir.is_dir() {
        return Err(InitError::Usage(format!("{} is no directory: create it first", dir.display())));
    }
    Ok(())
}

/// The file `icm.password` beside `icm.yaml`.
fn password_path(output: &Path) -> PathBuf {
    output.with_extension("password")
}

/// Writes the password first, so that the configuration never names a file that is not there.
fn write(arguments: &InitArgs, account: Option<&Account>, found: &Findings) -> anyhow::Result<()> {
    let output = &arguments.output;
    let mut password_file = String::new();
    if let Some(account) = account {
        password_file = match &account.file {
            Some(file) => absolute(file)?,
            None => {
                let path = password_path(output);
                atomic_file::replace(&path, atomic_file::PRIVATE_FILE_MODE, |file| {
                    file.write_all(&account.password.0)?;
                    file.write_all(b"\n")
                })
                .with_context(|| format!("cannot write {}", path.display()))?;
                let is_shared = service::state_dir(output).is_some() && service::share_with_group(&path);
                println!("wrote {} (mode {})", path.display(), if is_shared { "0640" } else { "0600" });
                // Relative to the configuration, so that both can be moved together.
                path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
            }
        };
    }
    let ca_file = arguments.ca_file.as_deref().map(absolute).transpose()?;
    let service = service::state_dir(output);
    let state_dir = arguments.state_dir.as_deref().map(absolute_dir).transpose()?;
    let state_dir = state_dir.or_else(|| service.map(str::to_owned));
    let content = found.content(arguments.listen, state_dir, ca_file, password_file);
    let mut text = yaml::render(&content);
    if service.is_some() {
        text = service::with_lines(&text);
    }
    atomic_file::replace(output, CONFIG_MODE, |file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", output.display()))?;
    if service.is_some() {
        service::share_with_group(output);
    }
    println!("wrote {} (mode 0640)", output.display());
    if service.is_some() {
        let files = [account.and_then(|account| account.file.as_deref()), arguments.ca_file.as_deref()];
        for file in files.into_iter().flatten() {
            if let Some(advice) = service::unreadable_advice(&absolute(file)?) {
                println!("warning: {advice}");
            }
        }
    }
    Ok(())
}

fn absolute(path: &Path) -> anyhow::Result<String> {
    let path = std::fs::canonicalize(path).with_context(|| format!("cannot find {}", path.display()))?;
    Ok(path.display().to_string())
}

/// Like [`absolute`], for a directory that need not exist yet.
fn absolute_dir(path: &Path) -> anyhow::Result<String> {
    Ok(std::path::absolute(path)
        .with_context(|| format!("{} is no path", path.display()))?
        .display()
        .to_string())
}

fn print_next(arguments: &InitArgs, is_good: bool) {
    let conf = arguments.output.display();
    println!();
    if !is_good {
        println!(
            "The file is written, but the check found a problem: correct it, or the file, and check again:"
        );
        println!("  icm check --probe -c {conf}");
    }
    println!("Next:");
    if service::state_dir(&arguments.output).is_some() {
        // Not `icm run`: as root it would leave files in the folders of the service that the service cannot read.
        println!(
            "  sudo systemctl enable domino-icm && sudo systemctl restart domino-icm   # serve on {}",
            arguments.listen
        );
    } else {
        println!("  icm run -c {conf}                 # serve on {}", arguments.listen);
    }
    println!("  icm show cluster -c {conf}        # the servers, from another terminal");
    println!("  icm check --sso --user NAME --password-file FILE -c {conf}   # does a failover keep logins?");
}
