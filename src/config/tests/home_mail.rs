//! `home_mail` of a route: its defaults, and that the user's cookies stay on the servers.

use super::super::ConfigErrors;
use super::super::settings::{HomeMail, RouteAction};
use super::support::{cluster, load};

fn of(value: &str) -> Result<HomeMail, String> {
    let text = cluster(&format!("    routes: [{{ match: {{ path: /mail }}, home_mail: {value} }}]\n"));
    match load(&text) {
        Ok(loaded) => match &loaded.settings.clusters[0].routes[0].action {
            RouteAction::HomeMail(home) => Ok((**home).clone()),
            other => panic!("{other:?}"),
        },
        Err(errors) => Err(ConfigErrors(errors).to_string()),
    }
}

#[test]
fn the_agent_and_the_login_have_defaults() {
    let agent = "/icm.nsf/companion?OpenAgent&whoami";
    let wanted = |agent: &str, login: &str| Ok(HomeMail { agent: agent.into(), login: login.into() });
    for short in ["on", "true", "{ login: /names.nsf?Login }"] {
        assert_eq!(of(short), wanted(agent, "/names.nsf?Login"), "{short}");
    }
    let own = "{ agent: /tools/who.nsf/me?OpenAgent, login: /portal/login }";
    assert_eq!(of(own), wanted("/tools/who.nsf/me?OpenAgent", "/portal/login"));
}

#[test]
fn what_leads_elsewhere_than_to_the_servers_is_refused() {
    for (value, parts) in [
        ("off", ["routes[0].home_mail", "remove the route"]),
        ("{ agents: /x }", ["routes[0].home_mail.agents: unknown key", "did you mean `agent`?"]),
        ("{ agent: \"https://evil.example/x\" }", ["home_mail.agent", "names a host"]),
        ("{ login: //evil.example/x }", ["home_mail.login", "names a host"]),
        ("{ login: names.nsf?Login }", ["is not a path", "write `/names.nsf?Login`"]),
        ("{ login: \"/a b\" }", ["home_mail.login", "percent-encode"]),
        ("[ /x ]", ["home_mail", "is a list"]),
    ] {
        let shown = of(value).unwrap_err();
        for part in parts {
            assert!(shown.contains(part), "`{part}` is not in:\n{shown}");
        }
    }
    let text = cluster("    mode: redirect\n    routes: [{ match: { path: /mail }, home_mail: on }]\n");
    let shown = ConfigErrors(load(&text).unwrap_err()).to_string();
    assert!(shown.contains("icm.yaml:9:") && shown.contains("needs `mode: proxy`"), "{shown}");
}
