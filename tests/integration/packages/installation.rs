//! The packages in a new system: installed, upgraded under load without a lost request, removed. The scripts of the .deb
//! meet something that answers like systemd, those of the .rpm do not.

use std::net::SocketAddr;
use std::path::Path;

use super::artefacts::{NEXT_VERSION, VERSION, deb, packages, rpm};
use super::machine::{Machine, is_icm, run_in_new_machine, under_load};
use crate::support::*;

/// The addresses of the packaged configuration.
const ADMIN: &str = "127.0.0.1:8098";
const LISTENER: &str = "127.0.0.1:8080";

#[test]
fn the_packages_install_upgrade_under_load_and_leave_a_new_system() {
    let (Some(_), Some(_)) = (packages(VERSION), packages(NEXT_VERSION)) else { return };
    let (_, module) = module_path!().split_once("::").unwrap();
    let tests =
        ["the_deb_in_a_new_system", "the_rpm_in_a_new_system"].map(|test| format!("{module}::{test}"));
    if let Err(reason) = run_in_new_machine(&tests.each_ref().map(String::as_str)) {
        eprintln!("skipped, packages in a new system: {reason}");
    }
}

fn get(address: &str, target: &str) -> Option<Answer> {
    Client::to(address.parse::<SocketAddr>().unwrap()).request("GET", target, &[], b"").ok()
}

/// The folder with the artefacts, which the other test process has built.
fn built(version: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("packages").join(version)
}

/// The program answers with the packaged configuration, and says what to do.
fn explains_itself(machine: &Machine) {
    let ready = || get(ADMIN, "/readyz").is_some_and(|answer| answer.status == 200);
    assert!(eventually(MAX_WAIT, ready), "{}", machine.log());
    assert_eq!(get(ADMIN, "/livez").unwrap().status, 200);
    let page = get(LISTENER, "/mail/jdoe.nsf").unwrap();
    assert!(page.status == 503 && page.text().contains("icm init"), "{}", page.text());
    machine.shell("icm check -c /etc/icm/icm.yaml && icm check --running -c /etc/icm/icm.yaml");
}

/// What both packages put at the same place.
fn has_its_files(machine: &Machine) {
    assert_eq!(
        machine.modes(&[
            "/usr/bin/icm",
            "/etc/icm",
            "/etc/icm/icm.yaml",
            "/etc/logrotate.d/domino-icm",
            "/usr/lib/systemd/system/domino-icm.service",
            "/usr/share/doc/domino-icm/conf/keepalived/check-icm",
        ]),
        "755 root:root /usr/bin/icm
750 root:icm /etc/icm
640 root:icm /etc/icm/icm.yaml
644 root:root /etc/logrotate.d/domino-icm
644 root:root /usr/lib/systemd/system/domino-icm.service
755 root:root /usr/share/doc/domino-icm/conf/keepalived/check-icm
"
    );
    assert_eq!(
        machine.modes(&["/var/lib/icm", "/var/log/icm"]),
        "750 icm:icm /var/lib/icm\n750 icm:icm /var/log/icm\n"
    );
    let account = machine.shell("getent passwd icm");
    assert!(account.contains(":/var/lib/icm:") && account.trim_end().ends_with("nologin"), "{account}");
    let unit = machine.read("/usr/lib/systemd/system/domino-icm.service");
    for line in ["ExecStart=/usr/bin/icm run -c /etc/icm/icm.yaml", "Type=notify", "User=icm"] {
        assert!(unit.lines().any(|l| l == line), "no {line} in\n{unit}");
    }
    assert!(!unit.contains("/usr/local") && unit.contains("\nProtectSystem=strict\n"), "{unit}");
    let manual = machine.shell("gzip -dc /usr/share/man/man1/icm.1.gz");
    assert!(manual.contains(".TH icm 1") && manual.contains("icm upgrade"), "{manual}");
    machine.shell("bash -n /usr/share/bash-completion/completions/icm");
    assert!(machine.read("/usr/share/fish/vendor_completions.d/icm.fish").contains("complete -c icm"));
    let rotation = machine.shell("logrotate -d /etc/logrotate.d/domino-icm");
    assert!(!rotation.contains("error"), "{rotation}");
    for page in [
        "README.md",
        "docs/install.md",
        "conf/full.yaml",
        "conf/domino/icm.dxl",
        "conf/examples/vanity-urls.yaml",
    ] {
        assert!(machine.exists(&format!("/usr/share/doc/domino-icm/{page}")), "{page}");
    }
}

