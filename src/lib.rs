//! domino-icm: the Internet Cluster Manager for HCL Domino, rebuilt on Pingora.

pub mod availability;
pub mod cluster;
pub mod config;
pub mod directory;
pub mod domino;
