//! Tests of status, format, valid markup for any input, and custom templates.

#![allow(clippy::unwrap_used)]
use super::*;
use crate::domain::directory::ReplicaId;
use crate::domain::save::{SaveUnknown, SaveVerdict};
use proptest::prelude::*;
use serde_json::Value;
use std::borrow::Cow;

const JSON_ONLY: Option<&[u8]> = Some(b"application/json");

fn text(rendered: &RenderedPage) -> &str {
    std::str::from_utf8(&rendered.body).unwrap()
}

fn value(rendered: &RenderedPage) -> Value {
    assert_eq!(rendered.content_type, "application/json; charset=utf-8");
    serde_json::from_slice(&rendered.body).unwrap()
}

fn all_problems() -> Vec<Problem> {
    let mut all = FIXED_ERRORS.to_vec();
    all.push(Problem::AllOutOfService { database: "/sales/leads.nsf".into() });
    all.push(Problem::NoteIdServerGone { link: "/sales/leads.nsf".into() });
    all.push(Problem::OlderThanOwnWrite {
        database: "Leads <b>".into(),
        unix_secs: 1_796_035_320,
        server_answers: false,
        link: "/sales/leads.nsf?OpenDatabase&Start=1".into(),
    });
    all.push(Problem::BadRequest("The request has two different lengths."));
    all
}

fn failed_save(advice: SaveAdvice) -> Problem {
    Problem::FailedSave { failure: Box::new(Problem::BadGateway), advice }
}

fn answer(verdict: SaveVerdict) -> SaveAnswer<'static> {
    SaveAnswer {
        verdict,
        database: "Leads <b>",
        sent_unix_ms: 1_796_035_320_000,
        asked_unix_ms: 1_796_035_380_000,
        ask_again: "/.icm/saved?t=abc",
        document: "/__C1257A000041D2E0.nsf/0/E86886A81087A25805258E4F00502001?OpenDocument",
    }
}

#[test]
fn the_page_of_a_failed_save_is_that_of_the_failure_with_a_link_or_an_advice() {
    let pages = Pages::built_in();
    let ask = failed_save(SaveAdvice::Ask { link: "//evil.example/.icm/saved?t=abc".into() });
    let page = pages.error(&ask, None, Some("ref-1"));
    skeleton(text(&page));
    assert_eq!((page.status, ask.as_str()), (502, "bad_gateway"));
    assert!(
        text(&page).contains("<a href=\"/evil.example/.icm/saved?t=abc\">Find out whether it was saved</a>")
    );
    assert!(text(&page).contains("Reference: ref-1"));
    let json = value(&pages.error(&ask, JSON_ONLY, None));
    assert_eq!(
        (&json["error"], &json["href"]),
        (&"bad_gateway".into(), &"/evil.example/.icm/saved?t=abc".into())
    );
    let new = pages.error(&failed_save(SaveAdvice::LookForNew), None, None);
    assert!(text(&new).contains("look for that in a view") && !text(&new).contains("<a "), "{}", text(&new));
}

