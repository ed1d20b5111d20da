//! Decides whether a browser could have sent our cookie with a request. If it could not, the response must not
//! overwrite the cookie: a login page of another site posts to us without it.

use http::{HeaderMap, Method, header};

/// `SameSite` of the affinity cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    /// Sent from other sites only if the user follows a link.
    Lax,
    /// Never sent with requests from other sites.
    Strict,
    /// Always sent, but browsers accept it only over TLS.
    None,
}

impl SameSite {
    /// The value to send: browsers refuse `None` without TLS.
    #[must_use]
    pub fn effective(self, tls: bool) -> Self {
        if self == Self::None && !tls { Self::Lax } else { self }
    }

    /// The value of the cookie attribute.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lax => "Lax",
            Self::Strict => "Strict",
            Self::None => "None",
        }
    }
}

/// False if the request comes from another site in a way for which browsers omit a cookie with this `SameSite`.
///
/// `Sec-Fetch-Site` decides. Browsers send it over TLS only, so without it a foreign `Origin` means another site, and
/// for `Strict` a foreign `Referer` does too.
#[must_use]
pub fn browser_sends_cookie(
    same_site: SameSite,
    method: &Method,
    headers: &HeaderMap,
    authority: &str,
    tls: bool,
) -> bool {
    let same_site = same_site.effective(tls);
    if same_site == SameSite::None {
        return true;
    }
    if let Some(site) = headers.get("sec-fetch-site").map(|value| value.as_bytes()) {
        return site != b"cross-site"
            || (same_site == SameSite::Lax && is_top_level_navigation(method, headers));
    }
    if let Some(origin) = headers.get(header::ORIGIN) {
        return is_same_origin(origin.as_bytes(), authority, tls);
    }
    match headers.get(header::REFERER) {
        Some(referer) if same_site == SameSite::Strict => is_same_origin(referer.as_bytes(), authority, tls),
        _ => true,
    }
}

/// A top-level navigation with a safe method: what `Lax` allows from other sites.
fn is_top_level_navigation(method: &Method, headers: &HeaderMap) -> bool {
    let is = |name: &str, wanted: &[u8]| headers.get(name).map(|value| value.as_bytes() == wanted);
    method.is_safe()
        && is("sec-fetch-mode", b"navigate") == Some(true)
        && is("sec-fetch-dest", b"document") != Some(false)
}

/// True if a URL or `Origin` begins with our own scheme and authority.
#[must_use]
pub fn is_same_origin(url: &[u8], authority: &str, tls: bool) -> bool {
    let (scheme, default_port): (&[u8], &[u8]) =
        if tls { (b"https://", b":443") } else { (b"http://", b":80") };
    let Some((begin, rest)) = url.split_at_checked(scheme.len()) else { return false };
    let host = rest.split(|b| matches!(b, b'/' | b'?' | b'#')).next().unwrap_or_default();
    let bare = |host| <[u8]>::strip_suffix(host, default_port).unwrap_or(host);
    begin.eq_ignore_ascii_case(scheme) && bare(host).eq_ignore_ascii_case(bare(authority.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cookie_sent(
        same_site: SameSite,
        method: &Method,
        tls: bool,
        fields: &[(&'static str, &'static str)],
    ) -> bool {
        let headers = fields.iter().map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap())).collect();
        browser_sends_cookie(same_site, method, &headers, "www.acme.example", tls)
    }

    const CROSS: (&str, &str) = ("sec-fetch-site", "cross-site");
    const NAVIGATE: (&str, &str) = ("sec-fetch-mode", "navigate");
    const DOCUMENT: (&str, &str) = ("sec-fetch-dest", "document");

    #[test]
    fn a_lax_cookie_is_sent_from_another_site_only_if_the_user_follows_a_link() {
        let lax = |method, fields: &[_]| cookie_sent(SameSite::Lax, method, true, fields);
        assert!(lax(&Method::GET, &[CROSS, NAVIGATE, DOCUMENT]));
        assert!(lax(&Method::HEAD, &[CROSS, NAVIGATE]));
        assert!(!lax(&Method::POST, &[CROSS, NAVIGATE, DOCUMENT]));
        assert!(!lax(&Method::GET, &[CROSS, NAVIGATE, ("sec-fetch-dest", "iframe")]));
        assert!(!lax(&Method::GET, &[CROSS, ("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image")]));
        assert!(!lax(&Method::GET, &[CROSS]));
        for site in ["same-origin", "same-site", "none"] {
            assert!(
                lax(&Method::POST, &[("sec-fetch-site", site), ("origin", "https://idp.example")]),
                "{site}"
            );
        }
    }

    #[test]
    fn a_strict_cookie_is_never_sent_from_another_site() {
        let strict = |fields: &[_]| cookie_sent(SameSite::Strict, &Method::GET, true, fields);
        assert!(!strict(&[CROSS, NAVIGATE, DOCUMENT]));
        assert!(strict(&[("sec-fetch-site", "none"), NAVIGATE, DOCUMENT]));
        assert!(!strict(&[("referer", "https://idp.example/login")]));
        assert!(strict(&[("referer", "https://www.acme.example/a.nsf")]));
        assert!(strict(&[]));
    }

    #[test]
    fn without_sec_fetch_site_the_origin_decides() {
        let lax = |origin| cookie_sent(SameSite::Lax, &Method::POST, false, &[("origin", origin)]);
        assert!(lax("http://www.acme.example") && lax("http://WWW.acme.example:80"));
        for foreign in [
            "null",
            "https://www.acme.example",
            "http://idp.example",
            "http://www.acme.example.evil.example",
            "http://www.acme.example:8080",
            "",
        ] {
            assert!(!lax(foreign), "{foreign}");
        }
        assert!(cookie_sent(SameSite::Lax, &Method::POST, false, &[]), "no current browser sends neither");
    }

    #[test]
    fn a_cookie_with_same_site_none_is_always_sent_but_only_over_tls() {
        let none = |tls| cookie_sent(SameSite::None, &Method::POST, tls, &[CROSS, NAVIGATE, DOCUMENT]);
        assert!(none(true) && !none(false));
        assert_eq!(
            (SameSite::None.effective(true).as_str(), SameSite::None.effective(false).as_str()),
            ("None", "Lax")
        );
        assert_eq!(SameSite::Strict.effective(false).as_str(), "Strict");
    }
}
