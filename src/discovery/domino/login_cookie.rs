//! The cookies of a login, as the server sets them. They are apart from the login itself, because a check of single sign-on
//! also looks at their attributes, which a login ignores.

use http::header;

use super::client::DominoResponse;

/// A `DomAuthSessId` or `LtpaToken` that a server has set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginCookie {
    /// As the server spells it: `LtpaToken2`, `DomAuthSessId`.
    pub name: String,
    /// The secret of the session; never shown.
    value: String,
    /// `Domain` without a leading dot, in lower case. `None`: the cookie is for the server's own host name only.
    pub domain: Option<String>,
    /// Whether a browser keeps it from plain HTTP.
    pub secure: bool,
}

impl LoginCookie {
    /// Parses a `Set-Cookie` value; `None` if it sets no session of a login. Names match in any case
    /// (about both: <http://www-01.ibm.com/support/docview.wss?uid=swg27003558>).
    #[must_use]
    pub fn parse(set_cookie: &str) -> Option<Self> {
        let mut parts = set_cookie.split(';').map(str::trim);
        let (name, value) = parts.next()?.split_once('=')?;
        let (name, value) = (name.trim(), value.trim());
        let lower = name.to_ascii_lowercase();
        let is_session = lower.starts_with("domauthsessid") || lower.starts_with("ltpatoken");
        if !is_session || value.is_empty() {
            return None;
        }
        let mut cookie = Self { name: name.to_owned(), value: value.to_owned(), domain: None, secure: false };
        for part in parts {
            match part.split_once('=') {
                Some((key, domain)) if key.trim().eq_ignore_ascii_case("domain") => {
                    let domain = domain.trim().trim_start_matches('.').to_ascii_lowercase();
                    cookie.domain = Some(domain).filter(|domain| !domain.is_empty());
                }
                None if part.eq_ignore_ascii_case("secure") => cookie.secure = true,
                _ => {}
            }
        }
        Some(cookie)
    }

    /// All that a response sets.
    #[must_use]
    pub fn all_of(response: &DominoResponse) -> Vec<Self> {
        let values = response.headers.get_all(header::SET_COOKIE).iter();
        values.filter_map(|value| Self::parse(value.to_str().ok()?)).collect()
    }

    /// Whether it is meant for several servers (multi-server session authentication).
    #[must_use]
    pub fn is_sso(&self) -> bool {
        self.name.to_ascii_lowercase().starts_with("ltpatoken")
    }
}

/// The value of a `Cookie` header with these cookies; empty without any.
#[must_use]
pub fn cookie_header(cookies: &[LoginCookie]) -> String {
    let pairs: Vec<String> =
        cookies.iter().map(|cookie| format!("{}={}", cookie.name, cookie.value)).collect();
    pairs.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_cookie_is_read_with_its_attributes_and_others_are_ignored() {
        let token = LoginCookie::parse("LtpaToken2=AAEC==; path=/; Domain=.Acme.Example; Secure; HttpOnly");
        let token = token.unwrap();
        assert!(token.is_sso() && token.secure);
        assert_eq!((&*token.name, token.domain.as_deref()), ("LtpaToken2", Some("acme.example")));
        let session = LoginCookie::parse("domauthsessidAbC=1F; path=/; domain=").unwrap();
        assert!(!session.is_sso() && !session.secure && session.domain.is_none());
        assert_eq!(cookie_header(&[token, session]), "LtpaToken2=AAEC==; domauthsessidAbC=1F");
        for other in ["SessionID=1; path=/", "LtpaToken=; expires=Thu, 01 Jan 1970 00:00:00 GMT", "LtpaToken"]
        {
            assert_eq!(LoginCookie::parse(other), None, "{other}");
        }
    }
}
