//! Chooses a content coding by the request's `Accept-Encoding` (RFC 9110 section 12.5.3).
//!
//! It is separate from the policy, because the field has a grammar of its own, with weights and a wildcard.

/// A content coding that responses can get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContentCoding {
    /// Zstandard, as of RFC 8878.
    Zstd,
    /// Brotli, as of RFC 7932.
    Brotli,
    /// As of RFC 1952.
    Gzip,
}

impl ContentCoding {
    /// All codings, the one that compresses best for its time first.
    pub const ALL: [Self; 3] = [Self::Zstd, Self::Brotli, Self::Gzip];

    /// The name in `Accept-Encoding` and `Content-Encoding`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }

    fn has_name(self, name: &[u8]) -> bool {
        name.eq_ignore_ascii_case(self.name().as_bytes())
            || (self == Self::Gzip && name.eq_ignore_ascii_case(b"x-gzip"))
    }
}

/// The coding that a client wants most, of those that the server has. Of equal ones the first of `preference` is taken.
/// `None` if the client wants none of them, or prefers to have none. Elements that cannot be read do not count.
pub fn choose<'a>(
    lines: impl Iterator<Item = &'a [u8]>,
    preference: &[ContentCoding],
) -> Option<ContentCoding> {
    let mut weights = Weights::default();
    for element in lines.flat_map(|line| line.split(|byte| *byte == b',')) {
        weights.note(element);
    }
    let mut best: Option<(ContentCoding, u16)> = None;
    for coding in preference {
        let weight = weights.of(*coding);
        if weight > best.map_or(0, |(_, weight)| weight) {
            best = Some((*coding, weight));
        }
    }
    let (coding, weight) = best?;
    // `identity` counts only if it is named: nobody who names a coding wants a larger response.
    (weight >= weights.identity.unwrap_or(0)).then_some(coding)
}

/// The weights of a request in thousandths; the last element with a name counts.
#[derive(Default)]
struct Weights {
    codings: [Option<u16>; ContentCoding::ALL.len()],
    identity: Option<u16>,
    any: Option<u16>,
}

impl Weights {
    fn note(&mut self, element: &[u8]) {
        let mut parts = element.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let name = parts.next().unwrap_or_default();
        let Some(weight) = weight(parts) else { return };
        if name == b"*" {
            self.any = Some(weight);
        } else if name.eq_ignore_ascii_case(b"identity") {
            self.identity = Some(weight);
        } else {
            for (coding, known) in ContentCoding::ALL.iter().zip(&mut self.codings) {
                if coding.has_name(name) {
                    *known = Some(weight);
                }
            }
        }
    }

    /// 0 if the coding is not acceptable. `*` means all codings that are not named.
    fn of(&self, coding: ContentCoding) -> u16 {
        let named = ContentCoding::ALL.iter().zip(self.codings).find(|(other, _)| **other == coding);
        named.and_then(|(_, weight)| weight).or(self.any).unwrap_or(0)
    }
}

/// The weight among the parameters of an element, 1000 without any. `None` if it cannot be read.
fn weight<'a>(parameters: impl Iterator<Item = &'a [u8]>) -> Option<u16> {
    let mut weight = 1000;
    for parameter in parameters {
        let mut halves = parameter.splitn(2, |byte| *byte == b'=');
        let name = halves.next().unwrap_or_default().trim_ascii();
        if name.eq_ignore_ascii_case(b"q") {
            weight = thousandths(halves.next()?.trim_ascii())?;
        }
    }
    Some(weight)
}

/// `0`, `0.5` or `1.000`: at most three decimals, and not above 1.
fn thousandths(text: &[u8]) -> Option<u16> {
    let (whole, decimals) = match text {
        [whole] => (*whole, &[][..]),
        [whole, b'.', decimals @ ..] => (*whole, decimals),
        _ => return None,
    };
    if decimals.len() > 3 || !decimals.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = decimals.iter().copied().chain(std::iter::repeat(b'0')).take(3);
    let part = digits.fold(0, |sum: u16, digit| sum * 10 + u16::from(digit - b'0'));
    match whole {
        b'0' => Some(part),
        b'1' if part == 0 => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn chosen(lines: &[&str]) -> Option<&'static str> {
        choose(lines.iter().map(|line| line.as_bytes()), &ContentCoding::ALL).map(ContentCoding::name)
    }

    #[test]
    fn the_client_s_weights_count_before_the_server_s_preference() {
        for (field, expected) in [
            ("gzip, deflate, br, zstd", Some("zstd")),
            ("gzip, deflate, br", Some("br")),
            ("GZIP", Some("gzip")),
            ("x-gzip", Some("gzip")),
            ("gzip;q=1.0, br;q=0.5", Some("gzip")),
            ("gzip;q=0.001", Some("gzip")),
            ("gzip ; Q=0.3 , br ; q = 0.2", Some("gzip")),
            ("*", Some("zstd")),
            ("*;q=0.1, gzip", Some("gzip")),
            ("zstd;q=0, *", Some("br")),
            ("identity, gzip;q=0.5", None),
            ("identity;q=0.5, gzip;q=0.5", Some("gzip")),
            ("identity;q=0, br", Some("br")),
            ("identity", None),
            ("identity;q=0", None),
            ("gzip;q=0", None),
            ("gzip;q=0.000, *;q=0", None),
            ("deflate, compress", None),
            ("", None),
            (",, ,gzip,", Some("gzip")),
        ] {
            assert_eq!(chosen(&[field]), expected, "{field}");
        }
        assert_eq!(chosen(&["gzip;q=0.1", "br;q=0.2"]), Some("br"), "lines make one list");
        assert_eq!(chosen(&[]), None, "no field");
        let gzip = [ContentCoding::Gzip];
        assert_eq!(choose([b"br, zstd".as_slice()].into_iter(), &gzip), None);
    }

    #[test]
    fn what_cannot_be_read_is_not_acceptable() {
        for field in [
            "gzip;q=",
            "gzip;q",
            "gzip;q=1.1",
            "gzip;q=2",
            "gzip;q=-1",
            "gzip;q=0.1234",
            "gzip;q=.5",
            "g zip",
        ] {
            assert_eq!(chosen(&[field]), None, "{field}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_read(line in proptest::collection::vec(any::<u8>(), 0..60)) {
            choose([line.as_slice()].into_iter(), &ContentCoding::ALL);
        }

        #[test]
        fn the_choice_has_the_highest_weight_and_none_is_zero(
            weights in proptest::collection::vec(0_u16..=1000, 3),
            identity in proptest::option::of(0_u16..=1000),
        ) {
            let q = |w: u16| format!("{}.{:03}", w / 1000, w % 1000);
            let mut elements: Vec<String> = ContentCoding::ALL
                .iter()
                .zip(&weights)
                .map(|(coding, w)| format!("{};q={}", coding.name(), q(*w)))
                .collect();
            elements.extend(identity.map(|w| format!("identity;q={}", q(w))));
            let found = chosen(&[&elements.join(", ")]);
            let best = *weights.iter().max().unwrap();
            let expected = ContentCoding::ALL.iter().zip(&weights).find(|(_, w)| **w == best);
            let expected = expected.map(|(coding, _)| coding.name());
            let wanted = best > 0 && best >= identity.unwrap_or(0);
            prop_assert_eq!(found, expected.filter(|_| wanted));
        }
    }
}
