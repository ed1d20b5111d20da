//! Parsers of single values: durations, sizes, addresses, URLs, status ranges. They know neither file nor key.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipnet::IpNet;

use super::settings::{BaseUrl, Column, HostPattern};
pub(super) use super::value_error::ValueError;
use crate::domain::cluster::HostPort;
use crate::util::host;

type Parsed<T> = Result<T, ValueError>;

/// A year in milliseconds: long enough for every timeout, and too short to overflow a clock.
const MAX_DURATION: u64 = 366 * 24 * 3600 * 1000;

/// `500ms`, `30s`, `5m`, `1h`, `7d`, and combinations such as `1m30s`.
pub(super) fn duration(text: &str) -> Parsed<Duration> {
    const UNITS: &str = "ms, s, m, h or d";
    let wrong = || {
        ValueError::new(format!("`{text}` is not a duration"))
            .hint(format!("write a whole number and one of {UNITS}, such as `5s`"))
    };
    if !text.is_empty() && text.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | '_')) {
        return Err(ValueError::new(format!("the duration `{text}` has no unit"))
            .hint(format!("write `{text}s` for seconds ({UNITS})")));
    }
    let mut total: u64 = 0;
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.chars().take_while(char::is_ascii_digit).count();
        let (number, behind) = rest.split_at_checked(digits).ok_or_else(wrong)?;
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let behind = behind.trim_start();
        let letters = behind.chars().take_while(char::is_ascii_alphabetic).count();
        let (unit, behind) = behind.split_at_checked(letters).ok_or_else(wrong)?;
        let factor: u64 = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60 * 1000,
            "h" => 3600 * 1000,
            "d" => 24 * 3600 * 1000,
            _ => return Err(wrong()),
        };
        total = number.checked_mul(factor).and_then(|n| n.checked_add(total)).ok_or_else(wrong)?;
        rest = behind.trim_start();
    }
    if total > MAX_DURATION {
        return Err(
            ValueError::new(format!("the duration `{text}` is too long")).hint("write at most `366d`")
        );
    }
    Ok(Duration::from_millis(total))
}

/// `512B`, `64KiB`, `100MiB`, `1GiB`; `0` needs no unit.
pub(super) fn size(text: &str) -> Parsed<u64> {
    const UNITS: &str = "B, KiB, MiB or GiB";
    let text = text.trim();
    let wrong = || {
        ValueError::new(format!("`{text}` is not a size"))
            .hint(format!("write a whole number and one of {UNITS}, such as `64KiB`"))
    };
    if text == "0" {
        return Ok(0);
    }
    let digits = text.chars().take_while(char::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).ok_or_else(wrong)?;
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let factor: u64 = match unit.trim_start() {
        "" => {
            return Err(ValueError::new(format!("the size `{text}` has no unit"))
                .hint(format!("write `{text}B` for bytes ({UNITS})")));
        }
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "K" | "KB" | "kB" | "k" | "kb" | "kib" => {
            return Err(wrong_unit(text, number, "KiB"));
        }
        "M" | "MB" | "m" | "mb" | "mib" => return Err(wrong_unit(text, number, "MiB")),
        "G" | "GB" | "g" | "gb" | "gib" => return Err(wrong_unit(text, number, "GiB")),
        _ => return Err(wrong()),
    };
    number
        .checked_mul(factor)
        .filter(|n| *n <= i64::MAX as u64)
        .ok_or_else(|| ValueError::new(format!("the size `{text}` is too large")))
}

/// A size as [`size`] reads it, in the largest unit that divides it.
pub(super) fn size_text(bytes: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = units.iter().find(|(factor, _)| bytes > 0 && bytes.is_multiple_of(*factor));
    let (factor, name) = unit.copied().unwrap_or((1, "B"));
    format!("{}{name}", bytes / factor)
}

fn wrong_unit(text: &str, number: u64, unit: &str) -> ValueError {
    ValueError::new(format!("the size `{text}` has an unknown unit"))
        .hint(format!("write `{number}{unit}` (B, KiB, MiB or GiB)"))
}

/// `20%`, from 0% to 100%, as a fraction of 1.
pub(super) fn percent(text: &str) -> Parsed<f64> {
    let text = text.trim();
    let wrong =
        || ValueError::new(format!("`{text}` is not a percentage")).hint("write it like `20%`, 0% to 100%");
    let Some(number) = text.strip_suffix('%') else {
        return Err(match text.parse::<u8>() {
            Ok(n) if n <= 100 => {
                ValueError::new(format!("the percentage `{text}` has no unit")).hint(format!("write `{n}%`"))
            }
            _ => wrong(),
        });
    };
    match number.trim_end().parse::<u8>() {
        Ok(n) if n <= 100 && !number.starts_with('+') => Ok(f64::from(n) / 100.0),
        _ => Err(wrong()),
    }
}

