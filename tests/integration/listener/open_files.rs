//! File descriptors: connections to the admin and statpub listeners cannot use up those of the public listeners.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::support::*;

/// A program that runs `icm` with these limits of open files.
fn limited(dir: &std::path::Path, soft: u64, hard: u64) -> std::path::PathBuf {
    let program = dir.join("limited-icm");
    let icm = env!("CARGO_BIN_EXE_icm");
    write_script(&program, &format!("ulimit -S -n {soft} && ulimit -H -n {hard} && exec {icm} \"$@\""));
    program
}

/// Connections that say nothing.
fn idle(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    let connect = |_| TcpStream::connect_timeout(&address, Duration::from_secs(5)).ok();
    (0..count).filter_map(connect).collect()
}

#[test]
fn idle_connections_of_strangers_to_statpub_and_admin_keep_nobody_from_the_public_service() {
    raise_open_file_limit();
    let recorder = RecordingServer::new(|_| OK.to_owned());
    let mut config = recorder.config();
    let statpub = SocketAddr::from(([127, 0, 0, 1], free_port()));
    set(&mut config, "statpub", &format!("{{ address: \"{statpub}\" }}"));
    set(&mut config, "limits.header_timeout", "60s");
    let dir = tempfile::tempdir().unwrap();
    let icm = Icm::spawn_program(&limited(dir.path(), 64, 256), config, &[]).listening();
    wait_for(statpub);
    icm.wait_for_log("system allows 256");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", icm.pid())).unwrap();
    let files = limits.lines().find(|l| l.starts_with("Max open files")).unwrap();
    let numbers: Vec<&str> = files.split_whitespace().filter(|word| word.parse::<u64>().is_ok()).collect();
    assert_eq!(numbers, ["256", "256"], "the soft limit is raised to the hard one");
    let _strangers = [idle(statpub, 700), idle(icm.admin, 700)];
    let mut clients: Vec<Client> = (0..40).map(|_| icm.client()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/fast").status, 200);
    }
    assert!(!icm.log().contains("no connection can be accepted"), "{}", icm.log());
}

#[test]
fn check_compares_the_limit_of_open_files_with_that_of_connections() {
    let recorder = RecordingServer::new(|_| OK.to_owned());
    let mut config = recorder.config();
    for (connections, warns) in [(100, false), (2_000_000_000_usize, true)] {
        set(&mut config, "limits.connections", &connections.to_string());
        let (_dir, file) = write_config(&config);
        let output = icm_cli(&["check", "-c", file.to_str().unwrap()]);
        assert_eq!(output.code, 0, "{}", output.out);
        assert_eq!(
            output.out.contains("limits.connections: 2000000000 connections need"),
            warns,
            "{}",
            output.out
        );
    }
}
