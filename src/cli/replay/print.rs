//! Prints a replay for people.

use super::Reading;
use crate::cli::output::{TextTable, print_line};
use crate::insight::replay::{ClusterReplay, ReplayReport};

pub(super) fn report(report: &ReplayReport, reading: &Reading, what: &[String]) {
    print_lines(report, reading);
    if report.has_change {
        print_line(&format!("what if: {}", what.join("; ")));
    }
    for cluster in &report.clusters {
        println!();
        print_cluster(cluster, report.has_change);
    }
    if !report.notes.is_empty() || !reading.notes.is_empty() {
        println!();
    }
    for note in report.notes.iter().chain(&reading.notes) {
        print_line(&format!("note: {note}"));
    }
    if report.clusters.iter().all(|cluster| cluster.requests == 0) {
        println!("no request could be replayed");
        if report.lines.read > 0 && report.lines.read == report.lines.malformed {
            println!("  only logs with access_log.format: json can be replayed");
        }
    }
}

fn print_lines(report: &ReplayReport, reading: &Reading) {
    let lines = &report.lines;
    let files = match reading.files.as_slice() {
        [one] => one.clone(),
        all => format!("{} files", all.len()),
    };
    let time = |ms: Option<u64>| {
        let at = ms.and_then(|ms| i64::try_from(ms).ok()).and_then(chrono::DateTime::from_timestamp_millis);
        at.map(|at| at.format("%Y-%m-%d %H:%M:%S").to_string())
    };
    let range = match (time(lines.from_unix_ms), time(lines.to_unix_ms)) {
        (Some(from), Some(to)) => format!(", {from} to {to} UTC"),
        _ => String::new(),
    };
    println!("{files}: {}{range}", count_of_lines(lines.read));
    for (number, text) in [
        (lines.own_answers, "answered by icm itself or refused before selection"),
        (lines.unknown_cluster, "of clusters that the configuration does not have"),
        (lines.out_of_range, "outside of what was asked for"),
        (lines.malformed, "could not be read"),
    ] {
        if number > 0 {
            println!("  {} {text}", count_of_lines(number));
        }
    }
    for line in &reading.malformed {
        println!("    {line}");
    }
    for error in &reading.errors {
        println!("  not read to its end: {error}");
    }
    if lines.with_states == 0 && lines.read > lines.malformed {
        println!(
            "  no line records the states of the servers: this log was written before icm recorded them"
        );
    }
}

fn print_cluster(cluster: &ClusterReplay, has_change: bool) {
    let (requests, users) = (count(cluster.requests), count(cluster.users));
    println!("{}: {requests} requests of {users} users", cluster.name);
    if cluster.requests == 0 {
        return;
    }
    let all = cluster.requests;
    println!(
        "  states of the servers: recorded for {}, partly known for {}, assumed for {} of the requests",
        share(cluster.states_recorded, all),
        share(cluster.states_partly_known, all),
        share(cluster.states_assumed, all)
    );
    let agreement = &cluster.agreement;
    if agreement.with_server > 0 {
        println!(
            "  agreement with the log: {} of {} requests of users who had a server go to the same one",
            share(agreement.same_server, agreement.with_server),
            count(agreement.with_server)
        );
    }
    if agreement.drawn > 0 {
        println!(
            "  agreement with the log: {} of {} requests without a server go to one that the replay draws from; the draws \
             differ by {:.1} %",
            share(agreement.explained, agreement.drawn),
            count(agreement.drawn),
            agreement.draw_deviation
        );
    }
    println!();
    print_servers(cluster, has_change);
    if has_change {
        print_moves(cluster);
    }
    print_refused(cluster, has_change);
    print_single_replicas(cluster);
    print_thresholds(cluster);
}

fn print_servers(cluster: &ClusterReplay, has_change: bool) {
    let percent = |value: f64| format!("{value:.1} %");
    let known = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), percent);
    if !has_change {
        let mut table = TextTable::new(&[
            "server",
            ">requests",
            ">share",
            ">drawn",
            ">expected",
            ">BUSY",
            ">last resort",
            ">peak/s",
        ]);
        for server in &cluster.servers {
            table.row(vec![
                server.server.clone(),
                count(server.requests_before),
                percent(server.share_before),
                count(server.drawn),
                count(server.drawn_expected),
                known(server.busy_percent_before),
                count(server.last_resort_before),
                server.peak_per_second_before.to_string(),
            ]);
        }
        return table.print();
    }
    let mut table = TextTable::new(&[
        "server",
        ">requests",
        ">then",
        ">share",
        ">then",
        ">BUSY",
        ">then",
        ">last resort",
        ">then",
        ">peak/s",
        ">then",
    ]);
    for server in &cluster.servers {
        table.row(vec![
            server.server.clone(),
            count(server.requests_before),
            count(server.requests_after),
            percent(server.share_before),
            percent(server.share_after),
            known(server.busy_percent_before),
            known(server.busy_percent_after),
            count(server.last_resort_before),
            count(server.last_resort_after),
            server.peak_per_second_before.to_string(),
            server.peak_per_second_after.to_string(),
        ]);
    }
    table.print();
}

