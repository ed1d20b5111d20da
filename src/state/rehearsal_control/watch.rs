//! The task of a rehearsal: looks at the time and the servers four times a second, and ends it. Errors end it at once,
//! where requests are counted.

use std::sync::Arc;
use std::time::Duration;

use super::end;
use crate::config::settings::Mode;
use crate::domain::rehearsal::{OtherServer, RehearsalEnd, check_servers};
use crate::domain::select::{CrossSites, ServerId};
use crate::state::rehearsal::RunningRehearsal;
use crate::state::{Balancer, Cluster, ClusterView};
use crate::util::clock;

const CHECK_INTERVAL: Duration = Duration::from_millis(250);

pub(super) async fn watch(balancer: Arc<Balancer>, rehearsal: Arc<RunningRehearsal>) {
    while rehearsal.is_running() {
        if let Some((why, detail)) = reason_to_end(&balancer, &rehearsal) {
            return end(&balancer, &rehearsal, why, detail);
        }
        let left = Duration::from_millis(rehearsal.ends_ms.saturating_sub(clock::now_ms()).max(1));
        tokio::time::sleep(CHECK_INTERVAL.min(left)).await;
    }
}

fn reason_to_end(balancer: &Balancer, rehearsal: &RunningRehearsal) -> Option<(RehearsalEnd, String)> {
    if clock::now_ms() >= rehearsal.ends_ms {
        return Some((RehearsalEnd::Time, String::new()));
    }
    let snapshot = balancer.snapshot();
    let Some(cluster) = snapshot.clusters.iter().find(|c| c.settings.name == rehearsal.cluster) else {
        let text = format!("the configuration has no cluster {} now", rehearsal.cluster);
        return Some((RehearsalEnd::Reload, text));
    };
    let settings = &cluster.settings;
    if !settings.affinity.enabled || settings.mode == Mode::Redirect {
        let text = "affinity is off or mode is redirect now".to_owned();
        return Some((RehearsalEnd::Reload, text));
    }
    let view = cluster.view.load();
    let server = view.entries.iter().position(|entry| entry.config.name == rehearsal.server);
    let server = server.and_then(|position| ServerId::try_from(position).ok());
    let Some((server, entry)) = server.and_then(|server| Some((server, view.server(server)?))) else {
        let text = format!("{} has no server {} now", rehearsal.cluster, rehearsal.server);
        return Some((RehearsalEnd::Reload, text));
    };
    let others = other_servers(cluster, &view, server);
    check_servers(rehearsal.server.abbreviated(), entry.server.state(), &others)
        .err()
        .map(|problem| (problem.end(), problem.to_string()))
}

/// The servers beside this one.
pub(super) fn other_servers(cluster: &Cluster, view: &ClusterView, server: ServerId) -> Vec<OtherServer> {
    let never_crosses = cluster.settings.cross_sites == CrossSites::Never;
    let others = view.entries.iter().zip(0..).filter(|(_, position)| *position != server);
    others
        .map(|(entry, _)| OtherServer {
            name: entry.config.name.abbreviated().to_owned(),
            state: entry.server.state(),
            may_take_over: !never_crosses || !entry.of_other_site,
        })
        .collect()
}
