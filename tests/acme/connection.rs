//! One client connection to a simulated server: the loop over its requests, the counters, and every fault that is
//! visible in HTTP.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::AsyncWriteExt;

use crate::answer::{Answer, Content, Length};
use crate::cluster::{Cluster, PortKind, SimulatedServer};
use crate::executions::Record;
use crate::faults::{ConnectionEnd, Fault, FaultKind, FaultStage, RequestInfo};
use crate::http::{AnyStream, Framing, Head, HttpConnection, Received};
use crate::pages::{self, Request};
use crate::url::Url;
use crate::{clock, websocket};

/// How the connection ends: with FIN or with RST.
enum Ending {
    Close,
    Reset,
}

struct Connection {
    io: HttpConnection,
    server: Arc<SimulatedServer>,
    cluster: Arc<Cluster>,
    remote: SocketAddr,
    port: PortKind,
    number: u64,
    changes: tokio::sync::watch::Receiver<u64>,
}

/// Increments a counter until it is dropped.
struct CountGuard<'a>(&'a AtomicU64);

impl<'a> CountGuard<'a> {
    fn one(counter: &'a AtomicU64) -> CountGuard<'a> {
        counter.fetch_add(1, Relaxed);
        CountGuard(counter)
    }
}

impl Drop for CountGuard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

pub async fn run(
    stream: AnyStream,
    remote: SocketAddr,
    port: PortKind,
    server: Arc<SimulatedServer>,
    cluster: Arc<Cluster>,
) {
    let number = server.counters.connections.fetch_add(1, Relaxed) + 1;
    let counting = server.clone();
    let counted = CountGuard::one(&counting.counters.of(port).open);
    counting.counters.peak.fetch_max(counting.counters.open(), Relaxed);
    let changes = server.changes.subscribe();
    let mut connection =
        Connection { io: HttpConnection::new(stream), server, cluster, remote, port, number, changes };
    let end = tokio::select! {
        end = connection.serve() => end,
        () = counting.killed(port) => Ending::Reset,
    };
    match end {
        Ending::Reset => {
            let _ = connection.io.stream.socket().set_zero_linger();
            drop(connection);
            drop(counted);
        }
        Ending::Close => {
            drop(counted);
            connection.io.finish().await;
        }
    }
}

impl Connection {
    async fn serve(&mut self) -> Ending {
        let mut nth = 0;
        loop {
            let got = match self.next_head().await {
                Some(Ok(got)) => got,
                Some(Err(e)) if e.kind() == std::io::ErrorKind::InvalidData => {
                    return self.reject(&e.to_string()).await;
                }
                _ => return Ending::Close,
            };
            self.server.counters.requests.fetch_add(1, Relaxed);
            nth += 1;
            let head = match got {
                Received::Closed => return Ending::Close,
                Received::Fast => {
                    if self.io.send(&self.server.fast).await.is_err() {
                        return Ending::Close;
                    }
                    continue;
                }
                Received::Head(head) => head,
            };
            let server = self.server.clone();
            let counted = CountGuard::one(&server.counters.in_flight);
            let end = self.request(head, nth).await;
            drop(counted);
            if let Some(end) = end {
                return end;
            }
        }
    }

    /// Waits for a head. `None` means that the idle connection must be closed.
    async fn next_head(&mut self) -> Option<std::io::Result<Received>> {
        let _idle = CountGuard::one(&self.server.counters.of(self.port).idle);
        let fast = self.server.has_no_faults_or_limits.load(Relaxed);
        let limit = if fast { 0 } else { self.server.settings().keepalive_ms };
        let idle = async move {
            match limit {
                0 => std::future::pending().await,
                ms => tokio::time::sleep(Duration::from_millis(ms)).await,
            }
        };
        tokio::pin!(idle);
        loop {
            tokio::select! {
                biased;
                got = self.io.head(fast) => return Some(got),
                _ = self.changes.changed() => {
                    if self.server.port_fault(self.port).is_some_and(|f| f.kind == FaultKind::Refuse) {
                        // The control port responds to the patch when no connection is idle any more.
                        let _ = self.io.stream.shutdown().await;
                        return None;
                    }
                }
                () = &mut idle => return None,
            }
        }
    }

    /// Answers a malformed request.
    async fn reject(&mut self, why: &str) -> Ending {
        let page = Answer::html(400, format!("<h1>Error 400</h1>{why}\n"));
        let _ = self.io.send(&encode_answer(&page)).await;
        Ending::Close
    }

