//! Follows another ICM (`get_configuration_from`): asks for its configuration at intervals, and applies a new one as a
//! reload does. An error or a rejected document changes nothing and is recorded as an event.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::config::Settings;
use crate::config::settings::Follow;
use crate::follow::{FollowClient, FollowDocument, FollowError, FollowResponse, cached_copy};
use crate::state::followed::{FollowedConfig, FollowedOrigin};
use crate::state::{Balancer, catch_up, preflight, restrictions};
use crate::util::clock;

/// How long a start without a cached copy waits for the other ICM.
pub const FOLLOW_START_TIMEOUT: Duration = Duration::from_secs(30);
/// Varies the intervals by a tenth, so that many ICMs do not ask at the same moment.
const JITTER: f64 = 0.1;

pub type FollowResult = Result<FollowResponse, FollowError>;

/// A background task that asks the other ICM; ends when dropped.
#[derive(Debug)]
pub struct FollowPoller {
    task: AbortHandle,
    results: mpsc::Receiver<FollowResult>,
}

impl FollowPoller {
    /// `None` if the configuration follows no other ICM.
    #[must_use]
    pub fn start(balancer: &Arc<Balancer>) -> Option<Self> {
        let follow = balancer.snapshot().settings.follow.clone()?;
        let (sender, results) = mpsc::channel(1);
        let balancer = Arc::clone(balancer);
        let task = tokio::spawn(async move {
            let client = FollowClient::new(&follow);
            loop {
                tokio::time::sleep(follow.refresh.mul_f64(1.0 - JITTER + 2.0 * JITTER * fastrand::f64()))
                    .await;
                let etag = balancer.followed.lock().as_ref().and_then(|followed| followed.etag.clone());
                if sender.send(client.fetch(etag.as_deref()).await).await.is_err() {
                    return;
                }
            }
        });
        Some(Self { task: task.abort_handle(), results })
    }
}