/// A DNS name, in lower case and without the root's dot.
fn dns_name(text: &str) -> Parsed<String> {
    let name = text.trim().to_ascii_lowercase();
    let name = name.strip_suffix('.').unwrap_or(&name);
    if host::is_dns_name(name) {
        return Ok(name.to_owned());
    }
    let wrong = ValueError::new(format!("`{text}` is not a host name"));
    Err(if !name.is_ascii() {
        wrong.hint("write an international name in its `xn--` form")
    } else if name.contains("://") {
        wrong.hint("write the name alone, without scheme, port and path")
    } else if host::ends_in_number(name) && !name.is_empty() {
        ValueError::new(format!("`{text}` is neither an address nor a host name"))
    } else {
        wrong
    })
}

/// A host name or an address literal. An IPv6 address may have brackets; the result has none.
pub(super) fn host_or_address(text: &str) -> Parsed<String> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    if let Ok(ip) = bare.unwrap_or(text).parse::<Ipv6Addr>() {
        return Ok(ip.to_string());
    }
    if let Ok(ip) = text.parse::<Ipv4Addr>() {
        return Ok(ip.to_string());
    }
    dns_name(text)
}

/// `host:port` or `[::1]:80`. The port may be left out if there is a default.
pub(super) fn host_port(text: &str, default: Option<u16>) -> Parsed<HostPort> {
    let text = text.trim();
    refuse_url(text, default)?;
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err(ValueError::new(format!("the IPv6 address `{text}` needs brackets"))
            .hint(format!("write `[{text}]:{}`", default.unwrap_or(80))));
    }
    let (name, port) = split_port(text)?;
    if name.is_empty() {
        return Err(ValueError::new(format!("`{text}` has no host")).hint(example("0.0.0.0:80")));
    }
    if port.is_none() && name.bytes().all(|b| b.is_ascii_digit()) {
        return Err(ValueError::new(format!("`{text}` is a port without a host"))
            .hint(example(&format!("0.0.0.0:{name}"))));
    }
    let host = host_or_address(name)
        .map_err(|p| ValueError { hint: p.hint.or_else(|| Some(example("10.0.0.11:80"))), ..p })?;
    let port = match (port, default) {
        (Some(port), _) => port
            .parse::<u16>()
            .ok()
            .filter(|_| port.bytes().all(|b| b.is_ascii_digit()))
            .ok_or_else(|| ValueError::new(format!("`{port}` is not a port")).hint("write 1 to 65535"))?,
        (None, Some(port)) => port,
        (None, None) => {
            return Err(ValueError::new(format!("`{text}` has no port")).hint(format!("write `{text}:80`")));
        }
    };
    Ok(HostPort { host, port })
}

fn example(address: &str) -> String {
    format!("write `host:port` such as `{address}`")
}

fn refuse_url(text: &str, default: Option<u16>) -> Parsed<()> {
    let Some((scheme, rest)) = text.split_once("://") else { return Ok(()) };
    let rest = rest.split('/').next().unwrap_or(rest);
    let port = match scheme {
        _ if rest.contains(':') || default.is_some() => "",
        "https" => ":443",
        _ => ":80",
    };
    Err(ValueError::new(format!("`{text}` is a URL, not an address")).hint(format!("write `{rest}{port}`")))
}

/// The host without brackets, and the text behind its colon.
fn split_port(text: &str) -> Parsed<(&str, Option<&str>)> {
    let Some((name, behind)) = text.strip_prefix('[').and_then(|t| t.split_once(']')) else {
        return Ok(text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port))));
    };
    if name.parse::<Ipv6Addr>().is_err() {
        return Err(ValueError::new(format!("`{name}` is not an IPv6 address")).hint(example("[::1]:80")));
    }
    match behind.strip_prefix(':') {
        None if !behind.is_empty() => {
            Err(ValueError::new(format!("`{text}` is not an address")).hint(example("[::1]:80")))
        }
        port => Ok((name, port)),
    }
}

/// An absolute `http` or `https` URL.
pub(super) fn url(text: &str) -> Parsed<BaseUrl> {
    let text = text.trim();
    let wrong = |why: &str| ValueError::new(format!("`{text}` is not a usable URL: {why}"));
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(wrong("the scheme is missing").hint(format!("write `http://{text}` or `https://{text}`")));
    };
    let https = match scheme.to_ascii_lowercase().as_str() {
        "http" => false,
        "https" => true,
        _ => return Err(wrong("only http and https are supported")),
    };
    if rest.chars().any(|c| c.is_control() || c.is_whitespace() || !c.is_ascii()) {
        return Err(wrong("it has a space or a character outside ASCII").hint("percent-encode it"));
    }
    if rest.contains('#') {
        return Err(wrong("it has a fragment (`#`), which is never sent"));
    }
    let cut = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(cut).unwrap_or((rest, ""));
    if authority.contains('@') {
        return Err(
            wrong("it contains a user or password").hint("write them into the `auth` or `token_file` key")
        );
    }
    let at = host_port(authority, Some(if https { 443 } else { 80 }))?;
    if at.port == 0 {
        return Err(wrong("nothing can be reached at port 0"));
    }
    let path = match path {
        p if p.starts_with('?') => format!("/{p}"),
        p if p.contains('?') => p.to_owned(),
        p => match p.trim_end_matches('/') {
            "" => "/".to_owned(),
            p => p.to_owned(),
        },
    };
    Ok(BaseUrl { https, at, path })
}

