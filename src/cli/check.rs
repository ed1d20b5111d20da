//! `icm check`: validates a configuration file, and with `--probe` contacts every server and reads the directory.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::admin::AdminTarget;
use super::readings::{ProbeFinding, append_warnings, read_directory, read_servers};
use super::sso::{self, SsoArgs};
use super::{EXIT_PROBLEM, EXIT_USAGE, certificates, load, replica_checks};
use crate::config::settings::{AvailabilitySource, Directory, NamesView, Servers, SiteRulesView};
use crate::config::{Location, Settings, Warning, facts};
use crate::discovery::availability::{PollTarget, poll};
use crate::discovery::probe;
use crate::discovery::site_rules;
use crate::domain::cluster::Port;
use crate::follow;
use crate::insight::exposure;
use crate::insight::sso::SsoReport;
use crate::server::descriptors;
use crate::state::cluster_view::UpstreamServer;
use crate::state::{Balancer, Cluster, readable};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "--sso logs a test account in at every server, opens databases at all others with its session, and says for each database \
whether a failover keeps the login, and why not. It does not show what the Cluster Replicator has not copied yet.

Exit codes:
  0   the file is valid
  2   the file is valid, but --probe found a problem, or --sso found that a failover loses a login, or `icm run` would
      refuse it
  64  the file has errors, or an argument is wrong

Examples:
  icm check --probe -c /etc/icm/icm.yaml
  icm check --sso --user 'Jane Doe/Acme' --password-file /etc/icm/test-password -c /etc/icm/icm.yaml
  icm check --sso --user 'Jane Doe/Acme' --database mail/jdoe.nsf --json -c /etc/icm/icm.yaml"
)]
pub struct CheckArgs {
    /// Path of the configuration file.
    #[arg(short, long = "conf", value_name = "FILE")]
    conf: PathBuf,
    /// Also contact every server and read the directory.
    #[arg(long)]
    probe: bool,
    /// Only ask the running balancer whether it is ready; for container health checks.
    #[arg(long, conflicts_with_all = ["probe", "sso"])]
    running: bool,
    /// Print JSON, for programs.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    sso: SsoArgs,
}

impl CheckArgs {
    /// `--probe` of this file, for people.
    pub(super) fn probing(conf: PathBuf) -> Self {
        Self { conf, probe: true, running: false, json: false, sso: SsoArgs::default() }
    }
}

/// `--running`: exit code 0 if the running balancer is ready.
fn check_running(arguments: &CheckArgs) -> anyhow::Result<ExitCode> {
    let admin_target = AdminTarget {
        conf: Some(arguments.conf.clone()),
        admin: None,
        ca: None,
        token_file: None,
        json: arguments.json,
    };
    let Some(admin) = admin_target.connect()? else { return Ok(ExitCode::from(EXIT_USAGE)) };
    let (_, status) = admin.send(http::Method::GET, "/status")?;
    let ready = status.get("ready").and_then(serde_json::Value::as_bool) == Some(true);
    if arguments.json {
        println!("{:#}", json!({ "ok": ready }));
    } else {
        println!("{}", if ready { "ready" } else { "not ready" });
    }
    Ok(if ready { ExitCode::SUCCESS } else { ExitCode::from(EXIT_PROBLEM) })
}

/// # Errors
/// If the runtime cannot be created.
pub fn run(arguments: &CheckArgs) -> anyhow::Result<ExitCode> {
    if arguments.running {
        return check_running(arguments);
    }
    let account = match arguments.sso.account() {
        Ok(account) => account,
        Err(error) => {
            eprintln!("icm: {error}");
            return Ok(ExitCode::from(EXIT_USAGE));
        }
    };
    let loaded = match load(&arguments.conf, arguments.json) {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    let mut warnings = loaded.warnings;
    let mut settings = loaded.settings;
    let mut findings = Vec::new();
    if settings.follow.is_some() {
        let (finding, more) = check_followed_icm(&mut settings, arguments.probe)?;
        findings.push(finding);
        warnings.extend(more);
    }
    let without_position =
        |text| Warning { location: Location { file: arguments.conf.clone(), line: 0, column: 0 }, text };
    warnings.extend(certificates::uncovered_host_names(&settings).into_iter().map(without_position));
    warnings.extend(certificates::keys_without_cipher(&settings).into_iter().map(without_position));
    let (mut read_facts, acme_warnings) = certificates::acme_certificates(&settings);
    warnings.extend(acme_warnings.into_iter().map(without_position));
    let descriptors = descriptors::hard_limit();
    let shortage = descriptors.and_then(|n| descriptors::shortage(n, settings.limits.connections));
    warnings.extend(shortage.map(without_position));
    for cluster in &settings.clusters {
        for fact in facts(cluster) {
            let text = format!("{}: {fact}", cluster.name);
            match fact.unread() {
                Some(_) => warnings.push(without_position(format!("{text}; {}", fact.hint))),
                None => read_facts.push(text),
            }
        }
    }
    let settings = Arc::new(settings);
    if arguments.probe {
        let balancer = Arc::new(Balancer::new(Arc::clone(&settings), vec![0; 32])?);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let open = runtime.block_on(probe_clusters(&balancer, &mut findings));
        warnings.extend(open.into_iter().map(without_position));
    }
    let mut reports = Vec::new();
    if let Some(account) = &account {
        match sso::check(&settings, &arguments.sso, account)? {
            Ok(found) => reports = found,
            Err(error) => {
                eprintln!("icm: {error}");
                return Ok(ExitCode::from(EXIT_USAGE));
            }
        }
    }
    let result = CheckResult { warnings, facts: read_facts, findings, reports };
    result.print(arguments);
    Ok(if result.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_PROBLEM) })
}

