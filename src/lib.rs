//! domino-icm: the Internet Cluster Manager for HCL Domino, rebuilt on Pingora.
//!
//! The layers, lowest first: a layer uses only those above it in this list, which the test `layout` checks.
//! `ARCHITECTURE.md` follows a request, an availability reading and a reload through them.

/// Small helpers for every layer: clock, host and URL bytes, durable files, tokens.
pub mod util;

/// Pure decisions without sockets, clock or log: databases, health of servers, selection, affinity, rewriting.
pub mod domain;

/// Reads one YAML file into settings, or reports every error with its position.
pub mod config;

/// Counters and the access log.
pub mod telemetry;

/// The pages that `icm` generates: errors, the choice between databases, the list of databases.
pub(crate) mod pages;

/// Reads from Domino: views, Server documents, probes, availability.
pub mod discovery;

/// Certificates from an ACME server: orders, pending challenges, files, and the certificates of a followed ICM.
pub(crate) mod acme;

/// The running state: an immutable snapshot behind one pointer, replaced by a reload.
pub mod state;

/// Takes the configuration of the clusters from another ICM.
pub(crate) mod follow;

/// Client connections from the socket to Pingora: listeners, TLS, limits, timeouts, request validation.
pub mod edge;

/// Connections to servers: the pool of the fast path, reuse, deadlines, tunnels.
pub mod upstream;

/// Pingora's hooks, which handle a request from its head to its log record.
pub mod proxy;

/// The selection of servers without traffic: explain, simulate, replay, audit.
pub mod insight;

/// The admin listener: status page, JSON, metrics, restrict and release.
pub(crate) mod admin;

/// Starts and ends the process: signals, reload, handover, systemd.
pub(crate) mod server;

/// The command line, with one verb for each task.
pub mod cli;
