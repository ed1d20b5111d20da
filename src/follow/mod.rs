//! Takes the clusters and restrictions from the `/config` of another ICM (`get_configuration_from`).
//!
//! A [`FollowClient`] fetches a [`FollowDocument`], which passes the same checks as a file, and [`cached_copy`] keeps the
//! last good one on disk. `server` applies it.

pub mod cached_copy;
mod client;
mod document;

pub use client::{FollowClient, FollowResponse};
pub use document::{FollowDocument, FollowRefusal, YAML_MEDIA_TYPE, apply_etag, render_document};

use std::time::Duration;

use crate::config::Settings;
use crate::config::settings::Follow;
use crate::discovery::domino::{Fault, FetchError};
use crate::state::followed::FollowedConfig;

/// Why there is no configuration from the other ICM.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    #[error("{0}")]
    Fetch(#[from] FetchError),
    #[error("{url}: the host name cannot be resolved: {reason}")]
    Resolve { url: String, reason: String },
    #[error("{url}: answered with status {status}{hint}")]
    Status { url: String, status: u16, hint: &'static str },
    /// The configuration is invalid.
    #[error("the configuration of {url} is refused: {reason}")]
    Refused { url: String, reason: FollowRefusal },
    /// Neither the configuration of the other ICM nor a copy is available at start.
    #[error("get_configuration_from: {reason}; {copy}, so there is no configuration to start with")]
    NoConfiguration { reason: String, copy: String },
}

impl FollowError {
    /// True if another try may succeed soon.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Fetch(error) => !matches!(
                error.fault,
                Fault::CertificateNotTrusted(_) | Fault::NotTls | Fault::BodyTooLarge(_)
            ),
            Self::Resolve { .. } => true,
            Self::Status { status, .. } => *status >= 500,
            Self::Refused { .. } | Self::NoConfiguration { .. } => false,
        }
    }
}

/// The pause between two tries at start.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Fetches and checks the configuration.
///
/// # Errors
/// When there is no response, or it is not a valid configuration.
pub async fn fetch_document(follow: &Follow) -> Result<(FollowDocument, FollowedConfig), FollowError> {
    match FollowClient::new(follow).fetch(None).await? {
        FollowResponse::Document { text, etag } => {
            let document = FollowDocument::parse(follow, &text, None)?;
            let followed = document.followed(follow, text, etag);
            Ok((document, followed))
        }
        FollowResponse::NotModified => Err(FollowError::Status {
            url: follow.url.to_string(),
            status: 304,
            hint: " although the request had no ETag",
        }),
    }
}

/// Returns the configuration of the other ICM, else the last good copy. If there is neither, it tries again until
/// `timeout`. Blocks.
///
/// # Errors
/// When there is neither after `timeout`, or the error is permanent.
pub fn initial_document(
    follow: &Follow,
    timeout: Duration,
) -> Result<(FollowDocument, FollowedConfig), FollowError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| {
        FollowError::NoConfiguration { reason: e.to_string(), copy: "no copy was tried".to_owned() }
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

/// Fills in the clusters from the copy on disk, for commands that work offline.
///
/// # Errors
/// When the settings need a copy, and there is no usable one.
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
