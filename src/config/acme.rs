//! Reads `listeners[].tls.acme`. Apart from the other TLS keys, because it also compares the listeners with each other and
//! with `state_dir`.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::DnsName;

use super::keys;
use super::reader::{Item, Map};
use super::settings::{
    AcmeChallengeType, AcmeSettings, ClientCertificateMode, Follow, LETS_ENCRYPT, Listener,
};
use super::tls;
use super::values::{self, ValueError};

const CHALLENGES: [AcmeChallengeType; 2] = [AcmeChallengeType::TlsAlpn01, AcmeChallengeType::Http01];

/// `acme` of one listener; `challenges` is empty if the file does not name any.
pub(super) fn acme(item: &Item<'_>) -> Option<Arc<AcmeSettings>> {
    if !item.is_present() {
        return None;
    }
    let map = item.map(keys::ACME);
    let email = map.required("email").parsed("an address such as `admin@acme.example`", email);
    let directory = map.get("directory").parsed("the URL of an ACME directory", directory);
    let authorities = tls::authorities(&map.get("ca_file"));
    let words = CHALLENGES.map(|challenge| (challenge.as_str(), challenge));
    let mut challenges: Vec<AcmeChallengeType> = Vec::new();
    for item in map.get("challenges").one_or_more() {
        match item.choice(&words) {
            Some(challenge) if challenges.contains(&challenge) => item.warn("is named twice"),
            challenge => challenges.extend(challenge),
        }
    }
    Some(Arc::new(AcmeSettings {
        email: email?,
        directory: if map.has("directory") { directory? } else { LETS_ENCRYPT.to_owned() },
        ca_file: authorities.as_ref().map(|(path, _)| path.clone()),
        ca: authorities.map(|(_, list)| list),
        hosts: hosts(&map.required("hosts"))?,
        challenges,
    }))
}

fn hosts(list: &Item<'_>) -> Option<Vec<String>> {
    let items = list.one_or_more();
    if items.is_empty() && list.value.is_some() {
        list.error_at_key(ValueError::new("no host is given").hint("write `hosts: [www.acme.example]`"));
    }
    let mut hosts: Vec<String> = Vec::new();
    for item in &items {
        match item.parsed("a host name", host) {
            Some(host) if hosts.contains(&host) => item.warn("is named twice"),
            host => hosts.extend(host),
        }
    }
    (!hosts.is_empty()).then_some(hosts)
}

fn host(text: &str) -> Result<String, ValueError> {
    let name = text.trim().trim_end_matches('.').to_ascii_lowercase();
    if name.contains('*') {
        return Err(ValueError::new(format!("`{text}` is a pattern, and ACME issues it only by DNS-01"))
            .hint("write each host name, or a certificate for the pattern under `certificates`"));
    }
    if name.parse::<std::net::IpAddr>().is_ok() {
        return Err(ValueError::new(format!("`{text}` is an address")).hint("write a host name"));
    }
    match DnsName::try_from(name.as_str()) {
        Ok(_) => Ok(name),
        Err(_) => Err(ValueError::new(format!("`{text}` is not a host name"))
            .hint("write a name such as `www.acme.example`, without scheme and port")),
    }
}

fn email(text: &str) -> Result<String, ValueError> {
    let text = text.trim();
    let is_usable = text.is_ascii()
        && !text.chars().any(|c| c.is_ascii_control() || matches!(c, ' ' | ',' | '?' | '%' | '<' | '>'))
        && text.split_once('@').is_some_and(|(user, host)| !user.is_empty() && host.contains('.'));
    if is_usable {
        return Ok(text.strip_prefix("mailto:").unwrap_or(text).to_owned());
    }
    Err(ValueError::new(format!("`{text}` is not a mail address")).hint("write `admin@acme.example`"))
}

fn directory(text: &str) -> Result<String, ValueError> {
    let url = values::url(text)?;
    if !url.https {
        return Err(ValueError::new("an ACME server is asked over TLS only (RFC 8555 section 6.1)")
            .hint("write an `https://` URL; `ca_file` names the authority of the server's own certificate"));
    }
    Ok(text.trim().to_owned())
}

