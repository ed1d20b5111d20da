//! "Did my save happen?": which document a request saves, the token of the question, and what the answers of the replicas
//! mean. Pure, so that every combination of answers can be tested.

mod target;
mod token;
mod unid;
mod verdict;

pub use target::{SavedDocument, saved_document};
pub use token::{SaveToken, TOKEN_LIFETIME_MS};
pub use unid::Unid;
pub use verdict::{CopyAnswer, CopyReading, CopyState, SaveUnknown, SaveVerdict, decide};