#[test]
fn every_answer_about_a_save_says_what_is_known_and_what_to_do_and_names_no_server() {
    let pages = Pages::built_in();
    let saved = |is_everywhere| SaveVerdict::Saved { changed_unix_ms: 1_796_035_321_000, is_everywhere };
    for (verdict, word, links) in [
        (saved(true), "saved", 1),
        (saved(false), "saved", 2),
        (SaveVerdict::NotSaved, "not_saved", 1),
        (SaveVerdict::Unknown(SaveUnknown::MayStillRun), "unknown", 2),
        (SaveVerdict::Unknown(SaveUnknown::ServerGone), "unknown", 2),
        (SaveVerdict::Unknown(SaveUnknown::NotTold), "unknown", 2),
        (SaveVerdict::Unknown(SaveUnknown::ClockMoved), "unknown", 2),
        (SaveVerdict::Unknown(SaveUnknown::EarlierWrite), "unknown", 2),
    ] {
        let page = pages.saved(&answer(verdict), None, None);
        let html = text(&page);
        skeleton(html);
        assert_eq!((page.status, html.matches("<a href").count()), (200, links), "{html}");
        assert!(html.contains("10:42:00 UTC") && html.contains("Leads &lt;b&gt;"), "{html}");
        assert!(page.headers().any(|(name, value)| name == "cache-control" && value == "no-store"));
        let json = value(&pages.saved(&answer(verdict), JSON_ONLY, Some("ref-1")));
        assert_eq!((&json["answer"], &json["href"]), (&word.into(), &"/.icm/saved?t=abc".into()));
        assert_eq!(json["reason"].is_string(), word == "unknown");
        assert_eq!(json["reference"], "ref-1");
    }
    let json = value(&pages.saved(&answer(saved(true)), JSON_ONLY, None));
    assert_eq!((&json["changed"], &json["everywhere"]), (&"2026-11-30T10:42:01Z".into(), &true.into()));
}

fn choice(title: &str) -> ChoiceItem<'_> {
    ChoiceItem {
        title,
        replica_id: ReplicaId(0xC125_7A00_0041_D2E0),
        link: Cow::Borrowed("/__C1257A000041D2E0.nsf/All?OpenView&Start=1"),
    }
}

fn database<'a>(title: &'a str, path: &'a str) -> ListItem<'a> {
    ListItem { title, path, replica_id: ReplicaId(7), link: Cow::Owned(format!("/{path}")) }
}

/// Names of tags and of their attributes, in order. Panics where the markup is not balanced.
fn skeleton(html: &str) -> Vec<String> {
    const VOID: [&str; 3] = ["meta", "link", "!doctype"];
    let mut tags = Vec::new();
    let mut open: Vec<String> = Vec::new();
    let mut rest = html;
    while let Some((before, after)) = rest.split_once('<') {
        assert!(!before.contains('>') || open.last().is_some_and(|o| o == "style"), "stray > in {before:?}");
        // No attribute may contain `>`, so the first one ends the tag.
        let (tag, after) = after.split_once('>').unwrap();
        let unquoted: String =
            tag.split('"').enumerate().filter(|(i, _)| i % 2 == 0).map(|(_, t)| t).collect();
        assert_eq!(tag.matches('"').count() % 2, 0, "open quote in {tag:?}");
        let name = unquoted.split_whitespace().next().unwrap().to_owned();
        if let Some(name) = name.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name));
        } else if !VOID.contains(&name.as_str()) {
            open.push(name);
        }
        tags.push(unquoted);
        rest = after;
    }
    assert!(open.is_empty(), "{open:?} left open");
    tags
}

#[test]
fn built_in_templates_obey_the_rules_for_custom_ones() {
    for kind in [&ERROR_TEMPLATE, &CHOICE_TEMPLATE, &LIST_TEMPLATE] {
        kind.parse(Path::new(kind.file), kind.built_in).unwrap();
    }
}

#[test]
fn every_problem_has_its_status_and_a_balanced_page() {
    let pages = Pages::built_in();
    let mut codes = std::collections::BTreeSet::new();
    for problem in all_problems() {
        let page = pages.error(&problem, None, None);
        assert_eq!(page.status, problem.status());
        assert_eq!(page.content_type, "text/html; charset=utf-8");
        skeleton(text(&page));
        assert!(text(&page).contains(&format!(">{}<", page.status)), "{problem:?}");
        assert!(!text(&page).contains("{{"), "{problem:?}");
        let json = value(&pages.error(&problem, JSON_ONLY, None));
        assert_eq!(json["status"], page.status);
        assert!(!json["message"].as_str().unwrap().is_empty());
        assert!(codes.insert(json["error"].as_str().unwrap().to_owned()), "one code for two problems");
        assert_eq!(page.retry_after.is_some(), matches!(page.status, 503 | 429), "{problem:?}");
    }
}

