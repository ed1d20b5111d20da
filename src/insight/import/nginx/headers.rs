//! Header fields that nginx sets, adds and hides, as `headers` of a cluster or a route.

use super::super::directive::Directive;
use super::super::header_fields::{FieldScope, is_refused, remove, to_client, to_server};
use super::super::report::ImportReport;
use super::super::scalar;
pub(super) fn apply(d: &Directive, scope: &mut FieldScope<'_>, report: &mut ImportReport) {
    match &*d.name {
        "proxy_set_header" => to_server(d, d.arg(0), d.arg(1), scope, report),
        "add_header" => to_client(d, d.arg(0), d.arg(1), scope, report),
        "more_set_headers" => {
            for field in &d.args {
                match field.split_once(':') {
                    Some((name, value)) => to_client(d, name.trim(), value.trim(), scope, report),
                    None => report.cannot(d, "it is no field with a value", "headers.set"),
                }
            }
        }
        "proxy_hide_header" | "more_clear_headers" => hide(d, scope, report),
        "proxy_pass_header" => {
            if d.arg(0).eq_ignore_ascii_case("Server") {
                scope.set(d, &["headers", "expose_server"], "true".to_owned(), report);
            } else {
                report.not_needed(d, "all other fields pass");
            }
        }
        _ => expires(d, scope, report),
    }
}

fn hide(d: &Directive, scope: &mut FieldScope<'_>, report: &mut ImportReport) {
    for field in &d.args {
        match &*field.to_ascii_lowercase() {
            "server" => report.not_needed(d, "the field Server of Domino is removed by default"),
            "strict-transport-security" => report.not_needed(d, "headers.hsts replaces that of Domino"),
            lower if is_refused(lower) => {
                report.cannot(d, "icm does not let this field be changed", "docs/headers.md")
            }
            _ => remove(d, &["headers", "remove"], field, scope, report),
        }
    }
}

fn expires(d: &Directive, scope: &mut FieldScope<'_>, report: &mut ImportReport) {
    let value = match d.args.last().map(String::as_str) {
        Some("off") | None => return report.not_needed(d, "fields of the server pass"),
        Some("epoch") => "no-cache".to_owned(),
        Some("max") => "max-age=315360000".to_owned(),
        Some(text) if text.starts_with('-') => "no-cache".to_owned(),
        Some(text) => match scalar::nginx_millis(text.trim_start_matches('+')) {
            Some(ms) => format!("max-age={}", ms / 1000),
            None => return report.cannot(d, "its value is not fixed", "headers.set: { Cache-Control: ... }"),
        },
    };
    scope.set(d, &["headers", "set", "Cache-Control"], scalar::scalar(&value), report);
}
