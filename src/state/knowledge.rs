//! The loops that keep a cluster's knowledge fresh: directory, addresses, availability (members: `members`).
//!
//! In: settings, and Domino servers that answer or do not. Out: new views, reports to members, events.
//! Whatever cannot be read is loud, and the last good knowledge serves on. Nothing here is ever
//! on the path of a request.

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::task::AbortHandle;

use super::cluster::{Cluster, literal};
use super::directory::{Loaded, Origin};
use super::{Balancer, Beginning, background, members, resolve};
use crate::config::settings::{self, AvailabilitySource, Cldbdir, Directory, Servers, UpstreamScheme};
use crate::discovery::availability::{PollTarget, poll};
use crate::discovery::directory::refresh::{Refreshed, refresh};
use crate::discovery::directory::{MemberAddress, Reading, ReadingDigest, cache, copy};
use crate::domain::cluster::{Port, load};
use crate::domain::directory::Report;
use crate::util::clock;

/// Addresses are renewed this often.
const RESOLVE: Duration = Duration::from_secs(60);
/// While a name has no address at all, as before the name server is up, it is asked for more often.
const RESOLVE_MISSING: Duration = Duration::from_secs(5);
/// How finely polls are scheduled.
const TICK: Duration = Duration::from_millis(50);
/// A poll that takes longer has no answer.
const LONGEST_POLL: Duration = Duration::from_secs(5);

/// Whether a reload leaves the members' source as it was.
#[must_use]
pub fn same_members(new: &settings::Cluster, old: &settings::Cluster) -> bool {
    matches!((&new.servers, &old.servers), (Servers::Names(new), Servers::Names(old))
        if new.from == old.from && new.database == old.database && new.view == old.view)
}

/// Whether a reload leaves the directory's source as it was.
#[must_use]
pub fn same_directory(new: &settings::Cluster, old: &settings::Cluster) -> bool {
    matches!((&new.directory, &old.directory), (Directory::Cldbdir(new), Directory::Cldbdir(old))
        if new.database == old.database && new.view == old.view)
}

/// What is known before anything is read: from the cluster that this one replaces, or from the last
/// good copies on disk. A source that is new knows nothing yet, so what the old one said serves until
/// the first reading: no user may notice a reload.
#[must_use]
pub fn beginning(wanted: &settings::Cluster, before: Option<&Cluster>) -> Beginning {
    let mut beginning = Beginning::default();
    if let Servers::Names(view) = &wanted.servers {
        let same = before.filter(|c| same_members(wanted, &c.settings));
        beginning.servers = match same {
            Some(cluster) => Some(cluster.servers()),
            None => view.cache.as_deref().and_then(|path| match cache::load_members(path) {
                Ok(cached) => Some(cached.items),
                Err(error) => {
                    if !error.is_absent() {
                        log::warn!(target: "icm::members", "{}: {error}", wanted.name);
                    }
                    None
                }
            }),
        };
    }
    beginning.servers = beginning.servers.or_else(|| before.map(Cluster::servers));
    if let Directory::Cldbdir(view) = &wanted.directory {
        let same = before.filter(|c| same_directory(wanted, &c.settings));
        beginning.directory = match same {
            Some(cluster) => Some(Arc::clone(&cluster.view.load().directory)),
            None => view.cache.as_deref().and_then(|path| match copy::load(path) {
                Ok(copy) => {
                    let origin = Origin::Cache(path.to_owned());
                    // A first reading that has lost much must not replace a good copy either.
                    let mut loaded =
                        Loaded::of(copy.index, Report::default(), origin, Vec::new()).judging_by(copy.digest);
                    loaded.at_unix_ms = copy.saved_at.duration_since(UNIX_EPOCH).map_or(0, clock::whole_ms);
                    Some(Arc::new(loaded))
                }
                Err(error) => {
                    if !error.is_absent() {
                        log::warn!(target: "icm::directory", "{}: {error}", wanted.name);
                    }
                    None
                }
            }),
        };
    }
    let of_before = || before.map(|c| Arc::clone(&c.view.load().directory));
    beginning.directory = beginning.directory.or_else(of_before);
    if let (Some(before), Some(directory)) = (before, &beginning.directory)
        && !same_directory(wanted, &before.settings)
    {
        directory.judge_no_more();
    }
    beginning
}