#[test]
fn statuses_are_those_of_the_contract() {
    for (problem, status) in [
        (Problem::NoServer, 503),
        (Problem::Overloaded, 503),
        (Problem::Draining, 503),
        (Problem::UnknownDatabase, 404),
        (Problem::AmbiguousConflict, 409),
        (Problem::Misdirected, 421),
        (Problem::BadGateway, 502),
        (Problem::GatewayTimeout, 504),
        (Problem::BodyTooLarge, 413),
        (Problem::UriTooLong, 414),
        (Problem::HeadersTooLarge, 431),
        (Problem::BadRequest("x"), 400),
        (Problem::TooManyRequests, 429),
    ] {
        assert_eq!(problem.status(), status, "{problem:?}");
    }
}

#[test]
fn no_page_loads_resources() {
    let pages = Pages::built_in();
    let list = pages.list(&[database("Leads", "sales/leads.nsf")], 0, "AcmeWeb", None);
    let choice = pages.choice(&[choice("Leads")], None, "/sales/leads.nsf");
    for page in all_problems().iter().map(|p| pages.error(p, None, None)).chain([list, choice]) {
        let html = text(&page);
        for resource in ["http:", "https:", "src=", "url(", "@import", "<script", "href=\"//"] {
            assert!(!html.contains(resource), "{resource} in {html}");
        }
        assert!(html.contains("name=\"viewport\""));
        assert!(html.contains("prefers-color-scheme:dark"));
    }
}

#[test]
fn an_error_in_json_has_the_documented_shape() {
    let rendered = Pages::built_in().error(&Problem::NoServer, JSON_ONLY, None);
    let json = value(&rendered);
    assert_eq!(json["status"], 503);
    assert_eq!(json["error"], "no_server");
    assert_eq!(json.as_object().unwrap().len(), 3);
}

#[test]
fn an_out_of_service_page_shows_the_path_of_the_request() {
    let problem = Problem::AllOutOfService { database: "/sales/<b>.nsf".into() };
    let pages = Pages::built_in();
    assert!(
        text(&pages.error(&problem, None, None)).contains("Every replica of /sales/&lt;b&gt;.nsf was taken")
    );
    let json = value(&pages.error(&problem, JSON_ONLY, None));
    assert!(json["message"].as_str().unwrap().contains("/sales/<b>.nsf"));
}

#[test]
fn a_note_id_page_offers_the_databases_own_link() {
    let problem = Problem::NoteIdServerGone { link: "/sales/leads.nsf".into() };
    let pages = Pages::built_in();
    assert!(text(&pages.error(&problem, None, None)).contains("<a href=\"/sales/leads.nsf\">"));
    assert_eq!(value(&pages.error(&problem, JSON_ONLY, None))["href"], "/sales/leads.nsf");
}

#[test]
fn own_answers_carry_server_charset_and_retry_after_but_no_version() {
    let fields: http::HeaderMap = Pages::built_in().error(&Problem::NoServer, None, None).headers().collect();
    assert_eq!(fields["server"], "domino-icm");
    assert_eq!(fields["content-type"], "text/html; charset=utf-8");
    assert_eq!(fields["cache-control"], "no-store");
    assert_eq!(fields["retry-after"], "10");
    let fields: http::HeaderMap =
        Pages::built_in().error(&Problem::MethodNotAllowed, None, None).headers().collect();
    assert!(fields.contains_key("allow") && !fields.contains_key("retry-after"));
}

