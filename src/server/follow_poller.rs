//! Following another ICM while the balancer runs: ask at intervals, take over what is good, keep what was.
//!
//! In: `get_configuration_from`. Out: offers for the supervisor, which applies them in turn with the reloads, by
//! the same swap of one pointer. What is refused changes nothing and is loud.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::config::Settings;
use crate::config::settings::Follow;
use crate::follow::{FollowClient, FollowDocument, FollowError, FollowResponse, cached_copy};
use crate::state::followed::{FollowedConfig, FollowedOrigin};
use crate::state::{Balancer, preflight, restrictions};
use crate::util::clock;

/// How long a start without any copy waits for the other ICM.
pub const FOLLOW_START_TIMEOUT: Duration = Duration::from_secs(30);
/// Intervals differ by a tenth, so that many ICMs do not ask all at once.
const JITTER: f64 = 0.1;

/// What came of asking.
pub type FollowResult = Result<FollowResponse, FollowError>;

/// Asks again and again; ends when dropped.
#[derive(Debug)]
pub struct FollowPoller {
    task: AbortHandle,
    offers: mpsc::Receiver<FollowResult>,
}

impl FollowPoller {
    /// Where the configuration in force follows another ICM.
    #[must_use]
    pub fn start(balancer: &Arc<Balancer>) -> Option<Self> {
        let follow = balancer.snapshot().settings.follow.clone()?;
        let (sender, offers) = mpsc::channel(1);
        let balancer = Arc::clone(balancer);
        let task = tokio::spawn(async move {
            let source = FollowClient::new(&follow);
            loop {
                tokio::time::sleep(follow.refresh.mul_f64(1.0 - JITTER + 2.0 * JITTER * fastrand::f64()))
                    .await;
                let etag = lock_followed(&balancer).as_ref().and_then(|followed| followed.etag.clone());
                if sender.send(source.fetch(etag.as_deref()).await).await.is_err() {
                    return;
                }
            }
        });
        Some(Self { task: task.abort_handle(), offers })
    }
}

