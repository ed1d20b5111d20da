//! A server's statistics in the four forms that a load balancer can read: Prometheus text, console text, HAProxy's
//! agent-check line, and Domino's push. The texts have the shape of the originals.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::answer::Answer;
use crate::clock;
use crate::cluster::SimulatedServer;
use crate::http::{AnyStream, HttpConnection, Received};
use crate::replication;

/// The expansion factor of an index in the default range: `2^((100 - index) / 100 * 6)`.
fn expansion(index: f64) -> f64 {
    2_f64.powf((100.0 - index) / 100.0 * 6.0)
}

fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A whole number as the console prints it: `1,204`.
fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The numeric statistics with Domino's names.
fn statistics(server: &SimulatedServer) -> Vec<(String, String)> {
    let (s, _) = server.published();
    let mut all = Vec::new();
    let mut add = |name: &str, value: String| all.push((name.to_owned(), value));
    if let Some(index) = s.index {
        add("Server.AvailabilityIndex", number(index));
    }
    add("Server.AvailabilityThreshold", s.threshold.to_string());
    if let Some(index) = s.index {
        add("Server.ExpansionFactor", number(expansion(index)));
    }
    add("Server.Users", s.users.to_string());
    add("Server.Trans.PerMinute", "1204".to_owned());
    add("Http.CurrentConnections", server.counters.open().to_string());
    add("Server.Cluster.OpenRequest.LoadBalanced", "42".to_owned());
    let replica = replication::statistics(server);
    if !replica.is_empty() {
        add("Server.BootID", server.replicator.lock().unwrap().boot_id.to_string());
    }
    all.extend(replica.into_iter().map(|(name, value)| (name, value.to_string())));
    all
}

/// The exporter's text, reduced if `shutdown` is set.
pub fn prometheus(server: &SimulatedServer) -> String {
    let (s, published_at) = server.published();
    let mut out = String::new();
    let mut gauge = |name: &str, help: &str, value: String| {
        out.push_str(&format!("# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}\n"));
    };
    let now = if s.frozen { server.frozen_at.load(Relaxed) } else { published_at.unwrap_or_else(clock::now) };
    let now = now.saturating_add_signed(s.clock_skew_ms / 1000);
    if !s.shutdown {
        for (name, value) in statistics(server) {
            gauge(&format!("Domino_{}", name.replace('.', "_")), &format!("Domino Stat - {name}"), value);
        }
    }
    let updated = "Domino Statistic last update epoch time";
    gauge("DominoHealth_stat_update_timestamp", updated, now.to_string());
    if s.maintenance {
        for (end, at) in [("start", now.saturating_sub(900)), ("end", now + 6300)] {
            let name = format!("DominoHealth_maintenance_{end}_timestamp");
            let which = if end == "start" { "Start" } else { "End" };
            let help =
                format!("{which} of maintenance window in epoch time ({})", clock::format_exporter(at));
            gauge(&name, &help, at.to_string());
        }
    }
    gauge(
        "DominoHealth_maintenance_status",
        "Domino maintenance status",
        u8::from(s.maintenance).to_string(),
    );
    let help = "Domino server restricted status (notes.ini server_restricted)";
    gauge("DominoHealth_server_restricted_status", help, s.restricted.to_string());
    if s.shutdown {
        let help = "Domino statistic shutdown epoch time";
        gauge("DominoHealth_stat_shutdown_timestamp", help, (now + 3).to_string());
    } else {
        let state = if s.restricted > 0 {
            1
        } else if s.busy() {
            2
        } else {
            0
        };
        let help = "State (0=Available, 1=Restricted, 2=Busy, 3=Not reachable)";
        gauge("DominoHealth_state", help, state.to_string());
        let help = "Domino NSPing (NRPC) response time (seconds)";
        gauge("DominoHealth_ping_latency_seconds", help, "0.001".into());
        let help = "Domino response time opening names.nsf over NRPC (seconds)";
        gauge("DominoHealth_response_time_seconds", help, "0.004".into());
    }
    out
}

/// The output of `show stat server`, with the administrator's extra lines if `recipe` is set.
pub fn console(server: &SimulatedServer) -> String {
    let (s, _) = server.published();
    let mut lines = Vec::new();
    let mut add = |name: &str, value: &str| lines.push(format!("  {name} = {value}"));
    let replica = replication::statistics(server);
    for (name, value) in &replica {
        add(name, &grouped(*value));
    }
    if let Some(index) = s.index {
        add("Server.AvailabilityIndex", &number(index));
    }
    add("Server.AvailabilityThreshold", &s.threshold.to_string());
    if !replica.is_empty() {
        add("Server.BootID", &grouped(server.replicator.lock().unwrap().boot_id.into()));
    }
    add("Server.BusyTimeQuery.ReceivedCount", "0");
    add("Server.Cluster.OpenRedirects.Failover.Successful", "12");
    add("Server.Cluster.OpenRedirects.FailoverByPath.Unsuccessful", "0");
    add("Server.Cluster.OpenRequest.ClusterBusy", "0");
    add("Server.Cluster.OpenRequest.LoadBalanced", "42");
    add("Server.CPU.Count", "8");
    if let Some(index) = s.index {
        add("Server.ExpansionFactor", &number(expansion(index)));
    }
    add("Server.MailBoxes", "2");
    add("Server.Name", &server.name.abbreviated);
    add("Server.Task", "HTTP Server: Listen for connect requests on TCP Port:80 443");
    add("Server.Trans.PerMinute", "1,204");
    add("Server.Users", &s.users.to_string());
    add("Server.Users.Peak", "310");
    if s.recipe {
        add("Server_Restricted", &s.restricted.to_string());
        add("Server_MaxUsers", &s.maxusers.to_string());
        add("Server_Availability_Threshold", &s.threshold.to_string());
    }
    format!("> show stat server\n{}\n  {} statistics found\n", lines.join("\n"), lines.len())
}

