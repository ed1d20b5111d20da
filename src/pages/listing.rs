//! Lists of databases: those that share a path, and all of a cluster. They never show which servers have a replica.

use std::borrow::Cow;

use serde::Serialize;

use super::template::Template;
use super::{STYLE_SHEET, escape};
use crate::domain::directory::ReplicaId;

/// One of several databases that share a path.
#[derive(Clone, Debug)]
pub struct ChoiceItem<'a> {
    /// The replica ID is shown where it is empty.
    pub title: &'a str,
    /// It tells the databases apart.
    pub replica_id: ReplicaId,
    /// `/__<replica id>.nsf` and the rest of the client's URL.
    pub link: Cow<'a, str>,
}

/// One database of a cluster.
#[derive(Clone, Debug)]
pub struct ListItem<'a> {
    /// The path is shown where it is empty.
    pub title: &'a str,
    /// Below the data directory.
    pub path: &'a str,
    /// Shared by all replicas.
    pub replica_id: ReplicaId,
    pub link: Cow<'a, str>,
}

impl ListItem<'_> {
    fn display_title(&self) -> &str {
        if self.title.trim().is_empty() { self.path } else { self.title }
    }
}

pub(super) fn choice_html(template: &Template, items: &[ChoiceItem<'_>], path: &str) -> String {
    let mut rows = String::with_capacity(160 * items.len());
    for item in items {
        let id = item.replica_id.to_string();
        let title = if item.title.trim().is_empty() { id.as_str() } else { item.title };
        push_row(&mut rows, &item.link, title, &id);
    }
    let path = escape::escape_html(path);
    template.fill(|name| match name {
        "style" => STYLE_SHEET,
        "status" => "300",
        "title" => "Which database do you mean?",
        "message" => "Different databases have this same path. Please choose one.",
        "path" => &path,
        "items" => &rows,
        _ => "",
    })
}

pub(super) fn list_html(template: &Template, items: &[ListItem<'_>], more: usize, cluster: &str) -> String {
    let mut rows = String::with_capacity(160 * items.len());
    for item in sorted_by_title(items) {
        push_row(&mut rows, &item.link, item.display_title(), item.path);
    }
    let cluster = escape::escape_html(cluster);
    let title = format!("Databases of {cluster}");
    let count = match (items.len(), more) {
        (1, 0) => "1 database".to_owned(),
        (n, 0) => format!("{n} databases"),
        (n, more) => format!("{n} of {} databases", n + more),
    };
    template.fill(|name| match name {
        "style" => STYLE_SHEET,
        "status" => "200",
        "title" => &title,
        "message" | "count" => &count,
        "cluster" => &cluster,
        "items" => &rows,
        _ => "",
    })
}

fn push_row(rows: &mut String, link: &str, title: &str, detail: &str) {
    if !rows.is_empty() {
        rows.push('\n');
    }
    rows.push_str("<li><a href=\"");
    escape::push_escaped(rows, &escape::same_site_link(link));
    // `bdi`: a title in a right-to-left script must not reverse the line around it.
    rows.push_str("\"><bdi>");
    escape::push_escaped(rows, title);
    rows.push_str("</bdi></a> <span><bdi>");
    escape::push_escaped(rows, detail);
    rows.push_str("</bdi></span></li>");
}

#[derive(Serialize)]
struct Row<'a> {
    title: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
    replica_id: String,
    href: String,
}

pub(super) fn choice_json(items: &[ChoiceItem<'_>]) -> String {
    #[derive(Serialize)]
    struct ChoiceBody<'a> {
        status: u16,
        choices: Vec<Row<'a>>,
    }
    let choices = items
        .iter()
        .map(|item| Row {
            title: item.title,
            path: None,
            replica_id: item.replica_id.to_string(),
            href: escape::same_site_link(&item.link),
        })
        .collect();
    json(&ChoiceBody { status: 300, choices })
}

pub(super) fn list_json(items: &[ListItem<'_>], more: usize) -> String {
    #[derive(Serialize)]
    struct ListBody<'a> {
        databases: Vec<Row<'a>>,
        /// Databases that are not listed.
        #[serde(skip_serializing_if = "Option::is_none")]
        more: Option<usize>,
    }
    let databases = sorted_by_title(items)
        .into_iter()
        .map(|item| Row {
            title: item.title,
            path: Some(item.path),
            replica_id: item.replica_id.to_string(),
            href: escape::same_site_link(&item.link),
        })
        .collect();
    json(&ListBody { databases, more: Some(more).filter(|more| *more > 0) })
}

/// By title, then by path, both case-insensitive.
fn sorted_by_title<'a, 'b>(items: &'a [ListItem<'b>]) -> Vec<&'a ListItem<'b>> {
    let mut sorted: Vec<_> = items.iter().collect();
    sorted.sort_by_cached_key(|item| (item.display_title().to_lowercase(), item.path.to_lowercase()));
    sorted
}

/// Strings and numbers always serialise; the empty object is never reached.
pub(super) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "{}".to_owned())
}
