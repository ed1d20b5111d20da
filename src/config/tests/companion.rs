//! The account for the companion, and that its password stays off cleartext ports.

use super::super::settings::{Auth, AvailabilitySource, ClusterSettings, Servers};
use super::support::{cluster, load};

const LOGIN: &str = "basic: { user: A, password_file: /etc/icm/password }";

/// A cluster of one server whose directory has an account, with this availability.
fn text(directory_auth: &str, availability: &str) -> String {
    cluster(&format!("    availability: {availability}\n"))
        .replace("{ source: cldbdir }", &format!("{{ auth: {{ {directory_auth} }} }}"))
}

fn loaded(text: &str) -> ClusterSettings {
    let loaded = load(text).unwrap_or_else(|errors| panic!("{errors:?}\n{text}"));
    (*loaded.settings.clusters[0]).clone()
}

fn refused(text: &str) {
    let errors = load(text).err().unwrap_or_else(|| panic!("accepted:\n{text}"));
    let shown: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert!(shown.len() == 1 && shown[0].contains("clear text"), "{shown:?}\n{text}");
}

fn user(source: &AvailabilitySource) -> Option<String> {
    match source {
        AvailabilitySource::Companion { auth: Some(Auth::Basic { user, .. }), .. } => Some(user.clone()),
        _ => None,
    }
}

#[test]
fn a_companion_without_an_account_has_that_of_the_directory() {
    let https = |text: &str| text.replace("http: 10", "https: 10") + "    upstream_scheme: https\n";
    let inherited = https(&text(LOGIN, "{ source: companion }"));
    assert_eq!(user(&loaded(&inherited).availability[0].source).as_deref(), Some("A"));
    let own = text(LOGIN, &format!("{{ source: companion, auth: {{ {} }} }}", LOGIN.replace("A,", "B,")));
    assert_eq!(user(&loaded(&https(&own)).availability[0].source).as_deref(), Some("B"));
    let of_server = https(&text(LOGIN, "{ source: observed }"))
        .replace("hostname: w1.example,", "hostname: w1.example, availability: { source: companion },");
    let Servers::Static(list) = loaded(&of_server).servers else { panic!() };
    assert_eq!(user(&list[0].availability[0].source).as_deref(), Some("A"));
}

#[test]
fn an_inherited_password_is_not_sent_in_clear_text() {
    let https = |text: &str| text.replace("http: 10", "https: 10") + "    upstream_scheme: https\n";
    for url in ["http://{hostname}/icm.nsf/x", "http://{address}:81/x", "http://h.example/x", "HTTP://h/x"] {
        refused(&https(&text(LOGIN, &format!("{{ source: companion, url: \"{url}\" }}"))));
    }
    for url in ["https://{hostname}/x", "HTTPS://h/x", "http://127.0.0.1:81/x", "http://[::1]:81/x"] {
        loaded(&https(&text(LOGIN, &format!("{{ source: companion, url: \"{url}\" }}"))));
    }
    let allowed = text(&format!("{LOGIN}, allow_plaintext: true"), "{ source: companion }");
    loaded(&allowed);
    loaded(
        &text(LOGIN, "{ source: companion, url: \"http://{hostname}/x\" }").replace("10.0.0.11", "127.0.0.1"),
    );
}

#[test]
fn its_own_password_is_not_sent_in_clear_text_either() {
    let own = |url: &str, more: &str| {
        let auth = format!("auth: {{ {LOGIN}{more} }}");
        cluster(&format!("    availability: {{ source: companion, {url}{auth} }}\n"))
    };
    refused(&own("", ""));
    refused(&own("url: \"http://{address}/x\", ", ""));
    loaded(&own("", ", allow_plaintext: true"));
    loaded(&own("url: \"https://{address}/x\", ", ""));
    loaded(&own("", "").replace("10.0.0.11", "127.0.0.1"));
}
