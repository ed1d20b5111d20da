//! The user's own last write to the requested database: on which server it is, which replicas have it, and whether the
//! user must be told before an older one is shown. `explain` shares it.

use std::time::Duration;

use http::{HeaderMap, Method, header};
use percent_encoding::{CONTROLS, percent_encode};
use pingora_http::RequestHeader;

use super::route_context::RouteContext;
use super::routed::{LastWrite, Routed, RoutedDatabase};
use crate::config::settings::{AfterWrite, Mode};
use crate::domain::affinity::WriteStamps;
use crate::domain::cluster::availability::RequestClass;
use crate::domain::freshness;
use crate::domain::select::{Candidate, OwnWrite, ServerId};
use crate::domain::url::RequestSafety;
use crate::pages::{self, Problem};
use crate::state::{Cluster, ClusterView};
use crate::util::clock;

/// The last write to the database of the URL, if its server is still in the cluster.
pub(super) fn find(
    context: &RouteContext<'_>,
    database: &RoutedDatabase,
    class: RequestSafety,
    stamps: &WriteStamps,
) -> Option<LastWrite> {
    if stamps.is_empty() || context.cluster.settings.mode == Mode::Redirect {
        return None;
    }
    let stamp = stamps.for_database(database.tag?)?;
    let server = context.view.server_by_tag(stamp.server)?;
    let time = context.view.server(server)?.server.date_offset.to_ours(i64::from(stamp.time));
    Some(LastWrite {
        server,
        unix_ms: u64::try_from(time).unwrap_or(0).saturating_mul(1_000),
        told: stamp.told,
        may_move: may_move(&context.head.method, class, database),
    })
}

/// Whether a request may lead its user to another server that works: a form belongs to the server that showed it, and a
/// NoteID means another document in another replica.
pub(super) fn may_move(method: &Method, class: RequestSafety, database: &RoutedDatabase) -> bool {
    matches!(*method, Method::GET | Method::HEAD) && class == RequestSafety::Safe && !database.note_id
}

/// Adds what is known about the write to the candidates.
pub(super) fn compare(routed: &Routed, candidates: &mut [Candidate]) {
    let Some(write) = &routed.affinity.last_write else { return };
    for candidate in candidates {
        candidate.freshness.own_write = on_server(routed, write, candidate.server);
    }
}

/// Whether the replica on a server has the write.
#[must_use]
pub fn on_server(routed: &Routed, write: &LastWrite, server: ServerId) -> OwnWrite {
    look_up(&routed.cluster, &routed.view, &routed.database, write, server)
}

fn look_up(
    cluster: &Cluster,
    view: &ClusterView,
    database: &RoutedDatabase,
    write: &LastWrite,
    server: ServerId,
) -> OwnWrite {
    if server == write.server {
        return OwnWrite::Included;
    }
    let tag = |server| view.server(server).map(|entry| entry.server.tag());
    let (Some(found), Some(writer), Some(of)) = (&database.found, tag(write.server), tag(server)) else {
        return OwnWrite::Unknown;
    };
    let table = cluster.persistent_state.freshness.load();
    let Some(table) = table.as_deref() else { return OwnWrite::Unknown };
    let replicas = table.replicas(view.directory.index.database(found.database).replica_id());
    let slack = clock::saturating_millis(cluster.settings.freshness.slack);
    freshness::own_write(replicas, writer, of, write.unix_ms, slack)
}

/// Whether a user may fail back to a server although another one took the last write: if the replica there is not surely
/// older, and replication has had `wait` for it. A time that is new enough may come from another user's change.
pub(super) fn allows_fail_back(
    context: &RouteContext<'_>,
    database: &RoutedDatabase,
    write: &LastWrite,
    former: ServerId,
    wait: Duration,
) -> bool {
    let wait = wait.max(context.cluster.settings.freshness.behind_after);
    clock::unix_ms().saturating_sub(write.unix_ms) >= clock::saturating_millis(wait)
        && look_up(context.cluster, context.view, database, write, former) != OwnWrite::Missing
}

