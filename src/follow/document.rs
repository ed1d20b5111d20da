//! What one ICM tells those that follow it.
//!
//! In: the running balancer, or a text that came from another ICM. Out: YAML with a strong ETag, or clusters and
//! restrictions that have passed every check. Secrets are named by their files and never contained. A
//! configuration that has come by way of this very ICM is refused: two that follow each other would hold
//! each other's restrictions for ever.

use std::path::Path;
use std::sync::{Arc, PoisonError};

use http::{HeaderValue, Response, StatusCode, header};
use pingora_http::RequestHeader;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::config::settings::{Cluster, Follow};
use crate::config::{ConfigErrors, Disk, Settings, Warning, load_clusters};
use crate::state::followed::{Followed, Origin};
use crate::state::restrictions_file::KeptRestriction;
use crate::state::{Balancer, restrictions};
use crate::util::clock;

use super::FollowError;

/// Its media type (RFC 9512).
pub const YAML: &str = "application/yaml";
/// Most ICMs one behind the other.
const LONGEST_CHAIN: usize = 8;
/// Most restrictions that are taken.
const MOST_RESTRICTIONS: usize = 10_000;

/// Clusters and restrictions of another ICM.
#[derive(Clone, Debug)]
pub struct Document {
    /// At least one. To be built from once: what their directories bring is handed over.
    pub clusters: Vec<Arc<Cluster>>,
    /// As text.
    pub clusters_yaml: Arc<str>,
    /// Made there, or where that ICM has them from.
    pub restrictions: Vec<KeptRestriction>,
    /// The ICMs that it has come by, the nearest first.
    pub via: Vec<String>,
    /// What an administrator should know.
    pub warnings: Vec<Warning>,
}

/// Why a configuration that came is not used.
#[derive(Debug, thiserror::Error)]
pub enum FollowRefusal {
    /// It does not validate.
    #[error("\n{0}")]
    Errors(ConfigErrors),
    /// The part beside the clusters.
    #[error("its restrictions cannot be understood: {0}")]
    Restrictions(String),
    /// It would follow itself.
    #[error(
        "it comes from this very ICM, directly or by way of others: one of the ICMs must hold `clusters` itself"
    )]
    Loop,
}

#[derive(Serialize, Deserialize)]
struct Beside {
    #[serde(default)]
    via: Vec<String>,
    #[serde(default)]
    restrictions: Vec<KeptRestriction>,
}

/// What `/config` answers.
#[must_use]
pub fn published(balancer: &Balancer) -> String {
    let snapshot = balancer.snapshot();
    let mut via = vec![balancer.id.clone()];
    if let Some(followed) = &*balancer.followed.lock().unwrap_or_else(PoisonError::into_inner) {
        via.extend(followed.via.iter().cloned());
    }
    let beside = Beside { via, restrictions: restrictions::all(balancer) };
    let mut text = String::from("# For the ICMs that follow this one by get_configuration_from.\n");
    text.push_str(&serde_yaml::to_string(&beside).unwrap_or_default());
    text.push_str("clusters:\n");
    text.push_str(snapshot.settings.clusters_yaml.as_deref().unwrap_or("[]\n"));
    text
}

/// Gives an answer of [`published`] its ETag, and makes it 304 for a client that has this text.
pub fn validate(request: &RequestHeader, text: &str, response: &mut Response<Vec<u8>>) {
    let tag = etag(text);
    let known = request.headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|v| v.to_str().ok());
    let known = known.flat_map(|list| list.split(',')).map(str::trim);
    if known.into_iter().any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one) == tag) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response.body_mut().clear();
        response.headers_mut().remove(header::CONTENT_LENGTH);
        response.headers_mut().remove(header::CONTENT_TYPE);
    }
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
}

/// A strong ETag: the same octets, the same tag.
fn etag(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let hex: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("\"{hex}\"")
}

impl Document {
    /// What a follower knows that has just been given this document.
    #[must_use]
    pub fn followed(&self, follow: &Follow, text: Arc<str>, etag: Option<String>) -> Followed {
        let now = clock::unix_ms();
        Followed {
            url: follow.url.to_string(),
            text,
            restricted: self.restrictions.clone(),
            etag,
            via: self.via.clone(),
            origin: Origin::Remote,
            confirmed_unix_ms: now,
            changed_unix_ms: now,
            asked_unix_ms: now,
            trouble: String::new(),
            refused: String::new(),
        }
    }

    /// The same for a document that was kept on disk at `at_unix_ms`, because of `trouble`.
    #[must_use]
    pub fn followed_copy(
        &self,
        follow: &Follow,
        text: Arc<str>,
        at_unix_ms: u64,
        trouble: String,
    ) -> Followed {
        let followed = self.followed(follow, text, None);
        Followed { origin: Origin::Copy, confirmed_unix_ms: at_unix_ms, trouble, ..followed }
    }