/// What a valid file and its servers gave.
struct CheckResult {
    warnings: Vec<Warning>,
    facts: Vec<String>,
    findings: Vec<ProbeFinding>,
    /// Of `--sso`, one for each cluster.
    reports: Vec<SsoReport>,
}

impl CheckResult {
    fn is_ok(&self) -> bool {
        self.findings.iter().all(|finding| finding.is_ok) && self.reports.iter().all(SsoReport::is_ok)
    }

    fn print(&self, arguments: &CheckArgs) {
        if arguments.json {
            println!("{:#}", self.to_json());
            return;
        }
        for warning in &self.warnings {
            println!("warning: {warning}");
        }
        for fact in &self.facts {
            println!("fact: {fact}");
        }
        for ProbeFinding { is_ok, subject, text } in &self.findings {
            println!("{}: {subject}: {text}", if *is_ok { "ok" } else { "failed" });
        }
        sso::print(&self.reports);
        if self.is_ok() {
            println!("{}: configuration is valid", arguments.conf.display());
        }
    }

    fn to_json(&self) -> serde_json::Value {
        let found = self.findings.iter();
        let found = found.map(|f| json!({ "ok": f.is_ok, "what": f.subject, "text": f.text }));
        let mut document = json!({
            "ok": self.is_ok(),
            "errors": [],
            "warnings": self.warnings.iter().map(Warning::to_json).collect::<Vec<_>>(),
            "facts": self.facts,
            "findings": found.collect::<Vec<_>>(),
        });
        if let (Some(items), false) = (document.as_object_mut(), self.reports.is_empty()) {
            items.insert("sso".to_owned(), json!(self.reports));
        }
        document
    }
}

