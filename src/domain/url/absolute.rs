//! Splits an absolute URL, such as a `Referer`, into authority and target. Whether it is of the same origin is for the
//! caller to decide.

/// Host with port but without user information, and path with query but without fragment, of an http or https URL. The
/// target of a URL without a path is `/`; with a query but no path it begins with `?`.
#[must_use]
pub fn split_absolute_url(url: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = after_scheme(url)?;
    // Browsers end the authority at a backslash as well (WHATWG URL, "special" schemes).
    let end = rest.iter().position(|b| matches!(b, b'/' | b'?' | b'#' | b'\\')).unwrap_or(rest.len());
    let (authority, target) = rest.split_at_checked(end)?;
    let host = match memchr::memrchr(b'@', authority) {
        Some(at) => authority.get(at + 1..)?,
        None => authority,
    };
    if host.is_empty() || host.first() == Some(&b':') {
        return None;
    }
    let target = match memchr::memchr(b'#', target) {
        Some(fragment) => target.get(..fragment)?,
        None => target,
    };
    Some((host, if target.is_empty() { b"/" } else { target }))
}

fn after_scheme(url: &[u8]) -> Option<&[u8]> {
    [&b"http://"[..], b"https://"].iter().find_map(|scheme| {
        let (head, rest) = url.split_at_checked(scheme.len())?;
        head.eq_ignore_ascii_case(scheme).then_some(rest)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(url: &str) -> Option<(&str, &str)> {
        let (host, target) = split_absolute_url(url.as_bytes())?;
        Some((std::str::from_utf8(host).unwrap(), std::str::from_utf8(target).unwrap()))
    }

    #[test]
    fn host_and_target_are_split_and_the_fragment_is_dropped() {
        assert_eq!(
            split("https://www.acme.example:8443/sales/leads.nsf/v?OpenView#top"),
            Some(("www.acme.example:8443", "/sales/leads.nsf/v?OpenView"))
        );
        assert_eq!(split("HTTP://user:pw@Host"), Some(("Host", "/")));
        assert_eq!(split("http://host?OpenServer"), Some(("host", "?OpenServer")));
        assert_eq!(split("http://host#x"), Some(("host", "/")));
        assert_eq!(split("http://[::1]:80/a"), Some(("[::1]:80", "/a")));
    }

    #[test]
    fn the_host_is_the_one_that_a_browser_would_ask() {
        assert_eq!(split("http://evil\\@good/x"), Some(("evil", "\\@good/x")));
        assert_eq!(split("http://good@evil/x"), Some(("evil", "/x")));
    }

    #[test]
    fn anything_but_an_absolute_http_url_is_refused() {
        for other in [
            "",
            "/path",
            "about:blank",
            "ftp://host/",
            "http:/host",
            "http:///x",
            "https://",
            "http://:80/",
            "http://u@/",
        ] {
            assert_eq!(split(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = split_absolute_url(&bytes);
            let _ = split_absolute_url(&[b"http://", &bytes[..]].concat());
        }
    }
}
