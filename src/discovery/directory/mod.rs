//! Where the cluster directory comes from when Domino itself is asked, and what is kept of it.
//!
//! In: members, a view, a cache file. Out: a draft of the directory, or why not. It never
//! decides alone that databases are gone: see [`hold`].

pub mod acceptance;
pub mod cldbdir;
pub mod columns;
pub mod index_file;
pub mod refresh;
pub mod server_cache;

pub use acceptance::{ReadingDigest, ReadingValidator};
pub use cldbdir::{DirectoryReading, ServerAddress};
