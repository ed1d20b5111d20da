//! Writes the configuration as text with comments. Pure: everything was read before, and the comments say where.

use super::members::FoundMember;
use super::sources::FoundSource;
use crate::config::settings::Auth;
use crate::util::control_chars;

/// A comment is wrapped at this column.
const MAX_COLUMN: usize = 120;

/// What the file says.
#[derive(Debug)]
pub(super) struct FileContent<'a> {
    /// `on 2026-11-30 18:00 from https://web1.acme.example as ICM Reader/Acme`.
    pub(super) origin: String,
    pub(super) listen: String,
    pub(super) state_dir: Option<String>,
    pub(super) cluster: &'a str,
    /// Where the name of the cluster comes from.
    pub(super) cluster_source: &'a str,
    /// Host names of Web Site documents.
    pub(super) hosts: Vec<String>,
    pub(super) https: bool,
    pub(super) ca_file: Option<String>,
    pub(super) members: &'a [FoundMember],
    /// `None`: the server is in no cluster.
    pub(super) directory: Option<String>,
    pub(super) auth: &'a Auth,
    pub(super) password_file: String,
    pub(super) allow_plaintext: bool,
    pub(super) source: &'a FoundSource,
    pub(super) notes: &'a [String],
}

/// The text of the file.
pub(super) fn render(content: &FileContent<'_>) -> String {
    let mut text = CommentedText::default();
    text.comment(0, &format!("Written by `icm init` {}.", content.origin));
    text.comment(0, "It has only what differs from the defaults; docs/ and conf/full.yaml of domino-icm explain every key.");
    text.blank();
    text.line(0, "listeners:");
    text.comment(2, "For browsers, in plain HTTP. With TLS: docs/certificates.md");
    text.line(2, &format!("- address: {}", address(&content.listen)));
    text.blank();
    match &content.state_dir {
        Some(dir) => text.line(0, &format!("state_dir: {}", scalar(dir))),
        None => {
            text.comment(0, "Without it, restrictions and affinity are lost with a restart:");
            text.comment(0, "state_dir: /var/lib/icm");
        }
    }
    text.blank();
    text.line(0, "clusters:");
    text.comment(2, content.cluster_source);
    text.line(2, &format!("- name: {}", scalar(content.cluster)));
    if content.hosts.is_empty() {
        text.comment(4, "Every Host is served. To serve only some: hostnames: [www.acme.example]");
    } else {
        text.comment(4, "Every Host is served. The Web Site documents have these names:");
        let hosts: Vec<String> = content.hosts.iter().map(|host| scalar(host)).collect();
        text.comment(4, &format!("hostnames: [{}]", hosts.join(", ")));
    }
    if content.https {
        text.line(4, "upstream_scheme: https");
    }
    if let Some(file) = &content.ca_file {
        text.line(4, &format!("upstream_tls: {{ ca_file: {} }}", scalar(file)));
    }
    servers(&mut text, content);
    directory(&mut text, content);
    availability(&mut text, content.source);
    if !content.notes.is_empty() {
        text.blank();
        text.comment(0, "What was seen, what was not found, and what to do:");
        for note in content.notes {
            text.item(note);
        }
    }
    text.out
}

fn servers(text: &mut CommentedText, content: &FileContent<'_>) {
    text.line(4, "servers:");
    text.line(6, "list:");
    let mut console = match content.source {
        FoundSource::ConsoleOfEach(urls) => urls.as_slice(),
        _ => &[],
    }
    .iter();
    let (scheme, other) = if content.https { ("https", "HTTP") } else { ("http", "HTTPS") };
    for member in content.members {
        let name = scalar(member.name.abbreviated());
        let Some(at) = &member.at else {
            let why = member.answer.as_ref().err().map_or("no address was found", String::as_str);
            text.comment(8, &format!("{}: {why}. Fill in its address:", member.name));
            text.comment(8, &format!("- {{ name: {name}, {scheme}: HOST:PORT }}"));
            continue;
        };
        match &member.answer {
            Ok(answer) => text.comment(8, &format!("{}; {answer}", member.source)),
            Err(why) => text.comment(8, &format!("{}; DOES NOT ANSWER: {why}", member.source)),
        }
        text.line(8, &format!("- name: {name}"));
        if !member.hostname.is_empty() && !member.hostname.eq_ignore_ascii_case(&at.host) {
            text.line(10, &format!("hostname: {}", scalar(&member.hostname)));
        }
        text.line(10, &format!("{scheme}: {}", address(&at.to_string())));
        if let Some(at) = &member.other {
            text.comment(10, &format!("Its {other} port is {at}; it is not used."));
        }
        if let Some(url) = console.next() {
            text.line(10, &format!("availability: {{ source: console, url: {} }}", quoted(url)));
        }
    }
}

