//! The challenges that an ACME server may ask for now. Requests and handshakes read them behind one pointer, and find out
//! with one load that there are none.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::config::settings::AcmeChallengeType;
use crate::util::crypto;

/// The protocol in the ALPN of a TLS-ALPN-01 handshake (RFC 8737 section 3).
pub const ACME_ALPN: &[u8] = b"acme-tls/1";

/// Where an ACME server asks for HTTP-01 (RFC 8555 section 8.3).
const HTTP_PREFIX: &[u8] = b"/.well-known/acme-challenge/";
/// A token has at least 128 bits in base64url (RFC 8555 section 8.3).
const TOKEN_LENGTHS: std::ops::RangeInclusive<usize> = 22..=256;
/// Pending challenges that are accepted from a followed ICM.
const MAX_PENDING: usize = 100;

/// One challenge, as ICMs send it to each other. It becomes public when the ACME server asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingChallenge {
    pub host: String,
    /// The type, `http-01` or `tls-alpn-01`.
    pub kind: String,
    pub token: String,
    pub key_authorization: String,
}

/// The answers to pending challenges.
#[derive(Debug, Default)]
pub struct ChallengeAnswers {
    http: HashMap<String, String>,
    tls: HashMap<String, Arc<CertifiedKey>>,
}

/// Pending challenges by origin: orders of this ICM, and those of the followed one.
#[derive(Debug, Default)]
pub struct PendingLists {
    own: Vec<PendingChallenge>,
    followed: Vec<PendingChallenge>,
}

/// The pending challenges and their answers.
#[derive(Debug, Default)]
pub struct Challenges {
    lists: Mutex<PendingLists>,
    answers: arc_swap::ArcSwapOption<ChallengeAnswers>,
}

impl Challenges {
    /// The answer to HTTP-01 for this token.
    #[must_use]
    pub fn http(&self, token: &str) -> Option<String> {
        self.answers.load().as_ref()?.http.get(token).cloned()
    }

    /// The certificate for a TLS-ALPN-01 handshake with this SNI.
    #[must_use]
    pub fn tls(&self, host: &str) -> Option<Arc<CertifiedKey>> {
        self.answers.load().as_ref()?.tls.get(&host.to_ascii_lowercase()).cloned()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.answers.load().is_none()
    }

    /// For ICMs that follow this one.
    #[must_use]
    pub fn own(&self) -> Vec<PendingChallenge> {
        self.lists.lock().own.clone()
    }

    /// Adds a challenge of an order; it ends when the result is dropped.
    ///
    /// # Errors
    /// When the certificate of TLS-ALPN-01 cannot be made.
    pub fn begin(self: &Arc<Self>, challenge: PendingChallenge) -> Result<ChallengeGuard, String> {
        let mut lists = self.lists.lock();
        lists.own.push(challenge.clone());
        let answers = lists.answers();
        if answers.is_err() {
            lists.own.retain(|other| *other != challenge);
        }
        self.answers.store(answers?);
        Ok(ChallengeGuard { challenges: Arc::clone(self), challenge })
    }

    fn end(&self, challenge: &PendingChallenge) {
        let mut lists = self.lists.lock();
        lists.own.retain(|other| other != challenge);
        self.answers.store(lists.answers().unwrap_or_default());
    }

    /// Replaces those of the followed ICM.
    ///
    /// # Errors
    /// When a certificate of TLS-ALPN-01 cannot be made; the old ones then stay.
    pub fn set_followed(&self, mut followed: Vec<PendingChallenge>) -> Result<(), String> {
        followed.truncate(MAX_PENDING);
        let mut lists = self.lists.lock();
        if lists.followed == followed {
            return Ok(());
        }
        let new = PendingLists { own: lists.own.clone(), followed };
        let answers = new.answers()?;
        *lists = new;
        self.answers.store(answers);
        Ok(())
    }
}

impl PendingLists {
    fn answers(&self) -> Result<Option<Arc<ChallengeAnswers>>, String> {
        let mut answers = ChallengeAnswers::default();
        for one in self.followed.iter().chain(&self.own) {
            if one.kind == AcmeChallengeType::Http01.as_str() {
                answers.http.insert(one.token.clone(), one.key_authorization.clone());
            } else if one.kind == AcmeChallengeType::TlsAlpn01.as_str() {
                let certificate = tls_certificate(&one.host, &one.key_authorization)?;
                answers.tls.insert(one.host.to_ascii_lowercase(), certificate);
            }
        }
        let is_empty = answers.http.is_empty() && answers.tls.is_empty();
        Ok((!is_empty).then(|| Arc::new(answers)))
    }
}

