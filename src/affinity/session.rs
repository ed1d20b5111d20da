//! Domino's session cookies, kept apart per server: several members set cookies of one name on one public host
//! name, and would destroy each other's logins.
//!
//! In: names and values of cookies, in both directions. Out: what a name means, the name under which a browser
//! keeps a server's cookie, and the `Cookie` line that a server gets. It knows servers by their tags alone and
//! never reads a session.
//!
//! A browser sees `DomAuthSessId~0f3a9c21`: the server's own name of it, `~`, and the server's tag, which
//! includes the cluster and is the same on every ICM. Behind it stands `.` and the length of the cookie's `Path`
//! where that is not `/`, and once more with the length of its `Domain` where it has one: a browser never says
//! these, and only with them can a cookie be deleted. A cookie that a request brings has a path that the
//! request's path begins with, and a domain that the host ends with, so the lengths are enough.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use smallvec::SmallVec;

use crate::cluster::ServerName;

/// Between a session cookie's name and the tag of its server.
const MARK: u8 = b'~';
/// Eight hexadecimal digits.
const TAG: usize = 8;
/// Length of what Domino 14 puts behind `DomAuthSessId`.
pub const SUFFIX: usize = 11;
/// The cookie that Domino 14 makes unique.
const UNIQUE: &str = "domauthsessid";
/// No more cookies than this are deleted by one answer: browsers keep fewer for a site.
const MOST_EXPIRED: usize = 64;

/// What Domino 14 puts behind `DomAuthSessId`.
pub type Suffix = [u8; SUFFIX];

/// The cookies of a cluster that mean something here.
#[derive(Clone, Debug)]
pub struct Cookies {
    affinity: Box<str>,
    /// Lower case.
    sessions: Box<[Box<str>]>,
    unique: bool,
}

/// What a cookie's name means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning<'a> {
    /// Nothing to us.
    Foreign,
    /// Our own affinity cookie.
    Affinity,
    /// A session cookie that nobody has isolated: it is older than this balancer.
    Plain {
        /// Which of the configured names.
        number: usize,
    },
    /// A server's session, under the name that we gave it.
    Isolated {
        /// Which of the configured names.
        number: usize,
        /// The server's name of it.
        name: &'a [u8],
        /// Whose it is.
        tag: u32,
        /// Length of its path.
        path: usize,
        /// Length of its domain; 0 = this host alone.
        domain: usize,
    },
    /// `DomAuthSessId` of Domino 14, unique by itself.
    Unique(Suffix),
}

impl Cookies {
    /// From the configured names; `sessions` in lower case. Without any, every cookie is foreign.
    #[must_use]
    pub fn new(affinity: &str, sessions: &[String]) -> Self {
        Self {
            affinity: affinity.into(),
            sessions: sessions.iter().map(|name| name.as_str().into()).collect(),
            unique: sessions.iter().any(|name| name == UNIQUE),
        }
    }

