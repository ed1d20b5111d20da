//! The document that an ICM serves at `/config` and that its followers read: clusters and restrictions in YAML.
//!
//! It contains the file names of secrets, never the secrets. A document that came through this ICM itself is refused,
//! because two ICMs that follow each other would keep each other's restrictions forever.

use std::path::Path;
use std::sync::Arc;

use http::{HeaderValue, Response, StatusCode, header};
use pingora_http::RequestHeader;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::config::settings::{ClusterSettings, Follow};
use crate::config::{ConfigErrors, Disk, Settings, Warning, load_clusters};
use crate::discovery::domino::fault::single_line;
use crate::state::catch_up::kept::KeptCatchUp;
use crate::state::followed::{FollowedConfig, FollowedOrigin};
use crate::state::restrictions_file::KeptRestriction;
use crate::state::{Balancer, catch_up, restrictions};
use crate::util::clock;

use super::FollowError;

/// The media type of the document (RFC 9512).
pub const YAML_MEDIA_TYPE: &str = "application/yaml";
/// Limit for ICMs that follow each other in a chain.
const MAX_FOLLOW_CHAIN: usize = 8;
const MAX_RESTRICTIONS: usize = 10_000;

/// The checked clusters and restrictions of another ICM.
#[derive(Clone, Debug)]
pub struct FollowDocument {
    /// At least one. Can be built from only once, because building takes over the loaded directories.
    pub clusters: Vec<Arc<ClusterSettings>>,
    /// The clusters as configured.
    pub clusters_yaml: Arc<str>,
    /// Made on the other ICM, or on one that it follows.
    pub restrictions: Vec<KeptRestriction>,
    /// Servers that are CATCHING UP there, and gates opened last.
    pub catching_up: Vec<KeptCatchUp>,
    /// The instance IDs of the ICMs that passed it on, nearest first.
    pub via: Vec<String>,
    pub warnings: Vec<Warning>,
}

/// Why a configuration from another ICM is not used.
#[derive(Debug, thiserror::Error)]
pub enum FollowRefusal {
    /// The clusters are invalid.
    #[error("\n{0}")]
    Config(ConfigErrors),
    /// The restrictions or the list of ICMs are invalid.
    #[error("its restrictions cannot be understood: {0}")]
    Restrictions(String),
    /// This ICM would follow itself.
    #[error(
        "it comes from this ICM itself, directly or through others: one of the ICMs must hold `clusters` itself"
    )]
    Loop,
}

#[derive(Serialize, Deserialize)]
struct FollowMetadata {
    #[serde(default)]
    via: Vec<String>,
    #[serde(default)]
    restrictions: Vec<KeptRestriction>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    catching_up: Vec<KeptCatchUp>,
}

/// Renders the response of `/config`.
#[must_use]
pub fn render_document(balancer: &Balancer) -> String {
    let snapshot = balancer.snapshot();
    let mut via = vec![balancer.instance_id.clone()];
    if let Some(followed) = &*balancer.followed.lock() {
        via.extend(followed.via.iter().cloned());
    }
    let metadata = FollowMetadata {
        via,
        restrictions: restrictions::all_restrictions(balancer),
        catching_up: catch_up::records_for_followers(balancer),
    };
    let mut text = String::from("# For the ICMs that follow this one by get_configuration_from.\n");
    text.push_str(&serde_yaml::to_string(&metadata).unwrap_or_default());
    text.push_str("clusters:\n");
    text.push_str(snapshot.settings.clusters_yaml.as_deref().unwrap_or("[]\n"));
    text
}

/// Adds the ETag of `text` to a response, and makes it 304 if the client already has this text.
pub fn apply_etag(request: &RequestHeader, text: &str, response: &mut Response<Vec<u8>>) {
    let tag = etag(text);
    let known = request.headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|v| v.to_str().ok());
    let known = known.flat_map(|list| list.split(',')).map(str::trim);
    if known.into_iter().any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response.body_mut().clear();
        response.headers_mut().remove(header::CONTENT_LENGTH);
        response.headers_mut().remove(header::CONTENT_TYPE);
    }
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
}

/// A strong ETag, derived from the bytes.
fn etag(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let hex: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("\"{hex}\"")
}