/// Replaces the running program under load by another package. Out: what the package manager printed.
fn upgrades_without_a_lost_request(
    machine: &Machine,
    address: SocketAddr,
    install: impl FnOnce() -> String,
) -> String {
    let old = machine.pid().unwrap();
    let text = under_load(machine, address, install);
    let new = machine.pid().unwrap();
    assert!(
        text.contains(&format!("upgraded without a restart: process {new} serves")),
        "{text}\n{}",
        machine.log()
    );
    assert_ne!(old, new);
    let program = std::fs::read_link(format!("/proc/{new}/exe")).unwrap();
    assert!(program.ends_with("usr/bin/icm"), "the new process runs {}", program.display());
    assert!(eventually(MAX_WAIT, || !is_icm(old)), "the old process does not end:\n{}", machine.log());
    text
}

/// Removes the package while a slow request is in flight, which is answered.
fn drains_at_removal(machine: &Machine, address: SocketAddr, remove: &dyn Fn() -> String) -> String {
    let pid = machine.pid().unwrap();
    let text = std::thread::scope(|scope| {
        let slow = scope.spawn(move || Client::to(address).get("/sales/orders.nsf?Open&delay=3000").status);
        pause(500);
        let text = remove();
        assert_eq!(slow.join().unwrap(), 200);
        text
    });
    assert!(!is_icm(pid), "the process still runs");
    assert!(!machine.exists("/usr/bin/icm") && !machine.exists("/usr/lib/systemd/system/domino-icm.service"));
    text
}

/// Listeners change, which takes a new process.
fn takes_the_configuration_of(machine: &Machine, acme: &Acme) -> SocketAddr {
    let address = machine.configure(acme);
    machine.shell("icm check -c /etc/icm/icm.yaml && icm upgrade -c /etc/icm/icm.yaml");
    assert_eq!(Client::to(address).get("/sales/orders.nsf?Open").status, 200);
    address
}

/// Copies a package into the system. Out: its path there.
fn copied(machine: &Machine, package: &Path) -> String {
    let inside = format!("/root/{}", package.file_name().unwrap().to_str().unwrap());
    std::fs::copy(package, machine.path(&inside)).unwrap();
    inside
}

