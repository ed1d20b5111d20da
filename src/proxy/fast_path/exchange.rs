//! One exchange with a server: the request is written, and the response passes to the client while it arrives. Every read
//! also watches the client, so that a server is free when its client has left.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use bytes::Bytes;
use http::{Method, Version};
use pingora::protocols::http::HttpTask;
use pingora::{Error, ErrorType, Result};
use pingora_proxy::Session;

use super::request_head;
use crate::proxy::ctx::Ctx;
use crate::proxy::{Proxy, response_body, response_deadline};
use crate::upstream::connection::UpstreamConnection;
use crate::upstream::response_body::{BodyDecoder, BodyFraming, BodyPiece};
use crate::upstream::response_head::{RawResponseHead, ResponseField, ResponseHead};

impl Proxy {
    /// Sends the request and passes the response on. True if the connection can carry another request.
    pub(super) async fn exchange(
        &self,
        session: &mut Session,
        ctx: &mut Ctx,
        connection: &mut UpstreamConnection,
        body: &Bytes,
    ) -> Result<bool> {
        send(session, ctx, connection, body).await?;
        let (mut head, keeps_alive) = loop {
            let mut head = receive_head(session, connection).await?;
            let keeps_alive = keeps_alive(&head);
            self.response_head_received(session, &mut head.0, ctx)?;
            if !head.status().is_informational() {
                break (head, keeps_alive);
            }
            let interim = HttpTask::Header(head.to_pingora()?, false);
            session.write_response_tasks(vec![interim]).await.map_err(Error::into_down)?;
        };
        let framing = BodyFraming::of(&head, session.req_header().method == Method::HEAD);
        if framing == BodyFraming::UntilClose {
            // The client's connection stays open.
            head.append(ResponseField::TransferEncoding, b"chunked")?;
        }
        pass_response(session, ctx, connection, &head, framing).await?;
        let is_shared = ctx.attempt.as_ref().is_some_and(|attempt| !attempt.close_at_end);
        Ok(keeps_alive && is_shared && framing != BodyFraming::UntilClose && connection.received.is_empty())
    }
}

async fn send(
    session: &Session,
    ctx: &mut Ctx,
    connection: &mut UpstreamConnection,
    body: &Bytes,
) -> Result<()> {
    let (Some(routed), Some(attempt)) = (&ctx.routed, &ctx.attempt) else {
        return Error::err(ErrorType::InternalError);
    };
    let head = request_head::write(session.req_header(), routed, attempt, ctx.client)?;
    let timeout = routed.cluster.settings.failover.response_timeout;
    ctx.body_bytes = body.len() as u64;
    connection.write_all(&head, body, Some(timeout)).await.map_err(Error::into_up)?;
    response_deadline::expect_head(ctx);
    Ok(())
}

async fn receive_head(session: &mut Session, connection: &mut UpstreamConnection) -> Result<RawResponseHead> {
    loop {
        let parsed = RawResponseHead::take(&mut connection.received);
        let parsed = parsed.map_err(|e| {
            Error::because(ErrorType::InvalidHTTPHeader, "in the head of a response", e).into_up()
        });
        if let Some(head) = parsed? {
            return Ok(head);
        }
        if fill(session, connection).await? == 0 {
            return Err(Error::explain(ErrorType::ConnectionClosed, "before the response's head").into_up());
        }
    }
}

/// Whether the server leaves the connection open after this response.
fn keeps_alive(head: &RawResponseHead) -> bool {
    let mut options = head.all(ResponseField::Connection).flat_map(|line| line.split(|b| *b == b','));
    let named = options.find_map(|option| match option.trim_ascii() {
        option if option.eq_ignore_ascii_case(b"close") => Some(false),
        option if option.eq_ignore_ascii_case(b"keep-alive") => Some(true),
        _ => None,
    });
    named.unwrap_or(head.version() == Version::HTTP_11)
}

/// Passes the head and the body to the client, each time as much as has arrived.
async fn pass_response(
    session: &mut Session,
    ctx: &mut Ctx,
    connection: &mut UpstreamConnection,
    head: &RawResponseHead,
    framing: BodyFraming,
) -> Result<()> {
    let mut decoder = BodyDecoder::new(framing);
    let mut end = decoder.is_at_end();
    let mut tasks = vec![HttpTask::Header(head.to_pingora()?, end)];
    loop {
        while !end {
            let piece = decoder.next(&mut connection.received);
            let piece = piece.map_err(|e| {
                Error::because(ErrorType::InvalidHTTPHeader, "in the body of a response", e).into_up()
            });
            let mut data = match piece? {
                BodyPiece::Data(data) => Some(data),
                BodyPiece::End => None,
                BodyPiece::NeedMore => break,
            };
            end = data.is_none() || decoder.is_at_end();
            ctx.response_bytes += data.as_ref().map_or(0, |data| data.len() as u64);
            response_body::piece_passes(session, &mut data, end, ctx);
            tasks.push(HttpTask::Body(data, end));
        }
        if !tasks.is_empty() {
            session.write_response_tasks(std::mem::take(&mut tasks)).await.map_err(Error::into_down)?;
        }
        if end {
            return Ok(());
        }
        if fill(session, connection).await? == 0 {
            decoder.end_of_connection().map_err(|e| {
                Error::because(ErrorType::ConnectionClosed, "in the body of a response", e).into_up()
            })?;
            end = true;
            response_body::piece_passes(session, &mut None, end, ctx);
            tasks.push(HttpTask::Body(None, end));
        }
    }
}

/// Reads from the server. Ready with 0 at the end of the connection.
///
/// # Errors
/// The connection failed, or the client has left.
async fn fill(session: &mut Session, connection: &mut UpstreamConnection) -> Result<usize> {
    let mut client = pin!(session.as_mut().read_body_or_idle(true));
    let mut watches_client = true;
    poll_fn(|cx| {
        if let Poll::Ready(read) = connection.poll_fill(cx) {
            return Poll::Ready(read);
        }
        if watches_client && let Poll::Ready(left) = client.as_mut().poll(cx) {
            if let Err(e) = left {
                return Poll::Ready(Err(e.into_down()));
            }
            watches_client = false;
        }
        Poll::Pending
    })
    .await
}
