//! Runs the commands of README.md against the real `acme` and `icm` with `conf/acme.yaml`; only ports and paths are replaced.

use crate::support::{Acme, Icm, documented_commands};
use serde_yaml::Value;

const README: &str = include_str!("../../../README.md");

/// The lines of all `sh` blocks. Commands that cannot run here are marked `sh not-here` and counted in `guide.rs`.
fn commands() -> Vec<&'static str> {
    let mut inside = false;
    let mut commands = Vec::new();
    for line in README.lines() {
        match line {
            "```sh" => inside = true,
            "```" => inside = false,
            command if inside => commands.push(command),
            _ => {}
        }
    }
    commands
}

#[test]
fn every_command_of_the_tour_succeeds_and_shows_what_the_text_describes() {
    let acme = Acme::built_in();
    let icm = Icm::start(documented_commands::demo_config(&acme));
    let documented_commands = commands();
    let mut shown = String::new();
    for command in &documented_commands {
        let ran = documented_commands::run(&documented_commands::with_test_addresses(
            command,
            &acme,
            &icm,
            icm.dir.path(),
        ));
        let output = String::from_utf8_lossy(&ran.stdout);
        let errors = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success(), "{command}\n{output}{errors}");
        shown.push_str(&format!("$ {command}\n{output}"));
    }
    for expected in [
        "X-Acme-Path: sales/orders.nsf",      // a database that three servers hold
        "served by Web",                      // the reason for this server
        r#""replica_id":"C125790F002B11AA""#, // one path, two databases
        "X-Acme-Replica: C1257A000041D2E0",   // the chosen one
        "HTTP/1.1 503 Service Unavailable",   // a single replica, on a server that is RESTRICTED
        r#"icm_server_state{cluster="AcmeWeb",server="Web4/Acme",state="restricted"} 0"#, // the state that icm shows
    ] {
        assert!(shown.contains(expected), "{expected:?} is not in\n{shown}");
    }
    assert_eq!(
        shown.matches("X-Acme-Path: sales/orders.nsf").count(),
        2,
        "before and after Web1's death:\n{shown}"
    );
}

#[test]
fn the_demo_announces_addresses_that_its_configuration_has() {
    let config: Value =
        serde_yaml::from_str(include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/conf/acme.yaml"))).unwrap();
    let listener = config["listeners"][0]["address"].as_str().unwrap();
    let demo = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/conf/demo.sh"));
    for address in [listener, "127.0.0.1:8098", "127.0.0.1:8099"] {
        assert!(demo.contains(&format!("http://{address}/")), "{address}");
    }
}
