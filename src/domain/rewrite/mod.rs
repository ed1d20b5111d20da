//! Header values mapped between the servers' names and paths and the public ones.
//!
//! In: an octet string as a server sent it, and a [`RewriteContext`] that says who the members are, how the
//! client addressed us, and where the database lies on the serving server. Out: the value a client
//! may see, or `None` where nothing has to change; in redirect mode, the URL to send a browser to.
//! These are pure functions: no lookup, no log, no look at a body (bodies are never rewritten).

mod authority;
mod cookie;
mod database_path;
mod location;
mod redirect;

pub use authority::ServerNames;
pub use cookie::rewrite_set_cookie;
pub use location::{RewrittenUrl, rewrite_header, rewrite_link, rewrite_location, rewrite_refresh};
pub use redirect::redirect_location;

use http::uri::Scheme;

/// Maps a path on another member to the public one: member's index in [`RewriteContext::members`] and the
/// percent-encoded path without query in; the whole path as the public should see it out, or `None`
/// where it is the same.
pub type PublicPathFn<'a> = dyn Fn(usize, &[u8]) -> Option<String> + 'a;

/// How this request was addressed and who is answering it.
#[derive(Clone, Copy)]
pub struct RewriteContext<'a> {
    /// The scheme the client used.
    pub public_scheme: &'a Scheme,
    /// Host and port as the client wrote them: `www.acme.example`, `[2001:db8::1]:8443`.
    pub public_authority: &'a str,
    /// All members of the cluster.
    pub servers: &'a [ServerNames],
    /// Which of them answers.
    pub serving: usize,
    /// Where the two differ: the path of the database on the serving server, and the path by which
    /// the client addressed it. Both begin with `/` and are percent-encoded as in a URL.
    pub database_paths: Option<(&'a str, &'a str)>,
    /// For URLs that name a member, outside the database of [`RewriteContext::paths`].
    pub public_path: &'a PublicPathFn<'a>,
}

impl std::fmt::Debug for RewriteContext<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mapping")
            .field("public_scheme", &self.public_scheme)
            .field("public_authority", &self.public_authority)
            .field("serving", &self.serving)
            .field("paths", &self.database_paths)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