/// A pending challenge, which ends with this value.
#[derive(Debug)]
pub struct ChallengeGuard {
    challenges: Arc<Challenges>,
    challenge: PendingChallenge,
}

impl Drop for ChallengeGuard {
    fn drop(&mut self) {
        self.challenges.end(&self.challenge);
    }
}

/// The token, if this is the target of an HTTP-01 request.
#[must_use]
pub fn http_token(target: &[u8]) -> Option<&str> {
    let token = target.strip_prefix(HTTP_PREFIX)?;
    let is_base64url = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let is_token = TOKEN_LENGTHS.contains(&token.len()) && token.iter().all(is_base64url);
    std::str::from_utf8(token).ok().filter(|_| is_token)
}

/// A self-signed certificate with the digest of the key authorization (RFC 8737 section 3).
fn tls_certificate(host: &str, key_authorization: &str) -> Result<Arc<CertifiedKey>, String> {
    let digest = Sha256::digest(key_authorization.as_bytes());
    let mut params = CertificateParams::new(vec![host.to_owned()]).map_err(|e| e.to_string())?;
    params.custom_extensions.push(CustomExtension::new_acme_identifier(&digest));
    let key = KeyPair::generate().map_err(|e| e.to_string())?;
    let certificate = params.self_signed(&key).map_err(|e| e.to_string())?;
    let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let key = crypto::provider().key_provider.load_private_key(der).map_err(|e| e.to_string())?;
    // Not `from_der`, which refuses the critical extension that makes this an answer.
    Ok(Arc::new(CertifiedKey::new(vec![certificate.der().clone()], key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0";

    fn challenge(kind: AcmeChallengeType, host: &str) -> PendingChallenge {
        PendingChallenge {
            host: host.into(),
            kind: kind.as_str().into(),
            token: TOKEN.into(),
            key_authorization: format!("{TOKEN}.thumb"),
        }
    }

    #[test]
    fn a_challenge_is_answered_until_its_order_ends() {
        let challenges = Arc::new(Challenges::default());
        assert!(challenges.is_empty() && challenges.http(TOKEN).is_none());
        let http = challenges.begin(challenge(AcmeChallengeType::Http01, "www.acme.example")).unwrap();
        let tls = challenges.begin(challenge(AcmeChallengeType::TlsAlpn01, "www.acme.example")).unwrap();
        assert_eq!(challenges.http(TOKEN).unwrap(), format!("{TOKEN}.thumb"));
        assert!(challenges.http("other").is_none());
        let key = challenges.tls("WWW.acme.example").unwrap();
        let (_, leaf) = x509_parser::parse_x509_certificate(&key.cert[0]).unwrap();
        let extension = leaf.extensions().iter().find(|e| e.oid.to_id_string() == "1.3.6.1.5.5.7.1.31");
        let digest = Sha256::digest(format!("{TOKEN}.thumb").as_bytes());
        assert!(extension.is_some_and(|e| e.critical && e.value[2..] == digest[..]));
        drop(http);
        assert!(challenges.http(TOKEN).is_none() && challenges.tls("www.acme.example").is_some());
        drop(tls);
        assert!(challenges.is_empty() && challenges.own().is_empty());
    }

    #[test]
    fn challenges_of_the_followed_icm_are_answered_and_not_passed_on() {
        let challenges = Arc::new(Challenges::default());
        challenges.set_followed(vec![challenge(AcmeChallengeType::Http01, "www.acme.example")]).unwrap();
        assert!(challenges.http(TOKEN).is_some() && challenges.own().is_empty());
        challenges.set_followed(Vec::new()).unwrap();
        assert!(challenges.is_empty());
    }

    #[test]
    fn only_a_plain_token_is_taken_for_one() {
        let target = |rest: &str| format!("/.well-known/acme-challenge/{rest}");
        assert_eq!(http_token(target(TOKEN).as_bytes()), Some(TOKEN));
        for other in
            ["", "short", "../../names.nsf/aaaaaaaaaaaaaaaaaaaa", &format!("{TOKEN}?x"), &"a".repeat(300)]
        {
            assert_eq!(http_token(target(other).as_bytes()), None, "{other}");
        }
        assert_eq!(http_token(b"/names.nsf"), None);
    }
}
