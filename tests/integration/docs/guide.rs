//! The administrator's guide is correct: `icm check` accepts every YAML block, every command runs against the real
//! `acme` and `icm`, every key and verb is documented, and quotations of `icm` match its output.
//!
//! | block | test |
//! |---|---|
//! | `yaml` | a whole file: `icm check` accepts it |
//! | `yaml fragment` | the same, after merging it into the minimal configuration |
//! | `sh` | each command runs (`\` continues it); so does `icm ...` and `curl ...` in backticks, unless a word is in CAPITALS |
//! | anything else | cannot run here, and is counted in [`UNTESTED_BLOCKS`] |

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::references;
use crate::support::*;
use serde_json::json;
use serde_yaml::Value;

/// Blocks that are neither loaded nor run: page, language, number.
const UNTESTED_BLOCKS: &[(&str, &str, usize)] = &[
    ("README.md", "sh not-here", 2),                  // git clone
    ("docs/availability.md", "ini", 1),               // NOTES.INI, which a separate test uses
    ("docs/availability.md", "vb", 1),                // an agent in LotusScript
    ("docs/companion.md", "json", 3), // answers, of which `companion.rs` compares one with the schema
    ("docs/companion.md", "vb", 1),   // an import in the Notes client
    ("docs/containers.md", "sh not-here", 6), // Docker, Kubernetes
    ("docs/failed-saves.md", "json", 1), // an answer of `icm`
    ("docs/failed-saves.md", "text", 1), // a log line
    ("docs/first-cluster.md", "sh not-here", 2), // questions, the service, and a verb that does not return
    ("docs/from-nginx-haproxy.md", "sh not-here", 1), // configurations of other programs
    ("docs/from-nginx-haproxy.md", "text", 2), // what becomes of them
    ("docs/install.md", "sh not-here", 6), // package managers, systemd
    ("docs/listeners.md", "sh not-here", 2), // keys in /etc, and a public name
    ("docs/listeners.md", "text", 1), // lines for HAProxy
    ("docs/maintenance.md", "sh not-here", 1), // restarts servers
    ("docs/monitoring.md", "yaml prometheus", 1),
    ("docs/rehearse.md", "sh not-here", 2), // follow a rehearsal for ten minutes
    ("docs/rehearse.md", "text", 1),        // its output
    ("docs/replay.md", "text", 1),          // the report of a real run
    ("docs/sessions.md", "ini", 1),         // NOTES.INI
    ("docs/sessions.md", "sh not-here", 1), // a key in /etc
    ("docs/troubleshooting.md", "text", 1), // systemd
    ("docs/upgrade.md", "sh not-here", 2),  // replaces the installed program
    ("docs/upgrade.md", "text", 2),         // log lines
];

/// The minimal configuration, into which fragments are merged; its ports are never opened.
const MINIMAL_CONFIG: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/conf/minimal.yaml"));

/// Verbs that do not return.
const LONG_RUNNING: &[&str] = &["run", "upgrade"];

struct Page {
    name: String,
    text: String,
}

struct Block {
    info: String,
    text: String,
    place: String,
}

/// The README, then the pages of the guide.
fn pages() -> Vec<Page> {
    let readme = references::pages(&[""]).into_iter().filter(|(path, _)| path.ends_with("README.md"));
    let page = |(path, text): (PathBuf, String)| Page {
        name: path.strip_prefix(references::root()).unwrap().display().to_string(),
        text,
    };
    readme.chain(references::pages(&["docs"])).map(page).collect()
}

impl Page {
    /// The fenced blocks, and the text between them.
    fn parts(&self) -> (Vec<Block>, String) {
        let (mut blocks, mut prose): (Vec<Block>, String) = (Vec::new(), String::new());
        let mut inside = false;
        for (n, line) in self.text.lines().enumerate() {
            match (inside, line.trim().strip_prefix("```")) {
                (false, Some(info)) => {
                    let place = format!("{}:{}", self.name, n + 1);
                    assert!(!info.is_empty(), "{place}: a block without a language");
                    blocks.push(Block { info: info.to_owned(), text: String::new(), place });
                    inside = true;
                }
                (true, Some("")) => inside = false,
                (true, _) => blocks.last_mut().unwrap().text.push_str(&format!("{line}\n")),
                (false, None) => prose.push_str(&format!("{line}\n")),
            }
        }
        assert!(!inside, "{}: a block is not closed", self.name);
        (blocks, prose)
    }

