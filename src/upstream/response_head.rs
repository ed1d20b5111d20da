//! What the proxy reads and changes in the head of a response, as one trait: Pingora's header map and a head that is kept
//! as it came ([`RawResponseHead`](super::raw_response_head::RawResponseHead)) both have it.
//!
//! It is separate so that the rules for responses are written once, whichever way a request takes.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, Version, header};
use pingora::Result;
use pingora_http::ResponseHeader;
use smallvec::SmallVec;

/// A field of a response that the proxy reads or changes. All others are passed on as they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are those of the fields")]
pub enum ResponseField {
    AltSvc,
    CacheControl,
    Connection,
    ContentEncoding,
    ContentLength,
    ContentLocation,
    ContentRange,
    ContentType,
    Date,
    ETag,
    KeepAlive,
    Link,
    Location,
    ProxyAuthenticate,
    ProxyConnection,
    Refresh,
    Server,
    SetCookie,
    StrictTransportSecurity,
    TransferEncoding,
    Upgrade,
    Vary,
    WwwAuthenticate,
    XspLocation,
}

use ResponseField as Field;

impl ResponseField {
    /// The field of a name in any case.
    #[must_use]
    pub fn of(name: &[u8]) -> Option<Self> {
        let candidates: &[Self] = match name.len() {
            4 => &[Field::Date, Field::ETag, Field::Vary, Field::Link],
            6 => &[Field::Server],
            7 => &[Field::Refresh, Field::AltSvc, Field::Upgrade],
            8 => &[Field::Location],
            10 => &[Field::Connection, Field::SetCookie, Field::KeepAlive],
            12 => &[Field::ContentType],
            13 => &[Field::CacheControl, Field::XspLocation, Field::ContentRange],
            14 => &[Field::ContentLength],
            16 => &[
                Field::ContentEncoding,
                Field::ContentLocation,
                Field::WwwAuthenticate,
                Field::ProxyConnection,
            ],
            17 => &[Field::TransferEncoding],
            18 => &[Field::ProxyAuthenticate],
            25 => &[Field::StrictTransportSecurity],
            _ => return None,
        };
        candidates.iter().copied().find(|field| name.eq_ignore_ascii_case(field.name().as_bytes()))
    }

    /// The name as HTTP/1 servers usually write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AltSvc => "Alt-Svc",
            Self::CacheControl => "Cache-Control",
            Self::Connection => "Connection",
            Self::ContentEncoding => "Content-Encoding",
            Self::ContentLength => "Content-Length",
            Self::ContentLocation => "Content-Location",
            Self::ContentRange => "Content-Range",
            Self::ContentType => "Content-Type",
            Self::Date => "Date",
            Self::ETag => "ETag",
            Self::KeepAlive => "Keep-Alive",
            Self::Link => "Link",
            Self::Location => "Location",
            Self::ProxyAuthenticate => "Proxy-Authenticate",
            Self::ProxyConnection => "Proxy-Connection",
            Self::Refresh => "Refresh",
            Self::Server => "Server",
            Self::SetCookie => "Set-Cookie",
            Self::StrictTransportSecurity => "Strict-Transport-Security",
            Self::TransferEncoding => "Transfer-Encoding",
            Self::Upgrade => "Upgrade",
            Self::Vary => "Vary",
            Self::WwwAuthenticate => "WWW-Authenticate",
            Self::XspLocation => "X-XspLocation",
        }
    }

    /// The name as a key of a header map.
    #[must_use]
    pub const fn header_name(self) -> HeaderName {
        match self {
            Self::AltSvc => header::ALT_SVC,
            Self::CacheControl => header::CACHE_CONTROL,
            Self::Connection => header::CONNECTION,
            Self::ContentEncoding => header::CONTENT_ENCODING,
            Self::ContentLength => header::CONTENT_LENGTH,
            Self::ContentLocation => header::CONTENT_LOCATION,
            Self::ContentRange => header::CONTENT_RANGE,
            Self::ContentType => header::CONTENT_TYPE,
            Self::Date => header::DATE,
            Self::ETag => header::ETAG,
            Self::KeepAlive => HeaderName::from_static("keep-alive"),
            Self::Link => header::LINK,
            Self::Location => header::LOCATION,
            Self::ProxyAuthenticate => header::PROXY_AUTHENTICATE,
            Self::ProxyConnection => HeaderName::from_static("proxy-connection"),
            Self::Refresh => header::REFRESH,
            Self::Server => header::SERVER,
            Self::SetCookie => header::SET_COOKIE,
            Self::StrictTransportSecurity => header::STRICT_TRANSPORT_SECURITY,
            Self::TransferEncoding => header::TRANSFER_ENCODING,
            Self::Upgrade => header::UPGRADE,
            Self::Vary => header::VARY,
            Self::WwwAuthenticate => header::WWW_AUTHENTICATE,
            Self::XspLocation => HeaderName::from_static("x-xsplocation"),
        }
    }
}

