//! One refresh of the directory: reads it from one server after the other until a reading is accepted or held.

use super::acceptance::{ReadingDigest, ReadingValidator, ReadingVerdict};
use super::cldbdir::{AnsweredViews, DirectoryReadError, DirectoryReading, ServerAddress, read_directory};
use crate::config::settings::Cldbdir;
use crate::discovery::domino::{DominoClient, LoginSessions};

/// The result of a refresh.
#[derive(Debug)]
pub enum RefreshOutcome {
    Accepted {
        reading: Box<DirectoryReading>,
        /// The next reading is compared with this.
        digest: ReadingDigest,
    },
    /// The current directory stays in use.
    Held { reason: String, warnings: Vec<String> },
    /// No server gave a reading.
    Failed(DirectoryReadError),
}

/// Reads the directory and applies the rules of [`ReadingValidator`].
pub async fn refresh(
    client: &DominoClient,
    servers: &[ServerAddress],
    settings: &Cldbdir,
    sessions: &LoginSessions,
    answered: &AnsweredViews,
    validator: &mut ReadingValidator,
    current: Option<&ReadingDigest>,
) -> RefreshOutcome {
    let mut rest = servers.to_vec();
    let mut warnings = Vec::new();
    let mut held: Option<(DirectoryReading, ReadingDigest)> = None;
    while !rest.is_empty() || held.is_none() {
        let reading = match (read_directory(client, &rest, settings, sessions, answered).await, &held) {
            (Ok(reading), _) => reading,
            (Err(failure), None) => return RefreshOutcome::Failed(failure),
            (Err(failure), Some(_)) => {
                warnings.extend(failure.attempts.iter().map(|(name, error)| format!("{name}: {error}")));
                break;
            }
        };
        let digest = ReadingDigest::of(reading.from.clone(), &reading.builder);
        match validator.evaluate(current, digest.clone(), reading.truncated.as_deref()) {
            ReadingVerdict::Accept => return RefreshOutcome::Accepted { reading: Box::new(reading), digest },
            ReadingVerdict::Hold { reason } => return RefreshOutcome::Held { reason, warnings },
            ReadingVerdict::AskAnotherServer => {}
        }
        // The servers before the one that answered have just failed.
        let asked =
            rest.iter().position(|server| server.name == reading.from).map_or(rest.len(), |at| at + 1);
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
