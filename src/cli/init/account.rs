//! Logs in with the account of the administrator, to tell a wrong password from missing rights, and to see which kind of
//! session the server gives.

use super::answers::Account;
use super::error::InitError;
use super::target::{AnonymousAccess, InitTarget, LoginKind};
use crate::config::settings::Auth;
use crate::discovery::domino::login::{self, LoginError};
use crate::discovery::domino::login_cookie::LoginCookie;
use crate::discovery::domino::{DominoClient, LoginSessions};

/// How Domino is read from now on.
#[derive(Debug)]
pub(super) struct InitLogin {
    pub(super) auth: Auth,
    /// Of a session login; empty with Basic and for Anonymous.
    pub(super) cookies: Vec<LoginCookie>,
}

/// # Errors
/// When the server refuses the account, or needs one.
pub(super) async fn log_in(
    client: &DominoClient,
    target: &InitTarget,
    account: Option<&Account>,
) -> Result<InitLogin, InitError> {
    let Some(Account { user, password, .. }) = account else {
        return match target.directory {
            AnonymousAccess::Login => Err(InitError::NeedsAccount { url: target.url() }),
            _ => Ok(InitLogin { auth: Auth::None, cookies: Vec::new() }),
        };
    };
    let (user, password) = (user.clone(), password.clone());
    let refused = || InitError::LoginRefused { url: target.url(), user: user.clone() };
    let failed = |error: LoginError| match error {
        LoginError::Fetch(error) => {
            InitError::Unreachable { url: target.url(), fault: error.fault.to_string() }
        }
        _ => refused(),
    };
    let request = target.request("/");
    if target.login == LoginKind::Session {
        let granted = login::log_in(client, &request, &user, &password.0).await.map_err(failed)?;
        return Ok(InitLogin { auth: Auth::Session { user, password }, cookies: granted.cookies });
    }
    if user.contains(':') {
        return Err(InitError::Usage("--user: Basic authentication cannot send a name with `:`".to_owned()));
    }
    let auth = Auth::Basic { user: user.clone(), password };
    // Domino refuses wrong credentials for any URL, also for one that needs none.
    login::fetch_authenticated(client, &request, &auth, &LoginSessions::default()).await.map_err(failed)?;
    Ok(InitLogin { auth, cookies: Vec::new() })
}