/// A set of fields, such as those that a head has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResponseFieldSet(u32);

impl ResponseFieldSet {
    /// A set of several fields.
    #[must_use]
    pub const fn from_fields(fields: &[ResponseField]) -> Self {
        let (mut bits, mut rest) = (0, fields);
        while let [field, others @ ..] = rest {
            bits |= Self::bit(*field);
            rest = others;
        }
        Self(bits)
    }

    /// Whether the field is in the set.
    #[must_use]
    pub const fn contains(self, field: ResponseField) -> bool {
        self.0 & Self::bit(field) != 0
    }

    /// Whether both sets have a field in common.
    #[must_use]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Adds a field to the set.
    pub const fn insert(&mut self, field: ResponseField) {
        self.0 |= Self::bit(field);
    }

    /// Removes a field from the set.
    pub const fn remove(&mut self, field: ResponseField) {
        self.0 &= !Self::bit(field);
    }

    const fn bit(field: ResponseField) -> u32 {
        1 << field as u32
    }
}

/// The head of a response, whatever keeps its lines.
pub trait ResponseHead {
    /// The status of the response.
    fn status(&self) -> StatusCode;

    /// The server's version of HTTP, or the one that was set.
    fn version(&self) -> Version;

    /// Sets the version for the client.
    fn set_version(&mut self, version: Version);

    /// The fields that the head has. One look at every name costs less than a search for each field.
    fn fields(&self) -> ResponseFieldSet;

    /// Whether the head has a line of this field.
    fn has(&self, field: ResponseField) -> bool;

    /// The value of the first line of a field.
    fn first(&self, field: ResponseField) -> Option<&[u8]>;

    /// The values of all lines of a field, in order.
    fn all(&self, field: ResponseField) -> impl Iterator<Item = &[u8]>;

    /// Replaces all lines of a field by one.
    ///
    /// # Errors
    /// The value has bytes that a field cannot have; the head is unchanged.
    fn set(&mut self, field: ResponseField, value: impl AsRef<[u8]> + TryInto<HeaderValue>) -> Result<()>;

    /// Adds a line behind all others.
    ///
    /// # Errors
    /// The value has bytes that a field cannot have, or the head is full; the head is unchanged.
    fn append(&mut self, field: ResponseField, value: impl AsRef<[u8]> + TryInto<HeaderValue>) -> Result<()>;

    /// Replaces the values of the lines of a field, in order; `None` and an invalid value leave a line as it is.
    ///
    /// # Errors
    /// The head is full.
    fn replace_each(
        &mut self,
        field: ResponseField,
        values: impl IntoIterator<Item = Option<Vec<u8>>>,
    ) -> Result<()>;

    /// Removes all lines of a field.
    fn remove(&mut self, field: ResponseField);

    /// Replaces all lines with this name by one, whether or not the proxy reads such a field. `spelling` is the name as
    /// HTTP/1 sends it.
    ///
    /// # Errors
    /// The head is full.
    fn set_named(&mut self, name: &HeaderName, spelling: &Bytes, value: &HeaderValue) -> Result<()>;

    /// Removes all lines with this name, whether or not the proxy reads such a field.
    fn remove_named(&mut self, name: &HeaderName);
}

impl ResponseHead for ResponseHeader {
    fn status(&self) -> StatusCode {
        self.status
    }

    fn version(&self) -> Version {
        self.version
    }

    fn set_version(&mut self, version: Version) {
        Self::set_version(self, version);
    }

    fn fields(&self) -> ResponseFieldSet {
        let mut fields = ResponseFieldSet::default();
        let known = self.headers.keys().filter_map(|name| ResponseField::of(name.as_str().as_bytes()));
        known.for_each(|field| fields.insert(field));
        fields
    }