    /// The code spans outside blocks.
    fn spans(&self) -> Vec<String> {
        let (_, prose) = self.parts();
        let odd = |line: &str| line.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
        prose.lines().flat_map(odd).collect()
    }

    /// Every command of the `sh` blocks and code spans.
    fn commands(&self) -> Vec<String> {
        let of_blocks = self.parts().0.into_iter().filter(|b| b.info == "sh").flat_map(|b| {
            let text = b.text.replace("\\\n", " ");
            text.lines().map(str::to_owned).collect::<Vec<_>>()
        });
        let capitals =
            |w: &str| w.len() > 2 && w.bytes().all(|b| b.is_ascii_uppercase() || b == b'-' || b == b'=');
        let placeholder = |span: &str| span.split([' ', '/']).any(|w| capitals(w) && !w.starts_with('-'));
        let is_command = |span: &String| {
            let mut words = span.split(' ');
            let verb = match words.next() {
                Some("icm") => {
                    words.next().is_some_and(|verb| !verb.starts_with('-') && !LONG_RUNNING.contains(&verb))
                }
                first => first == Some("curl"),
            };
            // A verb alone is only a name, unless it takes no arguments.
            let whole = span.split(' ').count() > 2 || ["icm audit", "icm man"].contains(&&**span);
            verb && whole && !placeholder(span)
        };
        let of_spans = self.spans().into_iter().map(|s| s.replace("\\|", "|")).filter(is_command);
        of_blocks.chain(of_spans).filter(|c| !c.trim().is_empty() && !c.starts_with('#')).collect()
    }
}

/// A folder in place of `/etc/icm` with every file that the pages name, and folders for `/var/lib/icm` and others.
fn etc(acme: &Acme) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let etc = dir.path().join("etc");
    for folder in ["etc/tls", "etc/shared", "etc/pages", "lib", "run", "log", "www/acme/downloads"] {
        std::fs::create_dir_all(dir.path().join(folder)).unwrap();
    }
    let made = acme.ca_file.parent().unwrap();
    for (from, to) in [
        ("web1.pem", "icm.pem"),
        ("web1.key", "icm.key"),
        ("web1.pem", "admin.pem"),
        ("web1.key", "admin.key"),
        ("ca.pem", "domino-ca.pem"),
        ("ca.pem", "admin-ca.pem"),
        ("ca.pem", "clients.pem"),
    ] {
        secret_file(&etc.join("tls"), to, &std::fs::read_to_string(made.join(from)).unwrap());
    }
    let key = "5f1d7a84db4f0c3a9e6b2d8870c1e2f35f1d7a84db4f0c3a9e6b2d8870c1e2f3\n";
    for (name, text) in [
        ("token", "k3yR7uPqk3yR7uPq"),
        ("statpub-token", "THE-TOKEN-IN-THE-FILE"),
        ("companion-token", "k3yR7uPqk3yR7uPq"),
        ("password", "reader"),
        ("test-password", "secret"),
        ("connector", "c0nnect0r"),
        ("maintenance.html", "<!doctype html><title>Maintenance</title>"),
        ("tls/tickets.key", key),
        ("affinity.key", key),
        ("shared/affinity.key", key),
        (
            "databases.csv",
            "path,server,replica_id,title,mark\nsales/leads.nsf,Web1/Acme,C1257A000041D2E0,Leads,\n",
        ),
    ] {
        secret_file(&etc, name, text);
    }
    (dir, etc)
}

/// Replaces the folders in a page's YAML by those of this test.
fn with_test_folders(yaml: &str, dir: &Path) -> String {
    let dir = dir.display();
    let moved = yaml.replace("/etc/icm", &format!("{dir}/etc"));
    let moved =
        moved.replace("/var/lib/icm", &format!("{dir}/lib")).replace("/var/www", &format!("{dir}/www"));
    moved.replace("/run/icm", &format!("{dir}/run")).replace("/var/log/icm", &format!("{dir}/log"))
}

