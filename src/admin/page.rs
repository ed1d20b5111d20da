//! `GET /`: the status page, a static document without data. Its script polls `/status` and `/history` and writes text,
//! never markup; its content security policy allows only the built-in script and style.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use http::header::{self, HeaderValue};
use sha2::{Digest, Sha256};

use super::AdminRequest;
use super::authorization::TokenStatus;
use super::reply::AdminReply;

const DOCUMENT: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
/// One script in the page: each file uses functions of the others, and the last one begins to poll.
static SCRIPT: LazyLock<String> = LazyLock::new(|| {
    [
        include_str!("page/page.js"),
        include_str!("page/servers.js"),
        include_str!("page/charts.js"),
        include_str!("page/progress.js"),
        include_str!("page/search.js"),
    ]
    .join("\n")
});

/// The document, and a policy that allows its style and script by their hashes.
static PAGE: LazyLock<(String, HeaderValue)> = LazyLock::new(|| {
    let html = DOCUMENT.replace("{{style}}", STYLE).replace("{{script}}", &SCRIPT);
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; img-src data:; connect-src 'self'; \
         form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        hash(&SCRIPT),
        hash(STYLE),
    );
    (html, HeaderValue::from_str(&policy).unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'")))
});

fn hash(text: &str) -> String {
    STANDARD.encode(Sha256::digest(text))
}

/// Answers `GET /`. If a login is needed, the status is 401 and the page shows the login form.
#[must_use]
pub fn page(request: &AdminRequest) -> AdminReply {
    let (html, policy) = &*PAGE;
    let token_status = TokenStatus::of_request(request);
    let loopback = request.snapshot.settings.admin.address.ip().is_loopback();
    let may_read = loopback || !matches!(token_status, TokenStatus::Invalid | TokenStatus::NotConfigured);
    let status = if may_read { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
    let reply = AdminReply { status, ..AdminReply::text("text/html; charset=utf-8", html.as_str()) };
    reply.with(header::CONTENT_SECURITY_POLICY, policy.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_loads_nothing_from_other_hosts() {
        let (html, _) = &*PAGE;
        for outside in ["http://", "https://", "src=", "@import", "url(", "<link rel=\"stylesheet", "{{"] {
            let rest = html.replace("http://www.w3.org/", "");
            assert!(!rest.contains(outside), "{outside}");
        }
        assert_eq!(html.matches("<script>").count(), 1);
        assert_eq!(html.matches("<style>").count(), 1);
    }

    #[test]
    fn the_script_writes_text_and_never_markup() {
        for sink in
            ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", "srcdoc"]
        {
            assert!(!SCRIPT.contains(sink), "{sink}");
        }
        // An end tag inside the script or the style would cut it off.
        assert!(!SCRIPT.contains("</script") && !STYLE.contains("</style"));
        let attributes = [" onclick=", " onload=", " onerror=", " style="];
        assert!(
            attributes.iter().all(|a| !DOCUMENT.contains(a)),
            "the policy forbids inline handlers and styles"
        );
    }

    #[test]
    fn the_policy_contains_the_hashes_of_script_and_style() {
        let (html, policy) = &*PAGE;
        let policy = policy.to_str().unwrap();
        for (open, close) in [("<script>", "</script>"), ("<style>", "</style>")] {
            let inside = html.split(open).nth(1).unwrap().split(close).next().unwrap();
            assert!(policy.contains(&format!("'sha256-{}'", hash(inside))), "{open}");
        }
        assert!(!policy.contains("unsafe"));
    }
}
