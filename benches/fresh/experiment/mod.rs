//! One run of the experiment: users and newcomers work through a load balancer while a server dies with changes that
//! nobody else has, returns without what happened meanwhile, and is made true again by a replication.
//!
//! `make fresh` runs it behind several load balancers at once, the test `failover::truth` behind `icm` alone. What was
//! served is judged afterwards (`judge`), by what the servers acknowledged (`ledger`) and by what the simulated cluster
//! says about its replicas (`control`).

pub mod client;
pub mod control;
pub mod judge;
pub mod ledger;
pub mod users;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;

use control::{Control, ReplicaPoll};
use ledger::Records;

/// The servers that hold every database of [`DATABASES`]. The first one is stopped.
pub const SERVERS: [&str; 3] = ["Web1", "Web2", "Web3"];
/// The databases, with their replica IDs: some in which everybody works, then mail files, each of one user.
pub const DATABASES: [(&str, &str); 13] = [
    ("sales/leads.nsf", "C1257A000041D2E0"),
    ("sales/orders.nsf", "C1257A000041D2E1"),
    ("hr/vacation.nsf", "C1257A000041D2E2"),
    ("mail/user1.nsf", "C1257A0000420001"),
    ("mail/user2.nsf", "C1257A0000420002"),
    ("mail/user3.nsf", "C1257A0000420003"),
    ("mail/user4.nsf", "C1257A0000420004"),
    ("mail/user5.nsf", "C1257A0000420005"),
    ("mail/user6.nsf", "C1257A0000420006"),
    ("mail/user7.nsf", "C1257A0000420007"),
    ("mail/user8.nsf", "C1257A0000420008"),
    ("mail/user9.nsf", "C1257A0000420009"),
    ("mail/user10.nsf", "C1257A000042000A"),
];
/// The number of those in which everybody works.
pub const COMMON_DATABASES: usize = 3;
/// Milliseconds from a change to its push, as long as the push is not held back.
pub const PUSH_MS: u64 = 200;
/// Long enough that the server stops before the push.
const HELD_PUSH_MS: u64 = 600_000;
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// The scenario of the simulated cluster: changes are pushed after [`PUSH_MS`], and a failed push is repeated after an hour.
/// The companion is there for those who ask it, and replicates two seconds after it was told to.
pub fn scenario() -> String {
    let mut text = format!(
        "cluster: Fresh
replication: {{ push_ms: {PUSH_MS}, retry_ms: 3600000, companion: true, replicate_delay_ms: 2000 }}
servers:\n"
    );
    for name in SERVERS {
        text += &format!("  - {{ name: {name}/Acme, https: false, agent: false, set: {{ index: 90 }} }}\n");
    }
    text += "databases:\n";
    for (path, replica_id) in DATABASES {
        text += &format!("  - {{ path: {path}, replica_id: {replica_id}, replicas: all }}\n");
    }
    text
}

/// `directory` of an `icm` in front of that cluster.
pub fn directory() -> String {
    let holders = SERVERS.map(|name| format!("{{ server: {name}/Acme }}")).join(", ");
    let database =
        |(path, replica_id)| format!("{{ path: {path}, replica_id: {replica_id}, replicas: [{holders}] }}");
    format!("{{ source: static, databases: [{}] }}", DATABASES.map(database).join(", "))
}

/// What happens when, in seconds after the beginning.
#[derive(Clone, Debug)]
pub struct Timeline {
    /// From here on the changes of the first server stay in its queue.
    pub hold: f64,
    /// The first server stops, and loses its queue.
    pub kill: f64,
    /// It starts again, without what happened meanwhile.
    pub back: f64,
    /// The failed pushes are repeated, and a standard replication of everything is forced.
    pub replicate: f64,
    pub end: f64,
}

impl Timeline {
    pub const LONG: Timeline = Timeline { hold: 10.0, kill: 17.0, back: 37.0, replicate: 61.0, end: 76.0 };
    pub const SHORT: Timeline = Timeline { hold: 3.0, kill: 5.0, back: 9.0, replicate: 16.0, end: 20.0 };
}

