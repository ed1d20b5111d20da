//! Applies the changes of header fields that the configuration wants, and the request ID, the same way in both loops.
//!
//! It is separate because maps, heads that are bytes and the proxy's own responses follow one rule: the edits of the cluster
//! first, then those that come after it; each removes first and then sets.

use http::HeaderValue;
use pingora::Result;
use pingora_http::{RequestHeader, ResponseHeader};
use smallvec::SmallVec;

use super::routed::Routed;
use crate::config::settings::{FieldName, HeaderEdits, Route};
use crate::state::Cluster;
use crate::upstream::response_head::ResponseHead;
use crate::util::header_names::is_same_variable;

/// All changes of the fields of one direction of a request.
#[derive(Debug, Default)]
pub(super) struct FieldEdits<'a> {
    /// None of them is empty.
    edits: SmallVec<[&'a HeaderEdits; 2]>,
    request_id: Option<(&'a FieldName, &'a HeaderValue)>,
}

impl<'a> FieldEdits<'a> {
    pub(super) fn to_client(routed: &'a Routed, request_id: Option<&'a HeaderValue>) -> Self {
        Self::new(routed.header_rules().map(|rules| &rules.to_client), &routed.cluster, request_id)
    }

    pub(super) fn to_server(routed: &'a Routed, request_id: Option<&'a HeaderValue>) -> Self {
        Self::new(routed.header_rules().map(|rules| &rules.to_server), &routed.cluster, request_id)
    }

    /// For a response of the proxy itself to a request that was not routed.
    pub(super) fn of_cluster(
        cluster: &'a Cluster,
        route: Option<&'a Route>,
        request_id: Option<&'a HeaderValue>,
    ) -> Self {
        let of_route = route.into_iter().map(|route| &route.headers.to_client);
        let edits = std::iter::once(&cluster.settings.headers.rules.to_client).chain(of_route);
        Self::new(edits, cluster, request_id)
    }

    fn new(
        edits: impl Iterator<Item = &'a HeaderEdits>,
        cluster: &'a Cluster,
        request_id: Option<&'a HeaderValue>,
    ) -> Self {
        Self {
            edits: edits.filter(|edits| !edits.is_empty()).collect(),
            request_id: cluster.settings.headers.request_id.as_ref().zip(request_id),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.edits.is_empty() && self.request_id.is_none()
    }

    /// Whether a field of the client reaches the server. One that is set or removed does not, in any spelling that gives
    /// the same CGI variable: an agent could take the client's for ours.
    pub(super) fn passes(&self, name: &str) -> bool {
        let mut names = self.edits.iter().flat_map(|edits| edits.names());
        let of_request_id = self.request_id.map(|(field, _)| &field.name);
        !names.by_ref().chain(of_request_id).any(|other| is_same_variable(other.as_str(), name))
    }

    /// The fields to add where all that are set or removed are gone.
    pub(super) fn added(&self) -> impl Iterator<Item = (&'a FieldName, &'a HeaderValue)> {
        let fields = self.edits.iter().enumerate().flat_map(move |(at, edits)| {
            let later = self.edits.get(at + 1..).unwrap_or_default();
            let is_last = move |field: &FieldName| {
                !later.iter().any(|edits| edits.names().any(|name| *name == field.name))
            };
            edits.set.iter().filter(move |(field, _)| is_last(field)).map(|(field, value)| (field, value))
        });
        let id = self.request_id;
        fields.filter(move |(field, _)| id.is_none_or(|(id, _)| id.name != field.name)).chain(id)
    }

    /// Changes the copy of a head for one attempt.
    pub(super) fn apply_to_request(&self, head: &mut RequestHeader) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let gone: SmallVec<[_; 4]> =
            head.headers.keys().filter(|name| !self.passes(name.as_str())).cloned().collect();
        for name in &gone {
            head.remove_header(name);
        }
        for (field, value) in self.added() {
            head.insert_header(field.spelling.clone(), value.clone())?;
        }
        Ok(())
    }

    /// Changes the head of a server's response.
    pub(super) fn apply_to_response<H: ResponseHead>(&self, head: &mut H) -> Result<()> {
        for edits in &self.edits {
            for name in &edits.remove {
                head.remove_named(name);
            }
            for (field, value) in &edits.set {
                head.set_named(&field.name, &field.spelling, value)?;
            }
        }
        match self.request_id {
            Some((field, value)) => head.set_named(&field.name, &field.spelling, value),
            None => Ok(()),
        }
    }

