//! Small helpers that every layer may use.

pub mod host;
