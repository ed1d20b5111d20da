//! The pages that the proxy makes itself: errors, the choice between databases of one path, the list of databases.
//!
//! HTML is self-contained and can be replaced by custom pages; JSON has the same content. A page never names a server,
//! an address or a version.

mod escape;
mod format;
mod listing;
mod problem;
mod saved;
mod template;

use std::path::Path;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use sha2::{Digest, Sha256};

pub use listing::{ChoiceItem, ListItem};
pub use problem::{Problem, SaveAdvice};
pub use saved::SaveAnswer;
pub use template::PagesError;

use format::{PageFormat, format_for};
use problem::{FIXED_ERRORS, ProblemText};
use template::Template;

/// The `Server` field of the proxy's own responses: the product without its version.
pub const SERVER_NAME: &str = "domino-icm";
/// The `Allow` field of the proxy's own responses: the methods that it forwards.
pub const ALLOWED_METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

const STYLE_SHEET: &str = include_str!("templates/style.css");
const HTML_CONTENT_TYPE: &str = "text/html; charset=utf-8";
const JSON_CONTENT_TYPE: &str = "application/json; charset=utf-8";

/// The templates, and the error pages without variable parts, which are rendered once.
#[derive(Clone, Debug)]
pub struct Pages {
    error: Template,
    choice: Template,
    list: Template,
    /// In the order of [`FIXED_ERRORS`].
    fixed_errors: Vec<(RenderedPage, RenderedPage)>,
}

/// A page with everything that its response needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenderedPage {
    pub status: u16,
    /// Media type and charset.
    pub content_type: &'static str,
    pub body: Bytes,
    /// In seconds; on every 503 and 429.
    pub retry_after: Option<u32>,
    pub content_security_policy: HeaderValue,
}

