//! Databases whose replicas are not compared: those that differ by nature on each server, and those that the
//! administrator names.

/// Folded paths of databases that each server writes by itself: logs, mailboxes of the router, statistics, and catalogs
/// that a task of each server fills. Several of them have the same replica ID on all servers of a domain, so a directory
/// shows them as replicas (<http://www-1.ibm.com/support/docview.wss?uid=swg21099635>).
pub const NOT_COMPARED: [&str; 20] = [
    "log.nsf",
    "loga4.nsf",
    "domlog.nsf",
    "mail*.box",
    "smtp*.box",
    "cldbdir.nsf",
    "clubusy.nsf",
    "busytime.nsf",
    "catalog.nsf",
    "daoscat.nsf",
    "dbdirman.nsf",
    "statrep.nsf",
    "statmail.nsf",
    "ddm.nsf",
    "admin4.nsf",
    "activity.nsf",
    "billing.nsf",
    "reports.nsf",
    "webadmin.nsf",
    "mtdata/mtstore.nsf",
];

/// Folded path patterns in which `*` stands for any characters, `/` included.
#[derive(Clone, Debug, Default)]
pub struct IgnoredDatabases {
    patterns: Vec<String>,
}

impl IgnoredDatabases {
    /// The fixed list and these folded patterns.
    #[must_use]
    pub fn new(own: &[String]) -> Self {
        let fixed = NOT_COMPARED.iter().map(|pattern| (*pattern).to_owned());
        Self { patterns: fixed.chain(own.iter().cloned()).collect() }
    }

    /// Whether a folded path matches one of the patterns.
    #[must_use]
    pub fn matches(&self, folded: &str) -> bool {
        self.patterns.iter().any(|pattern| matches_wildcard(pattern, folded))
    }
}

/// The parts between the wildcards must follow each other; taking the first place for each part is enough.
fn matches_wildcard(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(start) else { return false };
    let (middle, end) = rest.rsplit_once('*').unwrap_or(("", rest));
    for part in middle.split('*') {
        let Some((_, behind)) = text.split_once(part) else { return false };
        text = behind;
    }
    text.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn logs_mailboxes_and_catalogs_are_never_compared_and_mail_files_are() {
        let ignored = IgnoredDatabases::new(&[]);
        for path in ["log.nsf", "mail.box", "mail3.box", "catalog.nsf", "statrep.nsf", "admin4.nsf"] {
            assert!(ignored.matches(path), "{path}");
        }
        for path in ["mail/jdoe.nsf", "sales/leads.nsf", "sales/log.nsf", "names.nsf", "mail/x.box.nsf"] {
            assert!(!ignored.matches(path), "{path}");
        }
    }

    #[test]
    fn a_star_stands_for_any_characters() {
        let cases = [
            ("stats/*.nsf", "stats/a/b.nsf", true),
            ("stats/*.nsf", "stats/.nsf", true),
            ("stats/*.nsf", "stat/a.nsf", false),
            ("*", "anything", true),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "ac", false),
            ("a*a", "a", false),
            ("*x*", "aXb", false),
            ("*x*", "axb", true),
            ("sales/leads.nsf", "sales/leads.nsf", true),
        ];
        for (pattern, path, expected) in cases {
            assert_eq!(matches_wildcard(pattern, path), expected, "{pattern} {path}");
        }
    }

    proptest! {
        #[test]
        fn a_path_matches_itself_with_any_part_replaced_by_a_star(
            before in "[a-c/]{0,6}", hidden in "[a-c/]{0,6}", after in "[a-c/]{0,6}"
        ) {
            let path = format!("{before}{hidden}{after}");
            let pattern = format!("{before}*{after}");
            prop_assert!(matches_wildcard(&pattern, &path));
        }
    }
}