impl Drop for FollowPoller {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The next offer; never, where nobody is followed.
pub async fn next_result(follower: &mut Option<FollowPoller>) -> FollowResult {
    if let Some(follower) = follower
        && let Some(result) = follower.offers.recv().await
    {
        return result;
    }
    std::future::pending().await
}

/// Takes an offer over, or says why not. True when other clusters are in force. Blocks on files and on the
/// resolver.
pub fn apply_result(balancer: &Balancer, runtime: &Handle, result: FollowResult) -> bool {
    let Some(follow) = balancer.snapshot().settings.follow.clone() else { return false };
    match result {
        Ok(FollowResponse::NotModified) => {
            record_confirmation(balancer, &follow);
            false
        }
        Ok(FollowResponse::Document { text, etag }) => {
            let known = lock_followed(balancer).as_ref().is_some_and(|f| f.text == text);
            if known {
                if let Some(followed) = lock_followed(balancer).as_mut() {
                    followed.etag = etag;
                }
                record_confirmation(balancer, &follow);
                return false;
            }
            let result = FollowDocument::parse(&follow, &text, Some(&balancer.instance_id));
            match result
                .map_err(|e| e.to_string())
                .and_then(|document| apply_document(balancer, runtime, &follow, document, text, etag))
            {
                Ok(restart) => restart,
                Err(error) => {
                    record_error(balancer, &error, true);
                    false
                }
            }
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
    restrictions::replace_followed_restrictions(balancer, &followed.restrictions);
    let unchanged_here = !other_clusters
        && lock_followed(balancer).as_ref().is_some_and(|f| f.restrictions == followed.restrictions);
    if unchanged_here {
        // The other ICM was restarted, or one that it follows.
        followed.changed_unix_ms = lock_followed(balancer).as_ref().map_or(0, |f| f.changed_unix_ms);
    } else {
        let what = if other_clusters { "clusters" } else { "restrictions" };
        let text = format!("{what} taken over from {}", follow.url);
        balancer.events.record(log::Level::Info, "follow", None, text);
    }
    let text = Arc::clone(&followed.text);
    let refused = lock_followed(balancer).replace(followed).map(|f| f.rejected_error).unwrap_or_default();
    clear_error(balancer, &refused);
    // Last: what the status says should not wait for the disk.
    cached_copy::save(follow, &text);
    Ok(other_clusters)
}

fn record_confirmation(balancer: &Balancer, follow: &Follow) {
    let (trouble, refused) = {
        let mut followed = lock_followed(balancer);
        let Some(followed) = followed.as_mut() else { return };
        let before = (followed.trouble.clone(), followed.rejected_error.clone());
        followed.confirm();
        before
    };
    cached_copy::mark_confirmed(follow);
    clear_error(balancer, &refused);
    if !trouble.is_empty() {
        let text = format!("{} answers again, with the configuration that is in force", follow.url);
        balancer.events.record(log::Level::Info, "follow", None, text);
    }
}

/// Says loudly, once, that the other ICM's configuration is not to be had or not to be used.
pub fn record_error(balancer: &Balancer, text: &str, refused: bool) {
    {
        let mut followed = lock_followed(balancer);
        let Some(followed) = followed.as_mut() else { return };
        followed.attempted_unix_ms = clock::unix_ms();
        if followed.trouble == text {
            return;
        }
        text.clone_into(&mut followed.trouble);
        if refused {
            text.clone_into(&mut followed.rejected_error);
        }
    }
    let note = format!("{text}\nthe configuration that was taken over before stays in force");
    balancer.events.record(log::Level::Error, "follow", None, note);
    if refused {
        set_reload_status(balancer, text.to_owned());
    }
}

/// What the other ICM offers is judged as a reload is.
fn set_reload_status(balancer: &Balancer, error: String) {
    let mut status = balancer.reload.lock();
    status.success = error.is_empty();
    status.at_unix_ms = clock::unix_ms();
    status.error = error;
}

/// Takes back what [`record_error`] said of the last reload; what a local file was refused for stays.
fn clear_error(balancer: &Balancer, refused: &str) {
    let error = balancer.reload.lock().error.clone();
    if !refused.is_empty() && error == refused {
        set_reload_status(balancer, String::new());
    }
}

fn lock_followed(balancer: &Balancer) -> parking_lot::MutexGuard<'_, Option<FollowedConfig>> {
    balancer.followed.lock()
}

/// At start, before the first request.
pub fn record_initial(balancer: &Balancer, followed: Option<FollowedConfig>) {
    let Some(followed) = followed else { return };
    restrictions::replace_followed_restrictions(balancer, &followed.restrictions);
    let text = match followed.origin {
        FollowedOrigin::Remote => format!("clusters taken over from {}", followed.url),
        FollowedOrigin::Cache => format!("{}\nthe last good copy of it serves", followed.trouble),
    };
    let level = if followed.origin == FollowedOrigin::Remote { log::Level::Info } else { log::Level::Error };
    balancer.events.record(level, "follow", None, text);
    *lock_followed(balancer) = Some(followed);
}

/// What a reload of the local file takes from the other ICM.
#[derive(Debug)]
pub struct RefetchedConfig {
    followed: FollowedConfig,
    /// The copy serves: why.
    pub trouble: String,
}

/// Asks the other ICM because the local file was read again. Where it does not answer, what was taken over from it
/// before is checked again under the new settings; what it answers must be good. Blocks, on a thread that may.
///
/// # Errors
/// When there is nothing good to take.
pub fn refetch(
    balancer: &Balancer,
    runtime: &Handle,
    settings: &mut Settings,
) -> Result<Option<RefetchedConfig>, String> {
    let Some(follow) = settings.follow.clone() else { return Ok(None) };
    let known = lock_followed(balancer).clone().filter(|followed| followed.url == follow.url.to_string());
    let fetched = runtime.block_on(async { FollowClient::new(&follow).fetch(None).await });
    let (text, etag, trouble) = match (fetched, &known) {
        (Ok(FollowResponse::Document { text, etag }), _) => (text, etag, String::new()),
        (Ok(FollowResponse::NotModified), Some(known)) => {
            (Arc::clone(&known.text), known.etag.clone(), String::new())
        }
        (Err(error), Some(known)) => (Arc::clone(&known.text), known.etag.clone(), error.to_string()),
        (Err(error), None) => return Err(error.to_string()),
        (Ok(FollowResponse::NotModified), None) => {
            return Err(format!("{} does not say what it has", follow.url));
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

/// After the swap: whom this ICM follows now, if anybody, and what is restricted there.
pub fn set_followed(balancer: &Balancer, refetched: Option<RefetchedConfig>) {
    let Some(refetched) = refetched else {
        restrictions::replace_followed_restrictions(balancer, &[]);
        *lock_followed(balancer) = None;
        return;
    };
    restrictions::replace_followed_restrictions(balancer, &refetched.followed.restrictions);
    if refetched.trouble.is_empty()
        && let Some(follow) = &balancer.snapshot().settings.follow
    {
        cached_copy::save(follow, &refetched.followed.text);
    }
    *lock_followed(balancer) = Some(refetched.followed);
}
