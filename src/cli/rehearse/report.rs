//! What `icm rehearse` prints: its beginning, a line of progress, and the report, as text or as JSON.

use serde_json::{Value, json};

use super::fleet::FleetState;
use crate::cli::output::{self, format_age};
use crate::state::rehearsal::RehearsalReport;

pub(super) fn begun_json(state: &FleetState) -> Value {
    json!({ "begun": state.total() })
}

pub(super) fn progress_json(state: &FleetState) -> Value {
    json!({ "progress": state.total() })
}

/// The sum, and what each balancer reports.
pub(super) fn state_json(state: &FleetState) -> Value {
    let each: Vec<Value> = state
        .0
        .iter()
        .map(|observed| json!({ "rehearsal": observed.report, "gone": observed.is_gone }))
        .collect();
    json!({ "rehearsal": state.total(), "balancers": each })
}

pub(super) fn print_beginning(state: &FleetState) {
    let Some(report) = state.total() else { return };
    output::print_line(&format!(
        "{}: {} counts as UNREACHABLE for {} % of the users until {}",
        report.cluster, report.server, report.users_percent, report.ends
    ));
    print_only_replicas(&report);
}

fn print_only_replicas(report: &RehearsalReport) {
    let only = &report.only_replicas;
    if only.count > 0 {
        let more = only.count.saturating_sub(only.examples.len());
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        println!(
            "  {} databases have no other replica in service; their requests still go there: {}{more}",
            only.count,
            only.examples.join(", ")
        );
    }
}

pub(super) fn print_progress(state: &FleetState) {
    let Some(report) = state.total() else { return };
    println!(
        "{} left: {} users moved, {} requests, {} failed, {} not found, {} denied; stayed: {} requests, \
         {} failed, {} not found, {} denied",
        format_age(report.left_ms / 1_000 * 1_000),
        report.users,
        report.requests,
        report.failed,
        report.not_found,
        report.denied,
        report.stayed.requests,
        report.stayed.failed,
        report.stayed.not_found,
        report.stayed.denied
    );
}

pub(super) fn print_report(state: &FleetState) {
    let Some(report) = state.total() else { return };
    let what = format!("rehearsal of {} for {} % of the users", report.server, report.users_percent);
    let detail = report.ended_detail.as_ref().map_or_else(String::new, |detail| format!(": {detail}"));
    match report.ended_because.as_deref() {
        None if state.has_ended_early() => {
            println!("{what}: ended early, because its process has ended (restart or upgrade)");
        }
        None => println!("{what}: under way, {} left", format_age(report.left_ms / 1_000 * 1_000)),
        Some("time") => println!("{what}: ran to its end"),
        Some(why) => println!("{what}: ended early, {why}{detail}"),
    }
    let stayed = &report.stayed;
    let row = |name: &str, moved: String, stayed: String| println!("  {name:<16} {moved:>12} {stayed:>12}");
    row("", "moved".to_owned(), "stayed".to_owned());
    row("users", report.users.to_string(), stayed.users.to_string());
    row("requests", report.requests.to_string(), stayed.requests.to_string());
    row("failed", report.failed.to_string(), stayed.failed.to_string());
    row("not found", report.not_found.to_string(), stayed.not_found.to_string());
    row("denied", report.denied.to_string(), stayed.denied.to_string());
    row("median", milliseconds(report.median_ms), milliseconds(stayed.median_ms));
    row("99th percentile", milliseconds(report.p99_ms), milliseconds(stayed.p99_ms));
    println!("  {} requests would have gone to {}", report.moved, report.server);
    if report.requests == 0 && report.ended_because.is_some() {
        println!("  no user was moved, so nothing was tried: take a larger share, or wait for more users");
    }
    if report.logins_lost > 0 {
        println!(
            "  {} of them lost a login: their users have a session on that server only",
            report.logins_lost
        );
    }
    if report.older_pages > 0 {
        println!(
            "  {} times a user was told that the replica is older than the own last write",
            report.older_pages
        );
    }
    if report.kept > 0 {
        println!(
            "  {} requests went to {} because no other server could take them",
            report.kept, report.server
        );
    }
    print_only_replicas(&report);
}

fn milliseconds(time: Option<f64>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| format!("{time:.1} ms"))
}
