//! Where the cluster directory comes from when Domino itself is asked, and what is kept of it.
//!
//! In: members, a view, a cache file. Out: a draft of the directory, or why not. It never
//! decides alone that databases are gone: see [`hold`].

pub mod cache;
pub mod cldbdir;
pub mod columns;
pub mod copy;
pub mod hold;
pub mod refresh;

pub use cldbdir::{DirectoryReadError, DirectoryReading, ServerAddress};
pub use hold::{ReadingDigest, ReadingValidator, ReadingVerdict};
