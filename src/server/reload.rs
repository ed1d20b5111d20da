//! HUP: load, validate, compare, swap one pointer; or keep the old configuration and say why.
//!
//! In: the configuration file. Out: a new snapshot, or nothing changed at all. What only a restart can
//! change is named, the rest applies.

use std::path::Path;
use std::sync::{Arc, PoisonError};

use super::tls::CertificateStore;
use crate::balancer::{Balancer, ReloadStatus};
use crate::clock;
use crate::config::{self, Settings};

/// Reloads. True when the new configuration is in force. Blocks on files and on the resolver.
pub fn reload(balancer: &Balancer, file: &Path, certificates: &[Option<Arc<CertificateStore>>]) -> bool {
    let result = attempt(balancer, file, certificates);
    let (success, error, restart_required) = match result {
        Ok(restart) => (true, String::new(), restart),
        Err(error) => (false, error, Vec::new()),
    };
    if success {
        let mut text = format!("configuration reloaded from {}", file.display());
        if !restart_required.is_empty() {
            text.push_str(&format!("; restart required for: {}", restart_required.join(", ")));
        }
        balancer.events.note(log::Level::Info, "reload", None, text);
    } else {
        let text = format!("reload refused, the old configuration stays:\n{error}");
        balancer.events.note(log::Level::Error, "reload", None, text);
    }
    *balancer.reload.lock().unwrap_or_else(PoisonError::into_inner) =
        ReloadStatus { success, at_unix_ms: clock::unix_ms(), error, restart_required };
    success
}

fn attempt(
    balancer: &Balancer,
    file: &Path,
    certificates: &[Option<Arc<CertificateStore>>],
) -> Result<Vec<String>, String> {
    let loaded = config::load(file).map_err(|errors| errors.to_string())?;
    for warning in &loaded.warnings {
        log::warn!(target: "icm::config", "{warning}");
    }
    if loaded.settings.follow.is_some() {
        return Err("get_configuration_from is not available in this version".to_owned());
    }
    let old = balancer.snapshot();
    let restart = restart_required(&old.settings, &loaded.settings);
    // Certificates are read before anything changes: a bad one refuses the whole reload.
    let fresh: Vec<_> = old
        .settings
        .listeners
        .iter()
        .zip(certificates)
        .filter_map(|(listener, store)| {
            let new = loaded.settings.listeners.iter().find(|l| l.address == listener.address)?;
            Some((Arc::clone(store.as_ref()?), new.tls.clone()?))
        })
        .map(|(store, tls)| CertificateStore::load(&tls).map(|_| (store, tls)))
        .collect::<Result<_, _>>()
        .map_err(|e| e.to_string())?;
    balancer.apply(Arc::new(loaded.settings)).map_err(|e| e.to_string())?;
    for (store, tls) in fresh {
        store.renew(&tls.certificates).map_err(|e| e.to_string())?;
    }
    Ok(restart)
}

/// What the new file says but only a new process can do.
#[must_use]
pub fn restart_required(old: &Settings, new: &Settings) -> Vec<String> {
    let mut all = Vec::new();
    let shape = |s: &Settings| -> Vec<_> {
        s.listeners
            .iter()
            .map(|l| (l.address, l.tls.as_ref().map(|t| (t.h2, t.client_ca_file.clone()))))
            .collect()
    };
    if shape(old) != shape(new) {
        all.push("listeners".to_owned());
    }
    if old.pingora != new.pingora || old.pid_file != new.pid_file {
        all.push("pingora".to_owned());
    }
    if old.admin.address != new.admin.address || old.admin.tls != new.admin.tls {
        all.push("admin".to_owned());
    }
    if old.statpub.as_ref().map(|s| s.address) != new.statpub.as_ref().map(|s| s.address) {
        all.push("statpub".to_owned());
    }
    if old.state_dir != new.state_dir {
        all.push("state_dir".to_owned());
    }
    all
}
