//! Domino's session cookies, kept apart per server: several members set cookies of one name on one public host
//! name, and would destroy each other's logins.
//!
//! In: names and values of cookies, in both directions. Out: what a name means, the name under which a browser
//! keeps a server's cookie, and the `Cookie` line that a server gets. It knows servers by their tags alone and
//! never reads a session.
//!
//! A browser sees `DomAuthSessId~0f3a9c21`: the server's own name of it, `~`, and the server's tag, which
//! includes the cluster and is the same on every ICM with the same secret. Behind it stands `.` and the length of the cookie's `Path`
//! where that is not `/`, and once more with the length of its `Domain` where it has one: a browser never says
//! these, and only with them can a cookie be deleted. A cookie that a request brings has a path that the
//! request's path begins with, and a domain that the host ends with, so the lengths are enough.
//!
//! In the style `value` the name stays, and all this stands before the value: `DomAuthSessId=0f3a9c21~...`. Scripts find
//! the cookie, and a browser has one login at a time. Both are read in either style, so that the style can be changed.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use smallvec::SmallVec;

use super::session_tag::{SEPARATOR, SessionTag};
use crate::domain::cluster::ServerName;

/// Length of what Domino 14 puts behind `DomAuthSessId`.
pub const UNIQUE_SUFFIX_LEN: usize = 11;
/// The cookie that Domino 14 makes unique.
const UNIQUE_COOKIE: &str = "domauthsessid";
/// No more cookies than this are deleted by one answer: browsers keep fewer for a site.
const MAX_EXPIRED_COOKIES: usize = 64;

/// What Domino 14 puts behind `DomAuthSessId`.
pub type UniqueSuffix = [u8; UNIQUE_SUFFIX_LEN];

/// Where a session cookie carries the tag of its server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SessionCookieStyle {
    /// Behind its name: one cookie for each server.
    #[default]
    Name,
    /// Before its value: one cookie, under the server's own name.
    Value,
}

/// The cookies of a cluster that mean something here.
#[derive(Clone, Debug)]
pub struct CookieClassifier {
    affinity: Box<str>,
    /// Of a login that the affinity cookie does not know of.
    login: Box<str>,
    style: SessionCookieStyle,
    /// Lower case.
    sessions: Box<[Box<str>]>,
    unique: bool,
}

/// What a cookie's name means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CookieKind<'a> {
    /// Nothing to us.
    Foreign,
    /// Our own affinity cookie.
    Affinity,
    /// Our own cookie of a login.
    Login,
    /// A session cookie that nobody has isolated: it is older than this balancer.
    Untagged {
        /// Which of the configured names.
        number: usize,
    },
    /// A server's session, under the name that we gave it.
    Tagged {
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
    Unique(UniqueSuffix),
}

impl CookieClassifier {
    /// From the configured names; `sessions` in lower case. Without any, every cookie is foreign.
    #[must_use]
    pub fn new(affinity: &str, sessions: &[String]) -> Self {
        Self {
            affinity: affinity.into(),
            login: login_cookie_name(affinity).into(),
            style: SessionCookieStyle::default(),
            sessions: sessions.iter().map(|name| name.as_str().into()).collect(),
            unique: sessions.iter().any(|name| name == UNIQUE_COOKIE),
        }
    }

    /// The same with this style for what servers set.
    #[must_use]
    pub fn with_style(mut self, style: SessionCookieStyle) -> Self {
        self.style = style;
        self
    }

