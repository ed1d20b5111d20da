//! What the users sent and received. The writes among it form the lines of revisions that a reader must find.

use std::collections::HashMap;

use super::client::Failure;

/// A save that was sent.
#[derive(Clone, Debug)]
pub struct Write {
    /// The save that the writer saw before; `None` if it created the document, or if the server had an older revision.
    pub base: Option<String>,
    /// The response, if there was one.
    pub acknowledged: Option<Acknowledgement>,
}

/// The response to a save.
#[derive(Clone, Copy, Debug)]
pub struct Acknowledgement {
    /// When it was complete.
    pub at: f64,
    pub server: usize,
    /// Number of the revision.
    pub seq: u64,
}

/// A document that a user read, and what he must find.
#[derive(Clone, Debug)]
pub struct OwnRead {
    pub database: usize,
    pub sent: f64,
    pub received: f64,
    pub server: usize,
    pub unid: String,
    /// The number of the revision that he got, and the save that made it; `None` if the document was missing.
    pub found: Option<(u64, String)>,
    /// His last acknowledged save of this document.
    pub wanted: String,
    /// It is his last acknowledged save in this database.
    pub is_last: bool,
    /// The load balancer has told him that this copy is older.
    pub told: bool,
}

/// A view that somebody without cookies read.
#[derive(Clone, Debug)]
pub struct NewcomerRead {
    pub database: usize,
    pub sent: f64,
    pub server: usize,
}

/// A request without a usable response.
#[derive(Clone, Debug)]
pub struct FailedRequest {
    pub is_get: bool,
    pub failure: Failure,
}

/// Everything that happened behind one load balancer.
#[derive(Debug, Default)]
pub struct Records {
    /// By the identifier of the save.
    pub writes: HashMap<String, Write>,
    pub own_reads: Vec<OwnRead>,
    pub newcomers: Vec<NewcomerRead>,
    pub failed: Vec<FailedRequest>,
    pub gets: usize,
    pub posts: usize,
    /// Milliseconds of every response.
    pub times: Vec<f64>,
    /// How often each user got another server than before, for the same database.
    pub moves: HashMap<usize, usize>,
    /// Pages that said that this copy is older.
    pub told: usize,
}

impl Records {
    /// Whether the revision that one save made contains another save.
    pub fn includes(&self, found: &str, wanted: &str) -> bool {
        let mut at = found;
        loop {
            if at == wanted {
                return true;
            }
            match self.writes.get(at).and_then(|write| write.base.as_deref()) {
                Some(base) => at = base,
                None => return false,
            }
        }
    }
}