    /// Reads a name.
    #[must_use]
    pub fn meaning<'a>(&self, name: &'a [u8]) -> Meaning<'a> {
        if name == self.affinity.as_bytes() && !name.is_empty() {
            return Meaning::Affinity;
        }
        for (number, session) in self.sessions.iter().enumerate() {
            let Some((own, rest)) = name.split_at_checked(session.len()) else { continue };
            if !own.eq_ignore_ascii_case(session.as_bytes()) {
                continue;
            }
            if rest.is_empty() {
                return Meaning::Plain { number };
            }
            if let Some((tag, path, domain)) = isolation(rest) {
                return Meaning::Isolated { number, name: own, tag, path, domain };
            }
        }
        match name.split_at_checked(UNIQUE.len()) {
            Some((own, rest)) if self.unique && own.eq_ignore_ascii_case(UNIQUE.as_bytes()) => {
                let base64 = rest.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
                rest.try_into().ok().filter(|_| base64).map_or(Meaning::Foreign, Meaning::Unique)
            }
            _ => Meaning::Foreign,
        }
    }

    /// The `Set-Cookie` value under which a browser keeps this session of the server with this tag, or `None`
    /// for any other cookie. `path` is that of the request as the browser sent it. All but the name stays
    /// octet for octet.
    #[must_use]
    pub fn isolate(&self, value: &[u8], tag: u32, path: &[u8]) -> Option<Vec<u8>> {
        let end =
            value.iter().position(|b| matches!(b, b'=' | b';')).filter(|e| value.get(*e) == Some(&b'='))?;
        let (name, rest) = value.split_at_checked(end)?;
        let name = name.trim_ascii();
        let Meaning::Plain { .. } = self.meaning(name) else { return None };
        let (mut cookie_path, mut domain) = (None, 0);
        for attribute in rest.split(|b| *b == b';').skip(1) {
            let Some(equals) = attribute.iter().position(|b| *b == b'=') else { continue };
            let (key, text) = attribute.split_at_checked(equals)?;
            let text = text.get(1..).unwrap_or_default().trim_ascii();
            if key.trim_ascii().eq_ignore_ascii_case(b"path") {
                cookie_path = Some(text);
            } else if key.trim_ascii().eq_ignore_ascii_case(b"domain") {
                domain = text.strip_prefix(b".").unwrap_or(text).len();
            }
        }
        let length = match cookie_path {
            Some(given) if given.first() == Some(&b'/') => given.len(),
            // RFC 6265 section 5.1.4: up to the last slash of the request's path.
            _ => path.iter().rposition(|b| *b == b'/').unwrap_or(0).max(1),
        };
        let mut out = Vec::with_capacity(value.len() + TAG + 8);
        out.extend_from_slice(name);
        out.push(MARK);
        out.extend_from_slice(format!("{tag:08x}").as_bytes());
        if length != 1 || domain != 0 {
            out.extend_from_slice(format!(".{length}").as_bytes());
        }
        if domain != 0 {
            out.extend_from_slice(format!(".{domain}").as_bytes());
        }
        out.extend_from_slice(rest);
        Some(out)
    }

    /// The one `Cookie` line for the server with this tag: its own sessions under their own names, nobody
    /// else's, and nothing of ours. A session that nobody has isolated goes along only where the server has none
    /// of that name. `is_anothers` says whose a cookie of Domino 14 is. Empty where nothing is left.
    pub fn for_server<'h>(
        &self,
        lines: impl Iterator<Item = &'h [u8]> + Clone,
        server: u32,
        is_anothers: impl Fn(&Suffix) -> bool,
    ) -> Vec<u8> {
        let mut has_own: SmallVec<[bool; 8]> = SmallVec::from_elem(false, self.sessions.len());
        for (name, _) in lines.clone().flat_map(pairs) {
            if let Meaning::Isolated { number, tag, .. } = self.meaning(name)
                && tag == server
                && let Some(own) = has_own.get_mut(number)
            {
                *own = true;
            }
        }
        let mut out = Vec::with_capacity(lines.clone().map(|line| line.len() + 2).sum());
        let mut push = |name: &[u8], rest: &[u8]| {
            if !out.is_empty() {
                out.extend_from_slice(b"; ");
            }
            out.extend_from_slice(name);
            out.extend_from_slice(rest);
        };
        for (name, rest) in lines.flat_map(pairs) {
            match self.meaning(name) {
                Meaning::Foreign => push(name, rest),
                Meaning::Affinity => {}
                Meaning::Plain { number } => {
                    if !has_own.get(number).copied().unwrap_or(false) {
                        push(name, rest);
                    }
                }
                Meaning::Isolated { name: own, tag, .. } => {
                    if tag == server {
                        push(own, rest);
                    }
                }
                Meaning::Unique(suffix) => {
                    if !is_anothers(&suffix) {
                        push(name, rest);
                    }
                }
            }
        }
        out
    }

    /// `Set-Cookie` values that delete every session which a request brought, of whatever server, but those
    /// named in `set`: the answer has its own word on them. `path` and `host` are those of the request.
    pub fn expire<'h>(
        &self,
        lines: impl Iterator<Item = &'h [u8]>,
        path: &[u8],
        host: &str,
        secure: bool,
        set: &[&[u8]],
    ) -> Vec<Vec<u8>> {
        let mut gone: SmallVec<[&[u8]; 8]> = SmallVec::new();
        let mut out = Vec::new();
        for (name, _) in lines.flat_map(pairs) {
            let (path, domain) = match self.meaning(name) {
                Meaning::Isolated { path: length, domain, .. } => {
                    let start = host.len().checked_sub(domain).filter(|_| domain > 0);
                    let path = path.get(..length).filter(|path| !path.contains(&b';')).unwrap_or(b"/");
                    (path, start.and_then(|start| host.get(start..)))
                }
                // As Domino sets them.
                Meaning::Plain { .. } | Meaning::Unique(_) => (b"/".as_slice(), None),
                Meaning::Foreign | Meaning::Affinity => continue,
            };
            if out.len() == MOST_EXPIRED || set.contains(&name) || gone.contains(&name) {
                continue;
            }
            gone.push(name);
            let mut line = [name, b"=; Path=", path].concat();
            if let Some(domain) = domain {
                line.extend_from_slice(b"; Domain=");
                line.extend_from_slice(domain.as_bytes());
            }
            line.extend_from_slice(b"; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; HttpOnly");
            if secure {
                line.extend_from_slice(b"; Secure");
            }
            out.push(line);
        }
        out
    }
}

