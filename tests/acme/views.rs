//! `?ReadViewEntries` on the cluster directory and on the Server documents. This file selects the rows;
//! `views_render.rs` writes them as XML or JSON.

use std::sync::atomic::Ordering::Relaxed;

use crate::answer::Answer;
use crate::cluster::{Cluster, SimulatedServer};
use crate::copies::DatabaseCopy;
use crate::login;
use crate::pages::Request;
use crate::settings::DirectoryTraps;
use crate::views_render::{self, Cell, Entry, Range};

/// A document without its position in the view.
struct Document {
    number: u32,
    cells: Vec<Cell>,
}

/// The response to `?ReadViewEntries` on this database (path in lower case).
pub fn answer(cluster: &Cluster, server: &SimulatedServer, request: &Request, database: &str) -> Answer {
    let settings = server.settings();
    let traps = &settings.dir;
    let (url, view) = (&request.url, request.url.rest.to_lowercase());
    let json = url.argument("OutputFormat").is_some_and(|f| f.eq_ignore_ascii_case("json"));
    let start = url.argument("Start").unwrap_or("1");
    if traps.error500 {
        return Answer::html(500, "<h1>Error 500</h1>HTTP Web Server: You are not authorized\n");
    }
    if traps.unauthorised {
        return login::form(&request.head.target, "");
    }
    if start != "1" && !start.is_empty() {
        let limit = traps.changes_while_paging;
        let _ = server.new_documents.fetch_update(Relaxed, Relaxed, |n| (n < limit).then_some(n + 1));
    }
    let hidden = view.starts_with('(') && traps.hidden_view_404;
    let documents = match database {
        "cldbdir.nsf" if !hidden => directory_view(cluster, server, traps, &view),
        "names.nsf" if view == "icm servers" && !traps.servers_404 => Some((servers(cluster, traps), false)),
        // The lookup view of users shows rows as well, whatever is in them.
        "names.nsf" if view == "($users)" => Some((servers(cluster, traps), false)),
        "names.nsf" if view == "icm web rules" && !traps.site_rules_404 => Some((site_rules(cluster), false)),
        _ => None,
    };
    let Some((documents, categorised)) = documents else {
        let text = format!("<h1>Error 404</h1>HTTP Web Server: Couldn't find design note - {view}\n");
        return Answer::html(404, text);
    };
    let expand = url.argument("ExpandView").is_some();
    let (mut entries, top_level) = match categorised {
        true => categorise(documents, expand, url.argument("RestrictToCategory")),
        false => flat(documents),
    };
    entries.truncate(entries.len().saturating_sub(traps.withheld));
    let all = url.argument("Count").map(str::trim) == Some("-1");
    let wanted = match all {
        true => usize::MAX,
        false => url.number("Count").map_or(30, |n| n as usize),
    };
    let cap = if traps.count_cap == 0 { usize::MAX } else { traps.count_cap };
    let entries: Vec<Entry> = from(entries, start).take(wanted.min(cap)).collect();
    let range = Range { top_level, entries: if all { Some(entries.len()) } else { None } };
    let mut text = match json {
        true => views_render::json(&entries, &range, traps),
        false => views_render::xml(&entries, &range, traps),
    };
    if traps.truncated {
        let mut cut = text.len() * 6 / 10;
        while !text.is_char_boundary(cut) {
            cut -= 1;
        }
        text.truncate(cut);
    }
    let kind = if json { "application/json; charset=UTF-8" } else { "text/xml; charset=UTF-8" };
    let mut answer = Answer::new(200, kind, text).with_header("Cache-Control", "no-cache");
    answer.delay_ms = traps.slow;
    answer
}

/// The entries from a position on; a position below a category is dotted, such as `3.1`.
fn from(entries: Vec<Entry>, start: &str) -> impl Iterator<Item = Entry> {
    let numbers = |text: &str| text.split('.').map(|n| n.trim().parse().unwrap_or(1)).collect::<Vec<u64>>();
    let wanted = numbers(start);
    entries.into_iter().skip_while(move |entry| numbers(&entry.position) < wanted)
}

