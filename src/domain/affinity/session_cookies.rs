//! Keeps Domino's session cookies apart: the servers of a cluster set cookies of the same name on one public host name,
//! and would overwrite each other's sessions.
//!
//! A browser sees `DomAuthSessId~0f3a9c21`: the name of the server's cookie, `~`, and the tag of the server, which
//! includes the cluster and is equal on every ICM with the same secret. If the `Path` is not `/`, `.` and its length
//! follow, and if there is a `Domain`, `.` and its length. A browser does not send these attributes, but a cookie can
//! only be deleted with them. The lengths are enough: the path of the request begins with that of the cookie, and the
//! host ends with its domain.
//!
//! In the style `value` the name stays, and the tag precedes the value: `DomAuthSessId=0f3a9c21~...`. Scripts find the
//! cookie, and a browser has one session at a time. Both styles are read, so the style can be changed.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use smallvec::SmallVec;

use super::session_tag::{SEPARATOR, SessionTag};
use crate::domain::cluster::ServerName;

const UNIQUE_SUFFIX_LEN: usize = 11;
/// The cookie whose name Domino 14 can make unique.
const UNIQUE_COOKIE: &str = "domauthsessid";
/// Maximum of cookies that a response deletes. Browsers keep fewer for a site.
const MAX_EXPIRED_COOKIES: usize = 64;

/// The suffix that Domino 14 appends to `DomAuthSessId`.
pub type UniqueSuffix = [u8; UNIQUE_SUFFIX_LEN];

/// Where a session cookie carries the tag of its server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SessionCookieStyle {
    /// After its name: one cookie for each server.
    #[default]
    Name,
    /// Before its value: one cookie, under the server's own name.
    Value,
}

/// Recognizes the cookies of a cluster.
#[derive(Clone, Debug)]
pub struct CookieClassifier {
    affinity: Box<str>,
    /// The name of our login cookie.
    login: Box<str>,
    /// The name of our write cookie.
    write: Box<str>,
    /// The name of our rehearsal cookie.
    rehearsal: Box<str>,
    style: SessionCookieStyle,
    /// The configured names, in lower case.
    sessions: Box<[Box<str>]>,
    unique: bool,
    /// Names of other affinity cookies that browsers send with ours.
    siblings: Box<[Box<str>]>,
}

/// The meaning of a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CookieKind<'a> {
    /// A cookie of an application, which is forwarded unchanged.
    Foreign,
    /// Our own affinity cookie.
    Affinity,
    /// Our own login cookie.
    Login,
    /// Our own write cookie.
    Write,
    /// Our own rehearsal cookie.
    Rehearsal,
    /// An affinity, login, write or rehearsal cookie of a pool, or of the cluster of this pool.
    Sibling,
    /// A session cookie without a tag, from before the balancer.
    Untagged {
        /// Which of the configured names.
        number: usize,
    },
    /// A session cookie that we tagged.
    Tagged {
        /// Which of the configured names.
        number: usize,
        /// The name that the server gave it.
        name: &'a [u8],
        /// The tag of the server.
        tag: u32,
        /// Length of its `Path`.
        path: usize,
        /// Length of its `Domain`; 0 = none.
        domain: usize,
    },
    /// `DomAuthSessId` with the unique suffix of Domino 14.
    Unique(UniqueSuffix),
}

impl CookieClassifier {
    /// Takes the configured names, `sessions` in lower case.
    #[must_use]
    pub fn new(affinity: &str, sessions: &[String]) -> Self {
        Self {
            affinity: affinity.into(),
            login: login_cookie_name(affinity).into(),
            write: write_cookie_name(affinity).into(),
            rehearsal: rehearsal_cookie_name(affinity).into(),
            style: SessionCookieStyle::default(),
            sessions: sessions.iter().map(|name| name.as_str().into()).collect(),
            unique: sessions.iter().any(|name| name == UNIQUE_COOKIE),
            siblings: Box::default(),
        }
    }

    /// Adds the affinity cookies of the cluster's pools, which no server gets.
    #[must_use]
    pub fn with_siblings(mut self, affinity: &[String]) -> Self {
        self.siblings = affinity.iter().flat_map(|name| names_of_cookies(name)).map(Into::into).collect();
        self
    }

    /// Whether any cookie needs to be looked at.
    #[must_use]
    pub fn is_needed(&self) -> bool {
        !self.affinity.is_empty() || !self.siblings.is_empty()
    }

