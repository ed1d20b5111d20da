//! `icm audit`, `simulate` and `show` for the Acme cluster: through the running `icm` and offline.

use crate::support::*;
use serde_json::{Value, json};

/// Runs a verb with `--json`. Returns the exit code and the output.
fn ask(arguments: &[&str]) -> (i32, Value) {
    let mut all = arguments.to_vec();
    all.push("--json");
    let output = icm_cli(&all);
    (output.code, output.json())
}

/// A finding of the first cluster.
fn finding(audit: &Value, kind: &str) -> Value {
    let all = audit["clusters"][0]["findings"].as_array().unwrap();
    all.iter().find(|f| f["kind"] == kind).unwrap_or_else(|| panic!("no {kind} in {audit:#}")).clone()
}

fn has(finding: &Value, text: &str) -> bool {
    finding["examples"].as_array().unwrap().iter().any(|e| e.as_str().unwrap().contains(text))
}

/// Acme with a server without HTTPS and duplicates in its directory.
fn with_defects() -> (Acme, Icm, tempfile::TempDir) {
    let acme = Acme::built_in();
    acme.set("all", json!({ "dir": { "duplicates": true } }));
    let mut settings = config(&acme);
    settings["clusters"][0]["servers"]["list"][2].as_mapping_mut().unwrap().remove("https");
    let (dir, cache) = add_cache(&mut settings, "clusters.0.directory.cache");
    let icm = Icm::start(settings);
    icm.wait_for_served("/legacy/archive2009.nsf", "Web4");
    assert!(eventually(MAX_WAIT, || cache.exists()), "{}", icm.log());
    (acme, icm, dir)
}

#[test]
fn an_audit_finds_every_defect_of_the_cluster() {
    let (acme, icm, _dir) = with_defects();
    let admin = format!("http://{}", icm.admin);
    let (code, audit) = ask(&["audit", "--admin", &admin, "--all"]);
    assert_eq!(code, 0, "warnings are no errors: {audit:#}");
    let single = finding(&audit, "single_replica");
    assert!(has(&single, "legacy/archive2009.nsf") && has(&single, "only on Web4/Acme"), "{single:#}");
    assert_eq!(single["severity"], "warning");
    let conflict = finding(&audit, "ambiguous_path");
    assert!(
        has(&conflict, "sales/leads.nsf") && has(&conflict, "C125790F002B11AA on Web3/Acme"),
        "{conflict:#}"
    );
    assert!(has(&conflict, "log.nsf"), "{conflict:#}");
    assert!(finding(&audit, "duplicates")["count"].as_u64().unwrap() > 0);
    let https = finding(&audit, "no_https");
    assert_eq!((&https["count"], has(&https, "Web3/Acme")), (&json!(1), true), "{https:#}");
    assert!(has(&finding(&audit, "out_of_service"), "hr/vacation.nsf on Web2/Acme"));
    assert!(has(&finding(&audit, "pending_delete"), "old/phonebook.nsf on Web4/Acme"));
    assert!(has(&finding(&audit, "all_marked"), "old/closed.nsf"));
    assert!(has(&finding(&audit, "single_in_service"), "old/phonebook.nsf"));
    assert!(has(&finding(&audit, "different_paths"), "apps/leads.nsf on Web2/Acme"));
    assert!(has(&finding(&audit, "several_copies"), "2 copies on Web2/Acme"));
    assert!(has(&finding(&audit, "not_reported"), "RESTRICTED"));
    // With --strict the same is a no; offline it finds the same, but for the states.
    let conf = icm.file.to_str().unwrap();
    assert_eq!(ask(&["audit", "-c", conf, "--strict"]).0, 2);
    let (code, offline) = ask(&["audit", "-c", conf, "--offline", "--all"]);
    assert_eq!(code, 0, "{offline:#}");
    assert_eq!(finding(&offline, "single_replica")["count"], single["count"]);
    // An UNREACHABLE server leaves its single replicas without a server, which is an error.
    acme.fault("Web4", json!("refuse"));
    icm.wait_for_state("Web4", "UNREACHABLE");
    let (code, audit) = ask(&["audit", "--admin", &admin, "--limit", "1"]);
    assert_eq!(code, 2);
    assert!(has(&finding(&audit, "server_unreachable"), "Web4/Acme"));
    let unserved = finding(&audit, "nobody_serves");
    assert_eq!(unserved["examples"].as_array().unwrap().len(), 1, "bounded");
    assert!(unserved["count"].as_u64().unwrap() >= 2, "archive2009 and a log: {unserved:#}");
    let text = icm_cli(&["audit", "--admin", &admin]).out;
    assert!(
        text.contains("error: 1 servers UNREACHABLE") && text.contains("Web4/Acme: UNREACHABLE"),
        "{text}"
    );
    assert!(!text.contains('\u{1b}'), "no colours in a pipe");
}

