//! The state of one request, from its head to its log line.
//!
//! In: routing fills in what the request names, each attempt who is asked. Out: what failover, headers, the
//! affinity cookie and the access log need. Dropping it ends whatever is still counted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use crate::domain::affinity::{Entries, Entry};
use crate::domain::cluster::availability::RequestClass;
use crate::domain::cluster::{InFlight, Port, ServerState};
use crate::domain::directory::{Found, Holder, ServerIx};
use crate::domain::select::{Hint, MemberIx, Outcome, Why};
use crate::domain::url::Class;
use crate::edge::login_connections::Login;
use crate::edge::places::Place;
use crate::edge::waiting::WaitingAnswer;
use crate::pages::Problem;
use crate::state::view::Exchange;
use crate::state::{Cluster, Snapshot, View};
use crate::telemetry::statistics::InProgress;
use crate::upstream::deadline::{self, Due};
use crate::upstream::tunnel;
use crate::upstream::usage::{self, Usage};
use crate::util::descriptor::Descriptor;

/// See the module's description.
#[derive(Debug)]
pub struct Ctx {
    /// When the head was read.
    pub started: Instant,
    /// Counted until it is over.
    pub in_progress: Option<InProgress>,
    /// Among the requests of its client.
    pub place: Option<Place>,
    /// Its answer's bytes that wait for an HTTP/2 client.
    pub waiting: Option<Arc<WaitingAnswer>>,
    /// What the request names; `None` when it was answered before that was clear.
    pub routed: Option<Box<Routed>>,
    /// The server that is being asked, or that answered.
    pub attempt: Option<Attempt>,
    /// Servers that are out for this request.
    pub tried: SmallVec<[MemberIx; 4]>,
    /// What went wrong with the attempt that nothing followed.
    pub last_failure: Option<Failure>,
    /// What became of earlier attempts.
    pub failures: SmallVec<[(MemberIx, Failure); 2]>,
    /// Chosen while the failure of the last attempt was handled.
    pub next: Option<(MemberIx, Why)>,
    /// A pooled connection to this server had died: it is asked on a new one, as the pool may hold
    /// more of the same age.
    pub fresh: Option<MemberIx>,
    /// Pooled connections that were unfit for this request.
    pub unfit: u32,
    /// The client's connection carries a login, and has connections to servers of its own.
    pub login: Option<Login>,
    /// The connection of a tunnel.
    pub tunnel: Option<Arc<tunnel::Connect>>,
    /// Answers and deaths so far; failed connects do not count.
    pub attempts: u32,
    /// A timeout was replayed already.
    pub replayed_timeout: bool,
    /// A supposed holder said 404 and another was asked.
    pub doubted: bool,
    /// The client's octets of the request's body that were passed on in this attempt.
    pub body_bytes: u64,
    /// Who answered for a request that was not routed on.
    pub answered_by: Option<Arc<Cluster>>,
    /// Why an answer of ours that is no problem's page was given: `choice`, `list`, `https`.
    pub own: Option<&'static str>,
    /// A connection to a server carries this request; `true` = by TLS.
    pub outbound: Option<bool>,
    /// Why a page of ours is the answer.
    pub problem: Option<Problem>,
    /// From the head to the first octet of the answer.
    pub first_byte: Option<Duration>,
    /// The client's address as logged and forwarded.
    pub client: Option<std::net::IpAddr>,
    /// Reads the same as the access log.
    pub outcome: Option<Outcome>,
}

/// What the request names and whose it is.
#[derive(Debug)]
pub struct Routed {
    /// One snapshot for the whole request.
    pub snapshot: Arc<Snapshot>,
    /// Where it goes.
    pub cluster: Arc<Cluster>,
    /// One view for the whole request.
    pub view: Arc<View>,
    /// The client came by TLS, or a trusted proxy says so.
    pub tls: bool,
    /// The port by which servers are reached.
    pub port: Port,
    /// How long the server may be silent.
    pub exchange: Exchange,
    /// The database, when the directory knows it.
    pub found: Option<Found>,
    /// Tag of the database in the affinity cookie; also for one that the directory does not know.
    pub database_tag: Option<u32>,
    /// Where the database part stands in the target.
    pub database_range: std::ops::Range<usize>,
    /// What the request does to data.
    pub class: Class,
    /// With which others its time may be compared.
    pub request_class: RequestClass,
    /// The URL names a document by NoteID.
    pub note_id: bool,
    /// The user's entries, as the cookies said.
    pub entries: Entries,
    /// The affinity cookie came along.
    pub has_affinity: bool,
    /// So did the cookie of a login, which the affinity cookie takes up now.
    pub has_login: bool,
    /// That login, while its server can take the user.
    pub login: Option<Entry>,
    /// The server of the entry for this database.
    pub entry: Option<MemberIx>,
    /// The server that another entry speaks for.
    pub hint: Option<(MemberIx, Hint)>,
    /// The database of that entry.
    pub hinted: Option<Found>,
    /// The server of the most recent entry.
    pub recent: Option<MemberIx>,
    /// Where the user has a session of which no entry tells.
    pub sessions: SmallVec<[MemberIx; 4]>,
    /// The `Cookie` lines hold what no server, or not every server may see, or are several.
    pub rewrites_cookies: bool,
    /// The head has fields that end at this hop, beside `Connection` and `Upgrade`.
    pub has_fields_of_this_hop: bool,
    /// The URL ends the user's session.
    pub is_logout: bool,
    /// The Host as the client wrote it.
    pub authority: Box<str>,
}

