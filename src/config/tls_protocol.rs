//! `min_version`, `ciphers` and `curves` of a listener, by the names of IANA and OpenSSL.
//!
//! The library has no weak ciphers, so an old name is an error that says why. A list that would leave a version without
//! a cipher or a curve is an error here, not in the handshakes.

use rustls::{CipherSuite, NamedGroup, ProtocolVersion};

use super::reader::{Item, Map};
use super::settings::{TlsProtocol, TlsVersion};
use super::values::{self, ValueError};
use crate::util::crypto;

/// Names of IANA (<https://www.iana.org/assignments/tls-parameters>) and OpenSSL. Those of TLS 1.3 are the same.
const SUITES: [(CipherSuite, &str, &str); 9] = [
    (CipherSuite::TLS13_AES_256_GCM_SHA384, "TLS_AES_256_GCM_SHA384", "TLS_AES_256_GCM_SHA384"),
    (CipherSuite::TLS13_AES_128_GCM_SHA256, "TLS_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256"),
    (
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
        "TLS_CHACHA20_POLY1305_SHA256",
        "TLS_CHACHA20_POLY1305_SHA256",
    ),
    (
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
    ),
    (
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        "ECDHE-ECDSA-AES128-GCM-SHA256",
    ),
    (
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
    ),
    (
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384",
    ),
    (
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        "ECDHE-RSA-AES128-GCM-SHA256",
    ),
    (
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        "ECDHE-RSA-CHACHA20-POLY1305",
    ),
];

const GROUPS: [(NamedGroup, &[&str]); 4] = [
    (NamedGroup::X25519, &["X25519"]),
    (NamedGroup::secp256r1, &["P-256", "prime256v1", "secp256r1"]),
    (NamedGroup::secp384r1, &["P-384", "secp384r1"]),
    (NamedGroup::X25519MLKEM768, &["X25519MLKEM768"]),
];

/// Groups of OpenSSL that the library does not have.
const OTHER_GROUPS: [&str; 4] = ["P-521", "secp521r1", "X448", "secp256k1"];

/// `min_version`, `ciphers` and `curves` of `listeners[].tls`.
pub(super) fn protocol(map: &Map<'_>) -> TlsProtocol {
    let min_version = map.get("min_version").parsed("1.2 or 1.3", version).unwrap_or_default();
    let (ciphers, curves) = (map.get("ciphers"), map.get("curves"));
    let (Some(suites), Some(groups)) = (names(&ciphers, suite), names(&curves, group)) else {
        return TlsProtocol { min_version, ..TlsProtocol::default() };
    };
    check_suites(&ciphers, min_version, &suites);
    check_groups(&curves, min_version, &groups);
    TlsProtocol { min_version, suites, groups }
}

/// The values of a list in its order, each once; `None` after an error. An absent list is empty.
fn names<T: PartialEq>(item: &Item<'_>, read: fn(&str) -> Result<T, ValueError>) -> Option<Vec<T>> {
    let items = item.one_or_more();
    if items.is_empty() && item.is_list() {
        item.error(ValueError::new("the list is empty").hint("remove the key for the defaults"));
        return None;
    }
    let mut values = Vec::with_capacity(items.len());
    for name in &items {
        let value = name.parsed("a name", |text| read(text.trim()));
        values.push(value);
    }
    let mut list: Vec<T> = Vec::with_capacity(values.len());
    for value in values {
        let value = value?;
        if !list.contains(&value) {
            list.push(value);
        }
    }
    Some(list)
}

fn version(text: &str) -> Result<TlsVersion, ValueError> {
    match text.trim() {
        "1.2" => return Ok(TlsVersion::Tls12),
        "1.3" => return Ok(TlsVersion::Tls13),
        _ => {}
    }
    let lower = text.trim().to_ascii_lowercase();
    let number = lower.trim_start_matches("tls").trim_start_matches(['v', ' ', '_', '-']);
    Err(match number {
        "1.2" | "1.3" => {
            ValueError::new(format!("`{text}` is not possible here")).hint(format!("write `\"{number}\"`"))
        }
        "1" | "1.0" | "1.1" | "2" | "3" | "sslv2" | "sslv3" => {
            ValueError::new(format!("`{text}` is not offered: versions before 1.2 are broken (RFC 8996)"))
                .hint("write `\"1.2\"` or `\"1.3\"`")
        }
        _ => {
            ValueError::new(format!("`{text}` is not a version of TLS")).hint("write `\"1.2\"` or `\"1.3\"`")
        }
    })
}

fn suite(text: &str) -> Result<CipherSuite, ValueError> {
    let is_named = |name: &str| name.eq_ignore_ascii_case(text);
    if let Some((suite, ..)) = SUITES.iter().find(|(_, iana, openssl)| is_named(iana) || is_named(openssl)) {
        return Ok(*suite);
    }
    if text.contains([':', ',', ' ']) && !text.contains(['!', '+', '@']) {
        return Err(several_names(text));
    }
    let known = "known: the AES-GCM and CHACHA20-POLY1305 ciphers of TLS 1.3, ECDHE-ECDSA and ECDHE-RSA";
    if let Some(why) = why_no_suite(&text.to_ascii_uppercase()) {
        return Err(ValueError::new(format!("`{text}` is not offered: {why}")).hint(known));
    }
    let names = SUITES.iter().flat_map(|(_, iana, openssl)| [*iana, *openssl]);
    let hint = match values::similar(text, names) {
        Some(name) => format!("did you mean `{name}`? {known}"),
        None => known.to_owned(),
    };
    Err(ValueError::new(format!("`{text}` is not a cipher")).hint(hint))
}

