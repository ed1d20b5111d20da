//! A client that keeps cookies. It ignores their domains and paths, because each test has one site.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::answer::Answer;
use super::client::Client;
use super::eventually;
use super::status::MAX_WAIT;

pub struct Browser {
    pub client: Client,
    pub cookies: BTreeMap<String, String>,
}

impl Browser {
    /// A new browser without cookies.
    pub fn new(address: SocketAddr) -> Browser {
        Browser::of(Client::to(address))
    }

    pub fn of(client: Client) -> Browser {
        Browser { client, cookies: BTreeMap::new() }
    }

    /// Copies the cookies of another browser: another tab or connection, possibly to another ICM.
    pub fn with_cookies_of(mut self, other: &Browser) -> Browser {
        self.cookies.clone_from(&other.cookies);
        self
    }

    /// A new browser for which this server serves this URL. Selection among equal servers is random, so it retries.
    pub fn on(address: SocketAddr, target: &str, server: &str) -> Browser {
        let mut found = None;
        let is_served = eventually(MAX_WAIT, || {
            let mut browser = Browser::new(address);
            if browser.server_of(target).starts_with(server) {
                found = Some(browser);
            }
            found.is_some()
        });
        assert!(is_served, "{target} is never served by {server}");
        found.unwrap()
    }

    /// Fills in the login form of a simulated server.
    pub fn log_in(&mut self, redirect_to: &str) -> Answer {
        let to = redirect_to.replace('%', "%25").replace('&', "%26").replace('?', "%3F");
        let form = format!("Username=Jane+Doe&Password=secret&RedirectTo={to}");
        let referer = format!("http://{}{redirect_to}", self.client.host);
        let headers = [("Content-Type", "application/x-www-form-urlencoded"), ("Referer", &referer)];
        self.request("POST", "/names.nsf?Login", &headers, form.as_bytes())
    }

    pub fn icm(&self) -> Option<&str> {
        self.cookies.get("ICM").map(String::as_str)
    }

    pub fn request(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let cookies: Vec<String> = self.cookies.iter().map(|(n, v)| format!("{n}={v}")).collect();
        let cookies = cookies.join("; ");
        let mut all = headers.to_vec();
        if !cookies.is_empty() {
            all.push(("Cookie", &cookies));
        }
        let answer = self
            .client
            .request(method, target, &all, body)
            .unwrap_or_else(|e| panic!("{method} {target}: {e:?}"));
        for cookie in answer.all("set-cookie") {
            let (name, value) = cookie.split(';').next().unwrap().split_once('=').unwrap();
            let attributes = cookie.to_ascii_lowercase();
            if attributes.contains("max-age=0") || attributes.contains("01 jan 1970") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        answer
    }

    pub fn get(&mut self, target: &str) -> Answer {
        self.request("GET", target, &[], b"")
    }

    /// Sends GET with a header.
    pub fn get_with(&mut self, target: &str, header: (&str, &str)) -> Answer {
        self.request("GET", target, &[header], b"")
    }

    /// Sends POST with a form.
    pub fn post(&mut self, target: &str, form: &str) -> Answer {
        self.request(
            "POST",
            target,
            &[("Content-Type", "application/x-www-form-urlencoded")],
            form.as_bytes(),
        )
    }

    /// Sends GET and returns the server; the status must be 200.
    pub fn server_of(&mut self, target: &str) -> String {
        let answer = self.get(target);
        assert_eq!(answer.status, 200, "{target}: {}\n{}", answer.head, answer.text());
        answer.server().to_owned()
    }
}
