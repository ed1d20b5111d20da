//! Reloads the configuration on HUP: load, validate, probe new servers, swap one pointer. An error changes nothing; what
//! only a restart can apply is named and keeps its old value.

use std::path::Path;
use std::sync::Arc;

use super::acme_orders::AcmeSource;
use super::{acme_orders, follow_poller};
use crate::config::settings::{AdminConfig, Listener, ListenerTls};
use crate::config::{self, Settings};
use crate::edge::tls::Certificates;
use crate::edge::tls_endpoint::TlsEndpoints;
use crate::state::{Balancer, ReloadStatus, preflight};
use crate::telemetry::access_log::AccessLog;
use crate::util::clock;

/// Returns whether the new configuration is in force. Blocks on files and on the resolver.
pub fn reload(
    balancer: &Balancer,
    file: &Path,
    tls: (&Certificates, &TlsEndpoints),
    runtime: &tokio::runtime::Handle,
) -> bool {
    let started = clock::now_ms();
    let result = try_reload(balancer, file, tls, runtime);
    let (success, error, restart_required) = match result {
        Ok(restart_required) => (true, String::new(), restart_required),
        Err(error) => (false, error, Vec::new()),
    };
    if success {
        let mut text = format!("configuration reloaded from {}", file.display());
        if !restart_required.is_empty() {
            text.push_str(&format!("; restart required: {}", restart_required.join(", ")));
        }
        balancer.events.record(log::Level::Info, "reload", None, text);
    } else {
        let text = format!("reload refused, the old configuration stays:\n{error}");
        balancer.events.record(log::Level::Error, "reload", None, text);
    }
    *balancer.reload.lock() = ReloadStatus {
        success,
        at_unix_ms: clock::unix_ms(),
        duration_ms: clock::now_ms().saturating_sub(started),
        error,
        restart_required,
    };
    success
}

fn try_reload(
    balancer: &Balancer,
    file: &Path,
    (certificates, endpoints): (&Certificates, &TlsEndpoints),
    runtime: &tokio::runtime::Handle,
) -> Result<Vec<String>, String> {
    let mut loaded = config::load(file).map_err(|errors| errors.to_string())?;
    for warning in &loaded.warnings {
        log::warn!(target: "icm::config", "{warning}");
    }
    let old = balancer.snapshot();
    if let Some(follow) = &mut loaded.settings.follow {
        // The old `state_dir` stays in use until a restart.
        follow.files.protect_state(old.settings.state_dir.as_deref());
    }
    let refetched = follow_poller::refetch(balancer, runtime, &mut loaded.settings)?;
    let restart_required = restart_required(&old.settings, &loaded.settings);
    let settings = effective_settings(&old.settings, loaded.settings);
    // Everything that can fail comes before the first change, so that an error refuses the whole reload.
    let renewal = certificates.read_renewal(&settings).map_err(|e| e.to_string())?;
    let tls_renewal = endpoints.read_renewal(&settings, certificates).map_err(|e| e.to_string())?;
    AccessLog::try_target(&settings.access_log).map_err(|e| e.to_string())?;
    let preflight = preflight::run(balancer, &settings, runtime);
    balancer.apply_settings(Arc::new(settings), &preflight).map_err(|e| e.to_string())?;
    renewal.install();
    tls_renewal.install();
    acme_orders::load_from_state_dir(balancer, AcmeSource::Memory);
    acme_orders::install(balancer, certificates);
    balancer.acme.notify_changed();
    if let Some(refetched) = refetched.as_ref().filter(|r| !r.trouble.is_empty()) {
        let text = format!("{}\nthe clusters that were taken over before stay", refetched.trouble);
        balancer.events.record(log::Level::Error, "follow", None, text);
    }
    follow_poller::set_followed(balancer, refetched);
    Ok(restart_required)
}

/// The sections of the new file with changes that only a restart can apply.
#[must_use]
pub fn restart_required(old: &Settings, new: &Settings) -> Vec<String> {
    let listener_identity = |s: &Settings| -> Vec<_> {
        let tls = |t: &ListenerTls| (t.h2, t.acme.is_some(), t.client_certificates.clone());
        s.listeners.iter().map(|l| (l.address, l.tls.as_ref().map(tls))).collect()
    };
    let admin = |s: &Settings| (s.admin.address, s.admin.tls.is_some());
    let statpub = |s: &Settings| s.statpub.as_ref().map(|s| s.address);
    let all = [
        ("listeners", listener_identity(old) != listener_identity(new)),
        ("pingora", !same_pingora(old, new)),
        ("admin", admin(old) != admin(new)),
        ("statpub", statpub(old) != statpub(new)),
        ("state_dir", old.state_dir != new.state_dir),
    ];
    all.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name.to_owned()).collect()
}

fn same_pingora(old: &Settings, new: &Settings) -> bool {
    old.pingora == new.pingora && old.upstream_ca == new.upstream_ca && old.pid_file == new.pid_file
}

/// The new settings, with the old values where only a restart can apply the new ones. The next reload compares with the
/// result, so that a pending restart is reported again.
#[must_use]
pub fn effective_settings(old: &Settings, new: Settings) -> Settings {
    let listeners = old.listeners.iter().map(|l| {
        let renewed = new.listeners.iter().find(|n| n.address == l.address);
        renewed.map_or_else(|| l.clone(), |n| effective_listener(l, n))
    });
    let admin = if old.admin.address == new.admin.address {
        let tls = old.admin.tls.as_ref().map(|before| new.admin.tls.clone().unwrap_or(before.clone()));
        AdminConfig { tls, ..new.admin }
    } else {
        old.admin.clone()
    };
    let same_statpub = old.statpub.as_ref().map(|s| s.address) == new.statpub.as_ref().map(|s| s.address);
    Settings {
        listeners: listeners.collect(),
        admin,
        statpub: if same_statpub { new.statpub } else { old.statpub.clone() },
        pingora: Arc::clone(&old.pingora),
        // Pingora reads it once, and probes must trust the same authorities as requests.
        upstream_ca: old.upstream_ca.clone(),
        pid_file: old.pid_file.clone(),
        state_dir: old.state_dir.clone(),
        ..new
    }
}

fn effective_listener(old: &Listener, new: &Listener) -> Listener {
    let tls = old.tls.as_ref().map(|before| {
        let wanted = new.tls.as_ref().unwrap_or(before);
        // The protocols of a handshake stay, so that `acme` can neither come nor go.
        let acme = before.acme.as_ref().map(|acme| wanted.acme.as_ref().unwrap_or(acme));
        // A listener whose files have given way to `acme` keeps them until the restart.
        let is_empty = wanted.certificates.is_empty() && acme.is_none();
        let certificates = if is_empty { &before.certificates } else { &wanted.certificates };
        ListenerTls {
            certificates: certificates.clone(),
            acme: acme.cloned(),
            protocol: wanted.protocol.clone(),
            ticket_secrets: wanted.ticket_secrets.clone(),
            ..before.clone()
        }
    });
    Listener { tls, ..new.clone() }
}