#[test]
fn no_other_site_may_frame_own_answers_and_the_built_in_pages_run_nothing_but_their_style() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("error.html"), "<img src=https://acme.example/logo.png>{{message}}")
        .unwrap();
    let content_security_policy = |page: &RenderedPage| {
        let fields: http::HeaderMap = page.headers().collect();
        assert_eq!(fields["x-frame-options"], "SAMEORIGIN");
        assert_eq!(fields["x-content-type-options"], "nosniff");
        fields["content-security-policy"].to_str().unwrap().to_owned()
    };
    let (built_in, own) = (Pages::built_in(), Pages::load(dir.path()).unwrap());
    assert_eq!(content_security_policy(&own.error(&Problem::NoServer, None, None)), "frame-ancestors 'self'");
    assert!(
        content_security_policy(&own.error(&Problem::NoServer, JSON_ONLY, None))
            .contains("frame-ancestors 'self'")
    );
    let list = |pages: &Pages| pages.list(&[database("Leads", "sales/leads.nsf")], 0, "AcmeWeb", None);
    for page in [
        built_in.error(&Problem::NoServer, None, None),
        list(&built_in),
        list(&own),
        built_in.choice(&[choice("Leads")], None, "/"),
    ] {
        let style = text(&page).split("<style>").nth(1).unwrap().split("</style>").next().unwrap();
        let hash = STANDARD.encode(Sha256::digest(style));
        let content_security_policy = content_security_policy(&page);
        assert!(content_security_policy.contains("default-src 'none'"), "{content_security_policy}");
        assert!(content_security_policy.contains(&format!("'sha256-{hash}'")), "{content_security_policy}");
        assert!(
            content_security_policy.ends_with("frame-ancestors 'self'")
                && !content_security_policy.contains("unsafe"),
            "{content_security_policy}"
        );
    }
}

#[test]
fn the_choice_shows_title_and_link_of_each_database() {
    let items = [choice("Leads & more"), ChoiceItem { replica_id: ReplicaId(5), ..choice("") }];
    let pages = Pages::built_in();
    let page = pages.choice(&items, None, "/sales/leads.nsf");
    assert_eq!(page.status, 300);
    assert!(text(&page).contains(
        "<li><a href=\"/__C1257A000041D2E0.nsf/All?OpenView&amp;Start=1\"><bdi>Leads &amp; more</bdi></a>"
    ));
    assert!(
        text(&page).contains("<bdi>0000000000000005</bdi></a>"),
        "without a title the replica ID is shown"
    );
    let json = value(&pages.choice(&items, JSON_ONLY, "/sales/leads.nsf"));
    assert_eq!(json["status"], 300);
    assert_eq!(
        json["choices"][0],
        serde_json::json!({"title": "Leads & more", "replica_id": "C1257A000041D2E0",
            "href": "/__C1257A000041D2E0.nsf/All?OpenView&Start=1"})
    );
}

#[test]
fn the_list_is_sorted_by_title_without_regard_to_case() {
    let items = [
        database("zoo", "z.nsf"),
        database("Beta", "b.nsf"),
        database("", "cats.nsf"),
        database("alpha", "a.nsf"),
    ];
    let pages = Pages::built_in();
    let cut = pages.list(&items, 999, "AcmeWeb", None);
    let count = format!("{} of {} databases", items.len(), items.len() + 999);
    assert!(text(&cut).contains(&count), "{}", text(&cut));
    assert_eq!(value(&pages.list(&items, 999, "AcmeWeb", JSON_ONLY))["more"], 999);
    let json = value(&pages.list(&items, 0, "AcmeWeb", JSON_ONLY));
    assert!(json.get("more").is_none());
    let paths: Vec<_> =
        json["databases"].as_array().unwrap().iter().map(|d| d["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["a.nsf", "b.nsf", "cats.nsf", "z.nsf"]);
    assert_eq!(json["databases"][0]["href"], "/a.nsf");
    let page = pages.list(&items, 0, "AcmeWeb", None);
    assert_eq!(page.status, 200);
    assert!(text(&page).contains("<h1>Databases of AcmeWeb</h1>") && text(&page).contains("4 databases"));
}

#[test]
fn a_custom_page_replaces_only_its_built_in_page() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("error.html"), "<h1>Acme {{status}}</h1>{{message}}{{link}}").unwrap();
    let pages = Pages::load(dir.path()).unwrap();
    assert!(text(&pages.error(&Problem::NoServer, None, None)).starts_with("<h1>Acme 503</h1>None of"));
    assert_eq!(
        pages.choice(&[choice("x")], None, "/x.nsf"),
        Pages::built_in().choice(&[choice("x")], None, "/x.nsf")
    );
}

