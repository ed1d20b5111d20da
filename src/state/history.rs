//! Takes the samples of the status page's charts: a background task reads the counters of all servers every
//! `admin.history_interval`. Requests only count, as they do for the metrics.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Balancer;
use super::cluster_view::UpstreamServer;
use crate::telemetry::history::ServerReading;
use crate::util::clock;

/// Starts the task, which ends when the result is dropped.
pub(crate) fn start(balancer: &Arc<Balancer>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(run(Arc::clone(balancer)));
    tasks
}

async fn run(balancer: Arc<Balancer>) {
    let mut last = Instant::now();
    sample(&balancer, Duration::ZERO);
    loop {
        // Read each time, so that a reload changes it.
        let interval = balancer.snapshot().settings.admin.history_interval;
        tokio::time::sleep_until(last + interval).await;
        let now = Instant::now();
        sample(&balancer, now - last);
        // A process that was stopped goes on from now, and makes up for nothing.
        last = now;
    }
}

fn sample(balancer: &Balancer, since_last: Duration) {
    let snapshot = balancer.snapshot();
    let clusters = snapshot.clusters.iter().map(|cluster| {
        let view = cluster.view.load_full();
        let readings: Vec<ServerReading> = view.entries.iter().map(reading).collect();
        (cluster.settings.name.as_str().into(), readings)
    });
    let interval_ms = u32::try_from(clock::saturating_millis(since_last)).unwrap_or(u32::MAX);
    balancer.history.lock().record(clock::unix_ms(), interval_ms, clusters);
}

fn reading(entry: &UpstreamServer) -> ServerReading {
    let server = &entry.server;
    let counters = &server.counters;
    ServerReading {
        server: entry.config.name.abbreviated().into(),
        answered: counters.answered(),
        failed: counters.failed(),
        failed_over: counters.failed_over.load(Relaxed),
        response_times: counters.response_times.counts(),
        in_flight: server.in_flight(),
        index: server.index(),
        state: server.state(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::cluster::Port;
    use crate::telemetry::history::MAX_SAMPLES;

    const CONF: &str = "
listeners: [{ address: 127.0.0.1:80 }]
admin: { history_interval: INTERVAL }
clusters:
- name: AcmeWeb
  servers:
    source: static
    list:
      - { name: Web1/Acme, hostname: web1.acme.example, http: 192.0.2.1:80 }
      - { name: Web2/Acme, hostname: web2.acme.example, http: 192.0.2.2:80 }
  directory: { source: static, databases: [{ path: a.nsf, replica_id: C1256A2F00310001, replicas: [{ server: Web1/Acme }] }] }
";
    const HOUR: Duration = Duration::from_secs(3_600);

    fn balancer(interval: &str) -> Arc<Balancer> {
        let text = CONF.replace("INTERVAL", interval);
        let loaded = crate::config::load_text(std::path::Path::new("icm.yaml"), &text);
        Arc::new(Balancer::new(Arc::new(loaded.unwrap().settings), vec![0; 32]).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn in_24_hours_nothing_is_kept_but_the_last_hour() {
        let balancer = balancer("10s");
        let _task = start(&balancer);
        tokio::time::sleep(HOUR - Duration::from_secs(5)).await;
        assert_eq!(balancer.history.lock().times_since(0).len(), MAX_SAMPLES - 1);
        for _ in 0..23 {
            tokio::time::sleep(HOUR).await;
            let history = balancer.history.lock();
            assert_eq!((history.times_since(0).len(), history.stored()), (MAX_SAMPLES, 2 * MAX_SAMPLES));
            assert_eq!(history.times_since(0).last().map(|time| time.interval_ms), Some(10_000));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_sample_has_the_requests_of_its_interval() {
        let balancer = balancer("1m");
        let web1 = Arc::clone(&balancer.snapshot().clusters[0].view.load().entries[0].server);
        web1.passive_success(Port::Http, Some(3_000));
        let _task = start(&balancer);
        tokio::time::sleep(Duration::from_secs(30)).await;
        (0..5).for_each(|_| web1.passive_success(Port::Http, Some(800_000)));
        tokio::time::sleep(Duration::from_secs(60)).await;
        let history = balancer.history.lock();
        let samples = history.last_samples("AcmeWeb", "Web1/Acme", 9);
        let shown: Vec<_> = samples.iter().map(|one| (one.answered, one.p99_micros())).collect();
        assert_eq!(shown.len(), 1);
        assert_eq!(shown[0].0, 5, "the request before the first reading is not among them");
        assert!((700_000..900_000).contains(&shown[0].1.unwrap()), "{shown:?}");
    }
}
