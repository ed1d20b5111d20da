//! One run: the same requests to every rule at the same time.
//!
//! The load does not slow down with the responses: a request is sent when it is due, its time counts from then, and the
//! delay of sending is reported.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::client::Client;
use super::event::Event;
use super::fleet::Fleet;
use super::schedule::{Arrival, USERS};

/// By universal ID, because a request by NoteID is not sent to another server when one dies.
const DOCUMENT: &str = "/sales/orders.nsf/0/A4F3D2C1B0A99887C1257A000041D2E1";
/// A failed request counts with this time as well.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Seconds at the start that do not count.
const WARM_UP: f64 = 10.0;

/// The results of one run.
#[derive(Serialize, Deserialize)]
pub struct Run {
    pub event: String,
    pub affinity: u32,
    pub seconds: f64,
    pub per_second: f64,
    /// Load of all processors in per cent.
    pub busy: f64,
    /// 99th percentile of the delay of sending, milliseconds.
    pub late: f64,
    pub date: String,
    pub outcomes: Vec<Outcome>,
}

/// The results of one rule.
#[derive(Serialize, Deserialize)]
pub struct Outcome {
    pub rule: String,
    pub proxies: usize,
    pub requests: usize,
    pub failed: usize,
    pub p50: f64,
    /// 99th percentile in milliseconds.
    pub p99: f64,
    /// Requests that each server answered, by the second in which they were due.
    pub shares: Vec<[u32; 3]>,
}

#[derive(Default)]
struct Samples {
    times: Vec<Duration>,
    failed: usize,
    late: Vec<Duration>,
    shares: Vec<[u32; 3]>,
}

/// The cookies of a user, as `name=value`.
type CookieJar = Mutex<Vec<String>>;

/// Sends all requests and waits for the last response.
pub async fn run(event: Event, affinity: u32, seconds: f64, fleets: &[Fleet]) -> Run {
    let arrivals = Arc::new(event.arrivals(affinity, seconds));
    let busy = CpuTicks::now();
    let begin = Instant::now() + Duration::from_millis(200);
    let changes = async {
        for (at, server, patch) in event.changes(seconds) {
            sleep_until(begin, at).await;
            for fleet in fleets {
                fleet.patch_server(server, &patch).await;
            }
        }
    };
    let mut loads = Vec::new();
    for fleet in fleets {
        loads.push(tokio::spawn(send_all(begin, seconds, arrivals.clone(), fleet.clients())));
    }
    changes.await;
    let mut outcomes = Vec::new();
    let mut late = Vec::new();
    for (fleet, load) in fleets.iter().zip(loads) {
        let mut seen = load.await.unwrap();
        late.append(&mut seen.late);
        seen.times.sort_unstable();
        outcomes.push(Outcome {
            rule: fleet.rule.name.to_owned(),
            proxies: fleet.rule.proxies,
            requests: seen.times.len(),
            failed: seen.failed,
            p50: quantile(&seen.times, 0.5),
            p99: quantile(&seen.times, 0.99),
            shares: seen.shares,
        });
    }
    late.sort_unstable();
    Run {
        event: event.key(),
        affinity,
        seconds,
        per_second: arrivals.len() as f64 / seconds,
        busy: busy.since(),
        late: quantile(&late, 0.99),
        date: chrono::Utc::now().format("%Y-%m-%d").to_string(),
        outcomes,
    }
}

fn quantile(sorted: &[Duration], q: f64) -> f64 {
    let at = (sorted.len().saturating_sub(1)) as f64 * q;
    sorted.get(at as usize).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
}

async fn sleep_until(begin: Instant, seconds: f64) {
    tokio::time::sleep_until((begin + Duration::from_secs_f64(seconds)).into()).await;
}

async fn send_all(
    begin: Instant,
    seconds: f64,
    arrivals: Arc<Vec<Arrival>>,
    clients: Arc<Vec<Client>>,
) -> Samples {
    let seen =
        Arc::new(Mutex::new(Samples { shares: vec![[0; 3]; seconds as usize + 1], ..Samples::default() }));
    let jars: Arc<Vec<CookieJar>> = Arc::new((0..USERS).map(|_| CookieJar::default()).collect());
    let mut sent = Vec::new();
    for n in 0..arrivals.len() {
        sleep_until(begin, arrivals[n].at).await;
        let (seen, jars, arrivals, clients) = (seen.clone(), jars.clone(), arrivals.clone(), clients.clone());
        sent.push(tokio::spawn(async move { send(begin, n, &arrivals, &clients, &jars, &seen).await }));
    }
    for one in sent {
        one.await.unwrap();
    }
    std::mem::take(&mut *seen.lock().unwrap())
}