#[test]
fn a_broken_page_is_refused_with_file_and_line() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("choice.html"), "<ul>\n{{itmes}}\n</ul>").unwrap();
    let message = Pages::load(dir.path()).unwrap_err().to_string();
    assert!(message.contains("choice.html, line 2: unknown placeholder `{{itmes}}`"), "{message}");
    std::fs::write(dir.path().join("choice.html"), b"\xFF\xFE{{items}}").unwrap();
    let message = Pages::load(dir.path()).unwrap_err().to_string();
    assert!(message.contains("cannot read") && message.contains("choice.html"), "{message}");
    let message = Pages::load(&dir.path().join("nowhere")).unwrap_err().to_string();
    assert!(message.contains("nowhere"), "{message}");
}

proptest! {
    #[test]
    fn no_title_path_or_link_breaks_out_of_the_markup(title in "\\PC{0,20}|[<>\"'&/=a-z\\\\ \u{0}-\u{1f}{}-]{0,40}", path in "[<>\"'&/=a-z\\\\ \u{0}-\u{1f}{}]{0,40}", link in ".{0,40}") {
        let pages = Pages::built_in();
        let harmless = ChoiceItem { link: Cow::Borrowed("/x"), ..choice("t") };
        let hostile = ChoiceItem { title: &title, link: Cow::Borrowed(&link), ..choice("") };
        prop_assert_eq!(
            skeleton(text(&pages.choice(&[hostile], None, &path))),
            skeleton(text(&pages.choice(&[harmless], None, "/x")))
        );
        let hostile = ListItem { link: Cow::Borrowed(&link), ..database(&title, &path) };
        let page = pages.list(&[hostile], 0, &title, None);
        prop_assert_eq!(
            skeleton(text(&page)),
            skeleton(text(&pages.list(&[database("t", "p")], 0, "c", None)))
        );
        let gone = Problem::NoteIdServerGone { link: link.clone() };
        prop_assert_eq!(
            skeleton(text(&pages.error(&gone, None, None))),
            skeleton(text(&pages.error(&Problem::NoteIdServerGone { link: "/".into() }, None, None)))
        );
        let out = Problem::AllOutOfService { database: path.clone() };
        prop_assert_eq!(
            skeleton(text(&pages.error(&out, None, None))),
            skeleton(text(&pages.error(&Problem::NoServer, None, None)))
        );
    }

    #[test]
    fn json_contains_title_and_path_unchanged(title in ".{0,30}", path in ".{0,30}") {
        let json = value(&Pages::built_in().list(&[database(&title, &path)], 0, "c", JSON_ONLY));
        prop_assert_eq!(json["databases"][0]["title"].as_str(), Some(title.as_str()));
        prop_assert_eq!(json["databases"][0]["path"].as_str(), Some(path.as_str()));
    }
}

#[test]
fn a_page_shows_the_id_of_the_request_where_there_is_one() {
    let pages = Pages::built_in();
    for problem in all_problems() {
        let html = pages.error(&problem, None, Some("a-7<b>"));
        assert!(text(&html).contains("<p class=\"reference\">Reference: a-7&lt;b&gt;</p>"), "{problem:?}");
        let json = pages.error(&problem, JSON_ONLY, Some("a-7"));
        assert_eq!(value(&json)["reference"], "a-7");
        assert!(!text(&pages.error(&problem, None, None)).contains("Reference"), "{problem:?}");
    }
}
