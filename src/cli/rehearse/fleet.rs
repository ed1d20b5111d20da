//! The balancers that rehearse together: they draw the same users, because they share the number of the rehearsal, and their
//! counts are added up.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use http::Method;
use serde::Deserialize;
use serde_json::Value;

use crate::cli::admin::{AdminClient, AdminTarget, percent_encode};
use crate::state::rehearsal::RehearsalReport;

/// A balancer that does not answer for so long counts as gone.
const MAX_SILENCE: Duration = Duration::from_secs(15);

/// What is asked of each balancer.
pub(super) struct Order<'a> {
    pub server: &'a str,
    pub cluster: Option<&'a str>,
    pub percent: f64,
    pub duration: Duration,
}

/// The balancer that is asked first, and the others.
pub(super) struct Fleet {
    main: AdminClient,
    others: Vec<AdminClient>,
}

/// Whether the rehearsal has begun.
pub(super) enum StartOutcome {
    Begun(FleetState),
    /// The answer of the balancer that refused. All others have stopped.
    Refused(Value),
}

/// The last that is known from one balancer.
#[derive(Clone, Debug)]
pub(super) struct Observed {
    pub report: Option<RehearsalReport>,
    /// The process that rehearsed does not answer any more, or another one has taken its place.
    pub is_gone: bool,
    seen: Instant,
}

/// The last that is known from each balancer, in the order of the arguments.
#[derive(Clone, Debug)]
pub(super) struct FleetState(pub Vec<Observed>);

#[derive(Deserialize)]
struct RehearsalBody {
    rehearsal: Option<RehearsalReport>,
}

impl Fleet {
    /// `None` if the configuration file has errors, which are printed.
    pub(super) fn connect(target: &AdminTarget, others: &[String]) -> anyhow::Result<Option<Self>> {
        let Some(main) = target.connect()? else { return Ok(None) };
        let Some(others) = target.connect_others(others)? else { return Ok(None) };
        Ok(Some(Self { main, others }))
    }

    pub(super) fn main(&self) -> &AdminClient {
        &self.main
    }

    fn all(&self) -> impl Iterator<Item = &AdminClient> {
        std::iter::once(&self.main).chain(&self.others)
    }

    /// Begins everywhere or nowhere.
    pub(super) fn start(&self, order: &Order<'_>) -> anyhow::Result<StartOutcome> {
        let mut observed: Vec<Observed> = Vec::new();
        for admin in self.all() {
            let id =
                observed.first().and_then(|first| first.report.as_ref()).map(|report| report.id.as_str());
            let answer = admin.send(Method::POST, &order.target(id));
            let refusal = match answer {
                Ok((200, body)) => {
                    observed.push(Observed::new(body)?);
                    continue;
                }
                Ok((400 | 404 | 409, body)) => Ok(StartOutcome::Refused(body)),
                Ok((code, body)) => Err(anyhow::anyhow!("/rehearsal: {code} {body}")),
                Err(error) => Err(error),
            };
            for begun in self.all().take(observed.len()) {
                stop(begun, "another ICM refused")?;
            }
            return refusal;
        }
        Ok(StartOutcome::Begun(FleetState(observed)))
    }

    /// Ends what runs, and returns what was ended.
    pub(super) fn stop(&self, by: &str) -> anyhow::Result<FleetState> {
        // All are told, even if one does not answer.
        let answers: Vec<_> = self.all().map(|admin| stop(admin, by)).collect();
        let ended: anyhow::Result<Vec<_>> = answers.into_iter().collect();
        Ok(FleetState(ended?.into_iter().flatten().collect()))
    }

    pub(super) fn observe(&self) -> anyhow::Result<FleetState> {
        Ok(FleetState(self.all().map(observe).collect::<anyhow::Result<_>>()?))
    }

    /// Observes the same rehearsal again. A balancer that does not answer for a moment keeps its last report.
    pub(super) fn observe_same(&self, before: &FleetState) -> FleetState {
        let again = self.all().zip(&before.0).map(|(admin, before)| {
            let id = |observed: &Observed| observed.report.as_ref().map(|report| report.id.clone());
            match observe(admin) {
                _ if !before.is_running() => before.clone(),
                Ok(now) if id(&now) == id(before) => now,
                Ok(_) => Observed { is_gone: true, ..before.clone() },
                Err(_) => Observed { is_gone: before.seen.elapsed() >= MAX_SILENCE, ..before.clone() },
            }
        });
        FleetState(again.collect())
    }
}

