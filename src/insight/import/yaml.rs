//! Writes the model as a commented `icm.yaml`. Each value has the line that it comes from, and what only the administrator
//! knows is a line with TODO.

use super::directive::SourceLine;
use super::model::{
    ImportModel, ImportedCluster, ImportedListener, ImportedMatch, ImportedRoute, ImportedRule,
    ImportedServer, KeySet,
};
use super::scalar::{self, scalar};

/// A line of the file, and whether the file is still complete without it.
#[derive(Clone, Debug)]
pub(crate) struct YamlLine {
    pub indent: usize,
    pub text: String,
    pub at: Option<SourceLine>,
}

/// The lines of a file that is being written.
#[derive(Debug, Default)]
pub(crate) struct YamlLines(pub Vec<YamlLine>);

/// Comments behind values begin here, if the line is short enough.
const COMMENT_COLUMN: usize = 64;

impl YamlLines {
    fn line(&mut self, indent: usize, text: impl Into<String>) {
        self.0.push(YamlLine { indent, text: text.into(), at: None });
    }

    fn valued(&mut self, indent: usize, text: impl Into<String>, at: &SourceLine) {
        self.0.push(YamlLine { indent, text: text.into(), at: Some(at.clone()) });
    }

    /// The text of the file, with the origins as comments.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for line in &self.0 {
            let start = format!("{:indent$}{}", "", line.text, indent = line.indent);
            match &line.at {
                Some(at) => {
                    let width = COMMENT_COLUMN.max(start.chars().count() + 2);
                    text.push_str(&format!("{start:width$}# {at}"));
                }
                None => text.push_str(start.trim_end()),
            }
            text.push('\n');
        }
        text
    }
}

/// The lines of `listeners`, `clusters` and the other sections.
pub(crate) fn lines(model: &ImportModel, program: &str) -> YamlLines {
    let mut out = YamlLines::default();
    out.line(0, "listeners:");
    for listener in &model.listeners {
        write_listener(&mut out, listener);
    }
    out.line(0, "");
    write_keys(&mut out, 0, &model.global, 0);
    if !model.global.0.is_empty() {
        out.line(0, "");
    }
    out.line(0, "# TODO: a directory that the user of icm may write; it keeps restrictions and the key of the affinity cookie.");
    out.line(0, "# state_dir: /var/lib/icm");
    out.line(0, "");
    out.line(0, "clusters:");
    for cluster in &model.clusters {
        let mut own = YamlLines::default();
        write_cluster(&mut own, cluster, program);
        if cluster.commented_out.is_empty() {
            out.0.append(&mut own.0);
            continue;
        }
        out.line(2, format!("# {}", cluster.commented_out));
        for line in own.text().lines() {
            out.line(0, format!("#{line}"));
        }
    }
    out
}

fn write_listener(out: &mut YamlLines, listener: &ImportedListener) {
    out.valued(2, format!("- address: {}", scalar(&listener.address)), &listener.at);
    if let Some(at) = &listener.redirect_to_https {
        out.valued(4, "redirect_to_https: true", at);
    }
    if listener.wants_proxy_protocol {
        out.line(4, "# TODO: the addresses of the proxies in front that send the PROXY protocol; icm accepts it from no others.");
        out.line(4, "# proxy_protocol: { from: [10.0.0.5] }");
    }
    let (tls, plain): (Vec<_>, Vec<_>) =
        listener.keys.0.iter().cloned().partition(|(path, _)| path.first().is_some_and(|key| key == "tls"));
    write_keys(out, 4, &KeySet(plain), 0);
    if !listener.has_tls {
        return;
    }
    out.line(4, "tls:");
    out.line(6, "certificates:");
    for certificate in &listener.certificates {
        let (cert, key) = (scalar(&certificate.cert), scalar(&certificate.key));
        out.valued(8, format!("- {{ cert: {cert}, key: {key} }}"), &certificate.at);
    }
    if listener.certificates.is_empty() {
        out.line(8, "# TODO: the certificate of this listener");
        out.line(8, "- { cert: /etc/icm/tls/icm.pem, key: /etc/icm/tls/icm.key }");
    }
    write_keys(out, 6, &KeySet(tls), 1);
}