/// The load balancer under test, and the cluster behind it.
#[derive(Clone, Debug)]
pub struct Site {
    pub name: String,
    pub balancer: SocketAddr,
    /// The control port of the simulated cluster.
    pub control: SocketAddr,
    /// The admin listener of an `icm`, which is asked whether it has noticed the return; for others [`NOTICE`] must do.
    pub admin: Option<SocketAddr>,
    /// The users' browsers do not store cookies with this ending.
    pub refused_cookie: Option<&'static str>,
}

/// How long after its return a server does not count as eligible yet, so that every load balancer can notice it.
pub const NOTICE: f64 = 3.0;

/// The load, and from when on a replica counts as known to be behind.
#[derive(Clone, Debug)]
pub struct Plan {
    pub timeline: Timeline,
    pub users: usize,
    /// Milliseconds between two actions of a user.
    pub think_ms: std::ops::Range<u64>,
    pub newcomers_per_second: f64,
    pub rule: judge::BehindRule,
}

/// When the events really happened, in seconds after the beginning.
#[derive(Clone, Copy, Debug, Default)]
pub struct Events {
    pub kill: f64,
    pub back: f64,
    /// From here on the server that returned counts as eligible.
    pub eligible: f64,
    pub replicated: f64,
    pub end: f64,
}

/// The clock of one run.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    pub fn start() -> Clock {
        Clock(Instant::now())
    }

    /// Seconds since the beginning.
    pub fn now(self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }

    async fn sleep_until(self, seconds: f64) {
        tokio::time::sleep_until((self.0 + Duration::from_secs_f64(seconds)).into()).await;
    }
}

/// Runs the experiment and judges it. Takes as long as the timeline.
pub async fn run(site: &Site, plan: &Plan) -> judge::Findings {
    let clock = Clock::start();
    let records = Arc::new(Mutex::new(Records::default()));
    let control = Control::of(site.control);
    let mut users = tokio::task::JoinSet::new();
    for number in 0..plan.users {
        users.spawn(users::user(number, site.clone(), plan.clone(), clock, records.clone()));
    }
    users.spawn(users::newcomers(site.clone(), plan.clone(), clock, records.clone()));
    let end = plan.timeline.end;
    let polls = tokio::spawn(poll(Control::of(site.control), clock, end));
    let events = incident(site, plan, &control, clock).await;
    clock.sleep_until(end).await;
    while let Some(ended) = users.join_next().await {
        ended.unwrap();
    }
    let polls = polls.await.unwrap();
    let counts = control.replication().await["edits"].clone();
    let records = std::mem::take(&mut *records.lock().unwrap());
    judge::judge(&records, &polls, &Events { end, ..events }, &plan.rule, &counts)
}

/// Stops the first server and brings it back.
async fn incident(site: &Site, plan: &Plan, control: &Control, clock: Clock) -> Events {
    let (line, server) = (&plan.timeline, SERVERS[0]);
    clock.sleep_until(line.hold).await;
    control.set(server, &json!({ "push_ms": HELD_PUSH_MS })).await;
    clock.sleep_until(line.kill).await;
    control.wait_for_unreplicated_changes(server).await;
    let kill = clock.now();
    control.post(&format!("/servers/{server}/stop"), "").await;
    clock.sleep_until(line.back).await;
    control.set(server, &json!({ "push_ms": PUSH_MS })).await;
    control.post(&format!("/servers/{server}/start"), "").await;
    let back = clock.now();
    clock.sleep_until(back + NOTICE).await;
    if let Some(admin) = site.admin {
        control::wait_until_noticed(admin, server).await;
    }
    let eligible = clock.now();
    clock.sleep_until(line.replicate).await;
    // The retries are due as well, or the changes from now on would wait for an hour.
    control.set("all", &json!({ "retry_ms": 100 })).await;
    control.post("/replicate", "{}").await;
    Events { kill, back, eligible, replicated: clock.now(), end: line.end }
}

async fn poll(control: Control, clock: Clock, end: f64) -> Vec<ReplicaPoll> {
    let mut polls = Vec::new();
    while clock.now() < end {
        let begin = clock.now();
        polls.push(control.poll(begin).await);
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    polls
}
