//! The background tasks of a cluster: directory, addresses, server list, availability. Read failures are logged; the last
//! good data stays in use.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::task::AbortHandle;

use super::cluster::Cluster;
use super::directory::{DirectoryOrigin, LoadedDirectory};
use super::readable::readable_servers;
use super::{Balancer, InitialState, availability, catch_up, freshness, low_priority, resolve, server_list};
use crate::config::settings::{self, Cldbdir, Directory, Servers};
use crate::discovery::directory::refresh::{RefreshOutcome, refresh};
use crate::discovery::directory::{AnsweredViews, DirectoryReading, ReadingDigest, index_file, server_cache};
use crate::domain::directory::IndexReport;
use crate::util::clock::{self, jitter};

const RESOLVE_INTERVAL: Duration = Duration::from_secs(60);
/// Used while a host name has no address, for example before the name server is up.
const RESOLVE_MISSING_INTERVAL: Duration = Duration::from_secs(5);
/// How often the directory task looks for servers while there are none.
const NO_SERVERS_INTERVAL: Duration = Duration::from_millis(50);

/// Whether both read the servers from the same view.
#[must_use]
pub(super) fn same_server_source(new: &settings::ClusterSettings, old: &settings::ClusterSettings) -> bool {
    matches!((&new.servers, &old.servers), (Servers::Names(new), Servers::Names(old))
        if new.from == old.from && new.database == old.database && new.view == old.view)
}

/// Whether both read the directory from the same view.
#[must_use]
pub(super) fn same_directory_source(
    new: &settings::ClusterSettings,
    old: &settings::ClusterSettings,
) -> bool {
    matches!((&new.directory, &old.directory), (Directory::Cldbdir(new), Directory::Cldbdir(old))
        if new.database == old.database && new.view == old.view)
}

/// The data to use until the first reading: that of the same source before the reload, else the last good copy on disk,
/// else that of the former source, so that no user notices a reload.
#[must_use]
pub(super) fn initial_state(wanted: &settings::ClusterSettings, before: Option<&Cluster>) -> InitialState {
    let mut initial = InitialState::default();
    if let Servers::Names(view) = &wanted.servers {
        let same = before.filter(|c| same_server_source(wanted, &c.settings));
        initial.servers = match same {
            Some(cluster) => Some(cluster.servers()),
            None => view.cache.as_deref().and_then(|path| cached_servers(&wanted.name, path)),
        };
        if view.site_rules.is_some() {
            initial.site_rules = before.map(Cluster::site_rules).unwrap_or_default();
        }
    }
    initial.servers = initial.servers.or_else(|| before.map(Cluster::servers));
    if let Directory::Cldbdir(view) = &wanted.directory {
        let same = before.filter(|c| same_directory_source(wanted, &c.settings));
        initial.directory = match same {
            Some(cluster) => Some(Arc::clone(&cluster.view.load().directory)),
            None => view.cache.as_deref().and_then(|path| cached_directory(&wanted.name, path)),
        };
    }
    let former = || before.map(|c| Arc::clone(&c.view.load().directory));
    initial.directory = initial.directory.or_else(former);
    if let (Some(before), Some(directory)) = (before, &initial.directory)
        && !same_directory_source(wanted, &before.settings)
    {
        directory.clear_digest();
    }
    initial
}

fn cached_servers(cluster: &str, path: &Path) -> Option<Vec<settings::Server>> {
    match server_cache::load_servers(path) {
        Ok(servers) => Some(servers),
        Err(error) => {
            if !error.is_absent() {
                log::warn!(target: "icm::members", "{cluster}: {error}");
            }
            None
        }
    }
}