/// A URL that may hold `{address}`, `{hostname}` and `{name}`.
pub(super) fn url_template(text: &str) -> Parsed<String> {
    let mut example = String::with_capacity(text.len());
    let mut rest = text.trim();
    while let Some((before, behind)) = rest.split_once('{') {
        example.push_str(before);
        let Some((name, after)) = behind.split_once('}') else {
            return Err(ValueError::new(format!("`{text}` has `{{` without `}}`")));
        };
        example.push_str(match name {
            "address" => "192.0.2.1",
            "hostname" => "host.example",
            "name" => "name",
            _ => {
                return Err(ValueError::new(format!("`{{{name}}}` is not a placeholder"))
                    .hint("use `{address}`, `{hostname}` or `{name}`"));
            }
        });
        rest = after;
    }
    example.push_str(rest);
    url(&example).map(|_| text.trim().to_owned())
}

/// Such as `10.0.0.0/8`, `10.0.0.1` or `::1`.
pub(super) fn network(text: &str) -> Parsed<IpNet> {
    let text = text.trim();
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(ip));
    }
    text.parse::<IpNet>().map(|net| net.trunc()).map_err(|_| {
        ValueError::new(format!("`{text}` is not a network")).hint("write `10.0.0.0/8` or a single address")
    })
}

/// Such as `www.acme.example` or `*.acme.example`.
pub(super) fn host_pattern(text: &str) -> Parsed<HostPattern> {
    let text = text.trim();
    if text == "*" {
        return Err(ValueError::new("`*` is not a host pattern")
            .hint("leave `hostnames` out to serve all other names, or write `*.acme.example`"));
    }
    if let Some(rest) = text.strip_prefix("*.") {
        let name = pattern_name(text, rest)?;
        return Ok(HostPattern::Wildcard(format!(".{name}")));
    }
    if text.contains('*') {
        return Err(ValueError::new(format!("`{text}` is not a host pattern"))
            .hint("`*` is allowed only for the first part, as in `*.acme.example`"));
    }
    host_or_address(text).or_else(|_| pattern_name(text, text)).map(HostPattern::Exact)
}

fn pattern_name(text: &str, name: &str) -> Parsed<String> {
    let before_port = name.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
    if let Some((before, _)) = before_port
        && !name.contains("://")
    {
        return Err(ValueError::new(format!("`{text}` has a port")).hint(format!("write `{before}`")));
    }
    dns_name(name)
}

/// `200-499` or `404`; a range includes both ends.
pub(super) fn status_range(text: &str) -> Parsed<(u16, u16)> {
    let status = |t: &str| t.trim().parse::<u16>().ok().filter(|s| (100..=599).contains(s));
    let range = match text.split_once('-') {
        Some((low, high)) => status(low).zip(status(high)),
        None => status(text).map(|s| (s, s)),
    };
    match range {
        Some((low, high)) if low <= high => Ok((low, high)),
        Some((low, high)) => {
            Err(ValueError::new(format!("the range `{text}` is empty")).hint(format!("write `{high}-{low}`")))
        }
        None => Err(ValueError::new(format!("`{text}` is not a range of HTTP statuses"))
            .hint("write `200-499` or `200`, from 100 to 599")),
    }
}

/// The number of a view column from 0, or its programmatic name.
pub(super) fn column(text: &str) -> Parsed<Column> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return match text.parse::<u32>() {
            Ok(n) if n <= 1000 => Ok(Column::Number(n)),
            _ => {
                Err(ValueError::new(format!("there is no column {text}")).hint("columns are numbered from 0"))
            }
        };
    }
    if text.starts_with('-') {
        return Err(ValueError::new(format!("`{text}` is not a column"))
            .hint("write its number from 0 or its programmatic name"));
    }
    Ok(Column::Name(text.to_owned()))
}

/// The word of `known` that `text` was probably meant to be.
pub(super) fn similar<'a>(text: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let folded = text.to_lowercase();
    known
        .into_iter()
        .map(|word| (word, strsim::jaro_winkler(&folded, &word.to_lowercase())))
        .filter(|(_, score)| *score >= 0.8)
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .map(|(word, _)| word)
}