#[test]
fn a_simulation_names_what_would_be_lost_and_where_the_load_would_go() {
    let (_acme, icm, _dir) = with_defects();
    let conf = icm.file.to_str().unwrap();
    for offline in [&[][..], &["--offline"]] {
        let mut arguments = vec!["simulate", "-c", conf, "--down", "Web4/Acme", "--all"];
        arguments.extend(offline);
        let (code, output) = ask(&arguments);
        assert_eq!(code, 2, "{output:#}");
        let cluster = &output["clusters"][0];
        assert!(cluster["lost"].to_string().contains("legacy/archive2009.nsf"), "{cluster:#}");
        assert!(!cluster["lost"].to_string().contains("sales/orders.nsf"), "{cluster:#}");
        assert!(cluster["lost_already"].to_string().contains("old/closed.nsf"), "{cluster:#}");
        let servers = cluster["servers"].as_array().unwrap();
        assert_eq!((&servers[3]["then"], &servers[3]["share_then"]), (&json!("UNREACHABLE"), &json!(0.0)));
        let sum = |key: &str| servers.iter().map(|s| s[key].as_f64().unwrap()).sum::<f64>();
        let all_now = sum("share_now") + cluster["unserved_now"].as_f64().unwrap();
        let all_then = sum("share_then") + cluster["unserved_then"].as_f64().unwrap();
        assert!((all_now - 100.0).abs() < 1.0 && (all_then - 100.0).abs() < 1.0, "{cluster:#}");
        assert!(
            servers.iter().take(3).any(|s| s["share_then"].as_f64() > s["share_now"].as_f64()),
            "{cluster:#}"
        );
    }
    // A database whose only servers are set aside is not lost.
    let (code, output) = ask(&["simulate", "-c", conf, "--busy", "Web1,Web2", "--all"]);
    assert_eq!(code, 0, "{output:#}");
    let aside = output["clusters"][0]["set_aside"].to_string();
    assert!(aside.contains("mail/jdoe.nsf") && !aside.contains("sales/orders.nsf"), "{aside}");
    let (code, output) = ask(&["simulate", "-c", conf, "--restricted", "Web1,web3"]);
    assert_eq!((code, &output["clusters"][0]["servers"][0]["then"]), (2, &json!("RESTRICTED")));
    let wrong = icm_cli(&["simulate", "-c", conf, "--down", "Web9/Acme"]);
    assert!(wrong.code == 2 && wrong.err.contains("Web9/Acme"), "{wrong:?}");
    // A simulation changes nothing.
    assert_eq!(icm.state_of("Web4"), "AVAILABLE");
    let text = icm_cli(&["simulate", "-c", conf, "--down", "Web4"]).out;
    assert!(text.contains("share then") && text.contains("would be left without a server"), "{text}");
}

#[test]
fn show_prints_servers_databases_statistics_and_events() {
    let acme = Acme::built_in();
    let icm = Icm::start(config_with_equal_indexes(&acme));
    icm.wait_for_served("/legacy/archive2009.nsf", "Web4");
    icm.wait_for_server("Web1", "at 90", |s| s["index"] == 90);
    let admin = format!("http://{}", icm.admin);
    let output = icm_cli(&["show", "cluster", "--admin", &admin]);
    assert_eq!(output.code, 0, "{output:?}");
    let line =
        output.out.lines().find(|l| l.starts_with("Web1/Acme")).unwrap_or_else(|| panic!("{}", output.out));
    assert!(line.contains("AVAILABLE") && line.contains("90/0") && line.contains("prometheus"), "{line}");
    let output = icm_cli(&["show", "databases", "VACATION", "--admin", &admin]);
    assert!(output.out.contains("out_of_service") && output.out.contains("served by Web"), "{}", output.out);
    assert!(!output.out.contains("sales/orders.nsf") && !output.out.contains('\u{1b}'), "{}", output.out);
    let (code, listing) = ask(&["show", "databases", "--limit", "3", "--admin", &admin]);
    assert_eq!((code, listing["databases"].as_array().unwrap().len()), (0, 3));
    assert!(listing["total"].as_u64() > Some(20) && listing["more"] == true, "{listing:#}");
    let (code, all) = ask(&["show", "databases", "--limit", "0", "--admin", &admin]);
    assert_eq!(
        (code, all["databases"].as_array().map(Vec::len)),
        (0, all["total"].as_u64().map(|n| n as usize))
    );
    assert_eq!(all["more"], false);
    let bounded = icm_cli(&["show", "databases", "--limit", "3", "--admin", &admin]).out;
    assert!(bounded.contains("--limit 0"), "the output names what is left out: {bounded}");
    assert_eq!(icm_cli(&["show", "databases", "no such thing", "--admin", &admin]).code, 2);
    let output = icm_cli(&["show", "stat", "icm.command", "--admin", &admin]);
    assert!(output.out.contains("  ICM.Command.Total = "), "{}", output.out);
    assert!(!output.out.contains("ICM.Server.Running"), "{}", output.out);
    acme.fault("Web2", json!("refuse"));
    icm.wait_for_state("Web2", "UNREACHABLE");
    let output = icm_cli(&["show", "events", "--admin", &admin]);
    assert!(output.out.contains("AcmeWeb Web2/Acme  AVAILABLE -> UNREACHABLE after"), "{}", output.out);
    let json = icm_cli(&["show", "events", "--json", "--admin", &admin]);
    for line in json.out.lines() {
        assert!(serde_json::from_str::<Value>(line).unwrap()["number"].as_u64() > Some(0));
    }
}

