//! The paths whose responses are kept in the cache: resources that every page drags along and that are the same for every
//! user.

use super::directory::db_path::{self, FoldBuffer};
use super::rules::Glob;

/// The patterns of such paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachedPaths {
    patterns: Vec<Glob>,
}

impl CachedPaths {
    /// What Domino serves from its own files: Java classes and icons, and the resources of the XPages runtime, below
    /// whatever database a page names them.
    pub const DEFAULT: [&'static str; 4] = ["/domjava/*", "/icons/*", "/.ibmxspres/*", "*/.ibmxspres/*"];

    /// The default paths, and these.
    #[must_use]
    pub fn with(more: &[String]) -> Self {
        let mut buffer = FoldBuffer::default();
        let mut folded = |pattern: &str| Glob::new(db_path::fold_plain_path(pattern.as_bytes(), &mut buffer));
        let default = Self::DEFAULT.iter().copied();
        Self { patterns: default.chain(more.iter().map(String::as_str)).map(&mut folded).collect() }
    }

    /// The pattern that a path of a URL matches, if there is one. It is compared decoded and without regard to case, as
    /// Domino opens it.
    #[must_use]
    pub fn find(&self, raw_path: &[u8]) -> Option<&Glob> {
        let mut buffer = FoldBuffer::default();
        let path = db_path::fold_url_path(raw_path, &mut buffer);
        self.patterns.iter().find(|pattern| pattern.matches(path))
    }
}

impl Default for CachedPaths {
    fn default() -> Self {
        Self::with(&[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_domino_are_cached_in_every_spelling() {
        let paths = CachedPaths::with(&["/web/site.nsf/*.css".to_owned()]);
        for path in [
            "/domjava/nvapplet.cab",
            "/DOMJAVA/x",
            "/icons/actn010.gif",
            "/%69cons/a.gif",
            "//icons\\a.gif",
            "/xsp/.ibmxspres/dojoroot/dojo/dojo.js",
            "/.ibmxspres/global/theme.css",
            "/sales/leads.nsf/xsp/.ibmxspres/.mini/css/a.css",
            "/Web/Site.nsf/main.CSS",
        ] {
            assert!(paths.find(path.as_bytes()).is_some(), "{path}");
        }
        for path in
            ["/", "/domjava", "/sales/icons/a.gif", "/sales/leads.nsf", "/ibmxspres/a", "/web/site.nsf/a.js"]
        {
            assert!(paths.find(path.as_bytes()).is_none(), "{path}");
        }
    }
}
