//! `clusters[].compression`: what is compressed for clients.

use super::keys;
use super::reader::Item;
use super::values::ValueError;
use crate::domain::compression::{CompressionPolicy, ContentCoding};

/// `None`: nothing is compressed.
pub(super) fn compression(item: &Item<'_>) -> Option<CompressionPolicy> {
    if item.is_present() && !item.is_map() {
        let words = [("off", None), ("on", Some(())), ("true", Some(()))];
        let on = item.parsed("off, on, or a map", |text| {
            let word = if matches!(text, "false" | "no") { "off" } else { text };
            words.iter().find(|(known, _)| *known == word).map(|(_, on)| *on).ok_or_else(|| {
                ValueError::new(format!("`{text}` is not possible here"))
                    .hint("write on, off, or a map such as `{ algorithms: [br, gzip] }`")
            })
        });
        return on.flatten().map(|()| CompressionPolicy::default());
    }
    if !item.is_present() {
        return None;
    }
    let map = item.map(keys::COMPRESSION);
    let default = CompressionPolicy::default();
    Some(CompressionPolicy {
        types: or_default(&map.get("types"), default.types, media_type),
        min_size: map.get("min_size").size(0).unwrap_or(default.min_size),
        algorithms: or_default(&map.get("algorithms"), default.algorithms, algorithm),
        with_session_cookies: map.get("with_session_cookies").boolean().unwrap_or(false),
    })
}

/// The values of a list without repetition. An empty one would compress nothing, for which there is `off`.
fn or_default<T: PartialEq>(item: &Item<'_>, default: Vec<T>, read: fn(&Item<'_>) -> Option<T>) -> Vec<T> {
    if !item.is_present() {
        return default;
    }
    let items = item.one_or_more();
    if items.is_empty() && item.is_list() {
        item.error(ValueError::new("the list is empty").hint("write `compression: off`, or remove the key"));
    }
    let mut list: Vec<T> = Vec::new();
    for (item, value) in items.iter().filter_map(|item| Some((item, read(item)?))) {
        if list.contains(&value) {
            item.warn("is in this list twice");
        } else {
            list.push(value);
        }
    }
    list
}

fn algorithm(item: &Item<'_>) -> Option<ContentCoding> {
    item.choice(&ContentCoding::ALL.map(|coding| (coding.name(), coding)))
}

/// `text/html`, or `text/*` as `text/`.
fn media_type(item: &Item<'_>) -> Option<String> {
    item.parsed("a media type such as `text/html`", |text| {
        let text = text.trim().to_ascii_lowercase();
        let is_token = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
        };
        match text.split_once('/') {
            Some((main, "*")) if is_token(main) => Ok(format!("{main}/")),
            Some((main, sub)) if is_token(main) && is_token(sub) => Ok(text),
            _ => Err(ValueError::new(format!("`{text}` is not a media type"))
                .hint("write `text/html`, or `text/*` for all types that begin so")),
        }
    })
}
