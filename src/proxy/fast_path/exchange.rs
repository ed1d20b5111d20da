//! One exchange with a server: the request is written, and the response passes to the client while it arrives. Every read
//! also watches the client, so that a server is free when its client has left.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use bytes::Bytes;
use http::Method;
use pingora::protocols::http::HttpTask;
use pingora::{Error, ErrorType, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use super::request_head;
use crate::edge::pending_responses;
use crate::edge::raw_request::{RawRequest, ResponseFraming, SerializedHead};
use crate::proxy::ctx::Ctx;
use crate::proxy::header_edits::FieldEdits;
use crate::proxy::response_body::{self, Flush};
use crate::proxy::{Proxy, ReceivedHead, compression, response_deadline};
use crate::upstream::connection::{MAX_FILL, UpstreamConnection, closed_error, read_error};
use crate::upstream::raw_response_head::RawResponseHead;
use crate::upstream::response_body::{BodyDecoder, BodyFraming, BodyPiece, keeps_connection};
use crate::upstream::response_head::{ResponseField, ResponseHead};
use crate::util::reused_buffer;

/// A longer body is read without a copy.
const MAX_FILL_BYTES: u64 = MAX_FILL as u64;

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
        let (mut head, keeps_connection) = loop {
            let mut head = receive_head(session, connection).await?;
            let keeps_connection = keeps_connection(&head);
            if self.response_head_received(session, &mut head, ctx)? == ReceivedHead::Final {
                break (head, keeps_connection);
            }
            let interim = head.to_pingora()?;
            pending_responses::send_interim(&interim);
            let interim = vec![HttpTask::Header(interim, false)];
            session.write_response_tasks(interim).await.map_err(Error::into_down)?;
        };
        let framing = BodyFraming::of(&head, session.req_header().method == Method::HEAD);
        if framing == BodyFraming::UntilClose {
            // The client's connection stays open.
            head.append(ResponseField::TransferEncoding, "chunked")?;
        }
        let for_client = if compression::begin(session.req_header(), &mut head, ctx)? {
            BodyFraming::Chunked
        } else {
            framing
        };
        let head = head_for_client(session, &head, for_client)?;
        pass_response(session, ctx, connection, head, framing).await?;
        let is_shared = ctx.attempt.as_ref().is_some_and(|attempt| !attempt.close_at_end);
        Ok(keeps_connection
            && is_shared
            && framing != BodyFraming::UntilClose
            && connection.received.is_empty())
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
    let head = {
        let edits = FieldEdits::to_server(routed, ctx.request_id.as_ref());
        request_head::write(session.req_header(), routed, attempt, ctx.client, &edits)?
    };
    let timeout = routed.cluster.settings.failover.response_timeout;
    ctx.body_bytes = body.len() as u64;
    connection.write_all(&head, body, Some(timeout)).await?;
    reused_buffer::give_back(head);
    response_deadline::expect_head(ctx);
    Ok(())
}

async fn receive_head(session: &mut Session, connection: &mut UpstreamConnection) -> Result<RawResponseHead> {
    loop {
        if let Some(head) = RawResponseHead::parse(&mut connection.received)? {
            return Ok(head);
        }
        if fill(session, connection, Reading::Usual).await? == 0 {
            return Err(closed_error("before the response's head"));
        }
    }
}

/// Passes the head and the body to the client, each time as much as has arrived.
async fn pass_response(
    session: &mut Session,
    ctx: &mut Ctx,
    connection: &mut UpstreamConnection,
    head: Box<ResponseHeader>,
    framing: BodyFraming,
) -> Result<()> {
    let mut decoder = BodyDecoder::new(framing);
    let mut end = decoder.is_at_end();
    let mut tasks = vec![HttpTask::Header(head, end)];
    let mut reading = if matches!(framing, BodyFraming::Length(MAX_FILL_BYTES..)) {
        Reading::LargeBody
    } else {
        Reading::Usual
    };
    loop {
        let mut failed = None;
        while !end {
            let mut data = match decoder.next(&mut connection.received) {
                Ok(BodyPiece::Data(data)) => Some(data),
                Ok(BodyPiece::End) => None,
                Ok(BodyPiece::NeedMore) => break,
                Err(malformed) => {
                    failed = Some(malformed);
                    break;
                }
            };
            end = data.is_none() || decoder.is_at_end();
            ctx.response_bytes += data.as_ref().map_or(0, |data| data.len() as u64);
            response_body::piece_passes(session, &mut data, end, Flush::AtPause, ctx)?;
            if end || data.is_some() {
                tasks.push(HttpTask::Body(data, end));
            }
        }
        if let Some(rest) = response_body::flush(session, ctx)? {
            tasks.push(HttpTask::Body(Some(rest), false));
        }
        if !tasks.is_empty() {
            session.write_response_tasks(std::mem::take(&mut tasks)).await.map_err(Error::into_down)?;
        }
        if let Some(malformed) = failed {
            return Err(malformed.into());
        }
        if end {
            return Ok(());
        }
        let read = fill(session, connection, reading).await?;
        if read == MAX_FILL {
            reading = Reading::LargeBody;
        }
        if read == 0 {
            decoder.end_of_connection()?;
            end = true;
            let mut data = None;
            response_body::piece_passes(session, &mut data, end, Flush::AtPause, ctx)?;
            tasks.push(HttpTask::Body(data, end));
        }
    }
}

/// The head as the client's session takes it: as bytes, if it is the edge's own session.
fn head_for_client(
    session: &Session,
    head: &RawResponseHead,
    framing: BodyFraming,
) -> Result<Box<ResponseHeader>> {
    let Some(raw) = RawRequest::of(session.req_header()) else { return head.to_pingora() };
    let mut bytes = reused_buffer::take();
    head.write_to(&mut bytes);
    let framing = match framing {
        BodyFraming::None => ResponseFraming::Length(0),
        BodyFraming::Length(bytes) => ResponseFraming::Length(bytes),
        BodyFraming::Chunked | BodyFraming::UntilClose => ResponseFraming::Chunked,
    };
    raw.set_response_head(SerializedHead { bytes, framing, has_date: head.has(ResponseField::Date) });
    Ok(Box::new(ResponseHeader::build_no_case(head.status(), Some(0))?))
}

#[derive(Clone, Copy)]
enum Reading {
    Usual,
    /// Without a copy, into a buffer of its own.
    LargeBody,
}

/// Reads from the server. Ready with 0 at the end of the connection.
///
/// # Errors
/// The connection failed, or the client has left.
async fn fill(session: &mut Session, connection: &mut UpstreamConnection, reading: Reading) -> Result<usize> {
    let mut client = pin!(session.as_mut().read_body_or_idle(true));
    let mut watches_client = true;
    poll_fn(|cx| {
        let read = match reading {
            Reading::Usual => connection.poll_fill(cx),
            Reading::LargeBody => connection.poll_fill_body(cx),
        };
        if let Poll::Ready(read) = read {
            return Poll::Ready(read.map_err(|cause| read_error(cause, "while reading the response")));
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
