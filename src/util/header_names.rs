//! Which names of header fields only the proxy may write, in every spelling that means the same to a server.
//!
//! It is separate because the proxy removes such fields of clients, and the configuration must not add them.

/// As the CGI variable `HTTP_PROXY`, libraries take it for their own proxy (<https://httpoxy.org>).
#[must_use]
pub fn is_httpoxy(name: &str) -> bool {
    is(name, "proxy")
}

/// Whether only the proxy may set a header, in any spelling.
#[must_use]
pub fn is_reserved(name: &str) -> bool {
    starts_with(name, "$ws")
        || starts_with(name, "x-forwarded")
        || is(name, "x-real-ip")
        || name.eq_ignore_ascii_case("forwarded")
        || is(name, "x-connectorheaders-secret")
}

/// Whether a name is another spelling of a framing or hop-by-hop field, which gives the same CGI variable.
#[must_use]
pub fn is_alias(name: &str) -> bool {
    const FIELDS: [&str; 9] = [
        "content-length",
        "transfer-encoding",
        "content-encoding",
        "http2-settings",
        "keep-alive",
        "max-forwards",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
    ];
    FIELDS.iter().any(|field| is(name, field) && !name.eq_ignore_ascii_case(field))
}

/// Whether a name begins with another one. All characters except letters and digits are equal, because the CGI variables
/// that agents read have underscores for them.
fn starts_with(name: &str, with: &str) -> bool {
    let alike = |(a, b): (u8, u8)| {
        a.eq_ignore_ascii_case(&b) || !(a.is_ascii_alphanumeric() || b.is_ascii_alphanumeric())
    };
    name.len() >= with.len() && name.bytes().zip(with.bytes()).all(alike)
}

/// Whether both names give the same CGI variable.
#[must_use]
pub fn is_same_variable(name: &str, other: &str) -> bool {
    is(name, other)
}

fn is(name: &str, whole: &str) -> bool {
    name.len() == whole.len() && starts_with(name, whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_headers_are_found_in_every_spelling() {
        for name in [
            "$wsru",
            "$wsra",
            "$ws",
            "$ws_ru",
            "$wsanything",
            "_wsru",
            "x-forwarded-for",
            "x_forwarded_for",
            "x-forwarded_for",
            "x.forwarded.for",
            "x-forwarded",
            "x-forwarded-anything",
            "x-real-ip",
            "x_real-ip",
            "forwarded",
            "x_connectorheaders_secret",
        ] {
            assert!(is_reserved(name), "{name}");
        }
        for name in
            ["ws", "xwsru", "forward", "forwarded-by-me", "x-forward-for", "x-real-ipx", "cookie", "host"]
        {
            assert!(!is_reserved(name), "{name}");
        }
    }

    #[test]
    fn aliases_of_framing_fields_go_and_the_fields_themselves_stay() {
        for alias in
            ["content_length", "transfer_encoding", "transfer.encoding", "keep_alive", "max_forwards"]
        {
            assert!(is_alias(alias), "{alias}");
        }
        for other in ["content-length", "transfer-encoding", "content_lengths", "content_type", "my_field"] {
            assert!(!is_alias(other), "{other}");
        }
    }
}