impl FollowDocument {
    /// The state of a follower that has just received this document.
    #[must_use]
    pub fn followed(&self, follow: &Follow, text: Arc<str>, etag: Option<String>) -> FollowedConfig {
        let now = clock::unix_ms();
        FollowedConfig {
            url: follow.url.to_string(),
            text,
            restrictions: self.restrictions.clone(),
            catching_up: self.catching_up.clone(),
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

    /// The state of a follower that uses a copy from disk because of `trouble`.
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

    /// Parses and checks a document. `own_id` = the instance ID, if this ICM is already running.
    ///
    /// # Errors
    /// All errors, with their positions in the text.
    pub fn parse(follow: &Follow, text: &str, own_id: Option<&str>) -> Result<Self, FollowError> {
        let url = follow.url.to_string();
        let refused = |reason| FollowError::Refused { url: url.clone(), reason };
        // This comes first, because it also limits the size of the text after its YAML aliases are expanded.
        let loaded = load_clusters(Path::new(&url), text, &follow.files, &Disk)
            .map_err(|errors| refused(FollowRefusal::Config(errors)))?;
        let metadata: FollowMetadata = serde_yaml::from_str(text)
            .map_err(|e| refused(FollowRefusal::Restrictions(single_line(&e.to_string()))))?;
        if metadata.restrictions.len().max(metadata.catching_up.len()) > MAX_RESTRICTIONS {
            let text = format!("there are more than {MAX_RESTRICTIONS}");
            return Err(refused(FollowRefusal::Restrictions(text)));
        }
        if metadata.via.len() > MAX_FOLLOW_CHAIN || metadata.via.iter().any(|id| Some(id.as_str()) == own_id)
        {
            return Err(refused(FollowRefusal::Loop));
        }
        let origin = follow.url.origin();
        let restrictions = metadata.restrictions.into_iter().map(|restriction| KeptRestriction {
            // These appear in the log and on the status page.
            by: single_line(&restriction.by),
            at: Some(restriction.at.as_deref().map_or_else(|| origin.clone(), single_line)),
            ..restriction
        });
        let catching_up = metadata.catching_up.into_iter().map(|kept| KeptCatchUp {
            at: Some(kept.at.as_deref().map_or_else(|| origin.clone(), single_line)),
            ..kept
        });
        Ok(Self {
            clusters: loaded.clusters,
            clusters_yaml: loaded.yaml,
            restrictions: restrictions.collect(),
            catching_up: catching_up.collect(),
            via: metadata.via.iter().map(|id| single_line(id)).collect(),
            warnings: loaded.warnings,
        })
    }

    /// Replaces the clusters of the settings.
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
    fn a_restriction_names_the_icm_where_it_was_made() {
        let made = "{ cluster: A, server: X/Y, since: 5, by: \"Joe\\nDoe\" }";
        let inherited = "{ cluster: A, server: X/Y, since: 5, by: Jo, at: \"https://icm0:8098\" }";
        let document = read(&format!("restrictions: [{made}, {inherited}]\n")).unwrap();
        let parsed: Vec<_> =
            document.restrictions.iter().map(|r| (r.by.as_str(), r.at.as_deref().unwrap())).collect();
        assert_eq!(parsed, [("Joe Doe", "https://icm1.acme.example:8098"), ("Jo", "https://icm0:8098")]);
        assert!(read("").unwrap().restrictions.is_empty());
    }

    #[test]
    fn a_document_that_came_through_this_icm_or_a_long_chain_is_refused() {
        assert!(read("via: [you, another]\n").is_ok());
        let nine = "via: [a, b, c, d, e, f, g, h, i]\n";
        for looped in ["via: [me]\n", "via: [you, me]\n", nine] {
            let error = read(looped).unwrap_err();
            assert!(error.to_string().contains("must hold `clusters` itself"), "{error}");
            assert!(!error.is_transient());
        }
    }

    #[test]
    fn a_document_with_invalid_restrictions_is_refused() {
        for bad in ["restrictions: 7\n", "restrictions: [{ server: X }]\n", "via: { a: b }\n"] {
            let error = read(bad).unwrap_err().to_string();
            assert!(error.contains("https://icm1.acme.example:8098/config is refused"), "{error}");
        }
    }

    #[test]
    fn the_etag_is_strong_and_depends_on_the_bytes() {
        let tag = etag("a");
        assert!(tag.starts_with('"') && tag.ends_with('"') && tag.len() == 34, "{tag}");
        assert_eq!(tag, etag("a"));
        assert_ne!(tag, etag("b"));
    }
}