/// Tag, length of the path and of the domain: what stands behind a session cookie's own name.
fn isolation(rest: &[u8]) -> Option<(u32, usize, usize)> {
    let (tag, lengths) = rest.strip_prefix(&[MARK])?.split_at_checked(TAG)?;
    if !tag.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let tag = u32::from_str_radix(std::str::from_utf8(tag).ok()?, 16).ok()?;
    if lengths.is_empty() {
        return Some((tag, 1, 0));
    }
    let mut numbers = lengths.strip_prefix(b".")?.split(|b| *b == b'.').map(|digits| {
        let plain = matches!(digits.first(), Some(b'1'..=b'9')) && digits.iter().all(u8::is_ascii_digit);
        std::str::from_utf8(digits).ok().filter(|_| plain)?.parse::<usize>().ok()
    });
    let path = numbers.next()??;
    let domain = match numbers.next() {
        Some(domain) => domain?,
        None => 0,
    };
    numbers.next().is_none().then_some((tag, path, domain))
}

/// The cookies of a `Cookie` line: the name, and `=` with the value. What has no `=` has no name.
pub fn pairs(line: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> + Clone {
    line.split(|b| *b == b';').map(<[u8]>::trim_ascii).filter(|pair| !pair.is_empty()).filter_map(|pair| {
        let equals = memchr::memchr(b'=', pair).unwrap_or(0);
        let (name, rest) = pair.split_at_checked(equals)?;
        Some((name.trim_ascii_end(), rest))
    })
}

/// What Domino 14 puts behind `DomAuthSessId` with `DominoSessionCookieUniqueNames=1`: the first eleven characters
/// of Base64url(SHA-256(the server's distinguished name))
/// (<https://www.madicon.de/notes-ini-parameters/en/dominosessioncookieuniquenames/>). One source, which says
/// nothing of the name's spelling: hence every plausible one.
#[must_use]
pub fn unique_suffixes(name: &ServerName) -> SmallVec<[Suffix; 8]> {
    let canonical = name.canonical();
    let mut spellings = vec![name.abbreviated().to_owned()];
    if canonical.contains("/C=") {
        // What looks like a country may be an organisation of two letters.
        spellings.push(canonical.replacen("/O=", "/OU=", 1).replacen("/C=", "/O=", 1));
    }
    spellings.push(canonical);
    let folded: Vec<_> = spellings.iter().flat_map(|s| [s.to_lowercase(), s.to_uppercase()]).collect();
    spellings.extend(folded);
    let suffix = |text: &String| {
        URL_SAFE_NO_PAD.encode(Sha256::digest(text.as_bytes())).as_bytes().first_chunk::<SUFFIX>().copied()
    };
    spellings.iter().filter_map(suffix).collect()
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
