//! What the fuzz targets do, as a library, so that tests/integration/fuzz_corpus.rs can replay their corpora.

pub mod targets;
