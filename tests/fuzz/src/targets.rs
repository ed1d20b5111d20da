//! One function for each fuzz target, which feeds bytes to a parser and asserts properties of the result.
//!
//! libFuzzer calls them with generated input, and `tests/integration/fuzz_corpus.rs` with the corpus.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use domino_icm::config::settings::ViewFormat;
use domino_icm::config::{Content, Files, load_with};
use domino_icm::discovery::availability::{
    ParseError, ParsedReport, agent_check as agent, companion as agent_document, console, prometheus,
    statpub as push,
};
use domino_icm::discovery::domino::view_entries::{self, Categories, MAX_COLUMNS, MAX_ROWS, MAX_VALUES};
use domino_icm::domain::affinity::cookie::strip_quotes;
use domino_icm::domain::affinity::session_cookies::{CookieKind, cookie_pairs};
use domino_icm::domain::affinity::{AffinityEntries, CookieClassifier, CookieKeys, entries::MAX_ENTRIES};
use domino_icm::domain::cluster::ServerName;
use domino_icm::domain::directory::{
    FoldBuffer, ReplicaId, fold_plain_path, fold_url_path, percent_encode_path,
};
use domino_icm::domain::url::{self, UnsafeCommands};
use domino_icm::edge::proxy_protocol as proxy_header;
use domino_icm::insight::import as other_proxies;

#[path = "gate.rs"]
mod gate_streams;
pub use gate_streams::gate;
#[path = "http2.rs"]
mod http2_streams;
pub use http2_streams::http2;
#[path = "response.rs"]
mod response_streams;
pub use response_streams::response;

/// The name of a target in `corpus/` and on the command line, and its function.
pub type Target = (&'static str, fn(&[u8]));

pub const ALL: [Target; 14] = [
    ("config", config),
    ("url", url),
    ("cookies", cookies),
    ("view_entries_xml", view_entries_xml),
    ("view_entries_json", view_entries_json),
    ("statistics", statistics),
    ("agent_check", agent_check),
    ("statpub", statpub),
    ("companion", companion),
    ("gate", gate),
    ("http2", http2),
    ("proxy_protocol", proxy_protocol),
    ("response", response),
    ("import", import),
];

/// The PROXY header of a proxy in front: it ends at the same byte however much of it has arrived, and a whole one names a
/// client, nobody, or is refused.
pub fn proxy_protocol(data: &[u8]) {
    let whole = proxy_header::header_length(data);
    for end in 0..data.len() {
        match (proxy_header::header_length(&data[..end]), &whole) {
            (Ok(None), _) | (Err(_), Err(_)) => {}
            (Ok(Some(early)), Ok(Some(length))) => assert_eq!(early, *length),
            (early, _) => panic!("{early:?} after {end} bytes, then {whole:?}"),
        }
    }
    if let Ok(Some(length)) = whole
        && let Some(header) = data.get(..length)
    {
        let _ = proxy_header::client_address(header);
    }
}

/// A machine on which every file is a secret and every name resolves.
struct FakeMachine;

impl Files for FakeMachine {
    fn read(&self, _: &Path, _: u64) -> io::Result<Content> {
        Ok(Content { bytes: b"0123456789abcdef0123456789abcdef\n".to_vec(), mode: 0o600 })
    }

    fn is_dir(&self, _: &Path) -> bool {
        true
    }

    fn resolve(&self, _: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))])
    }
}

/// A configuration file loads, or every error has a position that exists.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match load_with(Path::new("icm.yaml"), text, &FakeMachine) {
        Ok(loaded) => {
            assert!(!loaded.settings.listeners.is_empty());
            assert!(!loaded.settings.clusters.is_empty() || loaded.settings.follow.is_some());
        }
        Err(errors) => {
            assert!(!errors.0.is_empty());
            let lines = text.split(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count();
            for error in &errors.0 {
                assert!(error.line <= lines + 1, "line {} of {lines}: {error}", error.line);
                assert!(!error.message.is_empty());
                assert!(!error.to_string().is_empty());
            }
        }
    }
}

/// A directory with one file, which includes itself under every name.
struct OneFile<'a>(&'a str);

impl other_proxies::ImportFiles for OneFile<'_> {
    fn read(&self, _: &Path) -> io::Result<String> {
        Ok(self.0.to_owned())
    }

    fn list(&self, _: &Path) -> io::Result<Vec<String>> {
        Ok(vec!["a.conf".to_owned(), "b.conf".to_owned()])
    }

    fn real_path(&self, path: &Path) -> io::Result<std::path::PathBuf> {
        Ok(path.to_owned())
    }
}

