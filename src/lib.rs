//! domino-icm: the Internet Cluster Manager for HCL Domino, rebuilt on Pingora.
//!
//! The story of one request: [`proxy`] reads its head and asks [`url`] what it names; the cluster
//! [`directory`] says which servers hold the database; [`select`] decides among them from what
//! [`cluster`] knows of their state; the request goes there, and on failure the question is asked
//! again without the server that failed. [`rewrite`] keeps the public name in the answer, [`affinity`]
//! the user on the server.
//!
//! What is known comes from [`probe`], [`availability`] and [`domino`]; [`balancer`] holds it all behind
//! one pointer; [`config`] fills it from one YAML file, or from another ICM ([`follow`]); [`server`] ties it to Pingora and to signals.
//!
//! `select`, `url`, the directory's index and the cluster's state know neither Pingora, tokio nor a log.

pub mod access_log;
pub mod address;
pub mod affinity;
pub mod audit;
pub mod availability;
pub mod balancer;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod crypto;
pub mod descriptor;
pub mod directory;
pub mod domino;
pub mod durable;
pub mod edge;
pub mod explain;
pub mod follow;
pub mod gate;
pub mod metrics;
pub mod pages;
pub mod probe;
pub mod proxy;
pub mod rewrite;
pub mod select;
pub mod server;
pub mod simulate;
pub mod upstream;
pub mod url;
pub mod util;
pub mod visible;