/// Compares the listeners, and completes `challenges` by the ports that the listeners have.
pub(super) fn cross_check(
    top: &Map<'_>,
    listeners: &mut [Listener],
    state_dir: Option<&Path>,
    follow: Option<&Follow>,
) {
    let items = top.get("listeners").list();
    // The lists differ in length if a listener is wrong, which is an error already.
    if items.len() != listeners.len() {
        return;
    }
    let mut seen: Vec<(String, Arc<AcmeSettings>)> = Vec::new();
    for number in 0..listeners.len() {
        let (Some(listener), Some(item)) = (listeners.get(number), items.get(number)) else { return };
        let Some(acme) = listener.tls.as_ref().and_then(|tls| tls.acme.clone()) else { continue };
        let section = item.map_quietly(keys::LISTENER).get("tls").map_quietly(keys::LISTENER_TLS).get("acme");
        if state_dir.is_none() {
            section.error_at_key(
                ValueError::new("the certificates need a place that outlives a restart")
                    .hint("write `state_dir: /var/lib/icm` at the top level"),
            );
        }
        if follow.is_some_and(|follow| follow.token.is_none()) {
            section.error_at_key(
                ValueError::new(
                    "the certificates come from the followed ICM, which gives keys only for a token",
                )
                .hint("write `token_file: FILE` into `get_configuration_from`"),
            );
        }
        for host in &acme.hosts {
            match seen.iter().find(|(known, _)| known == host) {
                Some((_, other)) if (&other.email, &other.directory) != (&acme.email, &acme.directory) => {
                    section.error_at_key(
                        ValueError::new(format!("another listener gets {host} from another account"))
                            .hint("a host has one certificate: write the same `email` and `directory`"),
                    );
                }
                Some(_) => {}
                None => seen.push((host.clone(), Arc::clone(&acme))),
            }
        }
        let challenges = usable_challenges(&section, &acme, listeners, number);
        if let Some(tls) = listeners.get_mut(number).and_then(|listener| listener.tls.as_mut()) {
            tls.acme = Some(Arc::new(AcmeSettings { challenges, ..AcmeSettings::clone(&acme) }));
        }
    }
}

/// The challenges of the file, else those whose port a listener has. A port may be forwarded, so that a missing one is a
/// warning only.
fn usable_challenges(
    section: &Item<'_>,
    acme: &AcmeSettings,
    listeners: &[Listener],
    number: usize,
) -> Vec<AcmeChallengeType> {
    let has_port = |challenge: AcmeChallengeType| {
        listeners.iter().any(|listener| {
            let has_kind = match challenge {
                AcmeChallengeType::Http01 => listener.tls.is_none(),
                AcmeChallengeType::TlsAlpn01 => listener
                    .tls
                    .as_ref()
                    .and_then(|tls| tls.acme.as_ref())
                    .is_some_and(|other| acme.hosts.iter().all(|host| other.hosts.contains(host))),
            };
            has_kind && listener.address.port() == challenge.port()
        })
    };
    // The ACME server has no client certificate.
    let demands_certificate = listeners
        .get(number)
        .and_then(|listener| listener.tls.as_ref()?.client_certificates.as_ref())
        .is_some_and(|clients| clients.mode == ClientCertificateMode::Require);
    let impossible =
        |challenge: AcmeChallengeType| demands_certificate && challenge == AcmeChallengeType::TlsAlpn01;
    if acme.challenges.contains(&AcmeChallengeType::TlsAlpn01) && demands_certificate {
        section.error_at_key(
            ValueError::new("tls-alpn-01 is not possible where clients need a certificate")
                .hint("write `challenges: http-01`"),
        );
    }
    let warn = |challenge: AcmeChallengeType| {
        let kind = if challenge == AcmeChallengeType::Http01 { "without TLS" } else { "with these hosts" };
        section.warn(format!(
            "{} comes to port {}, and no listener {kind} has it: forward that port to one",
            challenge.as_str(),
            challenge.port()
        ));
    };
    if !acme.challenges.is_empty() {
        acme.challenges.iter().filter(|challenge| !has_port(**challenge)).for_each(|c| warn(*c));
        return acme.challenges.clone();
    }
    let possible: Vec<AcmeChallengeType> = CHALLENGES.into_iter().filter(|c| !impossible(*c)).collect();
    let with_port: Vec<AcmeChallengeType> = possible.iter().copied().filter(|c| has_port(*c)).collect();
    if with_port.is_empty() {
        possible.iter().for_each(|challenge| warn(*challenge));
        return possible;
    }
    with_port
}