    /// Reads a name.
    #[must_use]
    pub fn classify_name<'a>(&self, name: &'a [u8]) -> CookieKind<'a> {
        if !self.affinity.is_empty() && name.starts_with(self.affinity.as_bytes()) {
            if name.len() == self.affinity.len() {
                return CookieKind::Affinity;
            }
            if name == self.login.as_bytes() {
                return CookieKind::Login;
            }
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

    /// Reads a cookie of a request: its name, and `=` with the value, which may carry the tag. Gives the value that the
    /// server knows, too.
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

    /// A `Set-Cookie` value with which a server gives the browser a session: its login arrived there. A cookie that is
    /// deleted is none.
    #[must_use]
    pub fn sets_session(&self, set_cookie: &[u8]) -> bool {
        let mut attributes = set_cookie.split(|b| *b == b';');
        let Some((name, rest)) = attributes.next().and_then(|pair| cookie_pairs(pair).next()) else {
            return false;
        };
        // Where no session cookie is configured, Domino's own is still a login.
        let is_session =
            name.get(..UNIQUE_COOKIE.len()).is_some_and(|n| n.eq_ignore_ascii_case(UNIQUE_COOKIE.as_bytes()))
                || !matches!(
                    self.classify_name(name),
                    CookieKind::Foreign | CookieKind::Affinity | CookieKind::Login
                );
        let (_, value) = self.classify(name, rest);
        let is_empty = matches!(value.trim_ascii(), b"" | b"\"\"");
        let ends = |attribute: &[u8]| {
            let attribute = attribute.trim_ascii().to_ascii_lowercase();
            attribute == b"max-age=0"
                || attribute.starts_with(b"max-age=-")
                || attribute.ends_with(b"1970 00:00:00 gmt")
        };
        is_session && !is_empty && !attributes.any(ends)
    }

    /// Every server's session lives in the browser beside those of the others.
    #[must_use]
    pub fn has_session_per_server(&self) -> bool {
        self.style == SessionCookieStyle::Name && !self.sessions.is_empty()
    }

    /// The `Set-Cookie` value under which a browser keeps this session of the server with this tag, or `None`
    /// for any other cookie. `path` is that of the request as the browser sent it. All but the name, or the begin of the
    /// value, stays byte for byte. A deletion under the server's own name stays as it is.
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
            // RFC 6265 section 5.1.4: up to the last slash of the request's path.
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

    /// The one `Cookie` line for the server with this tag: its own sessions under their own names, nobody
    /// else's, and nothing of ours. A session that nobody has isolated goes along only where the server has none
    /// of that name. `is_anothers` says whose a cookie of Domino 14 is. Empty where nothing is left.
    pub fn cookie_header_for_server<'h>(
        &self,
        lines: impl Iterator<Item = &'h [u8]> + Clone,
        server: u32,
        is_other_servers: impl Fn(&UniqueSuffix) -> bool,
    ) -> Vec<u8> {
        self.cookie_header_for_tags(lines, &[server], is_other_servers)
    }

    /// The same for a server that has older tags behind the current one.
    pub fn cookie_header_for_tags<'h>(
        &self,
        lines: impl Iterator<Item = &'h [u8]> + Clone,
        tags: &[u32],
        is_other_servers: impl Fn(&UniqueSuffix) -> bool,
    ) -> Vec<u8> {
        // Of the sessions of one name the server gets those of the newest kind.
        let mut newest: SmallVec<[u8; 8]> = SmallVec::from_elem(0, self.sessions.len());
        for (name, rest) in lines.clone().flat_map(cookie_pairs) {
            let (kind, _) = self.classify(name, rest);
            if let (Some(number), age) = self.session_rank(name, kind, tags)
                && let Some(newest) = newest.get_mut(number)
            {
                *newest = age.max(*newest);
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
                CookieKind::Affinity | CookieKind::Login => {}
                CookieKind::Untagged { number } | CookieKind::Tagged { number, .. } => {
                    let (_, age) = self.session_rank(name, kind, tags);
                    if age > 0 && newest.get(number) == Some(&age) {
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

    /// Which configured name a session has, and how new its kind is for the server with these tags: 3 as it is set now,
    /// 2 of another style or an older tag, 1 isolated by nobody, 0 not this server's.
    fn session_rank(&self, name: &[u8], kind: CookieKind<'_>, tags: &[u32]) -> (Option<usize>, u8) {
        match kind {
            CookieKind::Untagged { number } => (Some(number), 1),
            CookieKind::Tagged { number, name: own, tag, .. } if tags.contains(&tag) => {
                let in_name = own.len() < name.len();
                let is_current =
                    in_name == (self.style == SessionCookieStyle::Name) && tags.first() == Some(&tag);
                (Some(number), if is_current { 3 } else { 2 })
            }
            CookieKind::Tagged { number, .. } => (Some(number), 0),
            _ => (None, 0),
        }
    }

    /// `Set-Cookie` values that delete every session which a request brought, of whatever server, but those
    /// named in `set`: the answer has its own word on them. `path` and `host` are those of the request.
    pub fn expire_sessions<'h>(
        &self,
        lines: impl Iterator<Item = &'h [u8]>,
        path: &[u8],
        host: &str,
        secure: bool,
        set: &[&[u8]],
    ) -> Vec<Vec<u8>> {
        let mut gone: SmallVec<[&[u8]; 8]> = SmallVec::new();
        let mut out = Vec::new();
        for (name, rest) in lines.flat_map(cookie_pairs) {
            let (path, domain) = match self.classify(name, rest).0 {
                CookieKind::Tagged { path: length, domain, .. } => {
                    let start = host.len().checked_sub(domain).filter(|_| domain > 0);
                    let path = path.get(..length).filter(|path| !path.contains(&b';')).unwrap_or(b"/");
                    (path, start.and_then(|start| host.get(start..)))
                }
                // As Domino sets them.
                CookieKind::Untagged { .. } | CookieKind::Unique(_) => (b"/".as_slice(), None),
                CookieKind::Foreign | CookieKind::Affinity | CookieKind::Login => continue,
            };
            if out.len() == MAX_EXPIRED_COOKIES || set.contains(&name) || gone.contains(&name) {
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

/// The name of the cookie that remembers a login beside the affinity cookie of this name.
#[must_use]
pub fn login_cookie_name(affinity: &str) -> String {
    format!("{affinity}-login")
}

/// The cookies of a `Cookie` line: the name, and `=` with the value. What has no `=` has no name.
pub fn cookie_pairs(line: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> + Clone {
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
pub fn unique_suffixes(name: &ServerName) -> SmallVec<[UniqueSuffix; 8]> {
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
