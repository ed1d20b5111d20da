//! Content negotiation: HTML for people or JSON for programs. A value of `Accept` that cannot be read counts as missing,
//! and without one the client gets HTML.

/// The two formats of every page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PageFormat {
    Html,
    Json,
}

#[derive(Clone, Copy, Default, PartialEq, PartialOrd)]
struct Preference {
    /// 0.0 to 1.0; 0 = not acceptable.
    quality: f32,
    /// 0 = not named, 1 = `*/*`, 2 = `type/*`, 3 = `type/subtype`.
    precision: u8,
}

/// Chooses by the qualities of RFC 9110 section 12.5.1 (<https://www.rfc-editor.org/rfc/rfc9110#section-12.5.1>).
///
/// At equal quality the more precise range wins, so that a script that sends `application/json, */*` gets JSON; at equal
/// precision HTML wins.
pub(super) fn format_for(accept: Option<&[u8]>) -> PageFormat {
    let Some(accept) = accept else { return PageFormat::Html };
    let accept = String::from_utf8_lossy(accept).to_ascii_lowercase();
    let mut html = Preference::default();
    let mut json = Preference::default();
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let quality = parts
            .filter_map(|p| p.strip_prefix("q="))
            .find_map(|q| q.trim().parse::<f32>().ok())
            .filter(|q| q.is_finite())
            .map_or(1.0, |q| q.clamp(0.0, 1.0));
        update(&mut html, name, quality, "text/html", "text/*");
        update(&mut json, name, quality, "application/json", "application/*");
    }
    if json.quality > 0.0 && json > html { PageFormat::Json } else { PageFormat::Html }
}

/// Takes the quality of a range that covers the type, if no more precise one did.
fn update(preference: &mut Preference, name: &str, quality: f32, exact: &str, family: &str) {
    let precision = match name {
        n if n == exact => 3,
        n if n == family => 2,
        "*/*" | "*" => 1,
        _ => return,
    };
    if precision > preference.precision {
        *preference = Preference { quality, precision };
    }
}

/// The time of day as `10:42`.
pub(super) fn utc_time(unix_secs: u64) -> String {
    let minutes = unix_secs / 60;
    format!("{:02}:{:02}", minutes / 60 % 24, minutes % 60)
}

/// The time of day as `10:42:07`.
pub(super) fn utc_seconds(unix_ms: u64) -> String {
    let seconds = unix_ms / 1_000;
    format!("{}:{:02}", utc_time(seconds), seconds % 60)
}

/// As programs read it: `2026-11-30T10:42:07Z`.
pub(super) fn rfc3339(unix_ms: u64) -> String {
    let time = i64::try_from(unix_ms).ok().and_then(chrono::DateTime::from_timestamp_millis);
    time.map(|time| time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_browser_gets_the_page_and_a_program_json() {
        let table: &[(&str, PageFormat)] = &[
            ("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8", PageFormat::Html),
            ("*/*", PageFormat::Html),
            ("", PageFormat::Html),
            ("application/json", PageFormat::Json),
            ("Application/JSON", PageFormat::Json),
            ("application/json; charset=utf-8", PageFormat::Json),
            ("application/json, text/plain, */*", PageFormat::Json),
            ("application/json, text/html", PageFormat::Html),
            ("text/html;q=0.9, application/json", PageFormat::Json),
            ("text/html, application/json;q=0.9", PageFormat::Html),
            ("text/html; q=0.2, application/json ; q=0.3", PageFormat::Json),
            ("application/*", PageFormat::Json),
            ("application/json;q=0", PageFormat::Html),
            ("application/json;q=0, */*", PageFormat::Html),
            ("text/html;q=0, */*;q=0.1", PageFormat::Json),
            ("image/png", PageFormat::Html),
            ("application/json;q=nan", PageFormat::Json),
            (";;;,,,q=", PageFormat::Html),
        ];
        for (accept, expected) in table {
            assert_eq!(format_for(Some(accept.as_bytes())), *expected, "{accept}");
        }
        assert_eq!(format_for(None), PageFormat::Html);
    }

    proptest! {
        #[test]
        fn without_the_word_json_or_application_it_is_always_the_page(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let text = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
            prop_assume!(!text.contains("application") && !text.contains("*/*") && !text.contains('*'));
            prop_assert_eq!(format_for(Some(&bytes)), PageFormat::Html);
        }
    }
}
