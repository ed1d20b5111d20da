//! `listeners[].tls.acme`: defaults, errors with their place, and which challenges are possible.

use super::super::settings::{AcmeChallengeType, AcmeSettings, LETS_ENCRYPT, Settings};
use super::super::{ConfigErrors, LoadedConfig};
use super::support::{cluster, load};
use AcmeChallengeType::{Http01, TlsAlpn01};

/// A file whose listeners are these lines, which begin in line 2.
fn file(listeners: &str, front: &str) -> String {
    let rest = cluster("").split_once('\n').unwrap().1.to_owned();
    format!("listeners:\n{listeners}\n{front}\n{rest}")
}

fn tls(acme: &str) -> String {
    file(&format!("- {{ address: 0.0.0.0:443, tls: {{ acme: {acme} }} }}"), "state_dir: /var/lib/icm")
}

const GOOD: &str = "{ email: admin@acme.example, hosts: www.acme.example }";

fn loaded(text: &str) -> LoadedConfig {
    load(text).unwrap_or_else(|errors| panic!("{}\n{text}", ConfigErrors(errors)))
}

fn acme(settings: &Settings, listener: usize) -> AcmeSettings {
    AcmeSettings::clone(settings.listeners[listener].tls.as_ref().unwrap().acme.as_ref().unwrap())
}

#[track_caller]
fn wrong(text: &str, column: usize, key: &str, part: &str) {
    let errors = load(text).err().unwrap_or_else(|| panic!("accepted:\n{text}"));
    let shown = ConfigErrors(errors.clone()).to_string();
    assert_eq!(errors.len(), 1, "{shown}");
    let at = (errors[0].line, errors[0].column, errors[0].key.as_str());
    assert_eq!(at, (2, column, format!("listeners[0].tls.acme{key}").as_str()), "{shown}");
    assert!(shown.contains(part), "`{part}` is not in {shown}");
}

#[test]
fn mail_address_and_hosts_are_enough() {
    let settings =
        loaded(&tls("{ email: admin@acme.example, hosts: [WWW.Acme.Example, mail.acme.example.] }"));
    assert_eq!(settings.warnings, []);
    assert_eq!(
        acme(&settings.settings, 0),
        AcmeSettings {
            email: "admin@acme.example".into(),
            directory: LETS_ENCRYPT.into(),
            ca_file: None,
            ca: None,
            hosts: vec!["www.acme.example".into(), "mail.acme.example".into()],
            challenges: vec![TlsAlpn01],
        }
    );
    assert!(settings.settings.listeners[0].tls.as_ref().unwrap().certificates.is_empty());
}

#[test]
fn wrong_values_are_errors_with_their_place() {
    let with = |value: &str, with: &str| tls(&GOOD.replace(value, with));
    let address = "not a mail address";
    wrong(&with("admin@acme.example", "admin"), 49, ".email", address);
    wrong(&with("admin@acme.example", "\"a@acme.example?cc=b@acme.example\""), 49, ".email", address);
    wrong(&with("email: admin@acme.example, ", ""), 34, ".email", "write `email:` here");
    wrong(&with(", hosts: www.acme.example", ""), 34, ".hosts", "write `hosts:` here");
    wrong(&with("www.acme.example", "[]"), 69, ".hosts", "no host is given");
    wrong(&with("www.acme.example", "\"*.acme.example\""), 76, ".hosts", "only by DNS-01");
    wrong(&with("www.acme.example", "192.0.2.7"), 76, ".hosts", "is an address");
    wrong(&with("www.acme.example", "\"https://www.acme.example\""), 76, ".hosts", "without scheme");
    wrong(&with(" }", ", directory: \"http://ca.example/\" }"), 105, ".directory", "over TLS only");
    wrong(&with(" }", ", ca_file: /none }"), 103, ".ca_file", "cannot read");
    wrong(&with(" }", ", challenges: dns-01 }"), 106, ".challenges", "write tls-alpn-01 | http-01");
    wrong(&with("hosts:", "host:"), 69, ".host", "did you mean `hosts`");
}