/// Starts the loops of a cluster; they end when aborted.
#[must_use]
pub fn start(balancer: &Arc<Balancer>, cluster: &Arc<Cluster>) -> Vec<AbortHandle> {
    let mut tasks = Vec::new();
    let mut spawn = |task: tokio::task::JoinHandle<()>| tasks.push(task.abort_handle());
    match &cluster.settings.directory {
        Directory::Cldbdir(view) => {
            spawn(tokio::spawn(read_directory(Arc::clone(balancer), Arc::clone(cluster), view.clone())));
        }
        Directory::Static(_) | Directory::File { .. } => cluster.kept.directory_tried.store(true, Relaxed),
    }
    match &cluster.settings.servers {
        Servers::Names(view) => {
            spawn(tokio::spawn(members::read_members(
                Arc::clone(balancer),
                Arc::clone(cluster),
                view.clone(),
            )));
        }
        Servers::Static(_) => cluster.kept.members_tried.store(true, Relaxed),
    }
    spawn(tokio::spawn(renew_addresses(Arc::clone(balancer), Arc::clone(cluster))));
    spawn(tokio::spawn(read_availability(Arc::clone(balancer), Arc::clone(cluster))));
    tasks
}

/// Members that can be asked for a view, those that answer first.
#[must_use]
pub fn readable_members(cluster: &Cluster) -> Vec<MemberAddress> {
    let view = cluster.view.load();
    let order = match cluster.settings.upstream_scheme {
        UpstreamScheme::Http => [Port::Http, Port::Https],
        // With `same` the safer way is taken.
        UpstreamScheme::Https | UpstreamScheme::Same => [Port::Https, Port::Http],
    };
    let mut members: Vec<(bool, MemberAddress)> = view
        .entries
        .iter()
        .filter_map(|entry| {
            let (port, address) = order.into_iter().find_map(|p| Some((p, entry.address(p)?)))?;
            let state = entry.member.view();
            let answers = match port {
                Port::Http => state.http,
                Port::Https => state.https,
            };
            Some((
                !answers,
                MemberAddress {
                    name: entry.server.name.clone(),
                    hostname: entry.server.hostname.clone(),
                    address,
                    https: port == Port::Https,
                },
            ))
        })
        .collect();
    members.sort_by_key(|(silent, _)| *silent);
    members.into_iter().map(|(_, m)| m).collect()
}

async fn read_directory(balancer: Arc<Balancer>, cluster: Arc<Cluster>, view: Cldbdir) {
    // The members of a names view come first; without any there is nobody to ask.
    while cluster.view.load().entries.is_empty() {
        tokio::time::sleep(TICK).await;
    }
    loop {
        let in_no_hurry = cluster.view.load().directory.is_large();
        let reading = read_once(Arc::clone(&balancer), Arc::clone(&cluster), view.clone());
        if let Err(error) = background::read(in_no_hurry, reading).await {
            log::error!(target: "icm::directory", "{}: {error}", cluster.settings.name);
        }
        cluster.kept.directory_tried.store(true, Relaxed);
        // Until something was read at all, it is tried more often than it would be renewed.
        let pause = if cluster.view.load().directory.is_loaded() {
            view.refresh
        } else {
            view.refresh.min(Duration::from_secs(5))
        };
        tokio::select! {
            () = tokio::time::sleep(jitter(pause)) => {}
            () = cluster.kept.read_directory.notified() => {}
        }
    }
}

