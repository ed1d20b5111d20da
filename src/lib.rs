//! domino-icm: the Internet Cluster Manager for HCL Domino, rebuilt on Pingora.

pub mod affinity;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod directory;
pub mod select;