/// The directory's documents in the columns of a view, and whether it is categorised by the first one.
fn directory_view(
    cluster: &Cluster,
    server: &SimulatedServer,
    traps: &DirectoryTraps,
    view: &str,
) -> Option<(Vec<Document>, bool)> {
    let existing = cluster.copies();
    let mut copies: Vec<DatabaseCopy> = (0..server.new_documents.load(Relaxed))
        .map(|n| DatabaseCopy {
            server: 0,
            path: format!("aaa/new{n:04}.nsf"),
            replica_id: format!("C1259999{n:08X}"),
            title: format!("New {n}"),
            mark: "in_service".to_owned(),
            login: false,
            document: 0x40000 + n,
        })
        .collect();
    copies.extend(existing.copies.iter().cloned());
    copies.truncate(copies.len() * traps.keep_percent.min(100) / 100);
    if traps.empty {
        copies.clear();
    }
    if traps.duplicates {
        let twin = |c: DatabaseCopy| [DatabaseCopy { document: c.document + 0x80000, ..c.clone() }, c];
        copies = copies.into_iter().flat_map(twin).collect();
    }
    let by_replica = matches!(view, "($replicaid)" | "databases by replica id" | "replicaid");
    if by_replica {
        copies.sort_by_key(|c| (c.replica_id.clone(), c.server));
    }
    // The visible ones as the template of the directory describes them.
    let names: &[&str] = match view {
        "($pathname)" => &["Pathname", "ServerName", "$2", "ReplicaID"],
        "($replicaid)" => &["ReplicaID", "$1", "ServerName", "Pathname"],
        "databases by replica id" | "replicaid" => &["ReplicaID", "ServerName", "Pathname", "Title"],
        "databases by pathname" | "pathname" => &["Pathname", "ServerName", "ReplicaID"],
        _ => return None,
    };
    let document = |copy: DatabaseCopy| {
        let holder = &cluster.servers[copy.server].name.canonical;
        let value = |name: &str| match name {
            "Pathname" => copy.path.replace('/', "\\"),
            "ServerName" => holder.clone(),
            "ReplicaID" => copy.replica_id.clone(),
            _ => title(&copy.title, traps),
        };
        let mut cells: Vec<Cell> =
            names.iter().enumerate().map(|(i, name)| Cell::text(i, name, &value(name))).collect();
        if cluster.scenario.mark_columns {
            let set = |mark: &str| if copy.mark == mark { "1" } else { "" };
            cells.push(Cell::text(4, "OutOfService", set("out_of_service")));
            cells.push(Cell::text(5, "PendingDelete", set("pending_delete")));
        }
        Document { number: copy.document, cells }
    };
    Some((copies.into_iter().map(document).collect(), !view.starts_with('(')))
}

fn title(title: &str, traps: &DirectoryTraps) -> String {
    let mut title = title.to_owned();
    if traps.invalid_escapes {
        title.push_str(" <internal> !important");
    }
    if traps.surrogates {
        title.push_str(" \u{1F600}");
    }
    title
}

/// The address of a port for cluster traffic, which no browser reaches (RFC 5737).
const CLUSTER_ADDRESS: &str = "192.0.2.1";