#[test]
fn views_that_anyone_can_read_are_a_warning_unless_a_rule_denies_them() {
    let acme = Acme::built_in();
    acme.set("Web2", json!({ "dir": { "unauthorised": true } }));
    acme.fault("Web3", json!("refuse"));
    let mut settings = config(&acme);
    let icm = Icm::start(settings.clone());
    let conf = icm.file.to_str().unwrap();
    let (_, audit) = ask(&["audit", "-c", conf, "--all"]);
    let open = finding(&audit, "readable_by_anyone");
    assert_eq!((&open["severity"], &open["count"]), (&json!("warning"), &json!(4)), "{open:#}");
    let text = "cldbdir.nsf can be read by Anonymous on Web1/Acme, and `access` does not forbid it: anyone can list databases";
    assert!(has(&open, text) && has(&open, "names.nsf can be read by Anonymous on Web4/Acme"), "{open:#}");
    let (_, check) = ask(&["check", "--probe", "-c", conf]);
    let texts = |key: &str| -> Vec<String> {
        let all = check[key].as_array().unwrap();
        all.iter().map(|one| one["text"].as_str().unwrap().to_owned()).collect()
    };
    assert!(texts("warnings").iter().any(|warning| warning.contains(text)), "{check:#}");
    let told = |text: &str| texts("findings").iter().any(|finding| finding.contains(text));
    assert!(told("names.nsf cannot be read by Anonymous on Web2/Acme"), "{check:#}");
    assert!(
        told("not known whether cldbdir.nsf can be read by Anonymous on Web3/Acme: connection refused"),
        "{check:#}"
    );
    let offline = ask(&["audit", "-c", conf, "--offline"]).1;
    let all = offline["clusters"][0]["findings"].as_array().unwrap();
    assert!(all.iter().all(|finding| finding["kind"] != "readable_by_anyone"), "not asked: {offline:#}");

    set(&mut settings, "clusters.0.access", "[{ allow: { client: 10.0.0.0/8 } }, domino_baseline]");
    icm.reload(&settings);
    icm.wait_for_log("configuration reloaded");
    let (_, audit) = ask(&["audit", "-c", conf]);
    let all = audit["clusters"][0]["findings"].as_array().unwrap();
    assert!(all.iter().all(|finding| finding["kind"] != "readable_by_anyone"), "{audit:#}");
    let (_, check) = ask(&["check", "--probe", "-c", conf]);
    assert!(
        check.to_string().contains("Web1/Acme; `access` forbids it to clients from outside"),
        "{check:#}"
    );
    // The command line says which rule decides.
    let output = icm_cli(&["explain", "-c", conf, "--client", "192.0.2.7", "/names.nsf/People?OpenView"]);
    assert_eq!(output.code, 2, "{}", output.out);
    assert!(
        output.out.contains("access    denied by `domino_baseline`: of the Domino Directory, only ?Login"),
        "{}",
        output.out
    );
    assert!(output.out.contains("answer    access_denied (403)"), "{}", output.out);
    let output = icm_cli(&["explain", "-c", conf, "--client", "10.0.0.7", "/names.nsf/People?OpenView"]);
    assert!(output.code == 0 && output.out.contains("access    allowed by `access[0]`"), "{}", output.out);
}
