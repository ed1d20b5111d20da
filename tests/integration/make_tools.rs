//! `conf/tools.sh`, which `make run` and `make test` begin with: it installs what is missing only as root, or after a yes.

use std::process::{Command, Stdio};

use crate::support::write_script;
use tempfile::TempDir;

/// A system that has neither cmake nor curl, and whose `apt-get` and `sudo` only write down how they were called.
struct System {
    programs: TempDir,
}

impl System {
    fn new(uid: u32) -> Self {
        let system = Self { programs: tempfile::tempdir().unwrap() };
        for program in [
            "cargo",
            "cc",
            "openssl",
            "chromium",
            "chromedriver",
            "caddy",
            "keepalived",
            "runc",
            "podman",
            "pip3",
            "mmdebstrap",
            "rpm",
            "lintian",
            "dpkg-shlibdeps",
        ] {
            system.program(program, "");
        }
        system.program("id", &format!("echo {uid}"));
        system.program("apt-get", "echo \"apt-get $*\" >>\"${0%/*}/calls\"");
        system
    }

    fn with_sudo(self) -> Self {
        self.program("sudo", "echo \"sudo $*\" >>\"${0%/*}/calls\"; exec \"$@\"");
        self
    }

    fn program(&self, name: &str, script: &str) {
        write_script(&self.programs.path().join(name), script);
    }

    /// Runs the script without a terminal: did it succeed, what did it print, what did it call?
    fn check_tools(&self) -> (bool, String, String) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/conf/tools.sh");
        let mut command = Command::new("/bin/bash");
        command.args([script, "build", "test"]).env("PATH", self.programs.path()).env_remove("CARGO");
        let output = command.stdin(Stdio::null()).output().unwrap();
        let calls = std::fs::read_to_string(self.programs.path().join("calls")).unwrap_or_default();
        (output.status.success(), String::from_utf8(output.stderr).unwrap(), calls)
    }
}

#[test]
fn root_installs_all_missing_tools_at_once_and_says_why() {
    let (success, printed, calls) = System::new(0).check_tools();
    assert!(success, "{printed}");
    assert!(printed.contains("cmake is missing: configures zlib-ng"), "{printed}");
    assert_eq!(calls, "apt-get update\napt-get install --yes --no-install-recommends cmake curl\n");
}

#[test]
fn without_root_and_sudo_one_command_is_printed_and_none_is_run() {
    let (success, printed, calls) = System::new(1000).check_tools();
    assert!(!success);
    assert!(
        printed.contains(
            "run as root: apt-get update && apt-get install --yes --no-install-recommends cmake curl\n"
        ),
        "{printed}"
    );
    assert_eq!(calls, "");
}

#[test]
fn sudo_is_not_called_where_nobody_can_answer() {
    let (success, printed, calls) = System::new(1000).with_sudo().check_tools();
    assert!(!success);
    assert!(
        printed.contains(
            "run: sudo apt-get update && sudo apt-get install --yes --no-install-recommends cmake curl\n"
        ),
        "{printed}"
    );
    assert_eq!(calls, "");
}

#[test]
fn a_missing_optional_tool_does_not_stop_the_run() {
    let system = System::new(1000);
    system.program("cmake", "");
    system.program("curl", "");
    std::fs::remove_file(system.programs.path().join("chromium")).unwrap();
    let (success, printed, calls) = system.check_tools();
    assert!(success, "{printed}");
    assert!(printed.contains("chromium is missing: pages are tested in a browser (optional)"), "{printed}");
    assert_eq!(calls, "");
}