/// Asks the members, and puts what they say in place. Takes a while, on a thread that may be kept.
async fn read_once(balancer: Arc<Balancer>, cluster: Arc<Cluster>, view: Cldbdir) {
    let name = &cluster.settings.name;
    let members = readable_members(&cluster);
    let before = Arc::clone(&cluster.view.load().directory);
    let judge = before.digest();
    let outcome = {
        let mut holder = cluster.kept.holder.lock().await;
        refresh(&cluster.client, &members, &view, &cluster.kept.sessions, &mut holder, judge.as_ref()).await
    };
    match outcome {
        Refreshed::Accepted { reading, digest } => {
            // The last good copy is another matter than a reading, even if they say the same.
            let changed = judge.as_ref().is_none_or(|s| s.fingerprint != digest.fingerprint)
                || matches!(before.origin, Origin::Cache(_));
            let from = reading.from.clone();
            let count = reading.draft.len();
            // What is wrong with every reading is said once.
            for warning in reading.warnings.iter().filter(|w| !before.warnings.contains(w)) {
                log::warn!(target: "icm::directory", "{name}: {from}: {warning}");
            }
            accept(&cluster, &view, *reading, digest);
            trouble(&balancer, &cluster, "");
            if changed {
                balancer.events.note(
                    log::Level::Info,
                    "directory",
                    Some(name),
                    format!("directory read from {from}: {count} replicas"),
                );
            }
        }
        Refreshed::Held { reason, warnings } => {
            for warning in warnings {
                log::warn!(target: "icm::directory", "{name}: {warning}");
            }
            trouble(
                &balancer,
                &cluster,
                &format!("a reading is held, the old directory serves on: {reason}"),
            );
        }
        Refreshed::Failed(failure) => trouble(&balancer, &cluster, &failure.to_string()),
    }
}

/// Indexes a reading, swaps it in, and keeps a copy on disk. Takes a while, on the thread for directories.
fn accept(cluster: &Cluster, view: &Cldbdir, reading: Reading, digest: ReadingDigest) {
    let name = &cluster.settings.name;
    let known = cluster.view.load().strangers().len();
    let origin = Origin::Member(reading.from);
    let loaded = Loaded::new(reading.draft, origin, reading.warnings).judging_by(digest.clone());
    // First: whoever sees the new directory can rely on its copy.
    if let Some(path) = &view.cache
        && let Err(error) = copy::save(path, SystemTime::now(), &loaded.index, &digest)
    {
        log::error!(target: "icm::directory", "{name}: {error}");
    }
    cluster.set_directory(Arc::new(loaded));
    let now = cluster.view.load_full();
    let strangers = now.strangers();
    if !strangers.is_empty() && strangers.len() != known {
        log::warn!(
            target: "icm::directory",
            "{name}: {} servers of the directory are no members, the first is {}",
            strangers.len(),
            strangers.first().map(ToString::to_string).unwrap_or_default()
        );
    }
}

/// Says loudly, once, that the directory cannot be read, and that it can again.
fn trouble(balancer: &Balancer, cluster: &Cluster, text: &str) {
    let mut known = cluster.kept.directory_trouble.lock().unwrap_or_else(PoisonError::into_inner);
    if *known == text {
        return;
    }
    let name = Some(cluster.settings.name.as_str());
    if text.is_empty() {
        balancer.events.note(log::Level::Info, "directory", name, "directory can be read again".to_owned());
    } else {
        let text = format!("directory cannot be read: {text}");
        balancer.events.note(log::Level::Error, "directory", name, text);
    }
    text.clone_into(&mut known);
}

async fn renew_addresses(balancer: Arc<Balancer>, cluster: Arc<Cluster>) {
    loop {
        let known = cluster.addresses();
        let missing = resolve::names(&cluster.servers()).any(|at| !known.contains_key(at));
        tokio::time::sleep(jitter(if missing { RESOLVE_MISSING } else { RESOLVE })).await;
        let servers = cluster.servers();
        if resolve::names(&servers).next().is_none() {
            continue;
        }
        let addresses = resolve::later(&servers).await;
        for (member, change) in cluster.set_addresses(addresses) {
            balancer.events.transition(&cluster.settings.name, member.name(), &change);
        }
    }
}

