//! What a line says, as plain data.
//!
//! In: a request that has ended, or that was refused before it was one. Out: fields, borrowed from it. It formats
//! nothing.

use std::net::IpAddr;
use std::time::Duration;

use http::{HeaderName, Version, header};
use pingora::{Error, ErrorSource};
use pingora_proxy::Session;
use smallvec::SmallVec;

use crate::domain::directory::ReplicaId;
use crate::domain::select::Outcome;
use crate::proxy::ctx::Ctx;
use crate::util::clock::whole_ms;

/// One request; empty or `None` where there is nothing to say.
#[derive(Debug, Default)]
pub struct Record<'a> {
    /// The client's address, as a trusted proxy gave it where there is one.
    pub client: Option<IpAddr>,
    /// `GET`
    pub method: &'a str,
    /// The Host as the client wrote it.
    pub host: &'a [u8],
    /// Path and query as the client wrote them.
    pub target: &'a [u8],
    /// `HTTP/1.1`
    pub protocol: Version,
    /// What the client saw; 499 when it left before that, 0 when there was nothing to see.
    pub status: u16,
    /// Octets of the answer's body that were sent.
    pub sent: u64,
    /// Octets of the request's body that came.
    pub received: u64,
    /// As the client wrote it.
    pub referer: &'a [u8],
    /// As the client wrote it.
    pub user_agent: &'a [u8],
    /// Which cluster took it.
    pub cluster: Option<&'a str>,
    /// Path and replica ID, where the directory knows the database.
    pub database: Option<(&'a str, ReplicaId)>,
    /// The server that answered, or was the last to be asked.
    pub server: Option<Server<'a>>,
    /// All attempts in turn with what became of them; `None` = an answer that was passed on.
    pub attempts: SmallVec<[(&'a str, Option<&'static str>); 3]>,
    /// Why this server, or why none.
    pub why: &'static str,
    /// Which page of ours was the answer.
    pub page: Option<&'static str>,
    /// Milliseconds from the head to the answer's first octet.
    pub first_byte_ms: Option<u64>,
    /// Milliseconds from the head to the end.
    pub total_ms: u64,
}

/// A server as it was when it was chosen.
#[derive(Clone, Copy, Debug)]
pub struct Server<'a> {
    /// `Web1/Acme`
    pub name: &'a str,
    /// `AVAILABLE`
    pub state: &'static str,
    /// 0..=100
    pub index: Option<f32>,
}

impl<'a> Record<'a> {
    /// Of a request that has ended, and how long that took from its head.
    #[must_use]
    pub fn of(session: &'a Session, error: Option<&Error>, ctx: &'a Ctx, took: Duration) -> Self {
        let head = session.req_header();
        let value = |name: &HeaderName| head.headers.get(name).map(|v| v.as_bytes()).unwrap_or_default();
        let routed = ctx.routed.as_ref();
        let host = match routed {
            Some(routed) => routed.authority.as_bytes(),
            None => match head.uri.authority() {
                Some(authority) => authority.as_str().as_bytes(),
                None => value(&header::HOST),
            },
        };
        let server = ctx.attempt.as_ref().map(|attempt| Server {
            name: attempt.in_flight.member().name().abbreviated(),
            state: attempt.state.word(),
            index: attempt.index,
        });
        Self {
            client: ctx.client,
            method: head.method.as_str(),
            host,
            target: head.raw_path(),
            protocol: head.version,
            status: status(session, error),
            sent: session.body_bytes_sent() as u64,
            received: session.body_bytes_read() as u64,
            referer: value(&header::REFERER),
            user_agent: value(&header::USER_AGENT),
            cluster: ctx.cluster().map(|cluster| cluster.settings.name.as_str()),
            database: routed.and_then(|routed| {
                let database = routed.view.directory.index.database(routed.found.as_ref()?.database);
                Some((database.path(), database.replica_id()))
            }),
            server,
            attempts: attempts(ctx, server),
            why: why(ctx),
            page: ctx.problem.as_ref().map(crate::pages::Problem::word),
            first_byte_ms: ctx.first_byte.map(whole_ms),
            total_ms: whole_ms(took),
        }
    }
}

/// The status that the client saw; 499 when it left before there was one.
#[must_use]
pub fn status(session: &Session, error: Option<&Error>) -> u16 {
    match session.response_written() {
        Some(head) => head.status.as_u16(),
        None if error.is_some_and(|e| *e.esource() == ErrorSource::Downstream) => 499,
        None => 0,
    }
}

fn attempts<'a>(ctx: &'a Ctx, last: Option<Server<'a>>) -> SmallVec<[(&'a str, Option<&'static str>); 3]> {
    let mut attempts = SmallVec::new();
    if let Some(routed) = &ctx.routed {
        attempts.extend(ctx.failures.iter().map(|(member, failure)| {
            let name = routed.view.entry(*member).map_or("", |entry| entry.server.name.abbreviated());
            (name, Some(failure.word()))
        }));
    }
    attempts.extend(last.map(|server| (server.name, ctx.last_failure.map(|failure| failure.word()))));
    attempts
}

fn why(ctx: &Ctx) -> &'static str {
    if let Some(attempt) = &ctx.attempt {
        return attempt.why.word();
    }
    if let Some(own) = ctx.own {
        return own;
    }
    match (ctx.outcome, &ctx.problem) {
        (Some(Outcome::Serve(_, why)), None) => why.word(),
        (Some(Outcome::Full), _) => "full",
        (Some(Outcome::NoteIdServerGone), _) => "note_id",
        (Some(Outcome::OutOfService), _) => "out_of_service",
        (Some(Outcome::NoServer), _) => "no_server",
        (_, Some(problem)) => problem.word(),
        (None, None) => "-",
    }
}
