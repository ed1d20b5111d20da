//! What an ICM that follows this one asks for: certificates with their private keys, and pending challenges. Apart from the other
//! pages, because no other page has a key in it.

use super::AdminRequest;
use super::reply::AdminReply;

/// `GET /acme/certificates`, with `known`, the digest of the list that the other ICM has.
#[must_use]
pub fn certificates(request: &AdminRequest) -> AdminReply {
    AdminReply::json(&request.balancer.acme.shared(request.query_value("known").as_deref()))
}

/// `GET /acme/challenges`: those of this ICM's own orders.
#[must_use]
pub fn challenges(request: &AdminRequest) -> AdminReply {
    AdminReply::json(&request.balancer.acme.challenges.own())
}