/// Merges YAML: keys are added, elements of `clusters` are merged one by one, everything else is replaced.
fn merge(into: &mut Value, from: Value, key: &str) {
    match (into, from) {
        (Value::Mapping(into), Value::Mapping(from)) => {
            for (key, value) in from {
                let name = key.as_str().unwrap().to_owned();
                merge(into.entry(key).or_insert(Value::Null), value, &name);
            }
        }
        (Value::Sequence(into), Value::Sequence(from)) if key == "clusters" => {
            into.resize(into.len().max(from.len()), Value::Null);
            into.iter_mut().zip(from).for_each(|(into, from)| merge(into, from, ""));
        }
        (into, from) => *into = from,
    }
}

#[test]
fn every_configuration_in_the_pages_is_accepted_by_check() {
    let acme = Acme::built_in();
    let (dir, _) = etc(&acme);
    let mut loaded = 0;
    for block in pages().iter().flat_map(|page| page.parts().0) {
        let text = with_test_folders(&block.text, dir.path());
        let whole = match &*block.info {
            "yaml" => text,
            "yaml fragment" => {
                let mut whole: Value = serde_yaml::from_str(MINIMAL_CONFIG).unwrap();
                let part = serde_yaml::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", block.place));
                merge(&mut whole, part, "");
                serde_yaml::to_string(&whole).unwrap()
            }
            _ => continue,
        };
        let file = dir.path().join("icm.yaml");
        std::fs::write(&file, &whole).unwrap();
        let output = icm_cli(&["check", "-c", &file.display().to_string()]);
        assert_eq!(output.code, 0, "{}:\n{}{}\n{whole}", block.place, output.out, output.err);
        loaded += 1;
    }
    assert!(loaded > 10, "only {loaded} blocks were found");
}

#[test]
fn every_command_in_the_pages_runs() {
    let acme = Acme::built_in();
    let (_dir, folder) = etc(&acme);
    let mut config = documented_commands::demo_config(&acme);
    let statpub = format!("127.0.0.1:{}", free_port());
    let token = folder.join("statpub-token");
    set(&mut config, "statpub", &format!("{{ address: \"{statpub}\", token_file: {} }}", token.display()));
    for (n, server) in acme.servers.iter().enumerate() {
        let url = format!("http://{}/metrics", server.metrics.unwrap());
        let sources =
            format!("[{{ source: statpub }}, {{ source: prometheus, url: \"{url}\", interval: 200ms }}]");
        set(&mut config, &format!("clusters.0.servers.list.{n}.availability"), &sources);
    }
    let log = folder.parent().unwrap().join("log/access.log").display().to_string();
    set(&mut config, "access_log", &format!("{{ path: {log}, format: json }}"));
    let cache = folder.parent().unwrap().join("lib/directory").display().to_string();
    set(&mut config, "clusters.0.directory.cache", &cache);
    let icm = Icm::start(config);
    icm.served("/sales/orders.nsf", 20);
    let mut count = 0;
    // `readme.rs` tests the tour of README.md.
    for page in pages().iter().filter(|page| page.name != "README.md") {
        for command in page.commands() {
            let mut here = documented_commands::with_test_addresses(&command, &acme, &icm, &folder)
                .replace("127.0.0.1:8780", &statpub)
                .replace("/var/log/icm/access.log", &log)
                // As long as users may return, which here is half an hour.
                .replace("--wait=40m", "--wait=1s");
            let verb = command.split(' ').nth(1).unwrap_or_default();
            let asks =
                command.starts_with("icm ") && !["check", "completion", "init", "man", "run"].contains(&verb);
            if asks && !command.contains(" -c ") && !command.contains("--admin") {
                let verb = format!("icm {verb}");
                let (rest, at) = (&here[verb.len()..], icm.admin);
                // The options of these follow their subcommand.
                here = match verb.as_str() {
                    "icm show" | "icm cache" => {
                        let what = rest.trim().split(' ').next().unwrap();
                        let rest = &rest.trim()[what.len()..];
                        format!("{verb} {what} --admin http://{at}{rest}")
                    }
                    _ => format!("{verb} --admin http://{at}{rest}"),
                };
            }
            let ran = documented_commands::run(&here);
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            // Exit code 2 is a negative result, not an error.
            let fine = ran.status.success() || (command.starts_with("icm ") && ran.status.code() == Some(2));
            assert!(
                fine,
                "{}: {command}\nran as {here}\n{}{}",
                page.name,
                text(&ran.stdout),
                text(&ran.stderr)
            );
            count += 1;
        }
        acme.ask("POST", "/reset", None);
    }
    assert!(count > 20, "only {count} commands were found");
}

