//! What the conditions of routes and access rules are about, collected from a request. Only requests to a cluster that has
//! such rules need it.

use std::borrow::Cow;
use std::net::IpAddr;

use pingora_http::RequestHeader;

use super::route_context::TargetUri;
use crate::domain::directory::db_path::{self, FoldBuffer};
use crate::domain::rules::{RequestFacts, RequestFields, UrlReading};
use crate::domain::url::Target;
use crate::edge::raw_request::field_values;
use crate::state::host_table::strip_port;

/// The fields of a request, whether or not they are in its header map.
struct HeadFields<'a>(&'a RequestHeader);

impl RequestFields for HeadFields<'_> {
    fn any_value(&self, name: &str, test: &dyn Fn(&[u8]) -> bool) -> bool {
        field_values(self.0, name).any(test)
    }
}

/// Calls `decide` with what conditions are about. `databases` are the folded paths of the database of the URL.
pub(super) fn with_facts<T>(
    head: &RequestHeader,
    uri: TargetUri<'_>,
    target: &Target<'_>,
    client: Option<IpAddr>,
    databases: &[Cow<'_, [u8]>],
    decide: impl FnOnce(&RequestFacts<'_>) -> T,
) -> T {
    let mut path = FoldBuffer::default();
    let host = strip_port(uri.authority).trim_end_matches('.').to_ascii_lowercase();
    decide(&RequestFacts {
        method: head.method.as_str(),
        host: &host,
        target,
        path: db_path::fold_url_path(target.path, &mut path),
        fields: &HeadFields(head),
        client,
        databases,
        is_unknown_replica: false,
        reading: UrlReading::Written,
    })
}
