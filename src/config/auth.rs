//! `auth`: how to log in to Domino. A password is never sent in clear text to another machine unless that is allowed.

use super::keys;
use super::reader::Item;
use super::settings::{Auth, BaseUrl};
use super::values::ValueError;
use crate::util::host::is_loopback;

/// How to log in, and whether the password may be sent in clear text.
pub(super) fn auth(item: &Item<'_>) -> (Auth, bool) {
    if !item.is_present() {
        return (Auth::None, false);
    }
    let map = item.map(keys::AUTH);
    let plaintext = map.get("allow_plaintext").boolean().unwrap_or(false);
    let (basic, session) = (map.has("basic"), map.has("session"));
    if basic && session {
        map.get("session")
            .error_at_key(ValueError::new("cannot be used together with `basic`").hint("remove one of them"));
    }
    let key = if basic { "basic" } else { "session" };
    if !basic && !session {
        if item.is_map() {
            let example = "write `basic: { user: NAME, password_file: FILE }` or `session: { ... }`";
            item.error_at_key(ValueError::new("does not say how to log in").hint(example));
        }
        return (Auth::None, plaintext);
    }
    let login = map.get(key).map(keys::LOGIN);
    let user = login.required("user").text();
    let password = login.required("password_file").secret();
    let Some((user, password)) = user.zip(password) else { return (Auth::None, true) };
    if basic {
        if user.contains(':') {
            login.get("user").error(ValueError::new("Basic authentication cannot send a user name with `:`"));
        }
        (Auth::Basic { user, password }, plaintext)
    } else {
        (Auth::Session { user, password }, plaintext)
    }
}

/// The first URL to which a password would be sent in clear text.
pub(super) fn plain_url(urls: &[BaseUrl]) -> Option<String> {
    urls.iter().find(|u| !u.https && !is_loopback(&u.at.host)).map(|u| u.at.to_string())
}

/// Notes an error if a password would be sent in clear text.
pub(super) fn refuse_plaintext(item: &Item<'_>, auth: &Auth, to: Option<String>) {
    if *auth != Auth::None
        && let Some(to) = to
    {
        item.error_at_key(
            ValueError::new(format!("the password would be sent to {to} in clear text"))
                .hint("use https, or add `allow_plaintext: true` to `auth` if the network is trusted"),
        );
    }
}
