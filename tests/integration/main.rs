//! The integration tests: the real programs `icm` and `acme` as child processes, seen from outside.
//!
//! One crate, so that the helpers in [`support`] are compiled and linked once. The tests of all modules run as threads of one
//! process: none may change what belongs to the process (environment, working directory, umask). What needs a process of its
//! own is another file in `tests/`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice
)]
#![allow(clippy::disallowed_methods, reason = "these tests have no runtime whose threads could be blocked")]

mod support;

mod admin {
    mod api;
    mod rehearsal;
    mod status_page;
    mod status_page_charts;
}

mod affinity {
    mod browser;
    mod catching_up;
    mod changes;
    mod cookie;
    mod cross_site;
    mod older_replicas;
    mod own_writes;
    mod session_cookies;
    mod sessions;
}

mod cli {
    mod audit;
    mod commands;
    mod explain;
    mod explain_agreement;
    mod init;
    mod init_from;
    mod maintain;
    mod replay;
    mod restrict;
    mod sso;
}

mod docs {
    mod companion;
    mod examples;
    mod guide;
    mod readme;
    mod references;
    mod several_icms;
}

mod failover {
    mod catch_up;
    mod failing_pages;
    mod fault_matrix;
    mod healthy_servers;
    mod http2;
    mod pooled_connections;
    mod response_deadlines;
    mod rules;
    mod save_check;
    mod slow_requests;
    mod truth;
    mod under_load;
}

mod fast_path {
    mod answers;
    mod client;
    mod differential;
    mod exchange;
    mod h2;
    mod origin;
    mod report;
    mod site;
}

mod follow {
    mod catch_up;
    mod file_access;
    mod floating_address;
    mod leader;
    mod refusals;
}

mod http {
    mod bodies;
    mod cache;
    mod compression;
    mod connection_logins;
    mod header_edits;
    mod headers;
    mod http2;
    mod http2_floods;
    mod request_smuggling;
    mod semantics;
    mod server_responses;
    mod spoofed_headers;
    mod websocket;
}

mod listener {
    mod client_limits;
    mod concurrent_requests;
    mod connections;
    mod login_limits;
    mod many_connections;
    mod open_files;
    mod proxy_protocol;
    mod stalled_clients;
}

mod monitoring {
    mod access_log;
    mod alerts;
    mod metrics;
}

mod packages {
    mod artefacts;
    mod container;
    mod installation;
    mod kubernetes;
    mod machine;
}

mod process {
    mod lifecycle;
    mod reload;
    mod state_files;
    mod systemd;
    mod upgrade;
    mod upgrade_failures;
}

mod routing {
    mod access;
    mod databases;
    mod home_mail;
    mod paths;
    mod pools;
    mod redirect;
    mod request_targets;
    mod routes;
    mod site_rules;
    mod static_files;
}

mod selection {
    mod availability;
    mod companion;
    mod directory;
    mod freshness;
    mod probes;
    mod rules;
    mod server_documents;
    mod sites;
    mod statpub;
}

mod simulated_cluster {
    mod companion;
    mod faults;
    mod pages;
    mod replication;
    mod views;
}

mod tls {
    mod acme_server;
    mod certificates;
    mod client_certificates;
    mod protocol;
    mod resumption;
    mod tickets;
    mod upstream;
}

mod fuzz_corpus;
mod layout;
mod make_tools;
