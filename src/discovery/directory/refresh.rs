//! One refresh of the directory: read, judge, ask others where the judge wants it.
//!
//! In: members, the holder, the digest of what serves. Out: a reading that may serve, or the reason
//! why the old one serves on. It never swaps anything itself.

use super::cldbdir::{ReadFailure, Reading, ServerAddress, read};
use super::hold::{Holder, ReadingDigest, Verdict};
use crate::config::settings::Cldbdir;
use crate::discovery::domino::{Client, Sessions};

/// What came of a refresh.
#[derive(Debug)]
pub enum Refreshed {
    /// Serve this.
    Accepted {
        /// What was read.
        reading: Box<Reading>,
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
    Failed(ReadFailure),
}

/// Reads the directory under the hold rule of [`Holder`].
pub async fn refresh(
    client: &Client,
    members: &[ServerAddress],
    settings: &Cldbdir,
    sessions: &Sessions,
    holder: &mut Holder,
    serving: Option<&ReadingDigest>,
) -> Refreshed {
    let mut rest = members.to_vec();
    let mut warnings = Vec::new();
    let mut held: Option<(Reading, ReadingDigest)> = None;
    while !rest.is_empty() || held.is_none() {
        let reading = match (read(client, &rest, settings, sessions).await, &held) {
            (Ok(reading), _) => reading,
            (Err(failure), None) => return Refreshed::Failed(failure),
            (Err(failure), Some(_)) => {
                warnings.extend(failure.members.iter().map(|(name, error)| format!("{name}: {error}")));
                break;
            }
        };
        let digest = ReadingDigest::of(reading.from.clone(), &reading.draft);
        match holder.offer(serving, digest.clone(), reading.truncated.as_deref()) {
            Verdict::Accept => return Refreshed::Accepted { reading: Box::new(reading), digest },
            Verdict::Hold { reason } => return Refreshed::Held { reason, warnings },
            Verdict::AskAnother => {}
        }
        // Those before the one that answered have failed just now.
        let asked =
            rest.iter().position(|member| member.name == reading.from).map_or(rest.len(), |at| at + 1);
        rest.drain(..asked);
        warnings.extend(reading.warnings.iter().cloned());
        held = Some((reading, digest));
    }
    match (holder.nobody_else_answers(), held) {
        (Verdict::Accept, Some((reading, digest))) => {
            Refreshed::Accepted { reading: Box::new(reading), digest }
        }
        (Verdict::Hold { reason }, _) => Refreshed::Held { reason, warnings },
        _ => Refreshed::Failed(ReadFailure { members: Vec::new() }),
    }
}
