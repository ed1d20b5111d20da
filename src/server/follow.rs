//! Following another ICM while the balancer runs: ask at intervals, take over what is good, keep what was.
//!
//! In: `get_configuration_from`. Out: offers for the supervisor, which applies them in turn with the reloads, by
//! the same swap of one pointer. What is refused changes nothing and is loud.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::config::Settings;
use crate::config::settings::Follow;
use crate::follow::{Document, Fetched, FollowError, Source, copy};
use crate::state::followed::{Followed, Origin};
use crate::state::{Balancer, first_probes, restrictions};
use crate::util::clock;

/// How long a start without any copy waits for the other ICM.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Intervals differ by a tenth, so that many ICMs do not ask all at once.
const JITTER: f64 = 0.1;

/// What came of asking.
pub type Offer = Result<Fetched, FollowError>;

/// Asks again and again; ends when dropped.
#[derive(Debug)]
pub struct Follower {
    task: AbortHandle,
    offers: mpsc::Receiver<Offer>,
}

impl Follower {
    /// Where the configuration in force follows another ICM.
    #[must_use]
    pub fn start(balancer: &Arc<Balancer>) -> Option<Self> {
        let follow = balancer.snapshot().settings.follow.clone()?;
        let (said, offers) = mpsc::channel(1);
        let balancer = Arc::clone(balancer);
        let task = tokio::spawn(async move {
            let source = Source::new(&follow);
            loop {
                tokio::time::sleep(follow.refresh.mul_f64(1.0 - JITTER + 2.0 * JITTER * fastrand::f64()))
                    .await;
                let etag = lock(&balancer).as_ref().and_then(|followed| followed.etag.clone());
                if said.send(source.fetch(etag.as_deref()).await).await.is_err() {
                    return;
                }
            }
        });
        Some(Self { task: task.abort_handle(), offers })
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The next offer; never, where nobody is followed.
pub async fn next(follower: &mut Option<Follower>) -> Offer {
    if let Some(follower) = follower
        && let Some(offer) = follower.offers.recv().await
    {
        return offer;
    }
    std::future::pending().await
}

/// Takes an offer over, or says why not. True when other clusters are in force. Blocks on files and on the
/// resolver.
pub fn take_over(balancer: &Balancer, runtime: &Handle, offer: Offer) -> bool {
    let Some(follow) = balancer.snapshot().settings.follow.clone() else { return false };
    match offer {
        Ok(Fetched::Unchanged) => {
            confirmed(balancer, &follow);
            false
        }
        Ok(Fetched::Document { text, etag }) => {
            let known = lock(balancer).as_ref().is_some_and(|f| f.text == text);
            if known {
                if let Some(followed) = lock(balancer).as_mut() {
                    followed.etag = etag;
                }
                confirmed(balancer, &follow);
                return false;
            }
            let result = Document::read(&follow, &text, Some(&balancer.id));
            match result
                .map_err(|e| e.to_string())
                .and_then(|document| apply(balancer, runtime, &follow, document, text, etag))
            {
                Ok(restart) => restart,
                Err(error) => {
                    trouble(balancer, &error, true);
                    false
                }
            }
        }
        Err(error) => {
            trouble(balancer, &error.to_string(), false);
            false
        }
    }
}

fn apply(
    balancer: &Balancer,
    runtime: &Handle,
    follow: &Follow,
    document: Document,
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
        document.put_into(&mut settings);
        let findings = first_probes::before(balancer, &settings, runtime);
        balancer.apply(Arc::new(settings), &findings).map_err(|e| e.to_string())?;
    }
    restrictions::take_over(balancer, &followed.restricted);
    let only_passed_on =
        !other_clusters && lock(balancer).as_ref().is_some_and(|f| f.restricted == followed.restricted);
    if only_passed_on {
        // The other ICM was restarted, or one that it follows.
        followed.changed_unix_ms = lock(balancer).as_ref().map_or(0, |f| f.changed_unix_ms);
    } else {
        let what = if other_clusters { "clusters" } else { "restrictions" };
        let text = format!("{what} taken over from {}", follow.url);
        balancer.events.note(log::Level::Info, "follow", None, text);
    }
    let text = Arc::clone(&followed.text);
    let refused = lock(balancer).replace(followed).map(|f| f.refused).unwrap_or_default();
    good_again(balancer, &refused);
    // Last: what the status says should not wait for the disk.
    copy::keep(follow, &text);
    Ok(other_clusters)
}

fn confirmed(balancer: &Balancer, follow: &Follow) {
    let (trouble, refused) = {
        let mut followed = lock(balancer);
        let Some(followed) = followed.as_mut() else { return };
        let before = (followed.trouble.clone(), followed.refused.clone());
        followed.confirm();
        before
    };
    copy::confirm(follow);
    good_again(balancer, &refused);
    if !trouble.is_empty() {
        let text = format!("{} answers again, with the configuration that is in force", follow.url);
        balancer.events.note(log::Level::Info, "follow", None, text);
    }
}

/// Says loudly, once, that the other ICM's configuration is not to be had or not to be used.
pub fn trouble(balancer: &Balancer, text: &str, refused: bool) {
    {
        let mut followed = lock(balancer);
        let Some(followed) = followed.as_mut() else { return };
        followed.asked_unix_ms = clock::unix_ms();
        if followed.trouble == text {
            return;
        }
        text.clone_into(&mut followed.trouble);
        if refused {
            text.clone_into(&mut followed.refused);
        }
    }
    let note = format!("{text}\nthe configuration that was taken over before stays in force");
    balancer.events.note(log::Level::Error, "follow", None, note);
    if refused {
        reload_status(balancer, text.to_owned());
    }
}

/// What the other ICM offers is judged as a reload is.
fn reload_status(balancer: &Balancer, error: String) {
    let mut status = balancer.reload.lock().unwrap_or_else(PoisonError::into_inner);
    status.success = error.is_empty();
    status.at_unix_ms = clock::unix_ms();
    status.error = error;
}

/// Takes back what [`trouble`] said of the last reload; what a local file was refused for stays.
fn good_again(balancer: &Balancer, refused: &str) {
    let error = balancer.reload.lock().unwrap_or_else(PoisonError::into_inner).error.clone();
    if !refused.is_empty() && error == refused {
        reload_status(balancer, String::new());
    }
}

fn lock(balancer: &Balancer) -> std::sync::MutexGuard<'_, Option<Followed>> {
    balancer.followed.lock().unwrap_or_else(PoisonError::into_inner)
}

