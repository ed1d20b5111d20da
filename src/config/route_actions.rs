//! The actions of routes that have keys of their own: `redirect`, `respond` and `files`. Pages are read here, so that a
//! file that is missing or too large is an error of the configuration.

use bytes::Bytes;
use http::HeaderValue;
use http::header::{self, HeaderName};
use sha2::{Digest, Sha256};

use super::file_access::{self, Named};
use super::keys;
use super::reader::{Item, Map};
use super::settings::{FixedResponse, RouteRedirect, StaticFiles};
use super::values::ValueError;
use crate::domain::rules::RedirectTarget;
use crate::util::media_type;

/// The page stays in memory.
const MAX_PAGE_BYTES: u64 = 1 << 20;
const REDIRECT_STATUSES: [u16; 5] = [301, 302, 303, 307, 308];
/// Seconds: search engines come back later, and users should not wait long.
const DEFAULT_RETRY_AFTER: u32 = 60;

/// `redirect`: a URL, or a map with its status.
pub(super) fn redirect(item: &Item<'_>) -> Option<RouteRedirect> {
    let target = |item: &Item<'_>| {
        item.parsed("a URL such as `https://www.acme.example{path}{query}`", |text| {
            RedirectTarget::parse(text.trim()).map_err(|error| ValueError::new(format!("`{text}`: {error}")))
        })
    };
    if !item.is_map() {
        return Some(RouteRedirect { status: 302, to: target(item)? });
    }
    let map = item.map(keys::ROUTE_REDIRECT);
    let status = map.get("status").parsed("the status of a redirect", |text| {
        text.trim().parse().ok().filter(|status| REDIRECT_STATUSES.contains(status)).ok_or_else(|| {
            let hint = "write 301 or 308 if it is for ever, else 302, 303 or 307";
            ValueError::new(format!("`{text}` is not the status of a redirect")).hint(hint)
        })
    });
    Some(RouteRedirect { status: status.unwrap_or(302), to: target(&map.required("to"))? })
}

/// `respond`: a fixed text or page.
pub(super) fn respond(item: &Item<'_>) -> Option<FixedResponse> {
    let map = item.map(keys::ROUTE_RESPOND);
    let status = map.get("status").parsed("a status such as `503`", response_status).unwrap_or(200);
    let (body, default_type) = content(&map, status)?;
    let own_type = map.get("content_type");
    let content_type = own_type.parsed("a media type", media_type_value);
    let retry_after = map.get("retry_after");
    if retry_after.is_present() && !matches!(status, 429 | 503) {
        retry_after.error_at_key(
            ValueError::new(format!("has no meaning with status {status}"))
                .hint("remove it, or write status 503"),
        );
    }
    let seconds = retry_after.period().map(|wait| u32::try_from(wait.as_secs().max(1)).unwrap_or(u32::MAX));
    let digest = Sha256::digest(&body);
    let digest: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    Some(FixedResponse {
        status,
        content_type: content_type.unwrap_or_else(|| HeaderValue::from_static(default_type)),
        body,
        etag: HeaderValue::try_from(format!("\"{digest}\"")).ok()?,
        retry_after: seconds.or_else(|| (status == 503).then_some(DEFAULT_RETRY_AFTER)),
        headers: headers(&map.get("headers")),
    })
}

fn response_status(text: &str) -> Result<u16, ValueError> {
    let wrong = |why: &str| Err(ValueError::new(format!("`{text}` {why}")));
    match text.trim().parse::<u16>() {
        Ok(304 | 205 | 206) => wrong("is not the status of a fixed response"),
        Ok(300..=399) => {
            wrong("is the status of a redirect").map_err(|error| error.hint("write the action `redirect`"))
        }
        Ok(status @ 200..=599) => Ok(status),
        _ => wrong("is not a status").map_err(|error| error.hint("write 200 to 599")),
    }
}