#[test]
fn every_untested_block_is_listed() {
    let mut found: BTreeMap<(String, String), usize> = BTreeMap::new();
    for page in pages() {
        for block in page.parts().0 {
            if !["sh", "yaml", "yaml fragment"].contains(&&*block.info) {
                *found.entry((page.name.clone(), block.info)).or_default() += 1;
            }
        }
    }
    let counted = UNTESTED_BLOCKS
        .iter()
        .map(|(page, info, n)| (((*page).to_owned(), (*info).to_owned()), *n))
        .collect();
    assert_eq!(
        found, counted,
        "blocks that are neither loaded nor run (left: pages, right: UNTESTED_BLOCKS)"
    );
}

#[test]
fn the_index_names_every_page() {
    let all = pages();
    let index = all.iter().find(|page| page.name == "docs/README.md").expect("docs/README.md");
    for page in all.iter().filter(|page| page.name.starts_with("docs/") && page.name != "docs/README.md") {
        let name = page.name.trim_start_matches("docs/");
        assert!(index.text.contains(&format!("({name})")), "docs/README.md does not link to {name}");
    }
    assert!(all[0].text.contains("(docs/README.md)"), "README.md does not link to the guide");
}

#[test]
fn every_verb_is_documented_and_every_documented_verb_exists() {
    let help = icm_cli(&["--help"]).out;
    let commands = help.split("Commands:").nth(1).unwrap().split("Options:").next().unwrap();
    let indented = commands.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let verbs: Vec<&str> = indented.map(|line| line.split_whitespace().next().unwrap()).collect();
    assert!(verbs.len() > 8, "{help}");
    let all = pages();
    let guide: String = all.iter().filter(|p| p.name.starts_with("docs/")).map(|p| &*p.text).collect();
    for verb in verbs.iter().filter(|verb| **verb != "help") {
        assert!(guide.contains(&format!("icm {verb}")), "no page of the guide names `icm {verb}`");
    }
    for page in &all {
        for span in page.spans().iter().filter_map(|span| span.strip_prefix("icm ")) {
            let verb = span.split(' ').next().unwrap();
            let known = verbs.contains(&verb) || verb.starts_with('-') || verb == "upgrade";
            assert!(known, "{}: there is no verb `icm {verb}`", page.name);
        }
    }
}

#[test]
fn every_key_of_the_configuration_is_explained() {
    let full = std::fs::read_to_string(references::root().join("conf/full.yaml")).unwrap();
    let guide: String = pages().into_iter().map(|page| page.text).collect();
    let mut above = false;
    let mut missing = Vec::new();
    for line in full.lines() {
        let code = line.split(" # ").next().unwrap();
        let comment = line.trim_start().starts_with('#') || line.contains(" # ");
        if !line.trim_start().starts_with('#') {
            for key in code.split([' ', '{', ',', '[']).filter_map(|word| word.strip_suffix(':')) {
                let named = guide.contains(&format!("{key}:")) || guide.contains(&format!("`{key}`"));
                let dotted = guide.contains(&format!(".{key}`"));
                if !(comment || above || named || dotted) {
                    missing.push(key);
                }
            }
        }
        above = line.trim_start().starts_with('#');
    }
    assert!(missing.is_empty(), "explained neither in conf/full.yaml nor in a page: {missing:?}");
}

