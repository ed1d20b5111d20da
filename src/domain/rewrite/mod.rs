//! Rewrites header values of responses from the names and paths of the servers to the public ones, and builds the URLs
//! of redirect mode. Pure functions, which return `None` if nothing has to change; bodies are never rewritten.

mod authority;
mod cookie;
mod database_path;
mod location;
mod redirect;

pub use authority::ServerNames;
pub use cookie::rewrite_set_cookie;
pub use location::{rewrite_header, rewrite_link};
pub use redirect::redirect_location;

use http::uri::Scheme;

/// Maps a path on another server to the public path. Takes the position of the server in [`RewriteContext::servers`]
/// and the percent-encoded path without query; `None` if the public path is the same.
pub type PublicPathFn<'a> = dyn Fn(usize, &[u8]) -> Option<String> + 'a;

/// How the client addressed the request, and which server responds.
#[derive(Clone, Copy)]
pub struct RewriteContext<'a> {
    /// The scheme that the client used.
    pub public_scheme: &'a Scheme,
    /// Host and port as the client sent them: `www.acme.example`, `[2001:db8::1]:8443`.
    pub public_authority: &'a str,
    /// All servers of the cluster.
    pub servers: &'a [ServerNames],
    /// Position of the server that responds.
    pub serving: usize,
    /// If they differ: the path of the database on the server, and the path that the client used. Both begin with `/`
    /// and are percent-encoded.
    pub database_paths: Option<(&'a str, &'a str)>,
    /// For URLs that name a server, outside the database of `database_paths`.
    pub public_path: &'a PublicPathFn<'a>,
}

impl std::fmt::Debug for RewriteContext<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RewriteContext")
            .field("public_scheme", &self.public_scheme)
            .field("public_authority", &self.public_authority)
            .field("serving", &self.serving)
            .field("database_paths", &self.database_paths)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