fn cached_directory(cluster: &str, path: &Path) -> Option<Arc<LoadedDirectory>> {
    match index_file::load(path) {
        Ok(copy) => {
            let origin = DirectoryOrigin::Cache(path.to_owned());
            // With the digest, a much smaller first reading cannot replace a good copy.
            let mut loaded =
                LoadedDirectory::from_index(copy.index, IndexReport::default(), origin, Vec::new())
                    .with_digest(copy.digest);
            loaded.at_unix_ms = copy.saved_at.duration_since(UNIX_EPOCH).map_or(0, clock::saturating_millis);
            Some(Arc::new(loaded))
        }
        Err(error) => {
            if !error.is_absent() {
                log::warn!(target: "icm::directory", "{cluster}: {error}");
            }
            None
        }
    }
}

/// Starts the tasks of a cluster; they run until aborted.
#[must_use]
pub fn start(balancer: &Arc<Balancer>, cluster: &Arc<Cluster>) -> Vec<AbortHandle> {
    let mut tasks = Vec::new();
    let both = || (Arc::clone(balancer), Arc::clone(cluster));
    match &cluster.settings.directory {
        Directory::Cldbdir(view) => {
            let (balancer, cluster) = both();
            tasks.push(tokio::spawn(refresh_directory(balancer, cluster, view.clone())));
        }
        Directory::Static(_) | Directory::File { .. } => {
            cluster.persistent_state.directory_read_attempted.store(true, Relaxed)
        }
    }
    match &cluster.settings.servers {
        Servers::Names(view) => {
            let (balancer, cluster) = both();
            tasks.push(tokio::spawn(server_list::refresh_server_list(balancer, cluster, view.clone())));
        }
        Servers::Static(_) => cluster.persistent_state.server_list_read_attempted.store(true, Relaxed),
    }
    let (b, c) = both();
    tasks.push(tokio::spawn(refresh_addresses(b, c)));
    let (b, c) = both();
    tasks.push(tokio::spawn(availability::poll_sources(b, c)));
    let (b, c) = both();
    tasks.push(tokio::spawn(availability::tick_servers(b, c)));
    let (b, c) = both();
    tasks.push(tokio::spawn(catch_up::run(b, c)));
    tasks.extend(freshness::start(balancer, cluster));
    tasks.iter().map(tokio::task::JoinHandle::abort_handle).collect()
}

async fn refresh_directory(balancer: Arc<Balancer>, cluster: Arc<Cluster>, view: Cldbdir) {
    // With `source: names` the server list is read first.
    while cluster.view.load().entries.is_empty() {
        tokio::time::sleep(NO_SERVERS_INTERVAL).await;
    }
    // Forgotten with every reload, so that a view that has become readable is found.
    let answered = Arc::new(AnsweredViews::default());
    loop {
        let can_wait = cluster.view.load().directory.is_large();
        let reading =
            read_once(Arc::clone(&balancer), Arc::clone(&cluster), view.clone(), Arc::clone(&answered));
        if let Err(error) = low_priority::read(can_wait, reading).await {
            log::error!(target: "icm::directory", "{}: {error}", cluster.settings.name);
        }
        cluster.persistent_state.directory_read_attempted.store(true, Relaxed);
        // Retry sooner until the first success.
        let pause = if cluster.view.load().directory.is_loaded() {
            view.refresh
        } else {
            view.refresh.min(Duration::from_secs(5))
        };
        tokio::select! {
            () = tokio::time::sleep(jitter(pause)) => {}
            () = cluster.persistent_state.directory_refresh_requested.notified() => {}
        }
    }
}

