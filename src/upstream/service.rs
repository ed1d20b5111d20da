//! The task that closes connections to servers: those that missed a deadline, and idle ones that are of no more use.
//!
//! It is one for all connections, so that a request needs no timer.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::deadline;
use super::pool::ConnectionPool;
use crate::util::clock;

/// Also how late an idle connection may be closed.
const IDLE_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Checks the deadlines of responses and the idle connections.
#[derive(Debug)]
pub struct UpstreamService {
    pool: Arc<ConnectionPool>,
}

impl UpstreamService {
    #[must_use]
    pub fn new(pool: Arc<ConnectionPool>) -> Self {
        Self { pool }
    }
}

#[async_trait]
impl BackgroundService for UpstreamService {
    /// Continues after the shutdown: requests in flight have deadlines while the process drains.
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut deadlines = every(deadline::CHECK_INTERVAL);
        let mut idle = every(IDLE_CHECK_INTERVAL);
        let mut is_running = true;
        loop {
            tokio::select! {
                _ = deadlines.tick() => deadline::close_expired(clock::now_ms()),
                _ = idle.tick() => self.pool.close_idle(clock::now_ms()),
                _ = shutdown.wait_for(|begun| *begun), if is_running => {
                    is_running = false;
                    self.pool.close();
                }
            }
        }
    }
}

fn every(period: Duration) -> tokio::time::Interval {
    let mut interval = interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use tokio::io::AsyncReadExt as _;
    use tokio::sync::watch;

    use super::super::testing::pair;
    use super::*;

    #[tokio::test]
    async fn idle_connections_are_closed_when_they_expire_and_at_shutdown() {
        let pool = Arc::new(ConnectionPool::new(8, Arc::new(AtomicUsize::new(0))));
        let (short, mut short_server) = pair().await;
        let (long, mut long_server) = pair().await;
        pool.put(1, short, Duration::from_millis(1), clock::now_ms());
        pool.put(1, long, Duration::from_secs(600), clock::now_ms());
        let (shutdown, watch) = watch::channel(false);
        let service = UpstreamService::new(Arc::clone(&pool));
        let task = tokio::spawn(async move { service.start(watch).await });
        assert_eq!(short_server.read(&mut [0; 8]).await.unwrap(), 0);
        assert_eq!(pool.idle(), 1);
        shutdown.send(true).unwrap();
        assert_eq!(long_server.read(&mut [0; 8]).await.unwrap(), 0);
        assert_eq!(pool.idle(), 0);
        // Now nothing is kept.
        let (late, mut late_server) = pair().await;
        pool.put(1, late, Duration::from_secs(600), clock::now_ms());
        assert_eq!(late_server.read(&mut [0; 8]).await.unwrap(), 0);
        assert!(!task.is_finished(), "it checks deadlines until the process ends");
        task.abort();
    }
}