async fn send(
    begin: Instant,
    n: usize,
    all: &[Arrival],
    clients: &[Client],
    jars: &[CookieJar],
    seen: &Mutex<Samples>,
) {
    let arrival = &all[n];
    let due = begin + Duration::from_secs_f64(arrival.at);
    let late = due.elapsed();
    let client = &clients[(arrival.through * clients.len() as f64) as usize];
    let jar = arrival.user.map(|user| (user, &jars[user]));
    let cookie = jar.map_or(String::new(), |(user, jar)| cookie(user, jar));
    let target = format!("{DOCUMENT}?OpenDocument&size=512&work={}", arrival.work_ms);
    let answer =
        tokio::time::timeout(REQUEST_TIMEOUT.saturating_sub(late), client.get(&target, &cookie)).await;
    let good = answer.ok().and_then(Result::ok).filter(|answer| (200..400).contains(&answer.status));
    let time = if good.is_some() { due.elapsed() } else { REQUEST_TIMEOUT };
    if let (Some((_, jar)), Some(answer)) = (jar, &good) {
        store_cookies(jar, answer.cookies.clone(), arrival.last);
    }
    let mut seen = seen.lock().unwrap();
    if let Some(server) = good.as_ref().and_then(|answer| answer.server) {
        seen.shares[arrival.at as usize][server] += 1;
    }
    if arrival.at >= WARM_UP {
        seen.failed += usize::from(good.is_none());
        seen.times.push(time);
        seen.late.push(late);
    }
}

/// The user's cookies. nginx hashes `user`, which has a new value for each new user.
fn cookie(user: usize, jar: &CookieJar) -> String {
    let mut jar = jar.lock().unwrap();
    if !jar.iter().any(|cookie| cookie.starts_with("user=")) {
        jar.push(format!("user={user}-{:08x}", fastrand::u32(..)));
    }
    jar.join("; ")
}

fn store_cookies(jar: &CookieJar, cookies: Vec<String>, last: bool) {
    let mut jar = jar.lock().unwrap();
    if last {
        jar.clear();
        return;
    }
    for cookie in cookies {
        let name = cookie.split('=').next().unwrap_or("").to_owned();
        jar.retain(|old| old.split('=').next() != Some(&name));
        jar.push(cookie);
    }
}

/// Clock ticks of all processors from `/proc/stat`.
struct CpuTicks {
    idle: u64,
    all: u64,
}

impl CpuTicks {
    fn now() -> CpuTicks {
        let text = fs::read_to_string("/proc/stat").unwrap_or_default();
        let line = text.lines().next().unwrap_or("");
        let ticks: Vec<u64> = line.split_whitespace().skip(1).filter_map(|n| n.parse().ok()).collect();
        let idle = ticks.iter().skip(3).take(2).sum();
        CpuTicks { idle, all: ticks.iter().take(8).sum() }
    }

    fn since(&self) -> f64 {
        let now = CpuTicks::now();
        let all = (now.all - self.all).max(1) as f64;
        100.0 * (1.0 - (now.idle - self.idle) as f64 / all)
    }
}

impl Run {
    pub fn save(&self, folder: &Path) {
        let file = folder.join(format!("{}-{}.json", self.event, self.affinity));
        fs::write(file, serde_json::to_vec(self).unwrap()).unwrap();
    }

    /// Every run in a folder, in the order of events and affinity.
    pub fn all(folder: &Path) -> Vec<Run> {
        let mut all = Vec::new();
        for event in Event::ALL {
            for affinity in 0..=100 {
                if let Ok(text) = fs::read(folder.join(format!("{}-{affinity}.json", event.key()))) {
                    all.push(serde_json::from_slice(&text).unwrap());
                }
            }
        }
        all
    }
}
