//! The artefacts of `make packages`, built by the same script from the executable of the tests: what is in them, and that
//! the same executable gives the same bytes. What the packages do when they are installed is in [`super::installation`].

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

/// The version of the tree, and one that follows it.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");
pub(super) const NEXT_VERSION: &str = "999.0.0";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The build folder, in which `conf/tools.sh` puts the tools that write packages.
fn target() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_icm")).parent().unwrap().parent().unwrap()
}

/// The folder with the artefacts of this version; `None`, after a line on standard error, where a tool is missing.
pub(super) fn packages(version: &str) -> Option<PathBuf> {
    let missing = ["cargo-deb", "cargo-generate-rpm", "cargo-cyclonedx"]
        .into_iter()
        .find(|tool| !target().join("tools/bin").join(tool).exists());
    if let Some(tool) = missing {
        eprintln!("skipped, packages: {tool} is missing; conf/tools.sh installs it");
        return None;
    }
    static FIRST: OnceLock<PathBuf> = OnceLock::new();
    static NEXT: OnceLock<PathBuf> = OnceLock::new();
    let built = if version == VERSION { &FIRST } else { &NEXT };
    Some(built.get_or_init(|| build(version, version)).clone())
}

fn build(version: &str, folder: &str) -> PathBuf {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("packages").join(folder);
    let _ = std::fs::remove_dir_all(&out);
    let output = Command::new(root().join("conf/packages/build.sh"))
        .envs([("ICM", env!("CARGO_BIN_EXE_icm")), ("VERSION", version), ("FAST", "1")])
        .env("OUT", &out)
        .env("CARGO_TARGET_DIR", target())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    out
}

pub(super) fn deb(folder: &Path) -> PathBuf {
    artefact(folder, ".deb")
}

pub(super) fn rpm(folder: &Path) -> PathBuf {
    artefact(folder, ".rpm")
}

fn artefact(folder: &Path, suffix: &str) -> PathBuf {
    names(folder).into_iter().find(|name| name.ends_with(suffix)).map(|name| folder.join(name)).unwrap()
}

fn names(folder: &Path) -> BTreeSet<String> {
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    std::fs::read_dir(folder).unwrap().map(name).collect()
}

/// Both streams of a program; `None` where it is not installed.
fn output_of(program: &str, arguments: &[&str], file: &Path) -> Option<(bool, String)> {
    let Ok(output) = Command::new(program).args(arguments).arg(file).output() else {
        eprintln!("skipped, packages: {program} is missing");
        return None;
    };
    let text = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
}

#[test]
fn the_same_executable_gives_the_same_packages_and_the_checksums_are_right() {
    let Some(folder) = packages(VERSION) else { return };
    let again = build(VERSION, "again");
    let files = names(&folder);
    assert_eq!(files, names(&again));
    for name in &files {
        let same = std::fs::read(folder.join(name)).unwrap() == std::fs::read(again.join(name)).unwrap();
        assert!(same, "{name} differs between two builds");
    }
    let (debian, redhat) = match std::env::consts::ARCH {
        "x86_64" => ("amd64", "x86_64"),
        "aarch64" => ("arm64", "aarch64"),
        other => panic!("no packages are made for {other}"),
    };
    let expected = [
        "SHA256SUMS".to_owned(),
        format!("domino-icm-{VERSION}-1.{redhat}.rpm"),
        format!("domino-icm-{VERSION}.cdx.json"),
        format!("domino-icm_{VERSION}-1_{debian}.deb"),
    ];
    assert_eq!(files, expected.into());
    let mut check = Command::new("sha256sum");
    check.args(["--check", "--strict", "SHA256SUMS"]).current_dir(&folder);
    assert_eq!(String::from_utf8(check.output().unwrap().stdout).unwrap().matches(": OK").count(), 3);
    let _ = std::fs::remove_dir_all(again);
}

#[test]
fn the_packages_pass_the_examination_of_their_distributions() {
    let Some(folder) = packages(VERSION) else { return };
    if let Some((passed, text)) =
        output_of("lintian", &["--no-cfg", "--fail-on", "error,warning"], &deb(&folder))
    {
        assert!(passed && !text.contains("E: ") && !text.contains("W: "), "{text}");
    }
    if let Some((passed, text)) = output_of("rpm", &["--checksig"], &rpm(&folder)) {
        assert!(passed && text.contains("digests OK"), "{text}");
    }
    // dnf and zypper refuse a package that needs what nothing provides.
    if let Some((passed, text)) = output_of("rpm", &["-qp", "--requires"], &rpm(&folder)) {
        assert!(passed && text.lines().any(|line| line == "/usr/sbin/useradd"), "{text}");
        let (_, provided) = output_of("rpm", &["-qp", "--provides"], &rpm(&folder)).unwrap();
        let of_users = text.lines().filter(|line| line.starts_with("group(") || line.starts_with("user("));
        for needed in of_users {
            assert!(provided.lines().any(|line| line == needed), "nothing provides {needed}: {provided}");
        }
    }
}

#[test]
fn the_bill_of_materials_lists_what_is_linked_and_nothing_of_the_build_machine() {
    let Some(folder) = packages(VERSION) else { return };
    let text = std::fs::read_to_string(artefact(&folder, ".cdx.json")).unwrap();
    let bill: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&bill["bomFormat"], &bill["specVersion"]), (&"CycloneDX".into(), &"1.5".into()));
    assert_eq!(bill["metadata"]["component"]["name"], "domino-icm");
    let components = bill["components"].as_array().unwrap();
    let names: BTreeSet<&str> = components.iter().map(|c| c["name"].as_str().unwrap()).collect();
    for linked in ["pingora", "rustls", "tokio", "aws-lc-sys", "mimalloc"] {
        assert!(names.contains(linked), "{linked} is missing");
    }
    for development in ["proptest", "insta", "reqwest", "criterion"] {
        assert!(!names.contains(development), "{development} is only used by tests");
    }
    for component in components {
        assert!(component["purl"].as_str().unwrap().starts_with("pkg:cargo/"), "{component}");
        assert_eq!(component["hashes"][0]["alg"], "SHA-256", "{component}");
    }
    assert!(!text.contains(&root().display().to_string()), "it contains the path of the source tree");
}