impl Order<'_> {
    fn target(&self, id: Option<&str>) -> String {
        let mut target = format!(
            "/rehearsal?down={}&users={}&for={}ms&by={}",
            percent_encode(self.server),
            self.percent,
            self.duration.as_millis(),
            percent_encode(&operator())
        );
        if let Some(cluster) = self.cluster {
            target.push_str(&format!("&cluster={}", percent_encode(cluster)));
        }
        if let Some(id) = id {
            target.push_str(&format!("&id={id}"));
        }
        target
    }
}

impl Observed {
    fn new(body: Value) -> anyhow::Result<Self> {
        let body: RehearsalBody = serde_json::from_value(body).context("/rehearsal")?;
        Ok(Self { report: body.rehearsal, is_gone: false, seen: Instant::now() })
    }

    fn is_running(&self) -> bool {
        !self.is_gone && self.report.as_ref().is_some_and(|report| report.running)
    }

    fn ended_because(&self) -> Option<&str> {
        match self.is_gone {
            true => Some("gone"),
            false => self.report.as_ref()?.ended_because.as_deref(),
        }
    }
}

impl FleetState {
    pub(super) fn is_running(&self) -> bool {
        self.0.iter().any(Observed::is_running)
    }

    pub(super) fn has_ended_early(&self) -> bool {
        self.0.iter().any(|observed| observed.ended_because().is_some_and(|why| why != "time"))
    }

    pub(super) fn ran_to_its_end(&self) -> bool {
        self.0.iter().all(|observed| observed.ended_because() == Some("time"))
    }

    /// All reports as one: counts are added, and the cause of the end is that of the first that ended by itself.
    pub(super) fn total(&self) -> Option<RehearsalReport> {
        let reports = || self.0.iter().filter_map(|observed| observed.report.as_ref());
        let cause = |report: &&RehearsalReport| report.ended_because.as_deref().map(str::to_owned);
        let is_own =
            |report: &&RehearsalReport| !matches!(cause(report).as_deref(), None | Some("time" | "stopped"));
        let first = reports()
            .find(is_own)
            .or_else(|| reports().find(|report| cause(report).as_deref() == Some("stopped")));
        let mut total = first.or_else(|| reports().next())?.clone();
        total.running = self.is_running();
        let sum = |of: fn(&RehearsalReport) -> u64| reports().map(of).sum();
        let slowest = |of: fn(&RehearsalReport) -> Option<f64>| reports().filter_map(of).reduce(f64::max);
        (total.users, total.requests, total.moved) =
            (sum(|r| r.users), sum(|r| r.requests), sum(|r| r.moved));
        (total.failed, total.not_found, total.denied) =
            (sum(|r| r.failed), sum(|r| r.not_found), sum(|r| r.denied));
        total.kept = sum(|r| r.kept);
        (total.older_pages, total.logins_lost) = (sum(|r| r.older_pages), sum(|r| r.logins_lost));
        (total.median_ms, total.p99_ms) = (slowest(|r| r.median_ms), slowest(|r| r.p99_ms));
        let stayed = &mut total.stayed;
        (stayed.users, stayed.requests) = (sum(|r| r.stayed.users), sum(|r| r.stayed.requests));
        (stayed.failed, stayed.not_found, stayed.denied) =
            (sum(|r| r.stayed.failed), sum(|r| r.stayed.not_found), sum(|r| r.stayed.denied));
        (stayed.median_ms, stayed.p99_ms) = (slowest(|r| r.stayed.median_ms), slowest(|r| r.stayed.p99_ms));
        Some(total)
    }
}

fn observe(admin: &AdminClient) -> anyhow::Result<Observed> {
    match admin.send(Method::GET, "/rehearsal")? {
        (200, body) => Observed::new(body),
        (code, body) => bail!("/rehearsal: {code} {body}"),
    }
}

/// `None` if there was none.
fn stop(admin: &AdminClient, by: &str) -> anyhow::Result<Option<Observed>> {
    match admin.send(Method::POST, &format!("/rehearsal/stop?by={}", percent_encode(by)))? {
        (200, body) => Observed::new(body).map(Some),
        (409, _) => Ok(None),
        (code, body) => bail!("/rehearsal/stop: {code} {body}"),
    }
}

/// Who rehearses, as the event shows it.
fn operator() -> String {
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    host.map_or_else(|| "icm rehearse".to_owned(), |host| format!("icm rehearse on {host}"))
}

/// The sentence of an answer that is an error.
pub(super) fn message_of(answer: &Value) -> &str {
    answer.get("message").and_then(Value::as_str).unwrap_or_default()
}
