//! The sections of a cluster about its requests: `probe`, `failover`, `affinity`, `limits` and `headers`.

use std::time::Duration;

use super::header_edits;
use super::keys;
use super::reader::Item;
use super::settings::{
    Affinity, ClusterLimits, Failover, Headers, LastResort, Probe, Secret, UnknownCommands,
};
use super::values::{self, ValueError};
use crate::domain::affinity::session_cookies::names_of_cookies;
use crate::domain::affinity::{SameSite, SessionCookieStyle};

/// URL commands that change something, also by a GET request, which HTTP calls safe.
const UNSAFE_COMMANDS: [&str; 6] =
    ["deletedocument", "openagent", "runagent", "logout", "savedocument", "createdocument"];
/// Domino's session cookies: of multi-server and of single-server sessions.
const SESSION_COOKIES: [&str; 2] = ["domauthsessid", "sessionid"];
const MAX_COUNT: u64 = u32::MAX as u64;

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(super) fn probe(item: &Item<'_>) -> Probe {
    let map = item.map(keys::PROBE);
    let path = map.get("path").parsed("a path such as `/`", |text| match text.trim() {
        t if !t.starts_with('/') => {
            Err(ValueError::new(format!("`{t}` is not a path")).hint(format!("write `/{t}`")))
        }
        t if t.chars().any(|c| c.is_whitespace() || c.is_control() || !c.is_ascii()) => {
            Err(ValueError::new("the path has a space or a character outside ASCII")
                .hint("percent-encode it"))
        }
        t => Ok(t.to_owned()),
    });
    let host = map.get("host").parsed("a host name", |text| {
        let at = values::host_port(text, Some(0))?;
        Ok(if at.port == 0 { at.host } else { at.to_string() })
    });
    let statuses = map.get("expected_statuses");
    let list = statuses.one_or_more();
    let ranges: Vec<_> =
        list.iter().filter_map(|r| r.parsed("statuses such as `200-499`", values::status_range)).collect();
    if statuses.is_list() && list.is_empty() {
        statuses
            .error(ValueError::new("the list is empty, so every probe would fail").hint("write `[200-499]`"));
    }
    Probe {
        path: path.unwrap_or_else(|| "/".to_owned()),
        host,
        interval: map.get("interval").period().unwrap_or(seconds(5)),
        timeout: map.get("timeout").period().unwrap_or(seconds(2)),
        healthy_after: map.get("healthy_after").integer(1, 1000).unwrap_or(2),
        unreachable_after: map.get("unreachable_after").integer(1, 1000).unwrap_or(2),
        expected_statuses: if ranges.is_empty() { vec![(200, 499)] } else { ranges },
    }
}

pub(super) fn failover(item: &Item<'_>) -> Failover {
    let map = item.map(keys::FAILOVER);
    let statuses = map.get("retry_statuses");
    let methods = map.get("retry_methods");
    let commands = map.get("unsafe_commands");
    let retry_methods = if methods.is_present() {
        let list = methods.one_or_more();
        list.iter().filter_map(method).collect()
    } else {
        vec![http::Method::GET, http::Method::HEAD, http::Method::OPTIONS]
    };
    let retry_statuses = if statuses.is_present() {
        statuses.one_or_more().iter().filter_map(|s| s.integer(500, 599)).collect()
    } else {
        vec![502, 503, 504]
    };
    let unsafe_commands = if commands.is_present() {
        let list = commands.one_or_more();
        let word = |t: String| t.trim_start_matches(['?', '!']).to_lowercase();
        list.iter().filter_map(|c| c.text().map(word)).collect()
    } else {
        UNSAFE_COMMANDS.map(str::to_owned).to_vec()
    };
    let replay = [("replay", UnknownCommands::Replay), ("once", UnknownCommands::Once)];
    let last = [("refuse", LastResort::Refuse), ("try_unreachable", LastResort::TryUnreachable)];
    Failover {
        attempts: map.get("attempts").integer(1, 32).unwrap_or(3),
        deadline: map.get("deadline").period().unwrap_or(seconds(90)),
        retry_budget: map.get("retry_budget").parsed("a percentage", values::percent).unwrap_or(0.2),
        connect_timeout: map.get("connect_timeout").period().unwrap_or(seconds(2)),
        response_timeout: map.get("response_timeout").period().unwrap_or(seconds(60)),
        body_timeout: body_timeout(&map.get("body_timeout")),
        retry_statuses,
        retry_methods,
        unsafe_commands,
        unknown_commands: map.get("unknown_commands").choice(&replay).unwrap_or(UnknownCommands::Replay),
        retry_after_timeout: map.get("retry_after_timeout").boolean().unwrap_or(true),
        save_check: map.get("save_check").choice(&[("on", true), ("off", false)]).unwrap_or(true),
        passive_failures: map.get("passive_failures").integer(0, 1000).unwrap_or(3),
        slow_start: map.get("slow_start").duration().unwrap_or(seconds(30)),
        last_resort: map.get("last_resort").choice(&last).unwrap_or(LastResort::Refuse),
    }
}

/// `off` and 0 mean no limit.
pub(super) fn body_timeout(item: &Item<'_>) -> Option<Duration> {
    if item.text_is("off") {
        return None;
    }
    Some(item.duration().unwrap_or(seconds(600))).filter(|timeout| !timeout.is_zero())
}

