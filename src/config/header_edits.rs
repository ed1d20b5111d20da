//! `headers`: fields that are set and removed, and the field of request IDs. A field that frames a message or that only
//! `icm` may write is refused here, so that the proxy need not check it.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use super::keys;
use super::reader::{Item, Map};
use super::settings::{FieldName, HeaderEdits, HeaderRules};
use super::values::ValueError;
use crate::util::header_names::{is_alias, is_httpoxy, is_reserved};

/// Longer values are a mistake: servers refuse them.
const MAX_VALUE_BYTES: usize = 4096;

const FRAMING: &str = "it belongs to the connection or frames the message, which is the work of icm";
const IDENTITY: &str = "only icm may write it: servers trust it";
const SESSIONS: &str = "logins and affinity depend on it";

/// Fields that no edit may name, and why.
const OWNED: &[(&str, &str)] = &[
    ("connection", FRAMING),
    ("content-encoding", FRAMING),
    ("content-length", FRAMING),
    ("date", FRAMING),
    ("expect", FRAMING),
    ("http2-settings", FRAMING),
    ("keep-alive", FRAMING),
    ("max-forwards", FRAMING),
    ("proxy-authenticate", FRAMING),
    ("proxy-authorization", FRAMING),
    ("proxy-connection", FRAMING),
    ("te", FRAMING),
    ("trailer", FRAMING),
    ("transfer-encoding", FRAMING),
    ("upgrade", FRAMING),
    ("cookie", SESSIONS),
    ("set-cookie", SESSIONS),
];

/// Fields that have keys of their own in `headers`.
const OTHER_KEYS: &[(&str, &str)] =
    &[("host", "host"), ("via", "via"), ("strict-transport-security", "hsts"), ("server", "expose_server")];

/// `set`, `remove` and `to_server` of a map that has these keys.
pub(super) fn header_rules(map: &Map<'_>) -> HeaderRules {
    let to_server = map.get("to_server").map(keys::HEADERS_TO_SERVER);
    HeaderRules { to_client: edits(map), to_server: edits(&to_server) }
}

/// `request_id`: `off` or the name of a field. It may not be one that `rules` change.
pub(super) fn request_id(item: &Item<'_>, rules: &HeaderRules) -> Option<FieldName> {
    if item.is_off() {
        return None;
    }
    let field = item.parsed("the name of a field, or off", |text| match text.trim() {
        "true" | "on" | "yes" => Err(ValueError::new("the name of a field is expected")
            .hint("write `request_id: X-Request-ID`, or `request_id: off`")),
        text => field_name(text),
    })?;
    let mut edited = rules.to_client.names().chain(rules.to_server.names());
    if edited.any(|name| *name == field.name) {
        item.error(ValueError::new(format!("`{}` is also in set or remove", shown(&field))));
    }
    Some(field)
}

fn edits(map: &Map<'_>) -> HeaderEdits {
    let mut edits = HeaderEdits::default();
    for (text, item) in map.get("set").entries() {
        let field = field_name(text).map_err(|problem| item.error_at_key(problem));
        let value = item.parsed("a text", field_value);
        let (Ok(field), Some(value)) = (field, value) else { continue };
        match edits.set.iter().find(|(other, _)| other.name == field.name) {
            Some((other, _)) => {
                item.error_at_key(ValueError::new(format!("is the same field as `{}`", shown(other))));
            }
            None => edits.set.push((field, value)),
        }
    }
    for item in map.get("remove").one_or_more() {
        let Some(field) = item.parsed("the name of a field", field_name) else { continue };
        if edits.set.iter().any(|(set, _)| set.name == field.name) {
            item.error(
                ValueError::new(format!("`{}` is also in `set`", shown(&field)))
                    .hint("`set` replaces all lines of a field; remove one of the two"),
            );
        } else if edits.remove.contains(&field.name) {
            item.warn("is in this list twice");
        } else {
            edits.remove.push(field.name);
        }
    }
    edits
}

fn shown(field: &FieldName) -> String {
    String::from_utf8_lossy(&field.spelling).into_owned()
}

fn field_name(text: &str) -> Result<FieldName, ValueError> {
    let text = text.trim();
    let Ok(name) = HeaderName::from_bytes(text.as_bytes()) else {
        return Err(ValueError::new(format!("`{text}` is not the name of a header field"))
            .hint("use letters, digits and `-`, such as `X-Frame-Options`"));
    };
    let of = |table: &[(&'static str, &'static str)]| {
        table.iter().find(|(other, _)| *other == name.as_str()).map(|(_, what)| *what)
    };
    if let Some(key) = of(OTHER_KEYS) {
        return Err(
            ValueError::new(format!("`{text}` cannot be changed here")).hint(format!("use `headers.{key}`"))
        );
    }
    let is_untrusted = is_reserved(name.as_str()) || is_httpoxy(name.as_str());
    let why = of(OWNED).or(is_alias(name.as_str()).then_some(FRAMING)).or(is_untrusted.then_some(IDENTITY));
    match why {
        Some(why) => Err(ValueError::new(format!("`{text}` cannot be changed: {why}"))),
        None => Ok(FieldName { name, spelling: Bytes::copy_from_slice(text.as_bytes()) }),
    }
}

fn field_value(text: &str) -> Result<HeaderValue, ValueError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(ValueError::new("is empty").hint("write the name in `remove` to remove the field"));
    }
    if text.len() > MAX_VALUE_BYTES {
        return Err(ValueError::new(format!("is longer than {MAX_VALUE_BYTES} bytes")));
    }
    let value = HeaderValue::from_str(text).ok().filter(|_| text.is_ascii());
    value.ok_or_else(|| {
        ValueError::new("has a control character or one outside ASCII, which a header field cannot have")
    })
}
