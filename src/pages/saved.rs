//! The answer to "did my save happen?", for people and as JSON. It uses the template of the error pages, so that custom pages
//! need no further file.

use super::{PageFormat, Pages, RenderedPage, STYLE_SHEET, escape, format, format_for, html, json, listing};
use crate::domain::save::{SaveUnknown, SaveVerdict};

/// What the page shows.
#[derive(Clone, Copy, Debug)]
pub struct SaveAnswer<'a> {
    pub verdict: SaveVerdict,
    /// The title of the database, else its path.
    pub database: &'a str,
    /// When the request was sent, in milliseconds since 1970.
    pub sent_unix_ms: u64,
    /// When this was found out.
    pub asked_unix_ms: u64,
    /// The link that asks again.
    pub ask_again: &'a str,
    /// The link to the document.
    pub document: &'a str,
}

const ASK_AGAIN: &str = "Ask again";
const OPEN: &str = "Open the document";

impl SaveAnswer<'_> {
    fn title(&self) -> &'static str {
        match self.verdict {
            SaveVerdict::Saved { .. } => "The document was changed",
            SaveVerdict::NotSaved => "It was not saved",
            SaveVerdict::Unknown(SaveUnknown::MayStillRun) => "Not saved so far",
            SaveVerdict::Unknown(_) => "It is not known whether it was saved",
        }
    }

    fn message(&self) -> String {
        let (sent, database) = (format::utc_seconds(self.sent_unix_ms), self.database);
        match self.verdict {
            SaveVerdict::Saved { changed_unix_ms, is_everywhere } => {
                let changed = format::utc_seconds(changed_unix_ms);
                let copies = match is_everywhere {
                    true => "All servers have this change.",
                    false => "Not all servers have this change yet, or some cannot be asked.",
                };
                format!(
                    "The document in {database} was changed at {changed} UTC; your request was sent at {sent} UTC. \
                     {copies} If others work on this document too, look whether the change is yours."
                )
            }
            SaveVerdict::NotSaved => format!(
                "The server that got your request of {sent} UTC has not changed the document in {database} since \
                 then. You can save it again."
            ),
            SaveVerdict::Unknown(why) => {
                let reason = match why {
                    SaveUnknown::MayStillRun => {
                        "The document has no change since then, but the server may still be working on your \
                         request. Ask again in a minute, before you save it again."
                    }
                    SaveUnknown::ServerGone => {
                        "The server that got it cannot be asked at the moment, and no other server has a change \
                         since then. Its copy may have your change. Ask again when it is back; if you save again \
                         before, both changes may meet in a conflict."
                    }
                    SaveUnknown::NotTold => {
                        "The server that got it does not tell when this document was changed. Open the document and \
                         look."
                    }
                    SaveUnknown::ClockMoved => {
                        "The clock of the server that got it was changed, so that its times say nothing. Open the \
                         document and look."
                    }
                    SaveUnknown::EarlierWrite => {
                        "The document was changed in these seconds, but you had saved in the same database just \
                         before. Open the document and look which of the two it has."
                    }
                };
                format!("Your request for {database} was sent at {sent} UTC. {reason}")
            }
        }
    }

    fn links(&self) -> Vec<(&str, &'static str)> {
        match self.verdict {
            SaveVerdict::Saved { is_everywhere: true, .. } | SaveVerdict::NotSaved => {
                vec![(self.document, OPEN)]
            }
            SaveVerdict::Saved { .. } => vec![(self.document, OPEN), (self.ask_again, ASK_AGAIN)],
            SaveVerdict::Unknown(_) => vec![(self.ask_again, ASK_AGAIN), (self.document, OPEN)],
        }
    }
}

impl Pages {
    /// 200: the answer (`{"answer":"saved","changed":"...","everywhere":true,"message":"...","href":"..."}`).
    #[must_use]
    pub fn saved(
        &self,
        answer: &SaveAnswer<'_>,
        accept: Option<&[u8]>,
        reference: Option<&str>,
    ) -> RenderedPage {
        match format_for(accept) {
            PageFormat::Html => html(200, &self.error, self.saved_html(answer, reference), None),
            PageFormat::Json => json(200, saved_json(answer, reference), None),
        }
    }

    fn saved_html(&self, answer: &SaveAnswer<'_>, reference: Option<&str>) -> String {
        let message = escape::escape_html(&answer.message());
        let asked = format!("{} UTC", format::utc_seconds(answer.asked_unix_ms));
        let link = |(href, text): (&str, &str)| {
            let href = escape::escape_html(&escape::same_site_link(href));
            format!("<p><a href=\"{href}\">{text}</a></p>")
        };
        let links: String = answer.links().into_iter().map(link).collect();
        let reference = super::reference_html(reference);
        self.error.fill(|name| match name {
            "style" => STYLE_SHEET,
            "status" => &asked,
            "title" => answer.title(),
            "message" => &message,
            "link" => &links,
            "reference" => &reference,
            _ => "",
        })
    }
}

fn saved_json(answer: &SaveAnswer<'_>, reference: Option<&str>) -> String {
    #[derive(serde::Serialize)]
    struct Body<'a> {
        status: u16,
        answer: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<&'a str>,
        sent: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        changed: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        everywhere: Option<bool>,
        message: String,
        href: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        reference: Option<&'a str>,
    }
    let (changed, everywhere) = match answer.verdict {
        SaveVerdict::Saved { changed_unix_ms, is_everywhere } => {
            (Some(format::rfc3339(changed_unix_ms)), Some(is_everywhere))
        }
        _ => (None, None),
    };
    let reason = match answer.verdict {
        SaveVerdict::Unknown(why) => Some(why.as_str()),
        _ => None,
    };
    listing::json(&Body {
        status: 200,
        answer: answer.verdict.as_str(),
        reason,
        sent: format::rfc3339(answer.sent_unix_ms),
        changed,
        everywhere,
        message: answer.message(),
        href: escape::same_site_link(answer.ask_again),
        reference,
    })
}
