//! Logins and sessions of users, and the limit on guessed tokens.

use super::{Acme, Answer, Browser};

impl Answer {
    /// A page that Domino shows to a user who is logged in.
    pub fn is_logged_in(&self) -> bool {
        self.status == 200 && !self.text().contains("Server Login")
    }
}

impl Browser {
    /// Opens a page, fills in the login form that it shows, and follows the redirect back. Returns the server.
    pub fn log_in_for(&mut self, url: &str) -> String {
        let form = self.get(url);
        assert!(form.text().contains("Server Login"), "{}", form.text());
        let answer = self.log_in(url);
        assert_eq!((answer.status, answer.header("location")), (302, Some(url)), "{}", answer.text());
        assert_eq!(answer.server(), form.server(), "the form goes to the server that showed it");
        let page = self.get(url);
        assert!(page.is_logged_in(), "{}", page.text());
        assert_eq!(page.server(), form.server());
        page.server().to_owned()
    }

    /// Names of the session cookies.
    pub fn sessions(&self) -> std::collections::BTreeSet<&str> {
        self.cookies.keys().filter(|n| n.to_lowercase().contains("sess")).map(String::as_str).collect()
    }
}

impl Acme {
    /// The value of the one Cookie header with which this target was last requested from a server; empty without a cookie.
    pub fn cookies_at(&self, server: &str, target: &str) -> String {
        let all = self.requests(server);
        let request = all.iter().rev().find(|r| r["target"] == target);
        let request = request.unwrap_or_else(|| panic!("{server} got no request for {target}"));
        let is_cookie = |h: &&serde_json::Value| h[0].as_str().unwrap().eq_ignore_ascii_case("cookie");
        let lines: Vec<_> = request["headers"].as_array().unwrap().iter().filter(is_cookie).collect();
        assert!(lines.len() <= 1, "{lines:?}");
        lines.first().map(|h| h[1].as_str().unwrap().to_owned()).unwrap_or_default()
    }
}

/// Runs 40 attempts with wrong tokens at once, which return their statuses: at least 20 must get 401, and the rest 429.
pub fn assert_guesses_are_limited(guess: impl Fn(usize) -> u16 + Sync) {
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let guess = &guess;
        let attempts: Vec<_> = (0..40).map(|n| scope.spawn(move || guess(n))).collect();
        attempts.into_iter().map(|attempt| attempt.join().unwrap()).collect()
    });
    let count = |status: u16| statuses.iter().filter(|s| **s == status).count();
    assert!(count(401) >= 20 && count(429) > 0 && count(401) + count(429) == 40, "{statuses:?}");
}