    /// Changes the head of a response that the proxy makes itself. What such a head has already is made for it: the policy
    /// of a page, and that no cache keeps an error.
    pub(super) fn apply_to_own_response(&self, head: &mut ResponseHeader) -> Result<()> {
        for (field, value) in self.added() {
            if !head.headers.contains_key(&field.name) {
                head.insert_header(field.spelling.clone(), value.clone())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::HeaderName;
    use pingora_http::HeaderNameVariant;

    use super::*;
    use crate::upstream::raw_response_head::RawResponseHead;

    fn field(name: &'static str) -> FieldName {
        FieldName {
            name: HeaderName::from_bytes(name.as_bytes()).unwrap(),
            spelling: Bytes::from_static(name.as_bytes()),
        }
    }

    fn edits(set: &[(&'static str, &'static str)], remove: &[&'static str]) -> HeaderEdits {
        HeaderEdits {
            set: set.iter().map(|(name, value)| (field(name), HeaderValue::from_static(value))).collect(),
            remove: remove.iter().map(|name| field(name).name).collect(),
        }
    }

    fn chained<'a>(edits: &[&'a HeaderEdits]) -> FieldEdits<'a> {
        FieldEdits { edits: edits.iter().copied().collect(), request_id: None }
    }

    const HEAD: &str = "HTTP/1.1 200 OK\r\nx-frame-options: DENY\r\nX-Powered-By: a\r\nX-POWERED-BY: b\r\n\
        Content-Type: text/html\r\nX-Kept: 1\r\nContent-Length: 0\r\n\r\n";

    #[test]
    fn both_kinds_of_response_head_are_changed_alike_and_later_edits_win() {
        let cluster = edits(
            &[("X-Frame-Options", "SAMEORIGIN"), ("X-New", "1"), ("X-Other", "1"), ("Content-Type", "a/b")],
            &["X-Powered-By"],
        );
        let route = edits(&[("X-NEW", "2"), ("X-Powered-By", "icm")], &["X-Other", "Link"]);
        let both = chained(&[&cluster, &route]);
        let mut raw = RawResponseHead::parse(&mut HEAD.as_bytes().into()).unwrap().unwrap();
        let mut map = raw.to_pingora().unwrap();
        both.apply_to_response(&mut raw).unwrap();
        both.apply_to_response(&mut *map).unwrap();
        let mut text = Vec::new();
        raw.write_to(&mut text);
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "HTTP/1.1 200 OK\r\nX-Frame-Options: SAMEORIGIN\r\nContent-Type: a/b\r\nX-Kept: 1\r\nContent-Length: 0\r\n\
             X-NEW: 2\r\nX-Powered-By: icm\r\n\r\n"
        );
        let sorted = |head: &ResponseHeader| {
            let mut all: Vec<(String, HeaderValue)> = Vec::new();
            head.map(|name, value| {
                let HeaderNameVariant::Case(name) = name else { panic!("a name without its spelling") };
                all.push((String::from_utf8_lossy(name.as_slice()).into_owned(), value.clone()));
                Ok(())
            })
            .unwrap();
            all.sort_by(|a, b| a.0.cmp(&b.0));
            all
        };
        assert_eq!(sorted(&map), sorted(&raw.to_pingora().unwrap()));
        assert_eq!(raw.first(crate::upstream::response_head::ResponseField::ContentType), Some(&b"a/b"[..]));
    }

    #[test]
    fn a_client_cannot_send_a_field_that_is_set_or_removed_in_any_spelling() {
        let cluster = edits(&[("X-Role", "user"), ("X-Twice", "1")], &["Accept-Encoding"]);
        let route = edits(&[("X-Twice", "2")], &[]);
        let both = chained(&[&cluster, &route]);
        let mut head = RequestHeader::build("GET", b"/", None).unwrap();
        for name in ["X-Role", "x_role", "X.Role", "Accept-Encoding", "X-Roles", "Accept", "X_Twice"] {
            head.append_header(name, "client").unwrap();
            assert_eq!(both.passes(name), ["X-Roles", "Accept"].contains(&name), "{name}");
        }
        both.apply_to_request(&mut head).unwrap();
        let mut all: Vec<_> =
            head.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        all.sort_unstable();
        assert_eq!(all, [("accept", "client"), ("x-role", "user"), ("x-roles", "client"), ("x-twice", "2")]);
        let added: Vec<_> =
            both.added().map(|(field, value)| (&field.spelling[..], value.as_bytes())).collect();
        assert_eq!(added, [(&b"X-Role"[..], &b"user"[..]), (b"X-Twice", b"2")]);
    }

    #[test]
    fn an_own_response_keeps_what_it_has() {
        let cluster = edits(&[("Cache-Control", "max-age=60"), ("X-New", "1")], &["Vary"]);
        let mut head = ResponseHeader::build(503, None).unwrap();
        head.insert_header("Cache-Control", "no-store").unwrap();
        head.insert_header("Vary", "Accept").unwrap();
        let (name, id) = (field("X-Request-ID"), HeaderValue::from_static("7"));
        let all = FieldEdits { edits: [&cluster].into_iter().collect(), request_id: Some((&name, &id)) };
        all.apply_to_own_response(&mut head).unwrap();
        let value = |name: &str| head.headers.get(name).map(|value| value.to_str().unwrap());
        assert_eq!((value("cache-control"), value("vary")), (Some("no-store"), Some("Accept")));
        assert_eq!((value("x-new"), value("x-request-id")), (Some("1"), Some("7")));
    }
}