/// The page for a user who is about to see a replica that is surely older than the own last write. Each write has it
/// once.
pub(super) fn page(
    routed: &Routed,
    request: &RequestHeader,
    server: ServerId,
    tried: &[ServerId],
) -> Option<Problem> {
    let write = routed.affinity.last_write.as_ref()?;
    (tells_about(routed, write, server, tried) && is_navigation(&request.headers, &request.method))
        .then(|| problem(routed, write, request.raw_path(), tried))
}

/// Whether a browser that navigates gets the page before an answer of this server.
#[must_use]
pub fn tells_about(routed: &Routed, write: &LastWrite, server: ServerId, tried: &[ServerId]) -> bool {
    routed.cluster.settings.freshness.after_write == AfterWrite::Tell
        && !write.told
        && routed.class != RequestSafety::Unsafe
        && routed.request_class != RequestClass::Resource
        // A request that may not move its user goes to an older replica although the server works.
        && (write.may_move || !answers(routed, write, tried))
        && on_server(routed, write, server) == OwnWrite::Missing
}

/// Whether the server that took the write answers, even if it does not take this user.
fn answers(routed: &Routed, write: &LastWrite, tried: &[ServerId]) -> bool {
    let is_up = |server| routed.view.server(server).is_some_and(|e| e.server.snapshot().is_up(routed.port));
    !tried.contains(&write.server) && is_up(write.server) && routed.rehearsed_server() != Some(write.server)
}

/// Whether a person reads the answer: no script, no embedded content, no part of a download.
fn is_navigation(headers: &HeaderMap, method: &Method) -> bool {
    let field = |name: &str| headers.get(name).map(|value| value.as_bytes());
    let accept = field("accept");
    let names_html = |accept: &[u8]| accept.to_ascii_lowercase().windows(9).any(|part| part == b"text/html");
    *method == Method::GET
        && accept.is_some_and(names_html)
        && pages::is_html_preferred(accept)
        && matches!(field("sec-fetch-mode"), None | Some(b"navigate"))
        && matches!(field("sec-fetch-dest"), None | Some(b"document" | b"iframe" | b"frame"))
        && !headers.contains_key("x-requested-with")
        && !headers.contains_key(header::RANGE)
}

fn problem(routed: &Routed, write: &LastWrite, target: &[u8], tried: &[ServerId]) -> Problem {
    let database = routed.database.found.as_ref().map(|found| {
        let database = routed.view.directory.index.database(found.database);
        if database.title().is_empty() { database.path() } else { database.title() }.to_owned()
    });
    Problem::OlderThanOwnWrite {
        database: database.unwrap_or_else(|| routed.public_path(target)),
        unix_secs: write.unix_ms / 1_000,
        server_answers: answers(routed, write, tried),
        link: percent_encode(target, CONTROLS).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn navigates(method: &Method, fields: &[(&'static str, &'static str)]) -> bool {
        let headers = fields.iter().map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap())).collect();
        is_navigation(&headers, method)
    }

    const HTML: (&str, &str) = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");

    #[test]
    fn a_page_in_a_window_or_frame_is_a_navigation() {
        assert!(navigates(&Method::GET, &[HTML]), "no Sec-Fetch without TLS");
        assert!(navigates(&Method::GET, &[("accept", "Text/HTML")]));
        for dest in ["document", "iframe", "frame"] {
            assert!(navigates(
                &Method::GET,
                &[HTML, ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", dest)]
            ));
        }
    }

    #[test]
    fn scripts_downloads_and_embedded_content_are_no_navigations() {
        assert!(!navigates(&Method::POST, &[HTML]) && !navigates(&Method::HEAD, &[HTML]));
        assert!(!navigates(&Method::GET, &[]));
        for accept in ["*/*", "application/json", "application/json, text/html;q=0.5", "image/webp,*/*"] {
            assert!(!navigates(&Method::GET, &[("accept", accept)]), "{accept}");
        }
        for field in [
            ("sec-fetch-mode", "cors"),
            ("sec-fetch-mode", "no-cors"),
            ("sec-fetch-dest", "script"),
            ("sec-fetch-dest", "empty"),
            ("x-requested-with", "XMLHttpRequest"),
            ("range", "bytes=0-9"),
        ] {
            assert!(!navigates(&Method::GET, &[HTML, field]), "{field:?}");
        }
    }
}