/// The Server documents in the columns of the view "ICM Servers".
fn servers(cluster: &Cluster, traps: &DirectoryTraps) -> Vec<Document> {
    let mut documents = Vec::new();
    let mut add = |name: &str, host: &str, address: &str, cluster: &str, ports: [Option<u16>; 2]| {
        let port = |p: Option<u16>, default: u16| p.unwrap_or(default).to_string();
        let status = |p: Option<u16>| if p.is_some() { "1" } else { "2" };
        let cells = vec![
            Cell::text(0, "ServerName", name),
            Cell::text(1, "HostName", host),
            Cell::list(2, "NetAddress", &[CLUSTER_ADDRESS, address]),
            Cell::text(3, "ClusterName", cluster),
            Cell::number(4, "HTTPPort", &port(ports[0], 80)),
            Cell::text(5, "HTTPStatus", status(ports[0])),
            Cell::number(6, "HTTPSPort", &port(ports[1], 443)),
            Cell::text(7, "HTTPSStatus", status(ports[1])),
            Cell::list(8, "Ports", &["CLUSTER", "TCPIP"]),
        ];
        documents.push(Document { number: 0x100 + documents.len() as u32 + 1, cells });
    };
    if !traps.empty {
        for server in &cluster.servers {
            let name = if server.settings().member { &cluster.scenario.cluster } else { "" };
            let ports = [server.ports.http, server.ports.https];
            add(&server.name.canonical, &server.hostname, &server.address.to_string(), name, ports);
        }
        for outsider in &cluster.scenario.outsiders {
            let name = crate::scenario::Name::new(outsider);
            add(&name.canonical, &name.default_hostname(), "127.0.0.1", "", [Some(80), Some(443)]);
        }
    }
    documents
}

/// The Web Site Rule documents in the columns of the view "ICM Web Rules".
fn site_rules(cluster: &Cluster) -> Vec<Document> {
    let rules = cluster.scenario.site_rules.iter().zip(0x300..);
    let document = |(rule, number): (&crate::scenario::WebRule, u32)| {
        let hosts: Vec<&str> = rule.hosts.iter().map(String::as_str).collect();
        let cells = vec![
            Cell::text(0, "RuleType", &rule.kind),
            Cell::text(1, "Incoming", &rule.incoming),
            Cell::text(2, "Replacement", &rule.replacement),
            Cell::list(3, "Hosts", &hosts),
        ];
        Document { number, cells }
    };
    rules.map(document).collect()
}

fn entry(document: Document, position: String, siblings: usize) -> Entry {
    Entry {
        position,
        unid: Some(format!("E86886A81087A25805258E4F{:08X}", 0x0050_2000 + document.number)),
        noteid: format!("{:X}", 0x8F6 + document.number * 4),
        children: None,
        siblings,
        cells: document.cells,
    }
}

fn flat(documents: Vec<Document>) -> (Vec<Entry>, usize) {
    let n = documents.len();
    let entries = documents.into_iter().enumerate().map(|(i, d)| entry(d, (i + 1).to_string(), n)).collect();
    (entries, n)
}

/// Groups the documents by their first column; without `ExpandView` only the categories are returned.
fn categorise(documents: Vec<Document>, expand: bool, only: Option<&str>) -> (Vec<Entry>, usize) {
    let mut groups: Vec<(Cell, Vec<Document>)> = Vec::new();
    for mut document in documents {
        let mut first = document.cells.remove(0);
        first.category = true;
        match groups.iter_mut().find(|(cell, _)| cell.value == first.value) {
            Some((_, documents)) => documents.push(document),
            None => groups.push((first, vec![document])),
        }
    }
    if let Some(only) = only {
        groups.retain(|(cell, _)| cell.is(only));
        let (documents, _): (Vec<_>, Vec<Cell>) = groups.into_iter().map(|(cell, d)| (d, cell)).unzip();
        return flat(documents.into_iter().flatten().collect());
    }
    let top = groups.len();
    let mut entries = Vec::new();
    for (i, (cell, documents)) in groups.into_iter().enumerate() {
        let children = documents.len();
        entries.push(Entry {
            position: (i + 1).to_string(),
            unid: None,
            noteid: format!("{:X}", 0x8000_0000_u32 + (i as u32 + 1) * 4),
            children: Some(children),
            siblings: top,
            cells: vec![cell],
        });
        if expand {
            let rows = documents.into_iter().enumerate();
            entries.extend(rows.map(|(j, d)| entry(d, format!("{}.{}", i + 1, j + 1), children)));
        }
    }
    (entries, top)
}
