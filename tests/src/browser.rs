//! A real browser, driven over the W3C WebDriver protocol (which is JSON over HTTP) by chromedriver.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::wait_until;

/// What the protocol calls an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A window of a headless Chromium; closed on drop.
#[derive(Debug)]
pub struct Browser {
    driver: Child,
    session: String,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Opens an empty window.
    ///
    /// # Panics
    /// If it cannot be opened; the message says what to install.
    #[must_use]
    pub fn open(width: u32, height: u32) -> Browser {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("chromedriver is missing: run deploy/setup.sh --for test (Debian: package chromium-driver)");
        let mut lines = BufReader::new(driver.stdout.take().expect("stdout is piped")).lines();
        let port: u16 = lines
            .find_map(|line| {
                let line = line.expect("chromedriver's output is text");
                let (_, port) = line.split_once("successfully on port ")?;
                port.trim_end_matches('.').parse().ok()
            })
            .expect("chromedriver says on which port it listens");
        let profile = tempfile::tempdir().expect("a temporary directory");
        let arguments = [
            "--headless".to_owned(),
            // Tests run as root in containers, where Chromium's sandbox cannot be had; the pages are our own.
            "--no-sandbox".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--disable-background-networking".to_owned(),
            "--hide-scrollbars".to_owned(),
            format!("--window-size={width},{height}"),
            format!("--user-data-dir={}", profile.path().display()),
        ];
        let wish =
            json!({"capabilities": {"alwaysMatch": {"goog:chromeOptions": {"args": arguments}}}});
        let server = format!("http://127.0.0.1:{port}/session");
        let opened = call(&server, Some(&wish));
        let id = opened["sessionId"].as_str().unwrap_or_else(|| panic!("no browser: {opened}"));
        Browser { driver, session: format!("{server}/{id}"), _profile: profile }
    }

    /// Goes to a page and waits until it is loaded.
    ///
    /// # Panics
    /// If it cannot be loaded.
    pub fn go(&self, url: &str) {
        self.post("url", &json!({ "url": url }));
    }

    /// The address of the page.
    #[must_use]
    pub fn url(&self) -> String {
        text(&self.get("url"))
    }

    /// The title of the page.
    #[must_use]
    pub fn title(&self) -> String {
        text(&self.get("title"))
    }

    /// The visible text of every element that a CSS selector matches.
    #[must_use]
    pub fn texts(&self, css: &str) -> Vec<String> {
        let script = "return [...document.querySelectorAll(arguments[0])].map(e => e.innerText)";
        let found = self.script(script, &json!([css]));
        found.as_array().expect("a list").iter().map(text).collect()
    }

    /// Runs a script in the page and returns its value.
    #[must_use]
    pub fn script(&self, script: &str, arguments: &Value) -> Value {
        self.post("execute/sync", &json!({ "script": script, "args": arguments }))
    }

    /// Replaces what stands in a field.
    ///
    /// # Panics
    /// If there is none, or not just one.
    pub fn fill(&self, css: &str, value: &str) {
        let element = self.element(css);
        self.post(&format!("element/{element}/clear"), &json!({}));
        self.post(&format!("element/{element}/value"), &json!({ "text": value }));
    }

    /// Clicks what leads to another page, and waits until that is loaded.
    ///
    /// # Panics
    /// If there is nothing to click, or no other page comes.
    pub fn follow(&self, css: &str) {
        let element = self.element(css);
        // A new page does not know what was noted on the old one.
        let _noted = self.script("window.left = true", &json!([]));
        self.post(&format!("element/{element}/click"), &json!({}));
        wait_until("the next page", Duration::from_secs(60), || {
            let script = "return !window.left && document.readyState === 'complete'";
            // Between two pages there is nothing to ask.
            let answer = try_call(
                &format!("{}/execute/sync", self.session),
                Some(&json!({ "script": script, "args": [] })),
            );
            (answer.ok()? == true).then_some(())
        });
    }

    /// The window as a PNG, in base 64.
    #[must_use]
    pub fn screenshot(&self) -> String {
        text(&self.get("screenshot"))
    }

    fn element(&self, css: &str) -> String {
        let found = self.post("element", &json!({ "using": "css selector", "value": css }));
        text(&found[ELEMENT])
    }

    fn get(&self, what: &str) -> Value {
        call(&format!("{}/{what}", self.session), None)
    }

    fn post(&self, what: &str, body: &Value) -> Value {
        call(&format!("{}/{what}", self.session), Some(body))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Closing the session ends the browser; a panic here would hide the test's own.
        drop(ureq::delete(&self.session).call());
        if let Err(error) = self.driver.kill().and_then(|()| self.driver.wait()) {
            eprintln!("a chromedriver was not stopped: {error}");
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("text, not {value}")).to_owned()
}

fn call(url: &str, body: Option<&Value>) -> Value {
    try_call(url, body).unwrap_or_else(|error| panic!("{url}: {error}"))
}

/// The protocol's answer, or its error.
fn try_call(url: &str, body: Option<&Value>) -> Result<Value, String> {
    let agent: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let answer = match body {
        Some(body) => agent.post(url).content_type("application/json").send(body.to_string()),
        None => agent.get(url).call(),
    };
    let mut answer = answer.unwrap_or_else(|error| panic!("{url}: {error}"));
    // A screenshot is larger than what is read by default.
    let text = answer.body_mut().with_config().limit(64 << 20).read_to_string().expect("text");
    let mut json: Value = serde_json::from_str(&text).expect("the protocol is JSON");
    if answer.status().is_success() { Ok(json["value"].take()) } else { Err(text) }
}