/// Reads the directory from a server and applies it. May block its thread.
async fn read_once(
    balancer: Arc<Balancer>,
    cluster: Arc<Cluster>,
    view: Cldbdir,
    answered: Arc<AnsweredViews>,
) {
    let name = &cluster.settings.name;
    let servers = readable_servers(&cluster);
    let before = Arc::clone(&cluster.view.load().directory);
    let old_digest = before.digest();
    let outcome = {
        let mut validator = cluster.persistent_state.reading_validator.lock().await;
        refresh(
            &cluster.client,
            &servers,
            &view,
            &cluster.persistent_state.login_sessions,
            &answered,
            &mut validator,
            old_digest.as_ref(),
        )
        .await
    };
    // A warning that every reading repeats is logged once.
    let is_new = |warning: &String| !before.warnings.contains(warning);
    match outcome {
        RefreshOutcome::Accepted { reading, digest } => {
            // The first reading after a start from the cache is an event even if nothing changed.
            let changed = old_digest.as_ref().is_none_or(|s| s.fingerprint != digest.fingerprint)
                || matches!(before.origin, DirectoryOrigin::Cache(_));
            let from = reading.from.clone();
            let (count, read_view) = (reading.builder.len(), reading.view.clone());
            for warning in reading.warnings.iter().filter(|w| is_new(w)) {
                log::warn!(target: "icm::directory", "{name}: {from}: {warning}");
            }
            apply_directory(&cluster, &view, *reading, digest);
            set_directory_error(&balancer, &cluster, "");
            if changed {
                balancer.events.record(
                    log::Level::Info,
                    "directory",
                    Some(name),
                    format!("directory read from {from}: {count} replicas in view `{read_view}`"),
                );
            }
        }
        RefreshOutcome::Held { reason, warnings } => {
            for warning in warnings.iter().filter(|w| is_new(w)) {
                log::warn!(target: "icm::directory", "{name}: {warning}");
            }
            let text = format!("reading held, the old directory stays in use: {reason}");
            set_directory_error(&balancer, &cluster, &text);
        }
        RefreshOutcome::Failed(failure) => set_directory_error(&balancer, &cluster, &failure.to_string()),
    }
}

/// Indexes a reading, saves a copy on disk and swaps the directory. Blocks its thread.
fn apply_directory(cluster: &Cluster, view: &Cldbdir, reading: DirectoryReading, digest: ReadingDigest) {
    let name = &cluster.settings.name;
    let known = cluster.view.load().unknown_servers().len();
    let origin = DirectoryOrigin::Server { name: reading.from, view: reading.view };
    let loaded = LoadedDirectory::new(reading.builder, origin, reading.warnings).with_digest(digest.clone());
    // The copy comes first: once the new directory is visible, its copy is on disk.
    if let Some(path) = &view.cache
        && let Err(error) = index_file::save(path, SystemTime::now(), &loaded.index, &digest)
    {
        log::error!(target: "icm::directory", "{name}: {error}");
    }
    cluster.set_directory(Arc::new(loaded));
    let now = cluster.view.load_full();
    let unknown = now.unknown_servers();
    if let Some(first) = unknown.first()
        && unknown.len() != known
    {
        let count = unknown.len();
        log::warn!(
            target: "icm::directory",
            "{name}: {count} servers of the directory are not in the cluster, the first is {first}"
        );
    }
}

/// Records an event when the error changes; `text` is empty after a success.
fn set_directory_error(balancer: &Balancer, cluster: &Cluster, text: &str) {
    let mut known = cluster.persistent_state.directory_error.lock();
    if *known == text {
        return;
    }
    let name = Some(cluster.settings.name.as_str());
    if text.is_empty() {
        balancer.events.record(log::Level::Info, "directory", name, "directory can be read again".to_owned());
    } else {
        let text = format!("directory cannot be read: {text}");
        balancer.events.record(log::Level::Error, "directory", name, text);
    }
    text.clone_into(&mut known);
}

async fn refresh_addresses(balancer: Arc<Balancer>, cluster: Arc<Cluster>) {
    loop {
        let known = cluster.addresses();
        let missing = resolve::host_names(&cluster.servers()).any(|at| !known.contains_key(at));
        tokio::time::sleep(jitter(if missing { RESOLVE_MISSING_INTERVAL } else { RESOLVE_INTERVAL })).await;
        let servers = cluster.servers();
        if resolve::host_names(&servers).next().is_none() {
            continue;
        }
        let addresses = resolve::resolve_async(&servers).await;
        for (server, change) in cluster.set_addresses(addresses) {
            balancer.record_transition(&cluster.settings.name, server.name(), Some(change));
        }
    }
}