    fn has(&self, field: ResponseField) -> bool {
        self.headers.contains_key(field.header_name())
    }

    fn first(&self, field: ResponseField) -> Option<&[u8]> {
        self.headers.get(field.header_name()).map(HeaderValue::as_bytes)
    }

    fn all(&self, field: ResponseField) -> impl Iterator<Item = &[u8]> {
        self.headers.get_all(field.header_name()).iter().map(HeaderValue::as_bytes)
    }

    fn set(&mut self, field: ResponseField, value: impl AsRef<[u8]> + TryInto<HeaderValue>) -> Result<()> {
        self.insert_header(field.header_name(), value)
    }

    fn append(&mut self, field: ResponseField, value: impl AsRef<[u8]> + TryInto<HeaderValue>) -> Result<()> {
        self.append_header(field.header_name(), value).map(|_| ())
    }

    fn replace_each(
        &mut self,
        field: ResponseField,
        values: impl IntoIterator<Item = Option<Vec<u8>>>,
    ) -> Result<()> {
        let name = field.header_name();
        let mut values = values.into_iter();
        let all: SmallVec<[HeaderValue; 4]> = self
            .headers
            .get_all(&name)
            .iter()
            .map(|old| {
                let new = values.next().flatten();
                new.and_then(|new| HeaderValue::try_from(new).ok()).unwrap_or_else(|| old.clone())
            })
            .collect();
        self.remove_header(&name);
        for value in all {
            self.append_header(name.clone(), value)?;
        }
        Ok(())
    }

    fn remove(&mut self, field: ResponseField) {
        self.remove_header(&field.header_name());
    }

    fn set_named(&mut self, _name: &HeaderName, spelling: &Bytes, value: &HeaderValue) -> Result<()> {
        self.insert_header(spelling.clone(), value.clone())
    }

    fn remove_named(&mut self, name: &HeaderName) {
        self.remove_header(name);
    }
}

/// The number that all elements of all `Content-Length` lines agree on; `None` if there is no such number.
#[must_use]
pub fn single_length<H: ResponseHead>(head: &H) -> Option<u64> {
    let lines = head.all(ResponseField::ContentLength);
    let mut lengths = lines.flat_map(|line| line.split(|b| *b == b',')).map(|element| {
        let digits = element.trim_ascii();
        let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
        std::str::from_utf8(digits).ok().filter(|_| is_number)?.parse::<u64>().ok()
    });
    let first = lengths.next()??;
    lengths.all(|length| length == Some(first)).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [ResponseField; 24] = [
        Field::AltSvc,
        Field::CacheControl,
        Field::Connection,
        Field::ContentEncoding,
        Field::ContentLength,
        Field::ContentLocation,
        Field::ContentRange,
        Field::ContentType,
        Field::Date,
        Field::ETag,
        Field::KeepAlive,
        Field::Link,
        Field::Location,
        Field::ProxyAuthenticate,
        Field::ProxyConnection,
        Field::Refresh,
        Field::Server,
        Field::SetCookie,
        Field::StrictTransportSecurity,
        Field::TransferEncoding,
        Field::Upgrade,
        Field::Vary,
        Field::WwwAuthenticate,
        Field::XspLocation,
    ];

    #[test]
    fn every_field_is_found_by_its_name_in_any_case() {
        let mut set = ResponseFieldSet::default();
        for field in ALL {
            let name = field.name();
            assert_eq!(field.header_name().as_str(), name.to_ascii_lowercase());
            for name in [name.to_owned(), name.to_ascii_lowercase(), name.to_ascii_uppercase()] {
                assert_eq!(ResponseField::of(name.as_bytes()), Some(field), "{name}");
            }
            assert!(!set.contains(field));
            set.insert(field);
            assert!(set.contains(field));
        }
        assert_eq!(set, ResponseFieldSet::from_fields(&ALL));
        set.remove(Field::Date);
        assert!(!set.contains(Field::Date) && set.contains(Field::Link));
        for other in ["", "Dato", "X-Frame-Options", "Content-Lengthy", "Set_Cookie"] {
            assert_eq!(ResponseField::of(other.as_bytes()), None, "{other}");
        }
    }
}
