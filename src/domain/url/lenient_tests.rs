//! Tables of spellings, and the property: no lenient server opens another database than the one we route by.

use super::super::{Hazard, parse};
use crate::domain::directory::{FoldBuffer, fold_plain_path, fold_url_path};
use proptest::prelude::*;

fn refused(path: &str) -> bool {
    parse(path.as_bytes()).hazard.is_some()
}

#[test]
fn a_path_that_a_lenient_server_would_open_as_another_database_is_refused() {
    for path in [
        "/sales;x/leads.nsf",
        "/leads.nsf;x",
        "/leads.nsf;jsessionid=1/v?Open",
        "/leads.nsf%3Bx",
        "/..;/leads.nsf",
        "/leads.nsf/..;x/names.nsf",
        "/leads.nsf.",
        "/leads.nsf%20",
        "/leads.nsf+",
        "/leads.nsf.%20./v?Open",
        "/sales./leads.nsf",
        "/.../leads.nsf",
        "/sales%20/leads.nsf",
        "/leads.nsf::$DATA",
        "/leads.nsf:x/v",
        "/a%252fleads.nsf",
        "/a%255cleads.nsf",
        "/leads%252ensf",
        "/leads.nsf%252fv",
        "/leads.nsf%253FOpen",
        "/a/%252e%252e/leads.nsf",
        "/leads.nsf/%252e%252e/names.nsf",
        "/%25252e%25252e/leads.nsf",
        "/leads.nsf%2500",
        "/leads.nsf/%c0%80",
        "/%c0%ae%c0%ae/leads.nsf",
        "/a%c0%afleads.nsf",
        "/a%c1%9cleads.nsf",
        "/a%e0%80%afleads.nsf",
        "/a%f0%80%80%afleads.nsf",
        "/leads%c0%aensf",
        "/leads.nsf/%e0%80%ae%c0%ae/names.nsf",
    ] {
        assert!(refused(path), "{path}");
    }
}

#[test]
fn an_odd_path_that_changes_no_database_passes() {
    for path in [
        "/leads.nsf/page.xsp;jsessionid=0000?x=..;",
        "/leads.nsf/By%20Name;v=1/key.?OpenDocument",
        "/leads.nsf/a%252Fb/100%25?OpenDocument",
        "/leads.nsf/time:12:30",
        "/leads.nsf?Open&to=%252e%252e/..;/",
        "/leads.nsf%3FOpenDatabase",
        "/hey!.nsf/v.?Open",
        "/100%25.nsf",
        "/M%E0nner.nsf",
        "/%C0%20la.nsf",
        "/c%2B%2B/leads.nsf",
        "//sales%2F%5Cleads.nsf",
        "/icons/a;b.gif",
        "/a.b/leads.nsf",
        "/domjava/a.;x",
    ] {
        assert!(!refused(path), "{path}");
    }
}

#[test]
fn excessively_nested_encoding_is_refused() {
    let path = format!("/a%{}2fleads.nsf", "25".repeat(40));
    assert_eq!(parse(path.as_bytes()).hazard, Some(Hazard::AmbiguousDatabase));
}

/// An independent model of a lenient server, with each of its habits as a choice.
#[derive(Clone, Copy, Debug)]
struct Server {
    decodings: usize,
    parameters: bool,
    overlong: bool,
    windows: bool,
}

impl Server {
    /// The folded path of the database that it opens; `Err` if the path climbs.
    fn opens(self, path: &str) -> Result<Option<Vec<u8>>, ()> {
        let mut text = path.as_bytes().to_vec();
        if self.parameters {
            text = cut_parameters(&text);
        }
        for _ in 0..self.decodings {
            text = percent_encoding::percent_decode(&text).collect();
        }
        if self.overlong {
            let text_of = |bytes: &[u8]| bytes.iter().map(|b| char::from(*b)).collect::<String>();
            let overlong = [("\u{c0}\u{ae}", "."), ("\u{c0}\u{af}", "/"), ("\u{c1}\u{9c}", "\\")];
            let text_now = overlong.iter().fold(text_of(&text), |t, (from, to)| t.replace(from, to));
            text = text_now.chars().map(|c| c as u8).collect();
        }
        if self.parameters {
            text = cut_parameters(&text);
        }
        let mut open = Vec::new();
        for name in text.split(|b| matches!(b, b'/' | b'\\')) {
            let mut name = name.to_vec();
            if name == b".." || name == b"." {
                return Err(());
            }
            while self.windows && matches!(name.last(), Some(b'.' | b' ')) {
                name.pop();
            }
            if name.is_empty() {
                continue;
            }
            open.push(b'/');
            open.extend_from_slice(&name);
            if name.to_ascii_lowercase().ends_with(b".nsf") {
                return Ok(Some(fold_plain_path(&open, &mut FoldBuffer::default()).to_vec()));
            }
        }
        Ok(None)
    }
}

fn cut_parameters(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut skip = false;
    for byte in text {
        skip = (skip || *byte == b';') && !matches!(byte, b'/' | b'\\');
        if !skip {
            out.push(*byte);
        }
    }
    out
}

const PIECES: &str = "(/|/|\\\\|a|b|\\.nsf|\\.nsf/|\\.nsf;|\\.|\\.\\.|;|%2e|%2E%2e|%2f|%5C|%20| |%25|%252e|%252f|%3b|%c0%ae|%c0%af|%c1%9c|:|x){1,9}";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]
    #[test]
    fn no_lenient_server_opens_another_database_than_we_route_by(
        rest in PIECES, decodings in 1..4_usize, parameters: bool, overlong: bool, windows: bool,
    ) {
        let path = format!("/{rest}");
        let target = parse(path.as_bytes());
        if target.hazard.is_none() {
            let ours = target.database.map(|d| fold_url_path(d.raw, &mut FoldBuffer::default()).to_vec());
            let server = Server { decodings, parameters, overlong, windows };
            prop_assert_eq!(server.opens(&path), Ok(ours), "{} {:?}", path, server);
        }
    }
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        let _ = parse(&bytes);
    }
    #[test]
    fn a_path_of_letters_and_slashes_is_never_refused(path in "(/[a-zA-Z0-9äöü]{1,5}){1,4}\\.nsf(/[a-z0-9]{0,4}){0,3}") {
        prop_assert!(!refused(&path));
    }
}