    /// Serves one request. `None` means that the connection stays open.
    async fn request(&mut self, head: Head, nth: u64) -> Option<Ending> {
        let url = Url::parse(&head.target);
        let rid = head.header("x-request-id").or(url.argument("rid")).map(str::to_owned);
        let name = self.server.name.abbreviated.clone();
        if let Some(rid) = &rid {
            self.cluster.executions.received(rid, &name);
        }
        let record = self.record(&head, nth);
        let outcome = |text: &str| *record.outcome.lock().unwrap() = Some(text.to_owned());

        // A hanging request ends at the next change; the change that caused it to hang does not count.
        self.changes.mark_unchanged();
        if let Some(fault) = self.server.port_fault(self.port) {
            if fault.kind == FaultKind::Refuse {
                outcome("refused");
                return Some(Ending::Close);
            }
            outcome("black hole");
            return Some(self.hang().await);
        }
        let fault = self.fault_for(&head, &url, nth);
        if let Some(fault) = &fault
            && let Some(end) = self.fault_at_head(fault, &head).await
        {
            outcome(&format!("fault {:?}", fault.kind));
            return Some(end);
        }

        let framing = match head.framing() {
            Ok(framing) => framing,
            Err(why) => {
                outcome("400");
                return Some(self.reject(why).await);
            }
        };
        if self.expects(&head, framing) && self.io.send(b"HTTP/1.1 100 Continue\r\n\r\n").await.is_err() {
            return Some(Ending::Close);
        }
        let body = self.io.body(framing, |n| *record.body_length.lock().unwrap() = Some(n)).await;
        let Ok(body) = body else {
            outcome("body incomplete");
            return Some(Ending::Close);
        };
        *record.body_length.lock().unwrap() = Some(body.length);
        if let Some(rid) = &rid {
            self.cluster.executions.executed(rid, &name, &head.method);
        }
        if head.names("upgrade", "websocket") {
            outcome("101");
            let ahead = self.io.take_buffer();
            websocket::serve(&mut self.io.stream, ahead, &head, &name).await;
            return Some(Ending::Close);
        }

        let request =
            Request { head, url, body, scheme: self.scheme(), remote: self.remote, rid, not_found: false };
        let (result, ending) = self.respond(request, fault.as_ref(), nth).await;
        outcome(&result);
        ending
    }

    /// Answers a complete request. Returns the outcome, and how the connection ends if it does.
    async fn respond(
        &mut self,
        mut request: Request,
        fault: Option<&Fault>,
        nth: u64,
    ) -> (String, Option<Ending>) {
        if let Some(fault) = fault
            && let Some(end) = self.fault_at_body(fault, &mut request).await
        {
            return (format!("fault {:?}", fault.kind), Some(end));
        }
        let mut answer = match fault {
            Some(fault) if fault.kind == FaultKind::Status => error_answer(fault),
            _ => pages::answer(&self.cluster, &self.server, &request),
        };
        answer.headers.push(("X-Acme-Server".to_owned(), self.server.name.abbreviated.clone()));
        if answer.work_ms > 0 {
            self.server.work(answer.work_ms).await;
        }
        if answer.delay_ms > 0 {
            tokio::time::sleep(Duration::from_millis(answer.delay_ms)).await;
        }
        let settings = self.server.settings();
        answer.clock_skew_ms = settings.clock_skew_ms;
        let limit = settings.max_requests;
        let keep = request.head.keep_alive() && (limit == 0 || nth < limit);
        match self.io.answer(&answer, &request.head, keep).await {
            Ok(true) => (answer.status.to_string(), None),
            Ok(false) => (answer.status.to_string(), Some(Ending::Close)),
            Err(e) => (format!("{} not sent: {e}", answer.status), Some(Ending::Close)),
        }
    }

    fn fault_for(&self, head: &Head, url: &Url, nth: u64) -> Option<Fault> {
        if self.server.has_no_faults_or_limits.load(Relaxed) {
            return None;
        }
        self.server.fault(&RequestInfo {
            port: self.port,
            method: &head.method,
            path: &url.path,
            background: is_background(&self.cluster, url),
            nth,
        })
    }

    fn scheme(&self) -> &'static str {
        if self.port == PortKind::Https { "https" } else { "http" }
    }

    fn expects(&self, head: &Head, framing: Framing) -> bool {
        head.version == 1 && framing != Framing::Length(0) && head.names("expect", "100-continue")
    }

    fn record(&self, head: &Head, nth: u64) -> Arc<Record> {
        let record = Arc::new(Record {
            seq: self.server.counters.requests.load(Relaxed),
            time_ms: clock::now_ms(),
            server: self.server.name.abbreviated.clone(),
            scheme: self.scheme(),
            remote: self.remote.to_string(),
            connection: self.number,
            nth,
            method: head.method.clone(),
            target: head.target.clone(),
            version: format!("HTTP/1.{}", head.version),
            headers: head.headers.clone(),
            body_length: Mutex::new(None),
            outcome: Mutex::new(None),
        });
        self.server.log.add(record.clone());
        record
    }

