//! Several ICMs that agree: one has the clusters, the others take them from its `/config`.
//!
//! [`FollowDocument`] is what travels: the clusters as configured and the administrators' restrictions. A [`FollowClient`]
//! fetches it, [`copy`] keeps the last good one on disk, [`FollowedConfig`] says how it stands. In: the settings of
//! `get_configuration_from`. Out: clusters that have passed the same checks as those of a file. It never applies
//! anything by itself, and never takes more than clusters and restrictions from another ICM.

pub mod cached_copy;
mod client;
mod document;

pub use client::{FollowClient, FollowResponse};
pub use document::{FollowDocument, FollowRefusal, YAML_MEDIA_TYPE, apply_etag, render_document};

use std::time::Duration;

use crate::config::Settings;
use crate::config::settings::Follow;
use crate::discovery::domino::FetchError;
use crate::state::followed::FollowedConfig;

/// Why there is no configuration from the other ICM.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// No answer.
    #[error("{0}")]
    Fetch(#[from] FetchError),
    /// The other ICM's name has no address.
    #[error("{url}: the host name cannot be resolved: {reason}")]
    Resolve {
        /// Which.
        url: String,
        /// The system's words.
        reason: String,
    },
    /// An answer that is no configuration.
    #[error("{url}: answered with status {status}{hint}")]
    Status {
        /// Who.
        url: String,
        /// What.
        status: u16,
        /// What to look at.
        hint: &'static str,
    },
    /// A configuration that does not validate.
    #[error("the configuration of {url} is refused: {reason}")]
    Refused {
        /// Whose.
        url: String,
        /// Why.
        reason: FollowRefusal,
    },
    /// Nothing to start with.
    #[error("get_configuration_from: {reason}; {copy}, so there is nothing to serve by")]
    NoConfiguration {
        /// Why the other ICM's is not at hand.
        reason: String,
        /// Why its copy is not either.
        copy: String,
    },
}

impl FollowError {
    /// Asking again soon may help: it does not answer, or not yet.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Fetch(error) => {
                use crate::discovery::domino::Fault;
                !matches!(
                    error.fault,
                    Fault::CertificateNotTrusted(_) | Fault::NotTls | Fault::BodyTooLarge(_)
                )
            }
            Self::Resolve { .. } => true,
            Self::Status { status, .. } => *status >= 500,
            Self::Refused { .. } | Self::NoConfiguration { .. } => false,
        }
    }
}

/// Pause between two tries at start.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Fetches and validates.
///
/// # Errors
/// When there is no answer, or it is not a configuration.
pub async fn fetch_document(follow: &Follow) -> Result<(FollowDocument, FollowedConfig), FollowError> {
    match FollowClient::new(follow).fetch(None).await? {
        FollowResponse::Document { text, etag } => {
            let document = document::FollowDocument::parse(follow, &text, None)?;
            let followed = document.followed(follow, text, etag);
            Ok((document, followed))
        }
        FollowResponse::NotModified => Err(FollowError::Status {
            url: follow.url.to_string(),
            status: 304,
            hint: ", though nothing was known of it before",
        }),
    }
}

/// What to start with: the other ICM's configuration, else the last good copy. Without either it goes on asking
/// for `patience` as long as that may help. Blocks.
///
/// # Errors
/// When there is neither.
pub fn initial_document(
    follow: &Follow,
    timeout: Duration,
) -> Result<(FollowDocument, FollowedConfig), FollowError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| {
        FollowError::NoConfiguration { reason: e.to_string(), copy: "no copy was looked for".to_owned() }
    })?;
    let deadline = std::time::Instant::now() + timeout;
    let mut warned = false;
    loop {
        let reason = match runtime.block_on(fetch_document(follow)) {
            Ok((document, followed)) => {
                cached_copy::save(follow, &followed.text);
                return Ok((document, followed));
            }
            Err(error) => error,
        };
        let copy = match load_copy(follow, &reason) {
            Ok(found) => {
                log::error!(target: "icm::follow", "{reason}; starting with the last good copy");
                return Ok(found);
            }
            Err(text) => text,
        };
        if !reason.is_transient() || std::time::Instant::now() + RETRY_INTERVAL > deadline {
            return Err(FollowError::NoConfiguration { reason: reason.to_string(), copy });
        }
        if !warned {
            log::warn!(target: "icm::follow", "{reason}; {copy}: trying again for {timeout:?}");
            warned = true;
        }
        runtime.block_on(async { tokio::time::sleep(RETRY_INTERVAL).await });
    }
}

/// Fills the settings of a file that follows from the copy on disk, for verbs that ask nobody.
///
/// # Errors
/// When there is no usable copy.
pub fn load_offline_copy(settings: &mut Settings) -> Result<(), FollowError> {
    let Some(follow) = settings.follow.clone() else { return Ok(()) };
    let reason = "the other ICM was not asked".to_owned();
    let (document, _) = load_copy(&follow, &reason)
        .map_err(|copy| FollowError::NoConfiguration { reason: reason.clone(), copy })?;
    document.apply_to(settings);
    Ok(())
}

fn load_copy(follow: &Follow, reason: &impl ToString) -> Result<(FollowDocument, FollowedConfig), String> {
    let Some(path) = &follow.cache else { return Err("no `cache` is configured".to_owned()) };
    let (text, at_unix_ms) =
        cached_copy::load(path).map_err(|e| format!("there is no copy in {}: {e}", path.display()))?;
    let document = FollowDocument::parse(follow, &text, None)
        .map_err(|e| format!("the copy in {} cannot be used: {e}", path.display()))?;
    let followed = document.followed_copy(follow, text, at_unix_ms, reason.to_string());
    Ok((document, followed))
}
