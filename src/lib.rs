//! domino-icm: the Internet Cluster Manager for HCL Domino, rebuilt on Pingora.
//!
//! The layers, lowest first. A layer uses only those above it in this list; a test holds it to that.
//! `ARCHITECTURE.md` follows a request, a reading and a reload through them.

/// Small helpers for every layer: clock, host and URL bytes, durable files, tokens.
pub mod util;

/// What a Domino cluster is and how a server is chosen: pure decisions, without sockets, clock or log.
pub mod domain;

/// One YAML file in; settings, or every error with its place, out.
pub mod config;

/// Counters and the access log.
pub mod telemetry;

/// Pages that `icm` answers itself: errors, the choice between databases, the list of databases.
pub(crate) mod pages;

/// Learns from Domino: views, Server documents, probes, availability.
pub mod discovery;

/// The running state behind one pointer, replaced as a whole by a reload.
pub mod state;

/// Several ICMs: one has the configuration, the others follow it.
pub(crate) mod follow;

/// From a client's socket to Pingora: listeners, TLS, limits, timeouts, request validation.
pub mod edge;

/// Connections to servers: reuse, deadlines, tunnels.
pub(crate) mod upstream;

/// Pingora's hooks: the life of a request.
pub mod proxy;

/// The same decision without traffic: explain, simulate, audit.
pub mod insight;

/// The admin listener: status page, JSON, metrics, restrict and release.
pub(crate) mod admin;

/// Starts and ends the process: signals, reload, handover, systemd.
pub(crate) mod server;

/// The command line.
pub mod cli;
