//! What an explanation says about the rehearsed failover that runs in the cluster of the request.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::select::{CandidateVerdict, ServerId};
use crate::proxy::rehearsal_user;
use crate::proxy::routed::Routed;
use crate::state::cluster_view::UpstreamServer;

/// A rehearsed failover, as far as it concerns the user of the request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExplainedRehearsal {
    /// The server that counts as UNREACHABLE for a share of the users.
    pub server: String,
    /// That share of the users in percent.
    pub users_percent: f64,
    /// Whether this user belongs to it.
    pub in_share: bool,
    /// The same as a sentence.
    pub text: String,
}

/// `None` if no rehearsal is under way.
pub(super) fn explain(routed: &Routed, chosen: Option<ServerId>) -> Option<ExplainedRehearsal> {
    let user = routed.rehearsal.as_ref().map(|user| user.share());
    let (rehearsal, in_share) = match user {
        Some((rehearsal, in_share)) => (Arc::clone(rehearsal), in_share),
        None => (rehearsal_user::running(&routed.cluster)?, false),
    };
    let (server, percent) = (rehearsal.server.to_string(), rehearsal.share.percent());
    let who = match user {
        Some((_, true)) => "this user belongs to",
        Some((_, false)) => "this user does not belong to",
        None => "a user without a valid affinity cookie does not belong to",
    };
    let but = match chosen.is_some() && chosen == routed.rehearsed_server() {
        true => "; but no other server would take this request",
        false => "",
    };
    let text = format!(
        "a rehearsal is under way: {who} the {percent} % for whom {server} counts as UNREACHABLE{but}"
    );
    Some(ExplainedRehearsal { server, users_percent: percent, in_share, text })
}

/// The verdict on a server, which may be that of the rehearsal.
pub(super) fn describe_verdict(
    routed: &Routed,
    (server, entry): (ServerId, &UpstreamServer),
    verdict: CandidateVerdict,
) -> String {
    match verdict {
        CandidateVerdict::Unreachable if routed.rehearsed_server() == Some(server) => {
            "dropped: UNREACHABLE (rehearsal)".to_owned()
        }
        _ => entry.describe_verdict(verdict),
    }
}