    /// Reads and checks a text that came. `own_id` is this balancer's, where it runs already.
    ///
    /// # Errors
    /// Everything that is wrong, with places in the text.
    pub fn read(follow: &Follow, text: &str, own_id: Option<&str>) -> Result<Self, FollowError> {
        let url = follow.url.to_string();
        let refused = |refusal| FollowError::Refused { url: url.clone(), refusal };
        // First of all: it also bounds how large the text is once its aliases are written out.
        let loaded = load_clusters(Path::new(&url), text, &follow.files, &Disk)
            .map_err(|errors| refused(FollowRefusal::Errors(errors)))?;
        let beside: Beside = serde_yaml::from_str(text).map_err(|e| {
            refused(FollowRefusal::Restrictions(crate::discovery::domino::fault::short(&e.to_string())))
        })?;
        if beside.restrictions.len() > MOST_RESTRICTIONS {
            let text = format!("there are more than {MOST_RESTRICTIONS}");
            return Err(refused(FollowRefusal::Restrictions(text)));
        }
        if beside.via.len() > LONGEST_CHAIN || beside.via.iter().any(|id| Some(id.as_str()) == own_id) {
            return Err(refused(FollowRefusal::Loop));
        }
        let there = follow.url.origin();
        let restrictions = beside.restrictions.into_iter().map(|mut restriction| {
            // They end in the log and on the status page.
            restriction.by = crate::discovery::domino::fault::short(&restriction.by);
            let at = restriction
                .at
                .as_deref()
                .map_or_else(|| there.clone(), crate::discovery::domino::fault::short);
            restriction.at = Some(at);
            restriction
        });
        Ok(Self {
            clusters: loaded.clusters,
            clusters_yaml: loaded.yaml,
            restrictions: restrictions.collect(),
            via: beside.via.iter().map(|id| crate::discovery::domino::fault::short(id)).collect(),
            warnings: loaded.warnings,
        })
    }

    /// Puts the clusters where those of a file would be.
    pub fn put_into(self, settings: &mut Settings) {
        settings.clusters = self.clusters;
        settings.clusters_yaml = Some(self.clusters_yaml);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::BaseUrl;
    use crate::domain::cluster::HostPort;
    use std::time::Duration;

    const CLUSTERS: &str = "clusters:\n- name: A\n  servers: { list: [{ name: X/Y, http: h:80 }] }\n  directory: { source: cldbdir }\n";

    fn follow() -> Follow {
        let at = HostPort { host: "icm1.acme.example".into(), port: 8098 };
        Follow {
            url: BaseUrl { https: true, at, path: "/config".into() },
            ca_file: None,
            ca: None,
            token: None,
            refresh: Duration::from_secs(30),
            cache: None,
            files: crate::config::FileAccess::default(),
        }
    }

    fn read(beside: &str) -> Result<Document, FollowError> {
        Document::read(&follow(), &format!("{beside}{CLUSTERS}"), Some("me"))
    }

    #[test]
    fn a_restriction_says_where_it_was_made() {
        let made = "{ cluster: A, server: X/Y, since: 5, by: \"Joe\\nDoe\" }";
        let inherited = "{ cluster: A, server: X/Y, since: 5, by: Jo, at: \"https://icm0:8098\" }";
        let document = read(&format!("restrictions: [{made}, {inherited}]\n")).unwrap();
        let said: Vec<_> =
            document.restrictions.iter().map(|r| (r.by.as_str(), r.at.as_deref().unwrap())).collect();
        assert_eq!(said, [("Joe Doe", "https://icm1.acme.example:8098"), ("Jo", "https://icm0:8098")]);
        assert!(read("").unwrap().restrictions.is_empty());
    }

    #[test]
    fn what_came_by_way_of_this_icm_is_refused_and_so_is_a_chain_without_end() {
        assert!(read("via: [you, another]\n").is_ok());
        let nine = "via: [a, b, c, d, e, f, g, h, i]\n";
        for looped in ["via: [me]\n", "via: [you, me]\n", nine] {
            let error = read(looped).unwrap_err();
            assert!(error.to_string().contains("must hold `clusters` itself"), "{error}");
            assert!(!error.may_pass());
        }
    }

    #[test]
    fn restrictions_that_cannot_be_understood_spoil_the_whole_text() {
        for bad in ["restrictions: 7\n", "restrictions: [{ server: X }]\n", "via: { a: b }\n"] {
            let error = read(bad).unwrap_err().to_string();
            assert!(error.contains("https://icm1.acme.example:8098/config is refused"), "{error}");
        }
    }

    #[test]
    fn the_tag_is_strong_and_follows_the_bytes() {
        let tag = etag("a");
        assert!(tag.starts_with('"') && tag.ends_with('"') && tag.len() == 34, "{tag}");
        assert_eq!(tag, etag("a"));
        assert_ne!(tag, etag("b"));
    }
}