/// A configuration of nginx or HAProxy: what is written is YAML of `icm`, and no item of the list breaks a line.
pub fn import(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for format in [other_proxies::ImportFormat::Nginx, other_proxies::ImportFormat::Haproxy] {
        let Ok(imported) = other_proxies::import(Path::new("/etc/x/a.conf"), Some(format), &OneFile(text))
        else {
            continue;
        };
        assert!(
            imported.items.iter().all(|item| !item.directive.contains('\n') && !item.text.contains('\n'))
        );
        if let Err(errors) = load_with(Path::new("icm.yaml"), &imported.yaml, &FakeMachine) {
            // An error without a key is about the text as YAML.
            assert!(errors.0.iter().all(|error| !error.key.is_empty()), "{errors}\n{}", imported.yaml);
        }
    }
}

/// A request target, a path, a replica ID, a server's name: parts are slices of the input, and printed values parse to
/// the same value.
pub fn url(data: &[u8]) {
    let target = url::parse(data);
    assert_eq!(target.path, &data[..target.path.len()]);
    match target.query {
        Some(query) => {
            assert!(matches!(data[target.path.len()], b'?' | b'!'));
            assert_eq!(query, &data[target.path.len() + 1..]);
        }
        None => assert_eq!(target.path.len(), data.len()),
    }
    if let Some(database) = &target.database {
        assert_eq!(database.raw, &data[database.range.clone()]);
        assert!(database.range.end <= target.path.len());
        let mut buffer = FoldBuffer::default();
        let folded = fold_url_path(database.raw, &mut buffer);
        assert!(!folded.contains(&b'\\'));
    }
    if let Some(value) = target.argument(b"RedirectTo") {
        assert!(value.len() <= data.len());
    }
    let _ = UnsafeCommands::default().classify(&target);
    if let Some((host, path)) = url::split_absolute_url(data) {
        assert!(!host.is_empty() && !host.contains(&b'@') && !path.is_empty());
        assert!(host.len() + path.len() <= data.len());
    }
    if let Some(id) = ReplicaId::from_bytes(data) {
        assert_eq!(ReplicaId::parse(&id.to_string()).ok(), Some(id));
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (mut plain, mut encoded) = (FoldBuffer::default(), FoldBuffer::default());
    let percent_encoded = percent_encode_path(text);
    assert!(percent_encoded.bytes().all(|o| (0x21..0x7F).contains(&o) && !matches!(o, b'?' | b'#' | b'!')));
    assert_eq!(
        fold_url_path(percent_encoded.as_bytes(), &mut encoded),
        fold_plain_path(data, &mut plain),
        "{percent_encoded}"
    );
    if let Ok(name) = ServerName::parse(text) {
        assert!(!name.common().is_empty());
        assert_eq!(name.folded(), name.abbreviated().to_lowercase());
    }
}

/// The values of the affinity cookie in a Cookie header.
fn affinity_values<'a>(names: &'a CookieClassifier, line: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    cookie_pairs(line)
        .filter(|(name, _)| matches!(names.classify_name(name), CookieKind::Affinity))
        .map(|(_, rest)| strip_quotes(rest.get(1..).unwrap_or_default()))
}

