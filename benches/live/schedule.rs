//! The schedule of a run: the requests, which are the same for every rule, and the patches for the control port of `acme`.
//! The scenarios are those of the simulation, with service times four times as long.

use super::event::{Event, exponential};

/// Workers of the three servers.
pub const WORKERS: [u32; 3] = [4, 8, 16];
/// Mean work of a request, seconds.
const MEAN_WORK_SECONDS: f64 = 0.08;
/// Work of the longest request of a heavy tail, seconds.
const MAX_WORK_SECONDS: f64 = 8.0;
/// Number of users with affinity.
pub const USERS: usize = 200;
/// After its last request, a user is replaced by a new one.
const MEAN_REQUESTS_PER_USER: f64 = 30.0;

pub struct Arrival {
    /// Seconds since the start of the run.
    pub at: f64,
    pub work_ms: u32,
    /// Which proxy is used, as a fraction of their number.
    pub through: f64,
    /// The user; `None` is a new user with only this request.
    pub user: Option<usize>,
    /// Whether it is the last request of this user.
    pub last: bool,
}

impl Event {
    /// The name in variables and file names.
    pub fn key(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    pub fn from_key(word: &str) -> Event {
        Event::ALL.into_iter().find(|e| e.key() == word).unwrap_or_else(|| panic!("there is no event {word}"))
    }

    /// All requests of a run.
    pub fn arrivals(self, affinity: u32, seconds: f64) -> Vec<Arrival> {
        let mut random = fastrand::Rng::with_seed(42);
        let rate = self.load() * f64::from(WORKERS.iter().sum::<u32>()) / MEAN_WORK_SECONDS;
        let mut at = 0.0;
        let mut all = Vec::new();
        while at < seconds {
            let user = (random.f64() < f64::from(affinity) / 100.0).then(|| random.usize(..USERS));
            let last = random.f64() < 1.0 / MEAN_REQUESTS_PER_USER;
            let work_ms =
                (self.work(MEAN_WORK_SECONDS, MAX_WORK_SECONDS, &mut random) * 1000.0).ceil() as u32;
            all.push(Arrival { at, work_ms, through: random.f64(), user, last });
            at += exponential(&mut random) / (rate * self.intensity(at));
        }
        all
    }

    /// The changes to servers: seconds, name, patch.
    pub fn changes(self, seconds: f64) -> Vec<(f64, &'static str, String)> {
        match self {
            Event::SlowsDown => vec![
                (seconds / 3.0, "Web2", r#"{"speed": 0.1}"#.to_owned()),
                (seconds * 2.0 / 3.0, "Web2", r#"{"speed": 1}"#.to_owned()),
            ],
            Event::ReturnsCold => {
                let dies = r#"{"fault": {"kind": "refuse", "kill": true}}"#.to_owned();
                let returns = r#"{"fault": null, "speed": 0.333}"#.to_owned();
                let mut all = vec![(seconds / 6.0, "Web3", dies), (seconds / 3.0, "Web3", returns)];
                for second in 1..=30 {
                    let speed = 1.0 / 3.0 + f64::from(second) / 30.0 * 2.0 / 3.0;
                    all.push((
                        seconds / 3.0 + f64::from(second),
                        "Web3",
                        format!(r#"{{"speed": {speed:.3}}}"#),
                    ));
                }
                all
            }
            _ => Vec::new(),
        }
    }
}
