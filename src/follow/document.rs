//! What one ICM tells those that follow it.
//!
//! In: the running balancer, or a text that came from another ICM. Out: YAML with a strong ETag, or clusters and
//! restrictions that have passed every check. Secrets are named by their files and never contained. A
//! configuration that has come by way of this very ICM is refused: two that follow each other would hold
//! each other's restrictions for ever.

use std::path::Path;
use std::sync::Arc;

use http::{HeaderValue, Response, StatusCode, header};
use pingora_http::RequestHeader;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::config::settings::{ClusterSettings, Follow};
use crate::config::{ConfigErrors, Disk, Settings, Warning, load_clusters};
use crate::state::followed::{FollowedConfig, FollowedOrigin};
use crate::state::restrictions_file::KeptRestriction;
use crate::state::{Balancer, restrictions};
use crate::util::clock;

use super::FollowError;

/// Its media type (RFC 9512).
pub const YAML_MEDIA_TYPE: &str = "application/yaml";
/// Most ICMs one behind the other.
const MAX_FOLLOW_CHAIN: usize = 8;
/// Most restrictions that are taken.
const MAX_RESTRICTIONS: usize = 10_000;

/// Clusters and restrictions of another ICM.
#[derive(Clone, Debug)]
pub struct FollowDocument {
    /// At least one. To be built from once: what their directories bring is handed over.
    pub clusters: Vec<Arc<ClusterSettings>>,
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
    Config(ConfigErrors),
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
struct FollowMetadata {
    #[serde(default)]
    via: Vec<String>,
    #[serde(default)]
    restrictions: Vec<KeptRestriction>,
}

/// What `/config` answers.
#[must_use]
pub fn render_document(balancer: &Balancer) -> String {
    let snapshot = balancer.snapshot();
    let mut via = vec![balancer.instance_id.clone()];
    if let Some(followed) = &*balancer.followed.lock() {
        via.extend(followed.via.iter().cloned());
    }
    let metadata = FollowMetadata { via, restrictions: restrictions::all_restrictions(balancer) };
    let mut text = String::from("# For the ICMs that follow this one by get_configuration_from.\n");
    text.push_str(&serde_yaml::to_string(&metadata).unwrap_or_default());
    text.push_str("clusters:\n");
    text.push_str(snapshot.settings.clusters_yaml.as_deref().unwrap_or("[]\n"));
    text
}

/// Gives an answer of [`published`] its ETag, and makes it 304 for a client that has this text.
pub fn apply_etag(request: &RequestHeader, text: &str, response: &mut Response<Vec<u8>>) {
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

impl FollowDocument {
    /// What a follower knows that has just been given this document.
    #[must_use]
    pub fn followed(&self, follow: &Follow, text: Arc<str>, etag: Option<String>) -> FollowedConfig {
        let now = clock::unix_ms();
        FollowedConfig {
            url: follow.url.to_string(),
            text,
            restrictions: self.restrictions.clone(),
            etag,
            via: self.via.clone(),
            origin: FollowedOrigin::Remote,
            confirmed_unix_ms: now,
            changed_unix_ms: now,
            attempted_unix_ms: now,
            trouble: String::new(),
            rejected_error: String::new(),
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
    ) -> FollowedConfig {
        let followed = self.followed(follow, text, None);
        FollowedConfig { origin: FollowedOrigin::Cache, confirmed_unix_ms: at_unix_ms, trouble, ..followed }
    }

    /// Reads and checks a text that came. `own_id` is this balancer's, where it runs already.
    ///
    /// # Errors
    /// Everything that is wrong, with places in the text.
    pub fn parse(follow: &Follow, text: &str, own_id: Option<&str>) -> Result<Self, FollowError> {
        let url = follow.url.to_string();
        let refused = |reason| FollowError::Refused { url: url.clone(), reason };
        // First of all: it also bounds how large the text is once its aliases are written out.
        let loaded = load_clusters(Path::new(&url), text, &follow.files, &Disk)
            .map_err(|errors| refused(FollowRefusal::Config(errors)))?;
        let metadata: FollowMetadata = serde_yaml::from_str(text).map_err(|e| {
            refused(FollowRefusal::Restrictions(crate::discovery::domino::fault::single_line(&e.to_string())))
        })?;
        if metadata.restrictions.len() > MAX_RESTRICTIONS {
            let text = format!("there are more than {MAX_RESTRICTIONS}");
            return Err(refused(FollowRefusal::Restrictions(text)));
        }
        if metadata.via.len() > MAX_FOLLOW_CHAIN || metadata.via.iter().any(|id| Some(id.as_str()) == own_id)
        {
            return Err(refused(FollowRefusal::Loop));
        }
        let origin = follow.url.origin();
        let restrictions = metadata.restrictions.into_iter().map(|mut restriction| {
            // They end in the log and on the status page.
            restriction.by = crate::discovery::domino::fault::single_line(&restriction.by);
            let at = restriction
                .at
                .as_deref()
                .map_or_else(|| origin.clone(), crate::discovery::domino::fault::single_line);
            restriction.at = Some(at);
            restriction
        });
        Ok(Self {
            clusters: loaded.clusters,
            clusters_yaml: loaded.yaml,
            restrictions: restrictions.collect(),
            via: metadata.via.iter().map(|id| crate::discovery::domino::fault::single_line(id)).collect(),
            warnings: loaded.warnings,
        })
    }

    /// Puts the clusters where those of a file would be.
    pub fn apply_to(self, settings: &mut Settings) {
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

    fn read(metadata: &str) -> Result<FollowDocument, FollowError> {
        FollowDocument::parse(&follow(), &format!("{metadata}{CLUSTERS}"), Some("me"))
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
            assert!(!error.is_transient());
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