pub fn agent_line(server: &SimulatedServer) -> String {
    let (s, _) = server.published();
    if let Some(line) = &s.agent {
        return line.clone();
    }
    let index = s.index.map(|i| format!(" {}%", i.round())).unwrap_or_default();
    match (s.maintenance, s.restricted > 0) {
        (true, _) => format!("up maint{index}"),
        (false, true) => format!("up drain{index}"),
        (false, false) => format!("up ready{index}"),
    }
}

/// Serves one connection to the agent-check port: sends the line and closes.
pub async fn agent_check(mut stream: TcpStream, server: &SimulatedServer) {
    if server.settings().agent_check {
        let line = format!("{}\n", agent_line(server));
        let _ = stream.write_all(line.as_bytes()).await;
    }
    let _ = stream.shutdown().await;
    // An unread line from the load balancer (agent-send) would turn the FIN into an RST.
    let mut sink = [0_u8; 256];
    let _ = tokio::time::timeout(Duration::from_millis(500), stream.read(&mut sink)).await;
}

/// Serves one connection to the metrics port.
pub async fn metrics(stream: TcpStream, server: &SimulatedServer) {
    let mut io = HttpConnection::new(AnyStream::Plain(stream));
    while let Ok(Received::Head(head)) = io.head(false).await {
        let path = head.target.split('?').next().unwrap_or("");
        let mut answer = match path == "/metrics" && server.settings().prometheus {
            true => Answer::new(200, "text/plain; version=0.0.4; charset=utf-8", prometheus(server)),
            false => Answer::new(404, "text/plain", "not found\n"),
        };
        answer.clock_skew_ms = server.settings().clock_skew_ms;
        if !io.answer(&answer, &head, head.keep_alive()).await.unwrap_or(false) {
            break;
        }
    }
    io.finish().await;
}

/// The body of a push: one statistic per line, as in the sample's STATPUB_METRIC_FORMAT.
pub fn push_body(server: &SimulatedServer) -> String {
    let mut out = String::new();
    for (name, value) in statistics(server) {
        out.push_str(&format!("Domino.{name} {value}\n"));
    }
    out.push_str(&format!("Domino.Server.Name {}\n", server.name.abbreviated));
    out.push_str("Domino.Rate.Domino.Command.OpenDocument 310\n");
    out
}

/// Pushes statistics in the interval and to the URL of the settings.
pub async fn push_loop(server: Arc<SimulatedServer>) {
    let mut last: Option<(Instant, String)> = None;
    loop {
        let s = server.settings();
        if let Some(url) = s.statpub_url.as_deref().filter(|_| s.statpub && !server.is_down()) {
            let interval = Duration::from_millis(s.statpub_interval_ms.max(50));
            let due = last.as_ref().is_none_or(|(at, to)| to != url || at.elapsed() >= interval);
            if due {
                last = Some((Instant::now(), url.to_owned()));
                let _ = push_now(&server).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Pushes once, and returns the receiver's status.
pub async fn push_now(server: &SimulatedServer) -> Result<u16, String> {
    if server.is_down() {
        return Err("the server is down".into());
    }
    let pushed = tokio::time::timeout(Duration::from_secs(5), post(server)).await;
    let result = pushed.unwrap_or_else(|_| Err("no answer within 5 s".into()));
    let counter = match result {
        Ok(200..=299) => &server.counters.pushed,
        _ => &server.counters.push_failed,
    };
    counter.fetch_add(1, Relaxed);
    result
}

async fn post(server: &SimulatedServer) -> Result<u16, String> {
    let s = server.settings();
    let url = s.statpub_url.as_deref().ok_or("no statpub_url")?.replace("{name}", &server.name.common);
    let rest = url.strip_prefix("http://").ok_or_else(|| format!("{url}: not an http URL"))?;
    let (authority, path) = rest.split_once('/').map_or((rest, ""), |(a, p)| (a, p));
    let with_port = if authority.contains(':') { authority.to_owned() } else { format!("{authority}:80") };
    let to = tokio::net::lookup_host(&with_port)
        .await
        .map_err(|e| format!("{authority}: {e}"))?
        .find(|a| a.is_ipv4() == server.address.is_ipv4())
        .ok_or_else(|| format!("{authority}: no address"))?;
    // The receiver checks the sender's address, so use the server's own.
    let socket =
        if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.map_err(|e| e.to_string())?;
    socket.bind(SocketAddr::new(server.address, 0)).map_err(|e| e.to_string())?;
    let mut stream = socket.connect(to).await.map_err(|e| format!("{to}: {e}"))?;
    let body = push_body(server);
    let token =
        s.statpub_token.as_ref().map(|t| format!("Authorization: Bearer {t}\r\n")).unwrap_or_default();
    let request = format!(
        "POST /{path} HTTP/1.1\r\nHost: {authority}\r\n{token}Content-Type: text/plain\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.map_err(|e| e.to_string())?;
    let mut reply = [0_u8; 512];
    let n = stream.read(&mut reply).await.map_err(|e| e.to_string())?;
    let reply = String::from_utf8_lossy(&reply[..n]).into_owned();
    reply.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or_else(|| format!("{to}: no HTTP answer"))
}
