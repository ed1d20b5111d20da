//! A simulated server: processor sharing over some cores. All jobs progress at the same rate, like the threads of
//! Domino's HTTP task, so their order in virtual time is the order in which they end.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// A job in progress.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    /// Time of arrival in seconds.
    pub arrived: f64,
    pub size: f64,
    /// The load balancer that sent it.
    pub icm: usize,
    ends_at: f64,
}

impl PartialEq for Job {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Job {}
impl PartialOrd for Job {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Job {
    /// Reversed, so that the heap returns the job that ends first.
    fn cmp(&self, other: &Self) -> Ordering {
        other.ends_at.total_cmp(&self.ends_at)
    }
}

#[derive(Debug)]
pub struct Server {
    cores: f64,
    speed: f64,
    virtual_now: f64,
    now: f64,
    jobs: BinaryHeap<Job>,
    expansion: (f64, u32),
}

impl Server {
    pub fn new(cores: f64) -> Self {
        Self { cores, speed: 1.0, virtual_now: 0.0, now: 0.0, jobs: BinaryHeap::new(), expansion: (0.0, 0) }
    }

    pub fn jobs_in_progress(&self) -> usize {
        self.jobs.len()
    }

    /// Sets the speed of all jobs relative to normal speed.
    pub fn set_speed(&mut self, speed: f64, now: f64) {
        self.advance(now);
        self.speed = speed;
    }

    pub fn begin(&mut self, size: f64, icm: usize, now: f64) {
        self.advance(now);
        self.jobs.push(Job { arrived: now, size, icm, ends_at: self.virtual_now + size });
    }

    /// When the next job ends if no other arrives.
    pub fn next_end(&self) -> f64 {
        match self.jobs.peek() {
            Some(job) => self.now + (job.ends_at - self.virtual_now).max(0.0) / self.rate(),
            None => f64::INFINITY,
        }
    }

    /// Takes the job that ends now.
    pub fn end(&mut self, now: f64) -> Option<Job> {
        self.advance(now);
        let job = self.jobs.pop()?;
        self.expansion.0 += ((now - job.arrived) / job.size).max(1.0);
        self.expansion.1 += 1;
        Some(job)
    }

    /// Domino's expansion factor (time over best time) since the last call.
    pub fn take_expansion(&mut self) -> f64 {
        let (sum, count) = std::mem::take(&mut self.expansion);
        if count == 0 { 1.0 } else { sum / f64::from(count) }
    }

    /// How long a job would take, plus how much it would delay the jobs in progress. Only the oracle uses this.
    pub fn cost(&self, size: f64, now: f64) -> f64 {
        let virtual_now = self.virtual_now + self.rate() * (now - self.now);
        let shared: f64 = self.jobs.iter().map(|j| (j.ends_at - virtual_now).clamp(0.0, size)).sum();
        let alone = size / self.speed;
        let crowded = (size + shared) / (self.cores * self.speed);
        let for_others =
            if self.jobs.len() as f64 >= self.cores { shared / (self.cores * self.speed) } else { 0.0 };
        alone.max(crowded) + for_others
    }

    fn rate(&self) -> f64 {
        self.speed * (self.cores / self.jobs.len().max(1) as f64).min(1.0)
    }

    fn advance(&mut self, now: f64) {
        self.virtual_now += self.rate() * (now - self.now);
        self.now = now;
    }
}