/// The body, and its media type if the configuration names none.
fn content(map: &Map<'_>, status: u16) -> Option<(Bytes, &'static str)> {
    let (text, page) = (map.get("text"), map.get("page"));
    if text.is_present() && page.is_present() {
        page.error_at_key(ValueError::new("cannot stand beside `text`").hint("remove one of them"));
        return None;
    }
    if status == 204
        && let Some(extra) = [&text, &page].into_iter().find(|item| item.is_present())
    {
        extra.error_at_key(ValueError::new("a response with status 204 has no content").hint("remove it"));
        return None;
    }
    if page.is_present() {
        let (path, content) = page.file(Named::Public, MAX_PAGE_BYTES)?;
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
        return Some((content.bytes.into(), media_type::of_extension(&extension)));
    }
    let plain = media_type::of_extension("txt");
    if !text.is_present() {
        return Some((Bytes::new(), plain));
    }
    text.parsed("a text", |text| Ok(text.to_owned())).map(|text| (text.into(), plain))
}

fn media_type_value(text: &str) -> Result<HeaderValue, ValueError> {
    let text = text.trim();
    let name = text.split(';').next().unwrap_or_default().trim();
    let is_token = |part: &str| HeaderName::from_bytes(part.as_bytes()).is_ok();
    let is_type = name.split_once('/').is_some_and(|(major, minor)| is_token(major) && is_token(minor));
    HeaderValue::from_str(text).ok().filter(|_| is_type).ok_or_else(|| {
        ValueError::new(format!("`{text}` is not a media type")).hint("such as `text/html; charset=utf-8`")
    })
}

/// Further fields. Those that frame the response are the proxy's own.
fn headers(item: &Item<'_>) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers = Vec::new();
    for (name, value) in item.entries() {
        let Ok(field) = HeaderName::from_bytes(name.as_bytes()) else {
            value.error_at_key(ValueError::new(format!("`{name}` is not the name of a header field")));
            continue;
        };
        let own_key = match field {
            header::CONTENT_TYPE => "write `content_type` beside `headers`",
            header::RETRY_AFTER => "write `retry_after` beside `headers`",
            header::LOCATION => "write the action `redirect`",
            header::CONTENT_LENGTH
            | header::TRANSFER_ENCODING
            | header::CONNECTION
            | header::UPGRADE
            | header::TRAILER
            | header::DATE => "remove it: the response gets its own",
            _ => {
                let text = value.text();
                headers.extend(text.and_then(|text| HeaderValue::try_from(text).ok()).map(|v| (field, v)));
                continue;
            }
        };
        value.error_at_key(ValueError::new("cannot be set here").hint(own_key));
    }
    headers
}

/// `files`: a folder, or a map with its settings.
pub(super) fn files(item: &Item<'_>) -> Option<StaticFiles> {
    let map = item.is_map().then(|| item.map(keys::ROUTE_FILES));
    let folder_item = map.as_ref().map_or_else(|| item.clone(), |map| map.required("folder"));
    let index = map.as_ref().map(|map| map.get("index")).filter(Item::is_present);
    let index = match index {
        Some(index) if index.is_off() => None,
        Some(index) => index.parsed("the name of a file", index_name),
        None => Some("index.html".into()),
    };
    let types = map.as_ref().map(|map| map.get("content_types").entries()).unwrap_or_default();
    let types = types.into_iter().filter_map(|(extension, value)| {
        let extension = extension.trim_start_matches('.').to_ascii_lowercase();
        Some((extension.into(), value.parsed("a media type", media_type_value)?))
    });
    let content_types = types.collect();
    let folder = folder_item.path(Named::Public)?;
    let load = item.doc.load;
    if !load.files.is_dir(&folder) {
        folder_item.error(ValueError::new(format!("there is no directory {}", folder.display())));
        return None;
    }
    // A file of this ICM's own configuration is not known yet: `top::cross_check` looks for those.
    if let Some(secret) =
        load.access.and_then(|access| file_access::secret_below(&access.own, load.files, &folder))
    {
        folder_item.error(refusal(secret));
        return None;
    }
    Some(StaticFiles { folder, index, content_types })
}

/// The error for a folder with a file that must stay secret, or for such a file.
pub(super) fn refusal(secret: &str) -> ValueError {
    ValueError::new(format!("everybody could read this ICM's own {secret}, which is here"))
        .hint("keep what everybody may read in a folder of its own")
}

fn index_name(text: &str) -> Result<Box<str>, ValueError> {
    match text.trim() {
        name if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\']) => {
            Err(ValueError::new(format!("`{name}` is not the name of a file in the folder"))
                .hint("such as `index.html`, or `off`"))
        }
        name => Ok(name.into()),
    }
}