impl Routed {
    /// What a member holds of the database that the URL names.
    #[must_use]
    pub fn holder(&self, member: MemberIx) -> Option<Holder<'_>> {
        self.view.holder(self.found.as_ref()?, member)
    }

    /// The request must name this holder's path instead of what the client wrote. A replica ID stays where the
    /// server has several copies: which one, it decides itself.
    #[must_use]
    pub fn replaces_path(&self, holder: &Holder<'_>) -> bool {
        if self.found.is_some_and(|found| found.path.is_some()) {
            !holder.same_path
        } else {
            holder.copies == 1
        }
    }
}

/// One server being asked.
#[derive(Debug)]
pub struct Attempt {
    /// Who.
    pub member: MemberIx,
    /// Ends with the attempt.
    pub in_flight: InFlight,
    /// Why this one.
    pub why: Why,
    /// Its state when it was chosen.
    pub state: ServerState,
    /// Its index when it was chosen.
    pub index: Option<f32>,
    /// The holder in the directory, for the 404 rule.
    pub holder: Option<ServerIx>,
    /// The path must be replaced by the holder's.
    pub replace_path: bool,
    /// When it was chosen.
    pub started: Instant,
    /// The connection came from the pool.
    pub reused: bool,
    /// The connection, once there is one.
    pub connection: Option<Descriptor>,
    /// How it was used before.
    pub usage: Option<Usage>,
    /// How long the server may be silent within the body, milliseconds; 0 = for ever.
    pub body_timeout_ms: u64,
    /// The head of the answer, or more of its body.
    pub due: Option<Due>,
    /// The connection is of no use to others once the answer has ended.
    pub close_at_end: bool,
    /// The answer's final header arrived.
    pub answered: bool,
}

impl Attempt {
    /// Ends the connection.
    pub fn cut(&self) {
        if let Some(connection) = self.connection {
            connection.cut();
        }
    }

    /// It was cut because the server did not go on in time.
    #[must_use]
    pub fn is_overdue(&self) -> bool {
        self.connection.is_some_and(deadline::has_passed)
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if let Some(due) = self.due {
            due.clear();
        }
        // Without an answer it is not kept, and its number may stand for another one already.
        if let Some(connection) = self.connection.filter(|_| self.answered) {
            usage::end(connection, crate::util::clock::now_ms());
        }
    }
}

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nothing was sent.
    Connect,
    /// It died or reset before the answer's header.
    Broken,
    /// The header did not come in time.
    Timeout,
    /// It answered with a status that tries the next.
    Status(u16),
    /// It said 404 though the directory calls it a holder.
    NotFound,
    /// It answered, but not in HTTP: that follows the request, not the server.
    Malformed,
}

impl Failure {
    /// One word for the access log and metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Broken => "broken",
            Self::Timeout => "timeout",
            Self::Status(_) => "status",
            Self::NotFound => "not_found",
            Self::Malformed => "malformed response",
        }
    }
}

impl Ctx {
    /// At the head of a request.
    #[must_use]
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
            in_progress: None,
            place: None,
            waiting: None,
            routed: None,
            attempt: None,
            tried: SmallVec::new(),
            last_failure: None,
            failures: SmallVec::new(),
            next: None,
            fresh: None,
            unfit: 0,
            login: None,
            tunnel: None,
            attempts: 0,
            replayed_timeout: false,
            doubted: false,
            body_bytes: 0,
            answered_by: None,
            own: None,
            outbound: None,
            problem: None,
            first_byte: None,
            client: None,
            outcome: None,
        }
    }

    /// The cluster that took the request.
    #[must_use]
    pub fn cluster(&self) -> Option<&Arc<Cluster>> {
        self.routed.as_ref().map(|routed| &routed.cluster).or(self.answered_by.as_ref())
    }

    /// The server's head cannot be forwarded: the answer is a 502, which follows the request and not the server.
    pub fn malformed_response(&mut self, cause: super::response_validation::MalformedResponse) {
        if let Some(attempt) = &self.attempt {
            super::ends::note_malformed(attempt.in_flight.member(), &cause);
        }
        self.last_failure = Some(Failure::Malformed);
        self.problem = Some(Problem::MalformedResponse);
    }

    /// Ends the current attempt, so that its server is free for another request.
    pub fn end_attempt(&mut self) -> Option<MemberIx> {
        if let (Some(tls), Some(progress)) = (self.outbound.take(), &self.in_progress) {
            progress.statistics().outbound.end(tls);
        }
        let attempt = self.attempt.take()?;
        let capped = attempt.in_flight.member().view().max_connections > 0;
        let member = attempt.member;
        drop(attempt);
        if let Some(routed) = &self.routed
            && (capped || routed.cluster.rules.max_in_flight > 0)
        {
            // All who wait: the first of them may not be able to use this server.
            routed.cluster.kept.place_free.notify_waiters();
        }
        Some(member)
    }
}

impl Default for Ctx {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Ctx {
    fn drop(&mut self) {
        self.end_attempt();
    }
}
