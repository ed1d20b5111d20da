//! `home_mail` of a route: where the agent is that knows the user's mail file, and where a login begins. Both are paths on
//! the servers of the cluster, because the user's cookies go there.

use super::keys;
use super::reader::{Item, Map};
use super::settings::{HomeMail, Mode};
use super::values::ValueError;

const AGENT: &str = "/icm.nsf/companion?OpenAgent&whoami";
const LOGIN: &str = "/names.nsf?Login";

/// `on`, or a map with what differs from the defaults.
pub(super) fn home_mail(item: &Item<'_>, mode: Mode) -> Option<HomeMail> {
    if !item.is_map() && !item.boolean()? {
        item.error(ValueError::new("`off` has no meaning here").hint("remove the route"));
        return None;
    }
    if mode == Mode::Redirect {
        item.error(
            ValueError::new("home_mail needs `mode: proxy`")
                .hint("with `mode: redirect` browsers send their sessions to the servers only"),
        );
    }
    let map = if item.is_map() { item.map(keys::HOME_MAIL) } else { return Some(home(AGENT, LOGIN)) };
    let agent = target(&map, "agent", AGENT);
    if agent == *"/icm.nsf/companion?OpenAgent" {
        map.get("agent").warn("without `&whoami` the companion does not tell who asks");
    }
    Some(home(&agent, &target(&map, "login", LOGIN)))
}

fn home(agent: &str, login: &str) -> HomeMail {
    HomeMail { agent: agent.into(), login: login.into() }
}

fn target(map: &Map<'_>, key: &str, default: &str) -> String {
    let target = map.get(key).parsed("a path such as `/names.nsf?Login`", |text| match text.trim() {
        t if t.contains("://") || t.starts_with("//") => {
            Err(ValueError::new(format!("`{t}` names a host")).hint("write the path on the servers only"))
        }
        t if !t.starts_with('/') => {
            Err(ValueError::new(format!("`{t}` is not a path")).hint(format!("write `/{t}`")))
        }
        t if !t.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'#' | b'\\')) => {
            Err(ValueError::new("the path has a character that URLs do not have").hint("percent-encode it"))
        }
        t => Ok(t.to_owned()),
    });
    target.unwrap_or_else(|| default.to_owned())
}