impl RenderedPage {
    /// The header fields of the page, with those for the security of browsers.
    pub fn headers(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        let allow = (self.status == 405).then(|| HeaderValue::from_static(ALLOWED_METHODS));
        [
            (header::SERVER, HeaderValue::from_static(SERVER_NAME)),
            (header::CONTENT_TYPE, HeaderValue::from_static(self.content_type)),
            (header::CONTENT_LENGTH, HeaderValue::from(self.body.len())),
            // A later request may find a server.
            (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
            (header::VARY, HeaderValue::from_static("Accept")),
            (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
            // Against clickjacking: no other site may show the page in a frame.
            (header::X_FRAME_OPTIONS, HeaderValue::from_static("SAMEORIGIN")),
            (header::CONTENT_SECURITY_POLICY, self.content_security_policy.clone()),
        ]
        .into_iter()
        .chain(self.retry_after.map(|seconds| (header::RETRY_AFTER, HeaderValue::from(seconds))))
        .chain(allow.map(|methods| (header::ALLOW, methods)))
    }
}

impl Pages {
    /// The built-in pages.
    ///
    /// A test checks the built-in templates by the rules for custom ones, so the empty page is never reached.
    #[must_use]
    pub fn built_in() -> Self {
        let parse = |kind: &TemplateKind| {
            kind.parse(Path::new(kind.file), kind.built_in).unwrap_or_else(|_| Template::empty())
        };
        Self::new(parse(&ERROR_TEMPLATE), parse(&CHOICE_TEMPLATE), parse(&LIST_TEMPLATE))
    }

    /// The custom `error.html`, `choice.html` and `list.html` of `dir`; where one is missing, the built-in one.
    ///
    /// # Errors
    /// When the directory or a file in it cannot be read, or a template is not valid.
    pub fn load(dir: &Path) -> Result<Self, PagesError> {
        let unreadable = |file: &Path, source| PagesError::Unreadable { file: file.to_owned(), source };
        std::fs::read_dir(dir).map_err(|e| unreadable(dir, e))?;
        let read = |kind: &TemplateKind| {
            let file = dir.join(kind.file);
            match std::fs::read_to_string(&file) {
                Ok(text) => kind.parse(&file, &text).map(Template::into_custom),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => kind.parse(&file, kind.built_in),
                Err(e) => Err(unreadable(&file, e)),
            }
        };
        Ok(Self::new(read(&ERROR_TEMPLATE)?, read(&CHOICE_TEMPLATE)?, read(&LIST_TEMPLATE)?))
    }

    fn new(error: Template, choice: Template, list: Template) -> Self {
        let fixed_errors = FIXED_ERRORS
            .iter()
            .map(|problem| {
                let text = problem.text();
                (error_html(&error, problem, &text, None), error_json(problem, &text, None))
            })
            .collect();
        Self { error, choice, list, fixed_errors }
    }

    /// The page or the JSON for a problem: `{"status":503,"error":"no_server","message":"..."}`,
    /// with `"href"` where the user can go on. `reference` is the ID by which the logs know the request.
    #[must_use]
    pub fn error(&self, problem: &Problem, accept: Option<&[u8]>, reference: Option<&str>) -> RenderedPage {
        let format = format_for(accept);
        let made = FIXED_ERRORS.iter().position(|p| p == problem).and_then(|i| self.fixed_errors.get(i));
        let made = made.filter(|_| reference.is_none());
        match (made, format) {
            (Some((html, _)), PageFormat::Html) => html.clone(),
            (Some((_, json)), PageFormat::Json) => json.clone(),
            (None, PageFormat::Html) => error_html(&self.error, problem, &problem.text(), reference),
            (None, PageFormat::Json) => error_json(problem, &problem.text(), reference),
        }
    }

    /// 300: the databases that share `path`, each with its link
    /// (`{"status":300,"choices":[{"title","replica_id","href"}]}`).
    #[must_use]
    pub fn choice(&self, items: &[ChoiceItem<'_>], accept: Option<&[u8]>, path: &str) -> RenderedPage {
        match format_for(accept) {
            PageFormat::Html => {
                html(300, &self.choice, listing::choice_html(&self.choice, items, path), None)
            }
            PageFormat::Json => json(300, listing::choice_json(items), None),
        }
    }

    /// 200: the databases of a cluster, sorted by title
    /// (`{"databases":[{"title","path","replica_id","href"}]}`).
    /// `more` databases are not listed.
    #[must_use]
    pub fn list(
        &self,
        items: &[ListItem<'_>],
        more: usize,
        cluster: &str,
        accept: Option<&[u8]>,
    ) -> RenderedPage {
        match format_for(accept) {
            PageFormat::Html => {
                html(200, &self.list, listing::list_html(&self.list, items, more, cluster), None)
            }
            PageFormat::Json => json(200, listing::list_json(items, more), None),
        }
    }
}

/// Whether a client that sends this `Accept` gets HTML.
#[must_use]
pub fn is_html_preferred(accept: Option<&[u8]>) -> bool {
    format_for(accept) == PageFormat::Html
}

/// A template with its placeholders.
struct TemplateKind {
    file: &'static str,
    built_in: &'static str,
    known: &'static [&'static str],
    required: &'static str,
}

const ERROR_TEMPLATE: TemplateKind = TemplateKind {
    file: "error.html",
    built_in: include_str!("templates/error.html"),
    known: &["style", "status", "title", "message", "link", "reference"],
    required: "message",
};
const CHOICE_TEMPLATE: TemplateKind = TemplateKind {
    file: "choice.html",
    built_in: include_str!("templates/choice.html"),
    known: &["style", "status", "title", "message", "path", "items"],
    required: "items",
};
const LIST_TEMPLATE: TemplateKind = TemplateKind {
    file: "list.html",
    built_in: include_str!("templates/list.html"),
    known: &["style", "status", "title", "message", "cluster", "count", "items"],
    required: "items",
};

impl TemplateKind {
    fn parse(&self, file: &Path, text: &str) -> Result<Template, PagesError> {
        Template::parse(file, text, self.known, self.required)
    }
}

fn error_html(
    template: &Template,
    problem: &Problem,
    text: &ProblemText,
    reference: Option<&str>,
) -> RenderedPage {
    let status = text.status.to_string();
    let message = escape::escape_html(&text.message);
    let link = match link_of(problem) {
        Some((href, text)) => format!("<p><a href=\"{}\">{text}</a></p>", escape::escape_html(&href)),
        None => String::new(),
    };
    let reference = reference_html(reference);
    let page = template.fill(|name| match name {
        "style" => STYLE_SHEET,
        "status" => &status,
        "title" => text.title,
        "message" => &message,
        "link" => &link,
        "reference" => &reference,
        _ => "",
    });
    html(text.status, template, page, text.retry_after)
}

fn reference_html(reference: Option<&str>) -> String {
    reference.map_or_else(String::new, |id| {
        format!("<p class=\"reference\">Reference: {}</p>", escape::escape_html(id))
    })
}

fn error_json(problem: &Problem, text: &ProblemText, reference: Option<&str>) -> RenderedPage {
    #[derive(serde::Serialize)]
    struct Body<'a> {
        status: u16,
        error: &'a str,
        message: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        href: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        reference: Option<&'a str>,
    }
    let href = link_of(problem).map(|(href, _)| href);
    let body = Body { status: text.status, error: text.error, message: &text.message, href, reference };
    json(text.status, listing::json(&body), text.retry_after)
}

/// Where the user can go on, and the text of the link.
fn link_of(problem: &Problem) -> Option<(String, &'static str)> {
    match problem {
        Problem::NoteIdServerGone { link } => Some((escape::same_site_link(link), "Open the database")),
        Problem::OlderThanOwnWrite { link, .. } => {
            Some((escape::same_site_link(link), "Open the older copy"))
        }
        Problem::FailedSave { advice: SaveAdvice::Ask { link }, .. } => {
            Some((escape::same_site_link(link), "Find out whether it was saved"))
        }
        _ => None,
    }
}

fn html(status: u16, template: &Template, page: String, retry_after: Option<u32>) -> RenderedPage {
    let content_security_policy =
        if template.is_custom { HeaderValue::from_static(CUSTOM_POLICY) } else { BUILT_IN_POLICY.clone() };
    RenderedPage {
        status,
        content_type: HTML_CONTENT_TYPE,
        body: page.into(),
        retry_after,
        content_security_policy,
    }
}

fn json(status: u16, text: String, retry_after: Option<u32>) -> RenderedPage {
    let content_security_policy = HeaderValue::from_static("default-src 'none'; frame-ancestors 'self'");
    RenderedPage {
        status,
        content_type: JSON_CONTENT_TYPE,
        body: text.into(),
        retry_after,
        content_security_policy,
    }
}

/// The policy of custom pages, which may load what they want. Domino's framesets show pages of this host, and an error
/// page in one of them must be visible; no other site may show it in a frame.
const CUSTOM_POLICY: &str = "frame-ancestors 'self'";

/// The policy of the built-in pages: their own style sheet and the empty icon. `connect-src` is for a browser's developer
/// tools; the pages have no script.
static BUILT_IN_POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let style = STANDARD.encode(Sha256::digest(format!("\n{STYLE_SHEET}\n")));
    let content_security_policy = format!(
        "default-src 'none'; style-src 'sha256-{style}'; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; {CUSTOM_POLICY}"
    );
    HeaderValue::from_str(&content_security_policy)
        .unwrap_or_else(|_| HeaderValue::from_static(CUSTOM_POLICY))
});

#[cfg(test)]
mod tests;