    /// Sets the style of tagged cookies.
    #[must_use]
    pub fn with_style(mut self, style: SessionCookieStyle) -> Self {
        self.style = style;
        self
    }

    /// Classifies a cookie by its name alone.
    #[must_use]
    pub fn classify_name<'a>(&self, name: &'a [u8]) -> CookieKind<'a> {
        if !self.affinity.is_empty() && name.starts_with(self.affinity.as_bytes()) {
            if name.len() == self.affinity.len() {
                return CookieKind::Affinity;
            }
            if name == self.login.as_bytes() {
                return CookieKind::Login;
            }
            if name == self.write.as_bytes() {
                return CookieKind::Write;
            }
            if name == self.rehearsal.as_bytes() {
                return CookieKind::Rehearsal;
            }
        }
        if self.siblings.iter().any(|sibling| sibling.as_bytes() == name) {
            return CookieKind::Sibling;
        }
        for (number, session) in self.sessions.iter().enumerate() {
            let Some((own, rest)) = name.split_at_checked(session.len()) else { continue };
            if !own.eq_ignore_ascii_case(session.as_bytes()) {
                continue;
            }
            if rest.is_empty() {
                return CookieKind::Untagged { number };
            }
            if let Some(SessionTag { tag, path, domain }) = SessionTag::parse_after_name(rest) {
                return CookieKind::Tagged { number, name: own, tag, path, domain };
            }
        }
        match name.split_at_checked(UNIQUE_COOKIE.len()) {
            Some((own, rest)) if self.unique && own.eq_ignore_ascii_case(UNIQUE_COOKIE.as_bytes()) => {
                let base64 = rest.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
                rest.try_into().ok().filter(|_| base64).map_or(CookieKind::Foreign, CookieKind::Unique)
            }
            _ => CookieKind::Foreign,
        }
    }

    /// Classifies a cookie of a request by its name and `=` with its value, and returns the value without the tag.
    #[must_use]
    pub fn classify<'a>(&self, name: &'a [u8], rest: &'a [u8]) -> (CookieKind<'a>, &'a [u8]) {
        let value = rest.get(1..).unwrap_or_default();
        match self.classify_name(name) {
            CookieKind::Untagged { number } => match SessionTag::parse_before_value(value) {
                Some((SessionTag { tag, path, domain }, value)) => {
                    (CookieKind::Tagged { number, name, tag, path, domain }, value)
                }
                None => (CookieKind::Untagged { number }, value),
            },
            other => (other, value),
        }
    }

    /// True if a `Set-Cookie` value gives the browser a session, after a login. Deleting a cookie does not.
    #[must_use]
    pub fn sets_session(&self, set_cookie: &[u8]) -> bool {
        let mut attributes = set_cookie.split(|b| *b == b';');
        let Some((name, rest)) = attributes.next().and_then(|pair| cookie_pairs(pair).next()) else {
            return false;
        };
        // Domino's own cookie is a session even if none is configured.
        let is_session =
            name.get(..UNIQUE_COOKIE.len()).is_some_and(|n| n.eq_ignore_ascii_case(UNIQUE_COOKIE.as_bytes()))
                || !matches!(
                    self.classify_name(name),
                    CookieKind::Foreign
                        | CookieKind::Affinity
                        | CookieKind::Login
                        | CookieKind::Write
                        | CookieKind::Rehearsal
                        | CookieKind::Sibling
                );
        let (_, value) = self.classify(name, rest);
        let is_empty = matches!(value.trim_ascii(), b"" | b"\"\"");
        let deletes = |attribute: &[u8]| {
            let attribute = attribute.trim_ascii().to_ascii_lowercase();
            attribute == b"max-age=0"
                || attribute.starts_with(b"max-age=-")
                || attribute.ends_with(b"1970 00:00:00 gmt")
        };
        is_session && !is_empty && !attributes.any(deletes)
    }

    /// True if a browser keeps one session for each server.
    #[must_use]
    pub fn has_session_per_server(&self) -> bool {
        self.style == SessionCookieStyle::Name && !self.sessions.is_empty()
    }

    /// Adds the tag of the server to a `Set-Cookie` value and keeps the rest byte for byte. `None` for other cookies
    /// and, in the style `value`, for a deletion. `path` is that of the request as the browser sent it.
    #[must_use]
    pub fn tag_session_cookie(&self, value: &[u8], tag: u32, path: &[u8]) -> Option<Vec<u8>> {
        let end =
            value.iter().position(|b| matches!(b, b'=' | b';')).filter(|e| value.get(*e) == Some(&b'='))?;
        let (name, rest) = value.split_at_checked(end)?;
        let name = name.trim_ascii();
        let CookieKind::Untagged { .. } = self.classify_name(name) else { return None };
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
            // RFC 6265 section 5.1.4: the path of the request up to its last slash.
            _ => path.iter().rposition(|b| *b == b'/').unwrap_or(0).max(1),
        };
        let session_tag = SessionTag { tag, path: length, domain }.to_string();
        let (separator, session_tag) = (&[SEPARATOR], session_tag.as_bytes());
        if self.style == SessionCookieStyle::Name {
            return Some([name, separator, session_tag, rest].concat());
        }
        let text = rest.get(1..)?;
        let is_empty = text.split(|b| *b == b';').next().is_none_or(|text| text.trim_ascii().is_empty());
        (!is_empty).then(|| [name, b"=", session_tag, separator, text.trim_ascii_start()].concat())
    }

    /// The single `Cookie` line for the server with these tags, the current one first: its own sessions under their own
    /// names, without those of other servers and without our cookies. An untagged session is sent only if the server
    /// has no other of that name. `is_other_servers` decides on the cookies that Domino 14 made unique. Empty if
    /// nothing is left.
    pub fn cookie_header_for_tags<'h>(
        &self,
        lines: impl Iterator<Item = &'h [u8]> + Clone,
        tags: &[u32],
        is_other_servers: impl Fn(&UniqueSuffix) -> bool,
    ) -> Vec<u8> {
        // Of several sessions with one name the server gets those of the highest rank.
        let mut highest: SmallVec<[u8; 8]> = SmallVec::from_elem(0, self.sessions.len());
        for (name, rest) in lines.clone().flat_map(cookie_pairs) {
            let (kind, _) = self.classify(name, rest);
            if let Some((number, rank)) = self.session_rank(name, kind, tags)
                && let Some(highest) = highest.get_mut(number)
            {
                *highest = rank.max(*highest);
            }
        }
        let mut out = Vec::with_capacity(lines.clone().map(|line| line.len() + 2).sum());
        let mut push = |parts: &[&[u8]]| {
            if !out.is_empty() {
                out.extend_from_slice(b"; ");
            }
            parts.iter().for_each(|part| out.extend_from_slice(part));
        };
        for (name, rest) in lines.flat_map(cookie_pairs) {
            let (kind, value) = self.classify(name, rest);
            match kind {
                CookieKind::Foreign => push(&[name, rest]),
                CookieKind::Affinity
                | CookieKind::Login
                | CookieKind::Write
                | CookieKind::Rehearsal
                | CookieKind::Sibling => {}
                CookieKind::Untagged { .. } | CookieKind::Tagged { .. } => {
                    if let Some((number, rank)) = self.session_rank(name, kind, tags)
                        && highest.get(number) == Some(&rank)
                    {
                        let own = if let CookieKind::Tagged { name, .. } = kind { name } else { name };
                        push(&[own, b"=", value]);
                    }
                }
                CookieKind::Unique(suffix) => {
                    if !is_other_servers(&suffix) {
                        push(&[name, rest]);
                    }
                }
            }
        }
        out
    }

    /// The number of the configured name of a session of this server, and its rank: 3 = current style and tag, 2 =
    /// other style or older tag, 1 = untagged.
    fn session_rank(&self, name: &[u8], kind: CookieKind<'_>, tags: &[u32]) -> Option<(usize, u8)> {
        match kind {
            CookieKind::Untagged { number } => Some((number, 1)),
            CookieKind::Tagged { number, name: own, tag, .. } if tags.contains(&tag) => {
                let in_name = own.len() < name.len();
                let is_current =
                    in_name == (self.style == SessionCookieStyle::Name) && tags.first() == Some(&tag);
                Some((number, if is_current { 3 } else { 2 }))
            }
            _ => None,
        }
    }

    /// `Set-Cookie` values that delete the sessions of a request, of all servers, except those in `set`, which the
    /// response sets itself. `path` and `host` are those of the request.
    pub fn expire_sessions<'h>(
        &self,
        lines: impl Iterator<Item = &'h [u8]>,
        path: &[u8],
        host: &str,
        secure: bool,
        set: &[&[u8]],
    ) -> Vec<Vec<u8>> {
        let mut expired: SmallVec<[&[u8]; 8]> = SmallVec::new();
        let mut out = Vec::new();
        for (name, rest) in lines.flat_map(cookie_pairs) {
            let (path, domain) = match self.classify(name, rest).0 {
                CookieKind::Tagged { path: length, domain, .. } => {
                    let start = host.len().checked_sub(domain).filter(|_| domain > 0);
                    let path = path.get(..length).filter(|path| !path.contains(&b';')).unwrap_or(b"/");
                    (path, start.and_then(|start| host.get(start..)))
                }
                // Domino sets these with `Path=/`.
                CookieKind::Untagged { .. } | CookieKind::Unique(_) => (b"/".as_slice(), None),
                CookieKind::Foreign
                | CookieKind::Affinity
                | CookieKind::Login
                | CookieKind::Write
                | CookieKind::Rehearsal
                | CookieKind::Sibling => continue,
            };
            if out.len() == MAX_EXPIRED_COOKIES || set.contains(&name) || expired.contains(&name) {
                continue;
            }
            expired.push(name);
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

/// The name of the login cookie that belongs to an affinity cookie.
#[must_use]
pub fn login_cookie_name(affinity: &str) -> String {
    format!("{affinity}-login")
}

/// The name of the write cookie that belongs to an affinity cookie.
#[must_use]
pub fn write_cookie_name(affinity: &str) -> String {
    format!("{affinity}-write")
}

/// The name of the rehearsal cookie that belongs to an affinity cookie.
#[must_use]
pub fn rehearsal_cookie_name(affinity: &str) -> String {
    format!("{affinity}-rehearsal")
}

/// The names of all our cookies that belong to an affinity cookie, with its own.
#[must_use]
pub fn names_of_cookies(affinity: &str) -> [String; 4] {
    let own = [login_cookie_name, write_cookie_name, rehearsal_cookie_name].map(|name| name(affinity));
    let [login, write, rehearsal] = own;
    [affinity.to_owned(), login, write, rehearsal]
}

/// The cookies of a `Cookie` line: name, and `=` with the value. Without `=` the name is empty.
pub fn cookie_pairs(line: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> + Clone {
    let mut rest = Some(line);
    let pairs = std::iter::from_fn(move || {
        let from = rest?;
        let end = memchr::memchr(b';', from);
        rest = end.and_then(|end| from.get(end + 1..));
        from.get(..end.unwrap_or(from.len()))
    });
    pairs.map(<[u8]>::trim_ascii).filter(|pair| !pair.is_empty()).filter_map(|pair| {
        let equals = memchr::memchr(b'=', pair).unwrap_or(0);
        let (name, rest) = pair.split_at_checked(equals)?;
        Some((name.trim_ascii_end(), rest))
    })
}

/// The possible suffixes of `DomAuthSessId` with `DominoSessionCookieUniqueNames=1`: the first eleven characters of the
/// base64url SHA-256 of the server's distinguished name
/// (<https://www.madicon.de/notes-ini-parameters/en/dominosessioncookieuniquenames/>). The only source does not define
/// the spelling of the name, so all plausible ones are covered.
#[must_use]
pub fn unique_suffixes(name: &ServerName) -> SmallVec<[UniqueSuffix; 8]> {
    let canonical = name.canonical();
    let mut spellings = vec![name.abbreviated().to_owned()];
    if canonical.contains("/C=") {
        // The country may be an organisation with a name of two letters.
        spellings.push(canonical.replacen("/O=", "/OU=", 1).replacen("/C=", "/O=", 1));
    }
    spellings.push(canonical);
    let folded: Vec<_> = spellings.iter().flat_map(|s| [s.to_lowercase(), s.to_uppercase()]).collect();
    spellings.extend(folded);
    let suffix = |text: &String| {
        URL_SAFE_NO_PAD
            .encode(Sha256::digest(text.as_bytes()))
            .as_bytes()
            .first_chunk::<UNIQUE_SUFFIX_LEN>()
            .copied()
    };
    spellings.iter().filter_map(suffix).collect()
}

#[cfg(test)]
#[path = "session_cookies_tests.rs"]
mod tests;