#[test]
#[ignore = "run by the_packages_install_upgrade_under_load_and_leave_a_new_system"]
fn the_deb_in_a_new_system() {
    let machine = Machine::from_environment();
    machine.with_systemd();
    let acme = Acme::built_in();
    let (first, next) =
        (copied(&machine, &deb(&built(VERSION))), copied(&machine, &deb(&built(NEXT_VERSION))));
    let wanted = "/etc/systemd/system/multi-user.target.wants/domino-icm.service";

    machine.shell(&format!("dpkg -i {first}"));
    assert!(machine.exists(wanted), "it is not enabled");
    explains_itself(&machine);
    has_its_files(&machine);
    let address = takes_the_configuration_of(&machine, &acme);

    machine.shell("logrotate --force /etc/logrotate.d/domino-icm");
    Client::to(address).get("/sales/orders.nsf?Open");
    let log = "/var/log/icm/access.log";
    let written = || std::fs::read_to_string(machine.path(log)).is_ok_and(|text| text.contains("orders.nsf"));
    assert!(eventually(MAX_WAIT, written), "it does not write the new log");
    assert_eq!(machine.modes(&[log]), format!("640 icm:icm {log}\n"));

    let install = || machine.shell(&format!("dpkg -i {next}"));
    upgrades_without_a_lost_request(&machine, address, install);
    assert!(machine.shell("dpkg-query -W domino-icm").contains(NEXT_VERSION));
    assert_eq!((machine.systemctl_calls("stop"), machine.systemctl_calls("restart")), (0, 0));
    // The administrator's file and its mode stay.
    assert_eq!(machine.modes(&["/etc/icm/icm.yaml"]), "640 root:icm /etc/icm/icm.yaml\n");

    let (pid, good) = (machine.pid(), machine.read("/etc/icm/icm.yaml"));
    std::fs::write(machine.path("/etc/icm/icm.yaml"), format!("{good}nonsense: 1\n")).unwrap();
    let text = under_load(&machine, address, || machine.shell(&format!("dpkg -i {next}")));
    assert!(text.contains("could not be upgraded and goes on") && text.contains("nonsense"), "{text}");
    assert_eq!(machine.pid(), pid);
    std::fs::write(machine.path("/etc/icm/icm.yaml"), good).unwrap();

    drains_at_removal(&machine, address, &|| machine.shell("dpkg -r domino-icm"));
    assert!(machine.exists("/etc/icm/icm.yaml") && machine.exists("/var/lib/icm"));
    // Back again: it runs with the configuration and the state that were left.
    machine.shell(&format!("dpkg -i {first}"));
    let answers = || get(&address.to_string(), "/sales/orders.nsf?Open").is_some_and(|a| a.status == 200);
    assert!(eventually(MAX_WAIT, answers), "{}", machine.log());
    assert!(machine.exists(wanted));

    machine.shell("dpkg --purge domino-icm");
    for gone in ["/etc/icm/icm.yaml", "/var/lib/icm", "/var/log/icm", "/etc/logrotate.d/domino-icm", wanted] {
        assert!(!machine.exists(gone), "{gone} is left");
    }
    // Not the package's own.
    assert!(machine.exists("/etc/icm/ca.pem"));
    machine.shell("getent passwd icm && rm -r /etc/icm && userdel icm");
    machine.without_systemd();
}

#[test]
#[ignore = "run by the_packages_install_upgrade_under_load_and_leave_a_new_system"]
fn the_rpm_in_a_new_system() {
    let machine = Machine::from_environment();
    let acme = Acme::built_in();
    // Without the dependencies, because dpkg has installed them.
    let rpm_command = |arguments: &[&str]| {
        let output = std::process::Command::new("rpm")
            .args(["--root", machine.root().to_str().unwrap(), "--dbpath", "/var/lib/rpm", "--force-debian"])
            .args(arguments)
            .output()
            .unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(output.status.success(), "rpm {arguments:?}: {text}\n{}", machine.log());
        text
    };
    if std::process::Command::new("rpm").arg("--version").output().is_err() {
        eprintln!("skipped, packages: rpm is missing");
        return;
    }
    let install = |version: &str| rpm_command(&["-U", "--nodeps", rpm(&built(version)).to_str().unwrap()]);

    let text = install(VERSION);
    assert_eq!(text, "", "{text}");
    has_its_files(&machine);
    assert_eq!(machine.pid(), None, "it runs, although no preset says so");
    assert_eq!(rpm_command(&["-V", "--nodeps", "domino-icm"]), "");

    machine.start();
    explains_itself(&machine);
    let address = takes_the_configuration_of(&machine, &acme);
    upgrades_without_a_lost_request(&machine, address, || install(NEXT_VERSION));
    let files = rpm_command(&["-q", "domino-icm"]);
    assert!(files.trim() == format!("domino-icm-{NEXT_VERSION}-1.{}", std::env::consts::ARCH), "{files}");

    let text = drains_at_removal(&machine, address, &|| rpm_command(&["-e", "--nodeps", "domino-icm"]));
    assert!(text.contains("icm.yaml.rpmsave"), "{text}");
    assert!(machine.exists("/etc/icm/icm.yaml.rpmsave") && machine.exists("/var/log/icm/access.log"));
    machine.shell("getent passwd icm");
}
