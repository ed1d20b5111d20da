//! Whether a browser could have sent a cookie of ours with a request. It must not be overwritten by the answer to a
//! request that could not: a login page of another site posts to us without it.

use http::{HeaderMap, Method, header};

/// `SameSite` of the affinity cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    /// Sent from other sites only when the user follows a link.
    Lax,
    /// Never sent when another site led to the request.
    Strict,
    /// Always sent. Browsers take it over TLS only.
    None,
}

impl SameSite {
    /// What is written on an answer: browsers refuse `None` without TLS.
    #[must_use]
    pub fn effective(self, tls: bool) -> Self {
        if self == Self::None && !tls { Self::Lax } else { self }
    }

    /// As the cookie attribute spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lax => "Lax",
            Self::Strict => "Strict",
            Self::None => "None",
        }
    }
}

/// True unless the request came from another site in a way in which browsers leave out a cookie with this `SameSite`.
///
/// `Sec-Fetch-Site` tells; browsers send it over TLS only, so without it an `Origin` that is not ours means another
/// site, and for `Strict` so does a `Referer`.
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
    let word = |name: &str| headers.get(name).map(|value| value.as_bytes());
    if let Some(site) = word("sec-fetch-site") {
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

/// A top-level navigation with a safe method, which is what `Lax` allows from other sites.
fn is_top_level_navigation(method: &Method, headers: &HeaderMap) -> bool {
    let is = |name: &str, wanted: &[u8]| headers.get(name).map(|value| value.as_bytes() == wanted);
    method.is_safe()
        && is("sec-fetch-mode", b"navigate") == Some(true)
        && is("sec-fetch-dest", b"document") != Some(false)
}

/// Whether a URL, or `Origin`, begins with our own scheme and authority.
#[must_use]
pub fn is_same_origin(url: &[u8], authority: &str, tls: bool) -> bool {
    let (scheme, usual): (&[u8], &[u8]) = if tls { (b"https://", b":443") } else { (b"http://", b":80") };
    let Some((begin, rest)) = url.split_at_checked(scheme.len()) else { return false };
    let host = rest.split(|b| matches!(b, b'/' | b'?' | b'#')).next().unwrap_or_default();
    let bare = |host| <[u8]>::strip_suffix(host, usual).unwrap_or(host);
    begin.eq_ignore_ascii_case(scheme) && bare(host).eq_ignore_ascii_case(bare(authority.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carried(
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
    fn a_lax_cookie_comes_from_another_site_only_when_the_user_follows_a_link() {
        let lax = |method, fields: &[_]| carried(SameSite::Lax, method, true, fields);
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
    fn a_strict_cookie_never_comes_from_another_site() {
        let strict = |fields: &[_]| carried(SameSite::Strict, &Method::GET, true, fields);
        assert!(!strict(&[CROSS, NAVIGATE, DOCUMENT]));
        assert!(strict(&[("sec-fetch-site", "none"), NAVIGATE, DOCUMENT]));
        assert!(!strict(&[("referer", "https://idp.example/login")]));
        assert!(strict(&[("referer", "https://www.acme.example/a.nsf")]));
        assert!(strict(&[]));
    }

    #[test]
    fn without_sec_fetch_site_the_origin_tells() {
        let lax = |origin| carried(SameSite::Lax, &Method::POST, false, &[("origin", origin)]);
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
        assert!(carried(SameSite::Lax, &Method::POST, false, &[]), "neither: no browser of today");
    }

    #[test]
    fn a_cookie_of_no_site_always_comes_and_only_over_tls() {
        let none = |tls| carried(SameSite::None, &Method::POST, tls, &[CROSS, NAVIGATE, DOCUMENT]);
        assert!(none(true) && !none(false));
        assert_eq!(
            (SameSite::None.effective(true).as_str(), SameSite::None.effective(false).as_str()),
            ("None", "Lax")
        );
        assert_eq!(SameSite::Strict.effective(false).as_str(), "Strict");
    }
}