/// A Cookie header and the affinity cookie: a value without a valid signature has no entries, and an encoded value
/// decodes to the same entries.
pub fn cookies(data: &[u8]) {
    const NOW: u32 = 1_800_000_000;
    const IDLE: u32 = 1_800;
    let keys = CookieKeys::new([b"the secret of the fuzz targets".as_slice()]);
    let names = CookieClassifier::new("ICM", &["domauthsessid".to_owned(), "sessionid".to_owned()]);
    for value in affinity_values(&names, data) {
        assert!(value.len() <= data.len());
        // A cookie that was not signed with the key is ignored.
        assert!(keys.decode(value, NOW, IDLE, |tag| tag).is_empty());
    }
    assert!(keys.decode_writes(data, NOW, IDLE, |tag| tag).is_empty());
    assert!(keys.decode_rehearsal(data).is_none());
    let mut entries = AffinityEntries::default();
    for (i, chunk) in data.chunks_exact(4).take(64).enumerate() {
        let [a, b, c, d] = [chunk[0], chunk[1], chunk[2], chunk[3]].map(u32::from);
        entries.record_response(a << 8 | b, c << 8 | d, NOW - 64 + i as u32, IDLE);
    }
    assert!(entries.iter().count() <= MAX_ENTRIES);
    let written = keys.encode(&entries).unwrap();
    let header = format!("a=b; ICM={written}; c=\"d\"");
    let read: Vec<&[u8]> = affinity_values(&names, header.as_bytes()).collect();
    assert_eq!(read, [written.as_bytes()]);
    // A server gets neither the affinity cookie nor the tagged cookies of other servers.
    let line = names.cookie_header_for_tags(std::iter::once(data), &[0x1234_5678], |_| true);
    assert!(line.len() <= data.len() * 2 + 2);
    for (name, _) in cookie_pairs(&line) {
        let meaning = names.classify_name(name);
        assert!(matches!(meaning, CookieKind::Foreign | CookieKind::Untagged { .. }), "{meaning:?}");
    }
    if let Some(isolated) = names.tag_session_cookie(data, 7, b"/sales/leads.nsf/x") {
        let name = isolated.split(|b| *b == b'=').next().unwrap();
        assert!(matches!(names.classify_name(name), CookieKind::Tagged { tag: 7, .. }));
    }
    assert_eq!(keys.decode(read[0], NOW, IDLE, |tag| tag), entries);
    // A cookie with one changed byte is ignored.
    let at = data.first().map_or(0, |o| usize::from(*o) % written.len());
    let mut forged = written.into_bytes();
    forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
    assert!(keys.decode(&forged, NOW, IDLE, |tag| tag).is_empty());
    // No kind of cookie is valid as another.
    assert!(keys.decode_rehearsal(read[0]).is_none());
    assert!(keys.decode_writes(read[0], NOW, IDLE, |tag| tag).is_empty());
}

pub fn view_entries_xml(data: &[u8]) {
    view_entries_in(ViewFormat::Xml, data);
}

pub fn view_entries_json(data: &[u8]) {
    view_entries_in(ViewFormat::Json, data);
}

fn view_entries_in(format: ViewFormat, data: &[u8]) {
    let Ok(page) = view_entries::parse(format, data) else { return };
    assert!(page.rows.len() <= MAX_ROWS);
    let mut bytes = 0;
    for row in &page.rows {
        bytes += row.position.len();
        assert!(row.columns.len() <= MAX_COLUMNS);
        for column in &row.columns {
            bytes += column.name.len();
            assert!(column.values.len() <= MAX_VALUES);
            bytes += column.values.iter().map(String::len).sum::<usize>();
        }
    }
    // The output is at most three times the input, because an invalid byte becomes U+FFFD, which has three bytes.
    assert!(bytes <= 3 * data.len(), "{bytes} bytes from {}", data.len());
    let rows = page.rows.len();
    let mut categories = Categories::default();
    let kept = page.rows.into_iter().filter_map(|row| categories.take(row)).count();
    assert!(kept <= rows);
}

fn check_report(parsed: Result<ParsedReport, ParseError>, data: &[u8]) {
    match parsed {
        Ok(parsed) => {
            assert!(parsed.report.index.is_none_or(|index| index <= 100));
            assert!(parsed.report.threshold.is_none_or(|threshold| threshold <= 100));
            assert!(parsed.warnings.len() <= data.len());
        }
        Err(error) => assert!(error.to_string().len() < 1000, "{error}"),
    }
}

/// The statistics of the console and of the Prometheus exporter.
pub fn statistics(data: &[u8]) {
    check_report(console::parse(data), data);
    check_report(prometheus::parse(data), data);
}

/// A reply on the agent-check port.
pub fn agent_check(data: &[u8]) {
    check_report(agent::parse(data), data);
}

/// The companion's document.
pub fn companion(data: &[u8]) {
    match agent_document::parse(data) {
        Ok(document) => {
            assert!(document.report.index.is_none_or(|index| index <= 100));
            let replicas = document.replicas.as_deref().unwrap_or_default();
            assert!(replicas.len() <= data.len() && document.warnings.len() <= data.len());
            assert!(document.replicas_by_id().len() <= replicas.len());
        }
        Err(error) => assert!(error.to_string().len() < 1000, "{error}"),
    }
}

pub fn statpub(data: &[u8]) {
    check_report(push::parse(data), data);
}
