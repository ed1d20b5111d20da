//! `icm audit`: prints the findings about a cluster, worst first. The exit code tells scripts whether there are errors.

use std::process::ExitCode;

use super::admin::AdminTarget;
use super::output;
use super::{EXIT_PROBLEM, EXIT_USAGE, offline_state};
use crate::admin::queries::DEFAULT_EXAMPLES;
use crate::insight::audit::{Audit, Severity, audit};

#[derive(Debug, clap::Args)]
#[command(after_help = "Severities:
  error    some users are not served now, or the data cannot be trusted
  warning  the next failure will affect users, or something looks like a mistake
  note     good to know

Exit codes:
  0   no errors (with --strict: and no warnings)
  1   no answer from the balancer
  2   errors found (with --strict: errors or warnings)
  64  wrong arguments or configuration

Examples:
  icm audit -c /etc/icm/icm.yaml
  icm audit --offline --strict --json -c /etc/icm/icm.yaml | jq '.clusters[].findings[].kind'")]
pub struct AuditArgs {
    #[command(flatten)]
    admin_target: AdminTarget,
    /// Use only the configuration and the cached directory; server states are not checked.
    #[arg(long, requires = "conf")]
    offline: bool,
    /// Number of examples for each finding.
    #[arg(long, value_name = "N", default_value_t = DEFAULT_EXAMPLES)]
    limit: usize,
    /// Print all examples of each finding.
    #[arg(long, conflicts_with = "limit")]
    all: bool,
    /// Exit with 2 for warnings too.
    #[arg(long)]
    strict: bool,
}

/// # Errors
/// If the running balancer does not answer.
pub fn run(arguments: &AuditArgs) -> anyhow::Result<ExitCode> {
    let limit = if arguments.all { usize::MAX } else { arguments.limit };
    let found: Audit = if arguments.offline {
        let Some(balancer) = offline_state(&arguments.admin_target)? else {
            return Ok(ExitCode::from(EXIT_USAGE));
        };
        audit(&balancer.snapshot(), limit, None)
    } else {
        let Some(admin) = arguments.admin_target.connect()? else { return Ok(ExitCode::from(EXIT_USAGE)) };
        match admin.get(&format!("/audit?limit={limit}"))? {
            Ok(found) => found,
            Err(code) => return Ok(code),
        }
    };
    if arguments.admin_target.json {
        println!("{:#}", serde_json::to_value(&found)?);
    } else {
        print_report(&found);
    }
    let bad = found.errors > 0 || (arguments.strict && found.warnings > 0);
    Ok(if bad { ExitCode::from(EXIT_PROBLEM) } else { ExitCode::SUCCESS })
}

fn print_report(found: &Audit) {
    for cluster in &found.clusters {
        println!(
            "{}: {} servers, {} databases, {} replicas; directory from {}, {} old",
            cluster.name,
            cluster.servers,
            cluster.databases,
            cluster.replicas,
            cluster.directory,
            output::format_age(cluster.directory_age_ms)
        );
        for finding in &cluster.findings {
            let severity = match finding.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
                Severity::Note => "note",
            };
            output::print_line(&format!("{severity}: {} {} [{}]", finding.count, finding.text, finding.kind));
            for example in &finding.examples {
                println!("    {example}");
            }
            let more = finding.count.saturating_sub(finding.examples.len());
            if more > 0 && !finding.examples.is_empty() {
                println!("    and {more} more, use --all to print them");
            }
            println!("    -> {}", finding.advice);
        }
    }
    println!("{} errors, {} warnings, {} notes", found.errors, found.warnings, found.notes);
}