    /// Applies the faults that act before the body is read.
    async fn fault_at_head(&mut self, fault: &Fault, head: &Head) -> Option<Ending> {
        match fault.kind {
            FaultKind::ResetOnReuse => Some(Ending::Reset),
            FaultKind::Reset if fault.at == FaultStage::Head => Some(Ending::Reset),
            FaultKind::Close if fault.at == FaultStage::Head => Some(Ending::Close),
            FaultKind::EarlyResponse => {
                let _ = self.io.send(&encode_answer(&error_answer(fault))).await;
                Some(if fault.end == ConnectionEnd::Rst { self.pause().await } else { Ending::Close })
            }
            FaultKind::StallUpload => {
                if head.names("expect", "100-continue") {
                    let _ = self.io.send(b"HTTP/1.1 100 Continue\r\n\r\n").await;
                }
                self.io.discard(fault.after.unwrap_or(0)).await;
                let _ = self.changes.changed().await;
                Some(Ending::Reset)
            }
            _ => None,
        }
    }

    /// Applies the faults that act after the whole request was read, so after it counts as executed.
    async fn fault_at_body(&mut self, fault: &Fault, request: &mut Request) -> Option<Ending> {
        if fault.at == FaultStage::Saved {
            let _ = pages::answer(&self.cluster, &self.server, request);
        }
        match fault.kind {
            FaultKind::Reset => Some(Ending::Reset),
            FaultKind::Close => Some(Ending::Close),
            FaultKind::Hang => Some(self.hang().await),
            FaultKind::Slow => {
                tokio::time::sleep(Duration::from_millis(fault.delay_ms)).await;
                None
            }
            FaultKind::NotFound => {
                request.not_found = true;
                None
            }
            FaultKind::Garbage => {
                let _ = self.io.send(b"\x00\x01SSH-2.0-not-http\r\n\r\n").await;
                Some(Ending::Close)
            }
            FaultKind::DieMidHeader => {
                let _ = self.io.send(b"HTTP/1.1 200 OK\r\nServer: Lotus-Domino\r\nContent-Ty").await;
                Some(self.end(fault.end).await)
            }
            FaultKind::DieMidBody => {
                let mut page = pages::answer(&self.cluster, &self.server, request);
                page.headers.push(("X-Acme-Server".to_owned(), self.server.name.abbreviated.clone()));
                page.body = Content::Fill(fault.size);
                page.chunked = fault.chunked;
                let after = fault.after.unwrap_or(fault.size / 2).min(fault.size);
                let mut out = page.head(if fault.chunked { Length::Chunked } else { Length::Known }, true);
                if fault.chunked && after > 0 {
                    out.extend_from_slice(format!("{after:x}\r\n").as_bytes());
                }
                page.body.copy_to(0, after, &mut out);
                if fault.chunked && after > 0 {
                    out.extend_from_slice(b"\r\n");
                }
                let _ = self.io.send(&out).await;
                Some(self.end(fault.end).await)
            }
            _ => None,
        }
    }

    /// Sends nothing until the peer closes or the faults change.
    async fn hang(&mut self) -> Ending {
        tokio::select! {
            () = self.io.discard(usize::MAX) => {}
            _ = self.changes.changed() => {}
        }
        Ending::Close
    }

    /// An RST discards what is still in the send queue, so wait until it was sent.
    async fn pause(&self) -> Ending {
        tokio::time::sleep(Duration::from_millis(30)).await;
        Ending::Reset
    }

    async fn end(&self, how: ConnectionEnd) -> Ending {
        match how {
            ConnectionEnd::Fin => Ending::Close,
            ConnectionEnd::Rst => self.pause().await,
        }
    }
}

/// A complete response that ends the connection.
fn encode_answer(answer: &Answer) -> Vec<u8> {
    let mut out = answer.head(Length::Known, false);
    answer.body.copy_to(0, answer.body.len(), &mut out);
    out
}

fn error_answer(fault: &Fault) -> Answer {
    let text = format!("<h1>Error {}</h1>HTTP Web Server: fault {:?}\n", fault.status, fault.kind);
    let page = Answer::html(fault.status, text);
    match fault.retry_after {
        Some(seconds) => page.with_header("Retry-After", seconds.to_string()),
        None => page,
    }
}

/// Requests that a load balancer sends for itself; only faults with `probe` or a matching `path` affect them.
fn is_background(cluster: &Cluster, url: &Url) -> bool {
    let probe = Url::parse(&cluster.scenario.probe_path);
    let statistics = |db: &str| ["icmstat.nsf", "icm.nsf"].iter().any(|name| db.eq_ignore_ascii_case(name));
    (url.raw_path == probe.raw_path && url.query == probe.query)
        || url.is("ReadViewEntries")
        || url.database.as_deref().is_some_and(statistics)
}

/// The prepared response for `/fast`: 1 KiB.
pub fn fast_answer(server: &str) -> Vec<u8> {
    let mut page = Answer::new(200, "text/plain", Vec::new()).with_header("X-Acme-Server", server);
    page.body = Content::Fill(1024);
    let mut out = page.head(Length::Known, true);
    page.body.copy_to(0, 1024, &mut out);
    out
}