fn method(item: &Item<'_>) -> Option<http::Method> {
    let method = item.parsed("a method such as `GET`", |text| {
        let wrong = || ValueError::new(format!("`{text}` is not an HTTP method"));
        let upper = text.trim().to_ascii_uppercase();
        if upper != text {
            return Err(wrong().hint(format!("write `{upper}`")));
        }
        http::Method::from_bytes(upper.as_bytes()).map_err(|_| wrong())
    })?;
    if !matches!(method.as_str(), "GET" | "HEAD" | "OPTIONS" | "PUT" | "DELETE" | "TRACE" | "PROPFIND") {
        item.warn(format!("{method} is not idempotent: a retry may do its work twice"));
    }
    Some(method)
}

/// What holds for the keys of `affinity` that are absent.
pub(super) struct AffinityDefaults {
    pub cookie: String,
    pub secrets: Vec<Secret>,
    pub session_cookies: Vec<String>,
    pub same_site: SameSite,
}

impl Default for AffinityDefaults {
    fn default() -> Self {
        Self {
            cookie: "ICM".to_owned(),
            secrets: Vec::new(),
            session_cookies: SESSION_COOKIES.map(str::to_owned).to_vec(),
            same_site: SameSite::Lax,
        }
    }
}

pub(super) fn affinity(item: &Item<'_>, defaults: &AffinityDefaults) -> Affinity {
    let map = item.map(keys::AFFINITY);
    let cookie = map.get("cookie").parsed("a cookie name", cookie_name);
    let sessions = map.get("session_cookies");
    let session_cookies: Vec<String> = if sessions.is_present() {
        let list = sessions.one_or_more();
        list.iter().filter_map(|c| c.parsed("a cookie name", cookie_name)).map(|c| c.to_lowercase()).collect()
    } else {
        defaults.session_cookies.clone()
    };
    let cookie = cookie.unwrap_or_else(|| defaults.cookie.clone());
    for ours in names_of_cookies(&cookie) {
        if session_cookies.contains(&ours.to_lowercase()) {
            map.get("cookie").error(ValueError::new(format!("`{ours}` is one of session_cookies")));
        }
    }
    let styles = [("name", SessionCookieStyle::Name), ("value", SessionCookieStyle::Value)];
    let same_site = [("lax", SameSite::Lax), ("strict", SameSite::Strict), ("none", SameSite::None)];
    let fail_back = map.get("fail_back");
    let fail_back = if fail_back.text_is("never") { None } else { fail_back.duration() };
    let secret_file = map.get("secret_file");
    let secrets: Vec<Secret> =
        if secret_file.value.is_some() { secret_file.keys() } else { defaults.secrets.clone() };
    Affinity {
        enabled: map.get("mode").choice(&[("cookie", true), ("off", false)]).unwrap_or(true),
        cookie,
        secrets,
        session_cookies,
        session_cookie_style: map.get("session_cookie_style").choice(&styles).unwrap_or_default(),
        same_site: map.get("same_site").choice(&same_site).unwrap_or(defaults.same_site),
        fail_back,
        idle_timeout: map.get("idle_timeout").period().unwrap_or(seconds(30 * 60)),
        drain_timeout: map.get("drain_timeout").duration().unwrap_or(seconds(30 * 60)),
    }
}

fn cookie_name(text: &str) -> Result<String, ValueError> {
    let name = text.trim();
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || name.len() > 64 || !name.bytes().all(token) {
        return Err(ValueError::new(format!("`{text}` is not a cookie name"))
            .hint("use letters, digits, `-` and `_`, at most 64"));
    }
    Ok(name.to_owned())
}

pub(super) fn limits(item: &Item<'_>) -> ClusterLimits {
    let map = item.map(keys::CLUSTER_LIMITS);
    ClusterLimits {
        request_body: map.get("request_body").size(0).unwrap_or(100 << 20),
        max_requests_in_flight_per_server: map
            .get("max_requests_in_flight_per_server")
            .integer(0, MAX_COUNT)
            .unwrap_or(0),
        queue_timeout: map.get("queue_timeout").duration().unwrap_or(seconds(1)),
    }
}

pub(super) fn headers(item: &Item<'_>) -> Headers {
    let map = item.map(keys::HEADERS);
    let via = map.get("via");
    let via_value = if via.is_off() {
        None
    } else {
        via.parsed("a name, or off", |text| match text.trim() {
            "true" | "on" | "yes" => {
                Err(ValueError::new("a name is expected").hint("write `via: icm`, or `via: off`"))
            }
            t if t.is_empty() || !t.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:".contains(&b)) => {
                Err(ValueError::new(format!("`{t}` is not a name for Via"))
                    .hint("use letters, digits, `-`, `.`, `_` and `:`"))
            }
            t => Ok(t.to_owned()),
        })
    };
    let hsts = map.get("hsts");
    let hsts_value = if hsts.is_off() {
        None
    } else if hsts.value.is_some() {
        hsts.parsed("a Strict-Transport-Security value, or off", |text| {
            let text = text.trim();
            if text.to_ascii_lowercase().contains("max-age=") && http::HeaderValue::from_str(text).is_ok() {
                return Ok(text.to_owned());
            }
            Err(ValueError::new(format!("`{text}` is not a Strict-Transport-Security value"))
                .hint("write `\"max-age=31536000\"`, or `off`"))
        })
    } else {
        Some("max-age=31536000".to_owned())
    };
    let rules = header_edits::header_rules(&map);
    Headers {
        host_of_server: map.get("host").choice(&[("client", false), ("server", true)]).unwrap_or(false),
        via: via_value,
        hsts: hsts_value,
        expose_server: map.get("expose_server").boolean().unwrap_or(false),
        request_id: header_edits::request_id(&map.get("request_id"), &rules),
        rules,
    }
}