/// nginx and HAProxy have one text with colons.
fn several_names(text: &str) -> ValueError {
    let list: Vec<&str> = text.split([':', ',', ' ']).filter(|name| !name.is_empty()).collect();
    ValueError::new(format!("`{text}` is not one name"))
        .hint(format!("write a list: `[{}]`", list.join(", ")))
}

/// Why the library has no such cipher; `None` if nothing in the name is known. In upper case.
fn why_no_suite(name: &str) -> Option<&'static str> {
    let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
    let starts = |words: &[&str]| words.iter().any(|word| name.starts_with(word));
    if has(&["!", "+", "@"]) || ["HIGH", "MEDIUM", "LOW", "ALL", "DEFAULT", "COMPLEMENTOFALL"].contains(&name)
    {
        Some("it is an expression of OpenSSL, write the names of the ciphers")
    } else if has(&["RC4", "3DES", "DES-CBC", "NULL", "EXP", "MD5", "ANON", "ADH", "AECDH", "RC2", "IDEA"]) {
        Some("it is broken")
    } else if has(&["CCM", "ARIA", "CAMELLIA", "SEED", "PSK", "SRP", "GOST", "SM4"]) {
        Some("the TLS library does not have it")
    } else if starts(&["DHE-", "EDH-", "TLS_DHE_", "DH-", "TLS_DH_", "TLS_ECDH_", "ECDH-"]) {
        Some("only ECDHE is used for the key exchange")
    } else if starts(&["TLS_RSA_", "AES128-", "AES256-"]) {
        Some("its key exchange has no forward secrecy")
    } else if has(&["CBC", "AES128-SHA", "AES256-SHA"]) {
        Some("CBC ciphers are open to padding attacks")
    } else {
        None
    }
}

fn group(text: &str) -> Result<NamedGroup, ValueError> {
    let names = |(_, names): &(NamedGroup, &'static [&'static str])| *names;
    let found = GROUPS.iter().find(|group| names(group).iter().any(|name| name.eq_ignore_ascii_case(text)));
    let offered: Vec<&str> = GROUPS
        .iter()
        .filter(|(group, _)| crypto::has_group(*group))
        .filter_map(|(_, names)| names.first().copied())
        .collect();
    let known = format!("known: {}", offered.join(", "));
    match found {
        Some((group, _)) if crypto::has_group(*group) => Ok(*group),
        Some(_) => Err(ValueError::new(format!("`{text}` is not in this build"))
            .hint(format!("it needs a build with the cargo feature `aws-lc`; {known}"))),
        None if text.contains([':', ',', ' ']) => Err(several_names(text)),
        None if is_other_group(text) => {
            Err(ValueError::new(format!("`{text}` is not offered: the TLS library does not have it"))
                .hint(known))
        }
        None => {
            let hint = match values::similar(text, GROUPS.iter().flat_map(names).copied()) {
                Some(name) => format!("did you mean `{name}`? {known}"),
                None => known,
            };
            Err(ValueError::new(format!("`{text}` is not a curve")).hint(hint))
        }
    }
}

fn is_other_group(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    OTHER_GROUPS.iter().any(|name| name.eq_ignore_ascii_case(text))
        || lower.starts_with("ffdhe")
        || lower.starts_with("brainpool")
}

fn check_suites(item: &Item<'_>, min_version: TlsVersion, suites: &[CipherSuite]) {
    if suites.is_empty() {
        return;
    }
    let provider = crypto::restricted_provider(suites, &[]);
    let has = |version| provider.cipher_suites.iter().any(|suite| suite.version().version == version);
    let (has_12, has_13) = (has(ProtocolVersion::TLSv1_2), has(ProtocolVersion::TLSv1_3));
    if !has_13 {
        item.error(
            ValueError::new("the list has no cipher for TLS 1.3")
                .hint("it is for all versions: add `TLS_AES_256_GCM_SHA384` and `TLS_AES_128_GCM_SHA256`"),
        );
    } else if !has_12 && min_version == TlsVersion::Tls12 {
        item.error(ValueError::new("the list has no cipher for TLS 1.2").hint(
            "add `ECDHE-RSA-AES256-GCM-SHA384` or `ECDHE-ECDSA-AES256-GCM-SHA384`, or write `min_version: \"1.3\"`",
        ));
    } else if has_12 && min_version == TlsVersion::Tls13 {
        item.warn("the ciphers of TLS 1.2 have no effect with min_version 1.3");
    }
}

/// TLS 1.3 can use every group, TLS 1.2 only curves.
fn check_groups(item: &Item<'_>, min_version: TlsVersion, groups: &[NamedGroup]) {
    if groups.is_empty() || min_version == TlsVersion::Tls13 {
        return;
    }
    let provider = crypto::restricted_provider(&[], groups);
    if !provider.kx_groups.iter().any(|group| group.usable_for_version(ProtocolVersion::TLSv1_2)) {
        item.error(
            ValueError::new("the list has no curve for TLS 1.2")
                .hint("add `X25519`, or write `min_version: \"1.3\"`"),
        );
    }
}
