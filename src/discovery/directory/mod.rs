//! Reads the cluster directory from Domino, decides whether a reading is trusted, and keeps copies on disk.

pub mod acceptance;
pub mod cldbdir;
mod columns;
pub mod index_file;
pub mod refresh;
pub mod server_cache;

pub use acceptance::{ReadingDigest, ReadingValidator};
pub use cldbdir::{AnsweredViews, DirectoryReading, ServerAddress};