fn print_moves(cluster: &ClusterReplay) {
    println!();
    println!(
        "moved: {} requests ({}) of {} users",
        count(cluster.moved_requests),
        share(cluster.moved_requests, cluster.requests),
        count(cluster.moved_users)
    );
    for moved in &cluster.moves {
        println!("  {} to {}: {} requests", moved.from, moved.to, count(moved.requests));
    }
}

fn print_refused(cluster: &ClusterReplay, has_change: bool) {
    let databases = &cluster.refused_databases;
    if has_change {
        println!(
            "refused (503): {} requests, then {}; {} of these were served",
            count(cluster.refused_before),
            count(cluster.refused_after),
            count(cluster.newly_refused)
        );
    } else if cluster.refused_before > 0 {
        println!("refused (503): {} requests", count(cluster.refused_before));
    }
    for database in &databases.examples {
        let path = database.path.as_deref().unwrap_or("no database");
        let id = database.replica_id.as_ref().map_or_else(String::new, |id| format!(" ({id})"));
        let (before, after) = (count(database.refused_before), count(database.refused_after));
        let then = if has_change { format!(", then {after}") } else { String::new() };
        println!("  {path}{id}: {before}{then}");
    }
    print_more(databases.count, databases.examples.len());
}

fn print_single_replicas(cluster: &ClusterReplay) {
    let single = &cluster.single_replicas;
    if single.count == 0 {
        return;
    }
    let what = if single.count == 1 { "database has" } else { "databases have" };
    let (databases, requests) = (count(single.count), count(single.requests));
    println!("{databases} requested {what} no second replica ({requests} requests)");
    for database in &single.examples {
        let requests = count(database.requests);
        println!(
            "  {} ({}): on {}, {requests} requests",
            database.path, database.replica_id, database.server
        );
    }
    print_more(single.count, single.examples.len());
}

fn print_more(all: u64, shown: usize) {
    let more = all.saturating_sub(shown as u64);
    if more > 0 {
        println!("  and {} more, use --all to print them", count(more));
    }
}

fn print_thresholds(cluster: &ClusterReplay) {
    println!();
    println!(
        "thresholds: the index of each server, and for what share of its requests a threshold sets it aside"
    );
    let mut table = TextTable::new(&[
        "server", ">now", ">lowest", ">5 %", ">median", ">95 %", ">at 50", ">60", ">70", ">80", ">90",
    ]);
    let number = |value: Option<u8>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
    for server in &cluster.thresholds {
        let mut row = vec![server.server.clone(), number(server.threshold_now)];
        row.extend([server.lowest, server.p5, server.median, server.p95].map(number));
        let is_known = server.requests > 0;
        row.extend(server.set_aside.iter().map(|s| match is_known {
            true => format!("{:.1} %", s.percent),
            false => "-".to_owned(),
        }));
        table.row(row);
    }
    if !cluster.all_busy.is_empty() {
        let mut row = vec!["all at once".to_owned()];
        row.extend(["", "", "", "", ""].map(str::to_owned));
        row.extend(cluster.all_busy.iter().map(|share| format!("{:.1} %", share.percent)));
        table.row(row);
    }
    table.print();
    for server in &cluster.thresholds {
        let advice = match server.suggested {
            Some(threshold) => format!("threshold {threshold}: "),
            None => String::new(),
        };
        print_line(&format!("  {}: {advice}{}", server.server, server.reason));
    }
}

/// A share in percent.
fn share(part: u64, of: u64) -> String {
    if of == 0 {
        return "-".to_owned();
    }
    // Almost all is not all.
    let tenths = (part as f64 * 1_000.0 / of as f64).round();
    let tenths = if part < of { tenths.min(999.0) } else { tenths };
    format!("{:.1} %", tenths / 10.0)
}

fn count_of_lines(number: u64) -> String {
    format!("{} line{}", count(number), if number == 1 { "" } else { "s" })
}

/// A number with its thousands apart: 1,234,567.
fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(count(number), text);
        }
        assert_eq!(
            (share(1, 3), share(9_999, 10_000), share(5, 5)),
            ("33.3 %".into(), "99.9 %".into(), "100.0 %".into())
        );
    }
}
