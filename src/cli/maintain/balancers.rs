//! The balancers in front of a cluster: the one that is asked, and other ICMs whose users and requests count too. They are one
//! thing to the runner, because a server is free only when none of them uses it.

use anyhow::{Context, anyhow, bail};
use http::Method;
use serde::Deserialize;
use serde_json::Value;

use super::observe::{Observation, ObservedDrain, ObservedStatus};
use crate::cli::admin::{AdminClient, AdminTarget, percent_encode};
use crate::state::drain::DrainProgress;
use crate::state::restrictions::RestrictionOutcome;

#[derive(Deserialize)]
struct DrainBody {
    servers: Vec<DrainProgress>,
}

/// The balancer that decides, and the others.
pub(super) struct Balancers {
    pub main: AdminClient,
    others: Vec<AdminClient>,
}

impl Balancers {
    /// `others` are URLs of admin listeners, with the token of the first one. `None` if the configuration file has errors,
    /// which are printed.
    ///
    /// # Errors
    /// If an address, a file or a name is invalid.
    pub(super) fn connect(target: &AdminTarget, others: &[String]) -> anyhow::Result<Option<Self>> {
        let Some(main) = target.connect()? else { return Ok(None) };
        let Some(others) = target.connect_others(others)? else { return Ok(None) };
        Ok(Some(Self { main, others }))
    }

    /// Observes one cluster with one server of it. With `examples` the databases are counted that only this server can
    /// serve.
    ///
    /// # Errors
    /// If a balancer does not answer, or the first one has no such cluster.
    pub(super) fn observe(
        &self,
        cluster: &str,
        server: &str,
        examples: Option<usize>,
    ) -> anyhow::Result<Observation> {
        let (code, status) = self.main.send(Method::GET, "/status")?;
        if code != 200 {
            bail!("/status: {code} {status}");
        }
        let status: ObservedStatus = serde_json::from_value(status).context("/status")?;
        let mut drain = drain_of(&self.main, server, examples)?;
        for other in &self.others {
            drain.extend(drain_of(other, server, None)?);
        }
        Observation::new(status, cluster, ObservedDrain::of(&drain))
            .ok_or_else(|| anyhow!("the balancer has no cluster {cluster} now"))
    }

    /// Restricts or releases a server on all of them. Returns what the administrator should know.
    ///
    /// # Errors
    /// If one of them does not answer or refuses. Another one may not have such a server.
    pub(super) fn post(&self, server: &str, action: &str) -> anyhow::Result<Vec<String>> {
        let target = format!("/servers/{}/{action}", percent_encode(server));
        let send = |admin: &AdminClient, is_main: bool| -> anyhow::Result<Value> {
            match admin.send(Method::POST, &target)? {
                (200, body) => Ok(body),
                (404, body) if !is_main => Ok(body),
                (code, body) => bail!("{target}: {code} {body}"),
            }
        };
        let body = send(&self.main, true)?;
        let outcomes: Vec<RestrictionOutcome> =
            serde_json::from_value(body.get("servers").cloned().unwrap_or_default())?;
        let mut notes: Vec<String> = outcomes.into_iter().flat_map(|outcome| outcome.notes).collect();
        notes.dedup();
        for other in &self.others {
            send(other, false)?;
        }
        Ok(notes)
    }
}

fn drain_of(
    admin: &AdminClient,
    server: &str,
    examples: Option<usize>,
) -> anyhow::Result<Vec<DrainProgress>> {
    let limit = examples.map_or_else(String::new, |limit| format!("?limit={limit}"));
    let target = format!("/servers/{}/drain{limit}", percent_encode(server));
    match admin.send(Method::GET, &target)? {
        (200, body) => Ok(serde_json::from_value::<DrainBody>(body).context("drain")?.servers),
        // It has left the cluster: the status says the same.
        (404, _) => Ok(Vec::new()),
        (code, body) => bail!("{target}: {code} {body}"),
    }
}