impl Drop for FollowPoller {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Waits for the next result; forever without a poller.
pub async fn next_result(poller: &mut Option<FollowPoller>) -> FollowResult {
    if let Some(poller) = poller
        && let Some(result) = poller.results.recv().await
    {
        return result;
    }
    std::future::pending().await
}

/// Applies a result, or records why it cannot be used. Returns whether the clusters have changed. Blocks on files and on
/// the resolver.
pub fn apply_result(balancer: &Balancer, runtime: &Handle, result: FollowResult) -> bool {
    let Some(follow) = balancer.snapshot().settings.follow.clone() else { return false };
    match result {
        Ok(FollowResponse::NotModified) => {
            record_confirmation(balancer, &follow);
            false
        }
        Ok(FollowResponse::Document { text, etag }) => {
            if let Some(followed) = balancer.followed.lock().as_mut().filter(|f| f.text == text) {
                followed.etag = etag;
            } else {
                let applied = FollowDocument::parse(&follow, &text, Some(&balancer.instance_id))
                    .map_err(|e| e.to_string())
                    .and_then(|document| apply_document(balancer, runtime, &follow, document, text, etag));
                return applied.unwrap_or_else(|error| {
                    record_error(balancer, &error, true);
                    false
                });
            }
            record_confirmation(balancer, &follow);
            false
        }
        Err(error) => {
            record_error(balancer, &error.to_string(), false);
            false
        }
    }
}

fn apply_document(
    balancer: &Balancer,
    runtime: &Handle,
    follow: &Follow,
    document: FollowDocument,
    text: Arc<str>,
    etag: Option<String>,
) -> Result<bool, String> {
    for warning in &document.warnings {
        log::warn!(target: "icm::config", "{warning}");
    }
    let old = balancer.snapshot();
    let mut followed = document.followed(follow, text, etag);
    let other_clusters = old.settings.clusters_yaml.as_deref() != Some(&*document.clusters_yaml);
    if other_clusters {
        let mut settings = Settings::clone(&old.settings);
        document.apply_to(&mut settings);
        let preflight = preflight::run(balancer, &settings, runtime);
        balancer.apply_settings(Arc::new(settings), &preflight).map_err(|e| e.to_string())?;
    }
    replace_administrative_state(balancer, &followed);
    let same_state = |known: &FollowedConfig| {
        known.restrictions == followed.restrictions && known.catching_up == followed.catching_up
    };
    let same_restrictions =
        balancer.followed.lock().as_ref().is_some_and(|f| f.restrictions == followed.restrictions);
    let unchanged = !other_clusters && balancer.followed.lock().as_ref().is_some_and(same_state);
    if unchanged {
        // The text differs after a restart of the other ICM, or of one that it follows.
        followed.changed_unix_ms = balancer.followed.lock().as_ref().map_or(0, |f| f.changed_unix_ms);
    } else {
        let what = match (other_clusters, same_restrictions) {
            (true, _) => "clusters",
            (false, false) => "restrictions",
            (false, true) => "servers that are CATCHING UP",
        };
        let text = format!("{what} taken over from {}", follow.url);
        balancer.events.record(log::Level::Info, "follow", None, text);
    }
    let text = Arc::clone(&followed.text);
    let rejected = balancer.followed.lock().replace(followed).map(|f| f.rejected_error).unwrap_or_default();
    clear_error(balancer, &rejected);
    // Last, so that the status does not wait for the disk.
    cached_copy::save(follow, &text);
    Ok(other_clusters)
}

/// Takes over what administrators and outages have changed on the other ICM.
fn replace_administrative_state(balancer: &Balancer, followed: &FollowedConfig) {
    restrictions::replace_followed_restrictions(balancer, &followed.restrictions);
    catch_up::replace_followed_catch_up(balancer, &followed.catching_up);
}

fn record_confirmation(balancer: &Balancer, follow: &Follow) {
    let (trouble, rejected) = {
        let mut followed = balancer.followed.lock();
        let Some(followed) = followed.as_mut() else { return };
        let before = (followed.trouble.clone(), followed.rejected_error.clone());
        followed.confirm();
        before
    };
    cached_copy::mark_confirmed(follow);
    clear_error(balancer, &rejected);
    if !trouble.is_empty() {
        let text = format!("{} answers again, with the configuration that is in force", follow.url);
        balancer.events.record(log::Level::Info, "follow", None, text);
    }
}

/// Records an event when the error changes. `rejected`: the other ICM answered, but its document cannot be used.
fn record_error(balancer: &Balancer, text: &str, rejected: bool) {
    {
        let mut followed = balancer.followed.lock();
        let Some(followed) = followed.as_mut() else { return };
        followed.attempted_unix_ms = clock::unix_ms();
        if followed.trouble == text {
            return;
        }
        text.clone_into(&mut followed.trouble);
        if rejected {
            text.clone_into(&mut followed.rejected_error);
        }
    }
    let note = format!("{text}\nthe configuration that was taken over before stays in force");
    balancer.events.record(log::Level::Error, "follow", None, note);
    if rejected {
        set_reload_status(balancer, text.to_owned());
    }
}

/// A document of the other ICM counts as a reload.
fn set_reload_status(balancer: &Balancer, error: String) {
    let mut status = balancer.reload.lock();
    status.success = error.is_empty();
    status.at_unix_ms = clock::unix_ms();
    status.error = error;
}

/// Clears an error that [`record_error`] has set; an error of the local file stays.
fn clear_error(balancer: &Balancer, rejected: &str) {
    let error = balancer.reload.lock().error.clone();
    if !rejected.is_empty() && error == rejected {
        set_reload_status(balancer, String::new());
    }
}

/// Stores the configuration with which this process starts.
pub fn record_initial(balancer: &Balancer, followed: Option<FollowedConfig>) {
    let Some(followed) = followed else { return };
    replace_administrative_state(balancer, &followed);
    let text = match followed.origin {
        FollowedOrigin::Remote => format!("clusters taken over from {}", followed.url),
        FollowedOrigin::Cache => format!("{}\nthe last good copy is used", followed.trouble),
    };
    let level = if followed.origin == FollowedOrigin::Remote { log::Level::Info } else { log::Level::Error };
    balancer.events.record(level, "follow", None, text);
    *balancer.followed.lock() = Some(followed);
}

/// The configuration that a reload of the local file takes from the other ICM.
#[derive(Debug)]
pub struct RefetchedConfig {
    followed: FollowedConfig,
    /// Why the earlier text is still used; empty if the other ICM answered.
    pub trouble: String,
}

/// Asks the other ICM during a reload of the local file. If it does not answer, the earlier text is checked again under
/// the new settings. Blocks.
///
/// # Errors
/// When the answer, or without an answer the earlier text, cannot be used.
pub fn refetch(
    balancer: &Balancer,
    runtime: &Handle,
    settings: &mut Settings,
) -> Result<Option<RefetchedConfig>, String> {
    let Some(follow) = settings.follow.clone() else { return Ok(None) };
    let known = balancer.followed.lock().clone().filter(|followed| followed.url == follow.url.to_string());
    let fetched = runtime.block_on(async { FollowClient::new(&follow).fetch(None).await });
    let (text, etag, trouble) = match (fetched, &known) {
        (Ok(FollowResponse::Document { text, etag }), _) => (text, etag, String::new()),
        (Ok(FollowResponse::NotModified), Some(known)) => {
            (Arc::clone(&known.text), known.etag.clone(), String::new())
        }
        (Err(error), Some(known)) => (Arc::clone(&known.text), known.etag.clone(), error.to_string()),
        (Err(error), None) => return Err(error.to_string()),
        (Ok(FollowResponse::NotModified), None) => {
            return Err(format!("{} answered 304 although no ETag was sent", follow.url));
        }
    };
    let document =
        FollowDocument::parse(&follow, &text, Some(&balancer.instance_id)).map_err(|e| e.to_string())?;
    for warning in &document.warnings {
        log::warn!(target: "icm::config", "{warning}");
    }
    let mut followed = document.followed(&follow, text, etag);
    if let Some(known) = known {
        if known.text == followed.text {
            followed.changed_unix_ms = known.changed_unix_ms;
        }
        if !trouble.is_empty() {
            followed.confirmed_unix_ms = known.confirmed_unix_ms;
            followed.origin = known.origin;
        }
    }
    followed.trouble.clone_from(&trouble);
    document.apply_to(settings);
    Ok(Some(RefetchedConfig { followed, trouble }))
}

/// Stores the result of [`refetch`] after the swap of the snapshot.
pub fn set_followed(balancer: &Balancer, refetched: Option<RefetchedConfig>) {
    let Some(refetched) = refetched else {
        restrictions::replace_followed_restrictions(balancer, &[]);
        catch_up::replace_followed_catch_up(balancer, &[]);
        *balancer.followed.lock() = None;
        return;
    };
    replace_administrative_state(balancer, &refetched.followed);
    if refetched.trouble.is_empty()
        && let Some(follow) = &balancer.snapshot().settings.follow
    {
        cached_copy::save(follow, &refetched.followed.text);
    }
    *balancer.followed.lock() = Some(refetched.followed);
}
