//! A real browser that is driven by a test: Chromium without a window, through its driver (W3C WebDriver).

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::install::need;
use crate::within::eventually;

/// How long a page may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// The key under which an element is named (WebDriver, section 12).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser. It ends when this is dropped.
pub struct Browser {
    driver: Child,
    port: u16,
    session: String,
}

impl Browser {
    /// Starts one with an empty profile.
    #[must_use]
    pub fn start() -> Self {
        need(&[("chromium", "chromium"), ("chromedriver", "chromium-driver")]);
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the driver starts");
        let lines = BufReader::new(driver.stdout.take().expect("it is piped")).lines();
        let started = "started successfully on port ";
        let port = lines
            .map_while(Result::ok)
            .find_map(|line| line.split_once(started)?.1.trim_end_matches('.').parse().ok())
            .expect("the driver names its port");
        let mut browser = Self { driver, port, session: String::new() };
        // Root has no sandbox; the only pages are a test's own.
        let options = json!({ "args": ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage"] });
        let wanted = json!({ "capabilities": { "alwaysMatch": { "goog:chromeOptions": options } } });
        let session = browser.call("POST", "/session", &wanted).expect("the browser starts");
        browser.session = session["sessionId"].as_str().expect("the session has an id").to_owned();
        browser
    }

    /// Opens a page.
    pub fn open(&self, url: &str) {
        self.of_session("POST", "/url", &json!({ "url": url })).expect("the page opens");
    }

    /// Types into the element that a CSS selector names, once it is there.
    pub fn fill(&self, selector: &str, text: &str) {
        self.act(selector, "value", &json!({ "text": text }));
    }

    /// Clicks on the element that a CSS selector names, once it is there.
    pub fn click(&self, selector: &str) {
        self.act(selector, "click", &json!({}));
    }

    /// Repeats it as long as the element is not there, or belongs to the page before.
    fn act(&self, selector: &str, what: &str, body: &Value) {
        let wanted = json!({ "using": "css selector", "value": selector });
        eventually(selector, PATIENCE, || {
            let Ok(element) = self.of_session("POST", "/element", &wanted) else { return false };
            let Some(element) = element[ELEMENT].as_str() else { return false };
            self.of_session("POST", &format!("/element/{element}/{what}"), body).is_ok()
        });
    }

    fn of_session(&self, method: &str, path: &str, body: &Value) -> Result<Value, Value> {
        self.call(method, &format!("/session/{}{path}", self.session), body)
    }

    /// Sends a command; an error is what the driver says.
    fn call(&self, method: &str, path: &str, body: &Value) -> Result<Value, Value> {
        let mut connection = TcpStream::connect(("127.0.0.1", self.port)).expect("the driver listens");
        connection.set_read_timeout(Some(PATIENCE)).expect("a limit can be set");
        let body = body.to_string();
        let length = body.len();
        write!(
            connection,
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .expect("the driver reads");
        let mut reply = BufReader::new(connection);
        let (mut line, mut status, mut length) = (String::new(), String::new(), 0);
        while reply.read_line(&mut line).expect("the driver replies") > 2 {
            if status.is_empty() {
                status.clone_from(&line);
            }
            let lower = line.to_ascii_lowercase();
            if let Some(text) = lower.strip_prefix("content-length:") {
                length = text.trim().parse().expect("a length");
            }
            line.clear();
        }
        let mut body = vec![0; length];
        reply.read_exact(&mut body).expect("the driver replies");
        let mut value: Value = serde_json::from_slice(&body).expect("the driver replies in JSON");
        let value = value["value"].take();
        if status.contains(" 200 ") { Ok(value) } else { Err(value) }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.of_session("DELETE", "", &json!({}));
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
