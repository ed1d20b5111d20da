//! One order of a certificate for one host: account, order, challenge, certificate (RFC 8555 section 7.4). It knows neither
//! when to order nor what becomes of the certificate.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, ChallengeType, Identifier, NewAccount, NewOrder, Order,
    OrderStatus, RetryPolicy,
};

use super::certificate::AcmeCertificate;
use super::challenges::{ChallengeGuard, Challenges, PendingChallenge};
use super::https::AcmeHttpClient;
use super::storage::AcmeFolder;
use crate::config::settings::{AcmeChallengeType, AcmeSettings, UpstreamTls};
use crate::discovery::domino::fault::single_line;

/// For all requests of one order together.
const ORDER_TIMEOUT: Duration = Duration::from_secs(180);
/// How the ACME server is asked whether it has validated the challenge and issued the certificate.
const POLLING: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(250))
    .backoff(1.5)
    .timeout(Duration::from_secs(80));
/// The pause after the answer that there were too many orders, if it names none, in seconds.
const RATE_LIMIT_PAUSE: u64 = 3_600;

/// A certificate to order.
#[derive(Debug)]
pub struct OrderRequest {
    pub host: String,
    pub acme: Arc<AcmeSettings>,
    pub folder: AcmeFolder,
    pub challenges: Arc<Challenges>,
    /// The first that the ACME server offers is used.
    pub preference: Vec<AcmeChallengeType>,
}

/// What a successful order brings.
#[derive(Debug)]
pub struct IssuedCertificate {
    pub certificate: AcmeCertificate,
    /// `None` if the ACME server still trusted an earlier validation.
    pub challenge: Option<AcmeChallengeType>,
}

/// Why an order failed.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    #[error("{0}")]
    Acme(String),
    #[error("{}: {reason}", .challenge.as_str())]
    Challenge { challenge: AcmeChallengeType, reason: String },
    #[error("the ACME server offers none of the possible challenges, but {0}")]
    NotOffered(String),
    #[error("the ACME server no longer knows the account")]
    NoAccount,
    #[error("the ACME server allows no further order for now: {0}")]
    RateLimited(String),
    #[error("state_dir: {0}")]
    Storage(String),
    #[error("the certificate cannot be used: {0}")]
    Certificate(String),
    #[error("not finished within {ORDER_TIMEOUT:?}")]
    TimedOut,
}

impl From<instant_acme::Error> for OrderError {
    fn from(error: instant_acme::Error) -> Self {
        let kind = match &error {
            instant_acme::Error::Api(problem) => problem.r#type.as_deref().unwrap_or_default(),
            _ => "",
        };
        let text = error.to_string();
        let text = single_line(text.strip_prefix("API error: ").unwrap_or(&text));
        if kind.ends_with(":accountDoesNotExist") {
            Self::NoAccount
        } else if kind.ends_with(":rateLimited") {
            Self::RateLimited(text)
        } else {
            Self::Acme(text)
        }
    }
}

/// A failed order, and the pause that the ACME server asked for, in seconds.
#[derive(Debug)]
pub struct OrderFailure {
    pub error: OrderError,
    pub pause: Option<u64>,
}

/// Orders a certificate for one host.
///
/// # Errors
/// When the ACME server refuses it, cannot validate the challenge, or does not answer.
pub async fn order(request: &OrderRequest) -> Result<IssuedCertificate, OrderFailure> {
    let retry_after = Arc::new(AtomicU64::new(0));
    let work = async {
        match run(request, &retry_after, false).await {
            // It was reset, or the account was deactivated there.
            Err(OrderError::NoAccount) => run(request, &retry_after, true).await,
            result => result,
        }
    };
    let result = tokio::time::timeout(ORDER_TIMEOUT, work).await.unwrap_or(Err(OrderError::TimedOut));
    result.map_err(|error| {
        let least = if matches!(error, OrderError::RateLimited(_)) { RATE_LIMIT_PAUSE } else { 0 };
        let pause = Some(retry_after.load(Relaxed).max(least)).filter(|seconds| *seconds > 0);
        OrderFailure { error, pause }
    })
}

async fn run(
    request: &OrderRequest,
    retry_after: &Arc<AtomicU64>,
    new_account: bool,
) -> Result<IssuedCertificate, OrderError> {
    let account = account(request, retry_after, new_account).await?;
    let identifiers = [Identifier::Dns(request.host.clone())];
    let mut order = account.new_order(&NewOrder::new(&identifiers)).await?;
    let (_pending, challenge) = begin_challenges(&mut order, request).await?;
    if !matches!(order.state().status, OrderStatus::Ready | OrderStatus::Valid) {
        let failed = |reason: String| match challenge {
            Some(challenge) => OrderError::Challenge { challenge, reason },
            None => OrderError::Acme(reason),
        };
        match order.poll_ready(&POLLING).await {
            Ok(OrderStatus::Ready) => {}
            Ok(status) => {
                let reason = challenge_error(&mut order).await;
                return Err(failed(reason.unwrap_or_else(|| format!("the order is {status:?}"))));
            }
            Err(error) => {
                let error = OrderError::from(error).to_string();
                return Err(failed(challenge_error(&mut order).await.unwrap_or(error)));
            }
        }
    }
    let key = order.finalize().await?;
    let chain = order.poll_certificate(&POLLING).await?;
    let certificate = AcmeCertificate::parse(&request.host, format!("{key}{chain}"));
    Ok(IssuedCertificate { certificate: certificate.map_err(OrderError::Certificate)?, challenge })
}