/// With `--probe`, takes the clusters from the followed ICM.
fn check_followed_icm(settings: &mut Settings, probe: bool) -> anyhow::Result<(ProbeFinding, Vec<Warning>)> {
    let Some(other) = settings.follow.clone() else { anyhow::bail!("no ICM is followed") };
    let subject = format!("get_configuration_from {}", other.url);
    if !probe {
        let text = "not contacted, `--probe` fetches and validates it".to_owned();
        return Ok((ProbeFinding { is_ok: true, subject, text }, Vec::new()));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(match runtime.block_on(follow::fetch_document(&other)) {
        Ok((document, _)) => {
            let text =
                format!("{} clusters, {} restrictions", document.clusters.len(), document.restrictions.len());
            let warnings = document.warnings.clone();
            document.apply_to(settings);
            (ProbeFinding { is_ok: true, subject, text }, warnings)
        }
        Err(error) => (ProbeFinding { is_ok: false, subject, text: error.to_string() }, Vec::new()),
    })
}

/// Probes all clusters, and returns what anyone may read of them.
async fn probe_clusters(balancer: &Balancer, findings: &mut Vec<ProbeFinding>) -> Vec<String> {
    let mut readable = Vec::new();
    for cluster in &balancer.snapshot().clusters {
        probe_cluster(cluster, findings).await;
        let exposures = exposure::ask(cluster).await;
        let (open, closed): (Vec<_>, Vec<_>) = exposures.iter().partition(|e| e.is_open());
        let name = &cluster.settings.name;
        readable.extend(open.iter().map(|e| format!("{name}: {}", e.describe())));
        findings.extend(closed.iter().map(|e| ProbeFinding {
            is_ok: true,
            subject: format!("{name}: Anonymous"),
            text: e.describe(),
        }));
    }
    readable
}

/// Sends the same requests as a running balancer.
async fn probe_cluster(cluster: &Arc<Cluster>, findings: &mut Vec<ProbeFinding>) {
    if let Servers::Names(view) = &cluster.settings.servers {
        findings.push(read_servers(cluster, view).await);
    }
    for entry in &cluster.view.load_full().entries {
        probe_ports(cluster, entry, findings).await;
        poll_sources(cluster, entry, findings).await;
    }
    if let Directory::Cldbdir(settings) = &cluster.settings.directory {
        // One after the other, so that a server without Reader access is found even if all are up.
        for server in readable::readable_servers(cluster) {
            findings.push(read_directory(cluster, settings, server).await);
        }
    }
    if let Servers::Names(view) = &cluster.settings.servers
        && let Some(rules) = &view.site_rules
    {
        findings.push(read_site_rules(cluster, view, rules).await);
    }
    for entry in &cluster.view.load_full().entries {
        if let Some((is_ok, text)) = replica_checks::sample_databases(cluster, entry).await {
            let subject = format!("{}: modification times of {}", cluster.settings.name, entry.config.name);
            findings.push(ProbeFinding { is_ok, subject, text });
        }
    }
}

/// The directory must have been read before: it decides which rules lead somewhere.
async fn read_site_rules(cluster: &Cluster, view: &NamesView, rules: &SiteRulesView) -> ProbeFinding {
    let subject = format!("{}: site rules from {}/{}", cluster.settings.name, view.database, rules.view);
    match site_rules::read(&cluster.client, view, rules, &cluster.persistent_state.login_sessions).await {
        Ok(rules) => {
            cluster.set_site_rules(rules);
            ProbeFinding { is_ok: true, subject, text: cluster.view.load().site_routes.to_string() }
        }
        Err(failure) => ProbeFinding { is_ok: false, subject, text: failure.to_string() },
    }
}

async fn probe_ports(cluster: &Cluster, entry: &UpstreamServer, findings: &mut Vec<ProbeFinding>) {
    for port in [Port::Http, Port::Https] {
        let Some(at) = entry.host_port(port) else { continue };
        let subject = format!("{}: {} {port} port {at}", cluster.settings.name, entry.config.name);
        let Some(address) = entry.address(port) else {
            findings.push(ProbeFinding {
                is_ok: false,
                subject,
                text: "the name does not resolve".to_owned(),
            });
            continue;
        };
        let (is_ok, mut text) =
            match probe::probe(&cluster.client, &cluster.settings, &entry.config, port, address).await {
                Ok(status) => (true, format!("answered {status}")),
                Err(text) => (false, text),
            };
        if port == Port::Https {
            let timeout = cluster.settings.probe.timeout;
            let shown =
                certificates::describe_server_certificate(address, &entry.config.hostname, is_ok, timeout)
                    .await;
            text.extend(shown.map(|shown| format!("; {shown}")));
        }
        findings.push(ProbeFinding { is_ok, subject, text });
    }
}

async fn poll_sources(cluster: &Cluster, entry: &UpstreamServer, findings: &mut Vec<ProbeFinding>) {
    let Some(address) = entry.address(Port::Http).or_else(|| entry.address(Port::Https)) else { return };
    for source in cluster.availability_sources(&entry.config) {
        if matches!(source.source, AvailabilitySource::Observed | AvailabilitySource::Statpub) {
            continue;
        }
        let target = PollTarget {
            name: &entry.config.name,
            hostname: &entry.config.hostname,
            address,
            reading_port: readable::reading_port(cluster, entry)
                .map_or((address, false), |(_, at)| (at.address, at.https)),
            sessions: &cluster.persistent_state.login_sessions,
            timeout: Duration::from_secs(5),
        };
        let subject = format!("{}: availability of {}", cluster.settings.name, entry.config.name);
        findings.push(match poll(&cluster.client, &source.source, &target).await {
            Ok(reading) => {
                let mut text = reading.report.index.map_or("no index".to_owned(), |i| format!("index {i}"));
                let companion = reading.companion.as_ref();
                let described = companion.map(|read| replica_checks::describe_companion(cluster, read));
                append_warnings(&mut text, described.as_slice());
                ProbeFinding { is_ok: true, subject, text }
            }
            Err(error) => ProbeFinding { is_ok: false, subject, text: error.to_string() },
        });
    }
}