/// Quotations of `icm check --probe`: the state of the servers and the text.
const QUOTED: &[(&str, &str)] = &[
    (r#"{"dir": {"unauthorised": true}}"#, "needs Reader access to the database"),
    (r#"{"dir": {"hidden_view_404": true}}"#, "`Databases by Pathname` was read instead"),
    (r#"{"dir": {"empty": true}}"#, "0 replicas: the view is wrong, or empty for this user"),
    (r#"{"dir": {"error500": true}}"#, "answered with status 500"),
    (r#"{"fault": {"kind": "not_found", "path": "/cldbdir.nsf"}}"#, "answered with status 404"),
    (r#"{"fault": "refuse"}"#, "connection refused"),
];

#[test]
fn the_guide_quotes_the_output_of_check_correctly() {
    let acme = Acme::built_in();
    let mut plain = config(&acme);
    set(&mut plain, "clusters.0.directory.columns", "{ path: 0, server: 1, replica_id: 3 }");
    let page = std::fs::read_to_string(references::root().join("docs/directory.md")).unwrap();
    // Code in a table cannot contain a backtick, so the pages quote without it.
    let quoted = |words: &str| page.contains(&words.replace('`', ""));
    let check = |config: &Value| {
        let (_dir, file) = write_config(config);
        icm_cli(&["check", "--probe", "-c", &file.display().to_string()])
    };
    let sound = check(&plain);
    assert_eq!(sound.code, 0, "{}{}", sound.out, sound.err);
    for words in ["marks not read", "RESTRICTED not read"] {
        assert!(sound.out.contains(words) && page.contains(words), "{words}: {}", sound.out);
    }
    for (state, words) in QUOTED {
        acme.set("all", serde_json::from_str(state).unwrap());
        let output = check(&plain);
        assert!(output.out.contains(words), "{state}: {words:?} is not in\n{}", output.out);
        assert!(quoted(words), "docs/directory.md does not quote {words:?}");
        assert_eq!(output.code, if words.contains("instead") { 0 } else { 2 }, "{state}: {}", output.out);
        acme.ask("POST", "/reset", None);
    }
    let dir = tempfile::tempdir().unwrap();
    let wrong = secret_file(dir.path(), "password", "wrong");
    let auth = format!("{{ session: {{ user: ICM Reader/Acme, password_file: {wrong} }} }}");
    set(&mut plain, "clusters.0.directory.auth", &auth);
    let words = "refused, check user, password and that session login is enabled";
    let output = check(&plain);
    assert!(output.out.contains(words) && quoted(words), "{}", output.out);
}

#[test]
fn the_guide_names_the_titles_of_error_pages_correctly() {
    let guide = std::fs::read_to_string(references::root().join("docs/troubleshooting.md")).unwrap();
    let source = std::fs::read_to_string(references::root().join("src/pages/problem.rs")).unwrap();
    let titles: Vec<&str> =
        guide.lines().filter_map(|line| line.strip_prefix("| 503 \"")?.split('"').next()).collect();
    assert!(titles.len() > 3, "{titles:?}");
    for title in titles {
        assert!(source.contains(&format!("\"{title}\"")), "no page has the title {title:?}");
    }
}

#[test]
fn the_documented_notes_ini_lines_make_domino_send_what_icm_reads() {
    let page = std::fs::read_to_string(references::root().join("docs/availability.md")).unwrap();
    let value = |key: &str| {
        let line = page.lines().find_map(|line| line.strip_prefix(&format!("{key}=")));
        line.unwrap_or_else(|| panic!("no {key} in docs/availability.md")).to_owned()
    };
    assert_eq!(value("STATPUB_ENABLE"), "1");
    let acme = Acme::built_in();
    let (_dir, folder) = etc(&acme);
    let mut config = config(&acme);
    let at = format!("127.0.0.1:{}", free_port());
    let token = folder.join("statpub-token");
    set(&mut config, "statpub", &format!("{{ address: \"{at}\", token_file: {} }}", token.display()));
    set(&mut config, "clusters.0.availability", "{ source: statpub }");
    let icm = Icm::start(config);
    // Domino replaces its placeholders like this.
    let rendered =
        |key: &str, name: &str, number: &str| value(key).replace("$Name$", name).replace("$Value$", number);
    let body = [
        rendered("STATPUB_METRIC_FORMAT", "Server.AvailabilityIndex", "41"),
        rendered("STATPUB_METRIC_FORMAT", "Server.Users", "7"),
        rendered("STATPUB_DELTA_METRIC_FORMAT", "Server.AvailabilityIndex", "3"),
    ]
    .join(&value("STATPUB_METRIC_DELIMITER").replace("$Newline$", "\n"));
    let uri = value("STATPUB_URI");
    let (_, target) = uri.split_once(":8780").expect("the port of conf/full.yaml");
    let header = value("STATPUB_HEADERS");
    let (name, secret) = header.split_once(": ").unwrap();
    let mut client = Client::to(at.parse().unwrap());
    let answer = client.request("POST", target, &[(name, secret)], body.as_bytes()).unwrap();
    assert_eq!(answer.status, 204, "{}", answer.text());
    let output = icm.admin("/status").json();
    let web1 = &output["clusters"][0]["servers"][0];
    assert_eq!(web1["index"], json!(41), "{web1}");
}