/// The saved account, or a new one, which is saved before it is used.
async fn account(
    request: &OrderRequest,
    retry_after: &Arc<AtomicU64>,
    new_account: bool,
) -> Result<Account, OrderError> {
    let acme = &request.acme;
    let tls = UpstreamTls { ca_file: acme.ca_file.clone(), ca: acme.ca.clone(), verify: true };
    let builder = || Account::builder_with_http(Box::new(AcmeHttpClient::new(&tls, Arc::clone(retry_after))));
    let (folder, settings) = (request.folder.clone(), Arc::clone(acme));
    let saved = blocking(move || folder.load_account(&settings)).await?;
    if let Some(saved) = saved.filter(|_| !new_account) {
        match serde_json::from_str::<AccountCredentials>(&saved) {
            Ok(credentials) => return Ok(builder().from_credentials(credentials).await?),
            Err(error) => log::warn!(
                target: "icm::acme",
                "the saved account for {} is damaged (column {}): making another one", acme.directory, error.column()
            ),
        }
    }
    let contact = format!("mailto:{}", acme.email);
    let new = NewAccount {
        contact: &[contact.as_str()],
        terms_of_service_agreed: true,
        only_return_existing: false,
    };
    let (account, credentials) = builder().create(&new, acme.directory.clone(), None).await?;
    let text = serde_json::to_string(&credentials).map_err(|e| OrderError::Storage(e.to_string()))?;
    let (folder, settings) = (request.folder.clone(), Arc::clone(acme));
    blocking(move || folder.save_account(&settings, &text).map_err(|e| e.to_string())).await?;
    Ok(account)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, OrderError> {
    let result = tokio::task::spawn_blocking(work).await.map_err(|e| OrderError::Storage(e.to_string()))?;
    result.map_err(OrderError::Storage)
}

/// Publishes the challenge of each authorization that is not valid yet, and says so to the ACME server.
async fn begin_challenges(
    order: &mut Order,
    request: &OrderRequest,
) -> Result<(Vec<ChallengeGuard>, Option<AcmeChallengeType>), OrderError> {
    let (mut pending, mut used) = (Vec::new(), None);
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        match authorization.status {
            AuthorizationStatus::Pending => {}
            AuthorizationStatus::Valid => continue,
            other => return Err(OrderError::Acme(format!("the authorization is {other:?}"))),
        }
        let offers = |wanted: &AcmeChallengeType| {
            authorization.challenges.iter().any(|offered| offered.r#type == acme_type(*wanted))
        };
        let Some(kind) = request.preference.iter().copied().find(offers) else {
            let offered: Vec<String> =
                authorization.challenges.iter().map(|c| format!("{:?}", c.r#type)).collect();
            return Err(OrderError::NotOffered(single_line(&offered.join(", "))));
        };
        let failed = |reason: String| OrderError::Challenge { challenge: kind, reason };
        let mut challenge = authorization
            .challenge(acme_type(kind))
            .ok_or_else(|| OrderError::NotOffered("it is gone".to_owned()))?;
        let answer = PendingChallenge {
            host: request.host.clone(),
            kind: kind.as_str().to_owned(),
            token: challenge.token.clone(),
            key_authorization: challenge.key_authorization().as_str().to_owned(),
        };
        pending.push(request.challenges.begin(answer).map_err(failed)?);
        used = Some(kind);
        challenge.set_ready().await.map_err(|error| match OrderError::from(error) {
            OrderError::Acme(reason) => failed(reason),
            other => other,
        })?;
    }
    Ok((pending, used))
}

/// Why the ACME server could not validate a challenge.
async fn challenge_error(order: &mut Order) -> Option<String> {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let state = authorization.refresh().await.ok()?;
        if let Some(problem) = state.challenges.iter().find_map(|challenge| challenge.error.as_ref()) {
            let text = problem.to_string();
            return Some(single_line(text.strip_prefix("API error: ").unwrap_or(&text)));
        }
    }
    None
}

fn acme_type(challenge: AcmeChallengeType) -> ChallengeType {
    match challenge {
        AcmeChallengeType::Http01 => ChallengeType::Http01,
        AcmeChallengeType::TlsAlpn01 => ChallengeType::TlsAlpn01,
    }
}