#[test]
fn a_place_for_the_keys_is_required_and_one_account_for_a_host() {
    wrong(
        &file(&format!("- {{ address: 0.0.0.0:443, tls: {{ acme: {GOOD} }} }}"), ""),
        34,
        "",
        "state_dir: /var/lib/icm",
    );
    let listener = |port: u16, email: &str| {
        format!("- {{ address: 0.0.0.0:{port}, tls: {{ acme: {} }} }}", GOOD.replace("admin", email))
    };
    let two = |other: &str| {
        file(&format!("{}\n{}", listener(443, "admin"), listener(444, other)), "state_dir: /var/lib/icm")
    };
    assert_eq!(loaded(&two("admin")).settings.acme_hosts().len(), 1);
    let errors = load(&two("other")).unwrap_err();
    assert_eq!((errors.len(), errors[0].line, errors[0].key.as_str()), (1, 3, "listeners[1].tls.acme"));
    assert!(errors[0].message.contains("from another account"), "{}", errors[0]);
    let missing = file("- { address: 0.0.0.0:443, tls: { h2: true } }", "");
    assert!(load(&missing).unwrap_err()[0].to_string().contains("certificates"));
}

#[test]
fn an_icm_that_follows_needs_the_token_that_opens_the_keys() {
    let text = |token: &str| {
        format!(
            "listeners:\n- {{ address: 0.0.0.0:443, tls: {{ acme: {GOOD} }} }}\nstate_dir: /var/lib/icm\n\
             get_configuration_from: {{ url: https://icm1.acme.example:8098/config, cache: /var/lib/icm/c{token} }}\n"
        )
    };
    loaded(&text(", token_file: /etc/icm/token"));
    wrong(&text(""), 34, "", "gives keys only for a token");
}

#[test]
fn the_challenges_are_those_whose_port_a_listener_has() {
    let challenges = |first: &str, tls_port: u16, more: &str, tls_more: &str| {
        let acme = GOOD.replace(" }", &format!("{more} }}"));
        let second = format!("- {{ address: 0.0.0.0:{tls_port}, tls: {{ acme: {acme}{tls_more} }} }}");
        let loaded = loaded(&file(&format!("- {{ address: {first} }}\n{second}"), "state_dir: /var/lib/icm"));
        let warnings: Vec<_> =
            loaded.warnings.iter().filter(|w| w.text.contains("-01 comes to port")).collect();
        (acme_challenges(&loaded), warnings.len())
    };
    fn acme_challenges(loaded: &LoadedConfig) -> Vec<AcmeChallengeType> {
        acme(&loaded.settings, 1).challenges
    }
    assert_eq!(challenges("0.0.0.0:80", 443, "", ""), (vec![TlsAlpn01, Http01], 0));
    assert_eq!(challenges("0.0.0.0:8080", 443, "", ""), (vec![TlsAlpn01], 0));
    assert_eq!(challenges("0.0.0.0:80", 8443, "", ""), (vec![Http01], 0));
    assert_eq!(challenges("0.0.0.0:8080", 8443, "", ""), (vec![TlsAlpn01, Http01], 2));
    assert_eq!(challenges("0.0.0.0:80", 443, ", challenges: http-01", ""), (vec![Http01], 0));
    assert_eq!(
        challenges("0.0.0.0:81", 443, ", challenges: [http-01, tls-alpn-01]", ""),
        (vec![Http01, TlsAlpn01], 1)
    );
    let clients = ", client_certificates: { ca_file: /etc/icm/tls/clients.pem, mode: require }";
    assert_eq!(challenges("0.0.0.0:80", 443, "", clients), (vec![Http01], 0));
    let asked = clients.replace("require", "request");
    assert_eq!(challenges("0.0.0.0:80", 443, "", &asked), (vec![TlsAlpn01, Http01], 0));
    let demanding = tls(&GOOD.replace(" }", ", challenges: tls-alpn-01 }"))
        .replace(" } } }", &format!(" }}{clients} }} }}"));
    wrong(&demanding, 34, "", "is not possible where clients need a certificate");
}

#[test]
fn the_commented_section_of_the_full_file_is_valid() {
    const FULL: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/conf/full.yaml"));
    let (before, rest) = FULL.split_once("      # acme:").unwrap();
    let (section, after) = rest.split_once("      h2:").unwrap();
    let section = format!("      # acme:{section}");
    let section: String =
        section.lines().map(|l| format!("      {}\n", l.strip_prefix("      # ").unwrap())).collect();
    let text = format!("{before}{section}      h2:{after}");
    let settings = loaded(&text).settings;
    assert_eq!(acme(&settings, 1).directory, LETS_ENCRYPT, "the default");
    assert_eq!(acme(&settings, 1).challenges, [TlsAlpn01, Http01]);
    assert_eq!(settings.listeners[1].tls.as_ref().unwrap().certificates.len(), 1);
}