/// Keys as nested maps; `depth` parts of each path are written already.
fn write_keys(out: &mut YamlLines, indent: usize, keys: &KeySet, depth: usize) {
    let mut done: Vec<&str> = Vec::new();
    for (path, _) in &keys.0 {
        let Some(first) = path.get(depth) else { continue };
        if done.contains(&&**first) {
            continue;
        }
        done.push(first);
        let below: Vec<_> =
            keys.0.iter().filter(|(other, _)| other.get(depth) == Some(first)).cloned().collect();
        match below.iter().find(|(path, _)| path.len() == depth + 1) {
            Some((_, value)) => out.valued(indent, format!("{}: {}", scalar(first), value.text()), &value.at),
            None => {
                out.line(indent, format!("{}:", scalar(first)));
                write_keys(out, indent + 2, &KeySet(below), depth + 1);
            }
        }
    }
}

fn write_cluster(out: &mut YamlLines, cluster: &ImportedCluster, program: &str) {
    out.line(2, "# TODO: the name of the Domino cluster; here it is that of the configuration that was read");
    out.valued(2, format!("- name: {}", scalar(&cluster.name)), &cluster.at);
    if cluster.hostnames.is_empty() {
        out.line(4, "# no hostnames: it serves all names that no other cluster has");
    } else {
        out.line(4, format!("hostnames: {}", scalar::list(&cluster.hostnames)));
    }
    if cluster.scheme != "http" {
        out.line(4, format!("upstream_scheme: {}", cluster.scheme));
    }
    out.line(4, "servers:");
    out.line(6, "list:");
    out.line(8, "# TODO: write the names of the Domino servers, such as Web1/Acme (in `show server`), in place of host names");
    write_servers(out, 8, &cluster.servers, cluster.scheme);
    for text in [
        "# TODO: once the names are those of Domino, let icm read which server holds which database (docs/directory.md):".to_owned(),
        "#   directory:".to_owned(),
        "#     source: cldbdir".to_owned(),
        "#     auth: { basic: { user: ICM Reader/Acme, password_file: /etc/icm/password } }".to_owned(),
        format!("# Until then every server may get every request, as with {program}."),
    ] {
        out.line(4, text);
    }
    out.line(4, "directory: { source: static, databases: [] }");
    write_keys(out, 4, &cluster.keys, 0);
    if !cluster.pools.is_empty() {
        out.line(4, "pools:");
    }
    for pool in &cluster.pools {
        out.valued(6, format!("- name: {}", scalar(&pool.name)), &pool.at);
        if pool.scheme != "http" {
            out.line(8, format!("upstream_scheme: {}", pool.scheme));
        }
        out.line(8, "servers:");
        out.line(10, "list:");
        write_servers(out, 12, &pool.servers, pool.scheme);
        write_keys(out, 8, &pool.keys, 0);
    }
    if !cluster.routes.is_empty() {
        out.line(4, "routes:");
    }
    for route in &cluster.routes {
        write_route(out, route);
    }
    write_access(out, &cluster.access);
}

fn write_servers(out: &mut YamlLines, indent: usize, servers: &[ImportedServer], scheme: &str) {
    for server in servers {
        let (name, address) = (scalar(&server.name), scalar(&server.address));
        if server.keys.0.is_empty() {
            out.valued(indent, format!("- {{ name: {name}, {scheme}: {address} }}"), &server.at);
            continue;
        }
        out.valued(indent, format!("- name: {name}"), &server.at);
        out.line(indent + 2, format!("{scheme}: {address}"));
        write_keys(out, indent + 2, &server.keys, 0);
    }
}

fn write_route(out: &mut YamlLines, route: &ImportedRoute) {
    let condition = if route.condition.is_everything() { "all".to_owned() } else { route.condition.flow() };
    out.valued(6, format!("- match: {condition}"), &route.at);
    write_keys(out, 8, &route.keys, 0);
}

fn write_access(out: &mut YamlLines, rules: &[ImportedRule]) {
    if rules.is_empty() {
        out.line(
            4,
            "# TODO: close what nobody outside needs, such as the views of names.nsf (docs/close.md):",
        );
        out.line(4, "# access: domino_baseline");
        return;
    }
    out.line(4, "# `domino_baseline` in this list also closes what nobody outside needs (docs/close.md)");
    out.line(4, "access:");
    for rule in rules {
        let condition = ImportedMatch::flow(&rule.condition);
        let effect = if rule.allow { "allow" } else { "deny" };
        out.valued(6, format!("- {effect}: {condition}"), &rule.at);
        if !rule.allow && rule.status != 403 {
            out.line(8, format!("status: {}", rule.status));
        }
    }
}
