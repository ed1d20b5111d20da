//! `POST /cache/purge?url=URL` and `?all=1`: removes responses from the cache.

use http::StatusCode;
use serde_json::json;

use super::AdminRequest;
use super::reply::AdminReply;
use crate::domain::rules::Glob;
use crate::domain::url;
use crate::state::response_cache::PurgeScope;
use crate::util::control_chars;

const USAGE: &str = "name what to remove: /cache/purge?url=/icons/a.gif, percent-encoded, or /cache/purge?all=1; `*` in the \
                     URL stands for any text";
const NO_URL: &str = "is neither a path such as `/icons/a.gif` nor a URL such as `https://www.acme.example/icons/a.gif`; `*` \
                      stands for any text";

pub(super) fn purge(request: &AdminRequest) -> AdminReply {
    let all = match request.query_value("all").as_deref() {
        None => false,
        Some("1" | "") => true,
        Some(_) => return AdminReply::bad_query("`all` must be 1: /cache/purge?all=1"),
    };
    let scope = match (all, request.query_value("url").filter(|url| !url.is_empty())) {
        (true, None) => PurgeScope::All,
        (false, Some(text)) => match scope_of(&text) {
            Some(scope) => scope,
            None => {
                let shown = control_chars::escape_all(&text);
                return AdminReply::bad_query(format!("`{shown}` {NO_URL}"));
            }
        },
        _ => return AdminReply::bad_query(USAGE),
    };
    let Some(purged) = request.balancer.response_cache.purge(&scope) else {
        return AdminReply::error(StatusCode::CONFLICT, "cache_off", "the configuration has no `cache`");
    };
    let what = request.query_value("url").unwrap_or_else(|| "everything".to_owned());
    let text = format!("{purged} responses removed from the cache: {}", control_chars::escape_all(&what));
    request.balancer.events.record(log::Level::Info, "cache", None, text);
    AdminReply::json(&json!({ "purged": purged }))
}

/// `None` for what is neither a path nor a URL.
fn scope_of(text: &str) -> Option<PurgeScope> {
    let matching = |scheme, authority: Option<&str>, target: &[u8]| PurgeScope::Matching {
        scheme,
        authority: authority.map(str::to_ascii_lowercase),
        target: Glob::new(target),
    };
    if text.starts_with('/') {
        return Some(matching(None, None, text.as_bytes()));
    }
    let tls = text.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("https://"));
    let (host, target) = url::split_absolute_url(text.as_bytes())?;
    let target = if target.is_empty() { b"/" } else { target };
    Some(matching(Some(if tls { "https" } else { "http" }), Some(std::str::from_utf8(host).ok()?), target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_scheme_host_and_target_and_a_path_the_target() {
        let PurgeScope::Matching { scheme, authority, target } =
            scope_of("HTTPS://WWW.Acme.example:8443/icons/*?x").unwrap()
        else {
            panic!("not all")
        };
        assert_eq!((scheme, authority.as_deref()), (Some("https"), Some("www.acme.example:8443")));
        assert_eq!(target.to_text(), "/icons/*?x");
        let PurgeScope::Matching { scheme: None, authority: None, target } =
            scope_of("/icons/a.gif").unwrap()
        else {
            panic!("a path")
        };
        assert_eq!(target.to_text(), "/icons/a.gif");
        assert!(scope_of("icons/a.gif").is_none() && scope_of("ftp://a/b").is_none());
    }
}
