//! A `server` block of nginx: its names, its locations, and where it sends what no other location takes.

use super::super::directive::Directive;
use super::super::report::ImportReport;
use super::{Context, to_https};

/// How a location is compared with the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LocationKind {
    Exact,
    Prefix,
    /// `^~`: no regular expression is tried after it.
    FinalPrefix,
    Regex,
    /// `@name`, to which only other directives lead.
    Named,
}

/// A location of nginx, also one inside another location.
#[derive(Clone, Copy, Debug)]
pub(super) struct NginxLocation<'a> {
    pub d: &'a Directive,
    pub kind: LocationKind,
    pub path: &'a str,
    /// The location whose `allow` and `deny` hold here: itself, or the next one around it that has any.
    pub rules: Option<&'a Directive>,
}

/// The servers to which `proxy_pass` leads.
#[derive(Clone, Debug)]
pub(super) struct ProxyTarget<'a> {
    pub d: &'a Directive,
    pub is_https: bool,
    /// A host with its port, or the name of an `upstream`.
    pub authority: String,
    /// The path that replaces that of the location; empty without one.
    pub uri: String,
}

/// A `server` block with what is known about it.
#[derive(Clone, Debug)]
pub(super) struct ServerBlock<'a> {
    pub d: &'a Directive,
    /// None: it serves all names.
    pub names: Vec<String>,
    pub locations: Vec<NginxLocation<'a>>,
    /// The location whose settings are those of the cluster.
    pub main: Option<&'a Directive>,
    pub target: Option<ProxyTarget<'a>>,
    /// Whether it answers everything with a redirect to https.
    pub to_https: bool,
}

impl<'a> ServerBlock<'a> {
    pub fn read(d: &'a Directive, context: &mut Context<'a>) -> Self {
        let names = names(d, context.report);
        let mut locations = Vec::new();
        collect(d, None, &mut locations);
        let to_https = to_https::is_to_https(d, &names, context.report);
        let mut block = Self { d, names, locations, main: None, target: None, to_https };
        if !to_https {
            block.find_target(context.report);
        }
        block
    }

    fn find_target(&mut self, report: &mut ImportReport) {
        let targets: Vec<_> =
            self.locations.iter().filter_map(|l| Some((*l, target(l.d).ok().flatten()?))).collect();
        let root = self.locations.iter().find(|l| l.path == "/" && l.kind != LocationKind::Exact);
        let fallback = root.and_then(|root| {
            let named = |d: &&Directive| matches!(&*d.name, "try_files" | "error_page");
            let name = root.d.body().iter().find(named)?.args.last()?.strip_prefix('@')?;
            targets.iter().find(|(l, _)| l.kind == LocationKind::Named && l.path == name)
        });
        let of_root = root.and_then(|root| targets.iter().find(|(l, _)| l.d.id == root.d.id));
        let first = || {
            let found =
                targets.iter().find(|(l, _)| l.kind != LocationKind::Named).or_else(|| targets.first());
            found.inspect(|(l, _)| {
                report.cannot(
                    self.d,
                    "no `location /` leads to servers; nginx answers other paths itself, icm sends them to these servers",
                    "close paths with `access`, or write routes for them",
                );
                report.taken(l.d, "clusters");
            })
        };
        let Some((location, target)) = of_root.or(fallback).or_else(first) else { return };
        report.taken(self.d, "clusters");
        report.taken(location.d, "clusters");
        report.taken(target.d, "clusters[].servers");
        self.main = Some(location.d);
        self.target = Some(target.clone());
    }

    /// Directives of the block by their name.
    pub fn named(&self, name: &str) -> impl Iterator<Item = &'a Directive> {
        let body: &'a [Directive] = self.d.body();
        let name = name.to_owned();
        body.iter().filter(move |d| d.name == name)
    }
}

fn collect<'a>(d: &'a Directive, outer: Option<&'a Directive>, locations: &mut Vec<NginxLocation<'a>>) {
    for inner in d.body().iter().filter(|d| d.name == "location") {
        let (kind, path) = match (inner.arg(0), inner.arg(1)) {
            ("=", path) => (LocationKind::Exact, path),
            ("^~", path) => (LocationKind::FinalPrefix, path),
            ("~" | "~*", path) => (LocationKind::Regex, path),
            (name, _) if name.starts_with('@') => (LocationKind::Named, name.trim_start_matches('@')),
            (path, _) if path.starts_with('=') => (LocationKind::Exact, path.trim_start_matches('=')),
            (path, _) => (LocationKind::Prefix, path),
        };
        let has_rules = inner.body().iter().any(|d| matches!(&*d.name, "allow" | "deny"));
        let rules = if has_rules { Some(inner) } else { outer };
        locations.push(NginxLocation { d: inner, kind, path, rules });
        collect(inner, rules, locations);
    }
}

/// The host names of a block; none if it serves all.
fn names(d: &Directive, report: &mut ImportReport) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let mut serves_all = false;
    for server_name in d.body().iter().filter(|d| d.name == "server_name") {
        for name in &server_name.args {
            let name = name.to_ascii_lowercase();
            let name = name.trim_end_matches('.');
            let is_host = |name: &str| crate::util::host::is_dns_name(name);
            match name {
                "_" | "" | "localhost" => serves_all |= name == "_",
                _ if name.starts_with('~') || name.contains('$') => {
                    report.cannot(
                        server_name,
                        "host names are no regular expressions in icm",
                        "list them in `hostnames`",
                    );
                }
                _ if is_host(name.trim_start_matches("*.").trim_start_matches('.')) => {
                    let all = match name.strip_prefix('.') {
                        Some(bare) => vec![bare.to_owned(), format!("*.{bare}")],
                        None => vec![name.to_owned()],
                    };
                    names.extend(all);
                }
                _ if name.parse::<std::net::IpAddr>().is_ok() => names.push(name.to_owned()),
                _ => report.cannot(
                    server_name,
                    "`*` stands only for the first part of a name in icm",
                    "list the names in `hostnames`",
                ),
            }
        }
        report.taken(server_name, "clusters[].hostnames");
    }
    names.dedup();
    if serves_all { Vec::new() } else { names }
}

/// The target of `proxy_pass` in a location; `Ok(None)` if it has none.
///
/// # Errors
/// The directive and why it leads to no cluster.
pub(super) fn target(location: &Directive) -> Result<Option<ProxyTarget<'_>>, (&Directive, &'static str)> {
    let Some(d) = location.body().iter().find(|d| d.name == "proxy_pass") else { return Ok(None) };
    let url = d.arg(0);
    if url.contains('$') {
        return Err((d, "its target is a variable"));
    }
    let (is_https, rest) = match url.split_once("://") {
        Some(("http", rest)) => (false, rest),
        Some(("https", rest)) => (true, rest),
        _ => return Err((d, "its target is no URL with http or https")),
    };
    if rest.starts_with("unix:") {
        return Err((d, "icm does not connect to Unix sockets"));
    }
    let (authority, uri) = match rest.find('/').and_then(|at| rest.split_at_checked(at)) {
        Some((authority, uri)) => (authority, uri),
        None => (rest, ""),
    };
    if authority.is_empty() {
        return Err((d, "its target has no host"));
    }
    Ok(Some(ProxyTarget { d, is_https, authority: authority.to_ascii_lowercase(), uri: uri.to_owned() }))
}