/// Polls every source of every member when it is due, each on its own.
async fn read_availability(balancer: Arc<Balancer>, cluster: Arc<Cluster>) {
    let mut due: HashMap<(u32, usize), tokio::time::Instant> = HashMap::new();
    let mut last_tick = clock::now_ms();
    let mut silent: HashMap<(u32, usize), bool> = HashMap::new();
    let (said, mut heard) = tokio::sync::mpsc::unbounded_channel::<((u32, usize), bool)>();
    loop {
        tokio::time::sleep(TICK).await;
        while let Ok((key, ok)) = heard.try_recv() {
            silent.insert(key, !ok);
        }
        let now = tokio::time::Instant::now();
        let view = cluster.view.load_full();
        for entry in &view.entries {
            let address = entry.address(Port::Http).or_else(|| entry.address(Port::Https));
            for (number, source) in cluster.sources(&entry.server).iter().enumerate() {
                if matches!(source.source, AvailabilitySource::Observed | AvailabilitySource::Statpub) {
                    continue;
                }
                let key = (entry.member.tag(), number);
                if due.get(&key).is_some_and(|at| *at > now) {
                    continue;
                }
                let Some(address) = address else { continue };
                due.insert(key, now + jitter(source.interval));
                let (balancer, cluster, said) = (Arc::clone(&balancer), Arc::clone(&cluster), said.clone());
                let (member, server, source) =
                    (Arc::clone(&entry.member), entry.server.clone(), source.clone());
                let was_silent = silent.get(&key).copied().unwrap_or(false);
                tokio::spawn(async move {
                    let target = PollTarget {
                        name: &server.name,
                        hostname: &server.hostname,
                        address,
                        timeout: source.interval.min(LONGEST_POLL).max(Duration::from_secs(1)),
                    };
                    let result = poll(&cluster.client, &source.source, &target).await;
                    let _ = said.send((key, result.is_ok()));
                    match result {
                        Ok(facts) => {
                            let change = member.report(number, &facts, clock::now_ms());
                            balancer.record(&cluster.settings.name, &server.name, change);
                        }
                        Err(error) if was_silent => {
                            log::debug!(target: "icm::availability", "{}: {}: {error}", cluster.settings.name, server.name);
                        }
                        Err(error) => {
                            log::warn!(target: "icm::availability", "{}: {}: {error}", cluster.settings.name, server.name);
                        }
                    }
                });
            }
        }
        let now_ms = clock::now_ms();
        if now_ms.saturating_sub(last_tick) >= 500 {
            last_tick = now_ms;
            let peers = load::Peers::of(view.entries.iter().map(|entry| entry.member.as_ref()));
            for entry in &view.entries {
                let observed = cluster
                    .sources(&entry.server)
                    .iter()
                    .find(|a| a.source == AvailabilitySource::Observed)
                    .or_else(|| cluster.sources(&entry.server).first());
                let (range, stale) =
                    observed.map_or((6, 180_000), |a| (a.range, clock::whole_ms(a.stale_after)));
                let change = entry.member.tick(range, stale, &peers, now_ms);
                balancer.record(&cluster.settings.name, &entry.server.name, change);
                unresolved(&balancer, &cluster, entry, now_ms);
            }
        }
    }
}

/// A port whose host name does not resolve is as good as one that does not answer.
fn unresolved(balancer: &Balancer, cluster: &Cluster, entry: &super::view::Entry, now_ms: u64) {
    for port in [Port::Http, Port::Https] {
        if let Some(at) = entry.host_port(port)
            && entry.address(port).is_none()
            && literal(at).is_none()
        {
            let reason = format!("{} does not resolve", at.host);
            balancer.probed(&cluster.settings.name, &entry.member, port, Err(&reason), now_ms);
        }
    }
}

/// A tenth more or less, so that many balancers do not ask in step.
#[must_use]
pub fn jitter(duration: Duration) -> Duration {
    duration.mul_f64(0.9 + 0.2 * fastrand::f64())
}