/// At start, before the first request.
pub fn started(balancer: &Balancer, followed: Option<Followed>) {
    let Some(followed) = followed else { return };
    restrictions::take_over(balancer, &followed.restricted);
    let text = match followed.origin {
        Origin::Remote => format!("clusters taken over from {}", followed.url),
        Origin::Copy => format!("{}\nthe last good copy of it serves", followed.trouble),
    };
    let level = if followed.origin == Origin::Remote { log::Level::Info } else { log::Level::Error };
    balancer.events.note(level, "follow", None, text);
    *lock(balancer) = Some(followed);
}

/// What a reload of the local file takes from the other ICM.
#[derive(Debug)]
pub struct Taken {
    followed: Followed,
    /// The copy serves: why.
    pub trouble: String,
}

/// Asks the other ICM because the local file was read again. Where it does not answer, what was taken over from it
/// before is checked again under the new settings; what it answers must be good. Blocks, on a thread that may.
///
/// # Errors
/// When there is nothing good to take.
pub fn again(
    balancer: &Balancer,
    runtime: &Handle,
    settings: &mut Settings,
) -> Result<Option<Taken>, String> {
    let Some(follow) = settings.follow.clone() else { return Ok(None) };
    let known = lock(balancer).clone().filter(|followed| followed.url == follow.url.to_string());
    let fetched = runtime.block_on(async { Source::new(&follow).fetch(None).await });
    let (text, etag, trouble) = match (fetched, &known) {
        (Ok(Fetched::Document { text, etag }), _) => (text, etag, String::new()),
        (Ok(Fetched::Unchanged), Some(known)) => (Arc::clone(&known.text), known.etag.clone(), String::new()),
        (Err(error), Some(known)) => (Arc::clone(&known.text), known.etag.clone(), error.to_string()),
        (Err(error), None) => return Err(error.to_string()),
        (Ok(Fetched::Unchanged), None) => return Err(format!("{} does not say what it has", follow.url)),
    };
    let document = Document::read(&follow, &text, Some(&balancer.id)).map_err(|e| e.to_string())?;
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
    document.put_into(settings);
    Ok(Some(Taken { followed, trouble }))
}

/// After the swap: whom this ICM follows now, if anybody, and what is restricted there.
pub fn follows(balancer: &Balancer, taken: Option<Taken>) {
    let Some(taken) = taken else {
        restrictions::take_over(balancer, &[]);
        *lock(balancer) = None;
        return;
    };
    restrictions::take_over(balancer, &taken.followed.restricted);
    if taken.trouble.is_empty()
        && let Some(follow) = &balancer.snapshot().settings.follow
    {
        copy::keep(follow, &taken.followed.text);
    }
    *lock(balancer) = Some(taken.followed);
}
