//! The simulated server's parser of Domino URLs. It follows Domino's rules and shares no code with `icm`.

/// A parsed request target.
#[derive(Clone, Debug, Default)]
pub struct Url {
    /// As received, without scheme and host, before `?` or `!`.
    pub raw_path: String,
    /// Decoded, with backslashes replaced by slashes.
    pub path: String,
    /// After `?` or `!`, as received.
    pub query: String,
    /// First word of the query, such as `OpenDocument`.
    pub command: String,
    /// Decoded arguments, including a first word of the form `k=v`.
    pub arguments: Vec<(String, String)>,
    /// Decoded path up to and including the database's name, without leading slash.
    pub database: Option<String>,
    /// The raw path after the database, with its slash.
    pub raw_rest: String,
    /// The decoded path after the database, without its slash.
    pub rest: String,
}

/// Percent-decodes text; for Domino `+` is a space in paths as well.
pub fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let hex = |at: usize| bytes.get(at).and_then(|b| (*b as char).to_digit(16));
        match (bytes[i], hex(i + 1), hex(i + 2)) {
            (b'%', Some(a), Some(b)) => {
                out.push((a * 16 + b) as u8);
                i += 2;
            }
            (b'+', ..) => out.push(b' '),
            (other, ..) => out.push(other),
        }
        i += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Percent-encodes a path as Domino does.
pub fn encode(path: &str) -> String {
    let mut out = String::new();
    for b in path.bytes() {
        if b.is_ascii_alphanumeric() || b"/-_.~$()".contains(&b) {
            out.push(b as char);
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    out
}

/// Decodes the fields of `a=b&c=d`.
pub fn form(text: &str) -> Vec<(String, String)> {
    text.split('&')
        .filter(|part| !part.is_empty())
        .map(|part| match part.split_once('=') {
            Some((k, v)) => (decode(k), decode(v)),
            None => (decode(part), String::new()),
        })
        .collect()
}

fn is_database(segment: &str) -> bool {
    let lower = segment.to_lowercase();
    match lower.rsplit_once('.') {
        Some((stem, ext)) => {
            !stem.is_empty()
                && (matches!(ext, "nsf" | "ntf" | "nsg" | "nsh" | "box")
                    || (ext.len() == 3 && ext.starts_with("ns") && ext.as_bytes()[2].is_ascii_digit()))
        }
        None => false,
    }
}

impl Url {
    /// Parses any request target; this never fails.
    pub fn parse(target: &str) -> Url {
        let target = match target.split_once("://") {
            Some((scheme, rest)) if !scheme.contains(['/', '?']) => {
                rest.find('/').map_or("/", |slash| &rest[slash..])
            }
            _ => target,
        };
        let (raw_path, query) = match target.find(['?', '!']) {
            Some(at) => (&target[..at], &target[at + 1..]),
            None => (target, ""),
        };
        let arguments = form(query);
        let command = match arguments.first() {
            Some((word, value)) if value.is_empty() => word.clone(),
            _ => String::new(),
        };
        let mut url = Url {
            raw_path: raw_path.to_owned(),
            path: decode(raw_path).replace('\\', "/"),
            query: query.to_owned(),
            command,
            arguments,
            ..Url::default()
        };
        url.split_database();
        url
    }

    /// Finds the first segment with a database's extension in the raw path, where separators may be encoded.
    fn split_database(&mut self) {
        let raw = self.raw_path.trim_start_matches('/');
        let mut start = 0;
        let mut cuts: Vec<(usize, usize)> = Vec::new();
        let bytes = raw.as_bytes();
        let mut i = 0;
        while i < bytes.len() {
            let encoded = raw.get(i..i + 3).map(str::to_ascii_lowercase);
            let width = match (bytes[i], encoded.as_deref()) {
                (b'/' | b'\\', _) => 1,
                (_, Some("%2f" | "%5c")) => 3,
                _ => 0,
            };
            if width > 0 {
                cuts.push((start, i));
                i += width;
                start = i;
            } else {
                i += 1;
            }
        }
        cuts.push((start, raw.len()));
        for (from, to) in cuts {
            if is_database(&decode(&raw[from..to])) {
                let head = decode(&raw[..to]).replace('\\', "/");
                self.database = Some(head.trim_matches('/').to_owned());
                self.raw_rest = raw[to..].to_owned();
                self.rest = decode(&raw[to..]).replace('\\', "/").trim_start_matches('/').to_owned();
                return;
            }
        }
    }

    /// The value of an argument; names are compared without case.
    pub fn argument(&self, name: &str) -> Option<&str> {
        self.arguments.iter().find(|(k, _)| k.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    pub fn number(&self, name: &str) -> Option<u64> {
        self.argument(name)?.trim().parse().ok()
    }

    /// Whether the command is this one, without case.
    pub fn is(&self, command: &str) -> bool {
        self.command.eq_ignore_ascii_case(command)
    }
}

#[cfg(test)]
mod tests {
    use super::Url;

    #[test]
    fn the_database_ends_at_the_first_segment_with_its_extension() {
        let url = Url::parse("/Sales%5CLeads.NSF/By+Name/0?OpenDocument&rid=7");
        assert_eq!(url.database.as_deref(), Some("Sales/Leads.NSF"));
        assert_eq!(url.rest, "By Name/0");
        assert!(url.is("opendocument"));
        assert_eq!(url.argument("RID"), Some("7"));
        assert_eq!(Url::parse("/icons/a.gif").database, None);
        assert_eq!(Url::parse("http://x/a.nsf!Open").database.as_deref(), Some("a.nsf"));
        assert_eq!(Url::parse("/b%C3%BCro/x%202026.nsf").database.as_deref(), Some("büro/x 2026.nsf"));
    }
}