fn directory(text: &mut CommentedText, content: &FileContent<'_>) {
    let Some(described) = &content.directory else {
        text.comment(4, "The server has no cldbdir.nsf: it is in no cluster, so it gets every request.");
        text.line(4, "directory: { source: static, databases: [] }");
        return;
    };
    text.comment(4, described);
    text.line(4, "directory:");
    text.line(6, "source: cldbdir");
    if let Some(dir) = &content.state_dir {
        text.comment(6, "The last good reading, for a start without any server and for `icm replay`.");
        text.line(6, &format!("cache: {}", scalar(&format!("{dir}/directory.json"))));
    }
    let (kind, user, why) = match content.auth {
        Auth::None => return,
        Auth::Basic { user, .. } => ("basic", user, "The server asks for Basic authentication."),
        Auth::Session { user, .. } => ("session", user, "The server has a login form."),
    };
    text.comment(6, why);
    text.line(6, "auth:");
    let file = scalar(&content.password_file);
    text.line(8, &format!("{kind}: {{ user: {}, password_file: {file} }}", scalar(user)));
    if content.allow_plaintext {
        text.comment(
            8,
            "The password crosses the network in clear text; with HTTPS this line is not needed.",
        );
        text.line(8, "allow_plaintext: true");
    }
}

fn availability(text: &mut CommentedText, source: &FoundSource) {
    let url = |source: &str, url: &str| format!("availability: {{ source: {source}, url: {} }}", quoted(url));
    match source {
        FoundSource::None => {
            text.comment(4, "No source of the servers' load answers at all of them, so it is estimated from response times");
            text.comment(4, "(docs/availability.md has the sources).");
        }
        FoundSource::Companion => text.line(4, "availability: { source: companion }"),
        FoundSource::Prometheus => text.line(4, &url("prometheus", "http://{address}:9100/metrics")),
        FoundSource::Console(one) => text.line(4, &url("console", one)),
        // Each server has its own.
        FoundSource::ConsoleOfEach(_) => {}
    }
}

/// Lines, and comments that a text from a server cannot leave.
#[derive(Default)]
struct CommentedText {
    out: String,
}

impl CommentedText {
    fn blank(&mut self) {
        self.out.push('\n');
    }

    fn line(&mut self, indent: usize, text: &str) {
        self.out.push_str(&format!("{:indent$}{text}\n", ""));
    }

    fn comment(&mut self, indent: usize, text: &str) {
        self.wrapped(indent, "# ", "# ", text);
    }

    fn item(&mut self, text: &str) {
        self.wrapped(0, "# - ", "#   ", text);
    }

    fn wrapped(&mut self, indent: usize, first: &str, next: &str, text: &str) {
        let text = control_chars::escape_all(text);
        let mut line = String::new();
        let mut start = first;
        for word in text.split(' ') {
            let width = indent + start.len() + line.chars().count() + 1 + word.chars().count();
            if !line.is_empty() && width > MAX_COLUMN {
                self.line(indent, &format!("{start}{line}"));
                line.clear();
                start = next;
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        self.line(indent, &format!("{start}{line}"));
    }
}

/// A text as YAML, quoted unless it can mean nothing else.
fn scalar(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | ' ');
    let starts = text.chars().next().is_some_and(|c| c.is_alphabetic() || c == '/');
    let word = text.to_ascii_lowercase();
    let is_word = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"].contains(&word.as_str());
    let is_number = word.starts_with(".") || word == "nan" || word == "inf";
    if starts && !is_word && !is_number && !text.ends_with(' ') && text.chars().all(plain) {
        text.to_owned()
    } else {
        quoted(text)
    }
}

/// In double quotes, with every unusual character escaped: some of them are no characters of YAML.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match (c, u32::from(c)) {
            ('"' | '\\', _) => out.extend(['\\', c]),
            (c, _) if c.is_ascii_graphic() || c == ' ' || c.is_alphanumeric() => out.push(c),
            (_, code @ 0..=0xFFFF) => out.push_str(&format!("\\u{code:04X}")),
            (_, code) => out.push_str(&format!("\\U{code:08X}")),
        }
    }
    out.push('"');
    out
}

/// An address with its port; only the brackets of IPv6 need quotes.
fn address(text: &str) -> String {
    if text.starts_with('[') || text.contains(|c: char| !c.is_ascii_graphic() || c == '#') {
        quoted(text)
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_a_text_that_can_mean_nothing_else_is_written_without_quotes() {
        for plain in ["ICM Reader/Acme", "/etc/icm/password", "Jürgen Groß/Acme", "web1.acme.example"] {
            assert_eq!(scalar(plain), plain);
        }
        for text in ["", "yes", "12", "a: b", "a #b", "- a", "[a]", "a\nb", "~", "1e3", "x\u{2028}y", "a, b"]
        {
            assert!(scalar(text).starts_with('"'), "{text:?}");
        }
    }

    #[test]
    fn a_comment_stays_a_comment_whatever_a_server_says() {
        let mut text = CommentedText::default();
        text.comment(2, "a\nlisteners: []\r\u{2028}b");
        assert_eq!(text.out.lines().count(), 1);
        assert!(text.out.starts_with("  # a\\u000alisteners"), "{}", text.out);
    }

    proptest! {
        #[test]
        fn every_text_is_read_back(text in any::<String>()) {
            let yaml = format!("key: {}\nflow: {{ a: {}, b: 1 }}\n", scalar(&text), scalar(&text));
            let read: serde_yaml::Value = serde_yaml::from_str(&yaml).unwrap();
            prop_assert_eq!(read["key"].as_str(), Some(text.as_str()));
            prop_assert_eq!(read["flow"]["a"].as_str(), Some(text.as_str()));
        }

        #[test]
        fn comments_hold_every_text(text in any::<String>()) {
            let mut out = CommentedText::default();
            out.item(&text);
            prop_assert!(out.out.lines().all(|line| line.starts_with('#')));
        }
    }
}
