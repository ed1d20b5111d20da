//! One refresh of the directory: read, judge, ask others where the judge wants it.
//!
//! In: members, the holder, the digest of what serves. Out: a reading that may serve, or the reason
//! why the old one serves on. It never swaps anything itself.

use super::acceptance::{ReadingDigest, ReadingValidator, ReadingVerdict};
use super::cldbdir::{DirectoryReadError, DirectoryReading, ServerAddress, read_directory};
use crate::config::settings::Cldbdir;
use crate::discovery::domino::{DominoClient, LoginSessions};

/// What came of a refresh.
#[derive(Debug)]
pub enum RefreshOutcome {
    /// Serve this.
    Accepted {
        /// What was read.
        reading: Box<DirectoryReading>,
        /// To judge the next one against.
        digest: ReadingDigest,
    },
    /// Read, but not believed yet.
    Held {
        /// For log, metric and status page.
        reason: String,
        /// Of all members that were read.
        warnings: Vec<String>,
    },
    /// Nobody could be read.
    Failed(DirectoryReadError),
}

/// Reads the directory under the hold rule of [`ReadingValidator`].
pub async fn refresh(
    client: &DominoClient,
    servers: &[ServerAddress],
    settings: &Cldbdir,
    sessions: &LoginSessions,
    validator: &mut ReadingValidator,
    serving: Option<&ReadingDigest>,
) -> RefreshOutcome {
    let mut rest = servers.to_vec();
    let mut warnings = Vec::new();
    let mut held: Option<(DirectoryReading, ReadingDigest)> = None;
    while !rest.is_empty() || held.is_none() {
        let reading = match (read_directory(client, &rest, settings, sessions).await, &held) {
            (Ok(reading), _) => reading,
            (Err(failure), None) => return RefreshOutcome::Failed(failure),
            (Err(failure), Some(_)) => {
                warnings.extend(failure.attempts.iter().map(|(name, error)| format!("{name}: {error}")));
                break;
            }
        };
        let digest = ReadingDigest::of(reading.from.clone(), &reading.builder);
        match validator.evaluate(serving, digest.clone(), reading.truncated.as_deref()) {
            ReadingVerdict::Accept => return RefreshOutcome::Accepted { reading: Box::new(reading), digest },
            ReadingVerdict::Hold { reason } => return RefreshOutcome::Held { reason, warnings },
            ReadingVerdict::AskAnotherServer => {}
        }
        // Those before the one that answered have failed just now.
        let asked =
            rest.iter().position(|member| member.name == reading.from).map_or(rest.len(), |at| at + 1);
        rest.drain(..asked);
        warnings.extend(reading.warnings.iter().cloned());
        held = Some((reading, digest));
    }
    match (validator.no_more_servers(), held) {
        (ReadingVerdict::Accept, Some((reading, digest))) => {
            RefreshOutcome::Accepted { reading: Box::new(reading), digest }
        }
        (ReadingVerdict::Hold { reason }, _) => RefreshOutcome::Held { reason, warnings },
        _ => RefreshOutcome::Failed(DirectoryReadError { attempts: Vec::new() }),
    }
}
