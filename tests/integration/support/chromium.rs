//! A real browser: headless Chromium, driven by chromedriver in plain WebDriver
//! (<https://www.w3.org/TR/webdriver2/>). Each value is a separate browser with an empty profile, which ends with it.
//!
//! The browser sends nothing to other machines: only the mapped host names resolve.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::client::Client;
use super::{eventually, status::MAX_WAIT};

/// The key under which WebDriver names an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

pub struct Chromium {
    driver: Child,
    browser: Option<i32>,
    client: Client,
    session: String,
    profile: tempfile::TempDir,
}

impl Chromium {
    /// Starts a browser for which these names resolve to these addresses (`("www.acme.example", "127.0.0.1:1234")`;
    /// the port of the URL is then ignored). Certificates are not verified. Without Chromium it writes a message to
    /// standard error and returns `None`, and the test is skipped.
    pub fn start(hosts: &[(&str, std::net::SocketAddr)]) -> Option<Chromium> {
        for program in ["chromium", "chromedriver"] {
            if !is_installed(program) {
                // The test harness captures eprintln!.
                let why =
                    format!("SKIPPED: {program} is not installed (packages chromium, chromium-driver)\n");
                let _ = std::io::stderr().write_all(why.as_bytes());
                return None;
            }
        }
        // chromedriver exits at once if the IPv6 port of the same number as its IPv4 port is taken.
        let (driver, port) = (0..5).find_map(|_| driver()).expect("chromedriver prints its port");
        let mut chromium = Chromium {
            driver,
            browser: None,
            client: Client::to(([127, 0, 0, 1], port).into()).timeout(Duration::from_secs(120)),
            session: String::new(),
            profile: tempfile::tempdir().unwrap(),
        };
        // The first matching rule wins.
        let mut rules: Vec<String> = hosts.iter().map(|(name, at)| format!("MAP {name} {at}")).collect();
        rules.push("MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost".to_owned());
        let mut arguments: Vec<String> = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--ignore-certificate-errors",
        ]
        .map(str::to_owned)
        .to_vec();
        arguments.push(format!("--user-data-dir={}", chromium.profile.path().display()));
        arguments.push(format!("--host-resolver-rules={}", rules.join(", ")));
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "acceptInsecureCerts": true,
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" },
        } } });
        let started = chromium.command("POST", "/session", &wanted);
        chromium.session = started["sessionId"].as_str().unwrap().to_owned();
        let pid = started["capabilities"]["goog:processID"].as_i64();
        chromium.browser = pid.and_then(|pid| i32::try_from(pid).ok());
        Some(chromium)
    }

    /// Opens a URL and waits until it is loaded.
    pub fn goto(&mut self, url: &str) {
        self.post("/url", json!({ "url": url }));
    }

    pub fn reload(&mut self) {
        self.post("/refresh", json!({}));
    }

    pub fn url(&mut self) -> String {
        self.text_of("/url")
    }

    pub fn title(&mut self) -> String {
        self.text_of("/title")
    }

    /// The page as it is now, as HTML.
    pub fn source(&mut self) -> String {
        self.text_of("/source")
    }

    /// The cookies that go with this page: `name`, `value`, `path`, `domain`, `httpOnly`, `secure`, `expiry`.
    pub fn cookies(&mut self) -> Vec<Value> {
        self.get("/cookie").as_array().cloned().unwrap_or_default()
    }

    /// Clicks on the first element of a CSS selector, and waits for the page that it opens.
    pub fn click(&mut self, css: &str) {
        let element = self.element(css);
        self.post(&format!("/element/{element}/click"), json!({}));
    }

    /// Types into the first element of a CSS selector; `\u{E007}` is the Enter key.
    pub fn type_into(&mut self, css: &str, text: &str) {
        let element = self.element(css);
        self.post(&format!("/element/{element}/value"), json!({ "text": text }));
    }

    /// Runs the body of a function in the page and returns its result; a promise is awaited.
    pub fn run(&mut self, script: &str) -> Value {
        self.post("/execute/sync", json!({ "script": script, "args": [] }))
    }

    /// Waits until a script's value is true.
    pub fn wait_until(&mut self, script: &str) {
        let came = eventually(MAX_WAIT, || self.run(script) == Value::Bool(true));
        assert!(came, "never {script}: {}\n{}", self.url(), self.source());
    }

    /// The console's lines since the last call: script errors, refused loads, ...
    pub fn console(&mut self) -> Vec<String> {
        let lines = self.post("/se/log", json!({ "type": "browser" }));
        let line =
            |l: &Value| format!("{}: {}", l["level"].as_str().unwrap(), l["message"].as_str().unwrap());
        lines.as_array().into_iter().flatten().map(line).collect()
    }

    /// The window as PNG.
    pub fn screenshot(&mut self) -> Vec<u8> {
        STANDARD.decode(self.text_of("/screenshot")).unwrap()
    }

    /// Emulates a screen of this size in CSS pixels; a window cannot become as narrow as a phone.
    pub fn screen(&mut self, width: u32, height: u32) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.cdp("Emulation.setDeviceMetricsOverride", size);
    }

    /// Sets the preferred colour scheme, `dark` or `light`.
    pub fn prefer(&mut self, scheme: &str) {
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.cdp("Emulation.setEmulatedMedia", features);
    }

    /// Runs a command of the Chrome DevTools Protocol.
    pub fn cdp(&mut self, command: &str, parameters: Value) -> Value {
        self.post("/goog/cdp/execute", json!({ "cmd": command, "params": parameters }))
    }

    /// What axe-core finds wrong with the page: the rule and the first elements. `None` if it is not there, after a message
    /// on standard error. `conf/tools.sh test` fetches it.
    pub fn accessibility_faults(&mut self) -> Option<Vec<String>> {
        let exe = std::env::current_exe().unwrap();
        let file = exe.ancestors().nth(3).unwrap().join("axe-core/axe.min.js");
        let Ok(axe) = std::fs::read_to_string(&file) else {
            let why = format!("SKIPPED: {} is missing, `conf/tools.sh test` fetches it\n", file.display());
            let _ = std::io::stderr().write_all(why.as_bytes());
            return None;
        };
        self.run(&axe);
        let faults = self.run(
            "return axe.run(document, {resultTypes: ['violations']}).then((result) => result.violations.map((v) =>
                `${v.id}: ${v.help}: ${v.nodes.slice(0, 3).map((n) => `${n.html} (${n.failureSummary})`).join('; ')}`))",
        );
        let text = |fault: &Value| fault.as_str().unwrap().to_owned();
        Some(faults.as_array().unwrap().iter().map(text).collect())
    }

    /// Opens a tab and switches to it. Returns its handle.
    pub fn new_tab(&mut self) -> String {
        let tab = self.post("/window/new", json!({ "type": "tab" }));
        let handle = tab["handle"].as_str().unwrap().to_owned();
        self.switch_to(&handle);
        handle
    }

    /// The handle of the current tab.
    pub fn tab(&mut self) -> String {
        self.text_of("/window")
    }

    pub fn switch_to(&mut self, handle: &str) {
        self.post("/window", json!({ "handle": handle }));
    }

    fn element(&mut self, css: &str) -> String {
        let found = self.post("/element", json!({ "using": "css selector", "value": css }));
        found[ELEMENT].as_str().unwrap().to_owned()
    }

    fn text_of(&mut self, what: &str) -> String {
        self.get(what).as_str().unwrap_or_default().to_owned()
    }

    fn get(&mut self, what: &str) -> Value {
        let target = format!("/session/{}{what}", self.session);
        self.command("GET", &target, &Value::Null)
    }

    fn post(&mut self, what: &str, body: Value) -> Value {
        let target = format!("/session/{}{what}", self.session);
        self.command("POST", &target, &body)
    }

    /// Sends a command and returns its `value`; an error fails the test.
    fn command(&mut self, method: &str, target: &str, body: &Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let headers = [("Content-Type", "application/json")];
        let answer = self.client.request(method, target, &headers, body.as_bytes());
        let answer = answer.unwrap_or_else(|e| panic!("chromedriver: {method} {target}: {e:?}"));
        assert_eq!(answer.status, 200, "chromedriver: {method} {target} {body}: {}", answer.text());
        answer.json()["value"].clone()
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            let target = format!("/session/{}", self.session);
            self.client.timeout = MAX_WAIT;
            let _ = self.client.request("DELETE", &target, &[], b"");
        }
        // chromedriver waits until the browser has exited. Kill both, in case one hangs.
        let kill = |pid: i32| {
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        };
        if let Some(pid) = self.browser {
            kill(pid);
        }
        if let Ok(group) = i32::try_from(self.driver.id()) {
            kill(-group);
        }
        let _ = self.driver.wait();
    }
}

/// Whether a program is on the PATH.
fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// Starts chromedriver and returns its port; `None` if it exits before it listens.
fn driver() -> Option<(Child, u16)> {
    let mut driver = Command::new("chromedriver")
        .args(["--port=0", "--log-level=WARNING"])
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let port = port_of(driver.stdout.take().unwrap());
    if port.is_none() {
        let _ = driver.kill();
        let _ = driver.wait();
    }
    Some((driver, port?))
}

/// Reads the port from chromedriver's output.
fn port_of(output: impl Read + Send + 'static) -> Option<u16> {
    let (sender, receiver) = std::sync::mpsc::channel();
    // Reads to the end, so that chromedriver never blocks on a full pipe.
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if let Some((_, port)) = line.split_once("successfully on port ") {
                let _ = sender.send(port.trim_end_matches('.').parse().unwrap());
            }
        }
    });
    receiver.recv_timeout(MAX_WAIT).ok()
}
