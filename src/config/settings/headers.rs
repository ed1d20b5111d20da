//! Changes of header fields that an administrator wants, prepared so that a request only applies them.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

/// The name of a field, and the spelling in which HTTP/1 sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldName {
    /// In lower case, as maps have it.
    pub name: HeaderName,
    /// As the configuration has it.
    pub spelling: Bytes,
}

/// Changes of the fields of one direction: `remove`, then `set`. None is a field that only the proxy may write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderEdits {
    /// Each replaces all lines of its name.
    pub set: Vec<(FieldName, HeaderValue)>,
    /// Fields that go, whatever their value.
    pub remove: Vec<HeaderName>,
}

impl HeaderEdits {
    /// Whether nothing is to be changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.remove.is_empty()
    }

    /// The names of all fields that are set or removed.
    pub fn names(&self) -> impl Iterator<Item = &HeaderName> {
        self.set.iter().map(|(field, _)| &field.name).chain(&self.remove)
    }
}

/// The changes of both directions, of a cluster or of a part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderRules {
    /// In responses of servers, and of the proxy itself.
    pub to_client: HeaderEdits,
    /// In requests to servers.
    pub to_server: HeaderEdits,
}
